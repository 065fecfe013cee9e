from __future__ import annotations

import dataclasses
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.pricing.cost import cost, exact_cost
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.pricing.rates import RateCard, Rates, femtousd
from llmcap_addon.usage import Terms, Usage
from tests.pricing.calls import call

STANDARD = Terms()

# Dollars per million tokens. The arithmetic is worked by hand; the prices are those the shipped table's two sources
# attribute to the providers' lists. Seen on a provider's own page (2026-11): DeepSeek's, at api-docs.deepseek.com/
# quick_start/pricing. The others were not compared with OpenAI's, Anthropic's and Google's pages one by one, so these
# cases prove what is made of a price, and not that the price is right.
HAND_WORKED = [
    # gpt-4o: 2.50 in, 1.25 cached, 10 out. 1000 × 2.5 + 234 × 1.25 + 567 × 10 = 8462.5 µ$
    ("openai", "gpt-4o", Usage(1234, 567, cache_read_tokens=234), STANDARD, 8_462_500),
    # priority: 4.25, 2.125, 17. 4250 + 497.25 + 9639
    ("openai", "gpt-4o", Usage(1234, 567, cache_read_tokens=234), Terms("priority"), 14_386_250),
    # gpt-4o-mini: 0.15 in, 0.60 out. 150.15 + 199.8
    ("openai", "gpt-4o-mini", Usage(1001, 333), STANDARD, 349_950),
    # gpt-5: 1.25, 0.125, 10; reasoning is output. 2500 + 1000 + 20000
    ("openai", "gpt-5", Usage(10_000, 2000, cache_read_tokens=8000, reasoning_tokens=1500), STANDARD, 23_500_000),
    ("openai", "gpt-5", Usage(10_000, 2000, cache_read_tokens=8000), Terms("flex"), 11_750_000),
    ("openai", "gpt-5", Usage(10_000, 2000, cache_read_tokens=8000), Terms("default"), 23_500_000),
    # gpt-5.4: 2.50 in, 15 out; above 272,000 input tokens 5 and 22.50 for the whole call
    ("openai", "gpt-5.4", Usage(272_000, 1000), STANDARD, 695_000_000),
    ("openai", "gpt-5.4", Usage(272_001, 1000), STANDARD, 1_382_505_000),
    # claude-sonnet-4-5: 3 in, 15 out, 0.30 read, 3.75 and 6 written
    ("anthropic", "claude-sonnet-4-5", Usage(1000, 100, 400, 300, 100), STANDARD, 900_000 + 120_000 + 750_000
     + 600_000 + 1_500_000),
    # above 200,000 (with the cache): 6, 22.50, 0.60, 7.50, 12
    ("anthropic", "claude-sonnet-4-5", Usage(250_000, 1000, 100_000, 50_000, 20_000), STANDARD, 1_147_500_000),
    # claude-opus-4-1: 15, 75, 1.50, 18.75, 30
    ("anthropic", "claude-opus-4-1", Usage(1000, 100, 500, 200), STANDARD, 4_500_000 + 750_000 + 3_750_000
     + 7_500_000),
    # claude-haiku-4-5: 1, 5, 0.10, 1.25, 2
    ("anthropic", "claude-haiku-4-5-20251001", Usage(1000, 10, 100, 600, 200), STANDARD, 300_000 + 10_000 + 500_000
     + 400_000 + 50_000),
    # claude-opus-4-7: 5, 25; a tenth more where inference is bound to the US
    ("anthropic", "claude-opus-4-7", Usage(1000, 100), STANDARD, 7_500_000),
    ("anthropic", "claude-opus-4-7", Usage(1000, 100), Terms(geography="us"), 8_250_000),
    ("anthropic", "claude-opus-4-7", Usage(1000, 100), Terms(geography="global"), 7_500_000),
    # claude-opus-4-8 fast: 10, 50
    ("anthropic", "claude-opus-4-8", Usage(1000, 100), Terms(speed="fast"), 15_000_000),
    # web search: $10 per thousand
    ("anthropic", "claude-haiku-4-5", Usage(1000, 10, web_search_requests=3), STANDARD, 31_050_000),
    # gemini-2.5-pro: 1.25, 10; above 200,000: 2.50, 15, 0.25 cached
    ("google", "gemini-2.5-pro", Usage(200_000, 1000), STANDARD, 260_000_000),
    ("google", "gemini-2.5-pro", Usage(200_001, 1000, cache_read_tokens=100_001), STANDARD, 250_000_000 + 25_000_250
     + 15_000_000),
    # gemini-2.5-flash: 0.30 text, 1.00 audio, 0.03 and 0.10 cached, 2.50 out
    ("google", "gemini-2.5-flash", Usage(1000, 100, cache_read_tokens=100, input_audio_tokens=600,
     cache_read_audio_tokens=50), STANDARD, 350 * 300 + 550 * 1000 + 50 * 30 + 50 * 100 + 250_000),
    # deepseek-v4-pro, on a Monday at 00:00 UTC, outside the hours of its peak price: 0.66, 0.022, 1.98
    ("deepseek", "deepseek-v4-pro", Usage(1000, 100, cache_read_tokens=500), STANDARD, 330_000 + 11_000 + 198_000),
    # embeddings: 0.02 and 0.13
    ("openai", "text-embedding-3-small", Usage(7), STANDARD, 140),
    ("openai", "text-embedding-3-large", Usage(1_000_000), STANDARD, 130_000_000),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "model", "usage", "named", "expected"), HAND_WORKED)
def test_a_usage_costs_what_the_price_list_says(
    prices: Prices, provider: str, model: str, usage: Usage, named: Terms, expected: int
) -> None:
    """Costs worked out by hand from the published prices come out to the nano-dollar, and nothing is assumed."""
    priced = prices.cost(call(provider, model), usage, named)
    assert priced.amount == expected
    assert not priced.assumed


def test_nothing_used_costs_nothing(prices: Prices) -> None:
    """A usage of zeros is $0, not an unknown."""
    assert prices.cost(call("openai", "gpt-4o"), Usage(), Terms()).amount == 0


@pytest.mark.parametrize(("tokens", "expected"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)])
def test_a_cost_is_rounded_up_once(tokens: int, expected: int) -> None:
    """Half a nano-dollar a token: two tokens are one nano-dollar, not two."""
    rate = femtousd(Decimal("0.0005"))
    nothing = dict.fromkeys((field.name for field in dataclasses.fields(Rates)), 0)
    card = RateCard(Rates(**{**nothing, "input": rate}))
    assert cost(card, Usage(tokens)) == expected


def usages() -> st.SearchStrategy[Usage]:
    """Usages whose subsets fit in their totals."""

    @st.composite
    def build(draw: st.DrawFn) -> Usage:
        total = draw(st.integers(0, 400_000))
        read = draw(st.integers(0, total))
        write = draw(st.integers(0, total - read))
        output = draw(st.integers(0, 10_000))
        audio = draw(st.integers(0, total))
        read_audio = draw(st.integers(0, min(read, audio)))
        image = draw(st.integers(0, total - audio))
        output_audio = draw(st.integers(0, output))
        return Usage(
            total, output, read, write, draw(st.integers(0, write)), draw(st.integers(0, output)), audio, output_audio,
            read_audio, draw(st.integers(0, output - output_audio)), draw(st.integers(0, 5)), image,
            draw(st.integers(0, min(read - read_audio, image))),
        )  # fmt: skip

    return build()


MODELS = [
    ("openai", "gpt-4o"),
    ("openai", "gpt-5.6"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-haiku-5-5"),
    ("google", "gemini-2.5-flash"),
    ("google", "gemini-2.5-pro"),
    ("deepseek", "deepseek-chat"),
    ("openrouter", "anthropic/claude-sonnet-4.5"),
    ("openrouter", "google/gemini-2.5-flash"),
    ("xai", "grok-4.3"),
    ("openai", "nobody-knows-it"),
]


@given(usage=usages(), model=st.sampled_from(MODELS), more=st.integers(1, 1000))
def test_more_output_never_costs_less(prices: Prices, usage: Usage, model: tuple[str, str], more: int) -> None:
    """Cost grows with output tokens and with plain input tokens."""
    asked = call(*model)
    amount = prices.cost(asked, usage, Terms()).amount
    assert amount >= 0
    for field in ("input_tokens", "output_tokens", "web_search_requests"):
        larger = dataclasses.replace(usage, **{field: getattr(usage, field) + more})
        assert prices.cost(asked, larger, Terms()).amount >= amount


@given(usage=usages(), model=st.sampled_from(MODELS))
def test_streaming_changes_nothing(prices: Prices, usage: Usage, model: tuple[str, str]) -> None:
    """The same usage costs the same to the nano-dollar, streamed or not."""
    whole = prices.cost(call(*model), usage, Terms())
    assert prices.cost(call(*model, streamed=True), usage, Terms()) == whole


SPREAD = Rates(**{field.name: 10 ** (number + 3) for number, field in enumerate(dataclasses.fields(Rates))})
"""Each price ten times the one before."""


@given(usage=usages())
def test_every_token_is_priced_once(usage: Usage) -> None:
    """At one price for all of them, a cost is the number of tokens: none is left out, none counted twice."""
    same = Rates(*(7 for _ in dataclasses.fields(Rates)))
    tokens = usage.input_tokens + usage.output_tokens + usage.web_search_requests
    assert exact_cost(RateCard(same), usage) == 7 * tokens


@given(usage=usages(), field=st.sampled_from([field.name for field in dataclasses.fields(Rates)]))
def test_a_dearer_price_never_makes_a_usage_cheaper(usage: Usage, field: str) -> None:
    """Whatever subset a price belongs to, raising it lowers no cost."""
    dearer = dataclasses.replace(SPREAD, **{field: 2 * getattr(SPREAD, field)})
    assert exact_cost(RateCard(dearer), usage) >= exact_cost(RateCard(SPREAD), usage)


@given(usage=usages())
def test_no_token_costs_more_than_its_dearest_price(usage: Usage) -> None:
    """What a quote reserves for each token of input, the dearest of its prices, is never exceeded."""
    inputs = max(SPREAD.input, SPREAD.cached_input, SPREAD.cache_write, SPREAD.cache_write_1h, SPREAD.audio_input,
                 SPREAD.cached_audio, SPREAD.image_input, SPREAD.cached_image)  # fmt: skip
    outputs = max(SPREAD.output, SPREAD.reasoning, SPREAD.audio_output, SPREAD.image_output)
    most = usage.input_tokens * inputs + usage.output_tokens * outputs + usage.web_search_requests * SPREAD.web_search
    assert exact_cost(RateCard(SPREAD), usage) <= most
