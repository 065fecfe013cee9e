"""Build: the whole table from the two sources and the table before, with its history of prices."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing.refresh import genai, litellm
from llmcap_addon.pricing.refresh.gather import Entries, Report, entries_of
from llmcap_addon.pricing.refresh.genai import matches
from llmcap_addon.pricing.refresh.levels import Row
from llmcap_addon.pricing.refresh.providers import MAKERS, ROUTED, SOURCES, Source

type Raw = dict[str, Any]
"""A table as data/README.md tells its form."""

_AUDIO = ("audio_input", "cached_audio", "audio_output")


@dataclass(frozen=True, slots=True)
class Sources:
    """The two sources as read, and which state of them it is."""

    genai: Mapping[str, list[genai.Model]]
    litellm: Mapping[str, litellm.Entry]
    genai_version: str
    litellm_version: str


def build_table(sources: Sources, before: Mapping[str, Any], today: dt.date) -> tuple[Raw, Report]:
    """Make the table of a day; `before` is the table to go on from, {} for none.

    Raises PriceError for sources that are JSON, but not of the form that is known here.
    """
    try:
        return _build(sources, before, today)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, re.error) as error:
        raise PriceError(f"a source has changed its form ({type(error).__name__}: {error})") from error


def _build(sources: Sources, before: Mapping[str, Any], today: dt.date) -> tuple[Raw, Report]:
    report = Report()
    built = {
        provider: entries_of(source, provider, sources.genai, sources.litellm, today, report)
        for provider, source in SOURCES.items()
    }  # fmt: skip
    for provider, start in ROUTED.items():
        built[provider] = _routed(sources, start, today, report), []
    _add_from_makers(built["openrouter"][0], built)
    providers: Raw = {}
    for provider, (found, rules) in built.items():
        old = unfolded(before.get("providers", {}).get(provider, {}).get("models", {}))
        entries = with_history(old, found, today.isoformat())
        if not entries:
            continue
        providers[provider] = {"models": folded(entries), "rules": [item for item in rules if item[0] in entries]}
        if fees := SOURCES.get(provider, Source()).fees:
            providers[provider]["fees"] = dict(fees)
    header = {
        "made": today.isoformat(),
        "unit": "US dollars per million tokens, per thousand searches and sessions, or each; data/README.md",
        "sources": [
            {"name": "genai-prices", "version": sources.genai_version, "licence": "MIT",
             "copyright": "Pydantic Services Inc.", "url": "https://github.com/pydantic/genai-prices",
             "models": sum(map(len, sources.genai.values()))},
            {"name": "litellm", "version": sources.litellm_version, "licence": "MIT",
             "copyright": "Berri AI", "url": "https://github.com/BerriAI/litellm",
             "models": len(sources.litellm)},
        ],
    }  # fmt: skip
    return {"format": 1, "header": header, "providers": providers}, report


def with_history(old: Entries, new: Entries, today: str) -> Entries:
    """Put the new prices after the old ones; a model that no source lists any more keeps its last price."""
    kept = dict(old)
    for name, entry in new.items():
        before = [card for card in old.get(name, {}).get("prices", ()) if card["from"] <= today]
        current, *coming = entry["prices"]
        if before and before[-1]["seen"] == today:
            before.pop()  # written today already: this run corrects it
        what = ("rows", "steps", "geography", "off_peak")
        if before and all(before[-1].get(key) == current.get(key) for key in what):
            current = None
        elif before:
            current = current | {"from": today}
        kept[name] = entry | {"prices": [*before, *([current] if current else []), *coming]}
    return kept


def folded(entries: Entries) -> Raw:
    """Write a model that equals a shorter-named one as that one's name."""
    first: dict[str, str] = {}
    found: Raw = {}
    for name in sorted(entries, key=lambda name: (len(name), name)):
        text = json.dumps(entries[name], sort_keys=True)
        found[name] = entries[name] if first.setdefault(text, name) == name else first[text]
    return dict(sorted(found.items()))


def unfolded(models: Mapping[str, Any]) -> Entries:
    """Give every name its own entry again."""
    return {name: models[entry] if isinstance(entry, str) else entry for name, entry in models.items()}


def _routed(sources: Sources, start: str, today: dt.date, report: Report) -> Entries:
    """Give the models of a router: NAME:SELLER at that seller's price, NAME alone at its dearest seller's."""
    found: Entries = {}
    for seller in sorted(key for key in sources.genai if key.startswith(start)):
        entries, _ = entries_of(Source((seller,)), seller, sources.genai, sources.litellm, today, report)
        for name, entry in entries.items():
            found[f"{name}:{seller.removeprefix(start)}"] = entry
            if name not in found or _size(entry) > _size(found[name]):
                found[name] = entry
    return found


def _size(entry: Mapping[str, Any]) -> Decimal:
    row = entry["prices"][0]["rows"]["standard"]
    return Decimal(row.get("input", 0)) + Decimal(row.get("output", 0))


def _add_from_makers(openrouter: Entries, built: Mapping[str, tuple[Entries, list[list[Any]]]]) -> None:
    """Give OpenRouter's models their makers' answer limits and prices of audio and pictures, told nowhere else."""
    for name, entry in openrouter.items():
        maker, _, model = name.partition("/")
        if maker not in MAKERS:
            continue
        entries, rules = built[MAKERS[maker]]
        model = model.partition(":")[0]
        key = model if model in entries else next((key for key, clause in rules if matches(clause, model)), None)
        if key is None:
            continue
        if "max_output" in entries[key]:
            entry.setdefault("max_output", entries[key]["max_output"])
        told: Row = entries[key]["prices"][0]["rows"].get("standard", {})
        for card in entry["prices"]:
            row = card["rows"].get("standard", {})
            for field in _AUDIO:
                if field in told and "audio" in model:
                    row.setdefault(field, told[field])
            if "image_output" in told and "image" in model:
                row.setdefault("image_output", told["image_output"])
