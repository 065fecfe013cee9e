"""When an event loop may do a transaction itself, judged by how long those took that it did.

What a transaction takes in the thread says nothing about the disk: the thread asks for the interpreter at each of its
statements, and a busy event loop lets it wait. So the loop tries, and after one that took long leaves them to the
thread for a while, which doubles each time.
"""

from __future__ import annotations

QUICK_S = 0.002
"""A transaction that takes longer is not quick: 20 times what it usually takes, less than an event loop notices."""
HURRY_S = 0.000_5
"""So long the loop waits for its turn, and for another process's lock. What gets its lock much later is given up:
another thread keeps the interpreter."""
BURST_S, WINDOW_S = 0.004, 0.010
"""How much of its time an event loop spends on transactions, and of how much: thousands that are written one after the
other, after an outage, must not hold up streams. The others go through the thread."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 5.0
"""How long the thread does all of them after one that was not quick, at first and at last."""
CALM = 16
"""So many in a row have to be quick until the next pause is a short one again."""


class Turns:
    """Whether it is an event loop's turn. Times are of a clock that only goes forward, in seconds."""

    def __init__(self) -> None:
        self._quick = 0
        """How many in a row were quick, up to `CALM`."""
        self._pause_s = FIRST_PAUSE_S
        self._not_before_s = 0.0
        self._window_s = self._spent_s = 0.0
        """When the time began in which so much was spent."""

    def may_begin(self, now_s: float) -> bool:
        """True when the loop may do one now."""
        if now_s < self._not_before_s:
            return False
        if now_s - self._window_s > WINDOW_S:
            self._window_s, self._spent_s = now_s, 0.0
        return self._spent_s < BURST_S

    def ended(self, began_s: float, now_s: float, *, is_quick: bool) -> None:
        """Learn how one went."""
        self._spent_s += now_s - began_s
        if not is_quick:
            self._not_before_s = now_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
            self._quick = 0
        elif self._quick < CALM:
            self._quick += 1
            if self._quick == CALM:
                self._pause_s = FIRST_PAUSE_S
