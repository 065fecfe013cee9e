"""Mistral's batches: `POST /batch/jobs` with the requests in it, and what tells their bill.

Shapes: the `mistralai` SDK's `CreateBatchJobRequest`, `BatchRequest` and `BatchJob`. A file's lines name neither model
nor endpoint, so what they may cost is not known before the job names both: such a job is refused.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Reading
from llmcap_addon.wire.batches import NOTHING_BILLED, BatchBill, JobMeter, ObjectWatch, batch_call, id_of
from llmcap_addon.wire.dialect import CountTokens, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.jobs import Outcome, Watch
from llmcap_addon.wire.meters import FailedMeter
from llmcap_addon.wire.openai_batch_watch import read_result, results_watch
from llmcap_addon.wire.openai_batches import request_call
from llmcap_addon.wire.openai_common import OpenAIErrors, list_of
from llmcap_addon.wire.text import JsonObject, load_json, mapping, string

_FILE = re.compile(r".*/files/([^/]+)/content/*")
_ENDED = frozenset({"SUCCESS", "FAILED", "TIMEOUT_EXCEEDED", "CANCELLED"})
"""`BatchJobStatus`."""


class MistralBatchesDialect(OpenAIErrors):
    """`POST …/batch/jobs`."""

    name = "mistral.batches"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        if body.get("input_files"):
            raise UnreadableRequest(
                "what the requests of `input_files` may cost is not known: their lines name no model. "
                "Give them in the job itself, under `requests`"
            )
        if body.get("agent_id"):
            raise UnreadableRequest("agent_id: an agent's model is not known before it answers; name a `model`")
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
            if model and body.get("model") not in (None, model):
                raise UnreadableRequest("it names another model than the job")
            return request_call(endpoint, {"model": model, **body}, host, target, client)
        except UnreadableRequest as error:
            raise UnreadableRequest(f"requests[{number}]: {error}") from error

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: a batch is sent whole."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for the answer, which names the job."""
        return FailedMeter() if head.status >= 400 else JobMeter()


MISTRAL_BATCHES = MistralBatchesDialect()


class MistralBatchJobs:
    """`GET …/batch/jobs`, `GET …/batch/jobs/ID` (with `?inline=true` its results too), `POST …/batch/jobs/ID/cancel`,
    `GET …/files/ID/content`."""

    name = "mistral.batch_jobs"

    def watch(self, request: Request, target: Target, client: str) -> Watch:
        """Begin to watch; never raises."""
        found = _FILE.fullmatch(request.path)
        if found:
            return results_watch(unquote(found[1], errors="replace"), target.provider)
        return ObjectWatch(lambda value: _jobs(value, target.provider))


MISTRAL_BATCH_JOBS = MistralBatchJobs()


def _jobs(value: JsonObject, provider: str) -> Iterator[Outcome]:
    listed = value.get("data")
    for one in listed if isinstance(listed, list) else [value]:
        outcome = _outcome(mapping(one), provider)
        if outcome is not None:
            yield outcome


def _outcome(job: JsonObject, provider: str) -> Outcome | None:
    """Say what became of a job; None while it runs, or where nobody can say."""
    name = id_of(job, "id")
    if not name or str(job.get("status")) not in _ENDED:
        return None
    results = id_of(job, "output_file")
    if not results and job.get("succeeded_requests") == 0:
        return Outcome(name, NOTHING_BILLED)
    outputs, succeeded = job.get("outputs"), job.get("succeeded_requests")
    if isinstance(outputs, list) and outputs:
        bill = BatchBill()
        for one in outputs:
            try:
                bill.take(read_result(mapping(one), provider))
            except ValueError as error:
                bill.take(Reading(unreadable=str(error)))
        reading = bill.reading()
        if reading.final and bill.answered == succeeded:
            return Outcome(name, reading, (results,) if results else ())
    told = succeeded if type(succeeded) is int else None
    return Outcome(name, Reading(), (results,), also_requests=told) if results else None
