"""h2 for the stand-ins: many exchanges on one connection, flow control honoured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

from tests.fakes.connection import PeerLeftError, TLSConnection
from tests.fakes.exchange import ClientLeftError, Received, wait_unless
from tests.fakes.http1 import Answerer

RECEIVE_WINDOW = 1 << 24
"""So that a 20 MB upload need not wait for us."""


def _send_data(stream_id: int, data: bytes, h2: H2Connection) -> None:
    h2.send_data(stream_id, data)


class Http2Exchange:
    """One stream of an h2 connection."""

    def __init__(self, server: _Server, stream_id: int) -> None:
        self.received = Received("", "", "", {}, b"")
        self.gone = asyncio.Event()
        self.window_opened = asyncio.Event()
        self.upload = bytearray()
        self.request_headers: dict[str, str] = {}
        self._server = server
        self._stream_id = stream_id

    async def head(self, status: int, headers: list[tuple[str, str]], content_length: int | None) -> None:
        """Send the HEADERS frame."""
        length = [] if content_length is None else [("content-length", str(content_length))]
        fields = [(":status", str(status)), *headers, *length]
        await self._do(lambda h2: h2.send_headers(self._stream_id, fields))

    async def data(self, data: bytes) -> None:
        """Send DATA frames as the windows allow; the kernel has them all when this returns."""
        while data:
            if self.gone.is_set():
                raise ClientLeftError
            size = self._server.sendable(self._stream_id)
            if size == 0:
                self.window_opened.clear()
                await wait_unless(self.gone, self.window_opened)
                continue
            now, data = data[:size], data[size:]
            await self._do(partial(_send_data, self._stream_id, now))

    async def end(self) -> None:
        """Send END_STREAM."""
        await self._do(lambda h2: h2.end_stream(self._stream_id))

    async def reset(self) -> None:
        """Send RST_STREAM."""
        await self._do(lambda h2: h2.reset_stream(self._stream_id, ErrorCodes.INTERNAL_ERROR))

    async def hang_up(self) -> None:
        """Close the connection under all its streams."""
        self._server.connection.close()

    async def _do(self, action: Callable[[H2Connection], None]) -> None:
        if self.gone.is_set():
            raise ClientLeftError
        try:
            action(self._server.h2)
            await self._server.flush()
        except (ProtocolError, PeerLeftError) as error:
            self.gone.set()
            raise ClientLeftError from error


class _Server:
    """All streams of one connection."""

    def __init__(self, connection: TLSConnection, answer: Answerer) -> None:
        self.connection = connection
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._answer = answer
        self._exchanges: dict[int, Http2Exchange] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def flush(self) -> None:
        data = self.h2.data_to_send()
        if data:
            await self.connection.send(data)

    def sendable(self, stream_id: int) -> int:
        try:
            return min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
        except ProtocolError as error:
            raise ClientLeftError from error

    async def run(self) -> None:
        try:
            self.h2.initiate_connection()
            self.h2.increment_flow_control_window(RECEIVE_WINDOW)
            await self.flush()
            while True:
                for event in self.h2.receive_data(await self.connection.receive()):
                    self._handle(event)
                await self.flush()
        except (PeerLeftError, ProtocolError, ValueError):
            pass
        finally:
            for exchange in self._exchanges.values():
                exchange.gone.set()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived():
                exchange = Http2Exchange(self, event.stream_id)
                exchange.request_headers = {str(name): str(value) for name, value in event.headers}
                self._exchanges[event.stream_id] = exchange
            case DataReceived():
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self._exchanges[event.stream_id].upload += event.data
            case StreamEnded():
                self._start(event.stream_id)
            case StreamReset():
                left = self._exchanges.get(event.stream_id)
                if left:
                    left.gone.set()
            case WindowUpdated() | RemoteSettingsChanged():
                for waiting in self._exchanges.values():
                    waiting.window_opened.set()
            case ConnectionTerminated():
                raise PeerLeftError("GOAWAY")
            case _:
                pass

    def _start(self, stream_id: int) -> None:
        exchange = self._exchanges[stream_id]
        headers = {name: value for name, value in exchange.request_headers.items() if not name.startswith(":")}
        pseudo = exchange.request_headers
        exchange.received = Received(
            pseudo[":method"], pseudo[":authority"], pseudo[":path"], headers, bytes(exchange.upload)
        )
        task = asyncio.ensure_future(self._run_one(stream_id, exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_one(self, stream_id: int, exchange: Http2Exchange) -> None:
        try:
            await self._answer(exchange)
        finally:
            self._exchanges.pop(stream_id, None)


async def serve(connection: TLSConnection, answer: Answerer) -> None:
    """Answer the requests of one connection until it closes."""
    await _Server(connection, answer).run()
