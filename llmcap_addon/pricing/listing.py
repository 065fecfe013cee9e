"""Listing: which cards a name stands for, and where each comes from; what `llmcap prices` shows."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Literal

from llmcap_addon.pricing.lookup import Lookup
from llmcap_addon.pricing.table import Card, Entry, PriceTable

NEAR = 8
"""Names of models that are offered for one that is not known."""
_NEAR_ENOUGH = 0.6
"""difflib's measure, from 0 to 1; below it names only share some letters."""

type Origin = Literal["table", "own", "assumed"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A card that applies to a model, at a provider or at a host."""

    provider: str
    host: str
    """Empty when no host was asked for and the price is not one of a host's own."""
    model: str
    """As it was asked for."""
    origin: Origin
    card: Card
    entry: Entry | None
    """None for a model that only the user's own prices know."""
    why: str = ""
    """Why the price is only assumed."""
    coming: tuple[tuple[date, Card], ...] = ()
    """Prices of days to come."""
    fees: Mapping[str, Decimal] = field(default_factory=dict)
    """What the provider asks by the piece where the card says nothing."""


@dataclass(frozen=True, slots=True)
class Provider:
    """What the table has of one provider."""

    name: str
    names: int
    cards: int
    fees: Mapping[str, Decimal]


def is_glob(pattern: str) -> bool:
    """True for a name with wildcards."""
    return any(character in pattern for character in "*?[")


def providers(table: PriceTable) -> list[Provider]:
    """Give each provider with its counts, the one with most names first."""
    found = [
        Provider(name, len(table.names(name)), sum(1 for _ in table.entries(name)), table.fees(name))
        for name in table.providers()
    ]
    return sorted(found, key=lambda provider: (-provider.names, provider.name))


def at_host(lookup: Lookup, provider: str, host: str, pattern: str, day: date) -> list[Listed]:
    """Give what applies to a model, or to each that fits a glob, at a host of a provider."""
    if not is_glob(pattern):
        found = lookup.find(provider, host, pattern, day)
        if found is None:
            return []
        if found.override is not None and (own := found.override.card(day)) is not None:
            return [Listed(provider, host, pattern, "own", own, found.entry)]
        return [_of_entry(lookup.table, found.entry, pattern, day, host, found.assumed)] if found.entry else []
    known = lookup.table.provider(provider)
    names = [name for name in lookup.table.names(known) if fnmatchcase(name, pattern.lower())] if known else []
    return [listed for name in names for listed in at_host(lookup, provider, host, name, day)]


def anywhere(table: PriceTable, pattern: str, day: date) -> list[Listed]:
    """Give the cards of a model, or of each that fits a glob, at every provider that lists it by that name."""
    found: list[Listed] = []
    for provider in table.providers():
        if is_glob(pattern):
            names = [name for name in table.names(provider) if fnmatchcase(name, pattern.lower())]
        else:
            names = [pattern]
        for name in names:
            entry = table.find(provider, name)
            if entry is not None:
                found.append(_of_entry(table, entry, name, day))
    return found


def near(table: PriceTable, model: str, provider: str = "") -> list[str]:
    """Give names like one that is not known, "PROVIDER MODEL" each, the most alike first."""
    wanted = model.lower()
    scored: dict[str, float] = {}
    for home in [provider] if provider else table.providers():
        for name in table.names(home):
            if wanted in name or name in wanted:
                scored[f"{home} {name}"] = _NEAR_ENOUGH
        for name in difflib.get_close_matches(wanted, table.names(home), n=NEAR, cutoff=_NEAR_ENOUGH):
            scored[f"{home} {name}"] = difflib.SequenceMatcher(None, wanted, name).ratio()
    return sorted(scored, key=lambda name: (-scored[name], len(name), name))[:NEAR]


def _of_entry(table: PriceTable, entry: Entry, model: str, day: date, host: str = "", assumed: bool = False) -> Listed:
    days = (date.fromisoformat(str(card["from"])) for card in entry.raw["prices"] if card["from"] > day.isoformat())
    why = f"nobody lists this name; it is taken to cost what {entry.name} does at {entry.provider}" if assumed else ""
    return Listed(
        provider=entry.provider,
        host=host,
        model=model,
        origin="assumed" if assumed else "table",
        card=entry.card(day),
        entry=entry,
        why=why,
        coming=tuple((first, entry.card(first)) for first in days),
        fees=table.fees(entry.provider),
    )
