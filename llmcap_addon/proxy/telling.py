"""Telling addons of a request's events at once, where mitmproxy makes a task for each and asks every addon.

A request has four events at least. For each, mitmproxy makes a task, walks its 36 addons twice in search of a hook
of that name, and sends the end of it down through all layers. Most hooks are done when they return; so those of three
of the events are called on the spot, in the same order, and only one that waits takes the long way (`UntilTold`).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from mitmproxy import exceptions, http
from mitmproxy.addonmanager import AddonManager, safecall, traverse
from mitmproxy.hooks import UpdateHook
from mitmproxy.proxy import commands

AT_ONCE = frozenset({"requestheaders", "request", "responseheaders"})
"""The events that are told so. Behind `response` and `error` a message ends, and the layers of HTTP/1 go on to the next
request: they must have come back from this one, which mitmproxy's way sees to."""

log = logging.getLogger(__name__)

type Tell = Callable[[commands.StartHook, http.HTTPFlow], asyncio.Task[None] | None]
"""Tells all addons of an event of this flow; gives what is still to be waited for, if anything is."""

_UNCHANGING = ("mitmproxy.", "llmcap_addon.")
"""Packages whose addons don't grow hooks while they run. A script may, and it may be loaded again."""


@dataclass
class UntilTold(commands.StartHook):
    """The event of waiting for an addon that was not done at once. Our own addon answers it."""

    rest: asyncio.Task[None]
    name = "llmcap_until_told"


class Teller:
    """Tells a manager's addons of events, as `AddonManager.handle_lifecycle` does."""

    def __init__(self, addons: AddonManager) -> None:
        self._addons = addons
        self._chain: list[Any] = []
        self._count = 0
        """The chain, and its length, that the following is true of; a manager adds to its list or makes a new one."""
        self._known: dict[str, list[tuple[Callable[..., Any] | None, Any]]] = {}
        """Event → the hooks for it, in order; or an addon that has to be asked each time."""

    def tell(self, event: commands.StartHook, flow: http.HTTPFlow) -> asyncio.Task[None] | None:
        """Call all hooks of an event; gives a task when one of them waits, which then calls the others too.

        Raises nothing: what is no Exception is raised in the task, and the event is then never over.
        """
        hooks = self._hooks(event.name)
        for hook in hooks:
            try:
                result = hook(flow)
            except exceptions.AddonHalt:
                break
            except Exception as error:
                _report(error)
                continue
            except BaseException as error:
                return _task(_fail(error))
            if result is not None and inspect.isawaitable(result):
                return _task(self._finish(result, hooks, flow))
        updates = list(self._hooks(UpdateHook.name))
        return _task(self._close(updates, flow)) if updates or flow.intercepted else None

    async def _finish(self, first: Awaitable[None], hooks: Iterator[Callable[..., Any]], flow: http.HTTPFlow) -> None:
        goes_on = await _call(lambda: first)
        while goes_on and (hook := next(hooks, None)) is not None:
            goes_on = await _call(partial(hook, flow))
        await self._close(list(self._hooks(UpdateHook.name)), flow)

    async def _close(self, updates: list[Callable[..., Any]], flow: http.HTTPFlow) -> None:
        for hook in updates:
            if not await _call(partial(hook, [flow])):
                break
        if flow.intercepted:
            await flow.wait_for_resume()

    def _hooks(self, name: str) -> Iterator[Callable[..., Any]]:
        addons = self._addons
        if addons.chain is not self._chain or len(addons.chain) != self._count:
            self._chain, self._count = addons.chain, len(addons.chain)
            self._known.clear()
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = list(_listeners(addons.chain, name))
        for hook, addon in known:
            if hook is not None:
                yield hook
                continue
            try:
                found = list(_found(addon, name))
            except Exception as error:  # of its own attributes; the addons behind it must hear all the same
                _report(error)
                continue
            yield from found


def _listeners(chain: list[Any], name: str) -> Iterator[tuple[Callable[..., Any] | None, Any]]:
    for addon in chain:
        if type(addon).__module__.startswith(_UNCHANGING) and not hasattr(addon, "addons"):
            for hook in _found(addon, name):
                yield hook, None
        else:
            yield None, addon


def _found(addon: Any, name: str) -> Iterator[Callable[..., Any]]:
    for part in traverse([addon]):
        hook = getattr(part, name, None)
        if callable(hook):
            yield hook


async def _call(hook: Callable[[], Any]) -> bool:
    """Call a hook and wait for it; False when no further one shall hear of the event."""
    try:
        result = hook()
        if result is not None and inspect.isawaitable(result):
            await result
    except exceptions.AddonHalt:
        return False
    except Exception as error:
        _report(error)
    return True


def _task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None] | None:
    """Give what is still to be waited for. What was cancelled or failed is never over, as with mitmproxy."""
    task = asyncio.get_running_loop().create_task(work)
    return None if task.done() and not task.cancelled() and task.exception() is None else task


async def _fail(error: BaseException) -> None:
    raise error


def _report(error: Exception) -> None:
    """Log what an addon raised, in mitmproxy's words; the next addon is told all the same."""
    try:
        with safecall():
            raise error
    except exceptions.OptionsError as refused:  # mitmproxy would end the task here, and leave the flow hanging
        log.error("Addon error: %s", refused)
