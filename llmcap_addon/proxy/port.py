"""Port: listening sockets that several processes take connections from.

The supervisor binds and listens, each worker inherits the sockets and accepts from them. So whoever is less busy comes
first, on every system; connections wait in the one queue while a worker is restarted, and none is lost with it; the
port is held for as long as the supervisor lives, and nobody else can bind beside it. (SO_REUSEPORT would spread
connections by a hash of their addresses, however busy a worker is, on macOS not at all; what waits in a dead worker's
own queue would be lost, and any other process of the same user could take a share of the connections, with their
prompts and keys.)

mitmproxy opens its port by `asyncio.start_server`, one for each of its modes: an event loop of ours gives it the socket
that is there already.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from llmcap_addon.errors import LLMCapError

BACKLOG = 1_024
"""Connections that may wait to be accepted: all that a restart of the only worker leaves waiting. The system may allow
less (net.core.somaxconn)."""
SAME_PORT_TRIES = 10
"""A port that is free at one of a host's addresses may be taken at the other (127.0.0.1, ::1): so many are tried."""
_SKIPPED = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""A host's name may stand for an address of a family that this machine does not use."""


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


def inherit(descriptors: Iterable[int]) -> tuple[socket.socket, ...]:
    """Take over the sockets that the supervisor handed down. Raises OSError for what is none."""
    return tuple(_Inherited(fileno=descriptor) for descriptor in descriptors)


class _Inherited(socket.socket):
    """A socket that listens already: asyncio must not set its queue anew."""

    def listen(self, backlog: int = BACKLOG, /) -> None:
        """Do nothing."""


class PortLoop(asyncio.SelectorEventLoop):
    """An event loop that serves at sockets that are there already, instead of opening them."""

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        super().__init__()
        self._inherited = {address_of(one): one for one in sockets}

    async def create_server(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: Any = None, port: Any = None, **options: Any
    ) -> asyncio.Server:
        """Serve at an address; where a socket of it was inherited, at that."""
        inherited = self._inherited.pop((host, port), None)
        if inherited is None:
            return await super().create_server(protocol_factory, host, port, **options)
        # asyncio accepts so many connections at once before it looks after any of them (`backlog`): with more than one,
        # whoever wakes first takes all that have come, and the other workers none.
        return await super().create_server(protocol_factory, sock=inherited, **{**options, "backlog": 1})
