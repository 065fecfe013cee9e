from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llmcap_addon.pricing.refresh.check import FIELDS
from llmcap_addon.pricing.table import PriceTable

SAMPLES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "data" / "prices" / "cards.json").read_text(encoding="utf-8")
)["cards"]
TABLE = PriceTable.read()
MADE = str(TABLE.header["made"])


def name_of(sample: dict[str, Any]) -> str:
    parts = [sample["provider"], sample["model"], sample["tier"], sample["above"], sample.get("on"), sample.get("at")]
    return " ".join(str(part) for part in parts if part)


@pytest.mark.parametrize("sample", SAMPLES, ids=name_of)
def test_a_sampled_card_is_what_the_provider_publishes(sample: dict[str, Any]) -> None:
    """The shipped price of a model, tier and length of prompt equals its provider's page, figure by figure."""
    entry = TABLE.find(sample["provider"], sample["model"])
    assert entry is not None, f"{name_of(sample)} has no price"
    moment = dt.datetime.fromisoformat(sample.get("at") or f"{sample.get('on', MADE)}T01:00:00Z")
    card = entry.card(moment.date())
    # Monday, one o'clock: a peak hour of those who have any.
    at_ms = int(moment.timestamp() * 1000) if "at" in sample else None
    levels = card.levels
    if at_ms is not None:
        levels = next((inside for hours, inside in card.off_peak if hours.hold(at_ms)), card.levels)
    rows = dict(levels)[sample["above"]]
    shipped = {field: rows[sample["tier"]].get(field) for field in sample["prices"]}
    assert shipped == {field: Decimal(price) for field, price in sample["prices"].items()}, sample["document"]


def test_the_sample_reaches_every_kind_of_price() -> None:
    """Seven dialects' providers, tiers, long prompts, hours, a day to come, and prices by the piece are among it."""
    assert len(SAMPLES) >= 60
    assert {sample["provider"] for sample in SAMPLES} >= {
        "openai", "anthropic", "google", "deepseek", "mistral", "xai", "groq", "cohere", "perplexity", "azure",
        "bedrock", "vertex",
    }  # fmt: skip
    assert {sample["tier"] for sample in SAMPLES} == {"standard", "flex", "priority", "batch", "fast"}
    assert any(sample["above"] for sample in SAMPLES)
    assert any("at" in sample for sample in SAMPLES)
    assert any("on" in sample for sample in SAMPLES)
    assert {field for sample in SAMPLES for field in sample["prices"]} <= FIELDS
    assert all(sample["document"].startswith("https://") for sample in SAMPLES)
