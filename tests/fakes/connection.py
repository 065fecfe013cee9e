"""One accepted TLS connection, with nothing between us and the kernel: what `send` gave is really on its way.

asyncio's own TLS transport keeps buffers of its own, so that a server would count as generated what nobody can have
read. Here `send` returns when the kernel has taken every byte.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Coroutine
from typing import Any

_READ_SIZE = 65_536


class PeerLeftError(Exception):
    """The peer has left: an end of file, a reset, a broken pipe."""


class TLSConnection:
    """TLS over a non-blocking socket, in one event loop."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._sending = asyncio.Lock()
        self._closed: asyncio.Future[None] = self._loop.create_future()

    @property
    def protocol(self) -> str:
        """What ALPN chose; "http/1.1" when the client offered nothing."""
        return self._tls.selected_alpn_protocol() or "http/1.1"

    async def handshake(self) -> None:
        """Do the TLS handshake; raises PeerLeftError when the client does not like us."""
        try:
            while True:
                try:
                    self._tls.do_handshake()
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._fill()
                else:
                    await self._flush()
                    return
        except ssl.SSLError as error:
            raise PeerLeftError(str(error)) from error

    async def receive(self) -> bytes:
        """Read what has arrived, at least one byte; raises PeerLeftError at the end."""
        while True:
            try:
                data = self._tls.read(_READ_SIZE)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError as error:
                raise PeerLeftError(str(error)) from error
            else:
                if not data:
                    raise PeerLeftError("TLS close_notify")
                return data

    async def send(self, data: bytes) -> None:
        """Give all of `data` to the kernel; raises PeerLeftError when it can't be given."""
        try:
            self._tls.write(data)
        except ssl.SSLError as error:
            raise PeerLeftError(str(error)) from error
        await self._flush()

    async def _flush(self) -> None:
        async with self._sending:
            data = self._outgoing.read()
            if data:
                await self._unless_closed(self._loop.sock_sendall(self._sock, data))

    async def _fill(self) -> None:
        data = await self._unless_closed(self._loop.sock_recv(self._sock, _READ_SIZE))
        if not data:
            raise PeerLeftError("end of file")
        self._incoming.write(data)

    async def _unless_closed[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Do socket work that our own `close` ends too: a closed descriptor wakes nobody up by itself."""
        task = asyncio.ensure_future(work)
        waits: list[asyncio.Future[Any]] = [task, self._closed]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise PeerLeftError("closed by the stand-in")
            return task.result()
        except OSError as error:
            raise PeerLeftError(str(error)) from error
        finally:
            task.cancel()

    def reset(self) -> None:
        """Close with RST: the peer's next read fails."""
        if self._sock.fileno() >= 0:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close the socket without a TLS close_notify."""
        if not self._closed.done():
            self._closed.set_result(None)
        fileno = self._sock.fileno()
        if fileno >= 0:
            self._loop.remove_reader(fileno)
            self._loop.remove_writer(fileno)
            self._sock.close()
