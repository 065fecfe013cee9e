from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmcap_addon.call import Content, Media
from llmcap_addon.errors import PriceError
from llmcap_addon.money import ceil_div
from llmcap_addon.pricing import bounds
from llmcap_addon.pricing.overrides import PriceOverride
from llmcap_addon.pricing.prices import MAX_REMEMBERED, Prices
from llmcap_addon.usage import Terms, Usage
from tests.pricing.calls import TODAY, at, call
from tests.pricing.test_cost import MODELS, usages

LONG = Content(text_bytes=400_000, messages=3)


@example(Usage(0, 6667), ("openai", "nobody-knows-it"), Terms(), Terms(geography="us"))
@example(Usage(0, 6667), ("openai", "gpt-5.6"), Terms("flex"), Terms(geography="us"))
@given(
    usage=usages(),
    model=st.sampled_from(MODELS),
    asked=st.sampled_from([Terms(), Terms("flex"), Terms("priority"), Terms("auto"), Terms(speed="fast")]),
    named=st.sampled_from([Terms(), Terms("default"), Terms(geography="us"), Terms(geography="global")]),
)
def test_no_usage_within_the_bound_costs_more_than_the_quote(
    prices: Prices, usage: Usage, model: tuple[str, str], asked: Terms, named: Terms
) -> None:
    """Whatever part of the bound was cached, written, spoken or searched, the quote covers it; and with nothing in
    reserve that this usage does not use: no audio, no cache write, no search more than it has."""
    content = Content(
        text_bytes=400_000,
        media=(Media("audio", 1000),) if usage.input_audio_tokens else (),
        web_searches=usage.web_search_requests,
    )
    writes = "long" if usage.cache_write_1h_tokens else "short" if usage.cache_write_tokens else "none"
    made = call(*model, content, terms=asked, max_output_tokens=10_000, cache_write=writes)
    quote = prices.quote(made)
    cost = prices.cost(made, usage, named)
    assert cost.amount <= quote.amount(usage.output_tokens, usage.input_tokens)
    if usage.input_tokens <= quote.input_tokens:
        assert cost.amount <= quote.amount(usage.output_tokens)


@pytest.mark.parametrize(("asked", "named"), [("flex", "flex"), ("priority", "priority"), ("", "priority"),
                                              ("auto", "priority"), ("flex", "default")])  # fmt: skip
def test_a_quote_covers_the_tiers_a_provider_may_choose(prices: Prices, asked: str, named: str) -> None:
    """An unset tier may be priority by the project's settings; flex may be answered as default."""
    made = call("openai", "gpt-5", LONG, terms=Terms(asked))
    assert prices.cost(made, Usage(300_000, 900), Terms(named)).amount <= prices.quote(made).amount(900)


def test_default_is_reserved_at_the_standard_price(prices: Prices) -> None:
    """A request that says "default" cannot be billed as priority."""
    made = call("openai", "gpt-5", LONG, terms=Terms("default"))
    assert prices.quote(made).amount(0, 1_000_000) == 1_250_000_000
    assert prices.quote(call("openai", "gpt-5", LONG)).amount(0, 1_000_000) == 2_500_000_000


def test_where_neither_side_names_a_tier_the_standard_price_is_billed(prices: Prices) -> None:
    """Unset in the request and silent in the response means standard; a tier that was asked for by name may apply."""
    usage = Usage(1_000_000, 0)
    assert prices.cost(call("openai", "gpt-4.1"), usage, Terms()).amount == 2_000_000_000
    assert prices.cost(call("openai", "gpt-4.1", terms=Terms("auto")), usage, Terms("auto")).amount == 2_000_000_000
    assert prices.cost(call("openai", "gpt-4.1", terms=Terms("priority")), usage, Terms()).amount == 3_500_000_000


def test_anthropic_quotes_include_a_place_the_workspace_may_have_set(prices: Prices) -> None:
    """`inference_geo` unset is the workspace's choice; "global" rules the uplift out."""
    made = call("anthropic", "claude-opus-4-7", LONG, cache_write="none")
    assert prices.quote(made).amount(0, 1000) == 5_500_000
    there = call("anthropic", "claude-opus-4-7", LONG, cache_write="none", terms=Terms(geography="global"))
    assert prices.quote(there).amount(0, 1000) == 5_000_000


def test_a_regional_host_costs_its_uplift(prices: Prices) -> None:
    """eu.api.openai.com bills a tenth more for the models that have regional prices."""
    made = call("openai", "gpt-5.4", host="eu.api.openai.com")
    assert prices.cost(made, Usage(1000, 100), Terms()).amount == 4_400_000
    assert prices.cost(call("openai", "gpt-5.4"), Usage(1000, 100), Terms()).amount == 4_000_000


@pytest.mark.parametrize(("cache_write", "expected"), [("none", 3_000_000), ("short", 3_750_000), ("long", 6_000_000)])
def test_a_quote_reserves_the_cache_writes_a_request_may_cause(prices: Prices, cache_write: str, expected: int) -> None:
    """Without cache_control no write is reserved; five minutes and an hour at their own prices."""
    made = call("anthropic", "claude-sonnet-4-5", LONG, cache_write=cache_write)
    assert prices.quote(made).amount(0, 1000) == expected


@given(amount=st.integers(0, 10**12), model=st.sampled_from(MODELS), size=st.integers(0, 300_000))
def test_affordable_output_is_the_inverse_of_amount(
    prices: Prices, amount: int, model: tuple[str, str], size: int
) -> None:
    """So many tokens fit in the amount and one more does not."""
    quote = prices.quote(call(*model, Content(text_bytes=size)))
    tokens = quote.affordable_output_tokens(amount)
    assert tokens >= 0
    assert quote.amount(tokens + 1) > amount
    assert tokens == 0 or quote.amount(tokens) <= amount


def test_free_output_is_affordable_to_the_bound(prices: Prices) -> None:
    """Where output costs nothing, all of it is affordable once the input is."""
    free = Prices.load({"api.openai.com": {"*": PriceOverride.flat(1, 0)}}, now_ms=TODAY)
    quote = free.quote(call("openai", "gpt-4o"))
    assert quote.affordable_output_tokens(10**9) == 1000
    assert quote.affordable_output_tokens(0) == 0


def test_an_embedding_has_no_output(prices: Prices) -> None:
    """Embeddings reserve input only, and many inputs together may exceed one input's window."""
    quote = prices.quote(call("openai", "text-embedding-3-small", Content(text_bytes=1_000_000), has_output=False))
    assert quote.output_tokens == 0
    assert quote.limited
    assert quote.input_tokens >= 1_000_000
    assert quote.amount(0) == quote.input_tokens * 20


# -- finding


@pytest.mark.parametrize(
    ("provider", "model", "dollars"),
    [
        ("openai", "gpt-4o-2024-11-20", "2.5"),
        ("openai", "GPT-4o", "2.5"),
        ("openai", "ft:gpt-4o-2024-08-06:acme:support:abc123", "3.75"),
        ("anthropic", "claude-opus-4-1-20250805", "15"),
        ("anthropic", "claude-sonnet-4-5-20250929", "3"),
        ("google", "models/gemini-2.5-flash", "0.3"),
        ("google", "gemini-2.5-pro-preview-06-05", "1.25"),
        ("openrouter", "openai/gpt-4o", "2.5"),
        ("openrouter", "deepseek/deepseek-r1:free", "0"),
        ("gemini", "gemini-2.5-flash", "0.3"),
    ],
)
def test_names_are_found_as_providers_write_them(prices: Prices, provider: str, model: str, dollars: str) -> None:
    """Dated names, prefixes, fine-tunes and upper case find their model's price, by the sources' own rules."""
    priced = prices.cost(call(provider, model), Usage(1_000_000), Terms("default"))
    # A million tokens is a long prompt to some: price a thousand instead.
    small = prices.cost(call(provider, model), Usage(1000), Terms("default"))
    assert small.amount == int(Decimal(dollars) * 1_000_000)
    assert not priced.assumed


def test_an_unknown_model_is_priced_as_the_dearest_of_its_host(prices: Prices) -> None:
    """No model of the provider that is still sold costs more, and the price is marked as assumed."""
    unknown = prices.cost(call("anthropic", "claude-nobody-9"), Usage(1000, 1000), Terms())
    assert unknown.assumed
    assert prices.quote(call("anthropic", "claude-nobody-9")).assumed
    for model in ("claude-opus-4-7", "claude-sonnet-4-5", "claude-haiku-4-5", "claude-fable-5-1"):
        assert prices.cost(call("anthropic", model), Usage(1000, 1000), Terms()).amount <= unknown.amount


def test_an_unknown_provider_is_priced_by_its_dialect(prices: Prices) -> None:
    """A host under `hosts:` that nobody has prices for counts as the provider whose API it speaks."""
    there = prices.cost(call("internal", "nobody-knows-it"), Usage(1000, 1000), Terms())
    assert there == prices.cost(call("openai", "nobody-knows-it"), Usage(1000, 1000), Terms())


def test_a_router_variant_is_priced_as_its_model_and_marked(prices: Prices) -> None:
    """Variants such as ":nitro" and ":online" have no price of their own; ":free" stays free when the response drops the suffix."""
    nitro = prices.cost(call("openrouter", "openai/gpt-4o:nitro"), Usage(1000), Terms())
    assert (nitro.amount, nitro.assumed) == (2_500_000, True)
    free = call("openrouter", "deepseek/deepseek-r1:free")
    assert prices.cost(free, Usage(1000, 1000), Terms(), "deepseek/deepseek-r1").amount == 0


def test_the_response_model_is_priced_when_it_has_a_price(prices: Prices) -> None:
    """A deployment or an alias is billed as the model that answered; an unpriced answer keeps the asked model's."""
    made = call("openai", "my-deployment")
    assert prices.cost(made, Usage(1000), Terms(), "gpt-4o-mini").amount == 150_000
    assert not prices.cost(made, Usage(1000), Terms(), "gpt-4o-mini").assumed
    assert prices.cost(call("openai", "gpt-4o"), Usage(1000), Terms(), "what-is-this").amount == 2_500_000


def test_refusing_unknown_prices_says_what_to_write() -> None:
    """`unknown_price: refuse` names the host and the model in the lines to add; known models still pass."""
    strict = Prices.load(unknown_price="refuse", now_ms=TODAY)
    with pytest.raises(PriceError, match=r"(?s)prices:\n  api\.openai\.com:\n    \"nonesuch\": \{input: "):
        strict.quote(call("openai", "nonesuch"))
    assert not strict.quote(call("openai", "gpt-4o")).assumed


# -- overrides


def priced(**globs: PriceOverride) -> Prices:
    return Prices.load({"api.openai.com": globs}, now_ms=TODAY)


def test_a_price_of_the_users_own_beats_the_table() -> None:
    """It is flat: no tier, no long prompt and no response model changes it."""
    mine = priced(**{"gpt-5.4*": PriceOverride.flat(1, 2, cached_input="0.5")})
    made = call("openai", "gpt-5.4", terms=Terms("priority"), host="api.openai.com")
    cost = mine.cost(made, Usage(300_000, 100, cache_read_tokens=100_000), Terms("priority"), "gpt-4o")
    assert cost.amount == 200_000_000 + 50_000_000 + 200_000
    assert not cost.assumed


def test_the_most_specific_glob_wins() -> None:
    """A spelled-out name beats a glob, more letters beat fewer, "*" comes last."""
    mine = priced(
        **{
            "*": PriceOverride.flat(1, 0),
            "gpt-*": PriceOverride.flat(2, 0),
            "gpt-4o*": PriceOverride.flat(3, 0),
            "GPT-4o": PriceOverride.flat(4, 0),
        }
    )
    amounts = [
        mine.cost(call("openai", name), Usage(1), Terms()).amount for name in ("x", "gpt-5", "gpt-4o-mini", "gpt-4o")
    ]
    assert amounts == [1000, 2000, 3000, 4000]


@pytest.mark.parametrize(
    ("dialect", "cache_write", "expected"),
    [
        ("openai.chat", None, (4, 4, 4)),
        ("anthropic.messages", None, (4, 5, 8)),
        ("anthropic.messages", Decimal(9), (4, 9, 9)),
        ("anthropic.messages", Decimal(6), (4, 6, 8)),
        ("openai.chat", Decimal(6), (4, 6, 6)),
    ],
)
def test_cache_prices_left_out_are_taken_from_the_input_price(
    dialect: str, cache_write: Decimal | None, expected: tuple[int, int, int]
) -> None:
    """Reads cost as input; writes too, but on Anthropic's API 1.25 times and, for an hour, twice."""
    override = PriceOverride.flat(4, 20, **({} if cache_write is None else {"cache_write": cache_write}))
    mine = Prices.load({"LLM.internal.example": {"*": override}}, now_ms=TODAY)
    made = call("internal", "any", dialect=dialect)
    costs = (
        mine.cost(made, Usage(1, cache_read_tokens=1), Terms()),
        mine.cost(made, Usage(1, cache_write_tokens=1), Terms()),
        mine.cost(made, Usage(1, cache_write_tokens=1, cache_write_1h_tokens=1), Terms()),
    )
    assert tuple(cost.amount for cost in costs) == tuple(dollars * 1000 for dollars in expected)


# -- time


def test_a_scheduled_price_applies_from_its_day() -> None:
    """gemini-3.8-flash doubles on 2027-01-01 (UTC), its tiers with it."""
    before, after = (Prices.load(now_ms=at(*day)) for day in ((2026, 12, 31), (2027, 1, 1)))
    made = call("google", "gemini-3.8-flash")
    for terms in (Terms(), Terms("priority"), Terms("flex")):
        old, new = (prices.cost(made, Usage(1000, 1000), terms).amount for prices in (before, after))
        assert new == 2 * old
    assert before.cost(made, Usage(1000, 1000), Terms()).amount == 750_000 + 3_750_000


def test_a_running_process_sees_the_day_change() -> None:
    """A card compiled yesterday is not used today."""
    now = [at(2026, 12, 31)()]
    prices = Prices.load(now_ms=lambda: now[0])
    made = call("google", "gemini-3.8-flash")
    first = prices.cost(made, Usage(1000), Terms()).amount
    now[0] = at(2027, 1, 1)()
    assert prices.cost(made, Usage(1000), Terms()).amount == 2 * first


@pytest.mark.parametrize(
    ("hour", "nanousd"), [(0, 990_000), (1, 1_980_000), (3, 1_980_000), (4, 990_000), (6, 1_980_000), (10, 990_000)]
)
def test_deepseek_costs_half_outside_its_peak(hour: int, nanousd: int) -> None:
    """On workdays 01–04 and 06–10 UTC are dear (https://api-docs.deepseek.com/quick_start/pricing); a quote always is,
    as long as nobody knows when the call ends."""
    moment = at(2026, 11, 23)() + hour * 3_600_000 + 60_000
    prices = Prices.load(now_ms=lambda: moment)
    made = call("deepseek", "deepseek-v4-pro", cache_write="none")
    assert prices.cost(made, Usage(0, 500), Terms(), at_ms=moment).amount == nanousd
    assert prices.quote(made).amount(500, 0) == 1_980_000
    weekend = moment - 2 * 86_400_000
    assert Prices.load(now_ms=lambda: weekend).cost(made, Usage(0, 500), Terms()).amount == 990_000


# -- failures and bounds


def test_a_missing_or_damaged_table_is_one_clear_error(tmp_path: Path) -> None:
    """Whatever is wrong with the file, the message names it and what to do."""
    bad = tmp_path / "prices.json.gz"
    for data in (None, b"", b"not gzip", gzip.compress(b"{"), gzip.compress(b"[]"), gzip.compress(b'{"format":2}')):
        if data is not None:
            bad.write_bytes(data)
        with pytest.raises(PriceError, match=r"prices\.json\.gz"):
            Prices.load(now_ms=TODAY, path=bad)


def test_what_is_remembered_is_bounded() -> None:
    """A client that invents model names can't fill the memory."""
    prices = Prices.load(now_ms=TODAY)
    for number in range(MAX_REMEMBERED + 10):
        prices.quote(call("groq", f"invented-{number}"))
    assert len(prices._lookup._found) <= MAX_REMEMBERED
    assert len(prices._cards) <= MAX_REMEMBERED


def test_limits_are_told(prices: Prices) -> None:
    """Context window and answer limit come from the table; unknown ones are None, not 0."""
    assert prices.limits("openai", "api.openai.com", "gpt-4o") == bounds.Limits(128_000, 16_384)
    assert prices.limits("openai", "api.openai.com", "nonesuch") == bounds.Limits(None, None)
    assert prices.has_price("openai", "api.openai.com", "gpt-4o")
    assert not prices.has_price("openai", "api.openai.com", "nonesuch")


def test_searches_are_reserved_and_never_free(prices: Prices) -> None:
    """A search has a price even where the model's row names none."""
    for provider, model in MODELS:
        with_searches = prices.quote(call(provider, model, Content(web_searches=2)))
        without = prices.quote(call(provider, model))
        assert with_searches.amount(0) > without.amount(0)
        assert prices.cost(call(provider, model), Usage(web_search_requests=1), Terms()).amount > 0


def test_amounts_add_up(prices: Prices) -> None:
    """A quote's amount is input at its worst price plus output at its, rounded up once."""
    quote = prices.quote(call("openai", "gpt-4o-mini", Content(text_bytes=100), terms=Terms("default")))
    assert quote.input_tokens == 164
    assert quote.amount(10) == ceil_div(164 * 150 + 10 * 600, 1)
    assert quote.amount(10, 1) == 150 + 6000
