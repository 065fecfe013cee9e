"""Reads Anthropic Messages answers: message JSON and event streams → Reading.

Shapes as in the SDK's types `RawMessageStreamEvent` and `Message`; what their usage means is `anthropic_shares`'.
"""

from __future__ import annotations

import json
from dataclasses import replace

from llmcap_addon.call import Call
from llmcap_addon.usage import Reading, Terms
from llmcap_addon.wire.anthropic_shares import UNBILLED_REFUSALS, UsageLedger
from llmcap_addon.wire.billed import billed_amount
from llmcap_addon.wire.counts import name, word
from llmcap_addon.wire.dialect import CountTokens
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.openrouter import UNTOLD, is_billed_apart
from llmcap_addon.wire.searches import untold_searches
from llmcap_addon.wire.sse import Event, SseMeter
from llmcap_addon.wire.text import JsonObject, mapping, parse_object, strings

TOOL_USE_TOKENS = 32
"""What a tool call's own wrapping costs above its name and input; from above."""
CITATION_TOKENS = 16
"""What one citation's marks cost; the cited text itself is not billed (Anthropic's citations guide)."""

_ADVISOR = ("server_tool_use", "advisor")


class MessageReader:
    """What both meters share: the reading, and how its parts are taken from a message."""

    def __init__(self, reading: Reading, call: Call, long_cache: bool, count: CountTokens) -> None:
        self.reading = reading
        self._call = call
        self._count = count
        self._ledger = UsageLedger(call.model, long_cache)
        self._blocks = 0
        self._untold_searches = untold_searches(call)
        self._others_worked = False
        """True once the answer shows that a further model was called, whose tokens are told at the end only."""
        self._result_tokens = 0
        self._later_input_tokens = 0
        """Input of the passes after server-side tools, until the provider says its totals."""

    def begin(self, message: JsonObject) -> None:
        """Take a message's model, terms and usage; raises ValueError when a count is none."""
        model = name(message, "model")
        if model:
            self.reading.model = self._ledger.served_model = model
        usage = message.get("usage")
        if isinstance(usage, dict):
            self.reading.terms = Terms(
                service_tier=word(usage, "service_tier"),
                speed=word(usage, "speed"),
                geography=word(usage, "inference_geo"),
            )
            self.take_usage(usage)

    def take_usage(self, usage: JsonObject) -> None:
        """Take usage over what was said; numbers that can't be believed also take back a last word."""
        ledger = self._ledger
        try:
            ledger.take(usage)
            self._later_input_tokens = 0
            if self._others_worked and not ledger.tells_passes:
                # The totals are one model's only. Without a usage the call is posted at its bound, which has room for
                # every model that the request named.
                self.reading.usage = None
                return
            usage_so_far = ledger.usage()
            searches = max(usage_so_far.web_search_requests, self._untold_searches)
            self.reading.usage = replace(usage_so_far, web_search_requests=searches)
            self.reading.shares = ledger.shares(self.reading.terms, self._call.terms.speed)
            billed = billed_amount(self._call.provider, usage)
            if billed is not None:
                self.reading.billed = billed  # OpenRouter's word; a later usage that is silent takes nothing back
        except ValueError as error:
            self._distrust(f"the usage is not valid ({error})")
            return
        if ledger.further_models() and not self._call.alternatives:
            self._distrust("the usage bills a second model")
        elif ledger.is_unclear():
            self._distrust("the usage does not say which model made a pass")

    def finish(self, usage: JsonObject, stop_reason: object, stop_details: JsonObject) -> None:
        """Take the end of a message; final when its usage speaks of the output."""
        if usage.get("output_tokens") is None or self.reading.unreadable:
            return
        if self.reading.usage is None:
            self._distrust("the usage does not tell what each model did")
            return
        if self.reading.billed is None and is_billed_apart(self._call):
            self.reading.usage, self.reading.shares = None, ()
            self._distrust(UNTOLD)
            return
        self.reading.final = True
        if self._call.provider != "anthropic":
            return  # what Anthropic does not bill at its own API, nobody else has promised not to
        if stop_reason != "refusal" or self._blocks or self._ledger.fell_back or "category" not in stop_details:
            return
        if stop_details["category"] is None or word(stop_details, "category") in UNBILLED_REFUSALS - {""}:
            self.reading.billed = 0  # the counts are told all the same

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
        self._blocks += 1
        self._see_other_models(block)
        if isinstance(kind, str) and kind.endswith("_result"):
            ran = kind.endswith("code_execution_tool_result") and not _is_error(block.get("content"))
            if ran:
                self._ledger.code_sessions = self._call.unit_bound.code_sessions
            self._count_pass(block)
            return
        if isinstance(kind, str) and kind.endswith("tool_use"):
            if kind == "server_tool_use" and block.get("name") == "web_search":
                self.reading.counted_web_search_requests += 1
            self.reading.counted_output_tokens += TOOL_USE_TOKENS
            self.count(block.get("name"))
            self.count(json.dumps(block.get("input"), ensure_ascii=False))
            return
        for key in ("text", "thinking", "content"):
            self.count(block.get(key))

    def _see_other_models(self, block: JsonObject) -> None:
        """Notice that a further model took over (`BetaFallbackBlock`) or is asked (the tool "advisor")."""
        if block.get("type") == "fallback":
            trigger = mapping(block.get("trigger"))
            known = "category" in trigger and (trigger["category"] is None or word(trigger, "category"))
            self._ledger.declined.append(word(trigger, "category") if known else "?")
            self.reading.model = self._ledger.served_model = name(mapping(block.get("to")), "model")
        elif block.get("type") != "advisor_tool_result" and (block.get("type"), block.get("name")) != _ADVISOR:
            return
        self._others_worked = True
        self.reading.usage, self.reading.shares = None, ()

    def _count_pass(self, result: JsonObject) -> None:
        """Count the pass that reads a result: all input so far once more.

        `message_start` says the first pass's input only, and the totals come at the very end, which a client that
        goes away does not see. From above: results may share a pass, and encrypted they are longer than what is read.
        """
        if self.reading.usage is None:
            return
        self._result_tokens += self._count(json.dumps(result.get("content"), ensure_ascii=False))
        said = self._ledger.totals()
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


def _is_error(content: object) -> bool:
    return str(mapping(content).get("type")).endswith("_error")


class MessageStreamMeter(SseMeter):
    """Reads an event stream. Final once a `message_delta` has said its `output_tokens` and a `stop_reason`.

    Before that, `usage` holds the input as `message_start` said it and the output said so far. Later deltas
    overwrite what was final.
    """

    def __init__(self, call: Call, long_cache: bool, count: CountTokens) -> None:
        super().__init__()
        self._reader = MessageReader(self.reading, call, long_cache, count)

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
        delta = mapping(value.get("delta"))
        if delta.get("stop_reason") is not None:
            self._reader.finish(usage, delta["stop_reason"], mapping(delta.get("stop_details")))


class MessageBodyMeter(BodyMeter):
    """Reads a whole message; final when it says its usage."""

    def __init__(self, call: Call, long_cache: bool, count: CountTokens) -> None:
        super().__init__()
        self._reader = MessageReader(self.reading, call, long_cache, count)

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
        if usage.get("input_tokens") is not None:
            self._reader.finish(usage, value.get("stop_reason"), mapping(value.get("stop_details")))
