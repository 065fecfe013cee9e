"""Embeddings: only input is billed.

Shapes: the `openai` SDK's `embedding_create_params` and `create_embedding_response`.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

from llmcap_addon.call import Call
from llmcap_addon.wire.billed import billed_amount
from llmcap_addon.wire.dialect import CountTokens, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.openai_common import ErrorMeter, OpenAIErrors, model_name
from llmcap_addon.wire.openai_input import add_texts
from llmcap_addon.wire.openai_usage import chat_usage, record_bad_usage, record_head, record_usage
from llmcap_addon.wire.text import ContentBuilder, load_json, parse_object


class EmbeddingsDialect(OpenAIErrors):
    """`POST …/embeddings` and `…/contextualizedembeddings`."""

    name = "openai.embeddings"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        builder = ContentBuilder()
        # Voyage's contextualized ones have lists of a document's parts under the other name.
        key = "inputs" if "input" not in body and "inputs" in body else "input"
        add_texts(builder, body.get(key), key)
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model_name(body, target),
            streamed=False,
            content=builder.build(),
            has_output=False,
            terms=target.terms(),
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: there is no output to limit, and the usage is always reported."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        return ErrorMeter(call.provider) if head.status >= 400 else EmbeddingsMeter(call.provider)


EMBEDDINGS = EmbeddingsDialect()


class EmbeddingsMeter(BodyMeter):
    """Reads a whole list of embeddings."""

    def __init__(self, provider: str) -> None:
        super().__init__()
        self._provider = provider

    def on_body(self, body: bytes) -> None:
        """Read the usage."""
        payload = parse_object(body)
        record_head(self.reading, payload)
        self.reading.failed = bool(payload.get("error"))
        try:
            usage = chat_usage(payload.get("usage"), self._provider, has_output=False)
        except ValueError as error:
            record_bad_usage(self.reading, error)
            return
        if usage is not None:
            record_usage(self.reading, usage, final=True, billed=billed_amount(self._provider, payload.get("usage")))
        elif not self.reading.failed:
            self.mark_unreadable("the answer reports no usage")
