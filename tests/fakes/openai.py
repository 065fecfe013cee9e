"""Stand-in for OpenAI and what speaks like it: chat completions, Responses, embeddings, and a few plain endpoints.

Shapes: the `openai` SDK's own types (`types/chat`, `types/responses`, `types/create_embedding_response.py`).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from typing import Any

from tests.fakes.answer import (
    CREATED,
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

_DONE = Piece(b"data: [DONE]\n\n")
_EVENT_STREAM = "text/event-stream; charset=utf-8"


def error(status: int, message: str, kind: str = "invalid_request_error", code: str | None = None) -> Answer:
    """Make an error as OpenAI sends it."""
    return unstreamed({"error": {"message": message, "type": kind, "param": None, "code": code}}, status=status)


def models(_record: Record) -> Answer:
    """List the models: free."""
    names = ("gpt-4o-mini", "gpt-4o", "o4-mini")
    data = [{"id": name, "object": "model", "created": CREATED, "owned_by": "openai"} for name in names]
    return unstreamed({"object": "list", "data": data})


def chat(record: Record, body: dict[str, Any]) -> Answer:
    """Answer `POST …/chat/completions`."""
    script = record.script
    messages = body["messages"]
    bill_input(record, strings_in([messages, body.get("tools")]), len(messages))
    stated = as_limit(body.get("max_completion_tokens"))
    output = limit_output(script, stated if stated is not None else as_limit(body.get("max_tokens")))
    choices = body.get("n") or 1
    record.service_tier = script.service_tier or "default"
    head = {
        "id": f"chatcmpl-{record.index}",
        "created": CREATED,
        "model": script.response_model or record.model,
        "service_tier": record.service_tier,
        "system_fingerprint": "fp_stand_in",
    }
    if record.streamed:
        include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        head["object"] = "chat.completion.chunk"
        return Answer(
            200, _EVENT_STREAM, _chat_events(record, head, output, choices, include_usage=include_usage), streamed=True
        )
    message = {"role": "assistant", "content": text_of(script, 0, output.visible_tokens), "refusal": None}
    answer: dict[str, Any] = head | {
        "object": "chat.completion",
        "choices": [
            {"index": index, "message": message, "logprobs": None, "finish_reason": _finish_reason(output)}
            for index in range(choices)
        ],
    }
    if script.report_usage:
        answer["usage"] = _chat_usage(record, output, choices)
    return unstreamed(answer, output.tokens * choices)


def _finish_reason(output: Output) -> str:
    return "length" if output.limited else "stop"


def _chat_usage(record: Record, output: Output, choices: int) -> dict[str, Any]:
    details: dict[str, Any] = {"cached_tokens": record.cache_read_tokens, "audio_tokens": 0}
    if record.cache_write_tokens:
        details["cache_write_tokens"] = record.cache_write_tokens
    return {
        "prompt_tokens": record.input_tokens,
        "completion_tokens": output.tokens * choices,
        "total_tokens": record.input_tokens + output.tokens * choices,
        "prompt_tokens_details": details,
        "completion_tokens_details": {
            "reasoning_tokens": output.reasoning_tokens * choices,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _chat_events(
    record: Record, head: dict[str, Any], output: Output, choices: int, *, include_usage: bool
) -> Iterator[Piece]:
    finish = _finish_reason(output)
    usage: dict[str, Any] = {"usage": None} if include_usage else {}

    def chunk(index: int, delta: dict[str, Any], reason: str | None, tokens: int = 0) -> Piece:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return sse(head | {"choices": [choice]} | usage, output_tokens=tokens)

    for index in range(choices):
        yield chunk(index, {"role": "assistant", "content": "", "refusal": None}, None)
    yield from hidden(output.reasoning_tokens * choices)
    for start, stop in spans(record.script, output.visible_tokens):
        for index in range(choices):
            yield chunk(index, {"content": text_of(record.script, start, stop)}, None, stop - start)
    for index in range(choices):
        yield chunk(index, {}, finish)
    if include_usage and record.script.report_usage:
        yield sse(head | {"choices": [], "usage": _chat_usage(record, output, choices)})
    yield _DONE


def responses(record: Record, body: dict[str, Any]) -> Answer:
    """Answer `POST …/responses`."""
    script = record.script
    given = body.get("input")
    bill_input(record, strings_in([given, body.get("instructions")]), len(given) if isinstance(given, list) else 1)
    output = limit_output(script, as_limit(body.get("max_output_tokens")))
    record.service_tier = script.service_tier or "default"
    whole = response(record, body, output)
    if record.streamed:
        return Answer(200, _EVENT_STREAM, response_events(record, whole, output), streamed=True)
    return unstreamed(whole, output.tokens)


def response(record: Record, body: dict[str, Any], output: Output) -> dict[str, Any]:
    """Make a whole response."""
    script = record.script
    items: list[dict[str, Any]] = []
    if output.reasoning_tokens:
        items.append({"id": f"rs_{record.index}", "type": "reasoning", "summary": []})
    content = {
        "type": "output_text",
        "text": text_of(script, 0, output.visible_tokens),
        "annotations": [],
        "logprobs": [],
    }
    status = "incomplete" if output.limited else "completed"
    items.append(
        {"id": f"msg_{record.index}", "type": "message", "role": "assistant", "status": status, "content": [content]}
    )
    usage = {
        "input_tokens": record.input_tokens,
        "input_tokens_details": {
            "cached_tokens": record.cache_read_tokens,
            "cache_write_tokens": record.cache_write_tokens,
        },
        "output_tokens": output.tokens,
        "output_tokens_details": {"reasoning_tokens": output.reasoning_tokens},
        "total_tokens": record.input_tokens + output.tokens,
    }
    return {
        "id": f"resp_{record.index}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if output.limited else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": script.response_model or record.model,
        "output": items,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": record.service_tier,
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage if script.report_usage else None,
        "user": None,
        "metadata": {},
    }


def response_events(record: Record, whole: dict[str, Any], output: Output) -> Iterator[Piece]:
    """Make the events that a response is streamed as."""
    number = 0

    def event(kind: str, fields: dict[str, Any], tokens: int = 0) -> Piece:
        nonlocal number
        piece = sse({"type": kind, "sequence_number": number} | fields, kind, tokens)
        number += 1
        return piece

    started = whole | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield event("response.created", {"response": started})
    yield event("response.in_progress", {"response": started})
    message = whole["output"][-1]
    if output.reasoning_tokens:
        place = {"output_index": 0, "item": whole["output"][0]}
        yield event("response.output_item.added", place)
        yield from hidden(output.reasoning_tokens)
        yield event("response.output_item.done", place)
    at = {"output_index": len(whole["output"]) - 1}
    part = at | {"item_id": message["id"], "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    yield event("response.output_item.added", at | {"item": message | {"status": "in_progress", "content": []}})
    yield event("response.content_part.added", part | {"part": empty})
    for start, stop in spans(record.script, output.visible_tokens):
        delta = text_of(record.script, start, stop)
        yield event("response.output_text.delta", part | {"delta": delta, "logprobs": []}, stop - start)
    content = message["content"][0]
    yield event("response.output_text.done", part | {"text": content["text"], "logprobs": []})
    yield event("response.content_part.done", part | {"part": content})
    yield event("response.output_item.done", at | {"item": message})
    yield event(f"response.{whole['status']}", {"response": whole})


def embeddings(record: Record, body: dict[str, Any]) -> Answer:
    """Answer `POST …/embeddings`: only the input is billed."""
    given = body["input"]
    inputs = given if isinstance(given, list) else [given]
    bill_input(record, strings_in(inputs), 0)
    vector = (0.25, -0.5, 0.75)
    packed = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    embedding = packed if body.get("encoding_format") == "base64" else list(vector)
    answer: dict[str, Any] = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": embedding} for index in range(len(inputs))],
        "model": record.script.response_model or record.model,
    }
    if record.script.report_usage:
        answer["usage"] = {"prompt_tokens": record.input_tokens, "total_tokens": record.input_tokens}
    return unstreamed(answer)


def images(record: Record, body: dict[str, Any]) -> Answer:
    """Answer `POST /v1/images/variations`: an endpoint that costs money and that nobody here meters."""
    bill_input(record, strings_in(body.get("prompt")), 1)
    return unstreamed({"created": CREATED, "data": [{"b64_json": "aGVsbG8="}]})
