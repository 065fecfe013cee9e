"""Anthropic's batches: `POST /v1/messages/batches` with the requests in it, and what tells their bill.

Shapes: the `anthropic` SDK's `types/messages` (`BatchCreateParams`, `MessageBatch`, `MessageBatchIndividualResponse`).
Only requests that succeeded are billed, at half the price of each kind of token
(https://platform.claude.com/docs/en/build-with-claude/batch-processing).
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import unquote

from llmcap_addon.call import Call, Content
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.anthropic import MESSAGES
from llmcap_addon.wire.anthropic_meter import MessageBodyMeter
from llmcap_addon.wire.batches import MAX_ID_CHARS, NOTHING_BILLED, JobMeter, LinesWatch, ObjectWatch, batch_call, id_of
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.jobs import Outcome, Watch
from llmcap_addon.wire.meters import FailedMeter
from llmcap_addon.wire.text import JsonObject, load_json, mapping

_RESULTS = re.compile(r".*/batches/([^/]+)/results/*")
_UNBILLED = frozenset({"errored", "canceled", "expired"})


class AnthropicBatches:
    """`POST /v1/messages/batches`."""

    name = "anthropic.batches"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        listed = load_json(request.body).get("requests")
        if not isinstance(listed, list):
            raise UnreadableRequest("requests is not a list")
        calls = (_call(mapping(one), number, request, target, client) for number, one in enumerate(listed))
        return batch_call(self.name, request, target, client, calls)

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: a batch is sent whole."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for the answer, which names the batch."""
        return FailedMeter() if head.status >= 400 else JobMeter()

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:
        """Shape a refusal as the API's error body."""
        return MESSAGES.refusal(call, request, refusal, status)

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """Nothing can end half a JSON body; the connection breaks off."""
        return b""


ANTHROPIC_BATCHES = AnthropicBatches()


def _call(one: JsonObject, number: int, request: Request, target: Target, client: str) -> Call:
    """Understand one request as the Messages API does."""
    try:
        params = one.get("params")
        if not isinstance(params, dict):
            raise UnreadableRequest("it holds no `params`")
        inner = Request(
            "POST", request.host, "/v1/messages", request.query, request.headers, json.dumps(params).encode()
        )
        return MESSAGES.parse(inner, target, client)
    except UnreadableRequest as error:
        raise UnreadableRequest(f"requests[{number}]: {error}") from error


class AnthropicBatchJobs:
    """`GET /v1/messages/batches/ID/results`, `GET /v1/messages/batches/ID`, `GET /v1/messages/batches`."""

    name = "anthropic.batch_jobs"

    def watch(self, request: Request, target: Target, client: str) -> Watch:
        """Begin to watch; never raises."""
        found = _RESULTS.fullmatch(request.path)
        if found:
            job = unquote(found[1], errors="replace")[:MAX_ID_CHARS]
            return LinesWatch(job, lambda line: read_result(line, target.provider))
        return ObjectWatch(_batches)


ANTHROPIC_BATCH_JOBS = AnthropicBatchJobs()


def _batches(value: JsonObject) -> Iterator[Outcome]:
    """Read a batch, or a page of them: one that has ended tells how many requests succeeded, but not what they cost."""
    listed = value.get("data")
    for one in listed if isinstance(listed, list) else [value]:
        batch = mapping(one)
        job = id_of(batch, "id")
        none_succeeded = mapping(batch.get("request_counts")).get("succeeded") == 0
        if job and batch.get("processing_status") == "ended" and none_succeeded:
            yield Outcome(job, NOTHING_BILLED)


def read_result(line: JsonObject, provider: str) -> Reading:
    """Read the answer to one request of a batch; raises ValueError.

    The requests are forgotten: a container that ran code is billed as a new one, and a cache write whose life is not
    told as one for an hour.
    """
    result = mapping(line.get("result"))
    if str(result.get("type")) in _UNBILLED:
        return Reading(failed=True, final=True)
    message = result.get("message")
    if result.get("type") != "succeeded" or not isinstance(message, dict):
        raise ValueError("the line is no result of a batch")
    model = message.get("model")
    call = Call(
        dialect=MESSAGES.name,
        provider=provider,
        host="",
        model=model if isinstance(model, str) else "",
        streamed=False,
        content=Content(),
        unit_bound=Usage(code_sessions=1),
    )
    meter = MessageBodyMeter(call, True, lambda _: 0)
    meter.feed(json.dumps(message).encode())
    meter.end()
    return meter.reading
