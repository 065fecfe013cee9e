"""Levels: a model's prices while they are gathered, as dollars in Decimal, and how two sources' become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

type Row = dict[str, Decimal]
"""Field of the table (data/README.md) → dollars."""
type Level = dict[str, Row]
"""Tier → row."""
type Levels = dict[int, Level]
"""Prompt length above which the level applies (0: always) → level."""

_SMALLEST = Decimal("1e-12")
_NOISE = Decimal("1e-14")
"""What a source's float may be off by: 1.0000000000000001e-07 stands for 0.1 a million, and is not rounded up."""


def plain(amount: Decimal) -> str:
    """Write a decimal without exponent or needless zeros; twelve places are kept, rounded up."""
    text = f"{amount.quantize(_NOISE).quantize(_SMALLEST, rounding=ROUND_CEILING):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def put(levels: Levels, above: int, tier: str, field: str, amount: Decimal) -> None:
    """Note a price; of two for the same thing the higher stays."""
    row = levels.setdefault(above, {}).setdefault(tier, {})
    row[field] = max(amount, row.get(field, amount))


def row_at(levels: Levels, above: int, tier: str) -> Row:
    """Give the prices that a source has for a tier at a prompt length."""
    row: Row = {}
    for start in sorted(levels):
        if start <= above:
            row |= levels[start].get(tier, {})
    return row


def merged(sources: Sequence[Levels]) -> Levels:
    """Give, for each prompt length, tier and field, the higher of the sources' prices."""
    levels: Levels = {}
    for above in sorted({0}.union(*sources)):
        for tier in sorted({tier for source in sources for level in source.values() for tier in level}):
            if above and tier != "standard" and not any(tier in source.get(above, {}) for source in sources):
                continue  # no source prices this tier at this length
            for source in sources:
                for field, amount in row_at(source, above, tier).items():
                    put(levels, above, tier, field, amount)
    return levels


def filled(levels: Levels, other: Levels, fields: frozenset[str]) -> Levels:
    """Add another's prices for those of the fields that a level does not tell at all."""
    known = {field for level in levels.values() for row in level.values() for field in row}
    wanted = fields - known
    extra: Levels = {}
    for above, level in other.items():
        for tier, row in level.items():
            if above in levels and tier in levels[above]:
                for field in wanted & row.keys():
                    put(extra, above, tier, field, row[field])
    return merged([levels, extra]) if extra else levels


def scaled(levels: Levels, now: Levels, then: Levels) -> Levels:
    """Give the merged prices of a day to come: the dated source's, and what it does not tell grows as it grows.

    `now` and `then` are what the dated source says for today and for that day.
    """
    if not now:
        return then
    grown: Levels = {}
    for above, level in levels.items():
        base_now, base_then = row_at(now, above, "standard"), row_at(then, above, "standard")
        for tier, row in level.items():
            told = row_at(then, above, tier)
            for field, amount in row.items():
                key = field if base_now.get(field) and base_then.get(field) else "input"
                ratio = base_then[key] / base_now[key] if base_now.get(key) and base_then.get(key) else Decimal(1)
                put(grown, above, tier, field, told.get(field, amount * ratio))
    return merged([grown, then])


def priced(levels: Levels, name: str) -> bool:
    """Say whether the levels hold a price; 0 is one only for a name that ends in ":free"."""
    if name.endswith(":free"):
        return True
    return any(amount > 0 for amount in levels.get(0, {}).get("standard", {}).values())


def written(levels: Levels) -> dict[str, Any]:
    """Write levels as the table has them: `rows`, and `steps` where prompts of some length cost more."""

    def rows(level: Mapping[str, Row]) -> dict[str, dict[str, str]]:
        return {tier: {field: plain(amount) for field, amount in sorted(row.items())} for tier, row in level.items()}

    found: dict[str, Any] = {"rows": rows(levels.get(0, {}))}
    if steps := [{"above": above, "rows": rows(levels[above])} for above in sorted(levels) if above]:
        found["steps"] = steps
    return found
