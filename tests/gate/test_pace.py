"""How much to keep reserved ahead of a stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.gate.pace import (
    HIDDEN_START_TOKENS,
    LATENCY_ALLOWANCE_S,
    MAX_SLICE_TOKENS,
    MIN_MARGIN_TOKENS,
    MIN_SLICE_TOKENS,
    SLICE_S,
    Pace,
    hidden_tokens,
)


def paced(*seen: tuple[int, float]) -> Pace:
    pace = Pace()
    for tokens, at_s in seen:
        pace.see(tokens, at_s)
    return pace


def test_before_anything_comes_the_least_is_kept() -> None:
    """A stream that has said nothing has no speed, however long it has been silent."""
    pace = paced((0, 0.0), (0, 100.0))
    assert (pace.rate, pace.margin, pace.slice) == (0, MIN_MARGIN_TOKENS, MIN_SLICE_TOKENS)


def test_the_clock_starts_with_the_first_token() -> None:
    """The time a model thinks before it speaks does not make it slow."""
    pace = paced((0, 0.0), (10, 50.0), (1_010, 60.0))
    assert pace.rate == pytest.approx(101)


def test_margin_and_slice_grow_with_the_speed() -> None:
    """A fast model has more on its way, and asks for more at a time, up to a bound."""
    slow, fast, flood = paced((1, 0.0), (50, 1.0)), paced((1, 0.0), (400, 1.0)), paced((1, 0.0), (90_000, 1.0))
    assert slow.margin == MIN_MARGIN_TOKENS
    assert fast.margin == 400 * LATENCY_ALLOWANCE_S
    assert slow.slice == MIN_SLICE_TOKENS
    assert fast.slice == 400 * SLICE_S
    assert flood.slice == MAX_SLICE_TOKENS


def test_a_burst_is_no_infinite_speed() -> None:
    """Two chunks in the same instant divide by no zero."""
    assert paced((10, 5.0), (20, 5.0)).rate == 200


@given(st.lists(st.tuples(st.integers(0, 5_000), st.floats(0, 10)), min_size=1, max_size=20))
def test_it_stays_ahead_by_the_largest_chunk(steps: list[tuple[int, float]]) -> None:
    """A chunk like the largest so far always fits in what is kept ahead, and no figure is ever negative."""
    pace = Pace()
    tokens, now_s = 0, 0.0
    for more, passed_s in steps:
        tokens += more
        now_s += passed_s
        pace.see(tokens, now_s)
        assert pace.ahead >= pace.margin + more
        assert MIN_SLICE_TOKENS <= pace.slice <= MAX_SLICE_TOKENS
        assert pace.margin >= MIN_MARGIN_TOKENS


@pytest.mark.parametrize(
    ("provider", "elapsed_s", "bound", "expected"),
    [
        ("openai", 0.0, 64_000, HIDDEN_START_TOKENS),
        ("openai", -1.0, 64_000, HIDDEN_START_TOKENS),
        ("anthropic", 10.0, 64_000, HIDDEN_START_TOKENS + 5_000),
        ("google", 10_000.0, 64_000, 64_000),
        ("openai", 10.0, 100, 100),
        ("cerebras", 0.0, 64_000, 64_000),
        ("openai", 10.0, 0, 0),
    ],
)
def test_what_was_thought_unseen_is_bounded(provider: str, elapsed_s: float, bound: int, expected: int) -> None:
    """By the time it had, where the fastest model's speed is known; by the answer's limit always."""
    assert hidden_tokens(provider, elapsed_s, bound) == expected
