"""Periods by the calendar of a timezone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.budget import windows
from llmcap_addon.budget.windows import PERIODS, Per, Period, period, zone

HOUR_MS = 3_600_000


def at(text: str, timezone: str = "UTC") -> int:
    """Unix milliseconds of an ISO time in a timezone."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone)).timestamp()) * 1000


def span(per: Per, now_ms: int, timezone: str) -> tuple[str, str]:
    """A period's start and end, in that timezone."""
    found = period(per, now_ms, timezone, "")
    assert found.resets_at_ms is not None
    where = ZoneInfo(timezone)
    return (
        f"{datetime.fromtimestamp(found.starts_at_ms / 1000, where):%Y-%m-%d %H:%M}",
        f"{datetime.fromtimestamp(found.resets_at_ms / 1000, where):%Y-%m-%d %H:%M}",
    )


@pytest.mark.parametrize(
    ("per", "starts", "resets"),
    [
        ("minute", "2025-11-23 17:45", "2025-11-23 17:46"),
        ("hour", "2025-11-23 17:00", "2025-11-23 18:00"),
        ("day", "2025-11-23 00:00", "2025-11-24 00:00"),
        ("week", "2025-11-17 00:00", "2025-11-24 00:00"),
        ("month", "2025-11-01 00:00", "2025-12-01 00:00"),
    ],
)
@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"])
def test_periods_follow_the_local_calendar(per: Per, starts: str, resets: str, timezone: str) -> None:
    """On a Sunday afternoon, wherever: this minute, hour, day, the week from Monday, the month."""
    assert span(per, at("2025-11-23T17:45:30", timezone), timezone) == (starts, resets)


@pytest.mark.parametrize(
    ("timezone", "noon", "hours"),
    [
        ("Europe/Berlin", "2025-03-30T12:00", 23),
        ("Europe/Berlin", "2025-10-26T12:00", 25),
        ("Australia/Lord_Howe", "2025-10-05T12:00", 23.5),
        ("America/Sao_Paulo", "2018-11-04T12:00", 23),  # midnight itself was skipped
        ("America/Sao_Paulo", "2018-02-17T12:00", 25),  # the last hour came twice
        ("America/Havana", "2025-11-02T12:00", 25),  # midnight came twice
        ("America/Havana", "2025-03-09T12:00", 23),
        ("Pacific/Apia", "2011-12-31T12:00", 24),  # the day after one that did not exist
        ("Pacific/Apia", "2011-12-29T12:00", 24),
    ],
)
def test_days_are_as_long_as_they_are(timezone: str, noon: str, hours: float) -> None:
    """A day at a clock change has the hours it has, and moments at its ends belong to it."""
    found = period("day", at(noon, timezone), timezone, "")
    assert found.resets_at_ms is not None
    assert (found.resets_at_ms - found.starts_at_ms) / HOUR_MS == hours
    assert period("day", found.starts_at_ms, timezone, "") == found
    assert period("day", found.resets_at_ms - 1, timezone, "") == found
    assert period("day", found.resets_at_ms, timezone, "") != found


def test_skipped_midnight_starts_where_the_clocks_went_forward() -> None:
    """The first moment of a day without midnight is 01:00."""
    assert span("day", at("2018-11-04T12:00", "America/Sao_Paulo"), "America/Sao_Paulo") == (
        "2018-11-04 01:00",
        "2018-11-05 00:00",
    )


def test_year_ends_in_the_middle_of_a_week_and_a_month_has_29_days() -> None:
    """Weeks run over the year's end; leap days are in February."""
    assert span("week", at("2026-01-01T00:00"), "UTC") == ("2025-12-29 00:00", "2026-01-05 00:00")
    assert span("month", at("2024-02-29T23:59"), "UTC") == ("2024-02-01 00:00", "2024-03-01 00:00")
    assert span("month", at("2025-12-31T23:59"), "UTC") == ("2025-12-01 00:00", "2026-01-01 00:00")


def test_run_and_ever_do_not_reset() -> None:
    """A run is told by its id, ever is one period."""
    assert period("run", 5, "UTC", "abc") == Period("run:abc", 0, None)
    assert period("ever", 5, "UTC", "abc") == period("ever", 10**13, "UTC", "") == Period("ever:0", 0, None)


ZONES = st.sampled_from(
    [
        "local",
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/St_Johns",  # clocks went back over midnight, at 00:01
        "America/Sao_Paulo",
        "Africa/Cairo",
        "Asia/Kolkata",
        "Asia/Tehran",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "America/Scoresbysund",
    ]
)
MOMENTS = st.integers(at("1985-01-01"), at("2037-12-31"))


@given(st.sampled_from(PERIODS), MOMENTS, ZONES)
def test_every_moment_is_in_its_period(per: Per, now_ms: int, timezone: str) -> None:
    """A period holds the moment it was asked for; its key says its kind."""
    found = period(per, now_ms, timezone, "r")
    assert found.starts_at_ms <= now_ms
    assert found.resets_at_ms is None or now_ms < found.resets_at_ms
    assert found.key.startswith(f"{per}:")


@given(st.sampled_from(["minute", "day", "week", "month"]), MOMENTS, ZONES)
def test_periods_follow_each_other_without_gap(per: Per, now_ms: int, timezone: str) -> None:
    """The period at a reset starts there, and all moments between agree on it."""
    found = [period(per, now_ms, timezone, "")]
    for _ in range(3):
        resets_at_ms = found[-1].resets_at_ms
        assert resets_at_ms is not None
        assert period(per, resets_at_ms - 1, timezone, "") == found[-1]
        found.append(period(per, resets_at_ms, timezone, ""))
    assert all(after.starts_at_ms == before.resets_at_ms for before, after in pairwise(found))


def test_clocks_that_go_back_over_midnight_do_not_go_back_a_day() -> None:
    """In St John's, 2010-11-07 00:01 was followed by 2010-11-06 23:01: the day had begun and does not begin again."""
    first_midnight = int(datetime(2010, 11, 7, tzinfo=ZoneInfo("America/St_Johns")).timestamp()) * 1000
    keys = [period("day", first_midnight + minutes * 60_000, "America/St_Johns", "").key for minutes in range(-5, 180)]
    assert len(set(keys)) == 2
    assert keys == sorted(keys)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's own timezone is Berlin's."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    windows._calendar_period.cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()
    windows._calendar_period.cache_clear()


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("noon", ["2025-03-30T12:00", "2025-10-26T12:00", "2025-07-01T00:00", "2025-11-23T23:59"])
def test_local_is_the_machines_timezone(noon: str) -> None:
    """`local` gives what the machine's timezone would give by its name, at clock changes too."""
    now_ms = at(noon, "Europe/Berlin")
    for per in PERIODS:
        assert period(per, now_ms, "local", "r") == period(per, now_ms, "Europe/Berlin", "r")


def test_zone_knows_names() -> None:
    """`local` is None, names are looked up, and what is none is refused, folders and paths too."""
    assert zone("local") is None
    assert zone("UTC") == ZoneInfo("UTC")
    assert datetime(2025, 1, 1, tzinfo=zone("UTC")) == datetime(2025, 1, 1, tzinfo=UTC)
    for name in ("Europe/Berlim", "Europe", "../../etc/passwd", "", "/etc/localtime", "a\0b"):
        with pytest.raises(ValueError, match="is not a timezone"):
            zone(name)
