"""The events of a client's connections, one after the other, none of them lost.

mitmproxy hands events to its layers under a lock. An event that comes while another is being handled (a hook is done at
once, a stream is nudged) waits for that lock in a task of its own; and so does, behind it, the news that a connection
has closed. If the task with this news is cancelled meanwhile, as it is when a write to a client that has just left
fails, then no layer ever hears that the client is gone: its call is never settled, and the provider's side stays open
and goes on to generate. In a queue there is nothing to wait for, so nothing can be cancelled. It also costs less.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from mitmproxy import connection, ctx
from mitmproxy.proxy import events
from mitmproxy.proxy.server import ConnectionHandler


class EventQueue:
    """Stands in for one handler's `server_event`: what comes while it handles an event is handled next."""

    def __init__(self, handle: Callable[[events.Event], Awaitable[None]]) -> None:
        self._handle = handle
        """mitmproxy's own, which waits for nothing but the lock, and that is free."""
        self._events: deque[events.Event] = deque()
        self._is_busy = False

    async def __call__(self, event: events.Event) -> None:
        """Handle an event now, or right after those that came before."""
        self._events.append(event)
        if self._is_busy:
            return
        self._is_busy = True
        try:
            while self._events:
                await self._handle(self._events.popleft())
        finally:
            self._is_busy = False

    def later(self, event: events.Event) -> None:
        """Have an event handled after the one that is being handled."""
        assert self._is_busy, "nothing is being handled"
        self._events.append(event)


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
