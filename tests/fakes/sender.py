"""Sender: sends one answer as its script says, and keeps count."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from tests.fakes.answer import Answer
from tests.fakes.encodings import encoder
from tests.fakes.exchange import ClientLeftError, Exchange, sleep_unless, wait_unless
from tests.fakes.script import Record

_TOKENS_BETWEEN_YIELDS = 32
"""At full speed, others get their turn so often."""


class Sender:
    """Sends one answer as its script says, and keeps count."""

    def __init__(self, exchange: Exchange, record: Record, note: Callable[[], None]) -> None:
        self._exchange = exchange
        self._record = record
        self._script = record.script
        self._note = note
        self._encoder = encoder(record.script.encoding)
        self._headed = False
        self._began = 0.0

    async def send(self, answer: Answer) -> None:
        """Send all of it, or as much as the script and the client let through."""
        script, record = self._script, self._record
        if script.hold_head:
            await wait_unless(self._exchange.gone, script.hold_head.arrive())
        self._began = time.monotonic()
        if answer.streamed:
            await self._head(answer, None)
            await self._body(script.sse_prelude if answer.content_type.startswith("text/event-stream") else b"")
        for number, piece in enumerate(answer.pieces):
            after = record.generated_tokens + piece.output_tokens
            if answer.streamed and script.ending != "complete" and after > script.ending_after_tokens:
                break
            await self._pace(after)
            data = script.rewrite(number, piece.data) if script.rewrite and piece.data else piece.data
            if answer.streamed:
                await self._body(data)
            elif data:
                await self._whole(answer, data)
            elif self._exchange.gone.is_set() and not script.generate_after_disconnect:
                raise ClientLeftError
            record.generated_tokens = after
            self._note()
        await self._end(answer)

    async def _pace(self, tokens: int) -> None:
        """Wait until the token's time has come, by the real clock, and at the test's door."""
        script, gone = self._script, self._exchange.gone
        if script.generate_after_disconnect:
            gone = asyncio.Event()
        if script.hold_stream and tokens > script.hold_after_tokens:
            await wait_unless(gone, script.hold_stream.arrive())
        if script.tokens_per_second:
            due = self._began + tokens / script.tokens_per_second - time.monotonic()
            if due > 0:
                await sleep_unless(gone, due)
        elif tokens % _TOKENS_BETWEEN_YIELDS == 0:
            await asyncio.sleep(0)

    async def _head(self, answer: Answer, length: int | None) -> None:
        script = self._script
        encoding = script.encoding if script.claimed_encoding is None else script.claimed_encoding
        headers = [("content-type", answer.content_type)]
        if encoding:
            headers.append(("content-encoding", encoding))
        headers += [("x-request-id", f"req_{self._record.index}"), *script.headers.items(), *answer.headers.items()]
        self._record.status = answer.status
        await self._exchange.head(answer.status, headers, length)
        self._headed = True

    async def _body(self, data: bytes) -> None:
        if data:
            await self._raw(self._encoder.encode(data))

    async def _raw(self, data: bytes) -> None:
        if self._script.generate_after_disconnect and self._exchange.gone.is_set():
            return
        try:
            await self._exchange.data(data)
        except ClientLeftError:
            if not self._script.generate_after_disconnect:
                raise
            self._record.gone_ns = time.monotonic_ns()
        else:
            self._record.sent_body += data
            self._record.last_write_ns = time.monotonic_ns()

    async def _whole(self, answer: Answer, data: bytes) -> None:
        """Send an unstreamed body, or the half of it."""
        encoded = self._encoder.encode(data) + self._encoder.finish()
        sent = encoded if self._script.ending == "complete" else encoded[: len(encoded) // 2]
        claimed = len(sent) if self._script.ending == "truncated" else len(encoded)
        await self._head(answer, claimed + self._script.content_length_error)
        await self._raw(sent)

    async def _end(self, answer: Answer) -> None:
        ending = self._script.ending
        if not self._headed:
            await self._head(answer, 0)
        if ending == "reset":
            await self._exchange.reset()
        elif ending == "close" or self._script.content_length_error > 0:
            await self._exchange.hang_up()
        else:
            if answer.streamed:
                await self._raw_if_any(self._encoder.finish())
            await self._exchange.end()

    async def _raw_if_any(self, data: bytes) -> None:
        if data:
            await self._raw(data)
