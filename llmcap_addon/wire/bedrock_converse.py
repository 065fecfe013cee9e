"""Bedrock Converse: `POST /model/{modelId}/converse` and `/converse-stream`.

Request fields as in botocore's `bedrock-runtime` model: `ConverseRequest`, `ConverseStreamRequest`. A block is a union:
the one member it has says what it is.
"""

from __future__ import annotations

import re
from typing import Literal

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire import anthropic
from llmcap_addon.wire.bedrock_converse_meter import SEARCH_TOOL, ConverseBodyMeter, ConverseStreamMeter
from llmcap_addon.wire.bedrock_paths import maker, operation
from llmcap_addon.wire.bedrock_replies import cut_frame, refusal_response, terms
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.media import MediaKind, media_from_base64
from llmcap_addon.wire.meters import FailedMeter
from llmcap_addon.wire.openai_common import edit_members, list_of
from llmcap_addon.wire.providers import GUARDED
from llmcap_addon.wire.replies import encode_json
from llmcap_addon.wire.text import ContentBuilder, JsonObject, load_json, mapping, positive_int, string

OPEN_MAKERS = frozenset({"meta", "mistral", "cohere", "ai21", "deepseek", "qwen", "google", "nvidia", "writer"})
"""Whose models on Bedrock show what they reason, if they do; the others may bill thinking that a stream hides."""

_ONE_HOUR = re.compile(rb'"ttl"\s*:\s*"1h"')
_MEDIA: dict[str, MediaKind] = {"image": "image", "document": "document", "video": "video", "audio": "audio"}
_CLIENT_TOOLS = ("bash_", "text_editor_", "computer_", "browser_", "memory_")
"""Anthropic's own tools that run at the client, as `additionalModelRequestFields.tools` names them."""
_LIMITS = ("max_tokens", "max_completion_tokens", "maxTokens", "max_new_tokens", "max_gen_len")
"""Names that an answer's limit has in models' own fields; which one wins over `maxTokens` is nowhere said."""


class BedrockConverse:
    """The dialect of Converse, streamed or not."""

    name = "bedrock.converse"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        model = target.model_of("")
        if not model:
            raise UnreadableRequest("the path names no model")
        if body.get("guardrailConfig"):
            raise UnreadableRequest(GUARDED)
        content = ContentBuilder()
        add_turns(body, content)
        tool_fees = add_tools(body, content)
        additional = mapping(body.get("additionalModelRequestFields"))
        _add_additional(additional, content)
        if body.get("promptVariables") is not None:
            content.add_json(body["promptVariables"])
        if body.get("outputConfig") is not None:
            content.add_tools(body["outputConfig"])
        if ":prompt/" in model or model.startswith("prompt/"):
            content.opaque = True  # a stored prompt: its texts and tools are not in the body
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model,
            streamed=operation(request.path) == "converse-stream",
            content=content.build(),
            max_output_tokens=_limit(body, additional),
            hidden_output_tokens=hidden_output_tokens(model, additional),
            unit_bound=tool_fees,
            cache_write=cache_write(request.body, model),
            terms=terms(
                string(mapping(body.get("serviceTier")), "type"),
                string(mapping(body.get("performanceConfig")), "latency"),
            ),
            bills_after_disconnect=True,
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Limit the answer when asked to; usage needs no asking for."""
        if max_output_tokens is None or not call.editable:
            return body
        value = load_json(body)
        config = mapping(value.get("inferenceConfig"))
        changes: dict[str, object] = {"inferenceConfig": {**config, "maxTokens": max_output_tokens}}
        additional = mapping(value.get("additionalModelRequestFields"))
        thinking = mapping(additional.get("thinking"))
        budget = thinking.get("budget_tokens")
        if isinstance(budget, int) and budget >= max_output_tokens:
            # The budget must stay below the limit, or the model refuses the request.
            lowered = {**thinking, "budget_tokens": max_output_tokens - 1}
            changes["additionalModelRequestFields"] = {**additional, "thinking": lowered}
        return edit_members(body, changes) if value else encode_json(changes)

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for an answer; its content type says whether it is a stream."""
        if head.status >= 400:
            return FailedMeter()
        long_cache = _ONE_HOUR.search(body) is not None
        if is_frame_stream(head, streamed=call.streamed):
            return ConverseStreamMeter(count, long_cache=long_cache)
        return ConverseBodyMeter(count, long_cache=long_cache)

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:  # noqa: ARG002 - every dialect takes what the contract hands it
        """Shape a refusal as AWS's error."""
        return refusal_response(refusal, status)

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:  # noqa: ARG002 - as above
        """End a stream with an exception that SDKs raise."""
        return cut_frame(refusal, meter)


def is_frame_stream(head: ResponseHead, *, streamed: bool) -> bool:
    """Tell how a body is to be read: by its content type, and where that says neither, by what was asked for."""
    kind = head.content_type.lower()
    return "eventstream" in kind or (streamed and "json" not in kind)


def cache_write(body: bytes, model: str) -> Literal["none", "short", "long"]:
    """Say for how long the request asks to keep anything: a search will do, a false alarm only reserves more.

    Claude and Nova write what stands before a `cachePoint` (in Claude's own shape, a `cache_control`); other makers'
    models may do so unasked.
    """
    if _ONE_HOUR.search(body) or maker(model) not in ("anthropic", "amazon"):
        return "long"
    return "short" if b"cachePoint" in body or b"cache_control" in body else "none"


def hidden_output_tokens(model: str, fields: JsonObject) -> int | None:
    """Bound thinking that a stream does not show; `fields` are the model's own.

    Claude's is summed up and Nova's left out, where they think; of other makers those are known that show all.
    https://docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html: off unless enabled.
    """
    match maker(model):
        case "anthropic":
            return anthropic.hidden_output_tokens(fields, model)
        case "amazon":
            return None if mapping(fields.get("reasoningConfig")).get("type") == "enabled" else 0
        case known if known in OPEN_MAKERS or "gpt-oss" in model:
            return 0
    return 0 if mapping(fields.get("thinking")).get("type") == "disabled" else None


def add_turns(body: JsonObject, content: ContentBuilder) -> None:
    """Add `system` and `messages`, which Nova's own request has in the same shape."""
    for block in list_of(body, "system"):
        _add_block(block, content)
    for message in list_of(body, "messages"):
        content.messages += 1
        for block in list_of(mapping(message), "content"):
            _add_block(block, content)


def _limit(body: JsonObject, additional: JsonObject) -> int | None:
    stated = positive_int(mapping(body.get("inferenceConfig")), "maxTokens")
    if stated is None:
        return None  # a limit among the model's own fields may be obeyed or not
    return max([stated, *(limit for key in _LIMITS if (limit := positive_int(additional, key)) is not None)])


MAX_DEPTH = 32
"""Blocks inside each other; a tool's result holds one level, and nothing real is near this."""


def _add_block(value: object, content: ContentBuilder, depth: int = 0) -> None:
    """Add one block by the member it has; what is neither text nor media counts as its JSON."""
    if depth > MAX_DEPTH:
        raise UnreadableRequest(f"its blocks stand inside each other more than {MAX_DEPTH} deep")
    if isinstance(value, str):  # Nova's own request allows a bare text
        content.blocks += 1
        content.add_text(value)
        return
    content.blocks += 1
    for key, part in mapping(value).items():
        if key == "cachePoint":
            continue
        if isinstance(part, str):
            content.add_text(part)
        elif key in _MEDIA:
            _add_media(_MEDIA[key], mapping(part), content, depth)
        elif key == "toolResult":
            for inner in list_of(mapping(part), "content"):
                _add_block(inner, content, depth + 1)
            _add_rest(mapping(part), content, "content")
        elif key == "guardContent":
            _add_block(part, content, depth + 1)
        else:
            content.add_json(part)


def _add_media(kind: MediaKind, part: JsonObject, content: ContentBuilder, depth: int) -> None:
    """Add an image, a document, a video or audio, whose source is its bytes, a place in S3, a text or blocks."""
    source = mapping(part.get("source"))
    data = source.get("bytes")
    if isinstance(data, str):
        content.add_media(media_from_base64(kind, data))
    elif isinstance(source.get("text"), str):
        content.add_text(str(source["text"]))
    elif isinstance(source.get("content"), list):
        for inner in list_of(source, "content"):
            _add_block(inner, content, depth + 1)
    else:  # s3Location, or what we don't know
        content.opaque = True
    _add_rest(part, content, "source")


def _add_rest(part: JsonObject, content: ContentBuilder, *but: str) -> None:
    rest = {key: value for key, value in part.items() if key not in but}
    if rest:
        content.add_json(rest)


def add_tools(body: JsonObject, content: ContentBuilder) -> Usage:
    """Add `toolConfig`; gives the most that its system tools, which run at AWS, may be billed by the use."""
    config = mapping(body.get("toolConfig"))
    sessions = 0
    for item in list_of(config, "tools"):
        tool = mapping(item)
        if "cachePoint" in tool and len(tool) == 1:
            continue
        content.add_tools(tool)
        if "systemTool" not in tool:
            continue
        content.provider_tools += 1
        content.opaque = True
        content.server_turns += DEFAULT_SERVER_TURNS
        if mapping(tool["systemTool"]).get("name") == SEARCH_TOOL:
            content.web_searches += DEFAULT_SERVER_TURNS
        else:
            sessions += DEFAULT_SERVER_TURNS
    if config.get("toolChoice") is not None:
        content.add_json(config["toolChoice"])
    return Usage(code_sessions=sessions)


def _add_additional(fields: JsonObject, content: ContentBuilder) -> None:
    """Add what the model takes in its own shape, Anthropic's own tools above all."""
    if fields.get("fallbacks"):
        raise UnreadableRequest("another model may answer (fallbacks), which is not metered yet")
    for item in list_of(fields, "tools"):
        content.add_tools(item)
        kind = mapping(item).get("type")
        if kind in (None, "custom", "function") or not isinstance(kind, str):
            continue
        content.provider_tools += 1
        if not kind.startswith(_CLIENT_TOOLS):
            content.opaque = True
            content.server_turns += DEFAULT_SERVER_TURNS
            content.web_searches += DEFAULT_SERVER_TURNS
    _add_rest(fields, content, "tools")


CONVERSE = BedrockConverse()
