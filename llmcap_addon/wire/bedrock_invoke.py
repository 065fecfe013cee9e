"""Bedrock InvokeModel: `POST /model/{modelId}/invoke` and `/invoke-with-response-stream`.

The body is the model's own (`InvokeModelRequest.body` in botocore's `bedrock-runtime` model), so who made the model
says what it means. https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.anthropic import MESSAGES
from llmcap_addon.wire.bedrock_converse import (
    add_tools,
    add_turns,
    cache_write,
    hidden_output_tokens,
    is_frame_stream,
)
from llmcap_addon.wire.bedrock_invoke_meter import InvokeBodyMeter, InvokeStreamMeter, message_meter
from llmcap_addon.wire.bedrock_paths import base_name, operation
from llmcap_addon.wire.bedrock_replies import LATENCY_HEADER, TIER_HEADER, cut_frame, refusal_response, terms
from llmcap_addon.wire.cohere import search_units
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.media import media_from_base64
from llmcap_addon.wire.meters import FailedMeter
from llmcap_addon.wire.openai_chat import CHAT
from llmcap_addon.wire.openai_common import edit_members, list_of
from llmcap_addon.wire.pictures import MAX_PICTURES, PicturesMeter
from llmcap_addon.wire.ranking import UNCUT, AskedMeter
from llmcap_addon.wire.replies import encode_json
from llmcap_addon.wire.text import (
    ContentBuilder,
    JsonObject,
    load_json,
    mapping,
    positive_int,
    string,
    strings,
    token_bound,
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request, as far as all makers share it."""

    request: Request
    target: Target
    model: str
    body: JsonObject
    client: str


@dataclass(frozen=True, slots=True)
class _Shape:
    """How the models of one kind are asked, and how their answer is limited."""

    name: str
    models: re.Pattern[str]
    """Of ids without a profile before them."""
    parse: Callable[[_Asked], Call]
    limits: tuple[str, ...] = ("max_tokens",)
    """The names that an answer's limit may have, the usual one first."""
    within: str = ""
    """The object they stand in; empty for the body itself."""


class BedrockInvoke:
    """The dialect of InvokeModel, streamed or not."""

    name = "bedrock.invoke"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        model = target.model_of("")
        call = _shape_of(model, body).parse(_Asked(request, target, model, body, client))
        return replace(
            call,
            dialect=self.name,
            streamed=operation(request.path) == "invoke-with-response-stream",
            cache_write=cache_write(request.body, model),
            terms=terms(
                request.headers.get(TIER_HEADER) or call.terms.service_tier, request.headers.get(LATENCY_HEADER)
            ),
            bills_after_disconnect=call.has_output or call.bills_after_disconnect,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Limit the answer when asked to; usage needs no asking for."""
        if max_output_tokens is None or not call.editable:
            return body
        value = load_json(body)
        shape = _shape_of(call.model, value)
        if shape.name == "anthropic":
            return MESSAGES.amend(call, body, max_output_tokens)
        config = mapping(value.get(shape.within)) if shape.within else value
        stated = [key for key in shape.limits if config.get(key) is not None] or shape.limits[:1]
        limits: dict[str, object] = dict.fromkeys(stated, max_output_tokens)
        changes = {shape.within: {**config, **limits}} if shape.within else limits
        return edit_members(body, changes) if value else encode_json(changes)

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for an answer; its content type says whether it is a stream."""
        if head.status >= 400:
            return FailedMeter()
        applied = terms(head.headers.get(TIER_HEADER), head.headers.get(LATENCY_HEADER))
        streamed = is_frame_stream(head, streamed=call.streamed)
        if _is_messages(call.model, body):
            inner = MESSAGES.meter(
                call, body, ResponseHead(head.status, "text/event-stream" if streamed else "application/json"), count
            )
            return message_meter(inner, applied)
        if streamed:
            return InvokeStreamMeter(count, applied)
        if call.unit_bound.output_images:
            return PicturesMeter("", ("images", "artifacts"), 1)
        if call.unit_bound.search_units:
            return AskedMeter(call.unit_bound, is_exact=call.unit_bound.search_units == 1)
        return InvokeBodyMeter(count, applied, head, has_output=call.has_output)

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:  # noqa: ARG002 - every dialect takes what the contract hands it
        """Shape a refusal as AWS's error."""
        return refusal_response(refusal, status)

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:  # noqa: ARG002 - as above
        """End a stream with an exception that SDKs raise."""
        return cut_frame(refusal, meter)


# ── whose request ──


def _shape_of(model: str, body: JsonObject) -> _Shape:
    """Find how a model is asked; an id that does not say it (an account's own profile) is known by the body's marks."""
    name = base_name(model.lower())
    for shape in _SHAPES:
        if shape.models.match(name):
            return shape
    if "/" in name or "." not in name:
        if "anthropic_version" in body:
            return _ANTHROPIC
        if body.get("schemaVersion") == "messages-v1":
            return _NOVA
    raise UnreadableRequest(
        f"what {model!r} takes and bills is not known; if it stands for a known model, name that one under `hosts:`"
    )


def _is_messages(model: str, body: bytes) -> bool:
    try:
        return _shape_of(model, {"anthropic_version": ""} if b"anthropic_version" in body else {}) is _ANTHROPIC
    except UnreadableRequest:
        return False


def _named(asked: _Asked) -> tuple[Request, Target]:
    """Put the model where another dialect looks for it."""
    body = edit_members(asked.request.body, {"model": asked.model})
    return replace(asked.request, body=body), Target(asked.target.provider, asked.model)


def _messages(asked: _Asked) -> Call:
    return MESSAGES.parse(*_named(asked), asked.client)


def _chat(asked: _Asked) -> Call:
    if asked.body.get("messages") is None:
        return _prompt(asked)
    call = CHAT.parse(*_named(asked), asked.client)
    return replace(call, hidden_output_tokens=hidden_output_tokens(asked.model, {}))


def _nova(asked: _Asked) -> Call:
    content = ContentBuilder()
    add_turns(asked.body, content)
    fees = add_tools(asked.body, content)
    config = mapping(asked.body.get("inferenceConfig"))
    limits = [limit for key in _NOVA.limits if (limit := positive_int(config, key)) is not None]
    reasoning = {"reasoningConfig": config.get("reasoningConfig") or asked.body.get("reasoningConfig")}
    hidden = hidden_output_tokens(asked.model, reasoning) if "nova" in asked.model else None
    return replace(_call(asked, content, max(limits, default=None)), hidden_output_tokens=hidden, unit_bound=fees)


def _titan(asked: _Asked) -> Call:
    content = ContentBuilder()
    content.add_json(asked.body)
    return _call(asked, content, positive_int(mapping(asked.body.get("textGenerationConfig")), "maxTokenCount"))


def _prompt(asked: _Asked) -> Call:
    """Read a request that is one text and its settings, as Llama, Mistral, DeepSeek-R1 and Cohere take it."""
    body = asked.body
    content = ContentBuilder()
    for image in list_of(body, "images"):
        content.add_media(media_from_base64("image", str(image)))
    content.add_json({key: value for key, value in body.items() if key != "images"})
    stated = [limit for key in ("max_gen_len", "max_tokens") if (limit := positive_int(body, key)) is not None]
    choices = max(positive_int(body, "num_generations") or 1, positive_int(body, "n") or 1)
    return replace(_call(asked, content, max(stated, default=None)), choices=choices)


def _embedding(asked: _Asked) -> Call:
    if asked.body.get("images") or asked.body.get("inputs"):
        raise UnreadableRequest("pictures to embed are billed by the piece, which is not metered yet")
    content = ContentBuilder()
    content.add_json(asked.body)
    return replace(_call(asked, content, None), has_output=False)


def _pictures(asked: _Asked) -> Call:
    """Read a request for pictures; Stability's models make one."""
    config = mapping(asked.body.get("imageGenerationConfig"))
    number = max(positive_int(config, "numberOfImages") or 1, positive_int(asked.body, "samples") or 1)
    if number > MAX_PICTURES:
        raise UnreadableRequest(f"{number} pictures are more than {MAX_PICTURES}")
    call = _call(asked, ContentBuilder(), None)
    return replace(call, has_output=False, unit_bound=Usage(output_images=number), bills_after_disconnect=True)


def _ranking(asked: _Asked) -> Call:
    query = string(asked.body, "query")
    documents = list_of(asked.body, "documents")
    sizes = [sum(map(token_bound, strings(document))) for document in documents]
    call = _call(asked, ContentBuilder(), None)
    units = Usage(search_units=search_units(UNCUT, token_bound(query), sizes))
    return replace(call, has_output=False, unit_bound=units, bills_after_disconnect=True)


def _call(asked: _Asked, content: ContentBuilder, limit: int | None) -> Call:
    """Make a call of what stands in the body; `parse` adds what the path and the headers say."""
    return Call(
        dialect=BedrockInvoke.name,
        provider=asked.target.provider,
        host=asked.request.host,
        model=asked.model,
        streamed=False,
        content=content.build(),
        max_output_tokens=limit,
        client=asked.client,
    )


def _models(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


_ANTHROPIC = _Shape("anthropic", _models(r"anthropic\.claude-"), _messages)
_NOVA = _Shape(
    "nova",
    _models(r"amazon\.nova-(?:\d+-)?(?:micro|lite|pro|premier)"),
    _nova,
    ("maxTokens", "max_new_tokens"),
    "inferenceConfig",
)
_SHAPES = (
    _ANTHROPIC,
    _NOVA,
    _Shape("titan", _models(r"amazon\.titan-(?:text|tg1)-"), _titan, ("maxTokenCount",), "textGenerationConfig"),
    _Shape("titan embeddings", _models(r"amazon\.titan-embed-(?:text|g1)"), _embedding),
    _Shape("cohere embeddings", _models(r"cohere\.embed-(?!v4)"), _embedding),
    # Made or changed pictures, each at the model's dearest size and quality.
    _Shape("pictures", _models(r"amazon\.(?:titan-image|nova-canvas)|stability\."), _pictures),
    _Shape("ranking", _models(r"(?:amazon|cohere)\.rerank-"), _ranking),
    _Shape("llama", _models(r"meta\.llama"), _prompt, ("max_gen_len",)),
    _Shape("deepseek-r1", _models(r"deepseek\.r1"), _prompt),
    _Shape("cohere", _models(r"cohere\.command"), _prompt),
    _Shape("mistral", _models(r"mistral\.(?!voxtral)"), _chat),
    _Shape("openai", _models(r"openai\.gpt"), _chat, ("max_completion_tokens", "max_tokens")),
    _Shape(
        "chat",
        _models(r"(?:ai21\.jamba|deepseek\.v|google\.gemma|(?:qwen|moonshot(?:ai)?|minimax|zai|nvidia|writer|xai)\.)"),
        _chat,
        ("max_tokens", "max_completion_tokens"),
    ),
)
"""Not here: what makes video or speech, or embeds pictures, all of which is billed by other units than text tokens; and
whatever is unknown."""


INVOKE = BedrockInvoke()
