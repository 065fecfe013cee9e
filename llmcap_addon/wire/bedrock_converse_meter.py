"""Reads Bedrock's Converse answers: JSON and binary event streams → Reading.

Shapes as in botocore's `bedrock-runtime` model: `ConverseResponse`, `ConverseStreamOutput`, `TokenUsage`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from llmcap_addon.usage import NO_TERMS, Reading, Usage
from llmcap_addon.wire.bedrock_paths import model_name
from llmcap_addon.wire.bedrock_replies import terms
from llmcap_addon.wire.counts import json_object, name, reported_count
from llmcap_addon.wire.dialect import CountTokens
from llmcap_addon.wire.eventstream import Frame, FrameMeter
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.text import JsonObject, mapping, parse_object, strings

TOOL_USE_TOKENS = 32
"""What a tool call's own wrapping costs above its name and input; from above."""
CITATION_TOKENS = 16
"""What one citation's marks cost; the cited text is not written by the model."""

SEARCH_TOOL = "nova_grounding"
"""The system tool that searches the web, at a fee for each search."""

_SILENT = frozenset({"signature", "redactedContent", "toolUseId", "type", "status", "format", "error"})
"""Members of a delta or block that are no text of the model's: opaque data, ids, words of the format."""


def token_usage(raw: JsonObject, *, long_cache: bool) -> Usage:
    """Read a `TokenUsage`; raises ValueError for what is no count.

    `inputTokens` leaves out what the cache read and wrote, and `cacheDetails` splits the writes by their lifetime;
    what it leaves open is taken for an hour's if the request asks for an hour anywhere. Whatever the total holds beyond
    all parts was generated too. Of OpenAI's models a stream's `inputTokens` was seen to hold the cached ones as well,
    which nothing in the answer shows: the sum is from above then.
    """
    fresh = reported_count(raw, "inputTokens")
    output = reported_count(raw, "outputTokens")
    # The other names stand in Nova's own shape, and beside these in what Converse really sends.
    read = reported_count(raw, "cacheReadInputTokens", reported_count(raw, "cacheReadInputTokenCount"))
    written = reported_count(raw, "cacheWriteInputTokens", reported_count(raw, "cacheWriteInputTokenCount"))
    short, long = _lifetimes(raw.get("cacheDetails"))
    written = max(written, short + long)
    unsplit = written - short - long
    inputs = fresh + read + written
    return Usage(
        input_tokens=inputs,
        output_tokens=max(output, reported_count(raw, "totalTokens") - inputs),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=long + (unsplit if long_cache else 0),
    )


def _lifetimes(details: object) -> tuple[int, int]:
    """Sum the cache writes that last five minutes, and all longer ones."""
    short = long = 0
    for item in details if isinstance(details, list) else ():
        detail = json_object(item, "cacheDetails")
        count = reported_count(detail, "inputTokens")
        if detail.get("ttl") == "5m":
            short += count
        else:
            long += count
    return short, long


class ConverseReader:
    """What both meters share: the reading, and how its parts are taken from an answer."""

    def __init__(self, reading: Reading, count: CountTokens, *, long_cache: bool) -> None:
        self.reading = reading
        self._count = count
        self._long_cache = long_cache
        self._searches = 0
        self._sessions = 0

    def take(self, answer: JsonObject) -> None:
        """Take what stands in a whole answer and in a stream's `metadata` alike; raises ValueError for a bad count."""
        tier = mapping(answer.get("serviceTier")).get("type")
        latency = mapping(answer.get("performanceConfig")).get("latency")
        applied = terms(tier, latency)
        if applied != NO_TERMS:
            self.reading.terms = applied
        router = mapping(mapping(answer.get("trace")).get("promptRouter"))
        invoked = name(router, "invokedModelId")
        if invoked:
            self.reading.model = model_name(invoked)
        raw = answer.get("usage")
        if not isinstance(raw, dict) or raw.get("inputTokens") is None or raw.get("outputTokens") is None:
            return
        usage = token_usage(raw, long_cache=self._long_cache)
        fees = Usage(web_search_requests=self._searches, code_sessions=self._sessions)
        self.reading.usage = usage.plus(fees)
        self.reading.final = not self.reading.unreadable

    def count(self, text: object) -> None:
        """Count one piece of output; a piece holds at least a token."""
        if isinstance(text, str) and text:
            self.reading.counted_output_tokens += max(1, self._count(text))

    def count_tool(self, tool: JsonObject) -> None:
        """Count the beginning of a tool call, and its input where that stands beside it."""
        self.reading.counted_output_tokens += TOOL_USE_TOKENS
        self.count(tool.get("name"))
        if tool.get("input") is not None:
            self.count(json.dumps(tool["input"], ensure_ascii=False))
        if tool.get("type") == "server_tool_use":
            if tool.get("name") == SEARCH_TOOL:
                self._searches += 1
            else:
                self._sessions += 1
            self.reading.counted_web_search_requests = self._searches

    def count_part(self, part: JsonObject) -> None:
        """Count a delta, or a content block other than a tool call; a system tool's result is input."""
        if "citation" in part:
            self.reading.counted_output_tokens += CITATION_TOKENS
        for text in strings(list(_written({key: part[key] for key in part if key not in ("citation", "toolResult")}))):
            self.count(text)


def _written(node: JsonObject) -> Iterator[object]:
    """Give what the model wrote in a part, without what is opaque."""
    for key, value in node.items():
        if key in _SILENT:
            continue
        if isinstance(value, dict):
            yield from _written(value)
        elif key == "citations":
            continue
        else:
            yield value


class ConverseStreamMeter(FrameMeter):
    """Reads an event stream; final at `metadata`, which comes after `messageStop` and alone tells the usage."""

    def __init__(self, count: CountTokens, *, long_cache: bool) -> None:
        super().__init__()
        self._reader = ConverseReader(self.reading, count, long_cache=long_cache)

    def on_frame(self, frame: Frame) -> None:
        """Read one event by the type its headers name."""
        if frame.kind in ("exception", "error"):
            self.reading.failed = True
            return
        value = parse_object(frame.payload)
        match frame.name:
            case "contentBlockStart":
                start = mapping(value.get("start"))
                if isinstance(start.get("toolUse"), dict):
                    self._reader.count_tool(mapping(start["toolUse"]))
            case "contentBlockDelta":
                self._reader.count_part(mapping(value.get("delta")))
            case "metadata":
                try:
                    self._reader.take(value)
                except ValueError as error:
                    self.reading.usage = None
                    self.mark_unreadable(f"the usage is not valid ({error})")
            case _:
                pass  # messageStart, contentBlockStop, messageStop


class ConverseBodyMeter(BodyMeter):
    """Reads a whole answer; final when it says its usage."""

    def __init__(self, count: CountTokens, *, long_cache: bool) -> None:
        super().__init__()
        self._reader = ConverseReader(self.reading, count, long_cache=long_cache)

    def on_body(self, body: bytes) -> None:
        """Read the answer."""
        value = parse_object(body)
        content = mapping(mapping(value.get("output")).get("message")).get("content")
        for item in content if isinstance(content, list) else ():
            block = mapping(item)
            if isinstance(block.get("toolUse"), dict):
                self._reader.count_tool(mapping(block["toolUse"]))
            else:
                self._reader.count_part(block)
        try:
            self._reader.take(value)
        except ValueError as error:
            self.mark_unreadable(f"the usage is not valid ({error})")
            return
        if not self.reading.final:
            self.mark_unreadable("the answer says no usage")
