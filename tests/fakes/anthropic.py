"""Stand-in for Anthropic: Messages and count_tokens.

Shapes: the `anthropic` SDK's own types (`types/message.py`, `types/usage.py`, `types/raw_message_*_event.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.fakes.answer import (
    Answer,
    Output,
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

_FIRST_OUTPUT_TOKENS = 1
"""What `message_start` says of the output: the first token or so, never the final count."""


def error(status: int, message: str, kind: str = "invalid_request_error") -> Answer:
    """Make an error as Anthropic sends it."""
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_stand_in"}
    return unstreamed(body, status=status)


def count_tokens(_record: Record) -> Answer:
    """Count a prompt's tokens: free."""
    return unstreamed({"input_tokens": 7})


def models(_record: Record) -> Answer:
    """List the models: free."""
    names = ("claude-sonnet-4-5", "claude-haiku-4-5")
    data = [{"type": "model", "id": name, "display_name": name, "created_at": "2025-09-29T00:00:00Z"} for name in names]
    return unstreamed({"data": data, "has_more": False, "first_id": names[0], "last_id": names[-1]})


def messages(record: Record, body: dict[str, Any]) -> Answer:
    """Answer `POST /v1/messages`."""
    script = record.script
    bill_input(record, strings_in([body["messages"], body.get("system"), body.get("tools")]), len(body["messages"]))
    output = limit_output(script, as_limit(body["max_tokens"]))
    record.service_tier = script.service_tier or "standard"
    if record.streamed:
        return Answer(200, "text/event-stream; charset=utf-8", _events(record, output), streamed=True)
    content: list[dict[str, Any]] = []
    if output.reasoning_tokens:
        content.append({"type": "thinking", "thinking": "", "signature": "c2lnbmF0dXJl"})
    content.append({"type": "text", "text": text_of(script, 0, output.visible_tokens), "citations": None})
    return unstreamed(_message(record, content, _stop_reason(output), _usage(record, output.tokens)), output.tokens)


def _stop_reason(output: Output) -> str:
    return "max_tokens" if output.limited else "end_turn"


def _message(
    record: Record, content: list[dict[str, Any]], stop_reason: str | None, usage: dict[str, Any]
) -> dict[str, Any]:
    message: dict[str, Any] = {
        "id": f"msg_{record.index}",
        "type": "message",
        "role": "assistant",
        "model": record.script.response_model or record.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
    }
    return message | ({"usage": usage} if record.script.report_usage else {})


def _usage(record: Record, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": record.input_tokens - record.cache_read_tokens - record.cache_write_tokens,
        "cache_creation_input_tokens": record.cache_write_tokens,
        "cache_read_input_tokens": record.cache_read_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": record.cache_write_tokens - record.cache_write_1h_tokens,
            "ephemeral_1h_input_tokens": record.cache_write_1h_tokens,
        },
        "output_tokens": output_tokens,
        "service_tier": record.service_tier,
    }


def _events(record: Record, output: Output) -> Iterator[Piece]:
    script = record.script

    def event(kind: str, fields: dict[str, Any], tokens: int = 0) -> Piece:
        return sse({"type": kind} | fields, kind, tokens)

    first = min(_FIRST_OUTPUT_TOKENS, output.tokens)
    yield event("message_start", {"message": _message(record, [], None, _usage(record, first))})
    index = 0
    if output.reasoning_tokens:
        block = {"type": "thinking", "thinking": "", "signature": ""}
        yield event("content_block_start", {"index": index, "content_block": block})
        yield event("ping", {})
        yield from hidden(output.reasoning_tokens)
        signature = {"type": "signature_delta", "signature": "c2lnbmF0dXJl"}
        yield event("content_block_delta", {"index": index, "delta": signature})
        yield event("content_block_stop", {"index": index})
        index += 1
    yield event("content_block_start", {"index": index, "content_block": {"type": "text", "text": ""}})
    yield event("ping", {})
    for start, stop in spans(script, output.visible_tokens):
        delta = {"type": "text_delta", "text": text_of(script, start, stop)}
        yield event("content_block_delta", {"index": index, "delta": delta}, stop - start)
    yield event("content_block_stop", {"index": index})
    end: dict[str, Any] = {"delta": {"stop_reason": _stop_reason(output), "stop_sequence": None}}
    if script.report_usage:
        counts = _usage(record, output.tokens)
        end["usage"] = {key: value for key, value in counts.items() if key.endswith("_tokens")}
    yield event("message_delta", end)
    yield event("message_stop", {})
