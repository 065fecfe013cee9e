from __future__ import annotations

import datetime as dt
import re
from decimal import Decimal

import pytest

from llmcap_addon.pricing.rates import UNLISTED_TIER_FACTORS
from llmcap_addon.pricing.table import Entry, PriceTable

TODAY = dt.date(2026, 11, 23)
TABLE = PriceTable.read()
ENTRIES = [entry for provider in TABLE.providers() for entry in TABLE.entries(provider)]

# OpenRouter's "~…-latest" names follow whichever seller is cheapest for each kind of token, so their prices are odd.
ODD = "~"


def rows(entry: Entry) -> list[tuple[str, dict[str, Decimal]]]:
    return [(tier, dict(row)) for card in entry._cards for _, level in card.levels for tier, row in level.items()]


def test_the_table_names_its_sources() -> None:
    """Each source stands there with version, licence and address, and the table with its day."""
    assert {source["name"] for source in TABLE.header["sources"]} == {"genai-prices", "litellm"}
    for source in TABLE.header["sources"]:
        assert source["licence"] == "MIT"
        assert re.fullmatch(r"\d+(\.\d+)+", source["version"])
        assert source["url"].startswith("https://github.com/")
    dt.date.fromisoformat(TABLE.header["made"])


def test_the_providers_of_every_known_host_are_there() -> None:
    """No provider fell out of a refresh, and none shrank to a handful."""
    counts = {provider: sum(1 for _ in TABLE.entries(provider)) for provider in TABLE.providers()}
    least = {
        "openai": 100, "anthropic": 15, "google": 40, "openrouter": 400, "groq": 15, "deepseek": 5, "mistral": 30,
        "xai": 10, "together": 50, "fireworks": 50, "cerebras": 5, "perplexity": 30, "cohere": 15, "azure": 80,
        "bedrock": 250, "vertex": 80, "github-copilot": 20, "moonshot": 8, "zai": 10, "minimax": 8, "deepinfra": 80,
        "dashscope": 20, "novita": 80, "nebius": 30, "sambanova": 5, "baseten": 15, "cloudflare": 30, "voyage": 10,
        "jina": 1,        "vercel": 50, "opencode": 15, "azure_ai": 80, "huggingface": 100,
    }  # fmt: skip
    assert counts.keys() == least.keys()
    assert all(counts[provider] >= number for provider, number in least.items())


def test_prices_are_decimal_strings_with_a_source_and_a_day() -> None:
    """Every price is written exactly, not below 0, and says who told it and when."""
    for entry in ENTRIES:
        for card in entry.raw["prices"]:
            assert card["by"] or entry.name.endswith(":free"), entry.name
            assert set(card["by"]) <= {"genai-prices", "litellm"}
            dt.date.fromisoformat(card["seen"])
            levels = [card["rows"], *(step["rows"] for step in card.get("steps", ()))]
            for text in (text for level in levels for row in level.values() for text in row.values()):
                assert re.fullmatch(r"\d+(\.\d{1,12})?", text), (entry.name, text)


def test_dated_prices_stand_in_the_order_of_time() -> None:
    """The first price has no date, and each later one begins after the one before."""
    for entry in ENTRIES:
        days = [card["from"] for card in entry.raw["prices"]]
        assert days[0] == ""
        assert days == sorted(set(days)), entry.name


def test_no_price_is_out_of_proportion() -> None:
    """A slipped decimal point or unit would show: against input, against output, against any model there is."""
    for entry in ENTRIES:
        for tier, row in rows(entry):
            name = (entry.provider, entry.name, tier, row)
            assert all(price <= 1000 for field, price in row.items() if field != "web_search"), name
            assert row.get("web_search", 0) <= 100, name
            standard = entry.card(TODAY).levels[0][1]["standard"]
            if "input" in row and "cached_input" in row and not entry.name.startswith(ODD):
                assert row["cached_input"] <= row["input"], name
            if row.get("input") and row.get("output") and not entry.name.startswith(ODD):
                assert row["output"] <= 40 * row["input"], name
            if standard.get("input") and row.get("input"):
                assert row["input"] <= 40 * standard["input"], name
            if row.get("input") and row.get("cache_write"):
                assert row["cache_write"] <= 4 * row["input"], name


def test_no_tier_is_dearer_than_what_an_unlisted_one_is_taken_to_be() -> None:
    """The factors for tiers without a row stay above every factor that the table has."""
    for entry in ENTRIES:
        for card in entry._cards:
            for _, level in card.levels:
                standard = level["standard"]
                for tier, row in level.items():
                    for field in ("input", "output"):
                        if tier in UNLISTED_TIER_FACTORS and standard.get(field) and field in row:
                            assert row[field] <= UNLISTED_TIER_FACTORS[tier] * standard[field], (entry.name, tier)


def test_only_models_that_say_free_are_free() -> None:
    """A price of 0 from a source means "not priced by the token", and such a model is not in the table."""
    for entry in ENTRIES:
        if not any(price for card in entry._cards for _, level in card.levels for price in level["standard"].values()):
            assert entry.name.endswith(":free"), entry.name


def test_steps_and_tiers_have_the_shape_that_compiling_needs() -> None:
    """Every card has a standard row at every length; longer prompts never cost less; factors are above one."""
    for entry in ENTRIES:
        for card in entry._cards:
            assert [above for above, _ in card.levels] == sorted({above for above, _ in card.levels})
            before: Decimal = Decimal(0)
            for _, level in card.levels:
                price = level["standard"].get("input", Decimal(0))
                assert price >= before, entry.name
                before = price
            assert all(1 <= factor <= 2 for factor in card.geography.values())


def test_limits_are_plausible() -> None:
    """Windows and answer limits are positive; the answer limits of the models most used are known."""
    for entry in ENTRIES:
        assert entry.context_tokens is None or entry.context_tokens >= 77, entry.name
        assert entry.max_output_tokens is None or entry.max_output_tokens > 0, entry.name
    for provider, model in (
        ("openai", "gpt-4o"), ("openai", "gpt-5"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro"),
        ("deepseek", "deepseek-chat"), ("openrouter", "anthropic/claude-sonnet-4.5"), ("openrouter", "openai/gpt-4o"),
    ):  # fmt: skip
        found = TABLE.find(provider, model)
        assert found is not None
        assert found.max_output_tokens


def test_every_rule_leads_to_a_model() -> None:
    """No rule names a model that the table does not hold."""
    for provider in TABLE.providers():
        for key, rule in TABLE._providers[provider]["rules"]:
            assert TABLE.find(provider, key) is not None, (provider, key, rule)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o-ultra-9000"),
        ("openai", "text-embedding-9"),
        ("anthropic", "nonesuch"),
        ("google", "gemini-99"),
        ("openrouter", "gpt"),
        ("openai", ""),
        ("openai", "ft:"),
    ],
)
def test_nothing_is_found_by_likeness(provider: str, model: str) -> None:
    """A name that no source maps has no price."""
    assert TABLE.find(provider, model) is None


def test_aliases_of_providers_are_known() -> None:
    """The names that other tools use for a provider find its prices."""
    assert TABLE.provider("X-AI") == "xai"
    assert TABLE.provider("together_ai") == "together"
    assert TABLE.provider("nobody") is None


def test_the_table_holds_no_surprise_for_packaging() -> None:
    """Both data files are there and compressed reproducibly (no name, no time in the gzip header)."""
    from llmcap_addon.pricing import table, tokens

    for path in (table.SHIPPED, tokens.SHIPPED):
        head = path.read_bytes()[:8]
        assert head[:4] == b"\x1f\x8b\x08\x00", path
        assert head[4:8] == bytes(4), path


def test_no_row_names_one_thing_twice() -> None:
    """What is billed by the token has no price by the piece beside it, which is only what that comes to."""
    pieces = {"per_image", "per_character", "per_second_in", "per_second_out", "per_page", "per_query"}
    for entry in ENTRIES:
        for _, row in rows(entry):
            if row.keys() & pieces and row.keys() & {"input", "output"}:
                # Mistral's Voxtral that chats bills text by the token and, beside it, audio by the second.
                assert entry.name.startswith("voxtral-small-2"), (entry.provider, entry.name, row)
