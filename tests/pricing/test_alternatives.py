"""Tests of calls on which further models may work: what is reserved for them, and what their shares cost."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmcap_addon.call import Alternative, Call, Content
from llmcap_addon.pricing.overrides import PriceOverride
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.usage import NO_TERMS, Share, Terms, Usage

HOST = "api.anthropic.com"
CALL = Call(
    dialect="anthropic.messages",
    provider="anthropic",
    host=HOST,
    model="claude-haiku-4-5",
    streamed=False,
    content=Content(texts=("hi",), text_bytes=1_000),
    max_output_tokens=100,
    cache_write="none",
)
ADVISED = replace(CALL, alternatives=(Alternative("claude-opus-4-6", passes=2, max_output_tokens=2_000),))


def prices(**options: object) -> Prices:
    return Prices.load(now_ms=lambda: 1_795_392_000_000, **options)  # type: ignore[arg-type]


def test_further_models_are_reserved_on_top() -> None:
    """Two passes of an advisor cost at most twice its input (the prompt and the answer so far) and its limit."""
    plain, advised = prices().quote(CALL), prices().quote(ADVISED)
    read = plain.input_tokens + 100
    # Opus 4.6: 5 and 25 dollars a million, a tenth more where the workspace's geography may be the US.
    assert advised.amount(100) - plain.amount(100) == 2 * (read * 5_500 + 2_000 * 27_500)
    assert advised.affordable_output_tokens(plain.amount(100)) == 0


def test_a_model_of_the_providers_choice_is_the_dearest() -> None:
    """Where the request does not name the further model, no model of the provider costs more than what is reserved."""
    chosen = prices().quote(replace(CALL, alternatives=(Alternative("", max_output_tokens=100),)))
    for model in ("claude-opus-4-6", "claude-fable-5", "claude-opus-5-5", "claude-sonnet-5"):
        named = prices().quote(replace(CALL, alternatives=(Alternative(model, max_output_tokens=100),)))
        assert chosen.amount(100) >= named.amount(100)


def test_the_window_of_the_further_model_bounds_its_input() -> None:
    """A further model reads no more than its context window, whatever the tools bring."""
    long = replace(ADVISED, content=Content(text_bytes=900_000, server_turns=50))
    [alternative] = long.alternatives
    without = prices().quote(replace(long, alternatives=()))
    added = prices().quote(long).amount(0) - without.amount(0)
    assert added <= alternative.passes * (1_000_000 * 5_500 + 2_000 * 27_500)


def test_shares_of_further_models_have_their_own_price() -> None:
    """A share costs its own model's price, even where the user has a price of their own for the model asked for."""
    mine = {HOST: {"claude-haiku-4-5": PriceOverride.flat(2, 10)}}
    shares = (Share(Usage(1_000, 100)), Share(Usage(1_000, 100), "claude-opus-4-6", NO_TERMS))
    total = shares[0].usage.plus(shares[1].usage)
    priced = prices(overrides=mine).cost(ADVISED, total, Terms(), shares=shares)
    assert priced.amount == (1_000 * 2_000 + 100 * 10_000) + (1_000 * 5_000 + 100 * 25_000)
    assert not priced.assumed


def test_a_share_of_an_unknown_model_is_assumed_dear() -> None:
    """A further model without a price is the dearest of its host, never the cheap one that was asked for."""
    share = Share(Usage(1_000, 100), "claude-nobody-knows-9")
    priced = prices().cost(ADVISED, share.usage, Terms(), shares=(share,))
    asked = prices().cost(ADVISED, share.usage, Terms())
    assert priced.assumed
    assert priced.amount > asked.amount


@pytest.mark.parametrize("rung", ["bytes", "counted"])
def test_speed_of_a_further_model(rung: str) -> None:
    """A further model that may run fast is reserved at its fast price."""
    slow = replace(CALL, alternatives=(Alternative("claude-opus-5", max_output_tokens=100),))
    fast = replace(CALL, alternatives=(Alternative("claude-opus-5", max_output_tokens=100, speed="fast"),))
    base = prices().quote(CALL).amount(100)
    added = [prices().quote(call, rung).amount(100) - base for call in (slow, fast)]  # type: ignore[arg-type]
    assert added[1] >= 2 * added[0] - 2
