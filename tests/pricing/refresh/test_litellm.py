from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing.hours import Hours
from llmcap_addon.pricing.refresh import litellm
from tests.pricing.refresh.sources import dollars, litellm_json


def read_one(**entry: Any) -> litellm.Entry:
    return litellm.read(litellm_json(m=entry))["m"]


def test_field_names_carry_length_and_tier() -> None:
    """Suffixes of the fields are taken apart, and a float is taken for the digits it is written with."""
    entry = read_one(
        input_cost_per_token=7.5e-08,
        input_cost_per_token_above_272k_tokens_flex=2e-06,
        cache_creation_input_token_cost_above_12hr_above_272k_tokens_priority=4e-05,
        input_cost_per_token_decisions=9.0,
        supports_vision=True,
        search_context_cost_per_query={"low": 0.01, "high": 0.05},
        google_maps_grounding_cost_per_query=0.025,
    )
    assert litellm.levels(entry) == {
        0: {"standard": dollars(input="0.075", web_search="50", maps="25")},
        272_000: {"flex": dollars(input="2"), "priority": dollars(cache_write_1h="40")},
    }


def test_an_inclusive_step_begins_a_token_earlier() -> None:
    """The 200k of xAI is the first token of the dearer price, not the last of the cheaper."""
    entry = read_one(input_cost_per_token=1e-06, input_cost_per_token_above_200k_tokens=2e-06)
    assert list(litellm.levels(entry, step_is_inclusive=True)) == [0, 199_999]


def test_ranges_are_steps() -> None:
    """Alibaba's prices come as a list of ranges."""
    entry = read_one(tiered_pricing=[
        {"input_cost_per_token": 5e-08, "range": [0, 256000.0]}, {"input_cost_per_token": 2.5e-07, "range": [256000.0, 1e6]},
    ])  # fmt: skip
    assert litellm.levels(entry) == {
        0: {"standard": dollars(input="0.05")},
        256_000: {"standard": dollars(input="0.25")},
    }


def test_fast_mode_multiplies_all_but_the_searches() -> None:
    """As Anthropic's fast mode does."""
    entry = read_one(
        input_cost_per_token=5e-06,
        search_context_cost_per_query={"low": 0.01},
        provider_specific_entry={"fast": 2.0, "us": 1.1},
    )
    assert litellm.levels(entry)[0]["fast"] == dollars(input="10.0")
    assert litellm.geography(entry) == {"us": "1.1"}


@pytest.mark.parametrize(
    ("name", "entry", "row"),
    [
        ("whisper-1", {"mode": "audio_transcription", "input_cost_per_second": 0.0001, "output_cost_per_second": 0.0001},
         {"per_second_in": "0.0001"}),
        ("tts-1", {"mode": "audio_speech", "input_cost_per_character": 1.5e-05}, {"per_character": "0.000015"}),
        ("gpt-image-1", {"mode": "image_generation", "output_cost_per_image": 0.04, "output_cost_per_image_token": 4e-05},
         {"image_output": "40"}),
        ("flux", {"mode": "image_generation", "output_cost_per_image": 0.04}, {"per_image": "0.04"}),
        ("canvas", {"mode": "image_generation", "input_cost_per_image": 0.06}, {"per_image": "0.06"}),
        ("hd/1024-x-1792/dall-e-3", {"mode": "image_generation", "input_cost_per_pixel": 1e-07},
         {"per_image": "0.1835008"}),
        ("rerank", {"mode": "rerank", "input_cost_per_query": 0.002}, {"per_query": "0.002"}),
        ("upscale", {"mode": "image_edit", "output_cost_per_image": 0.4}, {"per_image": "0.4"}),
        ("search", {"mode": "search", "input_cost_per_query": 0.005}, {"per_query": "0.005"}),
        ("ocr", {"mode": "ocr", "ocr_cost_per_page": 0.004}, {"per_page": "0.004"}),
        ("live", {"mode": "realtime", "input_cost_per_second": 0.001}, {"per_second_in": "0.001"}),
        ("gemini", {"mode": "chat", "input_cost_per_token": 1e-06, "output_cost_per_image": 0.04,
                    "input_cost_per_audio_per_second": 0.1}, {"input": "1"}),
    ],
)  # fmt: skip
def test_prices_by_the_piece(name: str, entry: dict[str, Any], row: dict[str, str]) -> None:
    """Each unit once, and none beside a price by the token that is what is billed."""
    found = litellm.levels(read_one(**entry), name)[0]["standard"]
    assert found == dollars(**row)


def test_annotated_pages_cost_both() -> None:
    """What reading costs and what annotating does, as a tier of its own."""
    found = litellm.levels(read_one(mode="ocr", ocr_cost_per_page=0.004, annotation_cost_per_page=0.005))[0]
    assert (found["standard"], found["annotated"]) == (dollars(per_page="0.004"), dollars(per_page="0.009"))


def test_off_peak_hours_know_weekdays() -> None:
    """DeepSeek's hours as litellm lists them; "10:00-00:00" is until the day's end, "00:00-00:00" the whole of it."""
    entry = read_one(
        input_cost_per_token=3e-07,
        off_peak_pricing={
            "input_cost_per_token": 1.5e-07,
            "windows": [
                {"hours_utc": ["00:00-01:00", "10:00-00:00"], "weekdays": [1, 2]},
                {"hours_utc": "00:00-00:00", "weekdays": [6, 7]},
            ],
        },
    )
    found = litellm.off_peak(entry)
    assert found is not None
    assert found.knows_weekdays
    assert found.levels == {0: {"standard": dollars(input="0.15")}}
    assert found.windows == (
        Hours(0, 60, frozenset({1, 2})),
        Hours(600, 1440, frozenset({1, 2})),
        Hours(0, 1440, frozenset({6, 7})),
    )


def test_what_is_not_the_data_is_refused() -> None:
    """One exception, whatever the file holds; the sample entry is none of a model's."""
    for text in ("", "[]", "3", "{"):
        with pytest.raises(PriceError, match="not litellm"):
            litellm.read(text)
    assert litellm.read(litellm_json()) == {}
    assert read_one(input_cost_per_token=1e-7)["input_cost_per_token"] == Decimal("1E-7")
