"""Reads Google generateContent answers: one object, an event stream, or a streamed array → Reading.

Shapes as in the SDK's `GenerateContentResponse` and `GenerateContentResponseUsageMetadata`. Every chunk may repeat the
counts so far, with zeros left out, so the largest of each counts.
"""

from __future__ import annotations

import json
import re
from collections import Counter

from llmcap_addon.usage import Reading, Terms, Usage
from llmcap_addon.wire.counts import json_object, name, reported_count, word
from llmcap_addon.wire.dialect import CountTokens
from llmcap_addon.wire.jsonarray import ArraySplitter
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.sse import Event, SseMeter
from llmcap_addon.wire.text import JsonObject, mapping, parse_object

IMAGE_TOKENS = 2_520
"""Output tokens of the largest generated image (4K); used only until the stream says its usage."""
MEDIA_BYTES_PER_TOKEN = 1_000
"""Generated audio is 25 tokens a second of 48,000 bytes (24 kHz, 16 bits); half of that, to count from above."""
MAX_QUERIES = 1_000
"""Distinct searches kept to be counted; more in one answer have never been seen, and further ones count each time."""
MAX_QUERY_CHARS = 200
"""The part of a search that tells it from another: a search is a line, but a provider may send anything."""

_COUNTS = (
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "cachedContentTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "totalTokenCount",
)
_DETAILS = ("promptTokensDetails", "toolUsePromptTokensDetails", "cacheTokensDetails", "candidatesTokensDetails")

# Gemini 1 and 2 bill a grounded prompt once, Gemini 3 each distinct query that is not empty.
# https://ai.google.dev/gemini-api/docs/google-search
_BILLS_PROMPTS = re.compile(r"gemini-[12]\b")

_HAS_DATA = re.compile(rb"data: *\S")


class UsageMaxima:
    """The largest of each count that a response's chunks have said."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._details: Counter[tuple[str, str]] = Counter()

    def take(self, metadata: JsonObject) -> None:
        """Take one usageMetadata; raises ValueError for what is no count."""
        for key in _COUNTS:
            self._counts[key] = max(self._counts[key], reported_count(metadata, key))
        for key in _DETAILS:
            for modality, tokens in _by_modality(metadata, key).items():
                self._details[key, modality] = max(self._details[key, modality], tokens)

    def usage(self, searches: int) -> Usage:
        """Give what was said so far; where numbers contradict each other, the dearer reading."""
        prompt, tool_use, cached, candidates, thoughts, total = (self._counts[key] for key in _COUNTS)
        input_tokens = max(prompt, cached) + tool_use
        # The total is documented as the sum of the four. What it has above them belongs to one we don't know, so it
        # is billed at the dearer price, as output.
        output_tokens = max(candidates + thoughts, total - input_tokens)
        audio = self._details["promptTokensDetails", "AUDIO"] + self._details["toolUsePromptTokensDetails", "AUDIO"]
        input_audio = min(audio, input_tokens)
        image = min(self._details["candidatesTokensDetails", "IMAGE"], output_tokens)
        return Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cached,
            reasoning_tokens=thoughts,
            input_audio_tokens=input_audio,
            cache_read_audio_tokens=min(self._details["cacheTokensDetails", "AUDIO"], cached, input_audio),
            output_image_tokens=image,
            output_audio_tokens=min(self._details["candidatesTokensDetails", "AUDIO"], output_tokens - image),
            web_search_requests=searches,
        )


class ResponseReader:
    """What the three meters share: takes whole `GenerateContentResponse` objects in order.

    Final once every candidate has a finish reason (or the prompt was blocked) and usage was said with or after the
    last output. Gemini's streams sometimes end without a finish reason; then the usage is the last word if it speaks
    of the output at all, which early chunks do not.
    """

    def __init__(self, reading: Reading, model: str, choices: int, count: CountTokens) -> None:
        self.reading = reading
        self._model = model
        self._choices = choices
        self._count = count
        self._maxima = UsageMaxima()
        self._finished: set[object] = set()
        self._blocked = False
        self._pending = False
        """True while there is output that no usage has been said with or after."""
        self._queries: set[str] = set()
        self._further_queries = 0
        self._grounded = False

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
        self._take_grounding(mapping(candidate.get("groundingMetadata")))

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

    def _take_grounding(self, grounding: JsonObject) -> None:
        if grounding.get("groundingChunks") or grounding.get("searchEntryPoint"):
            self._grounded = True
        for key in ("webSearchQueries", "imageSearchQueries"):
            queries = grounding.get(key)
            for query in queries if isinstance(queries, list) else ():
                if isinstance(query, str) and query:
                    self._grounded = True
                    if len(self._queries) < MAX_QUERIES:
                        self._queries.add(f"{key} {query[:MAX_QUERY_CHARS]}")
                    else:
                        self._further_queries += 1

    def _searches(self) -> int:
        if _BILLS_PROMPTS.search(self.reading.model or self._model):
            return int(self._grounded)
        return max(len(self._queries) + self._further_queries, int(self._grounded))

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
            usage = self._maxima.usage(self._searches())
            if metadata is not None and usage.output_tokens:
                self.reading.counted_at_usage = self.reading.counted_output_tokens
            self.reading.usage = usage


class ResponseStreamMeter(SseMeter):
    """Reads `alt=sse`: each event's data is one response."""

    def __init__(self, model: str, choices: int, count: CountTokens) -> None:
        super().__init__()
        self._reader = ResponseReader(self.reading, model, choices, count)

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

    def __init__(self, model: str, choices: int, count: CountTokens) -> None:
        self.reading = Reading()
        self._reader = ResponseReader(self.reading, model, choices, count)
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

    def __init__(self, model: str, choices: int, count: CountTokens) -> None:
        super().__init__()
        self._reader = ResponseReader(self.reading, model, choices, count)

    def on_body(self, body: bytes) -> None:
        """Read the response, or the error that came with a good status."""
        self._reader.take_whole(body)


def _by_modality(metadata: JsonObject, key: str) -> Counter[str]:
    """Sum a breakdown by modality; raises ValueError for what is no count."""
    details = metadata.get(key)
    sums: Counter[str] = Counter()
    for item in details if isinstance(details, list) else () if details is None else (details,):
        entry = json_object(item, key)
        sums[name(entry, "modality").upper()] += reported_count(entry, "tokenCount")
    return sums
