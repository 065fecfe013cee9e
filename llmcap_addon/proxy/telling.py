"""Telling addons of a request's events at once, where mitmproxy makes a task for each and asks every addon.

A request has four such events at least. For each, mitmproxy makes a task, walks its 36 addons twice in search of a hook
of that name, and sends the end of it down through all layers. Most hooks are done when they return; so ours are called
on the spot, in the same order, and only one that waits for something takes the long way (`UntilTold`).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mitmproxy import exceptions, http
from mitmproxy.addonmanager import AddonManager, safecall, traverse
from mitmproxy.hooks import UpdateHook
from mitmproxy.proxy import commands

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
        """Call all hooks of an event; gives a task when one of them waits, which then calls the others too."""
        hooks = self._hooks(event.name)
        for hook in hooks:
            try:
                result = hook(flow)
            except exceptions.AddonHalt:
                break
            except Exception as error:
                _report(error)
                continue
            if result is not None and inspect.isawaitable(result):
                rest = asyncio.get_running_loop().create_task(self._finish(result, hooks, flow))
                # One that was cancelled is never over, as with mitmproxy: the addons behind it have not been asked.
                return None if rest.done() and not rest.cancelled() and rest.exception() is None else rest
        return self._close(flow)

    def _close(self, flow: http.HTTPFlow) -> asyncio.Task[None] | None:
        for hook in self._hooks(UpdateHook.name):
            try:
                hook([flow])
            except exceptions.AddonHalt:
                break
            except Exception as error:
                _report(error)
        return asyncio.get_running_loop().create_task(flow.wait_for_resume()) if flow.intercepted else None

    async def _finish(self, first: Awaitable[None], hooks: Iterator[Callable[..., Any]], flow: http.HTTPFlow) -> None:
        result: Any = first
        while True:
            try:
                if result is not None and inspect.isawaitable(result):
                    await result
                hook = next(hooks, None)
                if hook is None:
                    break
                result = hook(flow)
            except exceptions.AddonHalt:
                break
            except Exception as error:
                _report(error)
                result = None
        waits = self._close(flow)
        if waits is not None:
            await waits

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
            else:
                yield from _found(addon, name)


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


def _report(error: Exception) -> None:
    """Log what an addon raised, in mitmproxy's words; the next addon is told all the same."""
    with safecall():
        raise error
