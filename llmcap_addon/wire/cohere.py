"""Cohere's own API: `POST /v2/chat`, and embeddings and rankings of both its versions.

Shapes: the `cohere` SDK's `v2/raw_client.py` and types. What is billed: https://docs.cohere.com/docs/how-does-cohere-pricing-work
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.money import ceil_div
from llmcap_addon.usage import Usage
from llmcap_addon.wire.cohere_meter import ChatBodyMeter, ChatLinesMeter, ChatStreamMeter, MetaBodyMeter
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.media import media_from_data_url
from llmcap_addon.wire.meters import FailedMeter
from llmcap_addon.wire.openai_common import edit_members, list_of, model_name
from llmcap_addon.wire.openai_input import add_content, add_message
from llmcap_addon.wire.replies import encode_json, event_bytes, json_response
from llmcap_addon.wire.sse import SseMeter
from llmcap_addon.wire.text import (
    ContentBuilder,
    JsonObject,
    boolean,
    load_json,
    mapping,
    positive_int,
    string,
    token_bound,
)

DOCUMENTS_PER_SEARCH_UNIT = 100
"""One query over up to so many documents is one unit."""
TOKENS_PER_DOCUMENT = 500
"""A document that is longer, its query included, counts as several."""
MAX_TOKENS_PER_DOCUMENT = 4096
"""What a document is cut to unless the request says otherwise (`max_tokens_per_doc`)."""


class _Cohere:
    """What the three share: an error is a `message`, and nothing but a chat can be shortened or cut."""

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing."""
        return body

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:
        """Shape a refusal; the SDK shows the body of its `ApiError`."""
        return json_response(refusal, status, {"message": refusal.message})

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """Nothing can end half a JSON body; the connection breaks off."""
        return b""


class CohereChat(_Cohere):
    """`POST /v2/chat`."""

    name = "cohere.chat"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        builder = ContentBuilder()
        for message in list_of(body, "messages"):
            add_message(builder, message)
        for document in list_of(body, "documents"):
            builder.messages += 1  # each is rendered as a message of its own
            builder.add_json(document)
        for key in ("tools", "response_format"):
            if body.get(key) is not None:
                builder.add_tools(body[key])
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model_name(body, target),
            streamed=boolean(body, "stream"),
            content=builder.build(),
            max_output_tokens=positive_int(body, "max_tokens"),
            cache_write="none",
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Limit the answer; its usage is always reported."""
        if max_output_tokens is None or not call.editable:
            return body
        return edit_members(body, {"max_tokens": max_output_tokens})

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        if head.status >= 400:
            return FailedMeter()
        if "event-stream" in head.content_type.lower():
            return ChatStreamMeter(count)
        return ChatLinesMeter(count) if call.streamed else ChatBodyMeter(count)

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """End a stream as Cohere ends one that fails (`ChatMessageEndEventDelta`); the SDK raises on no event."""
        if not isinstance(meter, SseMeter):
            return b""
        delta: JsonObject = {"error": refusal.message, "finish_reason": "ERROR"}
        event: JsonObject = {"type": "message-end", "delta": delta}
        if isinstance(meter, ChatLinesMeter):
            return b"\n" * meter.inside_event + encode_json(event) + b"\n"
        return event_bytes(event, "message-end", inside_event=meter.inside_event)


class CohereEmbed(_Cohere):
    """`POST /v2/embed`, `POST /v1/embed`: text and image tokens are billed."""

    name = "cohere.embed"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        model = model_name(body, target)
        builder = ContentBuilder()
        for text in list_of(body, "texts"):
            builder.messages += 1
            add_content(builder, text)
        for item in list_of(body, "inputs"):
            builder.messages += 1
            add_content(builder, mapping(item).get("content"))
        for image in list_of(body, "images"):
            builder.messages += 1
            media = media_from_data_url(image, "image") if isinstance(image, str) else None
            if media is None:
                raise UnreadableRequest("images holds something else than data URLs")
            builder.add_media(media)
        content = builder.build()
        if content.media and "-v3" in model:
            raise UnreadableRequest("Embed v3 bills images by the piece, which is not metered yet; embed-v4.0 does not")
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model,
            streamed=False,
            content=content,
            has_output=False,
            tells_images=True,
            cache_write="none",
            client=client,
        )

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        return FailedMeter() if head.status >= 400 else MetaBodyMeter()


class CohereRerank(_Cohere):
    """`POST /v2/rerank`, `POST /v1/rerank`: billed by search units, from rerank-v5.0 on by tokens."""

    name = "cohere.rerank"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        query = string(body, "query")
        builder = ContentBuilder()
        sizes: list[int] = []
        for document in list_of(body, "documents"):
            builder.messages += 1
            builder.add_text(query)  # each document is read together with the query
            sizes.append(builder.add_text(document) if isinstance(document, str) else builder.add_json(document))
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model_name(body, target),
            streamed=False,
            content=builder.build(),
            has_output=False,
            unit_bound=Usage(search_units=search_units(body, token_bound(query), sizes)),
            cache_write="none",
            client=client,
        )

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        return FailedMeter() if head.status >= 400 else MetaBodyMeter()


def search_units(body: JsonObject, query_tokens: int, document_tokens: list[int]) -> int:
    """Bound the search units; a query takes at most half of a document's room."""
    room = max(TOKENS_PER_DOCUMENT - query_tokens, TOKENS_PER_DOCUMENT // 2)
    most = positive_int(body, "max_tokens_per_doc") or MAX_TOKENS_PER_DOCUMENT
    documents = sum(max(1, ceil_div(min(tokens, most), room)) for tokens in document_tokens)
    return max(1, ceil_div(documents, DOCUMENTS_PER_SEARCH_UNIT))


COHERE = (CohereChat(), CohereEmbed(), CohereRerank())
