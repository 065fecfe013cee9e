"""Port: listening sockets that several processes take connections from.

The supervisor binds and listens, each worker inherits the sockets and accepts from them. So connections wait in the one
queue while a worker is restarted, and none is lost with it; the port is held for as long as the supervisor lives, and
nobody else can bind beside it. Who has more connections open than another worker lets that one go first (`Shares`):
clients keep theirs for hours, and the system would give most of them to whoever wakes up first. All that works alike
on Linux and macOS. (SO_REUSEPORT would spread connections by a hash of their addresses, on macOS not at all; what waits
in a dead worker's own queue would be lost, and any other process of the same user could bind beside us and take a share
of the connections, with their prompts and keys.)

mitmproxy opens its port by `asyncio.start_server`, once for each of its modes: an event loop of ours gives it the
socket that is there already.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import mmap
import os
import socket
import struct
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from llmcap_addon.errors import LLMCapError

BACKLOG = 1_024
"""Connections that may wait to be accepted: all that a restart of the only worker leaves waiting. The system may allow
less (net.core.somaxconn)."""
SAME_PORT_TRIES = 10
"""A port that is free at one of a host's addresses may be taken at the other (127.0.0.1, ::1): so many are tried."""
YIELD_S = 0.005
"""How long a worker leaves a connection to others that have fewer: longer than they are busy with one request, shorter
than a person or a handshake across the world notices. Then it takes it itself, for they may hang."""
RETRY_S = 1.0
"""How long none is accepted when there are too many open files, as asyncio does."""
_SKIPPED = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""A host's name may stand for an address of a family that this machine does not use."""
_COUNT = struct.Struct("I")
"""A worker's open connections and one; 0 for none that takes any. One that is wrong costs a wait of `YIELD_S`."""

log = logging.getLogger("llmcap")


def listen(host: str, port: int) -> tuple[socket.socket, ...]:
    """Listen at every address of a host, at one port; 0 takes a free one. Raises LLMCapError."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    for tries_left in reversed(range(SAME_PORT_TRIES if port == 0 else 1)):
        try:
            return _listen(host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and tries_left:
                continue
            if error.errno == errno.EADDRINUSE:
                raise LLMCapError(f"{where} is in use by another program; choose another with --listen") from error
            raise LLMCapError(f"can't listen at {where}: {error.strerror or error}") from error
    raise AssertionError("unreachable: the last try returns or raises")


def _listen(host: str, port: int) -> tuple[socket.socket, ...]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    skipped: OSError | None = None
    with ExitStack() as undo:
        sockets: list[socket.socket] = []
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                one = undo.enter_context(socket.socket(family, kind, protocol))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not held up by the last run's connections
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # the other family has its own socket
                one.bind((address[0], port, *address[2:]))
            except OSError as error:
                if error.errno not in _SKIPPED:
                    raise
                skipped = error
                continue
            one.listen(BACKLOG)
            port = one.getsockname()[1]
            sockets.append(one)
        if not sockets:
            raise skipped or OSError(f"{host} has no address")
        undo.pop_all()
        return tuple(sockets)


def address_of(listening: socket.socket) -> tuple[str, int]:
    """Give a socket's host and port."""
    host, port, *_ = listening.getsockname()
    return host, port


def modes(sockets: Iterable[socket.socket]) -> tuple[str, ...]:
    """Name mitmproxy's modes that proxy at these sockets, one each."""
    return tuple(f"regular@{host}:{port}" for host, port in map(address_of, sockets))


class Shares:
    """How many connections each worker has open, in memory that all share."""

    def __init__(self, descriptor: int, number: int) -> None:
        """Take part as a worker, by its number from 1 on; `descriptor` is of a file that `shares_file` has made."""
        self._memory = mmap.mmap(descriptor, 0)
        self._at = (number - 1) * _COUNT.size
        self._open = 0

    def sync(self, connections: int) -> None:
        """Tell how many connections are open now, and that this worker takes more."""
        self._open = connections
        _COUNT.pack_into(self._memory, self._at, connections + 1)

    def accepted(self) -> None:
        """Count one more; the next `sync` is exact again."""
        self.sync(self._open + 1)

    def is_busier(self) -> bool:
        """True when another worker, one that takes connections, has fewer."""
        counts = _COUNT.iter_unpack(self._memory[:])
        return any(0 < count <= self._open for (count,) in counts)


@contextmanager
def shares_file(workers: int) -> Iterator[IO[bytes]]:
    """Make the file of the counts, which has no name, for as long as the block lasts."""
    with tempfile.TemporaryFile(prefix="llmcap-") as file:
        file.truncate(workers * _COUNT.size)
        yield file


def leave(file: IO[bytes], number: int) -> None:
    """Take a worker that has ended out of the counts."""
    os.pwrite(file.fileno(), _COUNT.pack(0), (number - 1) * _COUNT.size)


class PortLoop(asyncio.SelectorEventLoop):
    """An event loop that serves at sockets that are there already, instead of opening them."""

    def __init__(self, sockets: Iterable[socket.socket], shares: Shares) -> None:
        super().__init__()
        self._inherited = {address_of(one): one for one in sockets}
        self._shares = shares
        self._beginning: set[asyncio.Task[object]] = set()

    async def create_server(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: Any = None, port: Any = None, **options: Any
    ) -> asyncio.Server:
        """Serve at an address; where a socket of it was inherited, at that."""
        inherited = self._inherited.pop((host, port), None)
        if inherited is None:
            return await super().create_server(protocol_factory, host, port, **options)
        server = await super().create_server(protocol_factory, sock=inherited, **{**options, "start_serving": False})
        self._watch(inherited, protocol_factory)
        return server  # its `close` takes the reader and the socket away

    def _watch(self, listening: socket.socket, protocol_factory: Callable[[], asyncio.BaseProtocol]) -> None:
        if listening.fileno() >= 0:
            self.add_reader(listening, self._on_connection, listening, protocol_factory)

    def _on_connection(self, listening: socket.socket, protocol_factory: Callable[[], asyncio.BaseProtocol]) -> None:
        if not self._shares.is_busier():
            self._accept(listening, protocol_factory)
            return
        self.remove_reader(listening)
        self.call_later(YIELD_S, self._accept_after_all, listening, protocol_factory)

    def _accept_after_all(self, listening: socket.socket, protocol_factory: Callable[[], asyncio.BaseProtocol]) -> None:
        if listening.fileno() >= 0:
            self._watch(listening, protocol_factory)
            self._accept(listening, protocol_factory)

    def _accept(self, listening: socket.socket, protocol_factory: Callable[[], asyncio.BaseProtocol]) -> None:
        """Take one connection, if it is still there: the next one may be another worker's."""
        try:
            connection, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # too many open files: what is open must end before more can be taken
            log.error("llmcap: no connection can be taken for %g s: %s", RETRY_S, error.strerror or error)
            self.remove_reader(listening)
            self.call_later(RETRY_S, self._watch, listening, protocol_factory)
            return
        self._shares.accepted()
        connection.setblocking(False)
        begun = self.create_task(self.connect_accepted_socket(protocol_factory, connection))
        self._beginning.add(begun)
        begun.add_done_callback(self._begun)

    def _begun(self, task: asyncio.Task[object]) -> None:
        self._beginning.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("llmcap: a connection could not be served: %s: %s", type(error).__name__, error)
