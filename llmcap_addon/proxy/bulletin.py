"""Bulletin: what the user must know beside the calls; goes to the log, and to the top of the console."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from llmcap_addon.view.console import Notice

REPEAT_S = 5.0
"""The same trouble is logged at most so often: a store that is down fails every call."""
SHOWN_TROUBLE_S = 15.0
"""A trouble stays on the console so long after it was last seen."""
LEAST_SHOWN_S = 2.0
"""One that is known to be over stays so long: a line that is gone at once can't be read."""
KEPT_TROUBLES = 100
"""Different troubles remembered, so that each is logged once and not a hundred times."""
KEPT_NOTICES = 3

log = logging.getLogger("llmcap")


@dataclass(slots=True)
class _Trouble:
    """When a message was last seen and last logged, in seconds."""

    seen_s: float = float("-inf")
    logged_s: float = float("-inf")
    of_store: bool = False
    """True while the store is not known to work again."""
    shown_s: float = SHOWN_TROUBLE_S


class Bulletin:
    """Troubles that pass, notices that stay, and one error of caps.yaml that holds until it is mended."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._troubles: dict[str, _Trouble] = {}
        self._notices: list[str] = []
        self._standing = ""

    def trouble(self, message: str, *, of_store: bool = False) -> None:
        """Tell of a failure: logged now and then, shown for a while after the last time."""
        now_s = self._monotonic_s()
        logged_s = self._troubles.pop(message, _Trouble()).logged_s
        if now_s - logged_s >= REPEAT_S:
            log.error("llmcap: %s", message)
            logged_s = now_s
        self._troubles[message] = _Trouble(now_s, logged_s, of_store)
        if len(self._troubles) > KEPT_TROUBLES:
            del self._troubles[next(iter(self._troubles))]

    def store_trouble(self, message: str) -> None:
        """Tell of a failure of the store, which is over when `store_works` says so."""
        self.trouble(message, of_store=True)

    def is_store_failing(self) -> bool:
        """True from a failure of the store on, until it is known to work again."""
        return any(trouble.of_store for trouble in self._troubles.values())

    def store_works(self) -> None:
        """Tell that the ledger was written to: what was wrong with it is over."""
        if not self.is_store_failing():
            return
        log.warning("llmcap: the ledger works again")
        for trouble in self._troubles.values():
            if trouble.of_store:
                trouble.of_store, trouble.shown_s = False, LEAST_SHOWN_S

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
        now_s = self._monotonic_s()
        errors = [self._standing] if self._standing else []
        errors += [text for text, trouble in self._troubles.items() if now_s - trouble.seen_s <= trouble.shown_s]
        return (*(Notice(text, "error") for text in errors), *(Notice(text) for text in self._notices))
