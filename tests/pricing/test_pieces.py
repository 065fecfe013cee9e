"""Tests of what is billed by the piece, and of what is taken where no list names a price."""

from __future__ import annotations

from dataclasses import fields, replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.call import Content, Media
from llmcap_addon.pricing import cost as costs
from llmcap_addon.pricing.fees import FALLBACK
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.pricing.rates import FEES, PIECES, Rates
from llmcap_addon.usage import Share, Terms, Usage
from tests.pricing.calls import call
from tests.pricing.tables import model, prices

STANDARD = Terms()
PIECE_PRICES = {
    "web_search": "10", "file_search": "2.5", "maps": "25", "code_session": "30", "per_image": "0.25",
    "per_character": "0.000015", "per_second_in": "0.0001", "per_second_out": "0.00025", "per_page": "0.004",
    "per_query": "0.002",
}  # fmt: skip
EVERYTHING = prices({"openai": {"all": model("chat", input="1", output="2", **PIECE_PRICES)}})


@pytest.mark.parametrize(
    ("usage", "nanousd"),
    [
        (Usage(web_search_requests=2), 20_000_000),
        (Usage(file_search_requests=2), 5_000_000),
        (Usage(maps_requests=1), 25_000_000),
        (Usage(code_sessions=1), 30_000_000),
        (Usage(output_images=3), 750_000_000),
        (Usage(input_characters=1_000_000), 15_000_000_000),
        (Usage(input_audio_ms=60_000), 6_000_000),
        (Usage(input_audio_ms=1), 100),
        (Usage(output_audio_ms=1_500), 375_000),
        (Usage(pages=3), 12_000_000),
        (Usage(search_units=1), 2_000_000),
        (Usage(10, 5, pages=1, web_search_requests=1), 20_000 + 4_000_000 + 10_000_000),
    ],
)
def test_each_piece_costs_its_price(usage: Usage, nanousd: int) -> None:
    """Worked by hand: dollars per thousand for tools, for one of everything else."""
    priced = EVERYTHING.cost(call("openai", "all"), usage, STANDARD)
    assert (priced.amount, priced.assumed) == (nanousd, False)


def test_every_count_of_a_usage_has_a_price() -> None:
    """A count that is added to Usage can't be forgotten here: what is no token is billed by the piece."""
    counts = {field.name for field in fields(Usage)}
    assert {name for name in counts if not name.endswith("_tokens")} == set(costs.COUNTS)
    assert {*FEES, *PIECES} <= {field.name for field in fields(Rates)}


@pytest.mark.parametrize(
    ("model_name", "seconds", "nanousd"), [("whisper-large-v3", 3600, 111_000_000), ("whisper-large-v3", 60, 1_850_000)]
)
def test_an_hour_of_audio_costs_what_is_published(prices: Prices, model_name: str, seconds: int, nanousd: int) -> None:
    """Groq asks $0.111 an hour (https://groq.com/pricing): the table's price of a second, rounded, adds nothing."""
    priced = prices.cost(call("groq", model_name), Usage(input_audio_ms=seconds * 1000), STANDARD)
    assert (priced.amount, priced.assumed) == (nanousd, False)


def test_a_bound_by_the_piece_is_reserved_on_top_of_tokens() -> None:
    """`unit_bound` and the searches of the web, each at its price; its tokens are not read."""
    bound = Usage(1_000_000, 1_000_000, pages=2, input_audio_ms=1000, web_search_requests=1)
    plain = call("openai", "all")
    quote = EVERYTHING.quote(replace(plain, unit_bound=bound, content=Content(web_searches=1)))
    more = quote.amount(0, 10) - EVERYTHING.quote(plain).amount(0, 10)
    assert more == 8_000_000 + 100_000 + 2 * 10_000_000
    assert not quote.assumed


PIECES_USED = st.builds(
    Usage,
    input_tokens=st.integers(0, 10_000), output_tokens=st.integers(0, 1_000), output_images=st.integers(0, 10),
    input_characters=st.integers(0, 10_000), input_audio_ms=st.integers(0, 10**7), output_audio_ms=st.integers(0, 10**7),
    pages=st.integers(0, 50), search_units=st.integers(0, 5), file_search_requests=st.integers(0, 5),
    maps_requests=st.integers(0, 5), code_sessions=st.integers(0, 5), web_search_requests=st.integers(0, 5),
)  # fmt: skip
PIECE_MODELS = [
    ("openai", "gpt-4o"), ("openai", "whisper-1"), ("openai", "tts-1"), ("openai", "gpt-image-1"), ("openai", "unheard"),
    ("mistral", "mistral-ocr-latest"), ("cohere", "rerank-v3.5"), ("google", "gemini-2.5-pro"),
    ("azure", "my-deployment"), ("bedrock", "amazon.nova-pro-v1:0"), ("xai", "grok-4.3"), ("nobody", "unheard"),
]  # fmt: skip


@given(usage=PIECES_USED, named=st.sampled_from(PIECE_MODELS))
def test_no_pieces_within_their_bound_cost_more_than_the_quote(
    prices: Prices, usage: Usage, named: tuple[str, str]
) -> None:
    """What was bounded covers what is billed, at every provider, whether the price is listed, guessed or assumed."""
    made = call(*named, Content(text_bytes=20_000), unit_bound=usage)
    quote = prices.quote(made)
    priced = prices.cost(made, usage, STANDARD)
    assert priced.amount <= quote.amount(usage.output_tokens, usage.input_tokens)
    assert quote.assumed or not priced.assumed


@given(usage=PIECES_USED, named=st.sampled_from(PIECE_MODELS), more=st.sampled_from(costs.COUNTS))
def test_no_piece_is_free(prices: Prices, usage: Usage, named: tuple[str, str], more: str) -> None:
    """One more of anything costs more, also where no list names its price: unknown is never $0."""
    larger = replace(usage, **{more: getattr(usage, more) + 1000})
    made = call(*named)
    assert prices.cost(made, larger, STANDARD).amount > prices.cost(made, usage, STANDARD).amount


# -- what no list names


def test_a_fee_of_the_provider_holds_for_its_models() -> None:
    """The provider's own fee is its word; a price that all its models agree on is taken for that; else it is a guess."""
    stated = prices({"openai": {"a": model(input="1", output="1")}}, fees={"file_search": "2.5"})
    priced = stated.cost(call("openai", "a"), Usage(file_search_requests=1), STANDARD)
    assert (priced.amount, priced.assumed) == (2_500_000, False)
    rows = {name: model(input="1", output="1", web_search="10") for name in ("b", "c")}
    agreed = prices({"openai": {"a": model(input="1", output="1"), **rows}})
    priced = agreed.cost(call("openai", "a"), Usage(web_search_requests=1), STANDARD)
    assert (priced.amount, priced.assumed) == (10_000_000, False)
    rows["d"] = model(input="1", output="1", web_search="25")
    split = prices({"openai": {"a": model(input="1", output="1"), **rows}})
    priced = split.cost(call("openai", "a"), Usage(web_search_requests=1), STANDARD)
    assert (priced.amount, priced.assumed) == (25_000_000, True)


def test_a_piece_without_a_price_is_the_dearest_and_marked() -> None:
    """The dearest of the provider's models, else the dearest that is known of anybody; tokens alone assume nothing."""
    some = {
        "a": model(input="1", output="1"),
        "b": model("image", per_image="0.04"),
        "c": model("image", per_image="0.2"),
    }
    table = prices({"openai": some})
    priced = table.cost(call("openai", "a"), Usage(output_images=1), STANDARD)
    assert (priced.amount, priced.assumed) == (200_000_000, True)
    priced = table.cost(call("openai", "a"), Usage(pages=1), STANDARD)
    assert (priced.amount, priced.assumed) == (int(FALLBACK["per_page"] * 10**9), True)
    assert not table.cost(call("openai", "a"), Usage(1, 1), STANDARD).assumed


def test_nothing_in_the_table_is_dearer_than_what_is_assumed(prices: Prices) -> None:
    """The fallbacks are from above: no model of anybody asks more for a piece."""
    for name, price in FALLBACK.items():
        for home in prices.table.providers():
            assert price >= max((*prices.table.listed(home, name), prices.table.fees(home).get(name, Decimal(0))))


def test_an_unknown_model_asks_the_dearest_for_pieces_too() -> None:
    """It is priced as the dearest by tokens; what that one asks for a picture is not the dearest picture."""
    dear = model("image", input="9", output="90", per_image="0.01")
    table = prices({"openai": {"dear": dear, "other": model("image", per_image="0.2")}})
    made = call("openai", "unheard", dialect="openai.images")
    priced = table.cost(made, Usage(output_images=1), STANDARD)
    assert (priced.amount, priced.assumed) == (200_000_000, True)


# -- models that are billed by the piece alone


def test_tokens_of_a_model_that_is_billed_by_the_piece_cost_nothing() -> None:
    """Its list names none, and the pieces are there."""
    table = prices({"openai": {"whisper": model("transcription", per_second_in="0.0001")}})
    made = call("openai", "whisper", dialect="openai.transcription", unit_bound=Usage(input_audio_ms=10_000))
    priced = table.cost(made, Usage(50, 20, input_audio_ms=10_000), STANDARD)
    assert (priced.amount, priced.assumed) == (1_000_000, False)
    assert table.quote(made).amount(10_000, 10_000) == 1_000_000


def test_a_usage_that_does_not_tell_the_pieces_is_billed_at_their_bound() -> None:
    """Tokens told where seconds are billed: all that was possible is posted, marked; nothing told stays nothing."""
    table = prices({"openai": {"whisper": model("transcription", per_second_in="0.0001")}})
    made = call("openai", "whisper", dialect="openai.transcription", unit_bound=Usage(input_audio_ms=10_000))
    priced = table.cost(made, Usage(50, 20), STANDARD)
    assert (priced.amount, priced.assumed) == (1_000_000, True)
    assert table.cost(made, Usage(), STANDARD).amount == 0


def test_a_model_without_a_token_price_is_not_free_to_chat_with() -> None:
    """Where no pieces are bounded, the dearest model that is billed by tokens is taken, before and after."""
    whisper, chat = model("transcription", per_second_in="0.0001"), model(input="3", output="12")
    table = prices({"openai": {"whisper": whisper, "chat": chat}})
    made = call("openai", "whisper", terms=Terms("default"))
    quote = table.quote(made)
    priced = table.cost(made, Usage(1000, 1000), STANDARD)
    assert (priced.amount, priced.assumed, quote.assumed) == (15_000_000, True, True)
    assert priced.amount <= quote.amount(1000, 1000)


# -- audio


@pytest.mark.parametrize(
    ("provider", "name", "nanousd"),
    [
        ("openai", "gpt-4o-audio-preview", 120_000_000),  # 40 and 80 dollars a million
        ("openai", "gpt-4o-mini-audio-preview", 30_000_000),  # 10 and 20
        ("openrouter", "openai/gpt-audio", 96_000_000),  # 32 and 64
        ("openrouter", "openai/gpt-audio-mini", 30_000_000),
        ("openrouter", "openai/gpt-4o-audio-preview", 120_000_000),
    ],
)
def test_audio_is_never_priced_as_text(prices: Prices, provider: str, name: str, nanousd: int) -> None:
    """A thousand tokens in and out, all spoken; figures: https://platform.openai.com/docs/pricing#audio-tokens."""
    made = call(provider, name)
    usage = Usage(1000, 1000, input_audio_tokens=1000, output_audio_tokens=1000)
    assert prices.cost(made, usage, STANDARD).amount == nanousd
    assert prices.quote(made).amount(1000, 1000) >= nanousd


def test_an_alias_takes_the_audio_price_of_its_dated_name() -> None:
    """The row of the alias names none: its dated sibling's counts, marked; text stays as listed and unmarked."""
    spoken = model(input="2.5", output="10", audio_input="40", audio_output="80")
    other = model(input="5", output="20", audio_input="100", audio_output="200")
    plain = model(input="2.5", output="10")
    names = {"x-audio": plain, "x-audio-2024-12-17": spoken, "x-realtime": other, "y-audio": plain}
    table = prices({"openai": names})
    usage = Usage(1000, 1000, input_audio_tokens=400, output_audio_tokens=400)
    priced = table.cost(call("openai", "x-audio"), usage, STANDARD)
    assert (priced.amount, priced.assumed) == (600 * 2500 + 400 * 40_000 + 600 * 10_000 + 400 * 80_000, True)
    priced = table.cost(call("openai", "y-audio"), usage, STANDARD)
    assert (priced.amount, priced.assumed) == (600 * 2500 + 400 * 100_000 + 600 * 10_000 + 400 * 200_000, True)
    priced = table.cost(call("openai", "x-audio"), Usage(1000, 1000), STANDARD)
    assert (priced.amount, priced.assumed) == (12_500_000, False)


def test_google_names_audio_only_where_it_costs_more() -> None:
    """A Gemini model without a price for audio asks the same for all it reads, and that is not assumed."""
    other = model(input="0.3", output="2", audio_input="1")
    table = prices({"google": {"gemini-pro": model(input="1.25", output="10"), "gemini-flash": other}})
    priced = table.cost(call("google", "gemini-pro"), Usage(1000, input_audio_tokens=1000), STANDARD)
    assert (priced.amount, priced.assumed) == (1_250_000, False)


def test_audio_sent_to_a_model_without_a_price_for_it_is_reserved_dear() -> None:
    """Tokens of a call's audio are reserved at the price that they would be billed at, and the quote says so."""
    spoken = model(input="5", output="20", audio_input="100", audio_output="200")
    table = prices({"openai": {"gpt-9": model(input="1", output="2"), "gpt-realtime": spoken}})
    made = call("openai", "gpt-9", Content(media=(Media("audio", 100),)))
    usage = Usage(1000, 10, input_audio_tokens=1000)
    assert table.cost(made, usage, STANDARD).amount == 100_020_000
    quote = table.quote(made)
    assert quote.amount(10, 1000) >= 100_020_000
    assert quote.assumed
    silent = table.quote(call("openai", "gpt-9", terms=Terms("default")))
    assert silent.amount(10, 1000) == 1_020_000


# -- images


def test_images_told_apart_have_their_own_price() -> None:
    """gpt-realtime: 4 for text, 32 for audio, 5 for images, 0.40 and 0.50 from the cache; nothing is counted twice."""
    row = {
        "input": "4", "output": "16", "cached_input": "0.4", "audio_input": "32", "cached_audio": "0.4",
        "image_input": "5", "cached_image": "0.5", "audio_output": "64",
    }  # fmt: skip
    table = prices({"openai": {"gpt-realtime": model("realtime", **row)}})
    usage = Usage(
        1000, 100, 500, input_audio_tokens=600, cache_read_audio_tokens=300, input_image_tokens=200,
        cache_read_image_tokens=100, output_audio_tokens=80,
    )  # fmt: skip
    by_hand = 100 * 4000 + 300 * 32_000 + 100 * 5000 + 100 * 400 + 300 * 400 + 100 * 500 + 20 * 16_000 + 80 * 64_000
    made = call("openai", "gpt-realtime", Content(opaque=True), tells_images=True)
    priced = table.cost(made, usage, STANDARD)
    assert (priced.amount, priced.assumed) == (by_hand, False)


@pytest.mark.parametrize(
    ("tells", "tokens", "nanousd"),
    [(False, 0, 1000 * 5000), (True, 0, 1000 * 4000), (False, 10, 990 * 4000 + 10 * 5000)],
)
def test_images_that_are_not_told_apart_make_all_input_dear(tells: bool, tokens: int, nanousd: int) -> None:
    """Where images cost more and an answer doesn't count them, all input of a call with images is priced as images."""
    table = prices({"openai": {"m": model(input="4", output="16", image_input="5")}})
    made = call("openai", "m", Content(media=(Media("image", 100),)), tells_images=tells, terms=Terms("default"))
    assert table.cost(made, Usage(1000, input_image_tokens=tokens), STANDARD).amount == nanousd
    assert table.quote(made).amount(0, 1000) >= nanousd


def test_video_is_dearer_only_where_there_may_be_video() -> None:
    """What counts as images may be video, unless the call shows all its media and none is."""
    table = prices(
        {"google": {"gemini-embedding-2": model("embedding", input="0.2", image_input="0.45", video_input="12")}}
    )
    usage = Usage(1000, input_image_tokens=1000)
    pictured = call("google", "gemini-embedding-2", Content(media=(Media("image", 100),)), has_output=False)
    filmed = replace(pictured, content=Content(media=(Media("video", 100),)))
    assert table.cost(pictured, usage, STANDARD).amount == 450_000
    assert table.cost(filmed, usage, STANDARD).amount == 12_000_000
    assert table.cost(replace(pictured, content=Content(opaque=True)), usage, STANDARD).amount == 12_000_000


def test_reasoning_has_its_own_price_where_it_is_listed() -> None:
    """Perplexity's deep research: 8 for output, 3 for reasoning (https://docs.perplexity.ai/getting-started/pricing)."""
    table = prices({"perplexity": {"deep": model(input="2", output="8", reasoning="3")}})
    assert table.cost(call("perplexity", "deep"), Usage(0, 1000, reasoning_tokens=400), STANDARD).amount == (
        600 * 8000 + 400 * 3000
    )


def test_pieces_of_shares_are_added_up_and_rounded_once() -> None:
    """Each share by its own model; the sum is rounded up, not each part."""
    rows = {"a": model(input="0.0005", output="0"), "b": model(input="0.0005", output="0")}
    table = prices({"openai": rows})
    shares = (Share(Usage(1), "a"), Share(Usage(1), "b"))
    assert table.cost(call("openai", "a"), Usage(2), STANDARD, shares=shares).amount == 1
