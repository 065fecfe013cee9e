"""Google generateContent and streamGenerateContent, of the Gemini API and of Vertex.

The model and the method stand in the path.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import re
from urllib.parse import unquote

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call
from llmcap_addon.usage import Terms, Usage
from llmcap_addon.wire.counts import MAX_WORD_CHARS
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.google_meter import ResponseArrayMeter, ResponseBodyMeter, ResponseStreamMeter
from llmcap_addon.wire.google_request import (
    items,
    member,
    model_and_method,
    named,
    read_input,
    refuse_field_masks,
)
from llmcap_addon.wire.meters import FailedMeter
from llmcap_addon.wire.replies import encode_json, event_bytes, json_response
from llmcap_addon.wire.sse import SseMeter
from llmcap_addon.wire.text import ContentBuilder, JsonObject, load_json, mapping, positive_int, string

_METHODS = ("generateContent", "streamGenerateContent")

_CLIENT_TOOLS = ("functionDeclarations", "computerUse")
_SEARCH_TOOLS = ("googleSearch", "googleSearchRetrieval", "enterpriseWebSearch", "parallelAiSearch", "exaAiSearch")

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
        model, method = model_and_method(request.path, _METHODS)
        refuse_field_masks(request)
        body = named(load_json(request.body))
        config = member(body, "generationConfig")
        content = ContentBuilder()
        read_input(body, config, content)
        _read_tools(body, config, content)
        shared_tier = request.headers.get("x-vertex-ai-llm-shared-request-type", "")
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model,
            streamed=method == "streamGenerateContent",
            content=content.build(),
            unit_bound=_unit_bound(body, target.provider),
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
        tier = head.headers.get("x-gemini-service-tier", "")[:MAX_WORD_CHARS].lower()
        if "event-stream" in head.content_type.lower():
            return ResponseStreamMeter(call, tier, count)
        if call.streamed:
            return ResponseArrayMeter(call, tier, count)
        return ResponseBodyMeter(call, tier, count)

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


def _read_tools(body: JsonObject, config: JsonObject, content: ContentBuilder) -> None:
    """Read tools; those that run at Google make passes over the input whose number nobody bounds."""
    for item in items(body, "tools"):
        content.add_tools(item)
        for name in named(mapping(item)):
            if name != "functionDeclarations":
                content.provider_tools += 1
            if name not in _CLIENT_TOOLS:
                content.server_turns = DEFAULT_SERVER_TURNS
            if name in _SEARCH_TOOLS:
                content.web_searches = DEFAULT_SERVER_TURNS
    for section, key in ((body, "toolConfig"), (config, "responseSchema"), (config, "responseJsonSchema")):
        if section.get(key):
            content.add_tools(section[key])


def _unit_bound(body: JsonObject, provider: str) -> Usage:
    """Bound what is billed by the piece beside searches: maps, and on Vertex searches in one's own data."""
    names = {name for item in items(body, "tools") for name in named(mapping(item))}
    return Usage(
        maps_requests=DEFAULT_SERVER_TURNS if "googleMaps" in names else 0,
        file_search_requests=DEFAULT_SERVER_TURNS if "retrieval" in names and provider == "vertex" else 0,
    )


def _hidden_output_tokens(config: JsonObject, model: str) -> int | None:
    """Bound what a stream does not show while it is made: thoughts, and images and speech until they are done.

    A `thinkingBudget` above 0 is no bound: models overrun it. Only `maxOutputTokens` is one.
    """
    modalities = items(config, "responseModalities")
    if any(str(modality).upper() != "TEXT" for modality in modalities):
        return None
    if "image" in model or "tts" in model:
        return None
    thinking = member(config, "thinkingConfig")
    budget = thinking.get("thinkingBudget")
    if _NEVER_THINKS.search(model):
        return 0
    if not isinstance(budget, bool) and budget == 0 and _CAN_STOP_THINKING.search(model):
        return 0
    if not thinking and _THINKS_WHEN_ASKED.search(model):
        return 0
    return None


GENERATE = GoogleGenerate()
