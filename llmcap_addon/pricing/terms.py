"""Terms: which tiers and places a call may be, and was, billed at.

The rule, for each provider: an absent word in both the request and the response means the standard price, because an
ordinary call is billed at it. Before the call, what the account or project may decide on its own counts as possible.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from llmcap_addon.usage import BATCH_PART, Terms

STANDARD = ("standard",)
_BATCHES = frozenset({"openai", "azure", "azure_ai", "anthropic", "google", "groq", "mistral"})
"""Whose requests are billed as a batch's when they are sent as one, and only then: none of them takes the word as a
`service_tier` (the parameter's values in their SDKs)."""

_STANDARD_WORDS = {
    # OpenAI: `default`; `scale` is paid for in advance. https://platform.openai.com/docs/api-reference/chat/create
    "default", "standard", "scale",
    # Anthropic: `standard_only`; `priority` is a commitment paid for apart.
    "standard_only",
    # Google (REST: serviceTier; Vertex: trafficType) and Groq.
    "on_demand", "unspecified", "service_tier_unspecified", "traffic_type_unspecified", "provisioned_throughput",
    "performance",
    # Vertex's ON_DEMAND_OFFPEAK: nobody lists its price, which can't be above the standard one.
    "offpeak", "off_peak",
    # Bedrock: paid for in advance.
    "reserved",
}  # fmt: skip
_UNSAID = {"", "auto"}


def tier(provider: str, word: str) -> str:
    """Give the table's name of a service tier; "" when the word leaves it open."""
    word = word.lower().removeprefix("service_tier_")
    if word in _UNSAID:
        return ""
    if provider == "anthropic":
        return "batch" if word == "batch" else "standard"
    if word in _STANDARD_WORDS:
        return "standard"
    if word.startswith("on_demand_"):  # Vertex: ON_DEMAND_PRIORITY, ON_DEMAND_FLEX
        word = word.removeprefix("on_demand_")
        if word in _STANDARD_WORDS:
            return "standard"
    if word == "fast":
        return "priority"  # OpenAI answers `fast` as priority
    return word


def tiers_possible(provider: str, terms: Terms, listed: frozenset[str]) -> tuple[str, ...]:
    """Give the tiers that a request may be billed at; `listed` are those the model has a price for."""
    if provider in _BATCHES and terms.service_tier == BATCH_PART and terms.speed != "fast":
        return ("batch",)
    if provider == "anthropic":
        return ("fast", "standard") if terms.speed == "fast" else STANDARD
    if provider == "bedrock" and terms.speed == "optimized":
        return ("optimized", *tiers_possible(provider, Terms(terms.service_tier), listed))
    asked = tier(provider, terms.service_tier)
    if asked == "":
        # `auto`, which is what an unset tier means, is decided by the project's settings.
        # https://platform.openai.com/docs/api-reference/responses/create#responses-create-service_tier
        return ("priority", "standard") if provider == "openai" and "priority" in listed else STANDARD
    if asked == "standard":
        return STANDARD
    if asked not in KNOWN_TIERS or (asked == "batch" and terms.service_tier != BATCH_PART):
        return (*sorted(listed), "standard")  # which no ordinary request is billed at, whatever it asks for
    return (asked, "standard")  # any of them may be answered at the standard tier


def tiers_billed(provider: str, asked: Terms, named: Terms, listed: frozenset[str]) -> tuple[str, ...]:
    """Give the tier the response names; where it names none, standard, or the dearest that was asked for by name."""
    if provider == "anthropic":
        if tier(provider, named.service_tier) == "batch":
            return ("batch",)
        return ("fast", "standard") if (named.speed or asked.speed) == "fast" else STANDARD
    if provider == "bedrock" and (named.speed or asked.speed) == "optimized":
        return ("optimized", *tiers_billed(provider, Terms(asked.service_tier), Terms(named.service_tier), listed))
    found = tier(provider, named.service_tier)
    if found in KNOWN_TIERS:
        return (found,)
    if found == "":
        if tier(provider, asked.service_tier) == "":
            return STANDARD
        return tiers_possible(provider, asked, listed)
    return (*sorted(listed), "standard")


KNOWN_TIERS = frozenset({"standard", "flex", "priority", "ultrafast", "batch", "fast", "optimized", "annotated"})


def place(provider: str, host: str, terms: Terms) -> str:
    """Give the place whose prices a call is asked to be billed at; "" when the request does not say."""
    if terms.geography:
        return terms.geography.lower()
    if provider == "openai" and host.endswith(".api.openai.com"):
        return host.removesuffix(".api.openai.com")
    if provider == "xai" and host.endswith(".api.x.ai"):
        return host.split("-", 1)[0]
    if provider == "vertex" and (found := _VERTEX_HOST.match(host)):
        return found[1] or found[2] or ""
    return ""


_VERTEX_HOST = re.compile(r"(?:([a-z0-9-]+)-)?aiplatform\.(?:([a-z0-9-]+)\.rep\.)?")
"""us-central1-aiplatform.googleapis.com, aiplatform.eu.rep.googleapis.com; without a place it is the global one."""


def factor_possible(provider: str, host: str, terms: Terms, geography: Mapping[str, Decimal]) -> Decimal:
    """Give the most that the place may multiply token prices by."""
    where = place(provider, host, terms)
    if not where and provider in ("anthropic", *_UNSAID_PLACE):
        # Unset means the workspace's default, which the request does not show.
        # https://platform.claude.com/docs/en/build-with-claude/data-residency
        return max(geography.values(), default=Decimal(1))
    return _factor(where, geography)


def factor_billed(provider: str, host: str, asked: Terms, named: Terms, geography: Mapping[str, Decimal]) -> Decimal:
    """Give what the place that the response names (else: that the request asked for) multiplies token prices by.

    Only Anthropic's responses name one (`usage.inference_geo`); elsewhere the host that was called decides.
    """
    where = (place(provider, host, named) if provider == "anthropic" else "") or place(provider, host, asked)
    if not where and provider in _UNSAID_PLACE:
        return max(geography.values(), default=Decimal(1))
    return _factor(where, geography)


_UNSAID_PLACE = ("azure", "azure_ai")
"""Where a deployment's zone decides, which neither request nor response shows: the dearest, unless it is told.
https://learn.microsoft.com/azure/ai-foundry/foundry-models/concepts/deployment-types"""
_EVERYWHERE = {"", "global", "not_available", "default"}


def _factor(where: str, geography: Mapping[str, Decimal]) -> Decimal:
    if where in _EVERYWHERE or not geography:
        return Decimal(1)
    if where in geography:
        return geography[where]
    return max(geography.values())  # a place the table does not know: the dearest it does
