"""Stand-in for Cohere: `/v2/chat` streamed and not, `/v2/embed`, `/v2/rerank`.

Shapes: the `cohere` SDK's `V2ChatResponse`, `V2ChatStreamResponse`, `EmbedByTypeResponse`, `V2RerankResponse`. What is
billed is less than what the model saw: the template is free.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.fakes import directory
from tests.fakes.answer import (
    Answer,
    Output,
    Piece,
    as_limit,
    bill_input,
    limit_output,
    spans,
    sse,
    strings_in,
    text_of,
    unstreamed,
)
from tests.fakes.script import Record

HOST = "api.cohere.com"
TEMPLATE_TOKENS = 450
"""Seen by the model and not billed."""


def error(status: int, message: str) -> Answer:
    """Make an error as Cohere sends it."""
    return unstreamed({"id": "e", "message": message}, status=status)


def find(record: Record) -> directory.Endpoint | None:
    """Say which endpoint a request is for."""
    if record.host != HOST:
        return None
    answer = _ANSWERS.get(record.path) if record.method == "POST" else None
    if answer is None:
        return directory.Endpoint("unknown", lambda *_: error(404, "not found"), billable=False, error=error)
    return directory.Endpoint(record.path.rpartition("/")[2], answer, error=error)


def chat(record: Record, body: dict[str, Any]) -> Answer:
    """Answer `POST /v2/chat`."""
    bill_input(record, strings_in([body["messages"], body.get("documents"), body.get("tools")]), len(body["messages"]))
    output = limit_output(record.script, as_limit(body.get("max_tokens")))
    if record.streamed and "application/json" in record.headers.get("accept", ""):
        lines = (replace(piece, data=_line(piece.data)) for piece in _events(record, output))
        return Answer(200, "application/stream+json", lines, streamed=True)
    if record.streamed:
        return Answer(200, "text/event-stream", _events(record, output), streamed=True)
    content = [{"type": "text", "text": text_of(record.script, 0, output.visible_tokens)}]
    message = {"role": "assistant", "content": content}
    answer = {"id": "c", "finish_reason": _finish(output), "message": message, "usage": _usage(record, output)}
    return unstreamed(answer, output.tokens)


def embed(record: Record, body: dict[str, Any]) -> Answer:
    """Answer `POST /v2/embed`."""
    texts = body.get("texts") or []
    bill_input(record, texts, len(texts))
    answer = {
        "id": "e",
        "embeddings": {"float": [[0.5, -0.5] for _ in texts]},
        "texts": texts,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": float(record.input_tokens)}},
        "response_type": "embeddings_by_type",
    }
    return unstreamed(answer)


def rerank(record: Record, body: dict[str, Any]) -> Answer:
    """Answer `POST /v2/rerank`; the stand-in's price is one of a search unit, which it counts as an input token."""
    documents = body["documents"]
    record.input_tokens = -(-len(documents) // 100)
    results = [{"index": index, "relevance_score": 1 / (1 + index)} for index in range(len(documents))]
    billed = {"search_units": float(record.input_tokens)}
    return unstreamed(
        {"id": "r", "results": results, "meta": {"api_version": {"version": "2"}, "billed_units": billed}}
    )


def _line(event: bytes) -> bytes:
    """Give an event's data as a line of its own, which is what clients get that do not ask for an event stream."""
    data = event.partition(b"data: ")[2].strip()
    return data + b"\n" if data != b"[DONE]" else b""


def _finish(output: Output) -> str:
    return "MAX_TOKENS" if output.limited else "COMPLETE"


def _usage(record: Record, output: Output) -> dict[str, Any]:
    return {
        "billed_units": {"input_tokens": float(record.input_tokens), "output_tokens": float(output.tokens)},
        "tokens": {
            "input_tokens": float(record.input_tokens + TEMPLATE_TOKENS),
            "output_tokens": float(output.tokens + 2),
        },
        "cached_tokens": float(record.cache_read_tokens),
    }


def _events(record: Record, output: Output) -> Iterator[Piece]:
    def event(kind: str, tokens: int = 0, **fields: Any) -> Piece:
        return sse({"type": kind, **fields}, kind, tokens)

    start = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield event("message-start", id="c", delta={"message": start})
    yield event("content-start", index=0, delta={"message": {"content": {"type": "text", "text": ""}}})
    for first, last in spans(record.script, output.visible_tokens):
        text = text_of(record.script, first, last)
        yield event("content-delta", last - first, index=0, delta={"message": {"content": {"text": text}}})
    yield event("content-end", index=0)
    delta: dict[str, Any] = {"finish_reason": _finish(output)}
    if record.script.report_usage:
        delta["usage"] = _usage(record, output)
    yield event("message-end", delta=delta)
    yield Piece(b"data: [DONE]\n\n")


_ANSWERS = {"/v2/chat": chat, "/v2/embed": embed, "/v2/rerank": rerank}


directory.FINDERS.append(find)
