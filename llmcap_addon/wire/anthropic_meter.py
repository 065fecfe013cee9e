"""Reads Anthropic Messages answers: message JSON and event streams → Reading.

Shapes as in the SDK's types `Usage`, `MessageDeltaUsage`, `RawMessageStreamEvent` and, for the beta's `iterations`,
`BetaIterationsUsage`.
"""

from __future__ import annotations

import json
from dataclasses import replace

from llmcap_addon.usage import Reading, Terms, Usage
from llmcap_addon.wire.counts import name, reported_count, reported_part, word
from llmcap_addon.wire.dialect import CountTokens
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.sse import Event, SseMeter
from llmcap_addon.wire.text import JsonObject, mapping, parse_object, strings

TOOL_USE_TOKENS = 32
"""What a tool call's own wrapping costs above its name and input; from above."""
CITATION_TOKENS = 16
"""What one citation's marks cost; the cited text itself is not billed (Anthropic's citations guide)."""

_DISJOINT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")


class UsageLedger:
    """Anthropic's usage as it comes in pieces, kept as the parts that are priced apart.

    `input_tokens` on the wire excludes what the cache read and wrote. A stream's `message_delta` repeats totals, so
    the last number said wins; what it does not repeat (the cache's lifetimes, the terms) stays as `message_start`
    said it. Growth of cache writes since then has no lifetime: it is taken as an hour's when the request asks for an
    hour anywhere, which is from above.
    """

    def __init__(self, models: frozenset[str], long_cache: bool) -> None:
        self.foreign_model = ""
        """A model other than the call's that `iterations` bills, whose price the call was not bound by."""
        self._models = models
        self._long_cache = long_cache
        self._counts = dict.fromkeys(_DISJOINT, 0)
        self._extra = dict.fromkeys(_DISJOINT, 0)
        self._one_hour = 0
        self._five_minutes = 0
        self._thinking = 0
        self._searches = 0

    def take(self, usage: JsonObject) -> None:
        """Take a usage object over what was said before; raises ValueError for what is no count."""
        for key in _DISJOINT:
            self._counts[key] = reported_count(usage, key, self._counts[key])
        split = reported_part(usage, "cache_creation")
        self._one_hour = reported_count(split, "ephemeral_1h_input_tokens", self._one_hour)
        self._five_minutes = reported_count(split, "ephemeral_5m_input_tokens", self._five_minutes)
        details = reported_part(usage, "output_tokens_details")
        self._thinking = reported_count(details, "thinking_tokens", self._thinking)
        tools = reported_part(usage, "server_tool_use")
        self._searches = reported_count(tools, "web_search_requests", self._searches)
        self._take_iterations(usage.get("iterations"))

    def _take_iterations(self, iterations: object) -> None:
        """Sum the passes: those that compacted the conversation are in no top-level number."""
        if not isinstance(iterations, list):
            return
        total = dict.fromkeys(_DISJOINT, 0)
        for item in iterations:
            iteration = mapping(item)
            for key in _DISJOINT:
                total[key] += reported_count(iteration, key, 0)
            model = iteration.get("model")
            if isinstance(model, str) and model not in self._models:
                self.foreign_model = model
        self._extra = total

    def usage(self) -> Usage:
        """Give what was said so far; where numbers contradict each other, the larger."""
        counts = {key: max(self._counts[key], self._extra[key]) for key in _DISJOINT}
        written = max(counts["cache_creation_input_tokens"], self._one_hour + self._five_minutes)
        unsplit = written - self._one_hour - self._five_minutes
        read = counts["cache_read_input_tokens"]
        return Usage(
            input_tokens=counts["input_tokens"] + written + read,
            output_tokens=counts["output_tokens"],
            cache_read_tokens=read,
            cache_write_tokens=written,
            cache_write_1h_tokens=self._one_hour + (unsplit if self._long_cache else 0),
            # A breakdown "for observability"; output_tokens is what is billed (the SDK's OutputTokensDetails).
            reasoning_tokens=min(self._thinking, counts["output_tokens"]),
            web_search_requests=self._searches,
        )


class MessageReader:
    """What both meters share: the reading, and how its parts are taken from a message."""

    def __init__(self, reading: Reading, model: str, long_cache: bool, count: CountTokens) -> None:
        self.reading = reading
        self._model = model
        self._long_cache = long_cache
        self._count = count
        self._ledger = UsageLedger(frozenset({model}), long_cache)
        self._result_tokens = 0
        self._later_input_tokens = 0
        """Input of the passes after server-side tools, until the provider says its totals."""

    def begin(self, message: JsonObject) -> None:
        """Take a message's model, terms and usage; raises ValueError when a count is none."""
        model = name(message, "model")
        if model:
            self.reading.model = model
            self._ledger = UsageLedger(frozenset({model, self._model}), self._long_cache)
        usage = message.get("usage")
        if isinstance(usage, dict):
            self.take_usage(usage)
            self.reading.terms = Terms(
                service_tier=word(usage, "service_tier"),
                speed=word(usage, "speed"),
                geography=word(usage, "inference_geo"),
            )

    def take_usage(self, usage: JsonObject) -> None:
        """Take usage over what was said; numbers that can't be believed also take back a last word."""
        try:
            self._ledger.take(usage)
            self._later_input_tokens = 0
            self.reading.usage = self._ledger.usage()
        except ValueError as error:
            self._distrust(f"the usage is not valid ({error})")
        if self._ledger.foreign_model:
            self._distrust("the usage bills a second model")

    def _distrust(self, why: str) -> None:
        self.reading.final = False
        self.reading.unreadable = self.reading.unreadable or why

    def count(self, text: object) -> None:
        """Count one piece of output; a piece holds at least a token."""
        if isinstance(text, str) and text:
            self.reading.counted_output_tokens += max(1, self._count(text))

    def count_block(self, block: JsonObject) -> None:
        """Count a content block: text, thinking, a tool call; the result of a server-side tool is input."""
        kind = block.get("type")
        if isinstance(kind, str) and kind.endswith("_result"):
            self._count_pass(block)
            return
        if isinstance(kind, str) and kind.endswith("tool_use"):
            self.reading.counted_output_tokens += TOOL_USE_TOKENS
            self.count(block.get("name"))
            self.count(json.dumps(block.get("input"), ensure_ascii=False))
            return
        for key in ("text", "thinking", "content"):
            self.count(block.get(key))

    def _count_pass(self, result: JsonObject) -> None:
        """Count the pass that reads a result: all input so far once more.

        `message_start` says the first pass's input only, and the totals come at the very end, which a client that
        goes away does not see. From above: results may share a pass, and encrypted they are longer than what is read.
        """
        if self.reading.usage is None:
            return
        self._result_tokens += self._count(json.dumps(result.get("content"), ensure_ascii=False))
        said = self._ledger.usage()
        self._later_input_tokens += said.input_tokens + self._result_tokens + self.reading.counted_output_tokens
        self.reading.usage = replace(said, input_tokens=said.input_tokens + self._later_input_tokens)

    def count_delta(self, delta: JsonObject) -> None:
        """Count a delta; a signature is no output of the model."""
        kind = delta.get("type")
        if kind == "signature_delta":
            return
        if kind == "citations_delta":
            self.reading.counted_output_tokens += CITATION_TOKENS
            return
        for text in strings({key: value for key, value in delta.items() if key != "type"}):
            self.count(text)


class MessageStreamMeter(SseMeter):
    """Reads an event stream. Final once a `message_delta` has said its `output_tokens` and a `stop_reason`.

    Before that, `usage` holds the input as `message_start` said it and the output said so far. Later deltas
    overwrite what was final.
    """

    def __init__(self, model: str, long_cache: bool, count: CountTokens) -> None:
        super().__init__()
        self._reader = MessageReader(self.reading, model, long_cache, count)

    def on_event(self, event: Event) -> bool:
        """Read one event by the type its data names."""
        value = parse_object(event.data)
        kind = value.get("type", event.name)
        if kind == "message_start":
            self._reader.begin(mapping(value.get("message")))
        elif kind == "message_delta":
            self._on_message_delta(value)
        elif kind == "content_block_start":
            self._reader.count_block(mapping(value.get("content_block")))
        elif kind == "content_block_delta":
            self._reader.count_delta(mapping(value.get("delta")))
        elif kind == "error" or event.name == "error":
            self.reading.failed = True
        return True

    def on_half_event(self, event: Event) -> None:
        """Count a broken last event as if all of it were output."""
        self._reader.count(event.data.decode("utf-8", "replace"))

    def _on_message_delta(self, value: JsonObject) -> None:
        usage = value.get("usage")
        if not isinstance(usage, dict):
            return
        self._reader.take_usage(usage)
        stopped = mapping(value.get("delta")).get("stop_reason") is not None
        if stopped and usage.get("output_tokens") is not None and not self.reading.unreadable:
            self.reading.final = True


class MessageBodyMeter(BodyMeter):
    """Reads a whole message; final when it says its usage."""

    def __init__(self, model: str, long_cache: bool, count: CountTokens) -> None:
        super().__init__()
        self._reader = MessageReader(self.reading, model, long_cache, count)

    def on_body(self, body: bytes) -> None:
        """Read the message, or the error that came with a good status."""
        value = parse_object(body)
        if value.get("type") == "error":
            self.reading.failed = True
            return
        content = value.get("content")
        for block in content if isinstance(content, list) else ():
            self._reader.count_block(mapping(block))
        self._reader.begin(value)
        usage = mapping(value.get("usage"))
        said = usage.get("input_tokens") is not None and usage.get("output_tokens") is not None
        self.reading.final = said and not self.reading.unreadable
