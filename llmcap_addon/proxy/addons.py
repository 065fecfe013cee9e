"""The addon manager of our own lean proxy: mitmproxy's, but an event goes only to the addons that have a hook for it.

mitmproxy looks at every addon at each of a request's dozen events for a hook of the event's name. Ours looks once: what
an addon wants to hear of does not change.
"""

from __future__ import annotations

from typing import Any

from mitmproxy import exceptions, hooks
from mitmproxy.addonmanager import AddonManager, safecall, traverse


class LeanAddons(AddonManager):
    """Asks each addon once what it wants to hear of."""

    def __init__(self, master: Any) -> None:
        self._listeners: dict[tuple[str, int], list[Any]] = {}
        """Event and number of addons → those that have a hook for it; addons are added, never replaced."""
        super().__init__(master)  # type: ignore[no-untyped-call]  # mitmproxy's has no annotations

    async def trigger_event(self, event: hooks.Hook) -> None:
        """Tell those who listen, one after the other."""
        for addon in self._that_hear(event):
            try:
                with safecall():
                    await self.invoke_addon(addon, event)
            except exceptions.AddonHalt:
                return

    def trigger(self, event: hooks.Hook) -> None:
        """Tell those who listen at once; none of their hooks may be a coroutine."""
        for addon in self._that_hear(event):
            try:
                with safecall():
                    self.invoke_addon_sync(addon, event)
            except exceptions.AddonHalt:
                return

    def _that_hear(self, event: hooks.Hook) -> list[Any]:
        key = event.name, len(self.chain)
        known = self._listeners.get(key)
        if known is None:
            known = [one for one in self.chain if any(hasattr(part, event.name) for part in traverse([one]))]
            self._listeners[key] = known
        return known
