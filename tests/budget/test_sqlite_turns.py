"""When an event loop may do a transaction itself."""

from __future__ import annotations

from llmcap_addon.budget.stores.sqlite_turns import (
    BURST_S,
    CALM,
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    QUICK_S,
    WINDOW_S,
    Turns,
)

NOW_S = 1_000.0
A_BIT_S = 1e-6


def slow(turns: Turns, now_s: float) -> None:
    turns.ended(now_s - QUICK_S, now_s, is_quick=False)


def pause_after(turns: Turns, now_s: float) -> float:
    """How long it is nobody's turn, by halves."""
    low, high = 0.0, 2 * LONGEST_PAUSE_S
    while high - low > A_BIT_S:
        middle = (low + high) / 2
        low, high = (low, middle) if turns.may_begin(now_s + middle) else (middle, high)
    return high


def test_quick_ones_leave_the_loop_its_turn() -> None:
    """From the first on, as long as they don't take most of its time."""
    turns = Turns()
    for number in range(100):
        assert turns.may_begin(NOW_S + number * WINDOW_S)
        turns.ended(NOW_S + number * WINDOW_S, NOW_S + number * WINDOW_S + 0.000_1, is_quick=True)


def test_each_pause_is_twice_as_long_up_to_the_longest() -> None:
    """A disk that stays slow holds the loop up ever more rarely."""
    turns, now_s, expected_s = Turns(), NOW_S, FIRST_PAUSE_S
    for _ in range(12):
        slow(turns, now_s)
        pause_s = pause_after(turns, now_s)
        assert abs(pause_s - expected_s) < 10 * A_BIT_S
        now_s, expected_s = now_s + pause_s + 1, min(2 * expected_s, LONGEST_PAUSE_S)
    assert expected_s == LONGEST_PAUSE_S


def test_pauses_are_short_again_after_some_quick_ones_in_a_row() -> None:
    """One fewer is not enough."""
    for quick, expected_s in ((CALM - 1, 4 * FIRST_PAUSE_S), (CALM, FIRST_PAUSE_S)):
        turns = Turns()
        slow(turns, NOW_S)
        slow(turns, NOW_S + 1)
        for _ in range(quick):
            turns.ended(NOW_S + 2, NOW_S + 2, is_quick=True)
        slow(turns, NOW_S + 3)
        assert abs(pause_after(turns, NOW_S + 3) - expected_s) < 10 * A_BIT_S


def test_only_a_part_of_its_time_is_spent_on_them() -> None:
    """What is over goes through the thread until the time is over; quick ones make no pause."""
    turns = Turns()
    assert turns.may_begin(NOW_S)
    turns.ended(NOW_S, NOW_S + BURST_S, is_quick=True)
    assert not turns.may_begin(NOW_S + BURST_S)
    assert not turns.may_begin(NOW_S + WINDOW_S)
    assert turns.may_begin(NOW_S + WINDOW_S + A_BIT_S)
