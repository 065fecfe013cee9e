"""OpenRouter's batches: `POST /batches` with the requests in it; once it has ended, its `usage.cost` is what it billed.

Shapes: the `openrouter` SDK's `BatchSubmitBody` and `BatchObject`; https://openrouter.ai/docs/guides/features/batch-api.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

from collections.abc import Iterator

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Reading, Terms
from llmcap_addon.wire.anthropic import MESSAGES
from llmcap_addon.wire.batches import NOTHING_BILLED, TIER, JobMeter, ObjectWatch, batch_call, id_of
from llmcap_addon.wire.billed import billed_amount
from llmcap_addon.wire.counts import name
from llmcap_addon.wire.dialect import CountTokens, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.jobs import Outcome, Watch
from llmcap_addon.wire.meters import FailedMeter
from llmcap_addon.wire.openai_batches import request_call
from llmcap_addon.wire.openai_common import OpenAIErrors, list_of
from llmcap_addon.wire.openai_usage import chat_usage
from llmcap_addon.wire.openrouter import PROVIDER
from llmcap_addon.wire.text import JsonObject, load_json, mapping, string

_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class OpenRouterBatchesDialect(OpenAIErrors):
    """`POST …/batches`."""

    name = "openrouter.batches"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        endpoint, model = string(body, "endpoint"), string(body, "model")
        calls = (
            self._call(mapping(one), number, endpoint, model, request.host, target, client)
            for number, one in enumerate(list_of(body, "requests"))
        )
        return batch_call(self.name, request, target, client, calls)

    def _call(
        self, one: JsonObject, number: int, endpoint: str, model: str, host: str, target: Target, client: str
    ) -> Call:
        try:
            body = one.get("body")
            if not isinstance(body, dict):
                raise UnreadableRequest("it holds no `body`")
            if body.get("model") not in (None, model):
                raise UnreadableRequest("it names another model than the batch")
            return request_call(endpoint, {**body, "model": model}, host, target, client, (MESSAGES,))
        except UnreadableRequest as error:
            raise UnreadableRequest(f"requests[{number}]: {error}") from error

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: a batch is sent whole."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for the answer, which names the batch."""
        return FailedMeter() if head.status >= 400 else JobMeter()


OPENROUTER_BATCHES = OpenRouterBatchesDialect()


class OpenRouterBatchJobs:
    """`GET …/batches`, `GET …/batches/ID`."""

    name = "openrouter.batch_jobs"

    def watch(self, request: Request, target: Target, client: str) -> Watch:
        """Begin to watch; never raises."""
        return ObjectWatch(_batches)


OPENROUTER_BATCH_JOBS = OpenRouterBatchJobs()


def _batches(value: JsonObject) -> Iterator[Outcome]:
    """Read a batch, or a page of them."""
    listed = value.get("data")
    for one in listed if isinstance(listed, list) else [value]:
        outcome = _outcome(mapping(one))
        if outcome is not None:
            yield outcome


def _outcome(batch: JsonObject) -> Outcome | None:
    """Say what became of a batch; None while it runs, or where it does not say what it cost."""
    job = id_of(batch, "id")
    if not job or str(batch.get("status")) not in _ENDED:
        return None
    raw = batch.get("usage")
    billed = billed_amount(PROVIDER, raw)
    if raw is None and mapping(batch.get("request_counts")).get("completed") == 0:
        return Outcome(job, NOTHING_BILLED)
    usage = chat_usage(raw, PROVIDER)
    if billed is None or usage is None:
        return None
    reading = Reading(
        usage=usage, final=True, billed=billed, model=name(batch, "model"), terms=Terms(service_tier=TIER)
    )
    return Outcome(job, reading)
