"""Tests of the names that clouds and routers give to other makers' models."""

from __future__ import annotations

from datetime import date

import pytest

from llmcap_addon.pricing.family import CLAUDE, CLAUDE_4_7, LLAMA_3, OPENAI, Factor, claude_version, factor, vendor
from llmcap_addon.pricing.lookup import NO_OVERRIDES, Lookup
from llmcap_addon.pricing.names import maker_of
from llmcap_addon.pricing.table import PriceTable
from llmcap_addon.usage import Terms, Usage
from tests.pricing.calls import call
from tests.pricing.tables import model, prices

RUNTIME = "bedrock-runtime.us-east-1.amazonaws.com"


@pytest.mark.parametrize(
    ("provider", "name", "maker", "bare"),
    [
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic", "claude-sonnet-4-5-20250929"),
        ("bedrock", "anthropic.claude-3-5-haiku-20241022-v1:0", "anthropic", "claude-3-5-haiku-20241022"),
        ("bedrock", "global.anthropic.claude-opus-4-5-20251101-v1:0", "anthropic", "claude-opus-4-5-20251101"),
        ("bedrock", "anthropic.claude-opus-4-7", "anthropic", "claude-opus-4-7"),
        ("bedrock", "anthropic.claude-v2:1:200k", "anthropic", "claude-v2:1:200k"),
        ("bedrock", "us.meta.llama3-3-70b-instruct-v1:0", "meta", "llama3-3-70b-instruct"),
        ("bedrock", "amazon.nova-pro-v1:0", "amazon", "nova-pro"),
        ("bedrock", "openai.gpt-oss-120b-1:0", "openai", "gpt-oss-120b"),
        (
            "bedrock",
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/eu.anthropic.claude-sonnet-4-20250514-v1:0",
            "anthropic",
            "claude-sonnet-4-20250514",
        ),
        ("vertex", "claude-opus-4-5@20251101", "anthropic", "claude-opus-4-5-20251101"),
        ("vertex", "claude-opus-4-5@default", "anthropic", "claude-opus-4-5"),
        ("vertex", "google/gemini-2.5-pro", "google", "gemini-2.5-pro"),
        ("vertex", "gemini-2.5-pro", "google", "gemini-2.5-pro"),
        ("azure", "gpt-4o", "openai", "gpt-4o"),
        ("azure", "my-deployment", "azure", "my-deployment"),
        ("azure_ai", "claude-opus-4-5", "anthropic", "claude-opus-4-5"),
        ("openrouter", "anthropic/claude-sonnet-4.5", "anthropic", "claude-sonnet-4.5"),
        ("openrouter", "~openai/gpt-4o", "openai", "gpt-4o"),
        ("openrouter", "mistralai/voxtral-small", "mistral", "voxtral-small"),
        ("groq", "openai/gpt-oss-120b", "openai", "gpt-oss-120b"),
        ("groq", "llama-3.3-70b-versatile", "groq", "llama-3.3-70b-versatile"),
        ("internal", "gpt-4o", "internal", "gpt-4o"),
        ("openai", "models/gpt-4o", "openai", "gpt-4o"),
    ],
)
def test_the_maker_is_told_by_the_name(provider: str, name: str, maker: str, bare: str) -> None:
    """As the clouds' documents spell them; a name that tells nothing stays the provider's."""
    assert maker_of(provider, name) == (maker, bare)


@pytest.mark.parametrize(
    ("provider", "name", "expected"),
    [
        ("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", CLAUDE),
        ("bedrock", "anthropic.claude-v2:1", CLAUDE),
        ("bedrock", "anthropic.claude-instant-v1", CLAUDE),
        ("bedrock", "anthropic.claude-opus-4-7", CLAUDE_4_7),
        ("bedrock", "us.meta.llama3-3-70b-instruct-v1:0", LLAMA_3),
        ("bedrock", "openai.gpt-oss-120b-1:0", OPENAI),
        ("vertex", "claude-opus-4-5@20251101", CLAUDE),
        ("azure", "gpt-4o-2024-08-06", OPENAI),
    ],
)
def test_tokenizers_are_known_under_clouds_names(provider: str, name: str, expected: Factor) -> None:
    """A cloud's name for a model doesn't make its tokenizer unknown."""
    assert factor(provider, name) == expected


def test_rules_for_pictures_are_the_makers() -> None:
    """Only makers whose rules are known are told apart; Claude's version is read in any spelling."""
    assert vendor("bedrock", "amazon.nova-pro-v1:0") == ("bedrock", "amazon.nova-pro-v1:0")
    assert vendor("bedrock", "us.anthropic.claude-opus-4-7")[0] == "anthropic"
    assert claude_version("claude-opus-4@20250514") == (4, 0)
    assert claude_version("us.anthropic.claude-sonnet-4-5-20250929-v1:0") == (4, 5)


# -- found in the table

CLOUDS = {
    "bedrock": {
        "anthropic.claude-a-v1:0": model(input="3", output="15"),
        "us.anthropic.claude-a-v1:0": model(input="3.3", output="16.5"),
        "eu.anthropic.claude-a-v1:0": model(input="3.6", output="18"),
        "global.anthropic.claude-a-v1:0": model(input="3", output="15"),
        "anthropic.claude-b-v1:0": model(input="1", output="5"),
        "eu-west-2/anthropic.claude-b-v1:0": model(input="2", output="10"),
    },
    "azure": {"gpt-4o": model(input="2", output="8")},
    "azure_ai": {"gpt-4o": model(input="2.2", output="8"), "claude-opus-4-5": model(input="5", output="25")},
    "vertex": {"claude-opus-4-5-20251101": model(input="6", output="30"), "gemini-2.5-pro": model(input="1.3", output="10")},
    "openai": {"gpt-4o": model(input="2.5", output="10"), "gpt-5": model(input="1.25", output="10")},
    "anthropic": {"claude-sonnet-4-5": model(input="3.1", output="15"), "claude-c": model(input="9", output="45")},
    "google": {"gemini-3-pro": model(input="2.1", output="12")},
}  # fmt: skip


@pytest.mark.parametrize(
    ("provider", "host", "name", "millis", "assumed"),
    [
        ("bedrock", RUNTIME, "us.anthropic.claude-a-v1:0", 3300, False),
        ("bedrock", RUNTIME, "global.anthropic.claude-a-v1:0", 3000, False),
        ("bedrock", RUNTIME, "anthropic.claude-a-v1:0", 3000, False),
        # A profile that isn't listed: as the dearest of the model's, which differ.
        ("bedrock", RUNTIME, "jp.anthropic.claude-a-v1:0", 3600, True),
        ("bedrock", RUNTIME, "us.anthropic.claude-b-v1:0", 1000, False),
        ("bedrock", RUNTIME, "anthropic.claude-b-v1:0", 1000, False),
        ("bedrock", "bedrock-runtime.eu-west-2.amazonaws.com", "anthropic.claude-b-v1:0", 2000, False),
        ("bedrock", "bedrock-mantle.eu-west-2.api.aws", "anthropic.claude-b-v1:0", 2000, False),
        (
            "bedrock", RUNTIME, "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-a-v1:0",
            3300, False,
        ),
        ("bedrock", RUNTIME, "us.anthropic.claude-sonnet-4-5-20250929-v1:0", 3100, True),
        ("azure", "x.openai.azure.com", "gpt-4o", 2000, False),
        ("azure", "x.services.ai.azure.com", "gpt-4o", 2200, False),
        ("azure", "x.openai.azure.com", "claude-opus-4-5", 5000, False),
        ("azure", "x.openai.azure.com", "gpt-5", 1250, True),
        ("azure_ai", "x.services.ai.azure.com", "claude-c", 9000, True),
        ("vertex", "aiplatform.googleapis.com", "claude-opus-4-5@20251101", 6000, False),
        ("vertex", "aiplatform.googleapis.com", "google/gemini-2.5-pro", 1300, False),
        ("vertex", "aiplatform.googleapis.com", "gemini-3-pro", 2100, True),
        ("vertex", "aiplatform.googleapis.com", "claude-sonnet-4-5@20250929", 3100, True),
        ("github_copilot", "api.githubcopilot.com", "claude-sonnet-4.5", 3100, True),
    ],
)  # fmt: skip
def test_clouds_models_are_found(provider: str, host: str, name: str, millis: int, assumed: bool) -> None:
    """By the cloud's own list; else by the maker's, which is only taken to be what the cloud asks."""
    table = prices(CLOUDS)
    priced = table.cost(call(provider, name, host=host, terms=Terms("default")), Usage(1000), Terms())
    assert (priced.amount, priced.assumed) == (millis * 1000, assumed)


def test_a_makers_price_at_a_cloud_is_taken_from_above() -> None:
    """The cloud's tiers apply to it, and of places the dearest: its profiles and regions may ask as much."""
    claude = model(input="3", output="15")
    claude["prices"][0]["geography"] = {"us": "1.1"}
    table = prices({"anthropic": {"claude-sonnet-4-5": claude}})
    made = call("bedrock", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", host=RUNTIME, terms=Terms("priority"))
    assert table.cost(made, Usage(1000), Terms("default")).amount == 3_300_000
    assert table.cost(made, Usage(1000), Terms("priority")).amount == 4 * 3_300_000
    assert table.quote(made).amount(0, 1000) >= 4 * 3_300_000


def test_what_no_list_names_is_not_found() -> None:
    """No likeness is enough, and no name is none."""
    lookup = Lookup(PriceTable({"header": {}, "providers": {}}), NO_OVERRIDES)
    for provider in ("bedrock", "azure", "vertex", "openrouter", "openai", "github-copilot"):
        for name in ("", "anthropic.claude-nobody-v1:0", "gpt-4o", ":"):
            assert lookup.find(provider, RUNTIME, name, date(2026, 11, 23)) is None


@pytest.mark.parametrize(
    ("spelling", "known"),
    [
        ("aws", "bedrock"),
        ("vertex_ai", "vertex"),
        ("github_copilot", "github-copilot"),
        ("x-ai", "xai"),
        ("nobody", None),
    ],
)
def test_providers_have_other_names(spelling: str, known: str | None) -> None:
    """What sources and hosts call a provider finds its list."""
    names = ("bedrock", "vertex", "github-copilot", "xai")
    table = PriceTable({"header": {}, "providers": {name: {"models": {}, "rules": []} for name in names}})
    assert table.provider(spelling) == known
