"""Hours: the windows of a week, in UTC, at which a price holds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_WINDOW = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
_MINUTE_MS = 60_000
_DAY_MINUTES = 24 * 60
_EPOCH_WEEKDAY = 4
"""1970-01-01 was a Thursday; Monday is 1, as ISO 8601 counts."""

EVERY_DAY = frozenset(range(1, 8))


@dataclass(frozen=True, slots=True)
class Hours:
    """A window of the day, from `start_minute` to before `end_minute`; one that ends no later than it begins goes on
    into the next day."""

    start_minute: int
    end_minute: int
    weekdays: frozenset[int] = EVERY_DAY
    """The days on which it begins: 1 is Monday, 7 Sunday."""

    @classmethod
    def parse(cls, utc: str, weekdays: Iterable[int] | None = None) -> Hours:
        """Read "16:30-00:30"; raises ValueError for what is no window of a day ("24:00" is a day's end)."""
        found = _WINDOW.fullmatch(utc)
        if found is None:
            raise ValueError(f"{utc!r} is not a window like 16:30-00:30")
        start, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
        if start >= _DAY_MINUTES or end > _DAY_MINUTES or start == end:
            raise ValueError(f"{utc!r} is not a window like 16:30-00:30")
        days = EVERY_DAY if weekdays is None else frozenset(weekdays)
        if not days <= EVERY_DAY or not days:
            raise ValueError(f"{sorted(days)} are not weekdays from 1 (Monday) to 7 (Sunday)")
        return cls(start, end, days)

    def hold(self, at_ms: int) -> bool:
        """True when the moment, in milliseconds since 1970, falls into the window."""
        day, minute = divmod(at_ms // _MINUTE_MS, _DAY_MINUTES)
        weekday = (day + _EPOCH_WEEKDAY - 1) % 7 + 1
        if self.start_minute < self.end_minute:
            return weekday in self.weekdays and self.start_minute <= minute < self.end_minute
        before = (weekday - 2) % 7 + 1
        return (weekday in self.weekdays and minute >= self.start_minute) or (
            before in self.weekdays and minute < self.end_minute
        )
