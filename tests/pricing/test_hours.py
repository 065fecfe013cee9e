from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.pricing.hours import EVERY_DAY, Hours


def moment(text: str) -> int:
    """A moment of 2026 in UTC, in milliseconds."""
    return int(dt.datetime.fromisoformat(f"2026-{text}+00:00").timestamp() * 1000)


WORKDAYS = range(1, 6)


@pytest.mark.parametrize(
    ("utc", "weekdays", "at", "holds"),
    [
        ("16:30-00:30", None, "11-23T16:30:00.000", True),
        ("16:30-00:30", None, "11-23T16:29:59.999", False),
        ("16:30-00:30", None, "11-24T00:29:59.999", True),
        ("16:30-00:30", None, "11-24T00:30:00.000", False),
        ("04:00-06:00", None, "11-24T05:00:00.000", True),
        ("04:00-06:00", None, "11-24T06:00:00.000", False),
        ("10:00-24:00", None, "11-24T23:59:59.999", True),
        ("00:00-24:00", [6, 7], "11-21T00:00:00.000", True),  # a Saturday
        ("00:00-24:00", [6, 7], "11-23T00:00:00.000", False),
        ("22:00-02:00", WORKDAYS, "11-21T01:00:00.000", True),  # Saturday, but it began on Friday
        ("22:00-02:00", WORKDAYS, "11-21T22:00:00.000", False),
        ("22:00-02:00", WORKDAYS, "11-23T01:00:00.000", False),  # Monday, but it began on Sunday
    ],
)
def test_a_window_holds_from_its_beginning_to_before_its_end(
    utc: str, weekdays: list[int] | None, at: str, holds: bool
) -> None:
    """Over midnight too, on the weekday on which it began."""
    assert Hours.parse(utc, weekdays).hold(moment(at)) == holds


@pytest.mark.parametrize("utc", ["", "16:30", "16:30-16:30", "24:00-01:00", "7:00-08:00", "07:60-08:00", "23:00-24:30"])
def test_what_is_no_window_is_refused(utc: str) -> None:
    """Nothing is guessed of hours."""
    with pytest.raises(ValueError, match="window"):
        Hours.parse(utc)


@pytest.mark.parametrize("weekdays", [[], [0], [8], [1, 9]])
def test_what_is_no_weekday_is_refused(weekdays: list[int]) -> None:
    """1 is Monday, 7 Sunday."""
    with pytest.raises(ValueError, match="weekdays"):
        Hours.parse("01:00-02:00", weekdays)


@given(st.integers(0, 1439), st.integers(1, 1440), st.integers(0, 10**13))
def test_a_window_and_its_rest_are_the_day(start: int, end: int, at_ms: int) -> None:
    """Each moment is in exactly one of a window and what it leaves of the day."""
    if start == end % 1440:
        return
    inside, outside = Hours(start, end % 1440 or 1440), Hours(end % 1440, start or 1440)
    assert inside.hold(at_ms) != outside.hold(at_ms)
    assert inside.weekdays == EVERY_DAY
