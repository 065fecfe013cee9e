"""Google's batches: `models/MODEL:batchGenerateContent` and `:asyncBatchEmbedContent`, and what tells their bill.

Shapes as in the SDK's `batches` (`_CreateBatchJobParameters_to_mldev`, `_BatchJob_from_mldev`): an operation whose
`metadata` is the batch, with the answers in `metadata.output` once it has ended. Half the price of a request by itself
(https://ai.google.dev/gemini-api/docs/batch-api). The requests of an uploaded file come in pieces that are no request
each, so what they may cost is not known: such a batch is refused.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import json
from collections.abc import Iterator

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call, Content
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.batches import NOTHING_BILLED, BatchBill, JobMeter, ObjectWatch, batch_call, id_of
from llmcap_addon.wire.dialect import CountTokens, Dialect, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.google import GENERATE
from llmcap_addon.wire.google_embeddings import EMBEDDINGS
from llmcap_addon.wire.google_meter import ResponseBodyMeter
from llmcap_addon.wire.google_request import items, member, model_and_method, named, refuse_field_masks
from llmcap_addon.wire.jobs import Outcome, Watch
from llmcap_addon.wire.meters import FailedMeter
from llmcap_addon.wire.text import MAX_COUNT, JsonObject, load_json, mapping

_METHODS: dict[str, tuple[str, Dialect]] = {
    "batchGenerateContent": ("generateContent", GENERATE),
    "asyncBatchEmbedContent": ("embedContent", EMBEDDINGS),
}
"""What a batch is called → what each of its requests is, and who reads it."""
_ENDED = frozenset({"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"})
"""`BATCH_STATE_…` (the SDK's `_transformers.t_job_state`)."""


class GoogleBatches:
    """`POST …/models/MODEL:batchGenerateContent`, `:asyncBatchEmbedContent`."""

    name = "google.batches"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        model, method = model_and_method(request.path, tuple(_METHODS))
        refuse_field_masks(request)
        config = member(member(named(load_json(request.body)), "batch"), "inputConfig")
        if config.get("fileName"):
            raise UnreadableRequest(
                "what the requests of an uploaded file may cost is not known, for it is uploaded in pieces; give them "
                "in the batch itself, under inputConfig.requests"
            )
        calls = (
            self._call(member({"one": one}, "one"), number, model, method, request, target, client)
            for number, one in enumerate(items(member(config, "requests"), "requests"))
        )
        return batch_call(self.name, request, target, client, calls)

    def _call(
        self, one: JsonObject, number: int, model: str, method: str, request: Request, target: Target, client: str
    ) -> Call:
        try:
            body = one.get("request")
            if not isinstance(body, dict):
                raise UnreadableRequest("it holds no `request`")
            if body.get("model") not in (None, "", model, f"models/{model}"):
                raise UnreadableRequest("it names another model than the batch")
            inner_method, dialect = _METHODS[method]
            path = f"/v1beta/models/{model}:{inner_method}"
            return dialect.parse(
                Request("POST", request.host, path, {}, request.headers, json.dumps(body).encode()), target, client
            )
        except UnreadableRequest as error:
            raise UnreadableRequest(f"requests[{number}]: {error}") from error

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: a batch is sent whole."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for the answer, which names the batch."""
        return FailedMeter() if head.status >= 400 else JobMeter("name")

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:
        """Shape a refusal as the API's error body."""
        return GENERATE.refusal(call, request, refusal, status)

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """Nothing can end half a JSON body; the connection breaks off."""
        return b""


GOOGLE_BATCHES = GoogleBatches()


class GoogleBatchJobs:
    """`GET …/batches/ID`, `GET …/batches`."""

    name = "google.batch_jobs"

    def watch(self, request: Request, target: Target, client: str) -> Watch:
        """Begin to watch; never raises. Where a mask takes fields out of the answer, their absence tells nothing."""
        try:
            refuse_field_masks(request)
        except UnreadableRequest:
            return ObjectWatch(lambda _: ())
        return ObjectWatch(lambda value: _operations(value, target.provider))


GOOGLE_BATCH_JOBS = GoogleBatchJobs()


def _operations(value: JsonObject, provider: str) -> Iterator[Outcome]:
    """Read an operation, or a page of them."""
    listed = value.get("operations")
    for one in listed if isinstance(listed, list) else [value]:
        outcome = _outcome(mapping(one), provider)
        if outcome is not None:
            yield outcome


def _outcome(operation: JsonObject, provider: str) -> Outcome | None:
    """Say what became of a batch; None while it runs, or where nobody can say."""
    job, batch = id_of(operation, "name"), mapping(operation.get("metadata"))
    state = str(batch.get("state")).removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
    if not job or state not in _ENDED:
        return None
    answers = _answers(batch.get("output")) or _answers(operation.get("response"))
    if not answers:
        stats = mapping(batch.get("batchStats"))
        # Zeros are left out of proto JSON: statistics without successes tell that there were none.
        is_none = state != "SUCCEEDED" and stats.get("requestCount") and not stats.get("successfulRequestCount")
        return Outcome(job, NOTHING_BILLED) if is_none else None
    bill = BatchBill()
    for answer in answers:
        bill.take(_reading(mapping(answer), provider))
    reading = bill.reading()
    return Outcome(job, reading, requests=len(answers)) if reading.final else None


def _answers(output: object) -> list[object]:
    found = mapping(mapping(output).get("inlinedResponses")).get("inlinedResponses")
    return found if isinstance(found, list) else []


def _reading(answer: JsonObject, provider: str) -> Reading:
    """Read the answer to one request of a batch (`InlinedResponse`).

    The requests are forgotten: input whose kind is not told counts as the dearest, and a query as one of any kind.
    """
    response = answer.get("response")
    if not isinstance(response, dict):
        return Reading(failed=True, final=True) if answer.get("error") else Reading(unreadable="an answer is missing")
    if "embedding" in response:  # `SingleEmbedContentResponse`
        return _embedded(response)
    model = response.get("modelVersion")
    call = Call(
        dialect=GENERATE.name,
        provider=provider,
        host="",
        model=model if isinstance(model, str) else "",
        streamed=False,
        content=Content(opaque=True, web_searches=DEFAULT_SERVER_TURNS),
    )
    meter = ResponseBodyMeter(call, "", lambda _: 0)
    meter.feed(json.dumps(response).encode())
    meter.end()
    return meter.reading


def _embedded(response: JsonObject) -> Reading:
    """Read one embedding, which need not say what it was made from; an int64 is a string in proto JSON."""
    said = response.get("tokenCount")
    count = int(said) if isinstance(said, str) and said.isdecimal() and len(said) < _MAX_DIGITS else said
    if type(count) is not int or not 0 <= count <= MAX_COUNT:
        return Reading(unreadable="an embedding does not tell its tokens")
    return Reading(usage=Usage(input_tokens=count), final=True)


_MAX_DIGITS = 20
