"""Gemini Code Assist: generateContent in a wrapper, as Gemini CLI sends it when a person has signed in with Google.

`POST /v1internal:generateContent` and `:streamGenerateContent?alt=sse` with {model, project, request: {…}}, answered by
{response: {…}}. Shapes: `packages/core/src/code_assist/converter.ts` of google-gemini/gemini-cli.
"""

from __future__ import annotations

import re
from dataclasses import replace

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.counts import json_object
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.google import GENERATE
from llmcap_addon.wire.google_meter import ResponseBodyMeter, ResponseStreamMeter
from llmcap_addon.wire.meters import FailedMeter
from llmcap_addon.wire.replies import encode_json
from llmcap_addon.wire.sse import Event
from llmcap_addon.wire.text import JsonObject, load_json, parse_object, string

_MODEL = re.compile(r"[A-Za-z0-9._-]{1,200}")


class CodeAssist:
    """generateContent, streamed or not, behind Code Assist."""

    name = "google.code_assist"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        model = string(body, "model").removeprefix("models/")
        if not _MODEL.fullmatch(model):
            raise UnreadableRequest("the body names no model, so its price is unknown")
        method = request.path.rpartition(":")[2]
        if method == "streamGenerateContent" and request.query.get("alt") != "sse":
            raise UnreadableRequest("a stream without `alt=sse` is not metered")
        inner = replace(request, path=f"/v1beta/models/{model}:{method}", body=encode_json(_inner(body)))
        call = GENERATE.parse(inner, target, client)
        return replace(call, dialect=self.name, host=request.host)

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Limit the answer when asked to."""
        if max_output_tokens is None or not call.editable:
            return body
        value = load_json(body)
        value["request"] = load_json(GENERATE.amend(call, encode_json(_inner(value)), max_output_tokens))
        return encode_json(value)

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:  # noqa: ARG002 - the contract's
        """Make the meter for an answer."""
        if head.status >= 400:
            return FailedMeter()
        if "event-stream" in head.content_type.lower():
            return _StreamMeter(call, "", count)
        return _BodyMeter(call, "", count)

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:
        """Shape a refusal as Google does."""
        return GENERATE.refusal(call, request, refusal, status)

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """End a stream with an error in place of a response."""
        return GENERATE.cut(call, refusal, meter)


class _StreamMeter(ResponseStreamMeter):
    def on_event(self, event: Event) -> bool:
        return super().on_event(event._replace(data=_unwrapped(event.data)))


class _BodyMeter(ResponseBodyMeter):
    def on_body(self, body: bytes) -> None:
        super().on_body(_unwrapped(body))


def _inner(body: JsonObject) -> JsonObject:
    inner = body.get("request")
    if not isinstance(inner, dict):
        raise UnreadableRequest("request is not an object")
    return inner


def _unwrapped(data: bytes) -> bytes:
    """Give what stands in the wrapper, and an error, which is in none, as it is. Raises ValueError otherwise."""
    payload = parse_object(data)
    if "error" in payload:
        return data
    return encode_json(json_object(payload.get("response"), "response"))


CODE_ASSIST = CodeAssist()
