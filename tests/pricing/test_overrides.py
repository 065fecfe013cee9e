"""Tests of prices of the user's own: what they can state, and what holds where they state nothing."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from llmcap_addon.call import Content
from llmcap_addon.pricing.hours import Hours
from llmcap_addon.pricing.overrides import OwnRows, PriceOverride, own_card
from llmcap_addon.pricing.rates import Row
from llmcap_addon.usage import Terms, Usage
from tests.pricing.calls import call
from tests.pricing.tables import model, own, prices

STANDARD = Terms()
TABLE = {"openai": {"gpt-4o": model(input="2.5", output="10", web_search="10")}}


def row(**amounts: str) -> Row:
    return {name: Decimal(amount) for name, amount in amounts.items()}


def priced_by(rows: OwnRows, usage: Usage, terms: Terms = STANDARD) -> int:
    override = PriceOverride(((dt.date.min, own_card(rows)),))
    priced = prices(TABLE, overrides=own(override)).cost(call("openai", "gpt-4o"), usage, terms)
    assert priced.own
    assert not priced.assumed
    return priced.amount


def flat(**amounts: str) -> OwnRows:
    return OwnRows(row(**amounts), {}, {})


@pytest.mark.parametrize(
    ("field", "usage", "nanousd"),
    [
        ("cached_input", Usage(2, cache_read_tokens=2), 14_000),
        ("cache_write", Usage(2, cache_write_tokens=2), 14_000),
        ("cache_write_1h", Usage(2, cache_write_tokens=2, cache_write_1h_tokens=2), 14_000),
        ("reasoning", Usage(0, 2, reasoning_tokens=2), 14_000),
        ("audio_input", Usage(2, input_audio_tokens=2), 14_000),
        ("cached_audio", Usage(2, 0, 2, input_audio_tokens=2, cache_read_audio_tokens=2), 14_000),
        ("audio_output", Usage(0, 2, output_audio_tokens=2), 14_000),
        ("image_input", Usage(2, input_image_tokens=2), 14_000),
        ("cached_image", Usage(2, 0, 2, input_image_tokens=2, cache_read_image_tokens=2), 14_000),
        ("image_output", Usage(0, 2, output_image_tokens=2), 14_000),
        ("web_search", Usage(web_search_requests=2), 14_000_000),
        ("file_search", Usage(file_search_requests=2), 14_000_000),
        ("maps", Usage(maps_requests=2), 14_000_000),
        ("code_session", Usage(code_sessions=2), 14_000_000),
        ("per_image", Usage(output_images=2), 14_000_000_000),
        ("per_character", Usage(input_characters=2), 14_000_000_000),
        ("per_second_in", Usage(input_audio_ms=2000), 14_000_000_000),
        ("per_second_out", Usage(output_audio_ms=2000), 14_000_000_000),
        ("per_page", Usage(pages=2), 14_000_000_000),
        ("per_query", Usage(search_units=2), 14_000_000_000),
    ],
)
def test_each_price_can_be_stated(field: str, usage: Usage, nanousd: int) -> None:
    """7 dollars per million, per thousand or for one, where everything else costs 1 and 2."""
    assert priced_by(flat(input="1", output="2", **{field: "7"}), usage) == nanousd


def test_what_is_left_out_costs_as_what_is_nearest() -> None:
    """Reads, writes, audio and images as input, or as output; a stated audio price holds for cached audio too."""
    plain = flat(input="4", output="20")
    usage = Usage(100, 50, 20, 10, input_audio_tokens=30, output_audio_tokens=20, output_image_tokens=10)
    assert priced_by(plain, usage) == 100 * 4000 + 50 * 20_000
    spoken = flat(input="4", output="20", cached_input="1", audio_input="40", image_input="6")
    cached = Usage(
        2, 0, 2, input_audio_tokens=1, cache_read_audio_tokens=1, input_image_tokens=1, cache_read_image_tokens=1
    )
    assert priced_by(spoken, cached) == 40_000 + 6_000


def test_what_is_left_out_by_the_piece_is_the_tables() -> None:
    """A search costs what the table says of the model, also for a model with a price of the user's."""
    assert priced_by(flat(input="0", output="0"), Usage(web_search_requests=1)) == 10_000_000


def test_a_write_below_the_input_price_is_taken_at_its_word() -> None:
    """In the table such a price is storage on top of the input; the user states what a token costs."""
    assert priced_by(flat(input="4", output="0", cache_write="1"), Usage(2, cache_write_tokens=1)) == 5_000


def test_tiers_that_are_stated_apply_and_others_do_not() -> None:
    """Batch at half, priority at twice; flex, which is not named, costs the standard price."""
    rows = OwnRows(row(input="4", output="8", cached_input="1"), {"batch": row(input="2", output="4"),
                   "priority": row(input="8", output="16")}, {})  # fmt: skip
    usage = Usage(1000, 100, cache_read_tokens=500)
    standard = 500 * 4000 + 500 * 1000 + 100 * 8000
    assert priced_by(rows, usage, Terms("default")) == standard
    assert priced_by(rows, usage, Terms("flex")) == standard
    assert priced_by(rows, usage, Terms("priority")) == 2 * standard
    # What the tier leaves out is the standard row's: raised where the tier is dearer, never lowered.
    assert priced_by(rows, usage, Terms("batch")) == 500 * 2000 + 500 * 1000 + 100 * 4000


def test_a_longer_prompt_reprices_the_whole_call() -> None:
    """Above 1,000 tokens input and output double; what the step leaves out grows with the input, tiers with it."""
    rows = OwnRows(
        row(input="4", output="8", cached_input="1"), {"batch": row(input="2", output="4")},
        {1000: OwnRows(row(input="8", output="12"), {}, {}), 2000: OwnRows(row(input="9"), {"batch": row(input="3")}, {})},
    )  # fmt: skip
    assert priced_by(rows, Usage(1000, 10)) == 1000 * 4000 + 10 * 8000
    assert priced_by(rows, Usage(1001, 10, cache_read_tokens=1)) == 1000 * 8000 + 2000 + 10 * 12_000
    assert priced_by(rows, Usage(1001), Terms("batch")) == 1001 * 4000
    assert priced_by(rows, Usage(2001, 1)) == 2001 * 9000 + 13_500
    assert priced_by(rows, Usage(2001), Terms("batch")) == 2001 * 3000


def test_a_place_multiplies_the_models_prices_and_no_fees() -> None:
    """`geography: {us: 1.1}`: a regional host costs a tenth more, a search does not."""
    card = own_card(flat(input="4", output="8", per_page="1"), {"us": Decimal("1.1")})
    table = prices(TABLE, overrides=own(PriceOverride(((dt.date.min, card),)), "us.api.openai.com"))
    made = call("openai", "gpt-4o", host="us.api.openai.com")
    assert table.cost(made, Usage(1000, pages=1, web_search_requests=1), STANDARD).amount == (
        4_400_000 + 1_100_000_000 + 10_000_000
    )


def moment(hour: int, day: int = 23) -> int:
    return int(dt.datetime(2026, 11, day, hour, tzinfo=dt.UTC).timestamp() * 1000)


CHEAP_NIGHTS = own_card(
    flat(input="4", output="8", cached_input="1"), {}, [(Hours.parse("16:30-00:30"), flat(input="2", output="4"))]
)


@pytest.mark.parametrize(
    ("begins", "settles", "nanousd"),
    [
        (moment(12), moment(12), 4_000_000),
        (moment(17), moment(17), 2_000_000),
        (moment(16), moment(17), 4_000_000),
        (moment(23), moment(1, 24), 4_000_000),
        (moment(23), moment(0, 24), 2_000_000),
    ],
)
def test_off_peak_hours_count_when_a_call_lies_in_them(begins: int, settles: int, nanousd: int) -> None:
    """Nobody says whether a call's beginning or its end decides: the dearer of both."""
    table = prices(TABLE, overrides=own(PriceOverride(((dt.date.min, CHEAP_NIGHTS),))), now_ms=settles)
    made = call("openai", "gpt-4o", Content(text_bytes=2000), terms=Terms("default"))
    assert table.cost(made, Usage(1000), STANDARD, at_ms=begins).amount == nanousd


def test_a_quote_is_made_at_the_dearest_hour() -> None:
    """A call that is reserved at night may be billed in the morning; dear hours of the user's count too."""
    made = call("openai", "gpt-4o", Content(text_bytes=2000), cache_write="none")
    dear_noon = own_card(flat(input="4", output="8"), {}, [(Hours.parse("12:00-13:00"), flat(input="40", output="80"))])
    for card, dearest in ((CHEAP_NIGHTS, 4_000_000), (dear_noon, 40_000_000)):
        table = prices(TABLE, overrides=own(PriceOverride(((dt.date.min, card),))), now_ms=moment(20))
        assert table.quote(made).amount(0, 1000) == dearest


def test_a_price_holds_from_its_day() -> None:
    """Before the first day the table's price holds, then each in turn, by the moment the call began."""
    cards = tuple(
        (dt.date(2026, 12, day), own_card(flat(input=str(day), output="0"))) for day in (2, 5)
    )  # fmt: skip
    table = prices(TABLE, overrides=own(PriceOverride(cards)), now_ms=moment(12, 30))
    began = {day: int(dt.datetime(2026, 12, day, tzinfo=dt.UTC).timestamp() * 1000) for day in (1, 2, 4, 5, 6)}
    made = call("openai", "gpt-4o")
    amounts = [table.cost(made, Usage(1000), STANDARD, at_ms=at_ms) for at_ms in began.values()]
    assert [priced.amount for priced in amounts] == [2_500_000, 2_000_000, 2_000_000, 5_000_000, 5_000_000]
    assert [priced.own for priced in amounts] == [False, True, True, True, True]
    unknown = table.cost(call("openai", "unheard"), Usage(1000), STANDARD, at_ms=began[1])
    assert (unknown.assumed, unknown.own) == (True, False)


def test_a_model_billed_by_the_piece_needs_no_token_price() -> None:
    """A stated second is all that is billed, on a host that nobody else has prices for."""
    override = PriceOverride(((dt.date.min, own_card(flat(per_second_in="0.0001"))),))
    table = prices(TABLE, overrides=own(override, "llm.internal.example"))
    made = call("internal", "mine", dialect="openai.transcription", unit_bound=Usage(input_audio_ms=60_000))
    assert table.quote(made).amount(0) == 6_000_000
    assert table.cost(made, Usage(0, 10, input_audio_ms=60_000), STANDARD).amount == 6_000_000


def test_overrides_can_be_compared_and_kept() -> None:
    """Two of the same prices are the same, and stand for each other in a dictionary."""
    one, two, other = PriceOverride.flat(1, "2.5"), PriceOverride.flat("1", Decimal("2.5")), PriceOverride.flat(1, 2)
    assert one == two
    assert {one: 1}[two] == 1
    assert one != other
