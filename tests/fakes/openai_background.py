"""Stand-in for OpenAI's background responses: the answer only names a job, and a later request tells what it cost.

Shapes: the `openai` SDK's `types/responses/response` and its events; `resources/responses` (retrieve, cancel).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from tests.fakes import directory, openai
from tests.fakes.answer import Answer, Output, Piece, as_limit, bill_input, limit_output, strings_in, unstreamed
from tests.fakes.script import Record

_RESPONSE = re.compile(r".*/responses/(resp_[^/]+?)(/cancel)?")
_EVENT_STREAM = "text/event-stream; charset=utf-8"


@dataclass
class Job:
    """One response in the background; its record is that of the request that began it."""

    record: Record
    body: dict[str, Any]
    output: Output
    name: str = field(default_factory=lambda: f"resp_{secrets.token_hex(12)}")
    status: str = "queued"

    def end(self, status: str = "completed", generated_tokens: int | None = None) -> None:
        """Be over; from now on it is billed, and says so when asked."""
        self.record.generated_tokens = self.output.tokens if generated_tokens is None else generated_tokens
        self.status = status

    def whole(self) -> dict[str, Any]:
        """Give the response as it stands."""
        response = openai.response(self.record, self.body, self.output)
        told = {"id": self.name, "background": True, "status": self.status}
        if self.status in ("queued", "in_progress"):
            return response | told | {"output": [], "usage": None}
        made = self.record.generated_tokens
        usage = {**response["usage"], "output_tokens": made, "total_tokens": self.record.input_tokens + made}
        return response | told | {"usage": usage if self.record.script.report_usage else None}


JOBS: dict[str, Job] = {}
"""Every job that was ever begun, by its id, the newest last."""


def find(record: Record) -> directory.Endpoint | None:
    """Say which of these endpoints a request is for."""
    if record.method == "POST" and record.path.endswith("/responses") and b'"background":true' in record.body:
        return directory.Endpoint("background", _begin)
    found = _RESPONSE.fullmatch(record.path)
    if found is None or found[1] not in JOBS or (record.method, found[2]) not in (("GET", None), ("POST", "/cancel")):
        return None
    job = JOBS[found[1]]
    return directory.Endpoint("job", lambda of, _: _cancel(job) if found[2] else _retrieve(job, of), billable=False)


directory.FINDERS.append(find)


def _begin(record: Record, body: dict[str, Any]) -> Answer:
    given = body.get("input")
    bill_input(record, strings_in([given, body.get("instructions")]), len(given) if isinstance(given, list) else 1)
    record.service_tier = record.script.service_tier or "default"
    job = Job(record, body, limit_output(record.script, as_limit(body.get("max_output_tokens"))))
    JOBS[job.name] = job
    if record.streamed:
        job.status = "completed"
        return Answer(200, _EVENT_STREAM, _events(job), streamed=True)
    return unstreamed(job.whole())


def _events(job: Job) -> Iterator[Piece]:
    response = openai.response(job.record, job.body, job.output)
    return openai.response_events(job.record, response | {"id": job.name, "background": True}, job.output)


def _retrieve(job: Job, record: Record) -> Answer:
    query = parse_qs(record.query)
    if query.get("stream") != ["true"]:
        return unstreamed(job.whole())
    after = int(query.get("starting_after", ["-1"])[0])

    def pieces() -> Iterator[Piece]:
        for piece in _events(job):
            data = piece.data.partition(b"data: ")[2]
            if data and json.loads(data)["sequence_number"] > after:
                yield Piece(piece.data)

    return Answer(200, _EVENT_STREAM, pieces(), streamed=True)


def _cancel(job: Job) -> Answer:
    if job.status in ("queued", "in_progress"):
        job.end("cancelled", job.output.reasoning_tokens + 5)
    return unstreamed(job.whole())
