"""Models of which one answers, and prices of pieces that nobody lists."""

from __future__ import annotations

import pytest

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing.overrides import PriceOverride
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.usage import Terms, Usage
from tests.pricing.calls import TODAY, call

PRICES = Prices.load(now_ms=TODAY)
CHEAP, DEAR = "openai/gpt-5-mini", "anthropic/claude-sonnet-4.5"
USED = Usage(input_tokens=1000, output_tokens=100)


def test_a_quote_bounds_each_of_its_models() -> None:
    """Input, output, hidden output and price, whichever has the most of them."""
    one, two = PRICES.quote(call("openrouter", CHEAP)), PRICES.quote(call("openrouter", DEAR))
    both = PRICES.quote(call("openrouter", CHEAP, instead=(DEAR,)))
    assert both.input_tokens == max(one.input_tokens, two.input_tokens)
    assert both.output_tokens == max(one.output_tokens, two.output_tokens)
    for tokens in (0, 1, 500):
        for read in (1, 300_000):
            assert both.amount(tokens, read) >= max(one.amount(tokens, read), two.amount(tokens, read))
    assert both.amount(500) == PRICES.quote(call("openrouter", DEAR, instead=(CHEAP, CHEAP))).amount(500)


def test_an_unknown_one_counts_as_the_dearest_or_is_refused() -> None:
    """Both where a name has no price and where the provider chooses."""
    for unknown in ("", "nobody/knows-this"):
        assumed = PRICES.quote(call("openrouter", CHEAP, instead=(unknown,)))
        assert assumed.assumed
        assert assumed.amount(100) > PRICES.quote(call("openrouter", DEAR)).amount(100)
        with pytest.raises(PriceError):
            Prices.load(unknown_price="refuse", now_ms=TODAY).quote(call("openrouter", CHEAP, instead=(unknown,)))


def test_the_users_own_price_is_that_of_the_model_that_answered() -> None:
    """Not that of the one asked for."""
    own = {"openrouter.ai": {CHEAP: PriceOverride.flat(1, 1), DEAR: PriceOverride.flat(7, 7)}}
    mine = Prices.load(own, now_ms=TODAY)
    asked = call("openrouter", CHEAP, instead=(DEAR,))
    assert mine.cost(asked, USED, Terms(), CHEAP).amount == 1100 * 1_000
    dear = mine.cost(asked, USED, Terms(), DEAR)
    assert (dear.amount, dear.own) == (1100 * 7_000, True)


def test_a_provider_states_what_a_picture_of_an_unlisted_model_costs() -> None:
    """Instead of the dearest of anybody's; and it stays assumed."""
    drawn = call(
        "together", "somebody/new-flux", dialect="compatible.images", has_output=False,
        unit_bound=Usage(output_images=2),
    )  # fmt: skip
    priced = PRICES.cost(drawn, Usage(output_images=2), Terms())
    assert (priced.amount, priced.assumed) == (600_000_000, True)


@pytest.mark.parametrize(
    ("model", "tier", "amount"),
    [
        ("mistral-ocr-4", "", 4_000_000),
        ("mistral-ocr-4", "annotated", 9_000_000),
        ("mistral-ocr-2503", "annotated", 4_000_000),
    ],
)
def test_annotated_pages(model: str, tier: str, amount: int) -> None:
    """At their own price; four times the other where none is listed."""
    asked = call("mistral", model, dialect="mistral.ocr", has_output=False, unit_bound=Usage(pages=1),
                 terms=Terms(service_tier=tier))  # fmt: skip
    assert PRICES.quote(asked).amount(0, 0) == amount
    assert PRICES.cost(asked, Usage(pages=1), Terms(), model).amount == amount


@pytest.mark.parametrize(
    ("used", "price"), [(Usage(input_tokens=1_000), 5_000_000), (Usage(output_tokens=1_000), 8_000_000)]
)
def test_where_nobody_says_who_answered_the_dearest_for_this_usage_is_billed(used: Usage, price: int) -> None:
    """One model may be dearer in what it reads and another in what it writes; the user's own prices count too."""
    own = {"openrouter.ai": {"mine/reads": PriceOverride.flat(5, 1), "mine/writes": PriceOverride.flat(1, 8)}}
    mine = Prices.load(own, now_ms=TODAY)
    for first, second in (("mine/reads", "mine/writes"), ("mine/writes", "mine/reads")):
        asked = call("openrouter", first, instead=(second,))
        priced = mine.cost(asked, used, Terms())
        assert (priced.amount, priced.own) == (price, True)
