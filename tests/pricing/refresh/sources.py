"""Small sources in the two publishers' own forms."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

from llmcap_addon.pricing.refresh import genai, litellm
from llmcap_addon.pricing.refresh.build import Sources

TODAY = dt.date(2026, 11, 23)


def genai_json(**models: Any) -> str:
    """Provider (with `_` for `-`) → models, each (id, prices) or a whole mapping."""
    return json.dumps([
        {"id": provider.replace("_", "-"), "models": [model(*one) if isinstance(one, tuple) else one for one in many]}
        for provider, many in models.items()
    ])  # fmt: skip


def model(name: str, prices: Any, **more: Any) -> dict[str, Any]:
    return {"id": name, "match": {"equals": name}, "prices": prices, **more}


def litellm_json(**entries: Any) -> str:
    return json.dumps({"sample_spec": {"input_cost_per_token": 0.0}, **entries})


def sources(genai_text: str, litellm_text: str) -> Sources:
    return Sources(genai.read_json(genai_text), litellm.read(litellm_text), "9.0", "9.1")


def entry(price: str, since: str = "", seen: str = "2026-01-01", **more: Any) -> dict[str, Any]:
    """An entry of our table."""
    card = {"from": since, "seen": seen, "by": ["litellm"], "rows": {"standard": {"input": price}}}
    return {"kind": "chat", "prices": [card], **more}


def dollars(**row: str) -> dict[str, Decimal]:
    return {field: Decimal(price) for field, price in row.items()}
