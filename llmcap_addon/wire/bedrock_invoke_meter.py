"""Reads InvokeModel's answers: each maker's own JSON, whole or in the `chunk` events of a binary stream → Reading.

Usage, in the order it is believed: what the maker's own JSON says; AWS's headers `X-Amzn-Bedrock-Input-Token-Count` and
`-Output-Token-Count` on a whole answer; `amazon-bedrock-invocationMetrics` in a stream's last chunk, whose input leaves
out what the cache read and wrote. The headers and metrics are in no service model, only in AWS's examples.
"""

from __future__ import annotations

import base64
import binascii

from llmcap_addon.usage import NO_TERMS, Reading, Terms, Usage
from llmcap_addon.wire.bedrock_converse_meter import token_usage
from llmcap_addon.wire.bedrock_replies import header_count
from llmcap_addon.wire.counts import reported_count
from llmcap_addon.wire.dialect import CountTokens, Meter, ResponseHead
from llmcap_addon.wire.eventstream import Frame, FrameMeter
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.openai_common import output_strings
from llmcap_addon.wire.openai_usage import chat_usage
from llmcap_addon.wire.replies import encode_json
from llmcap_addon.wire.sse import Event, SseMeter
from llmcap_addon.wire.text import JsonObject, mapping, parse_object

METRICS = "amazon-bedrock-invocationMetrics"
INPUT_HEADER = "x-amzn-bedrock-input-token-count"
OUTPUT_HEADER = "x-amzn-bedrock-output-token-count"

_WRITTEN = (
    "choices", "generation", "generations", "outputText", "results", "outputs", "output", "text", "message",
    "completions", "contentBlockDelta", "contentBlockStart",
)  # fmt: skip
"""Members in which makers give what the model wrote."""
_BESIDE = frozenset({"usage", "metadata", METRICS, "embedding", "embeddings", "embeddingsByType"})


class InvokeReader:
    """What both meters share: the reading, and how its parts are taken from a maker's JSON."""

    def __init__(self, reading: Reading, count: CountTokens, applied: Terms) -> None:
        self.reading = reading
        self._count = count
        self._input: int | None = None
        self._output: int | None = None
        self._usage: Usage | None = None
        if applied != NO_TERMS:
            reading.terms = applied

    def take(self, answer: JsonObject) -> bool:
        """Take a whole answer or a chunk; True when it tells all its usage. Raises ValueError for a bad count."""
        named = {key: answer[key] for key in _WRITTEN if key in answer}
        for text in output_strings(named or {key: answer[key] for key in answer if key not in _BESIDE}):
            self.reading.counted_output_tokens += max(1, self._count(text)) if text else 0
            self._usage = None if text else self._usage  # what was told before further output is not its last word
        raw = answer.get("usage") or mapping(answer.get("metadata")).get("usage")
        told = isinstance(raw, dict) and self._take_usage(raw)
        self._input = _told(answer, self._input, "prompt_token_count", "inputTextTokenCount")
        self._output = _told(answer, self._output, "generation_token_count", "totalOutputTextTokenCount")
        results = answer.get("results")
        if isinstance(results, list):
            self._output = sum(reported_count(mapping(result), "tokenCount") for result in results)
        return told

    def settle(self, metrics: JsonObject, *, has_output: bool = True) -> bool:
        """Put together what was said; True when nothing is missing. Raises ValueError for a bad count."""
        usage = self._usage
        if usage is None:
            told = _metrics_usage(metrics)
            given, made = self._input, self._output
            if given is None and made is None:
                usage = told
            elif told is not None:
                usage = Usage(
                    input_tokens=told.input_tokens if given is None else given,
                    output_tokens=told.output_tokens if made is None else made,
                )
            elif given is not None and (made is not None or not has_output):
                usage = Usage(input_tokens=given, output_tokens=made or 0)
        if usage is not None:
            self.reading.usage = usage
        return usage is not None

    def _take_usage(self, raw: JsonObject) -> bool:
        told: Usage | None = None
        if "prompt_tokens" in raw:
            told = chat_usage(raw, "bedrock")
        elif raw.get("inputTokens") is not None and raw.get("outputTokens") is not None:
            told = token_usage(raw, long_cache=False)
        self._usage = told or self._usage
        return told is not None


def _told(answer: JsonObject, before: int | None, *keys: str) -> int | None:
    """Read the first of these counts that is told; what was told before stays when none is."""
    for key in keys:
        if answer.get(key) is not None:
            return reported_count(answer, key)
    return before


def _metrics_usage(metrics: JsonObject) -> Usage | None:
    if metrics.get("inputTokenCount") is None or metrics.get("outputTokenCount") is None:
        return None
    renamed = {
        "inputTokens": metrics["inputTokenCount"],
        "outputTokens": metrics["outputTokenCount"],
        "cacheReadInputTokens": metrics.get("cacheReadInputTokenCount"),
        "cacheWriteInputTokens": metrics.get("cacheWriteInputTokenCount"),
    }
    return token_usage(renamed, long_cache=True)


class InvokeStreamMeter(FrameMeter):
    """Reads a stream of chunks; final where the maker tells its usage, at the latest with AWS's metrics at the end."""

    def __init__(self, count: CountTokens, applied: Terms) -> None:
        super().__init__()
        self._reader = InvokeReader(self.reading, count, applied)

    def on_frame(self, frame: Frame) -> None:
        """Read one event."""
        if frame.kind in ("exception", "error"):
            self.reading.failed = True
            return
        data = chunk_bytes(frame)
        if data is None:
            return
        answer = parse_object(data)
        before = self.reading.counted_output_tokens
        try:
            ends = self._reader.take(answer) or METRICS in answer
            known = self._reader.settle(mapping(answer.get(METRICS)))
        except ValueError as error:
            self.reading.usage = None
            self.mark_unreadable(f"the usage is not valid ({error})")
            return
        if self.reading.counted_output_tokens > before:
            self.reading.final = False  # a usage that came before was not the last word
        if known and ends and not self.reading.unreadable:
            self.reading.final = True


class InvokeBodyMeter(BodyMeter):
    """Reads a whole answer."""

    def __init__(self, count: CountTokens, applied: Terms, head: ResponseHead, *, has_output: bool) -> None:
        super().__init__()
        self._reader = InvokeReader(self.reading, count, applied)
        self._has_output = has_output
        self._metrics: JsonObject = {
            "inputTokenCount": header_count(head.headers.get(INPUT_HEADER)),
            "outputTokenCount": header_count(head.headers.get(OUTPUT_HEADER)),
        }
        if not has_output and self._metrics["outputTokenCount"] is None:
            self._metrics["outputTokenCount"] = 0

    def on_body(self, body: bytes) -> None:
        """Read the answer; the headers tell what it leaves out."""
        answer = parse_object(body)
        try:
            self._reader.take(answer)
            self.reading.final = self._reader.settle(self._metrics, has_output=self._has_output)
        except ValueError as error:
            self.mark_unreadable(f"the usage is not valid ({error})")
            return
        if not self.reading.final:
            self.mark_unreadable("the answer says no usage")


class MessageFrameMeter(FrameMeter):
    """Reads Anthropic's events out of a stream of chunks, by Anthropic's own meter."""

    def __init__(self, inner: SseMeter, applied: Terms) -> None:
        super().__init__(inner.reading)
        self._inner = inner
        self._applied = applied

    def on_frame(self, frame: Frame) -> None:
        """Read one event."""
        if frame.kind in ("exception", "error"):
            self.reading.failed = True
            return
        data = chunk_bytes(frame)
        if data is None:
            return
        answer = parse_object(data)
        self._inner.on_event(Event(b"", "", data))
        metrics = mapping(answer.get(METRICS))
        if metrics or answer.get("type") == "message_stop":
            self._take_last(metrics, mapping(answer.get("usage")))
        apply(self.reading, self._applied)

    def _take_last(self, metrics: JsonObject, usage: JsonObject) -> None:
        """Take what only the last event tells, the cache's parts above all; what Anthropic's usage said stays."""
        said = self.reading.usage
        further = {key: value for key, value in usage.items() if value is not None}
        for ours, theirs, known in (
            ("input_tokens", "inputTokenCount", said is not None and said.input_tokens > 0),
            ("output_tokens", "outputTokenCount", self.reading.final),
            ("cache_read_input_tokens", "cacheReadInputTokenCount", said is not None and said.cache_read_tokens > 0),
            (
                "cache_creation_input_tokens",
                "cacheWriteInputTokenCount",
                said is not None and said.cache_write_tokens > 0,
            ),
        ):
            if not known and metrics.get(theirs) is not None:
                further.setdefault(ours, metrics[theirs])
        if further:
            delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": further}
            self._inner.on_event(Event(b"", "", encode_json(delta)))


class MessageBodyMeter:
    """Anthropic's meter of a whole message, whose model and terms are Bedrock's to say."""

    def __init__(self, inner: Meter, applied: Terms) -> None:
        self.reading = inner.reading
        self._inner = inner
        self._applied = applied

    def feed(self, data: bytes) -> bytes:
        """Pass the bytes on."""
        return self._inner.feed(data)

    def end(self) -> bytes:
        """Read the message."""
        rest = self._inner.end()
        apply(self.reading, self._applied)
        return rest


def message_meter(inner: Meter, applied: Terms) -> Meter:
    """Put Anthropic's own meter behind Bedrock's frames and headers."""
    return MessageFrameMeter(inner, applied) if isinstance(inner, SseMeter) else MessageBodyMeter(inner, applied)


def apply(reading: Reading, applied: Terms) -> None:
    """Let the headers say the terms, and the path the model: the body's bare name is no name of Bedrock's prices."""
    reading.model = ""
    reading.terms = applied


def chunk_bytes(frame: Frame) -> bytes | None:
    """Give a chunk's content (`PayloadPart`); None for another event; raises ValueError when it is not base64."""
    if frame.name != "chunk":
        return None
    data = parse_object(frame.payload).get("bytes")
    if not isinstance(data, str):
        raise ValueError("a chunk has no bytes")  # noqa: TRY004 - one kind of error for all that can be wrong
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise ValueError("a chunk is not base64") from error
