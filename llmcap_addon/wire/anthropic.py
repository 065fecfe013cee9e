"""Anthropic Messages: `POST /v1/messages` (with or without `?beta=true`), and `:rawPredict` on Vertex.

Request fields as in the SDK's `MessageCreateParams` and its beta; what a block or tool is, its `type` says.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Alternative, Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Terms, Usage
from llmcap_addon.wire.anthropic_meter import MessageBodyMeter, MessageStreamMeter
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.media import media_from_base64
from llmcap_addon.wire.meters import FailedMeter
from llmcap_addon.wire.openrouter import extras
from llmcap_addon.wire.replies import encode_json, event_bytes, json_response
from llmcap_addon.wire.searches import add_searches
from llmcap_addon.wire.sse import SseMeter
from llmcap_addon.wire.text import ContentBuilder, JsonObject, boolean, load_json, mapping, positive_int, string

TOOLSET_TOOLS = 8
"""How many tools a computer or browser toolset is counted as: it stands for some twenty short definitions."""
MAX_BLOCK_DEPTH = 32
"""How deep content blocks may nest: the API itself nests a document in a fetch result in a message."""

_CLIENT_TOOLS = ("bash_", "text_editor_", "computer_", "browser_", "memory_")
MAX_DEFAULT_FALLBACKS = 3
"""How many models the provider may try by itself: as many as a request may name; how many it does is not published."""

# Before Claude 5, thinking is off unless the request asks for it; from then on it is adaptive unless turned off.
# https://platform.claude.com/docs/en/build-with-claude/thinking
_THINKS_ONLY_WHEN_ASKED = re.compile(r"claude-(instant|[123]\b|(opus|sonnet|haiku)-4\b)")

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_WEB_TOOL = re.compile(r"web_(?:search|fetch)_(\d{8})")
_CODE_IS_FREE_SINCE = "20260209"
_ONE_HOUR = re.compile(rb'"ttl"\s*:\s*"1h"')


class AnthropicMessages:
    """The dialect of Anthropic's Messages."""

    name = "anthropic.messages"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        content = ContentBuilder()
        added = extras(content, body, target)  # OpenRouter speaks this dialect too
        model = added.model
        _read_messages(body, content)
        _read_tools(body, content)
        _read_server_state(body, content)
        add_searches(content, body, target.provider, (model, *added.instead))
        alternatives = (*_fallbacks(body, content.server_turns), *_advisors(body))
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model,
            streamed=boolean(body, "stream") or request.path.endswith(":streamRawPredict"),
            content=content.build(),
            unit_bound=added.apart.plus(Usage(code_sessions=_new_containers(body))),
            instead=added.instead,
            max_output_tokens=positive_int(body, "max_tokens", minimum=0),
            # A further model's work is told at the end only, so such a call is reserved whole.
            hidden_output_tokens=None if alternatives or added.instead else hidden_output_tokens(body, model),
            alternatives=alternatives,
            cache_write=_cache_write(request.body),
            terms=Terms(
                service_tier=string(body, "service_tier").lower(),
                speed=string(body, "speed").lower(),
                geography=string(body, "inference_geo").lower(),
            ),
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Limit the answer when asked to; usage needs no asking for."""
        if max_output_tokens is None:
            return body
        value = load_json(body)
        value["max_tokens"] = max_output_tokens
        thinking = mapping(value.get("thinking"))
        budget = thinking.get("budget_tokens")
        if isinstance(budget, int) and budget >= max_output_tokens:
            # The budget must stay below max_tokens, or the provider refuses the request.
            thinking["budget_tokens"] = max_output_tokens - 1
        return encode_json(value)

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for an answer; its content type says whether it is a stream."""
        if head.status >= 400:
            return FailedMeter()
        # Only growth of cache writes during an answer needs the request's lifetimes, so a search will do.
        long_cache = _ONE_HOUR.search(body) is not None
        kind = head.content_type.lower()
        if "event-stream" in kind or (call.streamed and "json" not in kind):
            return MessageStreamMeter(call, long_cache, count)
        return MessageBodyMeter(call, long_cache, count)

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:
        """Shape a refusal as the API's error body; SDKs take the class from the status and show the message."""
        kind = _ERROR_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return json_response(refusal, status, _error(kind, refusal.message))

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """End a stream with an `error` event; an unstreamed answer can only break off.

        `billing_error` whatever the reason: clients take `overloaded_error` and `rate_limit_error` for passing and
        send the request again.
        """
        if not isinstance(meter, SseMeter):
            return b""
        return event_bytes(_error("billing_error", refusal.message), "error", inside_event=meter.inside_event)


def _cache_write(body: bytes) -> Literal["none", "short", "long"]:
    """Say for how long the request asks to keep anything: a search will do, for a word in a prompt only reserves more.

    Without `cache_control` nothing is written.
    https://platform.claude.com/docs/en/build-with-claude/prompt-caching
    """
    if b"cache_control" not in body and b'"caching"' not in body:  # the latter is the advisor's own
        return "none"
    return "long" if _ONE_HOUR.search(body) else "short"


def _error(kind: str, message: str) -> JsonObject:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}


def _fallbacks(body: JsonObject, server_turns: int) -> Iterator[Alternative]:
    """Name the models that answer when the one asked for declines: each tried once, tools and all.

    https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback
    """
    asked = positive_int(body, "max_tokens", minimum=0)
    speed = string(body, "speed").lower()
    if body.get("fallbacks") == "default":
        yield Alternative("", MAX_DEFAULT_FALLBACKS * (1 + server_turns), asked, speed)
        return
    for item in _list(body, "fallbacks"):
        entry = mapping(item)
        model = string(entry, "model")
        if not model:
            raise UnreadableRequest("fallbacks: an entry names no model")
        limit = positive_int(entry, "max_tokens", minimum=0)
        yield Alternative(
            model, 1 + server_turns, asked if limit is None else limit, string(entry, "speed").lower() or speed
        )


def _advisors(body: JsonObject) -> Iterator[Alternative]:
    """Name the models that the tool "advisor" asks; `max_tokens` of the request does not bound what they write.

    https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool
    """
    for item in _list(body, "tools"):
        tool = mapping(item)
        if not str(tool.get("type")).startswith("advisor_"):
            continue
        model = string(tool, "model")
        if not model:
            raise UnreadableRequest("tools: the advisor names no model")
        uses = positive_int(tool, "max_uses", minimum=0)
        limit = positive_int(tool, "max_tokens")
        yield Alternative(model, DEFAULT_SERVER_TURNS if uses is None else uses, limit)


def _read_messages(body: JsonObject, content: ContentBuilder) -> None:
    if not isinstance(body.get("messages"), list):
        raise UnreadableRequest("messages is not a list")
    _read_content(body.get("system"), content, 0)
    for message in _list(body, "messages"):
        content.messages += 1
        _read_content(mapping(message).get("content"), content, 0)


def _read_content(value: object, content: ContentBuilder, depth: int) -> None:
    """Read what a `content` holds: a text, a block, or a list of blocks."""
    if depth > MAX_BLOCK_DEPTH:
        raise UnreadableRequest(f"content blocks are nested more than {MAX_BLOCK_DEPTH} deep")
    if isinstance(value, str):
        content.blocks += 1
        content.add_text(value)
    elif isinstance(value, list):
        for item in value:
            _read_content(item, content, depth + 1)
    elif isinstance(value, dict):
        content.blocks += 1
        _read_block(value, content, depth)
    elif value is not None:
        raise UnreadableRequest("content is neither a text nor blocks")


def _read_block(block: JsonObject, content: ContentBuilder, depth: int) -> None:
    """Read one block by its parts; what is neither a source nor blocks counts as text, keys included.

    Earlier thinking counts by its signature too, which holds the whole of it, encrypted.
    """
    source = block.get("source")
    rest = {key: value for key, value in block.items() if key not in ("type", "source", "content", "cache_control")}
    if isinstance(source, dict):
        _read_source(source, str(block.get("type")), content, depth)
    elif source is not None:
        rest["source"] = source  # a search result's is a plain text
    if block.get("type") == "container_upload":
        content.opaque = True
    inner = block.get("content")
    if isinstance(inner, str | list | dict):
        _read_content(inner, content, depth + 1)
    if rest:
        content.add_json(rest)


def _read_source(source: JsonObject, block_type: str, content: ContentBuilder, depth: int) -> None:
    data = source.get("data")
    kind: Literal["image", "document"] = "image" if block_type == "image" else "document"
    match source.get("type"):
        case "base64" if isinstance(data, str):
            content.add_media(media_from_base64(kind, data))
        case "text" if isinstance(data, str):
            content.add_text(data)
        case "content":
            _read_content(source.get("content"), content, depth + 1)
        case _:  # a URL, a file, or what we don't know
            content.opaque = True


def _read_tools(body: JsonObject, content: ContentBuilder) -> None:
    """Read tools; of those that run at the provider, each use is one more pass over the input."""
    for tool in _list(body, "tools"):
        content.add_tools(tool)
        kind = mapping(tool).get("type")
        if kind in (None, "custom") or not isinstance(kind, str):
            continue
        content.provider_tools += TOOLSET_TOOLS if "_toolset_" in kind else 1
        if kind.startswith(_CLIENT_TOOLS):
            continue
        # It runs at the provider, or we don't know it.
        uses = positive_int(mapping(tool), "max_uses", minimum=0)
        turns = DEFAULT_SERVER_TURNS if uses is None else uses
        content.server_turns += turns
        if kind.startswith("web_search_"):
            content.web_searches += turns
    if body.get("tool_choice"):
        content.add_json(body["tool_choice"])
    if body.get("output_config"):
        content.add_tools(body["output_config"])
    if body.get("output_format"):
        content.add_tools(body["output_format"])


def _new_containers(body: JsonObject) -> int:
    """Tell whether the request may begin a container that runs code, which is billed by the hour.

    Unless a newer web tool comes with it: then running code is free. A container that goes on from an earlier request
    was counted there. https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool
    """
    kinds = [str(mapping(tool).get("type")) for tool in _list(body, "tools")]
    web = [_WEB_TOOL.fullmatch(kind) for kind in kinds]
    container = body.get("container")
    begun_before = isinstance(container, str) or mapping(container).get("id") is not None
    if begun_before or any(found and found[1] >= _CODE_IS_FREE_SINCE for found in web):
        return 0
    return int(any(kind.startswith("code_execution_") for kind in kinds))


def _read_server_state(body: JsonObject, content: ContentBuilder) -> None:
    """Read what brings input or passes that the body does not show."""
    if body.get("mcp_servers"):
        content.opaque = True  # the servers describe their tools themselves
        content.server_turns += DEFAULT_SERVER_TURNS
    thread = mapping(body.get("thread"))
    if body.get("container") or thread.get("type", "create") != "create":
        content.opaque = True
    edits = mapping(body.get("context_management")).get("edits")
    compacts = any("compact" in str(mapping(edit).get("type")) for edit in edits) if isinstance(edits, list) else False
    if body.get("compaction") or compacts:
        content.server_turns += 1  # the pass that sums up the conversation


def hidden_output_tokens(body: JsonObject, model: str) -> int | None:
    """Bound thinking, of which a stream shows a summary or nothing.

    `budget_tokens` is no bound: it is a target that may be overrun, and with interleaved thinking it holds for each
    of several stretches. Only `max_tokens` is one.
    https://platform.claude.com/docs/en/build-with-claude/extended-thinking
    """
    thinking = body.get("thinking")
    if thinking is None:
        return 0 if _THINKS_ONLY_WHEN_ASKED.search(model) else None
    return 0 if mapping(thinking).get("type") == "disabled" else None


def _list(body: JsonObject, key: str) -> list[object]:
    value = body.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise UnreadableRequest(f"{key} is not a list")
    return value


MESSAGES = AnthropicMessages()
