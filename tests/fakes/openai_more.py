"""Stand-in for the rest of OpenAI: completions, compaction, audio, images; and Azure, where the model is a deployment.

Shapes: the `openai` SDK's `completion`, `compacted_response`, `transcription`, `images_response` and their events. What
is billed by the second or by the character is billed here in milliseconds and characters, as if these were tokens.
"""

from __future__ import annotations

import email
import json
from collections.abc import Callable, Iterator
from typing import Any

from tests.fakes import directory, openai
from tests.fakes.answer import (
    CREATED,
    Answer,
    Piece,
    as_limit,
    bill_input,
    hidden,
    limit_output,
    spans,
    sse,
    strings_in,
    text_of,
    unstreamed,
)
from tests.fakes.script import Record

AZURE_HOST = "my-res.openai.azure.com"
OTHER_AZURE_HOST = "other-res.openai.azure.com"
DEPLOYMENTS = {
    "my-gpt": "gpt-4o",
    "my-thinker": "o4-mini",
    "prod": "gpt-4o",
    "my-embedder": "text-embedding-3-small",
    "my-voice": "gpt-realtime",
}
"""Deployment → what is deployed there; Azure takes a name in any case."""

_EVENT_STREAM = "text/event-stream; charset=utf-8"
_DONE = Piece(b"data: [DONE]\n\n")
IMAGE_TOKENS, PARTIAL_TOKENS = 272, 100
"""Of one picture of low quality, and of each partial one."""
_PICTURE = "iVBORw0KGgo="
RECORDING = b"\xff\xf3\x84\xc4" + bytes(188)
"""One frame of MPEG-2 layer III: 24 kHz, 64 kbit a second, 24 ms."""


def find(record: Record) -> directory.Endpoint | None:
    """Say which of these endpoints a request is for."""
    if record.method != "POST":
        return None
    if record.host in (AZURE_HOST, OTHER_AZURE_HOST):
        return _at_azure(record)
    for ending, (kind, answer, is_json) in _ENDPOINTS.items():
        if record.path.endswith(ending) and not record.path.endswith("/chat/completions"):
            model: Callable[[Record, Any], str] = (
                (lambda _, body: str(body["model"])) if is_json else (lambda of, _: _form(of)["model"])
            )
            streamed: Callable[[Record, Any], bool] = (
                (lambda _, body: bool(body.get("stream")))
                if is_json
                else (lambda of, _: _form(of).get("stream") == "true")
            )
            return directory.Endpoint(kind, answer, model=model, streamed=streamed, is_json=is_json)
    return None


directory.FINDERS.append(find)


# ── Azure ──


def _at_azure(record: Record) -> directory.Endpoint | None:
    answers = {"/chat/completions": _azure_chat, "/responses": openai.responses, "/embeddings": openai.embeddings}
    for ending, answer in answers.items():
        if record.path.endswith(ending):
            return directory.Endpoint(f"azure{ending}", answer, model=_deployed)
    return None


def _deployed(record: Record, body: Any) -> str:
    """Name the model behind the deployment; KeyError for one that is not there."""
    _, found, rest = record.path.partition("/openai/deployments/")
    name = rest.partition("/")[0] if found else str(body["model"])
    return DEPLOYMENTS[name.lower()]


def _azure_chat(record: Record, body: dict[str, Any]) -> Answer:
    answer = openai.chat(record, body)
    if not record.streamed:
        return answer
    # Azure tells what its filter found in the prompt before anything else.
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": []}

    def pieces() -> Iterator[Piece]:
        yield sse(first)
        yield from answer.pieces

    return Answer(answer.status, answer.content_type, pieces(), streamed=True)


def failure(code: str) -> bytes:
    """Give the body of Azure's answer of status 400."""
    error = {"message": "It can't be done.", "type": None, "param": "prompt", "code": code, "status": 400}
    return json.dumps({"error": error}).encode()


# ── completions, compaction ──


def _completions(record: Record, body: dict[str, Any]) -> Answer:
    script = record.script
    given = body["prompt"]
    prompts = given if isinstance(given, list) else [given]
    bill_input(record, strings_in(prompts), 0)
    limit = as_limit(body.get("max_tokens"))
    output = limit_output(script, 16 if limit is None else limit)
    answers = len(prompts) * (body.get("n") or 1)
    made = len(prompts) * max(body.get("n") or 1, body.get("best_of") or 1)
    head = {"id": f"cmpl-{record.index}", "object": "text_completion", "created": CREATED, "model": record.model}
    usage = {"prompt_tokens": record.input_tokens, "completion_tokens": output.tokens * made}
    usage["total_tokens"] = sum(usage.values())

    def choice(index: int, start: int, stop: int) -> dict[str, Any]:
        text = text_of(script, start, stop)
        return {"text": text, "index": index, "logprobs": None, "finish_reason": "length" if output.limited else "stop"}

    def events() -> Iterator[Piece]:
        asked = bool((body.get("stream_options") or {}).get("include_usage"))
        for start, stop in spans(script, output.visible_tokens):
            for index in range(answers):
                yield sse(head | {"choices": [choice(index, start, stop)]}, output_tokens=stop - start)
        if asked:
            yield sse(head | {"choices": [], "usage": usage})
        yield _DONE

    if record.streamed:
        return Answer(200, _EVENT_STREAM, events(), streamed=True)
    choices = [choice(index, 0, output.visible_tokens) for index in range(answers)]
    return unstreamed(head | {"choices": choices, "usage": usage}, output.tokens * made)


def _compact(record: Record, body: dict[str, Any]) -> Answer:
    script = record.script
    bill_input(record, strings_in(body["input"]), 1)
    usage = {
        "input_tokens": record.input_tokens,
        "input_tokens_details": {"cached_tokens": record.cache_read_tokens, "cache_write_tokens": 0},
        "output_tokens": script.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": record.input_tokens + script.output_tokens,
    }
    item = {"type": "compaction", "id": f"cmp_{record.index}", "encrypted_content": "gAAAAA"}
    answer = {"id": f"resp_{record.index}", "object": "response.compaction", "created_at": CREATED}
    return unstreamed(answer | {"output": [item], "usage": usage}, script.output_tokens)


# ── audio ──


def _form(record: Record) -> dict[str, Any]:
    """Read a form with Python's own reader of mail; files as bytes."""
    head = f"Content-Type: {record.headers['content-type']}\r\n\r\n".encode()
    fields: dict[str, Any] = {}
    for part in email.message_from_bytes(head + record.body).get_payload():
        assert not isinstance(part, str)
        name = str(part.get_param("name", header="content-disposition"))
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)
        fields[name] = data if part.get_filename() else data.decode()
    return fields


def _transcription(record: Record, _: Any) -> Answer:
    script = record.script
    form = _form(record)
    if record.model.startswith("whisper"):
        record.input_tokens = script.input_tokens or 1_000
        usage: dict[str, Any] = {"type": "duration", "seconds": record.input_tokens / 1000}
        if form.get("response_format") == "text":
            return Answer(200, "text/plain; charset=utf-8", [Piece(b"Hello there.\n")])
        return unstreamed({"text": "Hello there.", "usage": usage})
    record.input_tokens = script.input_tokens or 10
    output = script.output_tokens
    usage = {
        "type": "tokens",
        "input_tokens": record.input_tokens,
        "input_token_details": {"audio_tokens": record.input_tokens, "text_tokens": 0},
        "output_tokens": output,
        "total_tokens": record.input_tokens + output,
    }
    text = text_of(script, 0, output)
    if not record.streamed:
        return unstreamed({"text": text, "usage": usage}, output)

    def events() -> Iterator[Piece]:
        for start, stop in spans(script, output):
            yield sse(
                {"type": "transcript.text.delta", "delta": text_of(script, start, stop)}, output_tokens=stop - start
            )
        yield sse({"type": "transcript.text.done", "text": text, "usage": usage})

    return Answer(200, _EVENT_STREAM, events(), streamed=True)


def _speech(record: Record, body: dict[str, Any]) -> Answer:
    record.input_tokens = len(body["input"])
    return Answer(200, "audio/mpeg", [Piece(RECORDING) for _ in range(record.script.output_tokens)])


# ── images ──


def _images(record: Record, body: Any) -> Answer:
    asked = body if isinstance(body, dict) else _form(record)
    bill_input(record, [asked["prompt"]], 1)
    partial = int(asked.get("partial_images") or 0) if record.streamed else 0
    number = int(asked.get("n") or 1)
    tokens = (IMAGE_TOKENS + PARTIAL_TOKENS * partial) * number
    usage = {
        "input_tokens": record.input_tokens,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": record.input_tokens},
        "output_tokens": tokens,
        "total_tokens": record.input_tokens + tokens,
    }
    size = {"size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png"}
    if not record.streamed:
        pictures = [{"b64_json": _PICTURE}] * number
        return unstreamed({"created": CREATED, "data": pictures, "usage": usage} | size, tokens)
    head = {"b64_json": _PICTURE, "created_at": CREATED} | size

    def events() -> Iterator[Piece]:
        for index in range(partial):
            kind = "image_generation.partial_image"
            yield sse({"type": kind, "partial_image_index": index} | head, kind, PARTIAL_TOKENS)
        yield from hidden(IMAGE_TOKENS)
        kind = "image_generation.completed"
        yield sse({"type": kind, "usage": usage} | head, kind)

    return Answer(200, _EVENT_STREAM, events(), streamed=True)


_ENDPOINTS: dict[str, tuple[str, Callable[[Record, Any], Answer], bool]] = {
    "/completions": ("completions", _completions, True),
    "/responses/compact": ("compact", _compact, True),
    "/audio/transcriptions": ("transcription", _transcription, False),
    "/audio/translations": ("transcription", _transcription, False),
    "/audio/speech": ("speech", _speech, True),
    "/images/generations": ("images", _images, True),
    "/images/edits": ("images", _images, False),
}
