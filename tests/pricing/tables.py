"""Small price tables for the tests of this room."""

from __future__ import annotations

from typing import Any

from llmcap_addon.pricing.overrides import PriceOverride
from llmcap_addon.pricing.prices import NO_OVERRIDES, Overrides, Prices
from llmcap_addon.pricing.table import PriceTable
from llmcap_addon.pricing.tokens import SHARED
from tests.pricing.calls import TODAY


def model(kind: str = "chat", **row: str) -> dict[str, Any]:
    """An entry with one price: the fields of its standard row."""
    return {"kind": kind, "prices": [{"from": "", "rows": {"standard": row}}]}


def prices(
    providers: dict[str, dict[str, Any]], *, fees: dict[str, str] | None = None, overrides: Overrides = NO_OVERRIDES,
    now_ms: int | None = None,
) -> Prices:  # fmt: skip
    """Prices of a table that holds just these models; `fees` are those of each provider."""
    raw = {
        "header": {},
        "providers": {name: {"models": models, "rules": [], "fees": fees or {}} for name, models in providers.items()},
    }
    moment = TODAY() if now_ms is None else now_ms
    return Prices(PriceTable(raw), overrides, "highest", lambda: moment, SHARED)


def own(override: PriceOverride, host: str = "api.openai.com") -> Overrides:
    """A price of the user's own for every model of a host."""
    return {host: {"*": override}}
