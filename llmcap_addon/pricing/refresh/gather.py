"""Gather: what the two sources say of one provider's models, model by model, made into entries of the table."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from llmcap_addon.pricing.refresh import genai, litellm
from llmcap_addon.pricing.refresh.levels import Levels, filled, merged, plain, priced, put, row_at, scaled, written
from llmcap_addon.pricing.refresh.offpeak import as_json, joined
from llmcap_addon.pricing.refresh.providers import (
    DEAREST_PICTURES,
    ELSEWHERE,
    GOOGLE_IMAGE_TOKENS,
    GOOGLE_MEDIA,
    KINDS,
    MAX_PRICE_USD,
    OUTLIER,
    STALE,
    STEP_IS_INCLUSIVE,
    ZONED,
    Source,
)

type Entries = dict[str, dict[str, Any]]
"""Model → what the table says of it."""

GENAI, LITELLM = "genai-prices", "litellm"
_PICTURE = {"per_image", "image_output"}
"""One of these a model that makes pictures must name: Fireworks' are listed by the step, as if it were a token."""
_LITELLM_KNOWS = {"anthropic", "openai"}
"""Providers of whose models litellm lists the places that cost more."""
_AUDIO = frozenset({"audio_input", "cached_audio", "audio_output"})
_DATED = re.compile(r"-(20\d{2})-?\d{2}-?\d{2}$")
_SIZED = re.compile(r"^(?:[a-z]+/)?(?:\d+|max)-x-(?:\d+|max)/(?:[^/]+/)*(?P<model>[^/]+)$")
"""litellm's "hd/1024-x-1024/dall-e-3": one price of a model that depends on the picture."""
_ZONED = re.compile(r"^(?P<zone>us-gov|us|eu|apac|global|global-standard)/(?P<model>[^/]+)$")
"""litellm's "eu/gpt-4o" of Azure: what a model costs in a data zone."""


@dataclass(slots=True)
class Report:
    """What a person should look at after a refresh."""

    disagreements: list[str] = field(default_factory=list)
    outliers: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def compare(self, name: str, first: Levels, second: Levels) -> None:
        """Note where genai-prices (first) and litellm (second) differ on a standard price."""
        for above in sorted({0} | set(first) | set(second)):
            one, two = row_at(first, above, "standard"), row_at(second, above, "standard")
            for price in sorted(one.keys() & two.keys()):
                low, high = sorted((one[price], two[price]))
                if high - low <= high / 1000:  # one of them is rounded
                    continue
                where = f" above {above:,}" if above else ""
                line = f"{name}{where} {price}: {GENAI} {plain(one[price])}, {LITELLM} {plain(two[price])}"
                (self.outliers if high > OUTLIER * low else self.disagreements).append(line)


def entries_of(
    source: Source,
    provider: str,
    all_genai: Mapping[str, list[genai.Model]],
    all_litellm: Mapping[str, litellm.Entry],
    today: dt.date,
    report: Report,
) -> tuple[Entries, list[list[Any]]]:
    """Give a provider's models, and the rules for names that are not spelled out."""
    models = {model["id"].lower(): model for one in reversed(source.genai) for model in all_genai.get(one, ())}
    rules = [(key, genai.rule(model["match"])) for key, model in models.items()]
    theirs = _Litellm(provider, source, all_litellm)
    names = {*models, *theirs.entries, *(name for _, clause in rules for name in genai.names_in(clause))}
    found: Entries = {}
    for name in sorted(names):
        if ELSEWHERE.get(provider, "\n") in name:
            continue
        key = name if name in models else next((key for key, clause in rules if genai.matches(clause, name)), None)
        entry = _one(provider, name, key, models.get(key or ""), theirs, today, report)
        if entry is not None:
            found[name] = entry
    left = [[key, rest] for key, clause in rules if key in found and (rest := genai.without_names(clause))]
    return found, left


def _one(
    provider: str, name: str, key: str | None, dated: genai.Model | None, theirs: _Litellm, today: dt.date,
    report: Report,
) -> dict[str, Any] | None:  # fmt: skip
    """Make the entry of one name; None when no source has a price for it."""
    entry = theirs.entries.get(name) or theirs.entries.get(key or "") or {}
    second = theirs.levels(name) or theirs.levels(key or "")
    first = genai.levels(dated, today) if dated else {}
    stale, why = STALE.get((provider, key or name), ("", ""))
    if stale == GENAI and second:
        report.dropped.append(f"{provider} {name}: {GENAI} is left out, {why}")
        first, dated = {}, None
    if name in theirs.entries and dated and name == key:
        report.compare(f"{provider} {name}", first, second)
    for told in (first, second):
        _once(told, entry.get("mode"))
    for told, label in ((first, GENAI), (second, LITELLM)):
        if any(amount > MAX_PRICE_USD for level in told.values() for row in level.values() for amount in row.values()):
            report.dropped.append(f"{provider} {name}: {label} is left out, its price has a slipped unit")
            told.clear()
    levels = merged([levels for levels in (first, second) if levels])
    _once(levels, entry.get("mode"))
    if dearest := DEAREST_PICTURES.get((provider, name.removeprefix("us.").removesuffix(":0"))):
        put(levels, 0, "standard", "per_image", dearest)
    # An alias for which the sources tell no price of audio: that of its dated sibling, which litellm alone lists.
    for sibling in theirs.siblings(name):
        levels = filled(levels, sibling, _AUDIO)
    kind = _kind(provider, entry, levels)
    if not priced(levels, name) or (kind == "image" and not row_at(levels, 0, "standard").keys() & _PICTURE):
        return None
    if not levels:
        levels = {0: {"standard": {"input": Decimal(0), "output": Decimal(0)}}}
    by = [label for label, told in ((GENAI, first), (LITELLM, second)) if told]
    card: dict[str, Any] = {"from": "", "seen": today.isoformat(), "by": by, **written(levels)}
    if places := theirs.geography(name, entry):
        card["geography"] = places
    ours_off, theirs_off = genai.off_peak(dated, today) if dated else None, litellm.off_peak(entry)
    off_peak = joined(ours_off, theirs_off) if dated else theirs_off
    if off_peak:
        card["off_peak"] = as_json(off_peak, levels)
    elif ours_off or theirs_off:
        report.disagreements.append(f"{provider} {name}: the sources' off-peak hours differ; the peak's price holds")
    cards = [card, *_coming(levels, first, dated, today, card)]
    written_entry: dict[str, Any] = {"kind": kind}
    context = max(_whole(entry.get("max_input_tokens")), _whole((dated or {}).get("context_window")))
    if context:
        written_entry["context"] = context
    if limit := _whole(entry.get("max_output_tokens")):
        written_entry["max_output"] = limit
    if retired := entry.get("deprecation_date"):
        written_entry["retired"] = retired
    return written_entry | {"prices": cards}


def _once(levels: Levels, mode: str | None) -> None:
    """Take out prices by the piece of what is billed by the token: they stand there as examples."""
    row = levels.get(0, {}).get("standard", {})
    if mode in ("audio_transcription", "audio_speech", "realtime") and row.keys() & {"input", "audio_input"}:
        row.pop("per_second_in", None)
        row.pop("per_second_out", None)
    if mode == "ocr" and row.get("input"):
        row.pop("per_page", None)
    if "per_image" in row and row.get("input") and mode in GOOGLE_MEDIA:
        row.setdefault("image_output", row["per_image"] / GOOGLE_IMAGE_TOKENS * 1_000_000)
        del row["per_image"]
    if row.keys() & {"per_query", "per_page", "per_image", "per_second_in", "per_character"}:
        for field in ("input", "output"):
            if row.get(field) == 0:
                del row[field]  # what is billed by the piece alone names no tokens


def _coming(
    levels: Levels, first: Levels, dated: genai.Model | None, today: dt.date, now: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the cards of days to come; genai-prices alone has such days."""
    for day in sorted(genai.start_dates(dated)) if dated else ():
        if day > today and dated:
            told = {"from": day.isoformat(), "seen": today.isoformat(), "by": [GENAI]}
            later = written(scaled(levels, first, genai.levels(dated, day)))
            places = {"geography": now["geography"]} if "geography" in now else {}
            yield told | later | places


def _kind(provider: str, entry: litellm.Entry, levels: Levels) -> str:
    standard = levels.get(0, {}).get("standard", {})
    mode = entry.get("mode") or ("embedding" if standard.keys() <= {"input", "cached_input"} else "chat")
    if provider in ("google", "vertex") and mode in GOOGLE_MEDIA and "input" in standard:
        return "media"
    if not entry and "per_second_in" in standard and "input" not in standard:
        return "transcription"
    if not entry and "per_character" in standard:
        return "speech"
    if not entry and "per_page" in standard:
        return "ocr"
    return KINDS.get(mode, "chat")


class _Litellm:
    """litellm's entries of one provider, by the name its API takes."""

    def __init__(self, provider: str, source: Source, everything: Mapping[str, litellm.Entry]) -> None:
        self._provider, self._source = provider, source
        self.entries: dict[str, litellm.Entry] = {}
        self._twins: dict[str, list[litellm.Entry]] = {}
        self._pictures: dict[str, Decimal] = {}
        self._zones: dict[str, dict[str, litellm.Entry]] = {}
        self._siblings: dict[str, list[str]] = {}
        prefixed: set[str] = set()
        for key, entry in everything.items():
            if entry.get("litellm_provider") not in source.litellm or entry.get("mode", "chat") not in KINDS:
                continue
            bare = next((key.removeprefix(prefix) for prefix in source.prefixes if key.startswith(prefix)), key)
            name = source.rename(bare.lower()) if source.rename else bare.lower()
            if name is None or name.endswith("container"):
                continue
            if sized := _SIZED.match(name):
                self._picture(sized["model"], name, entry)
            elif provider in ZONED and (zoned := _ZONED.match(name)):
                self._zones.setdefault(zoned["model"], {})[zoned["zone"]] = entry
            elif name not in self.entries or (bare != key and name not in prefixed):
                self.entries[name] = entry  # a key with the provider's name beats a bare one
            else:
                self._twins.setdefault(name, []).append(entry)
            if bare != key:
                prefixed.add(name)
        for model, zones in self._zones.items():
            dearest = max(zones.values(), key=lambda entry: entry.get("input_cost_per_token") or 0)
            self.entries.setdefault(model, dearest)
        for model in self._pictures:
            self.entries.setdefault(model, {"mode": "image_generation"})
        for name in self.entries:
            if _DATED.search(name):
                self._siblings.setdefault(_DATED.sub("", name), []).append(name)

    def levels(self, name: str) -> Levels:
        """Give the prices of a name; of several entries for it the higher."""
        if name not in self.entries:
            return {}
        inclusive = self._provider in STEP_IS_INCLUSIVE
        twins = [self.entries[name], *self._twins.get(name, ())]
        found = merged([litellm.levels(entry, name, step_is_inclusive=inclusive) for entry in twins])
        if name in self._pictures and "image_output" not in row_at(found, 0, "standard"):
            put(found, 0, "standard", "per_image", self._pictures[name])
        return found

    def siblings(self, name: str) -> Iterator[Levels]:
        """Yield the prices of the dated names of an undated one."""
        for sibling in self._siblings.get(name, ()):
            yield self.levels(sibling)

    def geography(self, name: str, entry: litellm.Entry) -> dict[str, str]:
        """Give place → factor for token prices."""
        told = litellm.geography(entry)
        base = litellm.levels(self.entries.get(name, {}))
        for zone, other in self._zones.get(name, {}).items():
            now, there = row_at(base, 0, "standard"), row_at(litellm.levels(other), 0, "standard")
            times = [there[price] / now[price] for price in ("input", "output") if now.get(price) and there.get(price)]
            if not zone.startswith("global") and times and max(times) > 1:
                told[zone] = plain(max(times))
        if not told and (not entry or self._provider in ZONED or self._provider not in _LITELLM_KNOWS):
            told = dict(self._source.geography)
        return dict(sorted(told.items()))

    def _picture(self, model: str, name: str, entry: litellm.Entry) -> None:
        price = row_at(litellm.levels(entry, name), 0, "standard").get("per_image")
        if price:
            self._pictures[model] = max(price, self._pictures.get(model, price))


def _whole(value: Any) -> int:
    return int(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else 0
