from __future__ import annotations

from decimal import Decimal

import pytest

from llmcap_addon.pricing.terms import factor_billed, factor_possible, tiers_billed, tiers_possible
from llmcap_addon.usage import BATCH_PART, Terms

ALL = frozenset({"standard", "flex", "priority", "batch"})
US = {"us": Decimal("1.1")}


@pytest.mark.parametrize(
    ("provider", "asked", "possible"),
    [
        ("openai", "", {"standard", "priority"}),
        ("openai", "auto", {"standard", "priority"}),
        ("openai", "default", {"standard"}),
        ("openai", "flex", {"standard", "flex"}),
        ("openai", "fast", {"standard", "priority"}),
        ("openai", "made-up", ALL),
        ("google", "", {"standard"}),
        ("google", "flex", {"standard", "flex"}),
        ("google", "SERVICE_TIER_PRIORITY", {"standard", "priority"}),
        ("groq", "auto", {"standard"}),
        ("groq", "on_demand", {"standard"}),
        ("anthropic", "auto", {"standard"}),
        ("anthropic", "standard_only", {"standard"}),
        ("bedrock", "reserved", {"standard"}),
        ("bedrock", "priority", {"standard", "priority"}),
        # What is no part of a batch is not billed as one, whatever it says of itself.
        ("openai", "batch", ALL),
        ("google", "SERVICE_TIER_BATCH", ALL),
        ("anthropic", "batch", {"standard"}),
        ("openai", BATCH_PART, {"batch"}),
        ("anthropic", BATCH_PART, {"batch"}),
        ("openrouter", BATCH_PART, {"batch", "standard"}),
    ],
)
def test_a_request_may_be_billed_at_these_tiers(provider: str, asked: str, possible: set[str]) -> None:
    """What was asked for, and what the provider may decide instead."""
    assert set(tiers_possible(provider, Terms(asked), ALL)) == possible


@pytest.mark.parametrize(
    ("provider", "asked", "named", "billed"),
    [
        ("openai", "", "", {"standard"}),
        ("openai", "auto", "auto", {"standard"}),
        ("openai", "", "default", {"standard"}),
        ("openai", "", "priority", {"priority"}),
        ("openai", "flex", "flex", {"flex"}),
        ("openai", "flex", "", {"flex", "standard"}),
        ("openai", "priority", "", {"priority", "standard"}),
        ("openai", "priority", "default", {"standard"}),
        ("openai", "", "made-up", ALL),
        ("google", "", "on_demand", {"standard"}),
        ("google", "", "on_demand_priority", {"priority"}),
        ("google", "", "ON_DEMAND_FLEX", {"flex"}),
        ("google", "", "ON_DEMAND_OFFPEAK", {"standard"}),
        ("vertex", "flex", "on_demand_offpeak", {"standard"}),
        ("vertex", "", "PROVISIONED_THROUGHPUT", {"standard"}),
        ("bedrock", "", "reserved", {"standard"}),
        ("bedrock", "priority", "default", {"standard"}),
        ("anthropic", "", "priority", {"standard"}),
        ("anthropic", "", "batch", {"batch"}),
        ("openai", "batch", "", ALL),
        ("openai", "batch", "batch", {"batch"}),
        ("openai", BATCH_PART, "", {"batch"}),
        ("openai", BATCH_PART, "priority", {"priority"}),
    ],
)
def test_a_response_is_billed_at_these_tiers(provider: str, asked: str, named: str, billed: set[str]) -> None:
    """The tier that is named; where none is, standard, or the dearest of what was asked for by name."""
    assert set(tiers_billed(provider, Terms(asked), Terms(named), ALL)) == billed


@pytest.mark.parametrize(
    ("asked", "named", "fast"), [("", "", False), ("fast", "", True), ("fast", "standard", False), ("", "fast", True)]
)
def test_speed_is_billed_as_the_response_names_it(asked: str, named: str, fast: bool) -> None:
    """Anthropic's fast mode: the response's word, else the request's."""
    billed = tiers_billed("anthropic", Terms(speed=asked), Terms(speed=named), ALL)
    assert ("fast" in billed) == fast
    assert ("fast" in tiers_possible("anthropic", Terms(speed=asked), ALL)) == (asked == "fast")


@pytest.mark.parametrize(
    ("provider", "host", "asked", "named", "possible", "billed"),
    [
        ("anthropic", "api.anthropic.com", "", "", "1.1", "1"),
        ("anthropic", "api.anthropic.com", "us", "", "1.1", "1.1"),
        ("anthropic", "api.anthropic.com", "", "us", "1.1", "1.1"),
        ("anthropic", "api.anthropic.com", "us", "global", "1.1", "1"),
        ("anthropic", "api.anthropic.com", "", "not_available", "1.1", "1"),
        ("anthropic", "api.anthropic.com", "", "elsewhere", "1.1", "1.1"),
        ("openai", "api.openai.com", "", "", "1", "1"),
        ("openai", "api.openai.com", "", "us", "1", "1"),
        ("openai", "us.api.openai.com", "", "", "1.1", "1.1"),
        ("openai", "jp.api.openai.com", "", "", "1.1", "1.1"),
        ("xai", "us-east-1.api.x.ai", "", "", "1.1", "1.1"),
        ("xai", "api.x.ai", "", "", "1", "1"),
        ("google", "generativelanguage.googleapis.com", "", "", "1", "1"),
        ("vertex", "us-east5-aiplatform.googleapis.com", "", "", "1.1", "1.1"),
        ("vertex", "aiplatform.eu.rep.googleapis.com", "", "", "1.1", "1.1"),
        ("vertex", "aiplatform.googleapis.com", "", "", "1", "1"),
        ("vertex", "aiplatform.googleapis.com", "europe-west1", "", "1.1", "1.1"),
        ("vertex", "us-east5-aiplatform.googleapis.com", "global", "", "1", "1"),
        # Azure: the deployment's zone, which nobody tells but `hosts:`.
        ("azure", "x.openai.azure.com", "", "", "1.1", "1.1"),
        ("azure", "x.openai.azure.com", "global", "", "1", "1"),
        ("azure_ai", "x.services.ai.azure.com", "", "", "1.1", "1.1"),
        ("bedrock", "bedrock-runtime.us-east-1.amazonaws.com", "", "", "1", "1"),
    ],
)
def test_places_multiply_prices(provider: str, host: str, asked: str, named: str, possible: str, billed: str) -> None:
    """Anthropic's inference_geo, OpenAI's and xAI's regional hosts; an unknown place counts as the dearest."""
    request, response = Terms(geography=asked), Terms(geography=named)
    assert factor_possible(provider, host, request, US) == Decimal(possible)
    assert factor_billed(provider, host, request, response, US) == Decimal(billed)


def test_optimized_latency_is_a_tier_of_bedrocks() -> None:
    """`performanceConfig.latency`: the response's word, else the request's; it may be answered without."""
    quick = Terms(speed="optimized")
    assert set(tiers_possible("bedrock", quick, ALL)) == {"optimized", "standard"}
    assert set(tiers_billed("bedrock", quick, Terms(), ALL)) == {"optimized", "standard"}
    assert set(tiers_billed("bedrock", quick, Terms(speed="standard"), ALL)) == {"standard"}
    assert set(tiers_billed("bedrock", Terms(), quick, ALL)) == {"optimized", "standard"}
    assert set(tiers_billed("bedrock", Terms("priority"), quick, ALL)) == {"optimized", "standard", "priority"}
