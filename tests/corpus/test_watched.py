"""Every recorded look at a job, however its bytes come: it tells the bill that was worked out by hand, or nothing."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.wire.jobs import Outcome
from tests.corpus.case import PRICES
from tests.corpus.watched import LOOKS, Look
from tests.wire.corpus import ENCODERS, byte_by_byte, encoded_in_pieces, split_at

EACH = pytest.mark.parametrize("case", LOOKS, ids=lambda case: case.name)


def told(case: Look, pieces: Iterable[bytes]) -> tuple[Outcome, ...]:
    watch = case.watch()
    for piece in pieces:
        watch.feed(piece)
    return watch.end()


def check(case: Look, outcomes: tuple[Outcome, ...]) -> None:
    if "cost" not in case.raw:
        assert outcomes == ()
        return
    [outcome] = outcomes
    assert outcome.job == case.raw["job"]
    assert outcome.reading.final
    assert case.used(outcome) == case.usage
    assert outcome.reading.failed is case.raw.get("failed", False)
    assert case.cost(outcome) == case.raw["cost"], case.raw["worked"]


@EACH
def test_a_look_tells_what_was_worked_out(case: Look) -> None:
    """It is watched, uploads nothing, and tells the job's bill to the nano-dollar."""
    assert case.route.kind == "watched"
    assert list(case.watch().stored_calls()) == []
    assert case.watch().stored == ""
    assert case.raw["worked"]
    assert case.raw["follows"]
    check(case, told(case, [case.data]))


@EACH
def test_fed_byte_by_byte_it_tells_the_same(case: Look) -> None:
    """The smallest pieces that a network can make."""
    check(case, told(case, byte_by_byte(case.data)))


@EACH
@given(places=st.lists(st.integers(0, 10_000), max_size=12))
@settings(max_examples=15, deadline=None)
def test_split_anywhere_it_tells_the_same(case: Look, places: list[int]) -> None:
    """No split of a body changes what it tells."""
    check(case, told(case, split_at(case.data, places)))


@EACH
@pytest.mark.parametrize("encoding", ENCODERS)
def test_encoded_it_tells_the_same(case: Look, encoding: str) -> None:
    """gzip, br and zstd, in small pieces."""
    check(case, told(case, encoded_in_pieces(case.data, encoding)))


@EACH
def test_truncated_anywhere_it_tells_the_same_or_nothing(case: Look) -> None:
    """A body that ends early raises nothing, and never tells another bill."""
    for length in range(len(case.data)):
        outcomes = told(case, [case.data[:length]])
        if outcomes:
            check(case, outcomes)


@EACH
def test_the_request_bounded_what_the_job_cost(case: Look) -> None:
    """What was reserved when the job began holds its bill."""
    quote = PRICES.quote(case.began, "counted")
    assert case.began.bills_after_disconnect
    assert quote.amount(quote.output_tokens) >= case.raw.get("cost", 0)
