"""Stand-ins for batches: files and batches at OpenAI, Mistral's jobs, Anthropic's message batches, Google's.

Shapes: `openai.types.Batch` and `FileObject`, `mistralai.client.models.BatchJob`, `anthropic.types.messages`
(`MessageBatch`, `MessageBatchIndividualResponse`), `google.genai.types.BatchJob` as the API sends it. All requests are
answered at once, at half the price, and billed to the request that begins the batch; its first look says that it runs.
"""

from __future__ import annotations

import email
import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fakes import anthropic, directory, google, openai
from tests.fakes.answer import CREATED, Answer, Piece, dumps, strings_in, text_of, unstreamed
from tests.fakes.compatible import MISTRAL_HOST
from tests.fakes.script import Record

OPENAI_HOST = "api.openai.com"
HOSTS = (OPENAI_HOST, directory.ANTHROPIC_HOST, directory.GOOGLE_HOST, MISTRAL_HOST)


@dataclass
class Batch:
    """One batch: how it looks once it has ended, and its results."""

    running: dict[str, Any]
    ended: dict[str, Any]
    results: bytes = b""
    looks: int = field(default=0)


_FILES: dict[str, bytes] = {}
_BATCHES: dict[str, Batch] = {}
_NUMBERS = itertools.count(1)


def find(record: Record) -> directory.Endpoint | None:
    """Say which endpoint a request is for."""
    for host, method, pattern, endpoint in _ENDPOINTS:
        if record.host == host and record.method == method and re.fullmatch(pattern, record.path):
            return endpoint
    return None


def _answered(record: Record, prompt: Any, limit: Any) -> tuple[int, int, str]:
    """Bill one request; gives its tokens and its text."""
    script = record.script
    read = max(1, sum(len(text.encode()) for text in strings_in(prompt)) // 4)
    written = min(script.output_tokens, limit) if isinstance(limit, int) else script.output_tokens
    record.input_tokens += read
    record.service_tier = "batch"
    return read, written, text_of(script, 0, written)


def _last(record: Record) -> str:
    return record.path.removesuffix("/content").removesuffix("/results").rpartition("/")[2]


def _look(record: Record, _: Any) -> Answer:
    """Show a batch: at first it runs, then it has ended."""
    batch = _BATCHES[_last(record)]
    batch.looks += 1
    return unstreamed(batch.running if batch.looks == 1 else batch.ended)


# ── OpenAI, and Mistral's chats ──


def _upload(record: Record, _: Any) -> Answer:
    """Keep a file."""
    head = f"content-type: {record.headers['content-type']}\r\n\r\n".encode()
    parts: Any = email.message_from_bytes(head + record.body).get_payload()
    form = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in parts}
    name, data = f"file-{next(_NUMBERS)}", bytes(form["file"])
    _FILES[name] = data
    purpose = bytes(form["purpose"]).decode()
    told = {"object": "file", "id": name, "purpose": purpose, "filename": "batch.jsonl", "bytes": len(data)}
    return unstreamed({**told, "created_at": CREATED, "status": "processed"})


def _content(record: Record, _: Any) -> Answer:
    """Give a file's bytes, in small pieces."""
    data = _FILES[_last(record)]
    pieces = (Piece(data[start : start + 100]) for start in range(0, len(data), 100))
    return Answer(200, "application/octet-stream", pieces, streamed=True)


def _chats(record: Record, bodies: list[tuple[str, dict[str, Any]]]) -> tuple[bytes, int]:
    """Answer chats; gives the lines of the results, and the tokens written."""
    lines, total = [], 0
    for name, body in bodies:
        read, written, text = _answered(record, body["messages"], body.get("max_tokens"))
        total += written
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        told = {"id": "c", "object": "chat.completion", "created": CREATED, "model": record.model}
        answer = {**told, "choices": [choice], "usage": usage}
        response = {"status_code": 200, "request_id": "r", "body": answer}
        lines.append(dumps({"id": "b", "custom_id": name, "response": response, "error": None}))
    return b"\n".join(lines) + b"\n", total


def _lines_of(body: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _FILES[body["input_file_id"]].splitlines()]


def _begin_openai(record: Record, body: Any) -> Answer:
    lines = _lines_of(body)
    results, written = _chats(record, [(line["custom_id"], line["body"]) for line in lines])
    name, output = f"batch_{next(_NUMBERS)}", f"file-{next(_NUMBERS)}"
    _FILES[output] = results
    told = {"id": name, "object": "batch", "endpoint": body["endpoint"], "completion_window": "24h"}
    begun = {**told, "input_file_id": body["input_file_id"], "created_at": CREATED, "status": "validating"}
    counts = {"total": len(lines), "completed": len(lines), "failed": 0}
    ended = {**begun, "status": "completed", "output_file_id": output, "request_counts": counts}
    _BATCHES[name] = Batch({**begun, "status": "in_progress"}, ended)
    return unstreamed(begun, written)


def _begin_mistral(record: Record, body: Any) -> Answer:
    requests = body["requests"]
    results, written = _chats(record, [(one["custom_id"], one["body"]) for one in requests])
    name, output = f"job-{next(_NUMBERS)}", f"out-{next(_NUMBERS)}"
    _FILES[output] = results
    counts = {"total_requests": len(requests), "completed_requests": 0, "succeeded_requests": 0, "failed_requests": 0}
    told = {"id": name, "object": "batch", "input_files": [], "endpoint": body["endpoint"], "model": body["model"]}
    begun = {**told, "errors": [], "created_at": CREATED, "status": "QUEUED", **counts}
    done = {"completed_requests": len(requests), "succeeded_requests": len(requests), "output_file": output}
    _BATCHES[name] = Batch({**begun, "status": "RUNNING"}, {**begun, "status": "SUCCESS", **done})
    return unstreamed(begun, written)


# ── Anthropic ──


def _begin_anthropic(record: Record, body: Any) -> Answer:
    lines, total = [], 0
    for one in body["requests"]:
        read, written, text = _answered(record, one["params"]["messages"], one["params"]["max_tokens"])
        total += written
        told = {"id": "msg_1", "type": "message", "role": "assistant", "model": record.model, "stop_sequence": None}
        usage = {"input_tokens": read, "output_tokens": written, "service_tier": "batch"}
        message = {**told, "content": [{"type": "text", "text": text}], "stop_reason": "end_turn", "usage": usage}
        lines.append(dumps({"custom_id": one["custom_id"], "result": {"type": "succeeded", "message": message}}))
    name = f"msgbatch_{next(_NUMBERS)}"
    counts = {"processing": len(lines), "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    times = {"created_at": "2026-11-23T12:00:00Z", "expires_at": "2026-11-24T12:00:00Z"}
    begun = {"id": name, "type": "message_batch", "processing_status": "in_progress", "request_counts": counts, **times}
    counts = {**counts, "processing": 0, "succeeded": len(lines)}
    url = f"https://{record.host}/v1/messages/batches/{name}/results"
    ended = {**begun, "processing_status": "ended", "request_counts": counts, "results_url": url}
    _BATCHES[name] = Batch(begun, ended, b"\n".join(lines) + b"\n")
    return unstreamed(begun, total)


def _anthropic_results(record: Record, _: Any) -> Answer:
    lines = _BATCHES[_last(record)].results.splitlines(keepends=True)
    return Answer(200, "application/x-jsonl", (Piece(line) for line in lines), streamed=True)


# ── Google ──


def _begin_google(record: Record, body: Any) -> Answer:
    answers, total = [], 0
    for one in body["batch"]["inputConfig"]["requests"]["requests"]:
        asked = one["request"]
        limit = asked.get("generationConfig", {}).get("maxOutputTokens")
        read, written, text = _answered(record, asked["contents"], limit)
        total += written
        usage = {"promptTokenCount": read, "candidatesTokenCount": written, "totalTokenCount": read + written}
        usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": read}]  # type: ignore[assignment]
        content = {"role": "model", "parts": [{"text": text}]}
        candidates = [{"content": content, "finishReason": "STOP", "index": 0}]
        answers.append({"response": {"candidates": candidates, "usageMetadata": usage, "modelVersion": record.model}})
    name = f"b{next(_NUMBERS)}"
    told = {"model": f"models/{record.model}", "name": f"batches/{name}", "createTime": "2026-11-23T12:00:00Z"}
    count = str(len(answers))
    running = {"name": f"batches/{name}", "metadata": {**told, "state": "BATCH_STATE_RUNNING"}}
    output = {"inlinedResponses": {"inlinedResponses": answers}}
    stats = {"requestCount": count, "successfulRequestCount": count}
    ended = {**told, "state": "BATCH_STATE_SUCCEEDED", "output": output, "batchStats": stats}
    _BATCHES[name] = Batch(running, {"name": f"batches/{name}", "metadata": ended, "done": True, "response": output})
    return unstreamed({**running, "metadata": {**told, "state": "BATCH_STATE_PENDING"}}, total)


def _free(answer: Callable[[Record, Any], Answer], error: Any = openai.error) -> directory.Endpoint:
    return directory.Endpoint("batches", answer, billable=False, error=error)


def _begun(answer: Callable[[Record, Any], Answer], model: Callable[[Any], str], error: Any) -> directory.Endpoint:
    return directory.Endpoint("batch", answer, model=lambda _, body: model(body), streamed=_never, error=error)


def _never(_: Record, __: Any) -> bool:
    return False


_GOOGLE = directory.Endpoint(
    "batch",
    _begin_google,
    model=lambda record, _: record.path.rpartition("/")[2].partition(":")[0],
    streamed=_never,
    error=google.error,
)


def _endpoints() -> Iterator[tuple[str, str, str, directory.Endpoint]]:
    yield OPENAI_HOST, "POST", "/v1/files", _free(_upload)
    yield (
        OPENAI_HOST,
        "POST",
        "/v1/batches",
        _begun(_begin_openai, lambda body: str(_lines_of(body)[0]["body"]["model"]), openai.error),
    )
    yield MISTRAL_HOST, "POST", "/v1/batch/jobs", _begun(_begin_mistral, lambda body: str(body["model"]), openai.error)
    for host, batches in ((OPENAI_HOST, "/v1/batches"), (MISTRAL_HOST, "/v1/batch/jobs")):
        yield host, "GET", f"{batches}/[^/]+", _free(_look)
        yield host, "GET", "/v1/files/[^/]+/content", _free(_content)
    at = directory.ANTHROPIC_HOST, "/v1/messages/batches"
    model: Callable[[Any], str] = lambda body: str(body["requests"][0]["params"]["model"])  # noqa: E731
    yield at[0], "POST", at[1], _begun(_begin_anthropic, model, anthropic.error)
    yield at[0], "GET", f"{at[1]}/[^/]+", _free(_look, anthropic.error)
    yield at[0], "GET", f"{at[1]}/[^/]+/results", _free(_anthropic_results, anthropic.error)
    yield directory.GOOGLE_HOST, "POST", r"/v1(?:beta)?/models/[^/]+:batchGenerateContent", _GOOGLE
    yield directory.GOOGLE_HOST, "GET", r"/v1(?:beta)?/batches/[^/]+", _free(_look, google.error)


_ENDPOINTS = tuple(_endpoints())


directory.FINDERS.append(find)
