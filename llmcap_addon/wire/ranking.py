"""Rankings and searches that are billed by tokens or by the request: Voyage, Together, Fireworks, OpenRouter,
Perplexity, and Bedrock's agent runtime.

Shapes: https://docs.voyageai.com/reference/reranker-api, the `together` SDK's `RerankCreateResponse`,
https://docs.fireworks.ai/api-reference/rerank-documents, `openrouter.operations.CreateRerankUsage`, the `perplexity`
SDK's `SearchCreateParams`, and botocore's `bedrock-agent-runtime` `RerankRequest`.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import NO_USAGE, Usage
from llmcap_addon.wire.bedrock_paths import model_name as bedrock_model
from llmcap_addon.wire.bedrock_replies import refusal_response
from llmcap_addon.wire.billed import billed_amount
from llmcap_addon.wire.cohere import search_units
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.meters import BodyMeter, FailedMeter
from llmcap_addon.wire.openai_common import ErrorMeter, OpenAIErrors, list_of, model_name
from llmcap_addon.wire.openai_usage import record_head, record_usage
from llmcap_addon.wire.text import (
    MAX_COUNT,
    ContentBuilder,
    JsonObject,
    load_json,
    mapping,
    parse_object,
    string,
    strings,
    token_bound,
)

UNCUT: JsonObject = {"max_tokens_per_doc": MAX_COUNT}
"""Bedrock's models cut no document that fits in their context; each part of 500 tokens counts as one.
https://aws.amazon.com/bedrock/pricing"""
SEARCH_MODEL = "search"
"""Perplexity's raw search, as the price table calls it."""


class RerankDialect(OpenAIErrors):
    """`POST …/rerank`."""

    name = "compatible.rerank"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        query = string(body, "query")
        builder = ContentBuilder()
        sizes: list[int] = []
        for document in list_of(body, "documents"):
            if mapping(document).get("image") is not None:
                raise UnreadableRequest("pictures among the documents are billed by models unlike; name texts only")
            builder.messages += 1
            builder.add_text(query)  # each document is read together with the query
            sizes.append(builder.add_text(document) if isinstance(document, str) else builder.add_json(document))
        routed = target.provider == "openrouter"  # its sellers bill tokens or search units
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model_name(body, target),
            streamed=False,
            content=builder.build(),
            has_output=False,
            unit_bound=Usage(search_units=search_units(body, token_bound(query), sizes)) if routed else NO_USAGE,
            cache_write="none",
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: there is no output to limit."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        return ErrorMeter(call.provider) if head.status >= 400 else TokensMeter(call.provider)


class TokensMeter(BodyMeter):
    """Reads how many tokens were read; at OpenRouter what was billed, for that may be search units."""

    def __init__(self, provider: str) -> None:
        super().__init__()
        self._provider = provider

    def on_body(self, body: bytes) -> None:
        """Read the usage."""
        payload = parse_object(body)
        record_head(self.reading, payload)
        told = mapping(payload.get("usage"))
        billed = billed_amount(self._provider, told)
        tokens = max((_count(told.get(key)) for key in ("total_tokens", "prompt_tokens")), default=0)
        units = _count(told.get("search_units"))
        if billed is None and (self._provider == "openrouter" or not tokens):
            self.mark_unreadable("the answer reports no usage")
            return
        record_usage(self.reading, Usage(input_tokens=tokens, search_units=units), final=True, billed=billed)


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value <= MAX_COUNT else 0


class SearchDialect(OpenAIErrors):
    """Perplexity's `POST /search`: each request that succeeds is billed, whatever it asks.

    A "fast" one costs a fifth, which the table does not tell: it counts as any other. What one for people costs is not
    said; it counts twice. https://docs.perplexity.ai/docs/getting-started/pricing
    """

    name = "perplexity.search"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=SEARCH_MODEL,
            streamed=False,
            content=ContentBuilder().build(),
            has_output=False,
            unit_bound=Usage(search_units=1 if body.get("search_type", "web") in ("web", "fast", None) else 2),
            bills_after_disconnect=True,
            cache_write="none",
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: there is no output to limit."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        return ErrorMeter(call.provider) if head.status >= 400 else AskedMeter(call.unit_bound)


class AskedMeter(BodyMeter):
    """Posts what the request decides, once it was answered with results."""

    def __init__(self, asked: Usage, *, is_exact: bool = True) -> None:
        super().__init__()
        self._asked, self._is_exact = asked, is_exact

    def on_body(self, body: bytes) -> None:
        """Look whether there are results."""
        payload = parse_object(body)
        if not isinstance(payload.get("results"), list):
            self.mark_unreadable("the answer holds no results")
            return
        if not self._is_exact:
            self.mark_unreadable("the answer does not say as how many queries it counts")
            return
        record_usage(self.reading, self._asked, final=True)


class BedrockRerank:
    """`POST /rerank` of Bedrock's agent runtime: billed by queries of up to 100 documents, of which no answer tells."""

    name = "bedrock.rerank"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        sources = [mapping(source) for source in list_of(body, "sources")]
        if any(source.get("type") != "INLINE" for source in sources):
            raise UnreadableRequest("a source that is not INLINE is not in the body, so its documents can't be counted")
        sizes = [_size(source.get("inlineDocumentSource")) for source in sources]
        units = sum(search_units(UNCUT, _size(query), sizes) for query in list_of(body, "queries"))
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=target.model_of(bedrock_model(_model_arn(body))),
            streamed=False,
            content=ContentBuilder().build(),
            has_output=False,
            unit_bound=Usage(search_units=max(1, units)),
            bills_after_disconnect=True,
            cache_write="none",
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: there is no output to limit."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for an answer."""
        if head.status >= 400:
            return FailedMeter()
        # Several queries, or documents that may be too long for one, count from above.
        return AskedMeter(call.unit_bound, is_exact=call.unit_bound.search_units == 1)

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:
        """Shape a refusal as AWS's error."""
        return refusal_response(refusal, status)

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """Nothing can end half a JSON body; the connection breaks off."""
        return b""


def _model_arn(body: JsonObject) -> str:
    configuration = mapping(mapping(body.get("rerankingConfiguration")).get("bedrockRerankingConfiguration"))
    arn = mapping(configuration.get("modelConfiguration")).get("modelArn")
    if not isinstance(arn, str) or not arn:
        raise UnreadableRequest("no modelArn is named, so its price is unknown")
    return arn


def _size(node: object) -> int:
    """Bound the tokens of all texts in a query or a document."""
    return sum(map(token_bound, strings(node)))


RANKING = (RerankDialect(), SearchDialect(), BedrockRerank())
