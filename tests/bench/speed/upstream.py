"""The provider of the speed benchmarks: HTTP/1.1 over TLS on loopback, as little work as an answer takes.

`python -m tests.bench.speed.upstream CERTIFICATE` prints its port and serves until its standard input closes.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from typing import cast

from tests.bench.speed import talk

SLACK_S = 0.000_2
"""An event that is due so soon is sent at once: to sleep for less takes longer than it."""
TEXT = "token "
_HEADER = b"\r\n" + talk.STREAM_HEADER.encode() + b": "
_LENGTH = b"\r\ncontent-length: "


class Provider(asyncio.Protocol):
    """One connection, with calls that come one after the other."""

    calls = 0
    """Over all connections: every answer has an id of its own."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._stream: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._stream is not None:
            self._stream.cancel()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def data_received(self, data: bytes) -> None:
        """Answer when the request is whole."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.find(_LENGTH)
        size = end + 4
        if at >= 0:
            size += int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0])
        if len(self._buffer) < size:
            return
        body = bytes(self._buffer[end + 4 : size])
        del self._buffer[:size]
        Provider.calls += 1
        assert self._transport is not None
        at = head.find(_HEADER)
        if at < 0:
            self._transport.write(talk.answer(Provider.calls))
            return
        stream = talk.Stream.read(head[at + len(_HEADER) :].split(b"\r\n", 1)[0])
        wants_usage = b'"include_usage"' in body
        self._stream = asyncio.get_running_loop().create_task(self._send(stream, Provider.calls, wants_usage))

    async def _send(self, stream: talk.Stream, number: int, wants_usage: bool) -> None:
        assert self._transport is not None
        transport = self._transport
        text = TEXT * max(1, stream.text_bytes // len(TEXT))
        transport.write(talk.STREAM_HEAD)
        begun_s = time.monotonic()
        for index in range(stream.events):
            if stream.gap_us:
                wait_s = begun_s + index * stream.gap_us / 1e6 - time.monotonic()
                if wait_s > SLACK_S:
                    await asyncio.sleep(wait_s)
            if not self._room.is_set():
                await self._room.wait()
            transport.write(talk.chunk(talk.event(number, index, text, time.monotonic_ns())))
        transport.write(talk.chunk(talk.last_events(number, with_usage=wants_usage)) + talk.LAST_CHUNK)


async def serve(certificate: str) -> None:
    """Serve until standard input closes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.set_alpn_protocols(["http/1.1"])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Provider, "127.0.0.1", 0, ssl=context, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
