"""Answer: what a stand-in sends back, as pieces of body and the tokens they cost. Shared by all providers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.script import Record, Script

CREATED = 1_763_900_000
"""The Unix time that every answer names, in seconds."""

_BYTES_PER_INPUT_TOKEN = 4
_TOKENS_PER_MESSAGE = 3


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a body, given to the socket in one go; its tokens are billed once it has been given."""

    data: bytes
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response before encoding and framing."""

    status: int
    content_type: str
    pieces: Iterable[Piece]
    streamed: bool = False
    headers: dict[str, str] = field(default_factory=dict)


def dumps(value: Any) -> bytes:
    """Write compact JSON as the providers do, in UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def unstreamed(value: Any, output_tokens: int = 0, status: int = 200) -> Answer:
    """Make a JSON answer that is generated token by token and then sent whole."""
    return Answer(status, "application/json", _generate_then_send(output_tokens, dumps(value)))


def _generate_then_send(output_tokens: int, body: bytes) -> Iterator[Piece]:
    for _ in range(output_tokens):
        yield Piece(b"", 1)
    yield Piece(body)


def hidden(output_tokens: int) -> Iterator[Piece]:
    """Generate tokens that the stream does not show."""
    for _ in range(output_tokens):
        yield Piece(b"", 1)


def sse(data: Any, event: str = "", output_tokens: int = 0) -> Piece:
    """Make one server-sent event."""
    name = b"event: " + event.encode() + b"\n" if event else b""
    return Piece(name + b"data: " + dumps(data) + b"\n\n", output_tokens)


def bill_input(record: Record, texts: Iterable[str], messages: int) -> None:
    """Bill the input: what the script says, or a quarter of the text's bytes and a few for each message."""
    script = record.script
    size = sum(len(text.encode()) for text in texts)
    parts = script.cached_tokens + script.cache_write_tokens
    counted = max(1, size // _BYTES_PER_INPUT_TOKEN + _TOKENS_PER_MESSAGE * messages)
    record.input_tokens = max(parts, script.input_tokens if script.input_tokens is not None else counted)
    record.cache_read_tokens = script.cached_tokens
    record.cache_write_tokens = script.cache_write_tokens
    record.cache_write_1h_tokens = script.cache_write_1h_tokens


@dataclass(frozen=True, slots=True)
class Output:
    """How much is generated for one choice, once the request's own limit is applied."""

    reasoning_tokens: int
    visible_tokens: int
    limited: bool
    """True when the limit, not the script, ended it."""

    @property
    def tokens(self) -> int:
        """All that is billed for the choice."""
        return self.reasoning_tokens + self.visible_tokens


def limit_output(script: Script, limit: int | None) -> Output:
    """Apply a request's limit, which counts the hidden reasoning too."""
    if limit is None:
        return Output(script.reasoning_tokens, script.output_tokens, limited=False)
    reasoning = min(script.reasoning_tokens, limit)
    visible = min(script.output_tokens, limit - reasoning)
    return Output(reasoning, visible, limited=reasoning + visible < script.reasoning_tokens + script.output_tokens)


def text_of(script: Script, start: int, stop: int) -> str:
    """Give the text of the tokens from `start` up to `stop`."""
    text = script.token_text
    return text * (stop - start) if isinstance(text, str) else "".join(text(index) for index in range(start, stop))


def spans(script: Script, visible_tokens: int) -> Iterator[tuple[int, int]]:
    """Cut the visible tokens into events."""
    step = script.tokens_per_event
    for start in range(0, visible_tokens, step):
        yield start, min(start + step, visible_tokens)


def strings_in(value: Any) -> Iterator[str]:
    """Walk through a JSON value and give every string that is not a key."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings_in(item)


def as_limit(value: Any) -> int | None:
    """Read a token limit out of a request; None when it sets none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
