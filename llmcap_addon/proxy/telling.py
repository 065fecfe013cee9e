"""Telling addons of a request's events at once, where mitmproxy makes a task for each and asks every addon.

A request has four events at least. For each, mitmproxy makes a task, walks its 36 addons twice in search of a hook
of that name, and sends the end of it down through all layers. Most hooks are done when they return; so they are called
on the spot, in the same order, and only one that waits takes the long way (`UntilTold`).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from mitmproxy import connection, exceptions, http
from mitmproxy.addonmanager import AddonManager
from mitmproxy.hooks import UpdateHook
from mitmproxy.proxy import commands, events, layer

from llmcap_addon.proxy.addons import Listener, Listeners, call, report
from llmcap_addon.proxy.queueing import EventQueue, queue_of

AT_ONCE = frozenset({"requestheaders", "request", "responseheaders"})
"""The events behind which a stream may go on at once."""
THEN_BACK = frozenset({"response", "error"})
"""Those behind which a message ends, and the layers of HTTP/1 go on to the next request: they must have come back from
this one, so a stream pauses until they have (`Told`)."""

type Tell = Callable[[commands.StartHook, http.HTTPFlow], asyncio.Task[None] | None]
"""Tells all addons of an event of this flow; gives what is still to be waited for, if anything is."""


@dataclass
class UntilTold(commands.StartHook):
    """The event of waiting for an addon that was not done at once. Our own addon answers it."""

    rest: asyncio.Task[None]
    name = "llmcap_until_told"


class Told(commands.ConnectionCommand):
    """A pause of one stream. To mitmproxy it is something for a connection that is gone, which it ignores."""

    blocking = True

    def __init__(self) -> None:
        super().__init__(_GONE)


@dataclass(repr=False)
class ToldCompleted(events.CommandCompleted):
    """The end of such a pause."""

    command: Told
    reply: None = None


_GONE = connection.Server(address=None)
"""In nobody's transports, ever."""


@dataclass(frozen=True, slots=True)
class Telling:
    """How the streams of one connection tell of their events."""

    tell: Tell
    queue: EventQueue | None = None
    """What the connection's events go through; None leaves events behind which a message ends to mitmproxy."""

    def is_for(self, event: commands.StartHook) -> bool:
        """True when this event is told so. What a layer inside a stream waits for, that layer hears of itself."""
        return event.blocking is True and (
            event.name in AT_ONCE or (event.name in THEN_BACK and self.queue is not None)
        )

    def follow(self, event: commands.StartHook, flow: http.HTTPFlow) -> layer.CommandGenerator[None]:
        """Tell of an event, and pause for as long as it takes."""
        rest = self.tell(event, flow)
        if rest is not None:
            yield from self._wait_for(rest)
        elif event.name in THEN_BACK and self.queue is not None:
            pause = Told()
            self.queue.later(ToldCompleted(pause))
            yield pause

    def _wait_for(self, rest: asyncio.Task[None]) -> layer.CommandGenerator[None]:
        """Come back when all addons have been told."""
        yield UntilTold(rest)
        while not rest.done():  # nobody has waited: ours is not there any more, or one before it lets none hear
            yield self._pause_until(rest) if self.queue is not None else UntilTold(rest)
        if rest.cancelled() or rest.exception() is not None:
            yield UntilTold(rest)  # never over, since our own addon waits for it in vain
            raise RuntimeError("a request went on whose telling failed")

    def _pause_until(self, rest: asyncio.Task[None]) -> Told:
        pause, queue, loop = Told(), self.queue, asyncio.get_running_loop()
        assert queue is not None
        rest.add_done_callback(lambda _: loop.create_task(queue(ToldCompleted(pause))))
        return pause


class Teller:
    """Tells a manager's addons of events, as `AddonManager.handle_lifecycle` does."""

    def __init__(self, addons: AddonManager) -> None:
        self._listeners = Listeners(addons)

    def telling(self, client: connection.Client) -> Telling:
        """Give the way to tell of what happens on a client's connection."""
        return Telling(self.tell, queue_of(client))

    def tell(self, event: commands.StartHook, flow: http.HTTPFlow) -> asyncio.Task[None] | None:
        """Call all hooks of an event; gives a task when one of them waits, which then calls the others too.

        What is no Exception is raised in the task, and the event is then never over; but Python's own ways to end the
        process, SystemExit and KeyboardInterrupt, are raised here.
        """
        hooks = self._listeners.to(event.name)
        for hook in hooks:
            try:
                result = hook(flow)
            except exceptions.AddonHalt:
                break
            except Exception as error:
                report(error)
                continue
            except BaseException as error:
                return _task(_fail(error))
            if result is not None and inspect.isawaitable(result):
                return _task(self._finish(result, hooks, flow))
        updates = list(self._listeners.to(UpdateHook.name))
        return _task(_close(updates, flow)) if updates or flow.intercepted else None

    async def _finish(self, first: Awaitable[None], hooks: Iterator[Listener], flow: http.HTTPFlow) -> None:
        goes_on = await call(lambda: first)
        while goes_on and (hook := next(hooks, None)) is not None:
            goes_on = await call(partial(hook, flow))
        await _close(list(self._listeners.to(UpdateHook.name)), flow)


async def _close(updates: list[Listener], flow: http.HTTPFlow) -> None:
    for hook in updates:
        if not await call(partial(hook, [flow])):
            break
    if flow.intercepted:
        await flow.wait_for_resume()


def _task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Give what is still to be waited for. What was cancelled or failed is never over, as with mitmproxy."""
    task = asyncio.get_running_loop().create_task(work)
    return None if task.done() and not task.cancelled() and task.exception() is None else task


async def _fail(error: BaseException) -> None:
    raise error
