"""The events of a client's connections, one after the other, none of them lost.

mitmproxy hands events to its layers under a lock. An event that comes while another is being handled (a hook is done at
once, a stream is nudged) waits for that lock in a task of its own; and so does, behind it, the news that a connection
has closed. If the task with this news is cancelled meanwhile, as it is when a write to a client that has just left
fails, then no layer ever hears that the client is gone: its call is never settled, and the provider's side stays open
and goes on to generate. What is in a queue is handled, whatever becomes of who brought it. It also costs less.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

from mitmproxy import connection, ctx
from mitmproxy.proxy import events
from mitmproxy.proxy.server import ConnectionHandler

SLICE_S = 0.005
"""After so long one connection's events give way to all others: a hundred of them, or so."""


class EventQueue:
    """Stands in for one handler's `server_event`: what comes while it handles an event is handled next.

    One piece of data may hold thousands of messages, each of which brings further events. So that no connection has the
    event loop for itself, who handles them gives way now and then; who brings more meanwhile waits until all is done,
    or a fast sender would fill the memory.
    """

    def __init__(self, handle: Callable[[events.Event], Awaitable[None]]) -> None:
        self._handle = handle
        """mitmproxy's own, which waits for nothing but the lock, and that is free."""
        self._events: deque[events.Event] = deque()
        self._is_busy = False
        self._done: asyncio.Future[None] | None = None
        """There once way was given; then set when all is done."""

    async def __call__(self, event: events.Event) -> None:
        """Handle an event now, or right after those that came before. A task that is cancelled here hears it later."""
        self._events.append(event)
        if self._done is not None:
            await _patiently(self._done)
        elif not self._is_busy:
            await self._handle_all()

    def later(self, event: events.Event) -> None:
        """Have an event handled after the one that is being handled."""
        assert self._is_busy, "nothing is being handled"
        self._events.append(event)

    async def _handle_all(self) -> None:
        self._is_busy = True
        until_s = time.monotonic() + SLICE_S
        cancelled: asyncio.CancelledError | None = None
        try:
            while self._events:
                await self._handle(self._events.popleft())
                if time.monotonic() > until_s and self._events:
                    self._done = self._done or asyncio.get_running_loop().create_future()
                    try:
                        await asyncio.sleep(0)
                    except asyncio.CancelledError as error:
                        cancelled = error
                    until_s = time.monotonic() + SLICE_S
        finally:
            self._is_busy = False
            if self._done is not None:
                self._done.set_result(None)
                self._done = None
        _cancel(cancelled)


async def _patiently(done: asyncio.Future[None]) -> None:
    cancelled: asyncio.CancelledError | None = None
    while not done.done():
        try:
            await asyncio.shield(done)
        except asyncio.CancelledError as error:
            cancelled = error
    _cancel(cancelled)


def _cancel(cancelled: asyncio.CancelledError | None) -> None:
    """Cancel this task now that it can't lose anything by it: at its next wait."""
    task = asyncio.current_task()
    if cancelled is not None and task is not None:
        task.cancel(*cancelled.args)


def queue_events(handler: ConnectionHandler) -> None:
    """From now on, let this handler's events go through a queue."""
    vars(handler)["server_event"] = EventQueue(handler.server_event)


def queue_events_of(client: connection.Client) -> None:
    """From now on, let the events of a client that has just connected go through a queue."""
    handler = _handler(client)
    if handler is not None:
        queue_events(handler)


def queue_of(client: connection.Client) -> EventQueue | None:
    """Give the queue that a client's events go through, if they do; a flow that is replayed has none."""
    handler = _handler(client)
    queue = vars(handler).get("server_event") if handler is not None else None
    return queue if isinstance(queue, EventQueue) else None


def _handler(client: connection.Client) -> ConnectionHandler | None:
    handler: ConnectionHandler | None = ctx.master.addons.get("proxyserver").connections.get(client.id)
    return handler
