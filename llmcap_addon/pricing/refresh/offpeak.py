"""Off-peak: the hours of the week at which a source says that a model is cheaper, and what two sources' amount to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from llmcap_addon.pricing.hours import EVERY_DAY, Hours
from llmcap_addon.pricing.refresh.levels import Levels, merged, put, row_at, written

DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class OffPeak:
    """Lower prices, and when they hold."""

    windows: tuple[Hours, ...]
    levels: Levels
    knows_weekdays: bool
    """False for a source that can't tell one day of the week from another."""


def minutes(text: str) -> int:
    """Read a time of day, "01:00" or "01:00:00Z"; raises ValueError."""
    hour, minute = (int(part) for part in text[:5].split(":"))
    if not (0 <= minute < 60 and 0 <= hour * 60 + minute <= DAY_MINUTES):
        raise ValueError(f"{text!r} is no time of day")
    return hour * 60 + minute


def window(span: str, weekdays: Iterable[int] | None) -> Hours:
    """Read litellm's "10:00-00:00", which reaches to the day's end, and "00:00-00:00", which is all of it."""
    start, end = (minutes(part) for part in span.split("-"))
    return Hours(start, end or DAY_MINUTES, EVERY_DAY if weekdays is None else frozenset(weekdays))


def between(peak: Iterable[tuple[int, int]]) -> tuple[Hours, ...]:
    """Give the windows of a day that are left between dearer spans, (first minute, minute after the last)."""
    found: list[Hours] = []
    at = 0
    for start, end in sorted(peak):
        if start > at:
            found.append(Hours(at, start))
        at = max(at, end)
    if at < DAY_MINUTES:
        found.append(Hours(at, DAY_MINUTES))
    return tuple(found)


def joined(first: OffPeak | None, second: OffPeak | None) -> OffPeak | None:
    """Make one of what two sources say, never cheaper than either; None when they contradict each other.

    Where one can't tell weekends and its hours are all among the other's, the other's windows hold: such a source
    calls its own figures an upper bound there.
    """
    if first is None or second is None:
        return None
    wide, narrow = (first, second) if first.knows_weekdays else (second, first)
    missing = _week(narrow.windows) - _week(wide.windows)
    more = _week(wide.windows) - _week(narrow.windows)
    if missing or (more and narrow.knows_weekdays):
        return None
    return replace(wide, levels=merged([first.levels, second.levels]))


def as_json(off_peak: OffPeak, peak: Levels) -> list[dict[str, Any]]:
    """Write the windows as a card of the table has them, each with its rows.

    What the source does not tell for these hours is the peak's, lowered as input is, and never above the peak's.
    """
    levels: Levels = {}
    for above, level in peak.items():
        base = row_at(peak, above, "standard")
        low = row_at(off_peak.levels, above, "standard")
        ratio = low["input"] / base["input"] if low.get("input") and base.get("input") else Decimal(1)
        for tier, row in level.items():
            told = row_at(off_peak.levels, above, tier)
            for field, amount in row.items():
                put(levels, above, tier, field, min(amount, told.get(field, amount * ratio)))
    spans: dict[tuple[int, ...], list[str]] = {}
    for hours in off_peak.windows:
        span = f"{_clock(hours.start_minute)}-{_clock(hours.end_minute)}"
        spans.setdefault(tuple(sorted(hours.weekdays)), []).append(span)
    return [
        {"utc": utc, **({} if len(weekdays) == 7 else {"weekdays": list(weekdays)}), **written(levels)}
        for weekdays, utc in spans.items()
    ]


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _week(windows: Sequence[Hours]) -> set[int]:
    found: set[int] = set()
    for item in windows:
        length = (item.end_minute - item.start_minute) % DAY_MINUTES or DAY_MINUTES
        for day in item.weekdays:
            start = (day - 1) * DAY_MINUTES + item.start_minute
            found.update(minute % (7 * DAY_MINUTES) for minute in range(start, start + length))
    return found
