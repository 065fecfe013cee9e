"""Every case of the corpus, however its bytes come: usage and cost are what was worked out by hand."""

from __future__ import annotations

from collections import defaultdict
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.endpoints import GENERATE, METERED
from tests.corpus.case import CASES, PRICES, Case
from tests.corpus.jobs import JOB_CASES
from tests.wire.corpus import ENCODERS, byte_by_byte, encoded_in_pieces, feed_all, split_at

EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def check(case: Case, reading: Reading) -> None:
    assert reading.unreadable == ""
    assert reading.final
    assert reading.usage == case.usage
    assert case.cost(reading) == case.raw["cost"], case.raw["worked"]
    assert reading.model == case.raw.get("model", reading.model)
    shares = [share.model for share in reading.shares]
    assert shares == case.raw.get("shares", shares)
    if reading.shares:
        assert reduce(Usage.plus, (share.usage for share in reading.shares)) == reading.usage


@EACH
def test_a_case_is_metered_as_worked_out(case: Case) -> None:
    """Usage and cost are exact to the nano-dollar, and the case says how and after which document."""
    assert case.route.kind == "metered"
    assert case.raw["worked"]
    assert case.raw["follows"]
    meter = case.meter()
    feed_all(meter, [case.data])
    check(case, meter.reading)


@EACH
def test_fed_byte_by_byte_it_is_the_same(case: Case) -> None:
    """The smallest pieces that a network can make."""
    meter = case.meter()
    feed_all(meter, byte_by_byte(case.data))
    check(case, meter.reading)


@EACH
@given(places=st.lists(st.integers(0, 100_000), max_size=12))
@settings(max_examples=15, deadline=None)
def test_split_anywhere_it_is_the_same(case: Case, places: list[int]) -> None:
    """No split of a body changes what it costs."""
    meter = case.meter()
    feed_all(meter, split_at(case.data, places))
    check(case, meter.reading)


@EACH
@pytest.mark.parametrize("encoding", ENCODERS)
def test_encoded_it_is_the_same(case: Case, encoding: str) -> None:
    """gzip, br and zstd, in small pieces."""
    meter = case.meter()
    feed_all(meter, encoded_in_pieces(case.data, encoding))
    check(case, meter.reading)


@EACH
def test_truncated_anywhere_it_is_exact_or_not_final(case: Case) -> None:
    """A body that ends early raises nothing; where it counts as whole, it costs what it costs."""
    step = max(1, len(case.data) // 2_000)
    for length in range(0, len(case.data), step):
        meter = case.meter()
        feed_all(meter, [case.data[:length]])
        if meter.reading.final and not meter.reading.unreadable:
            # Google's every chunk tells the usage so far, so there a clean end between two of them is an end.
            so_far = case.route.dialect_name == GENERATE and case.data[:length].rstrip(b" \r\n")[-1:] in b"}]"
            assert case.cost(meter.reading) == case.raw["cost"] or so_far


@EACH
def test_the_request_bounds_what_was_billed(case: Case) -> None:
    """What was billed is within what would have been reserved, by bytes and by count; and that is not absurd."""
    if case.raw.get("shortened"):
        return
    for rung in ("bytes", "counted"):
        quote = PRICES.quote(case.call, rung)
        assert quote.input_tokens >= case.usage.input_tokens
        assert quote.output_tokens >= case.usage.output_tokens
        assert quote.amount(quote.output_tokens) >= case.raw["cost"]


def test_pairs_cost_the_same() -> None:
    """A call costs the same streamed and not."""
    pairs: dict[str, set[int]] = defaultdict(set)
    for case in CASES:
        if "pair" in case.raw:
            pairs[case.raw["pair"]].add(case.raw["cost"])
    assert pairs
    assert all(len(costs) == 1 for costs in pairs.values()), pairs


def test_every_metered_endpoint_has_a_case() -> None:
    """An endpoint without a case is not shown to be billed right."""
    begun = {case.begun.route.dialect_name for case in JOB_CASES}  # billed later: test_jobs
    missing = {one.dialect for one in METERED} - {case.route.dialect_name for case in CASES} - begun
    assert missing == set()
