"""Check: whether a table has the shape that pricing relies on, and which of its prices moved out of proportion."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from llmcap_addon.pricing.hours import Hours
from llmcap_addon.pricing.refresh.build import unfolded
from llmcap_addon.pricing.refresh.providers import MAX_PRICE_USD

OUT_OF_PROPORTION = 10
"""A known model's price that rises or falls by this factor is more likely a slipped unit than a new price."""
LEAST_SHARE = Decimal("0.5")
"""A source that lists fewer than this share of the models it listed before is cut short, or has changed its form."""
MAX_PROBLEMS = 20
"""As many as a person reads."""

FIELDS = frozenset({
    "input", "cached_input", "cache_write", "cache_write_1h", "output", "reasoning", "audio_input", "cached_audio",
    "audio_output", "image_input", "cached_image", "video_input", "image_output", "web_search", "file_search", "maps",
    "code_session", "per_image", "per_character", "per_second_in", "per_second_out", "per_page", "per_query",
})  # fmt: skip
KINDS = frozenset({
    "chat", "embedding", "media", "image", "speech", "transcription", "realtime", "rerank", "ocr", "search",
})  # fmt: skip
RULES = frozenset({"equals", "starts_with", "ends_with", "contains", "regex"})
MAX_RULE = 200
"""Characters of a rule: the longest today has 60. Rules are tried on every name a request holds."""
_PRICE = re.compile(r"\d{1,6}(\.\d{1,12})?")

type Path = tuple[str, str, str]
"""Provider, model, and which price of it: "standard input", "flex output above 200,000" …"""


@dataclass(frozen=True, slots=True)
class Move:
    """A price of a known model that differs from the table before."""

    provider: str
    model: str
    price: str
    before: Decimal
    after: Decimal

    @property
    def out_of_proportion(self) -> bool:
        """True when it rose or fell by the factor that needs a person's word; also when it became nothing."""
        low, high = sorted((self.before, self.after))
        return high >= OUT_OF_PROPORTION * low


def problems(table: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with a table's shape; an empty list for a good one. At most `MAX_PROBLEMS` are told."""
    found: list[str] = []
    for problem in _problems(table):
        found.append(problem)
        if len(found) == MAX_PROBLEMS:
            break
    return found


def moves(before: Mapping[str, Any], after: Mapping[str, Any], day: date) -> list[Move]:
    """Give the prices, of models in both tables, that hold on a day and are not the same."""
    old, new = _in_force(before, day), _in_force(after, day)
    return [Move(*path, old[path], new[path]) for path in sorted(old.keys() & new.keys()) if old[path] != new[path]]


def shrunk(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say which sources list far fewer models than when the table before was made."""
    had = {source["name"]: source.get("models", 0) for source in before["header"]["sources"]}
    return [
        f"{source['name']} lists {source['models']:,} models, where it had {had[source['name']]:,}"
        for source in after["header"]["sources"]
        if source["models"] < LEAST_SHARE * had.get(source["name"], 0)
    ]


def counts(table: Mapping[str, Any]) -> dict[str, int]:
    """Give provider → names of models."""
    return {provider: len(told["models"]) for provider, told in table["providers"].items()}


def _problems(table: Mapping[str, Any]) -> Iterator[str]:
    try:
        if table["format"] != 1:
            yield f"format is {table['format']!r}, not 1"
            return
        date.fromisoformat(table["header"]["made"])
        for provider, told in table["providers"].items():
            models = told["models"]
            if not models:
                yield f"{provider} has no models"
            for name, entry in models.items():
                if isinstance(entry, str):
                    if not isinstance(models.get(entry), dict):
                        yield f"{provider} {name} stands for {entry}, which is not there"
                else:
                    yield from _of_entry(f"{provider} {name}", entry)
            for key, rule in told["rules"]:
                if key not in models:
                    yield f"{provider} has a rule for {key}, which is not there"
                yield from _of_rule(f"{provider} {key}", rule)
            yield from _of_row(f"{provider} fees", told.get("fees", {}))
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, re.error) as error:
        yield f"it is not of the table's form ({type(error).__name__}: {error})"


def _of_entry(name: str, entry: Mapping[str, Any]) -> Iterator[str]:
    if entry["kind"] not in KINDS:
        yield f"{name} is of an unknown kind, {entry['kind']!r}"
    for limit in ("context", "max_output"):
        if limit in entry and (type(entry[limit]) is not int or entry[limit] <= 0):
            yield f"{name}: {entry[limit]!r} is no number of tokens"
    if "retired" in entry:
        date.fromisoformat(entry["retired"])
    days = [card["from"] for card in entry["prices"]]
    if not days or days[0] != "" or days != sorted(set(days)):
        yield f"{name}: its prices are not in the order of time"
    for card in entry["prices"]:
        for part in (card, *card.get("off_peak", ())):
            if "standard" not in part["rows"]:
                yield f"{name} has no standard price"
            steps = part.get("steps", ())
            if any(not isinstance(step["above"], int) or step["above"] <= 0 for step in steps):
                yield f"{name} has a step at no length of prompt"
            for rows in (part["rows"], *(step["rows"] for step in steps)):
                for row in rows.values():
                    yield from _of_row(name, row)
        for factor in card.get("geography", {}).values():
            if not 1 <= Decimal(factor) <= 2:
                yield f"{name}: a place multiplies its price by {factor}"
        for part in card.get("off_peak", ()):
            for utc in [part["utc"]] if isinstance(part["utc"], str) else part["utc"]:
                Hours.parse(utc, part.get("weekdays"))


def _of_rule(name: str, rule: Sequence[Any]) -> Iterator[str]:
    kind, *rest = rule
    if kind in ("or", "and"):
        for part in rest:
            yield from _of_rule(name, part)
    elif kind not in RULES or len(rest) != 1 or not isinstance(rest[0], str) or len(rest[0]) > MAX_RULE:
        yield f"{name} has a rule that is none: {str(rule)[:80]}"
    elif kind == "regex":
        re.compile(rest[0])


def _of_row(name: str, row: Mapping[str, str]) -> Iterator[str]:
    for field, price in row.items():
        if field not in FIELDS:
            yield f"{name} has a price of an unknown kind, {field!r}"
        elif not _PRICE.fullmatch(price):
            yield f"{name} {field}: {price!r} is no price"
        elif Decimal(price) > (MAX_PRICE_USD):
            yield f"{name} {field}: {price} dollars are out of proportion"


def _in_force(table: Mapping[str, Any], day: date) -> dict[Path, Decimal]:
    found: dict[Path, Decimal] = {}
    for provider, told in table.get("providers", {}).items():
        for name, entry in unfolded(told["models"]).items():
            cards = [card for card in entry["prices"] if card["from"] <= day.isoformat()]
            steps = ((step["above"], step["rows"]) for step in cards[-1].get("steps", ()))
            for above, rows in ((0, cards[-1]["rows"]), *steps):
                where = f" above {above:,}" if above else ""
                for tier, row in rows.items():
                    for field, price in row.items():
                        found[provider, name, f"{tier} {field}{where}"] = Decimal(price)
    return found
