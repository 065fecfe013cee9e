"""Restarts: what is done when a worker ends that nobody has told to."""

from __future__ import annotations

from dataclasses import dataclass

EARLY_S = 10.0
"""A worker that lives no longer has not got going: a start takes about two seconds, more on a busy machine."""
MAX_EARLY = 5
"""So many early ends in a row are no accident: what kills it would kill it again."""
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 8.0
"""Twice as long each time, so that what is broken keeps no core busy; never so long that a mended caps.yaml waits."""


@dataclass(slots=True)
class Restarts:
    """The history of one worker's place."""

    early: int = 0
    """Early ends in a row."""

    def after(self, lived_s: float, *, explained: bool, alone: bool) -> float | None:
        """Say how many seconds to wait before the next start, or None: give up and stop all.

        `explained` ends have told why (a caps.yaml that is broken at the moment, a ledger that is locked): they are
        tried again for as long as another worker serves. `alone` says that none does: then calls wait for nobody, and
        it is better to end with a message.
        """
        if lived_s >= EARLY_S:
            self.early = 0
            return 0.0
        self.early += 1
        if self.early >= MAX_EARLY and (alone or not explained):
            return None
        return min(MAX_DELAY_S, FIRST_DELAY_S * (1 << min(self.early - 1, MAX_EARLY)))
