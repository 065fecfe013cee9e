"""Stand-in for Amazon Bedrock: Converse, InvokeModel for Claude, their binary streams, and CountTokens.

Shapes: botocore's `bedrock-runtime` service model. The frames are written here by Smithy's event stream specification,
with an encoder that shares nothing with llmcap_addon.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from tests.fakes import anthropic, directory
from tests.fakes.answer import (
    Answer,
    Output,
    Piece,
    as_limit,
    bill_input,
    dumps,
    hidden,
    limit_output,
    spans,
    strings_in,
    text_of,
    unstreamed,
)
from tests.fakes.script import Record

HOST = "bedrock-runtime.us-east-1.amazonaws.com"
MANTLE_HOST = "bedrock-mantle.us-east-1.api.aws"
"""Serves OpenAI's and Anthropic's shapes only."""
EVENT_STREAM = "application/vnd.amazon.eventstream"

_TEXT = b"\x07"
"""The type of a header whose value is a string."""


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """Write one message: lengths, their CRC, headers, payload, the CRC of all."""
    block = bytearray()
    for name, value in headers.items():
        block += len(name).to_bytes(1, "big") + name.encode() + _TEXT
        block += len(value.encode()).to_bytes(2, "big") + value.encode()
    message = bytearray((len(block) + len(payload) + 16).to_bytes(4, "big") + len(block).to_bytes(4, "big"))
    message += binascii.crc32(message).to_bytes(4, "big") + block + payload
    return bytes(message + binascii.crc32(message).to_bytes(4, "big"))


def event(name: str, value: dict[str, Any]) -> bytes:
    """Write one event of a stream, padded as AWS does against guesses by length."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, dumps({**value, "p": "abcdefgh"[: len(name) % 8]}))


def exception(name: str, message: str) -> bytes:
    """Write the exception that ends a stream."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, dumps({"message": message}))


def error(status: int, message: str, kind: str = "ValidationException") -> Answer:
    """Make an error as AWS sends it."""
    answer = unstreamed({"message": message}, status=status)
    return Answer(status, "application/json", answer.pieces, headers={"x-amzn-errortype": f"{kind}:http://internal/"})


def find(record: Record) -> directory.Endpoint | None:
    """Say which of Bedrock's operations a request is for; others' shapes are answered by their own stand-ins."""
    if not record.host.startswith("bedrock-") or record.path.startswith(("/openai/", "/anthropic/")):
        return None
    operation = record.path.rpartition("/")[2]
    billed = _BILLED.get(operation)
    if record.method == "POST" and billed is not None:
        return directory.Endpoint(
            operation,
            billed,
            model=lambda of, _: unquote(of.path.split("/")[2]).rpartition("/")[2],  # of an ARN, the profile
            streamed=lambda of, _: of.kind.endswith("-stream"),
            error=error,
        )
    if record.method == "POST" and operation == "count-tokens":
        return directory.Endpoint(operation, lambda *_: unstreamed({"inputTokens": 7}), billable=False)
    return directory.Endpoint("unknown", lambda *_: error(404, "UnknownOperationException"), billable=False)


# ── Converse ──


def _converse(record: Record, body: dict[str, Any]) -> Answer:
    script = record.script
    bill_input(record, strings_in([body["messages"], body.get("system"), body.get("toolConfig")]), 1)
    output = limit_output(script, as_limit(body.get("inferenceConfig", {}).get("maxTokens")))
    record.service_tier = script.service_tier or "default"
    if record.streamed:
        return Answer(200, EVENT_STREAM, _converse_events(record, output), streamed=True)
    content = [{"text": text_of(script, 0, output.visible_tokens)}]
    answer: dict[str, Any] = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _stop_reason(output),
    }
    return unstreamed(answer | _metadata(record, output), output.tokens)


def _converse_events(record: Record, output: Output) -> Iterator[Piece]:
    yield Piece(event("messageStart", {"role": "assistant"}))
    yield from hidden(output.reasoning_tokens)
    for start, stop in spans(record.script, output.visible_tokens):
        delta = {"contentBlockIndex": 0, "delta": {"text": text_of(record.script, start, stop)}}
        yield Piece(event("contentBlockDelta", delta), stop - start)
    yield Piece(event("contentBlockStop", {"contentBlockIndex": 0}))
    yield Piece(event("messageStop", {"stopReason": _stop_reason(output)}))
    if record.script.report_usage:
        yield Piece(event("metadata", _metadata(record, output)))


def _metadata(record: Record, output: Output) -> dict[str, Any]:
    plain = record.input_tokens - record.cache_read_tokens - record.cache_write_tokens
    return {
        "usage": {
            "inputTokens": plain,
            "outputTokens": output.tokens,
            "totalTokens": record.input_tokens + output.tokens,
            "cacheReadInputTokens": record.cache_read_tokens,
            "cacheWriteInputTokens": record.cache_write_tokens,
            "cacheDetails": [
                {"ttl": "1h", "inputTokens": record.cache_write_1h_tokens},
                {"ttl": "5m", "inputTokens": record.cache_write_tokens - record.cache_write_1h_tokens},
            ],
        },
        "metrics": {"latencyMs": 412},
        "serviceTier": {"type": record.service_tier},
        "performanceConfig": {"latency": "standard"},
    }


def _stop_reason(output: Output) -> str:
    return "max_tokens" if output.limited else "end_turn"


# ── InvokeModel, for Claude ──


def _invoke(record: Record, body: dict[str, Any]) -> Answer:
    if "anthropic_version" not in body or "model" in body:
        raise KeyError("anthropic_version")
    answer = anthropic.messages(record, body)
    tier = {"x-amzn-bedrock-service-tier": record.service_tier}
    if not record.streamed:
        return Answer(200, "application/json", answer.pieces, headers=tier)
    headers = {**tier, "x-amzn-bedrock-content-type": "application/json"}
    return Answer(200, EVENT_STREAM, _chunks(record, answer), streamed=True, headers=headers)


def _chunks(record: Record, answer: Answer) -> Iterator[Piece]:
    """Put Anthropic's events into frames; AWS's metrics stand in the last."""
    for piece in answer.pieces:
        _, found, data = piece.data.partition(b"data: ")
        if not found:
            yield piece
            continue
        value = json.loads(data)
        if value["type"] == "message_stop":
            value["amazon-bedrock-invocationMetrics"] = {
                "inputTokenCount": record.input_tokens - record.cache_read_tokens - record.cache_write_tokens,
                "outputTokenCount": record.generated_tokens,
                "invocationLatency": 900,
                "firstByteLatency": 300,
            }
        yield Piece(event("chunk", {"bytes": base64.b64encode(dumps(value)).decode()}), piece.output_tokens)


_BILLED = {
    "converse": _converse,
    "converse-stream": _converse,
    "invoke": _invoke,
    "invoke-with-response-stream": _invoke,
}

directory.FINDERS.append(find)
