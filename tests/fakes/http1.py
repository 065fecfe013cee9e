"""HTTP/1.1 for the stand-ins, written by hand so that a test can break its rules (a wrong content-length, an RST)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tests.fakes.connection import PeerLeftError, TLSConnection
from tests.fakes.exchange import ClientLeftError, Exchange, Received

MAX_HEAD_BYTES = 1 << 20
"""Far above any real request's head: a test that exceeds it has gone wrong."""

type Answerer = Callable[[Exchange], Awaitable[None]]


class _Reader:
    """Reads requests off a connection, one after the other, and sees the client leave at any time.

    One task reads for the connection's whole life: a read that is cancelled may take bytes with it.
    """

    def __init__(self, connection: TLSConnection) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._over = False
        self.answering: Http1Exchange | None = None
        self.pump = asyncio.ensure_future(self._pump())

    async def _pump(self) -> None:
        try:
            while True:
                self._buffer += await self._connection.receive()
                self._arrived.set()
        except (PeerLeftError, ValueError):
            self._over = True
            self._arrived.set()
            if self.answering:
                self.answering.gone.set()

    async def _more(self) -> None:
        if self._over:
            raise PeerLeftError("end of file")
        self._arrived.clear()
        await self._arrived.wait()

    async def _until(self, mark: bytes) -> bytes:
        while (at := self._buffer.find(mark)) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise PeerLeftError("no end of head")
            await self._more()
        taken = bytes(self._buffer[:at])
        del self._buffer[: at + len(mark)]
        return taken

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            await self._more()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    async def some(self) -> bytes:
        """Give what has come, at least a byte."""
        while not self._buffer:
            await self._more()
        taken = bytes(self._buffer)
        self._buffer.clear()
        return taken

    async def request(self) -> Received:
        head = (await self._until(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.split("\r\n")
        method, target, _ = line.split(" ", 2)
        headers: dict[str, str] = {}
        for one in fields:
            name, _, value = one.partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = bytearray()
            while size := int((await self._until(b"\r\n")).split(b";")[0], 16):
                body += await self._exactly(size)
                await self._until(b"\r\n")
            await self._until(b"\r\n")
            payload = bytes(body)
        else:
            payload = await self._exactly(int(headers.get("content-length", "0")))
        return Received(method, headers.get("host", ""), target, headers, payload)


class Http1Exchange:
    """One request of an HTTP/1.1 connection."""

    def __init__(self, connection: TLSConnection, received: Received, reader: _Reader) -> None:
        self.received = received
        self.gone = asyncio.Event()
        self.keep_alive = received.headers.get("connection", "").lower() != "close"
        self._connection = connection
        self._reader = reader
        self._chunked = False

    async def _send(self, data: bytes) -> None:
        if self.gone.is_set():
            raise ClientLeftError
        try:
            await self._connection.send(data)
        except PeerLeftError as error:
            self.gone.set()
            raise ClientLeftError from error

    async def raw(self, data: bytes) -> None:
        """Send bytes as they are, once the connection speaks something else."""
        await self._send(data)

    async def receive(self) -> bytes:
        """Read bytes as they are, once the connection speaks something else."""
        return await self._reader.some()

    async def head(self, status: int, headers: list[tuple[str, str]], content_length: int | None) -> None:
        """Send the head, chunked when no length is given."""
        self._chunked = content_length is None
        framing = ("transfer-encoding", "chunked") if self._chunked else ("content-length", str(content_length))
        lines = [f"HTTP/1.1 {status} Stand-In", *(f"{name}: {value}" for name, value in [*headers, framing])]
        await self._send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")

    async def data(self, data: bytes) -> None:
        """Send body bytes as one chunk."""
        if data:
            await self._send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def end(self) -> None:
        """Send the last chunk."""
        if self._chunked:
            await self._send(b"0\r\n\r\n")

    async def reset(self) -> None:
        """Reset the connection."""
        self.keep_alive = False
        self._connection.reset()

    async def hang_up(self) -> None:
        """Close the connection, so that the body stays unfinished."""
        self.keep_alive = False
        self._connection.close()


async def serve(connection: TLSConnection, answer: Answerer) -> None:
    """Answer the requests of one connection until it closes."""
    reader = _Reader(connection)
    try:
        while True:
            exchange = Http1Exchange(connection, await reader.request(), reader)
            reader.answering = exchange
            await answer(exchange)
            reader.answering = None
            if exchange.gone.is_set() or not exchange.keep_alive:
                return
    except PeerLeftError:
        return
    finally:
        reader.pump.cancel()
