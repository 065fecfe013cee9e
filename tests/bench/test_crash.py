"""The crash benchmark, reduced: what `scripts/bench crash` proves with 50 kills."""

from __future__ import annotations

from tests.bench.crash import crash


def test_kills_under_load_lose_nothing() -> None:
    """After each kill -9 the ledger is not below the bill, nothing stays pending, and no cap is exceeded."""
    figures = crash(kills=3, seed=1)
    assert figures.violations == []
    assert figures.kills == 3
    assert figures.answers["broken"]
    assert 0 < figures.bill <= figures.posted
