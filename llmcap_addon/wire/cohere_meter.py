"""Reading Cohere's answers: chat streamed and whole, embeddings and rankings.

What is billed stands in `billed_units`, apart from the `tokens` that the model saw: the chat template is not billed.
Shapes: the `cohere` SDK's `V2ChatResponse`, `V2ChatStreamResponse`, `Usage`, `EmbedByTypeResponse`, `V2RerankResponse`
and `ApiMeta`, whose numbers are floats.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import CountTokens
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.sse import MAX_EVENT_BYTES, Event, SseMeter, SseSplitter
from llmcap_addon.wire.text import MAX_COUNT, JsonObject, mapping, parse_object, strings

CITATION_TOKENS = 16
"""What one citation's marks cost, from above; its words are the answer's own, and its sources are no output."""
TOOL_CALL_TOKENS = 32
"""What a tool call's own wrapping costs above its name and arguments; from above."""


def chat_usage(raw: object) -> Usage | None:
    """Read a chat's usage; None when it says nothing of both input and output; ValueError when it is not sane.

    Where nothing says what is billed, the tokens are taken: they hold the template too. Cache hits have no price of
    their own in Cohere's list, so they count as plain input.
    """
    usage = mapping(raw)
    units, tokens = mapping(usage.get("billed_units")), mapping(usage.get("tokens"))
    input_tokens, output_tokens = _first(units, tokens, "input_tokens"), _first(units, tokens, "output_tokens")
    if input_tokens is None or output_tokens is None:
        return None
    return Usage(
        input_tokens=input_tokens, output_tokens=output_tokens, search_units=_count(units, "search_units") or 0
    )


def meta_usage(meta: object) -> Usage | None:
    """Read what `meta` says of embeddings or a ranking; None when it says nothing; ValueError when it is not sane.

    `input_tokens` may or may not hold those of the images, which stand beside the text's: the larger is taken. Images
    billed by the piece (Embed v3) have no count here, so they are not understood.
    """
    units = mapping(mapping(meta).get("billed_units"))
    found = {key: _count(units, key) for key in ("input_tokens", "text_tokens", "image_tokens", "search_units")}
    if all(value is None for value in found.values()):
        return None
    image_tokens = found["image_tokens"] or 0
    if _count(units, "images") and not image_tokens:
        raise ValueError("the answer bills images by the piece")
    text_tokens = found["text_tokens"]
    if text_tokens is None:
        total = (found["input_tokens"] or 0) + image_tokens
    else:
        total = max(found["input_tokens"] or 0, text_tokens + image_tokens)
    return Usage(input_tokens=total, input_image_tokens=image_tokens, search_units=found["search_units"] or 0)


def _first(units: Mapping[str, object], tokens: Mapping[str, object], key: str) -> int | None:
    billed = _count(units, key)
    return billed if billed is not None else _count(tokens, key)


def _count(raw: Mapping[str, object], key: str) -> int | None:
    """Read a count, which comes as a float; a part of a unit is billed as one."""
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"the usage's {key} is no count")
    return ceil(value)


def _record(reading: Reading, usage: Usage | None) -> bool:
    if usage is None:
        return False
    reading.usage = usage
    reading.final = True
    reading.unreadable = ""
    return True


class _Counter:
    """Counts what the model wrote, each piece from above."""

    def __init__(self, count: CountTokens) -> None:
        self._count = count

    def text(self, text: str) -> int:
        return max(1, self._count(text)) if text else 0

    def message(self, node: object) -> int:
        """Count a message, or the piece of one that an event brings."""
        message = mapping(node)
        found = 0
        for key, value in message.items():
            if key == "citations":
                found += CITATION_TOKENS * (len(value) if isinstance(value, list) else 1)
            elif key == "tool_calls":
                calls = value if isinstance(value, list) else [value]
                found += sum(self._call(call) for call in calls)
            elif key in ("content", "tool_plan"):
                found += sum(self.text(text) for text in _written(value))
        return found

    def _call(self, call: object) -> int:
        wrapping = TOOL_CALL_TOKENS if "name" in mapping(mapping(call).get("function")) else 0
        return wrapping + sum(self.text(text) for text in strings(mapping(call).get("function")))


def _written(content: object) -> list[str]:
    """Give the texts and thinking of a content, without the names of their types."""
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else [content]
    return [text for part in parts for key, value in mapping(part).items() if key != "type" for text in strings(value)]


class ChatStreamMeter(SseMeter):
    """Reads events by their type; the last, `message-end`, holds the usage."""

    def __init__(self, count: CountTokens) -> None:
        super().__init__()
        self._counter = _Counter(count)
        self._understood = False

    def on_event(self, event: Event) -> bool:
        """Read one event."""
        if event.data.strip() == b"[DONE]":
            return True
        payload = parse_object(event.data)
        self._understood = True
        delta = mapping(payload.get("delta"))
        if payload.get("type") == "message-end":
            self._take_end(delta)
        else:
            written = self._counter.message(delta.get("message"))
            self.reading.counted_output_tokens += written
            if written:
                self.reading.final = False  # a usage that came before was not the last word
        return True

    def on_half_event(self, event: Event) -> None:
        """Count an event that broke off as if all of it were output."""
        self._understood = True
        self.reading.counted_output_tokens += self._counter.text(event.data.decode("utf-8", "replace"))

    def on_garbled_event(self, event: Event) -> None:
        """Count an event that is not valid as if all of it were output; the SDK skips it too."""
        self.reading.counted_output_tokens += self._counter.text(event.data.decode("utf-8", "replace"))

    def end(self) -> bytes:
        """Take the end; a body in which nothing was understood is no stream of events."""
        rest = super().end()
        if not self._understood:
            self.mark_unreadable("the stream holds no event of a chat")
        return rest

    def _take_end(self, delta: JsonObject) -> None:
        if delta.get("error") or delta.get("finish_reason") == "ERROR":
            self.reading.failed = True
        try:
            _record(self.reading, chat_usage(delta.get("usage")))
        except ValueError as error:
            self.reading.usage, self.reading.final, self.reading.unreadable = None, False, str(error)


class LineSplitter(SseSplitter):
    """Cuts JSON lines instead of events: a line is one, with its line end."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        super().__init__(max_event_bytes)
        self._kept = bytearray()
        self._most = max_event_bytes

    def feed(self, data: bytes) -> list[Event]:
        """Give the lines that these bytes complete; a longer one than the bound comes as it is, unread."""
        if self.overflowed:
            return [Event(data)]
        self._kept += data
        if b"\n" not in data and len(self._kept) <= self._most:
            return []
        *lines, rest = bytes(self._kept).split(b"\n")
        self._kept = bytearray(rest)
        events = [Event(line + b"\n", "", line.strip()) for line in lines]
        if len(rest) > self._most:
            self.overflowed = True
            events.append(Event(rest))
            self._kept.clear()
        return events

    def end(self) -> Event | None:
        """Give a last line that lacks its end."""
        rest, self._kept = bytes(self._kept), bytearray()
        return Event(rest, "", rest.strip()) if rest else None


class ChatLinesMeter(ChatStreamMeter):
    """Reads the same events as JSON lines, which is how they come to a client that does not take an event stream."""

    def __init__(self, count: CountTokens) -> None:
        super().__init__(count)
        self._splitter = LineSplitter()


class ChatBodyMeter(BodyMeter):
    """Reads a whole chat answer."""

    def __init__(self, count: CountTokens) -> None:
        super().__init__()
        self._counter = _Counter(count)

    def on_body(self, body: bytes) -> None:
        """Read the answer."""
        payload = parse_object(body)
        self.reading.failed = payload.get("finish_reason") == "ERROR"
        self.reading.counted_output_tokens = self._counter.message(payload.get("message"))
        try:
            known = _record(self.reading, chat_usage(payload.get("usage")))
        except ValueError as error:
            self.mark_unreadable(str(error))
            return
        if not known and not isinstance(payload.get("message"), dict):
            self.mark_unreadable("the answer holds neither usage nor a message")


class MetaBodyMeter(BodyMeter):
    """Reads embeddings or a ranking, of which only `meta` says what they cost."""

    def on_body(self, body: bytes) -> None:
        """Read the answer."""
        try:
            known = _record(self.reading, meta_usage(parse_object(body).get("meta")))
        except ValueError as error:
            self.mark_unreadable(str(error))
            return
        if not known:
            self.mark_unreadable("the answer reports no billed units")
