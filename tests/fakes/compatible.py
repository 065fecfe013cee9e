"""Stand-ins for hosts that speak OpenAI's shapes with habits of their own: Mistral, OpenRouter, Perplexity.

Shapes: `mistralai`'s `CompletionChunk` and `UsageInfo`, `openrouter`'s `ChatUsage`, `perplexity`'s `StreamChunk`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from tests.fakes import directory, openai
from tests.fakes.answer import Answer, Piece, dumps
from tests.fakes.script import Record

MISTRAL_HOST = "api.mistral.ai"
OPENROUTER_HOST = "openrouter.ai"
PERPLEXITY_HOST = "api.perplexity.ai"
HOSTS = (MISTRAL_HOST, OPENROUTER_HOST, PERPLEXITY_HOST)


def find(record: Record) -> directory.Endpoint | None:
    """Say which endpoint a request is for."""
    if record.host not in HOSTS or record.method != "POST" or not record.path.endswith("/chat/completions"):
        return None
    return directory.Endpoint("chat", chat)


def chat(record: Record, body: dict[str, Any]) -> Answer:
    """Answer a chat as OpenAI does, with a usage in the last chunk unasked."""
    asked = {**body, "stream_options": {"include_usage": True}} if record.streamed else body
    if record.host == MISTRAL_HOST and "stream_options" in body:
        return openai.error(422, "Extra inputs are not permitted")
    answer = openai.chat(record, asked)
    record.service_tier = ""
    rewrite = _events if record.streamed else _whole
    return replace(answer, pieces=rewrite(record, answer.pieces))


def _whole(record: Record, pieces: Iterable[Piece]) -> Iterator[Piece]:
    for piece in pieces:
        yield replace(piece, data=dumps(_changed(record, json.loads(piece.data)))) if piece.data else piece


def _events(record: Record, pieces: Iterable[Piece]) -> Iterator[Piece]:
    if record.host == OPENROUTER_HOST:
        yield Piece(b": OPENROUTER PROCESSING\n\n")
    for piece in pieces:
        data = piece.data.removeprefix(b"data: ").strip()
        if not data.startswith(b"{"):
            yield piece
            continue
        yield replace(piece, data=b"data: " + dumps(_changed(record, json.loads(data))) + b"\n\n")


def _changed(record: Record, answer: dict[str, Any]) -> dict[str, Any]:
    """Put in what the host adds to a usage; its own word on the bill is the truth to the nano-dollar."""
    answer.pop("service_tier", None)
    usage = answer.get("usage")
    if not usage:
        answer.pop("usage", None)
        return answer
    usd = record.cost_nanousd / 10**9
    if record.host == MISTRAL_HOST:
        usage["service_tier"] = "standard"
    elif record.host == OPENROUTER_HOST:
        usage |= {"cost": usd, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}
    else:
        usage["cost"] = {"input_tokens_cost": 0, "output_tokens_cost": 0, "request_cost": 0, "total_cost": usd}
    return answer


directory.FINDERS.append(find)
