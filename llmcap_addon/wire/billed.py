"""What a provider says it billed for a call, which beats any table of prices.

OpenRouter's `usage.cost` (credits, which are dollars; its SDK's `ChatUsage` and `Usage`), xAI's
`usage.cost_in_usd_ticks` (https://docs.x.ai/developers/cost-tracking), Perplexity's `usage.cost.total_cost` (its SDK's
`UsageInfo`, `ResponsesUsage` and `EmbeddingsUsage`). A provider that is not named here is not believed, whatever its
answers hold: only these document the number as what is billed.
"""

from __future__ import annotations

from decimal import Decimal

from llmcap_addon.money import NANOUSD_PER_USD, Nanousd, ceil_div, nanousd
from llmcap_addon.wire.text import JsonObject, mapping

MAX_BILLED = 10_000 * NANOUSD_PER_USD
"""No single call costs as much as $10,000; a number above it is a mistake, and the table's price is taken instead."""

_TICKS_PER_USD = 10**10
_TICKS_PER_NANOUSD = _TICKS_PER_USD // NANOUSD_PER_USD


def billed_amount(provider: str, usage: object) -> Nanousd | None:
    """Read from an answer's `usage` what the call was billed, in nano-dollars, rounded up; None where nothing says."""
    raw = mapping(usage)
    if provider == "openrouter":
        return _openrouter(raw)
    if provider == "xai":
        return _xai(raw)
    if provider == "perplexity":
        return _perplexity(raw)
    return None


def _openrouter(raw: JsonObject) -> Nanousd | None:
    """With a key of the user's own at the upstream, `cost` is only the fee: the upstream bills the rest itself."""
    cost = _dollars(raw.get("cost"))
    if cost is None:
        return None
    upstream = _dollars(mapping(raw.get("cost_details")).get("upstream_inference_cost"))
    own_key = raw.get("is_byok")
    if own_key is True:
        return None if upstream is None else _believable(cost + upstream)
    # Where nothing says whose key it was, a cost of 0 may stand beside what the upstream billed.
    return cost if own_key is False else max(cost, upstream or 0)


def _xai(raw: JsonObject) -> Nanousd | None:
    ticks = raw.get("cost_in_usd_ticks")
    if isinstance(ticks, bool) or not isinstance(ticks, int) or ticks < 0:
        return None
    return _believable(ceil_div(ticks, _TICKS_PER_NANOUSD))


def _perplexity(raw: JsonObject) -> Nanousd | None:
    """An interim chunk holds a skeleton of zeros, without the `request_cost` of a completed answer (`UsageInfo`)."""
    cost = mapping(raw.get("cost"))
    if cost.get("currency", "USD") != "USD":
        return None
    total = _dollars(cost.get("total_cost"))
    return None if total == 0 and "request_cost" not in cost else total


def _dollars(value: object) -> Nanousd | None:
    """Convert by the number's own digits; None for what is no amount: absent, a text, negative, NaN, absurd."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return _believable(nanousd(Decimal(repr(value))))
    except ValueError:
        return None


def _believable(amount: Nanousd) -> Nanousd | None:
    return amount if 0 <= amount <= MAX_BILLED else None
