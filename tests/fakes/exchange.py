"""Exchange: one request and the way to answer it, the same over HTTP/1.1 and h2."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came over the wire."""

    method: str
    authority: str
    """As sent, with the port if there was one."""
    target: str
    """Path and query."""
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes = field(repr=False)


class ClientLeftError(Exception):
    """The client left before the answer was whole."""


class Exchange(Protocol):
    """Sends one answer. Every method but `reset` and `hang_up` raises ClientLeftError when the client has left."""

    received: Received
    gone: asyncio.Event
    """Set as soon as the client is seen to have left."""

    async def head(self, status: int, headers: list[tuple[str, str]], content_length: int | None) -> None:
        """Send status and headers; without a length the body is framed by the protocol."""
        ...

    async def data(self, data: bytes) -> None:
        """Send body bytes; returns when the kernel has them."""
        ...

    async def end(self) -> None:
        """End the body cleanly."""
        ...

    async def reset(self) -> None:
        """End this answer the hard way: RST on HTTP/1.1, RST_STREAM on h2."""
        ...

    async def hang_up(self) -> None:
        """Close the whole connection within the body."""
        ...


async def sleep_unless(gone: asyncio.Event, seconds: float) -> None:
    """Let real time pass; raises ClientLeftError as soon as the client has left."""
    if not gone.is_set():
        try:
            async with asyncio.timeout(seconds):
                await gone.wait()
        except TimeoutError:
            return
    raise ClientLeftError


async def wait_unless(gone: asyncio.Event, event: asyncio.Event) -> None:
    """Wait for `event`; raises ClientLeftError as soon as the client has left."""
    waits = [asyncio.ensure_future(gone.wait()), asyncio.ensure_future(event.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    if gone.is_set() and not event.is_set():
        raise ClientLeftError
