"""Reads Google generateContent answers: one object, an event stream, or a streamed array → Reading.

Shapes as in the SDK's `GenerateContentResponse`; what its usage means is `google_usage`'s.
"""

from __future__ import annotations

import json
import re

from llmcap_addon.call import Call
from llmcap_addon.usage import Reading, Terms
from llmcap_addon.wire.counts import json_object, name, word
from llmcap_addon.wire.dialect import CountTokens
from llmcap_addon.wire.google_usage import Grounding, UsageMaxima
from llmcap_addon.wire.jsonarray import ArraySplitter
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.sse import Event, SseMeter
from llmcap_addon.wire.text import JsonObject, mapping, parse_object

IMAGE_TOKENS = 2_520
"""Output tokens of the largest generated image (4K); used only until the stream says its usage."""
MEDIA_BYTES_PER_TOKEN = 1_000
"""Generated audio is 25 tokens a second of 48,000 bytes (24 kHz, 16 bits); half of that, to count from above."""
_HAS_DATA = re.compile(rb"data: *\S")


class ResponseReader:
    """What the three meters share: takes whole `GenerateContentResponse` objects in order.

    Final once every candidate has a finish reason (or the prompt was blocked) and usage was said with or after the
    last output. Gemini's streams sometimes end without a finish reason; then the usage is the last word if it speaks
    of the output at all, which early chunks do not.
    """

    def __init__(self, reading: Reading, call: Call, count: CountTokens) -> None:
        self.reading = reading
        self._model = call.model
        self._choices = call.choices
        self._count = count
        self._maxima = UsageMaxima(call)
        self._grounding = Grounding(call)
        self._finished: set[object] = set()
        self._blocked = False
        self._pending = False
        """True while there is output that no usage has been said with or after."""

    def take(self, data: bytes) -> None:
        """Read one response, or the error in its place; raises ValueError when it is neither."""
        value = parse_object(data)
        if "error" in value:
            self.reading.failed = True
            return
        model = name(value, "modelVersion")
        if model:
            self.reading.model = model.removeprefix("models/")
        if mapping(value.get("promptFeedback")).get("blockReason"):
            self._blocked = True
        candidates = value.get("candidates")
        for candidate in candidates if isinstance(candidates, list) else ():
            self._take_candidate(mapping(candidate))
        self._take_usage(value.get("usageMetadata"))
        self.reading.final = self._said() and (self._blocked or len(self._finished) >= self._choices)

    def take_whole(self, data: bytes) -> None:
        """Read the one response of an unstreamed answer, whose usage is the last word."""
        self.take(data)
        self.reading.final = self._said() and not self.reading.failed and self._speaks_of_output()

    def end(self) -> None:
        """Say that a stream ended cleanly, between responses."""
        if self._said() and not self.reading.failed:
            self.reading.final = self.reading.final or self._speaks_of_output()

    def break_off(self, rest: bytes) -> None:
        """Say that the body ended inside a response; what came of it is counted as if all of it were output."""
        if not self.reading.final:
            self._pending = True
            self._count_text(rest.decode("utf-8", "replace").strip())

    def _said(self) -> bool:
        return self.reading.usage is not None and not self._pending and not self.reading.unreadable

    def _speaks_of_output(self) -> bool:
        """Tell whether the usage says anything of the output that was seen: zeros are left out, so silence may be 0."""
        usage = self.reading.usage
        if usage is None:
            return False
        return usage.output_tokens > usage.reasoning_tokens or not self.reading.counted_output_tokens

    def _count_text(self, text: str) -> None:
        """Count one piece of output; a piece holds at least a token."""
        if text:
            self.reading.counted_output_tokens += max(1, self._count(text))

    def _take_candidate(self, candidate: JsonObject) -> None:
        parts = mapping(candidate.get("content")).get("parts")
        for part in parts if isinstance(parts, list) else ():
            self._pending = True
            self._count_part(mapping(part))
        if candidate.get("finishReason") and len(self._finished) < self._choices:
            index = candidate.get("index")
            self._finished.add(index if isinstance(index, int) else 0)
        self._grounding.take(mapping(candidate.get("groundingMetadata")))

    def _count_part(self, part: JsonObject) -> None:
        """Count text, shown thoughts, calls and code; a thought's signature is no output of the model."""
        blob = mapping(part.get("inlineData"))
        data = blob.get("data")
        if isinstance(data, str):
            image = str(blob.get("mimeType")).startswith("image/")
            size_tokens = len(data) * 3 // 4 // MEDIA_BYTES_PER_TOKEN
            self.reading.counted_output_tokens += IMAGE_TOKENS if image else max(1, size_tokens)
        text = part.get("text")
        if isinstance(text, str):
            self._count_text(text)
        for key in ("functionCall", "executableCode"):
            if key in part:
                self._count_text(json.dumps(part[key], ensure_ascii=False))

    def _take_usage(self, metadata: object) -> None:
        if metadata is not None:
            try:
                said = json_object(metadata, "usageMetadata")
                self._maxima.take(said)
            except ValueError as error:
                self.reading.unreadable = self.reading.unreadable or f"the usage is not valid ({error})"
                return
            self._pending = False
            tier = word(said, "trafficType") or word(said, "serviceTier")
            if tier:
                self.reading.terms = Terms(service_tier=tier)
        if metadata is not None or self.reading.usage is not None:
            usage = self._grounding.counts(self.reading.model or self._model).added_to(self._maxima.usage())
            if metadata is not None and usage.output_tokens:
                self.reading.counted_at_usage = self.reading.counted_output_tokens
            self.reading.usage = usage


class ResponseStreamMeter(SseMeter):
    """Reads `alt=sse`: each event's data is one response."""

    def __init__(self, call: Call, tier: str, count: CountTokens) -> None:
        super().__init__()
        self.reading.terms = Terms(service_tier=tier)
        self._reader = ResponseReader(self.reading, call, count)

    def on_event(self, event: Event) -> bool:
        """Read one event."""
        self._reader.take(event.data)
        return True

    def on_half_event(self, event: Event) -> None:
        """Count a broken last event, whose own usage is lost."""
        self._reader.break_off(event.data)

    def end(self) -> bytes:
        """Take the usage so far for the last word, unless the stream broke off inside an event."""
        unfinished = self._splitter.rest.strip()
        rest = super().end()
        if unfinished and not _HAS_DATA.search(unfinished):
            self._reader.break_off(b"")
        self._reader.end()
        return rest


class ResponseArrayMeter:
    """Reads a streamed JSON array, and passes on whole elements only, so that a cut never follows half of one."""

    def __init__(self, call: Call, tier: str, count: CountTokens) -> None:
        self.reading = Reading(terms=Terms(service_tier=tier))
        self._reader = ResponseReader(self.reading, call, count)
        self._splitter = ArraySplitter()

    @property
    def begun(self) -> bool:
        """True once the client holds an element."""
        return self._splitter.begun

    @property
    def closed(self) -> bool:
        """True once the client holds the closing bracket."""
        return self._splitter.closed

    def feed(self, data: bytes) -> bytes:
        """Read the elements these bytes complete, and give them with what separates them."""
        passed, elements = self._splitter.feed(data)
        for element in elements:
            self._read(element)
        if self._splitter.fault:
            self._mark_unreadable(self._splitter.fault)
        return passed

    def end(self) -> bytes:
        """Count what of an element came, and give what was kept back."""
        readable = not self._splitter.fault
        rest = self._splitter.end()
        if readable and self._splitter.fault:
            self._reader.break_off(rest)
        self._reader.end()
        return rest

    def _read(self, element: bytes) -> None:
        try:
            self._reader.take(element)
        except (ValueError, RecursionError):
            self._mark_unreadable("an element of the streamed array is not valid")

    def _mark_unreadable(self, why: str) -> None:
        if not self.reading.final and not self.reading.unreadable:
            self.reading.unreadable = why


class ResponseBodyMeter(BodyMeter):
    """Reads a whole response."""

    def __init__(self, call: Call, tier: str, count: CountTokens) -> None:
        super().__init__()
        self.reading.terms = Terms(service_tier=tier)
        self._reader = ResponseReader(self.reading, call, count)

    def on_body(self, body: bytes) -> None:
        """Read the response, or the error that came with a good status."""
        self._reader.take_whole(body)
