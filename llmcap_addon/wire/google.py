"""Google generateContent and streamGenerateContent, of the Gemini API and of Vertex.

The model and the method stand in the path. The body is proto JSON: each field goes by its camelCase name or by its
snake_case one, here and in every part (https://protobuf.dev/programming-guides/json/).
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import re
from urllib.parse import unquote

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Terms
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.google_meter import ResponseArrayMeter, ResponseBodyMeter, ResponseStreamMeter
from llmcap_addon.wire.media import kind_of, media_from_base64
from llmcap_addon.wire.meters import FailedMeter
from llmcap_addon.wire.replies import encode_json, event_bytes, json_response
from llmcap_addon.wire.sse import SseMeter
from llmcap_addon.wire.text import ContentBuilder, JsonObject, load_json, mapping, positive_int, string

_METHODS = ("generateContent", "streamGenerateContent")

_CLIENT_TOOLS = ("functionDeclarations", "computerUse")
_SEARCH_TOOLS = ("googleSearch", "googleSearchRetrieval", "enterpriseWebSearch", "googleMaps", "parallelAiSearch",
                 "exaAiSearch")  # fmt: skip

# Which models think is told by their names; a name not listed here thinks.
# https://ai.google.dev/gemini-api/docs/thinking
_NEVER_THINKS = re.compile(r"^(gemini-1[.-]|gemini-2\.0-(?!.*thinking)|gemini-pro$|gemma-[123]|learnlm)")
_CAN_STOP_THINKING = re.compile(r"^gemini-2\.5-flash")
_THINKS_WHEN_ASKED = re.compile(r"^gemini-2\.5-flash-lite")

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "FAILED_PRECONDITION",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}

# Gemini CLI sends a 429 again and again unless the quota it names is a daily one.
_DAILY_QUOTA: list[object] = [
    {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"subject": "llmcap", "description": "a spending cap of LLMCap", "quotaId": "LLMCapPerDay"}],
    }
]

CUT_STATUS = 403
"""The code in a cut's error: a 429 makes clients send the request again."""


class GoogleGenerate:
    """The dialect of generateContent, streamed or not."""

    name = "google.generate"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        model, method = _model_and_method(request.path)
        _refuse_field_masks(request)
        body = _named(load_json(request.body))
        config = _object(body, "generationConfig")
        content = ContentBuilder()
        _read_input(body, config, content)
        _read_tools(body, config, content)
        shared_tier = request.headers.get("x-vertex-ai-llm-shared-request-type", "")
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model,
            streamed=method == "streamGenerateContent",
            content=content.build(),
            # Thoughts count inside it: an answer stops with MAX_TOKENS when both together reach it, which Google's
            # documents leave open but which is what its models do (github.com/googleapis/python-genai/issues/2062).
            # One that overran it would be billed and posted as it is.
            max_output_tokens=positive_int(config, "maxOutputTokens"),
            choices=positive_int(config, "candidateCount") or 1,
            hidden_output_tokens=_hidden_output_tokens(config, model),
            cache_write="none",  # what is read from a cache was written by a call of its own
            terms=Terms(service_tier=(string(body, "serviceTier") or shared_tier).lower()),
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Limit the answer when asked to, under the names the body itself uses; usage needs no asking for."""
        if max_output_tokens is None:
            return body
        value = load_json(body)
        section = "generation_config" if "generation_config" in value else "generationConfig"
        config = mapping(value.get(section))
        config["max_output_tokens" if "max_output_tokens" in config else "maxOutputTokens"] = max_output_tokens
        value[section] = config
        return encode_json(value)

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for an answer: events by the content type, an array when a stream has another."""
        if head.status >= 400:
            return FailedMeter()
        if "event-stream" in head.content_type.lower():
            return ResponseStreamMeter(call.model, call.choices, count)
        if call.streamed:
            return ResponseArrayMeter(call.model, call.choices, count)
        return ResponseBodyMeter(call.model, call.choices, count)

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:
        """Shape a refusal as the API's error body, in an array where the client waits for one."""
        error = _error(status, refusal.message, _DAILY_QUOTA if status == 429 else [])
        streamed = unquote(request.path).endswith(":streamGenerateContent")
        events = "sse" in (request.query.get("alt"), request.query.get("$alt"))
        return json_response(refusal, status, [error] if streamed and not events else error)

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """End a stream with an error in place of a response; an unstreamed answer can only break off."""
        error = _error(CUT_STATUS, refusal.message, [])
        if isinstance(meter, SseMeter):
            return event_bytes(error, inside_event=meter.inside_event)
        if isinstance(meter, ResponseArrayMeter) and not meter.closed:
            return (b",\n" if meter.begun else b"[") + encode_json(error) + b"\n]"
        return b""


def _error(code: int, message: str, details: list[object]) -> JsonObject:
    """The SDK takes a streamed object for an error only when "error" is its first key."""
    status = _STATUSES.get(code, "INTERNAL" if code >= 500 else "INVALID_ARGUMENT")
    return {"error": {"code": code, "message": message, "status": status, "details": details}}


def _model_and_method(path: str) -> tuple[str, str]:
    """Split …/models/NAME:METHOD; tuned models and endpoints keep their collection in the name."""
    resource, _, method = unquote(path).rpartition(":")
    if method not in _METHODS:
        raise UnreadableRequest("the path does not end in :generateContent or :streamGenerateContent")
    collection, _, name = resource.rpartition("/")
    collection = collection.rpartition("/")[2]
    if not name or collection not in ("models", "tunedModels", "endpoints"):
        raise UnreadableRequest("the path names no model")
    return (name if collection == "models" else f"{collection}/{name}"), method


def _refuse_field_masks(request: Request) -> None:
    """Refuse what takes fields out of the answer: its text and usage may be among them.

    https://cloud.google.com/apis/docs/system-parameters
    """
    masks = (request.query.get("fields"), request.query.get("$fields"), request.headers.get("x-goog-fieldmask"))
    if any(mask not in (None, "", "*") for mask in masks):
        raise UnreadableRequest("a field mask takes out of the answer what it is counted by; leave it out")


def _named(value: JsonObject) -> JsonObject:
    """Give an object's fields by their camelCase names; raises UnreadableRequest when a field is there twice."""
    named: JsonObject = {}
    for key, item in value.items():
        name = re.sub(r"(?<=[a-z0-9])_([a-z0-9])", lambda found: found[1].upper(), key)
        if name in named:
            raise UnreadableRequest(f"{name} is given twice")
        named[name] = item
    return named


def _object(body: JsonObject, key: str) -> JsonObject:
    value = body.get(key)
    if value is not None and not isinstance(value, dict):
        raise UnreadableRequest(f"{key} is not an object")
    return _named(mapping(value))


def _items(body: JsonObject, key: str) -> list[object]:
    """Give a repeated field; a single message in place of a list is taken as one."""
    value = body.get(key)
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _read_input(body: JsonObject, config: JsonObject, content: ContentBuilder) -> None:
    detail = _resolution(config.get("mediaResolution"))
    for message in [*_items(body, "systemInstruction"), *_items(body, "contents")]:
        content.messages += 1
        if not isinstance(message, dict):
            content.add_json(message)
            continue
        for part in _items(message, "parts"):
            content.blocks += 1
            _read_part(part, content, detail)
    if body.get("cachedContent"):
        content.opaque = True
    if config.get("continuationToken"):
        content.opaque = True


def _read_part(value: object, content: ContentBuilder, detail: str) -> None:
    """Read one part; what is neither text nor data counts as JSON. A thought's signature holds the thought."""
    if not isinstance(value, dict):
        content.add_json(value)
        return
    part = _named(value)
    detail = _resolution(mapping(part.get("mediaResolution")).get("level")) or detail
    blob = _object(part, "inlineData")
    data = blob.get("data")
    if isinstance(data, str):
        mime_type = blob.get("mimeType")
        content.add_media(media_from_base64(kind_of(str(mime_type)), data, detail))
    elif blob:
        raise UnreadableRequest("inlineData has no data")
    if part.get("fileData"):
        content.opaque = True
    function = _object(part, "functionResponse")
    for inner in _items(function, "parts"):
        content.blocks += 1
        _read_leaf(inner, content, detail)
    function.pop("parts", None)
    rest = {
        key: item for key, item in part.items() if key not in ("inlineData", "fileData", "functionResponse", "text")
    }
    if isinstance(part.get("text"), str):
        content.add_text(str(part["text"]))
    for other in (function, rest):
        if other:
            content.add_json(other)


def _read_leaf(value: object, content: ContentBuilder, detail: str) -> None:
    """Read a part of a function's response, which can hold no further functions."""
    part = _named(mapping(value))
    part.pop("functionResponse", None)
    _read_part(part, content, detail)


def _resolution(value: object) -> str:
    """MEDIA_RESOLUTION_HIGH → "high"; empty when unset."""
    level = str(value).lower().removeprefix("media_resolution_") if isinstance(value, str) else ""
    return "" if level == "unspecified" else level


def _read_tools(body: JsonObject, config: JsonObject, content: ContentBuilder) -> None:
    """Read tools; those that run at Google make passes over the input whose number nobody bounds."""
    for item in _items(body, "tools"):
        content.add_tools(item)
        for name in _named(mapping(item)):
            if name != "functionDeclarations":
                content.provider_tools += 1
            if name not in _CLIENT_TOOLS:
                content.server_turns = DEFAULT_SERVER_TURNS
            if name in _SEARCH_TOOLS:
                content.web_searches = DEFAULT_SERVER_TURNS
    for section, key in ((body, "toolConfig"), (config, "responseSchema"), (config, "responseJsonSchema")):
        if section.get(key):
            content.add_tools(section[key])


def _hidden_output_tokens(config: JsonObject, model: str) -> int | None:
    """Bound what a stream does not show while it is made: thoughts, and images and speech until they are done.

    A `thinkingBudget` above 0 is no bound: models overrun it. Only `maxOutputTokens` is one.
    """
    modalities = _items(config, "responseModalities")
    if any(str(modality).upper() != "TEXT" for modality in modalities):
        return None
    if "image" in model or "tts" in model:
        return None
    thinking = _object(config, "thinkingConfig")
    budget = thinking.get("thinkingBudget")
    if _NEVER_THINKS.search(model):
        return 0
    if not isinstance(budget, bool) and budget == 0 and _CAN_STOP_THINKING.search(model):
        return 0
    if not thinking and _THINKS_WHEN_ASKED.search(model):
        return 0
    return None


GENERATE = GoogleGenerate()
