from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.wire.billed import MAX_BILLED, billed_amount

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("cost", "cost_details", "is_byok", "upstream_inference_cost", "total_cost", "request_cost", "currency",
        "cost_in_usd_ticks")  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "usage", "expected"),
    [
        ("openrouter", {"cost": 0.0071}, 7_100_000),
        ("openrouter", {"cost": 1e-9}, 1),
        ("openrouter", {"cost": 1.5e-10}, 1),
        ("openrouter", {"cost": 3}, 3_000_000_000),
        ("openrouter", {"cost": 0, "is_byok": False}, 0),
        ("openrouter", {"cost": 0, "cost_details": {"upstream_inference_cost": 0.5}}, 500_000_000),
        ("openrouter", {"cost": 0.01, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.5}}, 10_000_000),
        ("openrouter", {"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.5}}, 510_000_000),
        ("openrouter", {"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, None),
        ("openrouter", {"cost": None}, None),
        ("openrouter", {"cost": "0.01"}, None),
        ("openrouter", {"cost": True}, None),
        ("openrouter", {"cost": -0.01}, None),
        ("openrouter", {"cost": float("nan")}, None),
        ("openrouter", {"cost": float("inf")}, None),
        ("openrouter", {"cost": 10_000.01}, None),
        ("openrouter", {"cost": 10**400}, None),
        ("openrouter", None, None),
        ("openrouter", [], None),
        ("xai", {"cost_in_usd_ticks": 37_756_000}, 3_775_600),
        ("xai", {"cost_in_usd_ticks": 1}, 1),
        ("xai", {"cost_in_usd_ticks": 0}, 0),
        ("xai", {"cost_in_usd_ticks": -1}, None),
        ("xai", {"cost_in_usd_ticks": 1.5}, None),
        ("xai", {"cost_in_usd_ticks": True}, None),
        ("xai", {"cost_in_usd_ticks": 10**15}, None),
        ("xai", {}, None),
        ("perplexity", {"cost": {"total_cost": 0.005017, "request_cost": 0.005}}, 5_017_000),
        ("perplexity", {"cost": {"total_cost": 0}}, None),
        ("perplexity", {"cost": {"total_cost": 0, "request_cost": 0}}, 0),
        ("perplexity", {"cost": {"total_cost": 0.1, "currency": "EUR"}}, None),
        ("perplexity", {"cost": 0.1}, None),
    ],
)
def test_what_is_said_is_read_and_anything_odd_is_not(provider: str, usage: Any, expected: int | None) -> None:
    """Amounts become nano-dollars by their own digits, rounded up; what is no amount is no word."""
    assert billed_amount(provider, usage) == expected


@pytest.mark.parametrize("provider", ["openai", "groq", "deepinfra", "custom", ""])
def test_others_are_not_believed(provider: str) -> None:
    """Whoever does not document the number as what is billed can't set a call's cost."""
    assert billed_amount(provider, {"cost": 0, "cost_in_usd_ticks": 0, "estimated_cost": 0}) is None


@given(st.decimals(min_value=0, max_value=1000, places=12))
@settings(deadline=None)
def test_never_below_what_was_said(cost: Decimal) -> None:
    """However many digits a cost has, it is rounded up once and by less than a nano-dollar."""
    number = float(cost)
    expected = int((Decimal(repr(number)) * 10**9).to_integral_value(rounding=ROUND_CEILING))
    assert billed_amount("openrouter", {"cost": number}) == expected


@given(
    st.sampled_from(["openrouter", "xai", "perplexity", "x"]),
    st.dictionaries(st.sampled_from(KEYS), JSON | st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3)),
)
@settings(deadline=None)
def test_nothing_raises_and_every_amount_is_within_bounds(provider: str, usage: Any) -> None:
    """Whatever stands in a usage."""
    amount = billed_amount(provider, usage)
    assert amount is None or (type(amount) is int and 0 <= amount <= 2 * MAX_BILLED)
