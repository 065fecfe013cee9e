"""Bulletin: what the user must know beside the calls; goes to the log, and to the top of the console."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from llmcap_addon.view.console import Notice

REPEAT_S = 5.0
"""The same trouble is logged at most so often: a store that is down fails every call."""
SHOWN_TROUBLE_S = 15.0
"""A trouble stays on the console so long after it was last seen."""
KEPT_TROUBLES = 100
"""Different troubles remembered, so that each is logged once and not a hundred times."""
KEPT_NOTICES = 3

log = logging.getLogger("llmcap")


class Bulletin:
    """Troubles that pass, notices that stay, and one error of caps.yaml that holds until it is mended."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._troubles: dict[str, tuple[float, float]] = {}
        """Message → (last seen, last logged)."""
        self._notices: list[str] = []
        self._standing = ""

    def trouble(self, message: str) -> None:
        """Tell of a failure: logged now and then, shown for a while after the last time."""
        now_s = self._monotonic_s()
        _, logged_s = self._troubles.pop(message, (0.0, float("-inf")))
        if now_s - logged_s >= REPEAT_S:
            log.error("llmcap: %s", message)
            logged_s = now_s
        self._troubles[message] = (now_s, logged_s)
        if len(self._troubles) > KEPT_TROUBLES:
            del self._troubles[next(iter(self._troubles))]

    def notice(self, message: str) -> None:
        """Tell something once; the last few stay on the console."""
        if message in self._notices:
            return
        log.warning("llmcap: %s", message)
        self._notices = [*self._notices, message][-KEPT_NOTICES:]

    def standing(self, message: str) -> None:
        """Tell what is wrong until it is mended; an empty message says that it is."""
        if message and message != self._standing:
            log.error("llmcap: %s", message)
        self._standing = message

    def notices(self) -> tuple[Notice, ...]:
        """What the console shall show on top, the most pressing first."""
        since_s = self._monotonic_s() - SHOWN_TROUBLE_S
        errors = [self._standing] if self._standing else []
        errors += [message for message, (seen_s, _) in self._troubles.items() if seen_s >= since_s]
        return (*(Notice(text, "error") for text in errors), *(Notice(text) for text in self._notices))
