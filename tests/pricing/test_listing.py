from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from llmcap_addon.pricing.listing import NEAR, anywhere, at_host, is_glob, near, providers
from llmcap_addon.pricing.lookup import Lookup
from llmcap_addon.pricing.overrides import PriceOverride
from llmcap_addon.pricing.table import PriceTable

TODAY = dt.date(2026, 11, 23)
TABLE = PriceTable.read()
OWN = PriceOverride.flat(1, 2)
LOOKUP = Lookup(TABLE, {"api.openai.com": {"gpt-4o": OWN}})


def test_providers_are_counted_the_largest_first() -> None:
    """A card may have several names, never more cards than names."""
    found = providers(TABLE)
    assert [one.names for one in found] == sorted((one.names for one in found), reverse=True)
    assert all(one.cards <= one.names for one in found)
    assert {one.name for one in found} == set(TABLE.providers())


def test_the_card_that_applies_at_a_host_is_the_one_that_prices_calls() -> None:
    """The user's own where there is one, else the table's; no card where there is none."""
    (own,) = at_host(LOOKUP, "openai", "api.openai.com", "gpt-4o", TODAY)
    assert own.origin == "own"
    assert own.card.levels[0][1]["standard"]["input"] == 1
    (listed,) = at_host(LOOKUP, "openai", "eu.api.openai.com", "gpt-4o", TODAY)
    assert listed.origin == "table"
    assert listed.card.levels[0][1]["standard"]["input"] == Decimal("2.5")
    assert at_host(LOOKUP, "openai", "api.openai.com", "gpt-99", TODAY) == []
    assert at_host(LOOKUP, "nobody", "llm.internal", "gpt-*", TODAY) == []


def test_a_cloud_takes_its_makers_price_and_says_so() -> None:
    """Nobody lists the name there, so it is assumed."""
    (found,) = at_host(LOOKUP, "vertex", "aiplatform.googleapis.com", "gemini-2.5-pro-preview-06-05", TODAY)
    assert found.origin in ("table", "assumed")
    (assumed,) = at_host(LOOKUP, "openrouter", "openrouter.ai", "openai/gpt-4o:nitro", TODAY)
    assert assumed.origin == "assumed"
    assert assumed.why == "nobody lists this name; it is taken to cost what openai/gpt-4o does at openrouter"


def test_prices_of_days_to_come_are_listed() -> None:
    """In the order of time, until their day has come."""
    (now,) = at_host(LOOKUP, "google", "generativelanguage.googleapis.com", "gemini-4-argon", TODAY)
    assert [day for day, _ in now.coming] == [dt.date(2026, 12, 1)]
    (later,) = at_host(LOOKUP, "google", "generativelanguage.googleapis.com", "gemini-4-argon", dt.date(2026, 12, 1))
    assert later.coming == ()
    assert later.card == now.coming[0][1]


def test_a_glob_lists_names_of_any_provider() -> None:
    """Each as it is spelled out, aliases too."""
    found = anywhere(TABLE, "CLAUDE-HAIKU-4-5*", TODAY)
    assert {one.provider for one in found} >= {"anthropic", "vertex"}
    assert all(one.model.startswith("claude-haiku-4-5") for one in found)
    assert anywhere(TABLE, "no-such-*", TODAY) == []


@pytest.mark.parametrize(("pattern", "glob"), [("gpt-4o", False), ("gpt-*", True), ("gpt-4?", True), ("[a]", True)])
def test_wildcards_make_a_glob(pattern: str, glob: bool) -> None:
    """As caps.yaml's `match:` has them."""
    assert is_glob(pattern) is glob


def test_near_names_come_the_most_alike_first() -> None:
    """A slip of the fingers, a part of a name; nothing for what is like nothing; never more than a few."""
    assert near(TABLE, "gpt-4oo", "openai")[0] == "openai gpt-4o"
    assert near(TABLE, "claude-opus-5.5", "anthropic")[0] == "anthropic claude-opus-5-5"
    assert near(TABLE, "0123456789-nothing-of-the-kind") == []
    assert len(near(TABLE, "claude")) == NEAR
