from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing.hours import Hours
from llmcap_addon.pricing.refresh import genai
from tests.pricing.refresh.sources import TODAY, dollars, genai_json, model

PYTHON = """
providers: list[Provider] = [Provider(id='p', models=[ModelInfo(id='m', match=ClauseOr(or_=[ClauseEquals(equals='M'),
    ClauseRegex(regex='^m-[0-9]$')]), prices=[
    ConditionalPrice(prices=ModelPrice(input_mtok=Decimal('1'))),
    ConditionalPrice(constraint=TimeOfDateConstraint(start_time=datetime.time(1, 0, tzinfo=datetime.UTC),
        end_time=datetime.time(4, 0, tzinfo=datetime.UTC)), prices=ModelPrice(input_mtok=Decimal('2'))),
    ConditionalPrice(constraint=StartDateConstraint(start_date=datetime.date(2027, 1, 1)),
        prices=ModelPrice(input_mtok=TieredPrices(base=Decimal('5'), tiers=[Tier(start=9, price=Decimal('7'))])))])])]
"""
JSON = """[{"id": "p", "models": [{"id": "m", "match": {"or": [{"equals": "M"}, {"regex": "^m-[0-9]$"}]}, "prices": [
    {"prices": {"input_mtok": 1}},
    {"constraint": {"start_time": "01:00:00Z", "end_time": "04:00:00Z"}, "prices": {"input_mtok": 2}},
    {"constraint": {"start_date": "2027-01-01"},
     "prices": {"input_mtok": {"base": 5, "tiers": [{"start": 9, "price": 7}]}}}]}]}]"""


@pytest.mark.parametrize("found", [genai.read_json(JSON), genai.read_python(PYTHON)], ids=["json", "python"])
def test_both_forms_give_dated_and_hourly_prices(found: dict[str, Any]) -> None:
    """Of a day's hours the dearest, the rest as off-peak; a price to come not before its day."""
    (one,) = found["p"]
    assert genai.levels(one, TODAY) == {0: {"standard": dollars(input="2")}}
    off_peak = genai.off_peak(one, TODAY)
    assert off_peak is not None
    assert off_peak.levels == {0: {"standard": dollars(input="1")}}
    assert off_peak.windows == (Hours(0, 60), Hours(240, 1440))
    assert genai.start_dates(one) == {dt.date(2027, 1, 1)}
    assert genai.levels(one, dt.date(2027, 1, 1)) == {
        0: {"standard": dollars(input="5")},
        9: {"standard": dollars(input="7")},
    }
    assert genai.off_peak(one, dt.date(2027, 1, 1)) is None
    assert genai.rule(one["match"]) == ["or", ["equals", "m"], ["regex", "^m-[0-9]$"]]


def test_variants_are_tiers() -> None:
    """OpenAI's "fast" is priority; the first variant that fits counts; one for a route is a standard price."""
    one = model(
        "m",
        {"input_mtok": 2},
        price_variants=[
            {"when": {"processing": "batch"}, "prices": {"input_mtok": 1}},
            {"when": {"processing": "batch"}, "prices": {"input_mtok": 9}},
            {"when": {"service_tier": "fast"}, "prices": {"input_mtok": 4}},
            {"when": {"service_tier": "default"}, "prices": {"input_mtok": 8}},
            {"when": {"route": "m/eu"}, "prices": {"input_mtok": 3}},
            {"when": {"speed": "fast"}, "prices": {"input_mtok": 6}, "constraint": {"start_date": "2030-01-01"}},
        ],
    )
    assert genai.levels(one, TODAY) == {
        0: {"standard": dollars(input="3"), "batch": dollars(input="1"), "priority": dollars(input="4")}
    }


def test_prices_by_the_piece_are_converted() -> None:
    """An hour of audio, a thousand pages, a million characters."""
    text = genai_json(p=[("m", {"input_audio_hours": 0.36, "input_document_kpages": 4, "input_mchars": 15})])
    (one,) = genai.read_json(text)["p"]
    (row,) = genai.levels(one, TODAY)[0].values()
    assert {field: round(amount, 9) for field, amount in row.items()} == dollars(
        per_second_in="0.0001", per_page="0.004", per_character="0.000015"
    )


def test_no_code_of_a_package_is_run() -> None:
    """Anything but literals and constructors in the data is refused."""
    with pytest.raises(PriceError, match="changed its form"):
        genai.read_python("providers: list = [f'{1}']")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"id": "p"}]', "[" * 100_000, '[{"id": "p", "models": 3}]'])
def test_what_is_not_the_data_is_refused(text: str) -> None:
    """One exception, whatever the file holds."""
    with pytest.raises(PriceError, match="not genai-prices"):
        genai.read_json(text)


def test_rules_keep_what_is_not_spelled_out() -> None:
    """Names that a clause lists go into the table, the rest of it stays a rule."""
    clause = genai.rule(
        {"or": [{"equals": "A"}, {"starts_with": "b-"}, {"and": [{"contains": "c"}, {"ends_with": "d"}]}]}
    )
    assert list(genai.names_in(clause)) == ["a"]
    assert genai.without_names(clause) == ["or", ["starts_with", "b-"], ["and", ["contains", "c"], ["ends_with", "d"]]]
    assert genai.without_names(["equals", "a"]) is None
    assert [genai.matches(clause, name) for name in ("a", "b-1", "xcd", "cx", "e")] == [True, True, True, False, False]
