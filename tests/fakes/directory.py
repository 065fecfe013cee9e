"""Directory: which endpoint a request to a stand-in is for, and who answers it.

A provider's module adds its own endpoints by a function in `FINDERS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.fakes import anthropic, google, openai
from tests.fakes.answer import Answer, unstreamed
from tests.fakes.script import Record

ANTHROPIC_HOST = "api.anthropic.com"
GOOGLE_HOST = "generativelanguage.googleapis.com"
OTHER_HOST = "plain.example.com"
"""A host that has nothing to do with language models."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One kind of request."""

    kind: str
    answer: Callable[[Record, Any], Answer]
    """Takes the record and the body, as JSON or as it came."""
    billable: bool = True
    model: Callable[[Record, Any], str] = lambda _, body: str(body["model"])
    streamed: Callable[[Record, Any], bool] = lambda _, body: bool(body.get("stream"))
    error: Callable[[int, str], Answer] = openai.error
    is_json: bool = True


FINDERS: list[Callable[[Record], Endpoint | None]] = []
"""Asked in turn before the endpoints below."""


def find(record: Record) -> Endpoint:
    """Say what a request is for."""
    for finder in FINDERS:
        found = finder(record)
        if found is not None:
            return found
    failure: Callable[[int, str], Answer] = openai.error
    if record.host == ANTHROPIC_HOST:
        failure = anthropic.error
    elif record.host == GOOGLE_HOST and "/openai/" not in record.path:
        failure = google.error
    kind, billable = _kind(record)
    return Endpoint(
        kind,
        _ANSWERS[kind],
        billable,
        model=_model,
        streamed=lambda of, body: of.kind == "stream_generate" or bool(body.get("stream")),
        error=failure,
    )


def read(endpoint: Endpoint, record: Record) -> Any:
    """Read a billable request's body; raises ValueError, AttributeError or KeyError."""
    body = json.loads(record.body) if endpoint.is_json else record.body
    record.model = endpoint.model(record, body)
    record.streamed = endpoint.streamed(record, body)
    return body


def _kind(record: Record) -> tuple[str, bool]:
    """Name the endpoint, and say whether it costs money."""
    path, method = record.path, record.method
    if record.host == OTHER_HOST:
        return "other", False
    if method == "POST":
        if path.endswith("/chat/completions"):
            return "chat", True
        if path.endswith("/responses"):
            return "responses", True
        if path.endswith("/embeddings"):
            return "embeddings", True
        if path.endswith("/images/variations"):
            return "images", True
        if path.endswith("/messages"):
            return "messages", True
        if path.endswith("/messages/count_tokens"):
            return "anthropic_count", False
        if path.endswith(":generateContent"):
            return "generate", True
        if path.endswith(":streamGenerateContent"):
            return "stream_generate", True
        if path.endswith(":countTokens"):
            return "google_count", False
    if method == "GET" and path.endswith("/models"):
        names = {ANTHROPIC_HOST: "anthropic_models", GOOGLE_HOST: "google_models"}
        return names.get(record.host, "openai_models"), False
    return "unknown", False


def _model(record: Record, body: Any) -> str:
    if record.kind in ("generate", "stream_generate"):
        return unquote(record.path.rsplit("/", 1)[-1].rsplit(":", 1)[0])
    return str(body["model"])


def _stream_generate(record: Record, body: Any) -> Answer:
    framing = parse_qs(record.query).get("alt")
    return google.generate(record, body, "sse" if framing == ["sse"] else "array")


_ANSWERS: dict[str, Callable[[Record, Any], Answer]] = {
    "chat": openai.chat,
    "responses": openai.responses,
    "embeddings": openai.embeddings,
    "images": openai.images,
    "messages": anthropic.messages,
    "generate": lambda record, body: google.generate(record, body, "whole"),
    "stream_generate": _stream_generate,
    "anthropic_count": lambda record, _: anthropic.count_tokens(record),
    "google_count": lambda record, _: google.count_tokens(record),
    "openai_models": lambda record, _: openai.models(record),
    "anthropic_models": lambda record, _: anthropic.models(record),
    "google_models": lambda record, _: google.models(record),
    "other": lambda record, _: unstreamed({"hello": "world", "path": record.path}),
    "unknown": lambda record, _: openai.error(404, f"Unknown request URL: {record.method} {record.path}."),
}
