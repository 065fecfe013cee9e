from __future__ import annotations

import dataclasses

import pytest

from llmcap_addon.call import Call, Content
from llmcap_addon.errors import PriceError
from llmcap_addon.pricing import batch_quote
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.usage import BATCH_PART, NO_TERMS, Share, Terms, Usage
from tests.pricing.calls import call

BATCH = Terms(service_tier=BATCH_PART)


def batch(*parts: Call) -> Call:
    return call(parts[0].provider, parts[0].model, dialect="openai.batches", parts=parts, editable=False, terms=BATCH)


def test_a_batch_may_cost_the_sum_of_its_requests(prices: Prices) -> None:
    """Each at its own price, with its whole answer, whatever its neighbours are."""
    one = call("openai", "gpt-4o-mini", Content(text_bytes=1_000_000), max_output_tokens=1000, terms=BATCH)
    other = call("openai", "gpt-5-mini", Content(text_bytes=100, web_searches=2), max_output_tokens=7, terms=BATCH)
    apart = [prices.quote(part) for part in (one, other)]
    quote = prices.quote(batch(one, other))
    assert quote.amount(0) == quote.amount(1000) == sum(each.amount(each.output_tokens) for each in apart)
    assert quote.input_tokens == sum(each.input_tokens for each in apart)
    assert quote.output_tokens == quote.hidden_output_tokens == quote.affordable_output_tokens(10**12) == 0
    assert quote.limited
    assert not quote.assumed
    assert quote.least_tokens(5) == 5


@pytest.mark.parametrize(
    ("provider", "model", "nanousd"),
    [
        ("openai", "gpt-4o-mini", 300_000),
        ("anthropic", "claude-haiku-4-5", 2_500_000),
        ("google", "gemini-3.5-flash", 4_500_000),
        ("mistral", "mistral-large-latest", 6_000_000),
        ("xai", "grok-4", 15_000_000),
    ],
)
def test_a_batch_is_reserved_at_half_where_the_table_says_so(
    prices: Prices, provider: str, model: str, nanousd: int
) -> None:
    """1,000 output tokens at the batch price, or where none is listed (or the word may be a request's own) the standard
    one."""
    made = call(provider, model, max_output_tokens=1000, cache_write="none", terms=BATCH)
    quote = prices.quote(made)
    assert quote.amount(1000) - quote.amount(0) == nanousd


def test_each_request_of_a_batch_is_billed_at_its_own_length(prices: Prices) -> None:
    """Two prompts of 200,000 tokens are not one of 400,000, which costs more by the token; rounded up once."""
    made = call("openai", "gpt-5.5", terms=BATCH)
    share = Share(Usage(200_000, 1001), "gpt-5.5", BATCH)
    total = share.usage.plus(share.usage)
    assert prices.cost(made, total, NO_TERMS, shares=(share, share)).amount == 2 * (500_000_000 + 15_015_000)
    assert prices.cost(made, total, BATCH).amount > 2 * 515_015_000


def test_thinking_in_a_batch_costs_half_as_other_output_does(prices: Prices) -> None:
    """The table names no batch price for it where it costs as output."""
    made = call("google", "gemini-2.5-flash", terms=BATCH)
    assert prices.cost(made, Usage(0, 1000, reasoning_tokens=800), BATCH).amount == 1_250_000


def test_what_a_file_holds_costs_what_was_noted(prices: Prices) -> None:
    """The file itself has passed before."""
    noted = call("openai", "gpt-4o-mini", stored="file-1", stored_bound=123_456)
    assert prices.quote(noted).amount(0) == 123_456
    assert prices.quote(noted, "counted").amount(0) == 123_456
    with pytest.raises(PriceError, match="file-1"):
        prices.quote(dataclasses.replace(noted, stored_bound=None))


def test_a_large_batch_is_not_tokenized(prices: Prices, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting is for batches that take seconds, not minutes."""
    text = "word " * 1000
    part = call("openai", "gpt-4o-mini", Content(texts=(text,), text_bytes=len(text)), terms=BATCH)
    whole = batch(part, part)
    assert prices.quote(whole, "counted").amount(0) < prices.quote(whole).amount(0)
    monkeypatch.setattr(batch_quote, "MAX_COUNTED_BYTES", 2 * len(text) - 1)
    assert prices.quote(whole, "counted") == prices.quote(whole)


def test_an_unknown_model_in_a_batch_is_marked(prices: Prices) -> None:
    """One of them is enough."""
    known, unknown = (call("openai", name, terms=BATCH) for name in ("gpt-4o-mini", "nobody-knows-it"))
    assert prices.quote(batch(known, unknown)).assumed
