from __future__ import annotations

import contextlib
import datetime as dt
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing.refresh import litellm
from llmcap_addon.pricing.refresh.build import build_table, folded, unfolded, with_history
from llmcap_addon.pricing.refresh.check import problems
from tests.pricing.refresh.sources import TODAY, entry, genai_json, litellm_json, model, sources

ONE = {"input_cost_per_token": 1e-06, "output_cost_per_token": 4e-06, "mode": "chat"}


def built(genai_text: str, litellm_text: str, before: dict[str, Any] | None = None, day: dt.date = TODAY) -> Any:
    table, report = build_table(sources(genai_text, litellm_text), before or {}, day)
    assert problems(table) == []
    return table, report


def row(table: Any, provider: str, name: str, tier: str = "standard") -> Any:
    models = unfolded(table["providers"][provider]["models"])
    return models[name]["prices"][-1]["rows"][tier]


def test_a_changed_price_is_appended_with_its_date() -> None:
    """The old price stays before it; an unchanged one stays as it was seen; a vanished model keeps its last."""
    old = {"changed": entry("1"), "same": entry("2"), "gone": entry("3")}
    new = {"changed": entry("9", seen="2026-11-23"), "same": entry("2", seen="2026-11-23"), "fresh": entry("4")}
    kept = with_history(old, new, "2026-11-23")
    assert [(card["from"], card["rows"]["standard"]["input"]) for card in kept["changed"]["prices"]] == [
        ("", "1"), ("2026-11-23", "9"),
    ]  # fmt: skip
    assert kept["same"]["prices"] == old["same"]["prices"]
    assert kept["gone"] == old["gone"]
    assert kept["fresh"]["prices"][0]["from"] == ""


def test_a_second_run_on_the_same_day_changes_nothing() -> None:
    """What a run wrote today, the next run of today writes again."""
    new = {"changed": entry("9", seen="2026-11-23")}
    once = with_history({"changed": entry("1")}, new, "2026-11-23")
    assert with_history(once, new, "2026-11-23") == once


def test_models_that_share_an_entry_are_written_once() -> None:
    """Under the shortest name, and unfolding gives each its own again."""
    shared = entry("1")
    written = folded({"model-b": dict(shared), "model": dict(shared), "other": entry("2")})
    assert written == {"model": shared, "model-b": "model", "other": entry("2")}
    assert unfolded(written) == {"model": shared, "model-b": shared, "other": entry("2")}


def test_sources_are_merged_under_the_name_the_api_takes() -> None:
    """The prefix of litellm's keys is taken off, the higher price kept, the disagreement told, both sources named."""
    table, report = built(
        genai_json(openai=[("m", {"input_mtok": 2, "output_mtok": 3})]),
        litellm_json(**{"openai/m": ONE | {"litellm_provider": "openai", "max_output_tokens": 5}}),
    )
    found = table["providers"]["openai"]["models"]["m"]
    assert row(table, "openai", "m") == {"input": "2", "output": "4"}
    assert found["max_output"] == 5
    assert found["prices"][0]["by"] == ["genai-prices", "litellm"]
    assert report.disagreements == [
        "openai m input: genai-prices 2, litellm 1",
        "openai m output: genai-prices 3, litellm 4",
    ]
    assert table["providers"]["openai"]["fees"] == {"code_session": "30", "file_search": "2.5"}


def test_a_source_that_is_out_of_date_does_not_win_by_being_higher() -> None:
    """DeepSeek's V3 prices with their cheap nights are left out beside litellm's, and the report says so."""
    hours = {"start_time": "00:30:00Z", "end_time": "16:30:00Z"}
    prices = [{"prices": {"input_mtok": 0.135}}, {"constraint": hours, "prices": {"input_mtok": 9}}]
    table, report = built(
        genai_json(deepseek=[("deepseek-chat", prices)]),
        litellm_json(**{"deepseek/deepseek-chat": ONE | {"litellm_provider": "deepseek"}}),
    )
    assert row(table, "deepseek", "deepseek-chat") == {"input": "1", "output": "4"}
    assert "off_peak" not in table["providers"]["deepseek"]["models"]["deepseek-chat"]["prices"][0]
    assert "2025-09-05" in report.dropped[0]


def test_a_slipped_unit_is_left_out() -> None:
    """A price of thousands of dollars a million tokens would be what every unknown model there costs."""
    table, report = built(
        genai_json(),
        litellm_json(**{"azure_ai/jais": ONE | {"litellm_provider": "azure_ai", "input_cost_per_token": 0.0032}}),
    )
    assert "azure_ai" not in table["providers"]
    assert "slipped unit" in report.dropped[0]


def test_an_alias_has_the_audio_price_of_its_dated_name() -> None:
    """Audio is listed at gpt-4o-audio-preview-2024-12-17 alone, by litellm; a router's name for it has it from there too."""
    dated = ONE | {
        "litellm_provider": "openai",
        "input_cost_per_audio_token": 4e-05,
        "output_cost_per_audio_token": 8e-05,
    }
    table, _ = built(
        genai_json(
            openai=[("gpt-4o-audio-preview", {"input_mtok": 2.5, "output_mtok": 10})],
            openrouter=[("openai/gpt-4o-audio-preview", {"input_mtok": 2.5, "output_mtok": 10})],
        ),
        litellm_json(**{"gpt-4o-audio-preview-2024-12-17": dated}),
    )
    for provider, name in (("openai", "gpt-4o-audio-preview"), ("openrouter", "openai/gpt-4o-audio-preview")):
        assert row(table, provider, name) == {
            "audio_input": "40", "audio_output": "80", "input": "2.5", "output": "10",
        }  # fmt: skip


def test_zones_and_sizes_of_azure_become_factors_and_the_dearest_picture() -> None:
    """`eu/NAME` tells how much more a data zone costs, `hd/1024-x-1792/NAME` what a picture may."""
    azure = {"litellm_provider": "azure"}
    picture = azure | {"mode": "image_generation", "input_cost_per_pixel": 1e-07}
    table, _ = built(
        genai_json(),
        litellm_json(**{
            "azure/m": ONE | azure, "azure/eu/m": ONE | azure | {"input_cost_per_token": 1.2e-06}, "azure/n": ONE | azure,
            "azure/standard/1024-x-1024/dall-e-3": picture, "azure/hd/1024-x-1792/dall-e-3": picture,
        }),
    )  # fmt: skip
    models = unfolded(table["providers"]["azure"]["models"])
    assert models.keys() == {"m", "n", "dall-e-3"}
    assert models["m"]["prices"][0]["geography"] == {"eu": "1.2"}
    assert models["n"]["prices"][0]["geography"] == {"eu": "1.1", "us": "1.1"}
    assert row(table, "azure", "dall-e-3") == {"per_image": "0.1835008"}


def test_names_of_clouds_are_as_their_urls_have_them() -> None:
    """Vertex's dates and makers, Bedrock's regions and profiles; commitments are no price by the token."""
    vertex = ONE | {"litellm_provider": "vertex_ai-anthropic_models", "regional_endpoint_uplift_multiplier": 1.1}
    bedrock = ONE | {"litellm_provider": "bedrock"}
    table, _ = built(
        genai_json(),
        litellm_json(**{
            "vertex_ai/claude-haiku-4-5@20251001": vertex, "vertex_ai/claude-opus-5@default": vertex,
            "vertex_ai/openai/gpt-oss-120b-maas": ONE | {"litellm_provider": "vertex_ai-openai_models"},
            "us.anthropic.claude-x-v1:0": bedrock, "bedrock/eu-west-1/meta.llama-v1:0": bedrock,
            "bedrock/*/1-month-commitment/cohere.command": bedrock,
        }),
    )  # fmt: skip
    assert table["providers"]["vertex"]["models"].keys() == {
        "claude-haiku-4-5-20251001", "claude-opus-5", "gpt-oss-120b-maas",
    }  # fmt: skip
    assert table["providers"]["vertex"]["models"]["claude-opus-5"]["prices"][0]["geography"] == {"regional": "1.1"}
    assert table["providers"]["bedrock"]["models"].keys() == {"us.anthropic.claude-x-v1:0", "eu-west-1/meta.llama-v1:0"}


def test_a_price_of_a_day_to_come_stands_after_todays() -> None:
    """Announced by genai-prices; what litellm alone tells grows with it."""
    prices = [{"prices": {"input_mtok": 1, "output_mtok": 4}},
              {"constraint": {"start_date": "2026-12-01"}, "prices": {"input_mtok": 2, "output_mtok": 8}}]  # fmt: skip
    table, _ = built(
        genai_json(google=[("gemini-x", prices)]),
        litellm_json(**{"gemini/gemini-x": ONE | {"litellm_provider": "gemini", "input_cost_per_token_flex": 5e-07}}),
    )
    today, later = table["providers"]["google"]["models"]["gemini-x"]["prices"]
    assert (today["from"], later["from"]) == ("", "2026-12-01")
    assert later["rows"] == {"standard": {"input": "2", "output": "8"}, "flex": {"input": "1"}}


def test_a_router_has_each_seller_and_alone_the_dearest() -> None:
    """Hugging Face: NAME:SELLER is a seller's price, NAME the highest of them."""
    table, _ = built(
        genai_json(
            huggingface_groq=[("openai/gpt-oss", {"input_mtok": 1, "output_mtok": 1})],
            huggingface_novita=[("openai/gpt-oss", {"input_mtok": 2, "output_mtok": 2})],
        ).replace("huggingface-", "huggingface_"),
        litellm_json(),
    )
    assert [row(table, "huggingface", f"openai/gpt-oss{seller}")["input"] for seller in ("", ":groq", ":novita")] == [
        "2", "1", "2",
    ]  # fmt: skip


def test_the_gemini_api_does_not_sell_claude() -> None:
    """genai-prices lists under Google what Vertex sells; only Vertex keeps it."""
    table, _ = built(
        genai_json(
            google=[("claude-x", {"input_mtok": 1}), ("gemini-x", {"input_mtok": 1}), model("gemma", {"input_mtok": 1})]
        ),
        litellm_json(),
    )
    assert table["providers"]["google"]["models"].keys() == {"gemini-x", "gemma"}
    assert "claude-x" in table["providers"]["vertex"]["models"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
)


@given(st.sampled_from(["id", "match", "prices", "price_variants", "context_window", "whole"]), JSON)
def test_a_model_of_another_form_is_an_error_of_ours(key: str, anything: Any) -> None:
    """Whatever stands where genai-prices' figures should, the end is a table or one exception that says so."""
    one = model("gpt-4o", {"input_mtok": 1})
    text = json.dumps([{"id": "openai", "models": [anything if key == "whole" else one | {key: anything}]}])
    with contextlib.suppress(PriceError):
        build_table(sources(text, litellm_json()), {}, TODAY)


@given(st.sampled_from([*litellm.FIELDS, "mode", "max_input_tokens", "off_peak_pricing", "tiered_pricing",
       "search_context_cost_per_query", "provider_specific_entry", "deprecation_date"]), JSON)  # fmt: skip
def test_an_entry_of_another_form_is_an_error_of_ours(key: str, anything: Any) -> None:
    """Likewise for litellm's."""
    text = litellm_json(m=ONE | {"litellm_provider": "openai", key: anything})
    with contextlib.suppress(PriceError):
        build_table(sources(genai_json(), text), {}, TODAY)


def test_a_routers_picture_costs_its_makers() -> None:
    """No source lists image tokens at OpenRouter."""
    table, _ = built(
        genai_json(
            google=[("gemini-3-pro-image", {"input_mtok": 2, "output_mtok": 12})],
            openrouter=[("google/gemini-3-pro-image", {"input_mtok": 2, "output_mtok": 12})],
        ),
        litellm_json(
            **{
                "gemini/gemini-3-pro-image": {
                    "litellm_provider": "gemini", "mode": "image_generation", "input_cost_per_token": 2e-06,
                    "output_cost_per_token": 1.2e-05, "output_cost_per_image_token": 0.00012,
                }
            }
        ),
    )  # fmt: skip
    assert row(table, "openrouter", "google/gemini-3-pro-image")["image_output"] == "120"


def test_bedrocks_largest_picture_is_its_price() -> None:
    """The sources tell a small one's."""
    small = {"litellm_provider": "bedrock", "mode": "image_generation", "output_cost_per_image": 0.008}
    names = ("amazon.titan-image-generator-v2:0", "us.amazon.nova-canvas-v1:0", "stability.sd3-large-v1:0")
    table, _ = built(genai_json(), litellm_json(**dict.fromkeys(names, small)))
    assert [row(table, "bedrock", name)["per_image"] for name in names] == ["0.012", "0.08", "0.008"]
