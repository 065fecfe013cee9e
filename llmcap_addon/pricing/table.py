"""PriceTable: the shipped prices, found by provider and model name.

The file's form is told in data/README.md. Nothing is compiled here: an entry stays as JSON gave it until it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing import table_file
from llmcap_addon.pricing.hours import Hours

SHIPPED = Path(__file__).parent / "data" / "prices.json.gz"

PROVIDER_ALIASES = {
    "x-ai": "xai",
    "gemini": "google",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
    "mistralai": "mistral",
    "aws": "bedrock",
    "bedrock_converse": "bedrock",
    "bedrock_mantle": "bedrock",
    "vertex_ai": "vertex",
    "foundry": "azure_ai",
    "chatgpt": "openai",
    "copilot": "github-copilot",
}

_DAYS_KNOWN = 8
"""Days whose prices are remembered for each model: calls are of today, or of the day they began."""
_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
"""OpenRouter and others write -20251211 where the provider's own name has -2025-12-11."""


type Levels = tuple[tuple[int, Mapping[str, Mapping[str, Decimal]]], ...]
"""(prompt length above which it applies, tier → field → price), ascending, the first at 0."""


@dataclass(frozen=True, slots=True)
class Card:
    """A model's prices from one day on: the levels that `rates.compile_card` takes, and places' factors."""

    levels: Levels
    geography: Mapping[str, Decimal]
    listed: frozenset[str]
    """The tiers that have a price of their own."""
    off_peak: tuple[tuple[Hours, Levels], ...] = ()
    """Levels that hold instead inside their hours; the first that fits counts."""

    def window_at(self, at_ms: int) -> int:
        """Give the number of the window of `off_peak` that a moment falls into; -1 for none."""
        return next((number for number, (hours, _) in enumerate(self.off_peak) if hours.hold(at_ms)), -1)

    def levels_in(self, window: int) -> Levels:
        """Give the levels that hold in a window."""
        return self.levels if window < 0 else self.off_peak[window][1]


@dataclass(frozen=True, eq=False)
class Entry:
    """What the table says of one model; there is one object a model, so identity is equality."""

    provider: str
    name: str
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def kind(self) -> str:
        """`chat`, `embedding`, `media`, `image`, `speech`, `transcription`, `realtime`, `rerank`, `ocr` or `search`."""
        return str(self.raw["kind"])

    @property
    def context_tokens(self) -> int | None:
        """The longest prompt, by the source that allows more."""
        return int(self.raw["context"]) if "context" in self.raw else None

    @property
    def max_output_tokens(self) -> int | None:
        """The longest answer."""
        return int(self.raw["max_output"]) if "max_output" in self.raw else None

    def retired(self, day: date) -> bool:
        """True when the provider has, by the sources, switched the model off."""
        return str(self.raw.get("retired", "9999")) < day.isoformat()

    def card(self, day: date) -> Card:
        """Give the prices that apply on a day."""
        card = self._by_day.get(day)
        if card is None:
            if len(self._by_day) >= _DAYS_KNOWN:
                self._by_day.clear()
            card = self._by_day[day] = self._cards[self._index(day)]
        return card

    def size(self, day: date) -> Decimal:
        """Give the standard price of input plus output on a day: what "dearest" is measured by."""
        row = self.raw["prices"][self._index(day)]["rows"]["standard"]
        return Decimal(row.get("input", 0)) + Decimal(row.get("output", 0))

    def bills_tokens(self, day: date) -> bool:
        """True when the price of a day names tokens, not pieces alone."""
        row = self.raw["prices"][self._index(day)]["rows"]["standard"]
        return "input" in row or "output" in row

    def rows(self) -> Iterator[Mapping[str, str]]:
        """Yield the rows of all days and tiers, steps left out."""
        for card in self.raw["prices"]:
            yield from card["rows"].values()

    def _index(self, day: date) -> int:
        text = day.isoformat()
        return max((i for i, card in enumerate(self.raw["prices"]) if card["from"] <= text), default=0)

    @cached_property
    def _by_day(self) -> dict[date, Card]:
        """The prices of the days lately asked for; each call asks several times for today's."""
        return {}

    @cached_property
    def _cards(self) -> tuple[Card, ...]:
        return tuple(_card(card) for card in self.raw["prices"])


def _card(raw: Mapping[str, Any]) -> Card:
    return Card(
        _levels(raw),
        {place: Decimal(factor) for place, factor in raw.get("geography", {}).items()},
        frozenset(raw["rows"]),
        tuple(
            (Hours.parse(utc, part.get("weekdays")), _levels(part))
            for part in raw.get("off_peak", ())
            for utc in ([part["utc"]] if isinstance(part["utc"], str) else part["utc"])
        ),
    )


def _levels(raw: Mapping[str, Any]) -> Levels:
    levels = [(0, raw["rows"]), *((step["above"], step["rows"]) for step in raw.get("steps", ()))]
    return tuple(
        (above, {tier: {name: Decimal(price) for name, price in row.items()} for tier, row in rows.items()})
        for above, rows in levels
    )


class PriceTable:
    """The table as read; immutable but for what it remembers of answers."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._providers: Mapping[str, Any] = raw["providers"]
        self.header: Mapping[str, Any] = raw["header"]
        self._entries: dict[tuple[str, str], Entry] = {}
        self._listed: dict[str, Mapping[str, frozenset[Decimal]]] = {}

    @classmethod
    def read(cls, path: Path = SHIPPED) -> PriceTable:
        """Read a table; raises PriceError when it is missing, damaged or of another format."""
        try:
            return cls(table_file.decode(path.read_bytes()))
        except (OSError, PriceError) as error:
            raise PriceError(f"{path}: the price table can't be read ({error}); reinstall llmcap-addon") from error

    def provider(self, name: str) -> str | None:
        """Give the table's name of a provider, or None when it has no prices for it."""
        name = name.lower()
        spellings = (name, PROVIDER_ALIASES.get(name, name), name.replace("_", "-"), name.replace("-", "_"))
        return next((each for each in spellings if each in self._providers), None)

    def find(self, provider: str, model: str) -> Entry | None:
        """Find a model of a provider by its exact name, else by the sources' own rules; never by likeness."""
        for name in _spellings(provider, model.lower()):
            found = self._exact(provider, name) or self._by_rule(provider, name)
            if found is not None:
                return found
        return None

    def entries(self, provider: str) -> Iterator[Entry]:
        """Yield each distinct entry of a provider."""
        for name, raw in self._providers[provider]["models"].items():
            if not isinstance(raw, str):
                yield self._entry(provider, name)

    def names(self, provider: str) -> tuple[str, ...]:
        """Give the names that are spelled out for a provider's models."""
        return tuple(self._providers[provider]["models"])

    def fees(self, provider: str) -> Mapping[str, Decimal]:
        """Give what a provider asks by the piece whatever the model, as far as the table tells."""
        return {name: Decimal(price) for name, price in self._providers[provider].get("fees", {}).items()}

    def listed(self, provider: str, field_name: str) -> frozenset[Decimal]:
        """Give all prices that a provider's models name for a field."""
        if provider not in self._listed:
            found: dict[str, set[str]] = {}
            for entry in self.entries(provider):
                for row in entry.rows():
                    for name, price in row.items():
                        found.setdefault(name, set()).add(price)
            self._listed[provider] = {name: frozenset(map(Decimal, prices)) for name, prices in found.items()}
        return self._listed[provider].get(field_name, frozenset())

    def providers(self) -> tuple[str, ...]:
        """Give the names of the providers that have prices."""
        return tuple(self._providers)

    def _exact(self, provider: str, name: str) -> Entry | None:
        raw = self._providers[provider]["models"].get(name)
        if raw is None:
            return None
        return self._entry(provider, raw if isinstance(raw, str) else name)

    def _by_rule(self, provider: str, name: str) -> Entry | None:
        for key, rule in self._providers[provider]["rules"]:
            if _matches(rule, name):
                return self._exact(provider, key)
        return None

    def _entry(self, provider: str, name: str) -> Entry:
        found = self._entries.get((provider, name))
        if found is None:
            found = Entry(provider, name, self._providers[provider]["models"][name])
            self._entries[provider, name] = found  # bounded by the table's own size
        return found


def _spellings(provider: str, model: str) -> Iterator[str]:
    """Yield the names a model may have in the table."""
    model = model.removeprefix("models/")
    yield model
    dashed = _COMPACT_DATE.sub(r"-\1-\2-\3", model)
    if dashed != model:
        yield dashed
    if provider == "openai" and model.startswith("ft:"):
        # ft:BASE:organisation:name:id is billed by its base.
        # https://platform.openai.com/docs/guides/supervised-fine-tuning
        yield ":".join(model.split(":")[:2])


def _matches(rule: Any, name: str) -> bool:
    kind, *rest = rule
    match kind:
        case "or":
            return any(_matches(part, name) for part in rest)
        case "and":
            return all(_matches(part, name) for part in rest)
        case "starts_with":
            return name.startswith(rest[0])
        case "ends_with":
            return name.endswith(rest[0])
        case "contains":
            return rest[0] in name
        case "equals":
            return bool(name == rest[0])
        case "regex":
            return re.search(rest[0], name) is not None
    return False
