"""Lookup: where a model's price comes from, the user's own or the table's, by the name a provider's API takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from fnmatch import fnmatchcase
from types import MappingProxyType

from llmcap_addon.call import Call
from llmcap_addon.pricing import names
from llmcap_addon.pricing.bounds import UNKNOWN_LIMITS, Limits
from llmcap_addon.pricing.overrides import PriceOverride
from llmcap_addon.pricing.table import Entry, PriceTable

type Overrides = Mapping[str, Mapping[str, PriceOverride]]
"""Host → glob over model names → price."""

NO_OVERRIDES: Overrides = MappingProxyType({})

MAX_REMEMBERED = 4096
"""Names and cards kept; far more than one person's tools use, and few enough to hold in a megabyte or two."""

_KINDS = (
    ("image", ("image", "media")),
    ("speech", ("speech",)),
    ("transcri", ("transcription",)),
    ("translat", ("transcription",)),
    ("rerank", ("rerank",)),
    ("search", ("search",)),
    ("ocr", ("ocr",)),
    ("realtime", ("realtime",)),
    ("live", ("realtime",)),
)
"""(part of a dialect's name, the kinds of models it can mean)."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where a model's price comes from: a user's own, or the table."""

    entry: Entry | None
    """None when only an override knows the model."""
    override: PriceOverride | None = None
    assumed: bool = False
    """True when the price is not surely this model's."""
    is_other: bool = False
    """True when it is the dearest model's, this one being unknown."""
    limits: Limits = UNKNOWN_LIMITS


class Lookup:
    """Finds prices, and remembers what it found."""

    def __init__(self, table: PriceTable, overrides: Overrides) -> None:
        self.table = table
        self._overrides = {
            host.lower(): {glob.lower(): price for glob, price in models.items()} for host, models in overrides.items()
        }
        self._found: dict[tuple[str, str, str], tuple[Found | None, Found | None]] = {}
        self._dearest: dict[tuple[object, ...], Found] = {}

    def find(self, provider: str, host: str, model: str, day: date) -> Found | None:
        """Give the user's own price if there is one on that day, else the table's, else None."""
        key = (provider, host, model)
        if key not in self._found:
            remember(self._found, key, self._look_up(provider, host, model.lower()))
        own, listed = self._found[key]
        if own is not None and own.override is not None and own.override.card(day) is not None:
            return own
        return listed

    def assume(self, call: Call, day: date, *, by_tokens: bool = False) -> Found:
        """Give the dearest model of the host's provider that is not retired, by the price of input plus output.

        Of the kind the call needs, as far as the provider has one; else of that kind anywhere, else of any kind. With
        `by_tokens`, one that is billed by tokens.
        """
        provider = self.table.provider(call.provider) or self.table.provider(call.dialect.partition(".")[0])
        kinds = _kinds(call)
        key = (provider, kinds, day, by_tokens)
        found = self._dearest.get(key)
        if found is None:
            everybody = self.table.providers()
            homes = (provider,) if provider else everybody
            fitting = (
                self._fitting(homes, kinds, day, by_tokens=by_tokens)
                or self._fitting(everybody, kinds, day, by_tokens=by_tokens)
                or self._fitting(homes, (), day, by_tokens=True)
                or self._fitting(everybody, (), day, by_tokens=True)
            )
            entry = max(fitting, key=lambda entry: (entry.size(day), entry.name))
            found = Found(entry, assumed=True, is_other=True)
            remember(self._dearest, key, found)
        return found

    def _fitting(self, homes: Iterable[str], kinds: tuple[str, ...], day: date, *, by_tokens: bool) -> list[Entry]:
        entries = [entry for home in homes for entry in self.table.entries(home)]
        return [
            entry
            for entry in entries
            if (not kinds or entry.kind in kinds)
            and not entry.retired(day)
            and (not by_tokens or entry.bills_tokens(day))
        ]

    def _look_up(self, provider: str, host: str, model: str) -> tuple[Found | None, Found | None]:
        entry, assumed = self._entry(provider, host.lower(), model)
        limits = Limits(entry.context_tokens, entry.max_output_tokens) if entry else UNKNOWN_LIMITS
        override = self._override(host, model)
        own = Found(entry, override, limits=limits) if override is not None else None
        return own, Found(entry, None, assumed, limits=limits) if entry else None

    def _override(self, host: str, model: str) -> PriceOverride | None:
        """Give the user's own price: a name spelled out, else the glob with the most letters in it."""
        globs = self._overrides.get(host.lower(), {})
        if model in globs:
            return globs[model]
        fitting = [glob for glob in globs if fnmatchcase(model, glob)]
        if not fitting:
            return None
        return globs[max(fitting, key=lambda glob: (len(glob.replace("*", "").replace("?", "")), glob))]

    # -- The table's names

    def _entry(self, provider: str, host: str, model: str) -> tuple[Entry | None, bool]:
        """Give a model's entry, and whether its price is only taken to be this model's."""
        known = self.table.provider(provider)
        name = known or provider.replace("_", "-")
        if not model:
            return None, False
        if name == "bedrock":
            entry, assumed = self._bedrock(host, model)
        elif name in ("azure", "azure_ai", "azure-ai"):
            entry, assumed = self._first(names.azure_homes(host), (model,)), False
        elif name == "vertex":
            entry, assumed = self._first(("vertex",), names.vertex_names(model)), False
        else:
            entry, assumed = self._first((name,), (model,)), False
        if entry is None and known == "openrouter" and ":" in model:
            # ":nitro", ":online" and the like choose among the sellers of the model; what they cost is not listed.
            # https://openrouter.ai/docs/features/model-routing
            return self._first(("openrouter",), (model.rpartition(":")[0],)), True
        if entry is None and name in names.CLOUDS:
            # Clouds mostly ask what the maker asks, but nobody says so of this model.
            maker, bare = names.maker_of(name, model)
            return self._first((maker,), names.spellings_at_maker(bare)), True
        return entry, assumed

    def _first(self, homes: Iterable[str], spellings: Iterable[str]) -> Entry | None:
        written = tuple(spellings)
        for home in homes:
            known = self.table.provider(home)
            for name in written if known else ():
                found = self.table.find(known, name) if known else None
                if found is not None:
                    return found
        return None

    def _bedrock(self, host: str, model: str) -> tuple[Entry | None, bool]:
        """Find a profile as it is called, a region's own price, the model's; a region's profile that isn't listed costs
        as the dearest of the model's listed ones."""
        if self.table.provider("bedrock") is None:
            return None, False
        region, base = names.bedrock_profile(model)
        where = names.bedrock_region(host)
        named = f"{region}.{base}" if region else f"{where}/{base}"
        entry = self._first(("bedrock",), (named,))
        if entry is not None:
            return entry, False
        listed = self._first(("bedrock",), (base,))
        if region in ("", "global"):
            return listed, False
        others = [self._first(("bedrock",), (f"{prefix}.{base}",)) for prefix in names.REGION_PREFIXES]
        fitting = [each for each in (listed, *others) if each is not None]
        if not fitting:
            return None, False
        day = date.max  # of dated prices the last
        sizes = {each.size(day) for each in fitting}
        return max(fitting, key=lambda each: each.size(day)), len(sizes) > 1


def _kinds(call: Call) -> tuple[str, ...]:
    name = call.dialect.partition(".")[2]
    for word, kinds in _KINDS:
        if word in name:
            return kinds
    return ("chat", "media") if call.has_output else ("embedding",)


def remember[K, V](memory: dict[K, V], key: K, value: V) -> None:
    """Keep an answer; a full memory is emptied, which only costs the time to work answers out again."""
    if len(memory) >= MAX_REMEMBERED:
        memory.clear()
    memory[key] = value
