"""Google's Interactions: `POST …/interactions` with a model; whole or as an event stream.

Shapes as in the SDK's `CreateModelInteraction`, `Interaction`, `InteractionSSEEvent` and `Usage` (its `_gaos` types).
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Terms, Usage
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.google import CUT_STATUS, GENERATE
from llmcap_addon.wire.google_interactions_meter import InteractionBodyMeter, InteractionStreamMeter
from llmcap_addon.wire.google_request import items, member, named, refuse_field_masks, resolution
from llmcap_addon.wire.media import kind_of, media_from_base64
from llmcap_addon.wire.meters import FailedMeter
from llmcap_addon.wire.replies import encode_json, event_bytes
from llmcap_addon.wire.sse import SseMeter
from llmcap_addon.wire.text import ContentBuilder, JsonObject, boolean, load_json, mapping, positive_int, string

MAX_DEPTH = 32
"""How deep steps and contents may nest: the API itself nests a content in a step's result."""

_CLIENT_TOOLS = frozenset({"function", "computer_use"})
_MEDIA = ("image", "audio", "video", "document")
_UNBOUNDED = {
    "agent": "an agent goes on for as long as it likes, which nothing in the request bounds",
    "environment": "a machine of its own is billed apart, which is not metered yet",
}


class GoogleInteractions:
    """The dialect of interactions."""

    name = "google.interactions"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        refuse_field_masks(request)
        body = named(load_json(request.body))
        for key, why in _UNBOUNDED.items():
            if body.get(key):
                raise UnreadableRequest(f"{key}: {why}")
        model = target.model_of(string(body, "model").removeprefix("models/"))
        if not model:
            raise UnreadableRequest("model is missing")
        config = member(body, "generationConfig")
        content = ContentBuilder()
        content.add_text(string(body, "systemInstruction"))
        _read(body.get("input"), content, 0)
        kinds = _read_tools(body, content)
        content.opaque |= any(body.get(key) for key in ("previousInteractionId", "cachedContent", "continuationToken"))
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model,
            streamed=boolean(body, "stream"),
            content=content.build(),
            unit_bound=Usage(
                maps_requests=DEFAULT_SERVER_TURNS if "google_maps" in kinds else 0,
                file_search_requests=DEFAULT_SERVER_TURNS
                if "retrieval" in kinds and target.provider == "vertex"
                else 0,
            ),
            max_output_tokens=positive_int(config, "maxOutputTokens"),
            hidden_output_tokens=None,  # its thoughts are shown in summary at most
            cache_write="none",  # what is read from a cache was written by a call of its own
            terms=Terms(service_tier=string(body, "serviceTier").lower()),
            bills_after_disconnect=boolean(body, "background"),
            begins_job=boolean(body, "background"),
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Limit the answer when asked to; usage needs no asking for."""
        if max_output_tokens is None:
            return body
        value = load_json(body)
        section = "generationConfig" if "generationConfig" in value else "generation_config"
        config = mapping(value.get(section))
        config["maxOutputTokens" if "maxOutputTokens" in config else "max_output_tokens"] = max_output_tokens
        value[section] = config
        return encode_json(value)

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for an answer; its content type says whether it is a stream."""
        if head.status >= 400:
            return FailedMeter()
        kind = head.content_type.lower()
        if "event-stream" in kind or (call.streamed and "json" not in kind):
            is_behind = b"background" in body and bool(load_json(body).get("background"))
            return InteractionStreamMeter(call, count, is_behind=is_behind)
        return InteractionBodyMeter(call, count)

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:
        """Shape a refusal as the API's error body."""
        return GENERATE.refusal(call, request, refusal, status)

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """End a stream with an `error` event; an unstreamed answer can only break off."""
        if not isinstance(meter, SseMeter):
            return b""
        error = {"event_type": "error", "error": {"code": str(CUT_STATUS), "message": refusal.message}}
        return event_bytes(error, "error", inside_event=meter.inside_event)


def _read(value: object, content: ContentBuilder, depth: int) -> None:
    """Read an input: a text, a content, a step, or a list of them; what holds neither text nor data counts as JSON."""
    if depth > MAX_DEPTH:
        raise UnreadableRequest(f"input is nested more than {MAX_DEPTH} deep")
    if isinstance(value, str):
        content.blocks += 1
        content.add_text(value)
    elif isinstance(value, list):
        for item in value:
            _read(item, content, depth + 1)
    elif isinstance(value, dict):
        content.messages += 1
        _read_object(named(value), content, depth)
    elif value is not None:
        raise UnreadableRequest("input is neither a text nor contents")


def _read_object(value: JsonObject, content: ContentBuilder, depth: int) -> None:
    content.blocks += 1
    kind = str(value.get("type"))
    if kind in _MEDIA:
        data = value.pop("data", None)
        if isinstance(data, str):
            family = kind_of(str(value.get("mimeType") or f"{kind}/"))
            content.add_media(media_from_base64(family, data, resolution(value.get("resolution"))))
        elif value.get("uri") or data is not None:
            content.opaque = True
    for key in ("content", "result"):
        inner = value.pop(key, None)
        if isinstance(inner, str | list | dict):
            _read(inner, content, depth + 1)
    content.add_json(value)


def _read_tools(body: JsonObject, content: ContentBuilder) -> set[str]:
    """Read tools, of which those at Google make passes whose number nobody bounds; gives their kinds."""
    kinds = set()
    for item in items(body, "tools"):
        content.add_tools(item)
        kind = str(mapping(item).get("type"))
        kinds.add(kind)
        if kind != "function":
            content.provider_tools += 1
        if kind not in _CLIENT_TOOLS:
            content.server_turns = DEFAULT_SERVER_TURNS
        if kind == "google_search":
            content.web_searches = DEFAULT_SERVER_TURNS
        if kind == "mcp_server":
            content.opaque = True  # the server describes its tools itself
    for key in ("responseFormat", "toolConfig"):
        if body.get(key):
            content.add_tools(body[key])
    return kinds


INTERACTIONS = GoogleInteractions()
