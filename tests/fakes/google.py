"""Stand-in for the Gemini API: generateContent, streamGenerateContent (SSE and JSON array), countTokens.

Shapes: the `google-genai` SDK's own types (`GenerateContentResponse`), in the API's camelCase; zeros are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

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


def error(status: int, message: str, kind: str = "INVALID_ARGUMENT") -> Answer:
    """Make an error as Google sends it."""
    return unstreamed({"error": {"code": status, "message": message, "status": kind}}, status=status)


def models(_record: Record) -> Answer:
    """List the models: free."""
    return unstreamed({"models": [{"name": "models/gemini-2.5-flash", "version": "001"}]})


def count_tokens(_record: Record) -> Answer:
    """Count a prompt's tokens: free."""
    return unstreamed({"totalTokens": 7})


def generate(record: Record, body: dict[str, Any], framing: Literal["whole", "sse", "array"]) -> Answer:
    """Answer `:generateContent` or `:streamGenerateContent`, as SSE (`alt=sse`) or as one JSON array."""
    config = body.get("generationConfig") or {}
    contents = body["contents"]
    bill_input(record, strings_in([contents, body.get("systemInstruction"), body.get("tools")]), len(contents))
    output = limit_output(record.script, as_limit(config.get("maxOutputTokens")))
    choices = config.get("candidateCount") or 1
    if framing == "whole":
        text = text_of(record.script, 0, output.visible_tokens)
        candidates = [_candidate(index, text, _finish(output)) for index in range(choices)]
        whole = _chunk(record, candidates, output.visible_tokens * choices, output.reasoning_tokens * choices)
        return unstreamed(whole, output.tokens * choices)
    chunks = _chunks(record, output, choices)
    if framing == "sse":
        return Answer(200, "text/event-stream", _as_sse(chunks), streamed=True)
    return Answer(200, "application/json; charset=UTF-8", _as_array(chunks), streamed=True)


def _finish(output: Output) -> str:
    return "MAX_TOKENS" if output.limited else "STOP"


def _candidate(index: int, text: str, finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}}
    if finish:
        candidate["finishReason"] = finish
    return candidate | {"index": index}


def _chunk(record: Record, candidates: list[dict[str, Any]], visible: int, thoughts: int) -> dict[str, Any]:
    chunk: dict[str, Any] = {"candidates": candidates}
    if record.script.report_usage:
        counts = {
            "promptTokenCount": record.input_tokens,
            "cachedContentTokenCount": record.cache_read_tokens,
            "candidatesTokenCount": visible,
            "thoughtsTokenCount": thoughts,
            "totalTokenCount": record.input_tokens + visible + thoughts,
        }
        metadata: dict[str, Any] = {key: count for key, count in counts.items() if count}
        metadata["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": record.input_tokens}]
        chunk["usageMetadata"] = metadata
    version = record.script.response_model or record.model
    return chunk | {"modelVersion": version, "responseId": f"response-{record.index}"}


def _chunks(record: Record, output: Output, choices: int) -> Iterator[tuple[dict[str, Any] | None, int]]:
    """Give each chunk (None: nothing is sent) and the tokens that it costs."""
    for piece in hidden(output.reasoning_tokens * choices):
        yield None, piece.output_tokens
    thoughts = output.reasoning_tokens * choices
    for start, stop in spans(record.script, output.visible_tokens):
        text = text_of(record.script, start, stop)
        finish = _finish(output) if stop == output.visible_tokens else None
        candidates = [_candidate(index, text, finish) for index in range(choices)]
        yield _chunk(record, candidates, stop * choices, thoughts), (stop - start) * choices
    if not output.visible_tokens:
        yield _chunk(record, [_candidate(0, "", _finish(output))], 0, thoughts), 0


def _as_sse(chunks: Iterator[tuple[dict[str, Any] | None, int]]) -> Iterator[Piece]:
    for chunk, tokens in chunks:
        yield Piece(b"" if chunk is None else b"data: " + dumps(chunk) + b"\r\n\r\n", tokens)


def _as_array(chunks: Iterator[tuple[dict[str, Any] | None, int]]) -> Iterator[Piece]:
    opening = b"["
    for chunk, tokens in chunks:
        if chunk is None:
            yield Piece(b"", tokens)
        else:
            yield Piece(opening + dumps(chunk) + b"\n", tokens)
            opening = b",\r\n"
    yield Piece(b"]")
