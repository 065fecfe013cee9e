"""What tells the bill of batches in OpenAI's shape: the upload of their file, the batch itself, its file of results.

A batch that has ended names the file of its results, each with the usage it is billed for; so the bill is known when
that file is downloaded. The batch's own `usage` (the `openai` SDK's `BatchUsage`) leaves out what may be billed beside
plain tokens (cache writes, audio, tools, longer prompts): it is the bill only where nothing of that is possible.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

from llmcap_addon.call import Call, Content
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Reading, Terms, Usage
from llmcap_addon.wire.azure import error_meter
from llmcap_addon.wire.batches import NOTHING_BILLED, TIER, LinesWatch, ObjectWatch, Watching, as_parts, id_of
from llmcap_addon.wire.counts import json_object
from llmcap_addon.wire.dialect import Meter, Request, ResponseHead, Target
from llmcap_addon.wire.jobs import Outcome, Watch
from llmcap_addon.wire.multipart import read_form, text_of
from llmcap_addon.wire.openai_batches import request_call
from llmcap_addon.wire.openai_chat import ChatBodyMeter
from llmcap_addon.wire.openai_common import never_reasons
from llmcap_addon.wire.openai_embeddings import EmbeddingsMeter
from llmcap_addon.wire.openai_responses_meter import ResponsesBodyMeter
from llmcap_addon.wire.openai_usage import responses_usage
from llmcap_addon.wire.text import JsonObject, load_json, mapping, parse_object, string

_FILE = re.compile(r".*/files/([^/]+)/content/*")
_LINE = re.compile(rb"[^\r\n]+")
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
"""`Batch.status`; the `together` SDK writes it in capitals."""
_BILLS_MORE = re.compile("^ft:|audio|realtime|search|transcribe|tts|image")


class OpenAIBatchJobs:
    """`POST …/files`, `POST …/uploads/ID/complete`, `GET …/files/ID/content`, `GET …/batches`, `GET …/batches/ID`,
    `POST …/batches/ID/cancel`."""

    name = "openai.batch_jobs"

    def watch(self, request: Request, target: Target, client: str) -> Watch:
        """Begin to watch; never raises."""
        found = _FILE.fullmatch(request.path)
        if found:
            return results_watch(unquote(found[1], errors="replace"), target.provider)
        path = request.path.rstrip("/")
        if path.endswith("/files"):
            return UploadWatch(request, target, client)
        if path.endswith("/complete"):
            return PartsWatch()
        return ObjectWatch(lambda value: _batches(value, target.provider))


OPENAI_BATCH_JOBS = OpenAIBatchJobs()


# ── the upload ──


class StoringWatch(Watching):
    """Watches what is answered with the id of a stored file."""

    def __init__(self) -> None:
        super().__init__()
        self._kept = bytearray()

    def on_data(self, data: bytes) -> None:
        """Keep the answer, which is short."""
        if len(self._kept) + len(data) <= ObjectWatch.MAX_BYTES:
            self._kept += data

    def outcomes(self) -> Iterable[Outcome]:
        """Read the file's id, of an `Upload` that of its file."""
        value = parse_object(bytes(self._kept))
        self.stored = id_of(mapping(value["file"]) if "file" in value else value, "id")
        return ()


class PartsWatch(StoringWatch):
    """Watches the end of an upload in parts (`resources/uploads`), which nobody has seen together."""

    def stored_calls(self) -> Iterator[Call]:
        """Say that the file can't be bounded."""
        raise UnreadableRequest("it was uploaded in parts (/uploads); upload it in one piece (/files)")


class UploadWatch(StoringWatch):
    """Watches the upload of a file; one for a batch holds a request in each line."""

    def __init__(self, request: Request, target: Target, client: str) -> None:
        super().__init__()
        self._request: Request | None = request
        self._target = target
        self._client = client

    def stored_calls(self) -> Iterator[Call]:
        """Give the requests of a file for a batch; raises UnreadableRequest."""
        request, self._request = self._request, None  # it may be large, and the answer can take its time
        if request is None:
            return iter(())
        form = read_form(request.body, request.headers.get("content-type", ""))
        if text_of(form, "purpose") != "batch":
            return iter(())
        files = [part for part in form if part.name == "file"]
        if len(files) != 1:
            raise UnreadableRequest("the form holds no file, or several")
        lines = (found[0] for found in _LINE.finditer(files[0].data) if found[0].strip())
        return as_parts(self._call(line, number, request.host) for number, line in enumerate(lines))

    def _call(self, line: bytes, number: int, host: str) -> Call:
        try:
            value = load_json(line)
            body = value.get("body")
            if not isinstance(body, dict):
                raise UnreadableRequest("it holds no `body`")
            return request_call(string(value, "url"), body, host, self._target, self._client)
        except UnreadableRequest as error:
            raise UnreadableRequest(f"line {number + 1} of the file: {error}") from error


# ── the batch ──


def _batches(value: JsonObject, provider: str) -> Iterator[Outcome]:
    """Read a batch, or a page of them."""
    listed = value.get("data")
    for one in listed if isinstance(listed, list) else [value]:
        outcome = _outcome(mapping(one), provider)
        if outcome is not None:
            yield outcome


def _outcome(batch: JsonObject, provider: str) -> Outcome | None:
    """Say what became of a batch; None while it runs, or where nobody can say."""
    job, status = id_of(batch, "id"), batch.get("status")
    if not job or not isinstance(status, str) or status.lower() not in _ENDED:
        return None
    results = id_of(batch, "output_file_id")
    counts = mapping(batch.get("request_counts"))
    total, failed, done = counts.get("total"), counts.get("failed"), counts.get("completed")
    if provider == "azure" and (type(failed) is not int or failed != 0):
        return None  # Azure bills filtered prompts; they stand in the file of errors, without a usage
    all_failed = done == 0 and (not results or (total and failed == total))
    if all_failed or (not results and not done and status.lower() == "failed"):
        return Outcome(job, NOTHING_BILLED)
    reading = _whole_bill(batch, provider)
    if reading is None and not results:
        return None
    return Outcome(
        job, reading or Reading(), (results,) if results else (), also_requests=done if type(done) is int else None
    )


def _whole_bill(batch: JsonObject, provider: str) -> Reading | None:
    """Read the batch's own usage where it is the whole bill: embeddings, and texts of OpenAI's plain models, which bill
    neither cache writes nor long prompts apart."""
    model, endpoint = batch.get("model"), batch.get("endpoint")
    if provider != "openai" or not isinstance(model, str) or not isinstance(endpoint, str):
        return None
    embeds = endpoint.endswith("/embeddings")
    speaks_plainly = endpoint.endswith("/completions") and never_reasons(model) and not _BILLS_MORE.search(model)
    if not embeds and not speaks_plainly:
        return None
    try:
        usage = responses_usage(batch.get("usage"), 0, provider)
    except ValueError:
        return None
    if usage is None or not usage.input_tokens:  # zeros stand for batches of before it was told
        return None
    if embeds:
        usage = Usage(input_tokens=usage.input_tokens)
    return Reading(usage=usage, final=True, model=model, terms=Terms(service_tier=TIER))


# ── the results ──


def results_watch(file: str, provider: str) -> Watch:
    """Watch the download of a file of results: {"custom_id", "response": {"status_code", "body"}, "error"} a line."""
    return LinesWatch(file, lambda line: read_result(line, provider))


def read_result(line: JsonObject, provider: str) -> Reading:
    """Read the answer to one request of a batch as its endpoint's own meter does; raises ValueError."""
    if "response" not in line and "error" not in line:
        raise ValueError("the line is no result of a batch")
    response = line.get("response")
    if not isinstance(response, dict):
        return Reading(failed=True, final=True)  # it expired, or never ran
    status = response.get("status_code")
    return read_body(json_object(response.get("body"), "a body"), status if type(status) is int else 200, provider)


def read_body(body: JsonObject, status: int, provider: str) -> Reading:
    """Read one answer's body."""
    kind = body.get("object")
    call = Call("", provider, "", "", streamed=False, content=Content())
    meter: Meter
    if status >= 400:
        meter = error_meter(call, ResponseHead(status))
    elif kind == "response":
        meter = ResponsesBodyMeter(_no_count, provider)
    elif kind in ("chat.completion", "text_completion"):
        meter = ChatBodyMeter(call, _no_count)
    elif kind == "list":
        meter = EmbeddingsMeter(provider)
        body = {key: value for key, value in body.items() if key != "data"}
    else:
        raise ValueError("a result is no answer that is metered in a batch")
    meter.feed(json.dumps(body).encode())
    meter.end()
    return meter.reading


def _no_count(text: str) -> int:  # noqa: ARG001 - as every CountTokens
    """Count nothing: a whole answer tells its usage."""
    return 0
