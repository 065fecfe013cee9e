"""Periods: when a cap begins to count anew, worked out from a timestamp alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal, get_args
from zoneinfo import ZoneInfo

type Per = Literal["minute", "hour", "day", "week", "month", "run", "ever"]

PERIODS: tuple[Per, ...] = get_args(Per.__value__)
LOCAL = "local"
"""The timezone of the machine, by its own rules (`/etc/localtime`, TZ)."""

_MINUTE_MS = 60_000
_HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Period:
    """One stretch of time that a cap counts, `starts_at_ms` included and `resets_at_ms` not."""

    key: str
    """Its identity: kind and start, or the run's id."""
    starts_at_ms: int
    """Unix time in milliseconds; 0 for "run" and "ever"."""
    resets_at_ms: int | None
    """None when it never resets by itself."""


def zone(timezone: str) -> ZoneInfo | None:
    """Look up an IANA name; None stands for the machine's own timezone. Raises ValueError for an unknown name."""
    if timezone == LOCAL:
        return None
    try:
        return ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:  # ZoneInfo("America") is a folder, hence OSError
        raise ValueError(f"{timezone!r} is not a timezone of this machine") from error


def period(per: Per, now_ms: int, timezone: str, run_id: str) -> Period:
    """Find the period that holds a moment (Unix time in milliseconds).

    Days, ISO weeks (from Monday) and months begin at local midnight, so a day may have 23 or 25 hours; hours begin at
    the full local hour. Raises ValueError for an unknown timezone.
    """
    if per == "ever":
        return Period("ever:0", 0, None)
    if per == "run":
        return Period(f"run:{run_id}", 0, None)
    return _calendar_period(per, now_ms // 1000, timezone)


@lru_cache(maxsize=256)  # no period turns within a second, and a call's caps ask for the same few again and again
def _calendar_period(per: Per, now_s: int, timezone: str) -> Period:
    now_ms = now_s * 1000
    if per == "minute":
        return _fixed(per, now_ms - now_ms % _MINUTE_MS, _MINUTE_MS)
    where = zone(timezone)
    local = datetime.fromtimestamp(now_s, UTC).astimezone(where)
    if per == "hour":
        # Not by wall-clock arithmetic: an hour that the clocks repeat or skip is still an hour of money.
        offset_ms = (local.utcoffset() or timedelta()) // timedelta(milliseconds=1)
        return _fixed(per, now_ms - (now_ms + offset_ms) % _HOUR_MS, _HOUR_MS)
    first = _first_day(per, local.date())
    starts, resets = _midnight_ms(first, where), _midnight_ms(_next(per, first), where)
    # Where clocks go back over midnight, a date comes twice (St John's until 2011): what counts is the order of the
    # midnights themselves, so that periods follow each other without gap or overlap.
    while resets <= now_ms:
        first = _next(per, first)
        starts, resets = resets, _midnight_ms(_next(per, first), where)
    while starts > now_ms:
        first = _first_day(per, first - timedelta(days=1))
        starts, resets = _midnight_ms(first, where), starts
    return Period(f"{per}:{starts}", starts, resets)


def _fixed(per: Per, starts_at_ms: int, length_ms: int) -> Period:
    return Period(f"{per}:{starts_at_ms}", starts_at_ms, starts_at_ms + length_ms)


def _first_day(per: Per, day: date) -> date:
    if per == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if per == "month" else day


def _next(per: Per, first: date) -> date:
    if per == "month":
        return (first + timedelta(days=31)).replace(day=1)
    return first + timedelta(days=7 if per == "week" else 1)


def _midnight_ms(day: date, where: ZoneInfo | None) -> int:
    """The day's first moment; where clocks skip midnight, PEP 495 makes that the moment they go forward.

    A naive datetime is the machine's own time, by the rules of that day rather than today's offset.
    """
    return round(datetime.combine(day, time.min, tzinfo=where).timestamp()) * 1000
