"""Who listens to an event, and calling them, in mitmproxy's order; its addon manager asks every addon each time.

One thing is different: whatever fails in an addon, or in one that is inside another, all others hear. With mitmproxy
those beside it inside the same addon don't, and after an OptionsError nobody does.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

from mitmproxy import exceptions, hooks
from mitmproxy.addonmanager import AddonManager, safecall, traverse

log = logging.getLogger(__name__)

type Listener = Callable[..., Awaitable[None] | object]
"""An addon's method for one event. It may be a coroutine function."""

_UNCHANGING = ("mitmproxy.", "llmcap_addon.")
"""Packages whose addons don't grow hooks while they run. A script may, and it may be loaded again."""


class Listeners:
    """A manager's addons by what they listen to: those that don't change were asked once."""

    def __init__(self, addons: AddonManager) -> None:
        self._addons = addons
        self._chain: list[Any] = []
        self._count = 0
        """The chain, and its length, that the following is true of; a manager adds to its list or makes a new one."""
        self._known: dict[str, list[tuple[Listener | None, Any]]] = {}
        """Event → the hooks for it, in order; or an addon that has to be asked each time."""

    def to(self, event: str) -> Iterator[Listener]:
        """Give all hooks for an event of this name, in the order of the addons."""
        addons = self._addons
        if addons.chain is not self._chain or len(addons.chain) != self._count:
            self._chain, self._count = addons.chain, len(addons.chain)
            self._known.clear()
        known = self._known.get(event)
        if known is None:
            known = self._known[event] = list(_look(addons.chain, event))
        for hook, addon in known:
            if hook is not None:
                yield hook
                continue
            try:
                found = list(_found(addon, event))
            except Exception as error:  # of its own attributes; the addons behind it must hear all the same
                report(error)
                continue
            yield from found


def _look(chain: list[Any], event: str) -> Iterator[tuple[Listener | None, Any]]:
    for addon in chain:
        if type(addon).__module__.startswith(_UNCHANGING) and not hasattr(addon, "addons"):
            for hook in _found(addon, event):
                yield hook, None
        else:
            yield None, addon


def _found(addon: Any, event: str) -> Iterator[Listener]:
    for part in traverse([addon]):
        hook = getattr(part, event, None)
        if callable(hook):
            yield hook


async def call(hook: Callable[[], Any]) -> bool:
    """Call a hook and wait for it; False when no further one shall hear of the event."""
    try:
        result = hook()
        if result is not None and inspect.isawaitable(result):
            await result
    except exceptions.AddonHalt:
        return False
    except Exception as error:
        report(error)
    return True


def report(error: Exception) -> None:
    """Log what an addon raised, in mitmproxy's words; the next addon is told all the same."""
    try:
        with safecall():
            raise error
    except exceptions.OptionsError as refused:  # mitmproxy would end the task here, and leave the flow hanging
        log.error("Addon error: %s", refused)


class LeanAddons(AddonManager):
    """The addon manager of our own lean proxy."""

    def __init__(self, master: Any) -> None:
        super().__init__(master)  # type: ignore[no-untyped-call]  # mitmproxy's has no annotations
        self._listeners = Listeners(self)

    async def trigger_event(self, event: hooks.Hook) -> None:
        """Tell those who listen, one after the other."""
        for hook in self._listeners.to(event.name):
            if not await call(partial(hook, *event.args())):
                return
