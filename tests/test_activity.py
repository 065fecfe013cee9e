"""Activity: what it adds up, what it keeps, and that it stays bounded."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.activity import (
    BURN_WINDOW_MS,
    KEPT_ENDED,
    KEPT_LABELS,
    KEPT_LIVE,
    OTHERS,
    Activity,
    CallLine,
    CallState,
    Counts,
)

MINUTE_MS = 60_000


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now_ms = 1_763_899_421_000

    def __call__(self) -> int:
        return self.now_ms


def line(name: str, state: CallState = "streaming", cost: int = 0, model: str = "gpt-4o", at_ms: int = 0) -> CallLine:
    """A call of one client."""
    return CallLine(
        id=name,
        at_ms=at_ms,
        client="codex",
        host="api.openai.com",
        provider="openai",
        model=model,
        state=state,
        cost=cost,
    )


def test_newest_line_replaces_the_one_before() -> None:
    """A call is counted once, at its newest cost, however often it is told."""
    activity = Activity(Clock())
    for cost in (0, 10, 30, 20):
        activity.update(line("a", cost=cost))
    assert activity.live() == (line("a", cost=20),)
    assert activity.spent_by("model") == [("gpt-4o", 20, 1)]
    activity.update(line("a", "done", 25))
    assert activity.live() == ()
    assert activity.recent(5) == (line("a", "done", 25),)
    assert activity.spent_by("client") == [("codex", 25, 1)]
    assert activity.counts() == Counts(calls=1)


def test_counts_tell_the_ends_apart() -> None:
    """Refused calls are no calls; cut and estimated ones are both."""
    activity = Activity(Clock())
    activity.update(line("a", "waiting"))
    assert activity.counts() == Counts(calls=1)
    activity.update(line("a", "refused"))
    activity.update(replace(line("b", "cut", 5), marks=frozenset({"estimated"})))
    activity.update(line("c", "done", 7, model="o3"))
    assert activity.counts() == Counts(calls=2, refused=1, cut=1, estimated=1)
    assert activity.spent_by("model") == [("o3", 7, 1), ("gpt-4o", 5, 1)]


def test_recent_prefers_live_calls_and_ends_with_the_newest() -> None:
    """A long stream stays in sight though many calls ended after it began."""
    activity = Activity(Clock())
    activity.update(line("long", at_ms=1))
    for number in range(10):
        activity.update(line(f"{number}", "done", at_ms=10 + number))
    assert [call.id for call in activity.recent(3)] == ["long", "8", "9"]
    assert activity.recent(0) == ()
    assert len(activity.recent(99)) == 11


def test_burn_rate_counts_costs_as_they_accrue() -> None:
    """A running stream burns what it cost so far, and a settlement below that takes the difference back."""
    clock = Clock()
    activity = Activity(clock)
    clock.now_ms += MINUTE_MS
    activity.update(line("a", cost=100))
    assert activity.burn_rate(clock.now_ms) == 6_000
    activity.update(line("a", cost=300))
    assert activity.burn_rate(clock.now_ms) == 18_000
    activity.update(line("a", "done", 200))
    assert activity.burn_rate(clock.now_ms) == 12_000


def test_burn_rate_forgets_what_is_older_than_the_window() -> None:
    """After a window without calls the rate is nothing, and memory holds one window at most."""
    clock = Clock()
    activity = Activity(clock)
    for number in range(1_000):
        clock.now_ms += 1_000
        activity.update(line(f"{number}", "done", 1_000))
    assert activity.burn_rate(clock.now_ms) == pytest.approx(3_600_000, rel=0.05)
    assert len(activity._steps) <= BURN_WINDOW_MS // 5_000 + 1
    assert activity.burn_rate(clock.now_ms + BURN_WINDOW_MS + 5_000) == 0


def test_first_second_is_not_taken_for_an_hour() -> None:
    """A rate is taken over ten seconds at least."""
    clock = Clock()
    activity = Activity(clock)
    activity.update(line("a", "done", 10))
    assert activity.burn_rate(clock.now_ms) == 10 * 360


def test_burn_rate_of_some_calls() -> None:
    """What is counted is said by labels; what is added up as others is always counted."""
    clock = Clock()
    activity = Activity(clock)
    activity.update(line("a", "done", 10, model="claude-opus-4-1"))
    for number in range(KEPT_LABELS):
        activity.update(line(f"{number}", "done", 1, model=f"gpt-{number}"))
    assert activity.burn_rate(clock.now_ms, lambda labels: labels["model"] == "claude-opus-4-1") == (10 + 1) * 360
    assert activity.burn_rate(clock.now_ms, lambda labels: labels["client"] == "codex") == (10 + KEPT_LABELS) * 360
    assert activity.burn_rate(clock.now_ms, lambda labels: False) == 360


def test_clock_set_back_does_not_freeze_the_rate() -> None:
    """After the wall clock was set back an hour, the rate is that of the newest costs."""
    clock = Clock()
    activity = Activity(clock)
    activity.update(line("a", "done", 1_000_000))
    clock.now_ms -= 60 * MINUTE_MS
    activity.update(line("b", "done", 10))
    clock.now_ms += 10 * MINUTE_MS
    assert activity.burn_rate(clock.now_ms) == 0


def test_memory_is_bounded() -> None:
    """Clients that invent names and calls without end fill nothing; no spend is lost by it."""
    activity = Activity(Clock())
    for number in range(KEPT_LIVE + 50):
        activity.update(line(f"live-{number}", cost=1, model=f"model-{number}" * 100))
    for number in range(KEPT_ENDED + 50):
        activity.update(line(f"done-{number}", "done", 1, model=f"other-{number}"))
    assert len(activity.live()) == KEPT_LIVE
    assert len(activity.recent(10**6)) == KEPT_LIVE + KEPT_ENDED
    models = activity.spent_by("model")
    assert len(models) == KEPT_LABELS + 1
    assert models[0][0] == OTHERS
    assert sum(cost for _, cost, _ in models) == KEPT_LIVE + KEPT_ENDED + 100
    assert max(len(name) for name, _, _ in models) <= 200


def test_failing_listener_is_dropped_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A broken output is told once in the log; the call and the other listeners go on."""
    activity = Activity(Clock())
    seen: list[str] = []

    def broken(call: CallLine) -> None:
        raise BrokenPipeError(f"pipe {call.id}")

    activity.subscribe(broken)
    activity.subscribe(lambda call: seen.append(call.id))
    activity.update(line("a"))
    activity.update(line("b"))
    assert seen == ["a", "b"]
    assert [record.getMessage() for record in caplog.records] == [
        "LLMCap: an output of calls was dropped: BrokenPipeError: pipe a"
    ]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from(["waiting", "running", "streaming", "done", "refused", "cut"]),
            st.integers(0, 10**12),
            st.sampled_from(["gpt-4o", "o3", ""]),
            st.integers(0, 400_000),
        ),
        max_size=40,
    )
)
def test_sums_are_those_of_the_newest_lines(updates: list[tuple[int, CallState, int, str, int]]) -> None:
    """Whatever order lines come in, spend and counts are what the newest line of each call says."""
    clock = Clock()
    activity = Activity(clock)
    newest: dict[str, CallLine] = {}
    for number, state, cost, model, later_ms in updates:
        clock.now_ms += later_ms
        call = line(f"{number}", state, cost, model)
        newest[call.id] = call
        activity.update(call)
        assert activity.burn_rate(clock.now_ms) >= 0
    made = [call for call in newest.values() if call.state != "refused"]
    assert sum(cost for _, cost, _ in activity.spent_by("model")) == sum(call.cost for call in made)
    assert sum(calls for _, _, calls in activity.spent_by("client")) == len(made)
    assert activity.counts().calls == len(made)
    assert activity.counts().refused == len(newest) - len(made)
    assert {call.id for call in activity.recent(99)} == set(newest)
