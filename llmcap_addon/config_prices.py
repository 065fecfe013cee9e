"""The key `prices:` of caps.yaml: prices of the user's own, by host and glob of models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from types import MappingProxyType

from llmcap_addon.config_caps import AMOUNT_WORDS, dollars
from llmcap_addon.config_hosts import read_host
from llmcap_addon.config_yaml import Place
from llmcap_addon.pricing.hours import EVERY_DAY, Hours
from llmcap_addon.pricing.overrides import OwnRows, PriceOverride, own_card
from llmcap_addon.pricing.rates import FEES, PIECES, TOKENS
from llmcap_addon.pricing.table import Card
from llmcap_addon.pricing.terms import KNOWN_TIERS

MAX_PRICE_USD = 1_000_000
"""The largest price, dollars per million tokens: a thousand times the dearest there is."""
MAX_FACTOR = 100
"""The largest that a place multiplies prices by; the dearest there is, is 1.1."""
MAX_STEP_TOKENS = 1_000_000_000
"""The largest prompt length of a step: no model takes a thousandth of that."""

_TOKEN_FIELDS = tuple(name for name in TOKENS if name != "video_input")
_FIELDS = (*_TOKEN_FIELDS, *FEES, *PIECES)
_TIERS = tuple(sorted(KNOWN_TIERS - {"standard"}))

_LIMITS = f"from 0 to {MAX_PRICE_USD:,}, {AMOUNT_WORDS}"
PRICE_WORDS = f"dollars per million tokens {_LIMITS}"
_WORDS = (
    dict.fromkeys(_TOKEN_FIELDS, PRICE_WORDS)
    | dict.fromkeys(FEES, f"dollars per thousand {_LIMITS}")
    | dict.fromkeys(PIECES, f"dollars for one {_LIMITS}")
)
_EXAMPLE = "{my-model: {input: 3, output: 12}}"
_DAY_WORDS = "a day like 2026-12-01"
_DATED_WORDS = "prices, like [{input: 3, output: 12}, {from: 2026-12-01, input: 6, output: 24}]"
_ABOVE_WORDS = "a mapping of prompt lengths, like {272000: {input: 6, output: 18}}"
_STEP_WORDS = f"a number of tokens from 1 to {MAX_STEP_TOKENS:,}, like 272000"
_PLACE_WORDS = "a mapping of places, like {us: 1.1}"
_FACTOR_WORDS = f"a factor from 0 to {MAX_FACTOR}, {AMOUNT_WORDS}"
_HOURS_WORDS = 'hours in UTC, like "16:30-00:30" ("24:00" is a day\'s end)'
_OFF_PEAK_WORDS = 'a list of hours, like [{utc: "16:30-00:30", input: 1.5, output: 6}]'
_WEEKDAY_WORDS = "a list of weekdays from 1 (Monday) to 7 (Sunday), like [1, 2, 3, 4, 5]"

type Prices = Mapping[str, Mapping[str, PriceOverride]]


def read_prices(place: Place) -> Prices:
    """The user's prices by host, then by glob."""
    hosts: dict[str, Mapping[str, PriceOverride]] = {}
    for key, models in place.pairs(f"a mapping, like {{api.openai.com: {_EXAMPLE}}}") or ():
        name = read_host(key, models)
        prices: dict[str, PriceOverride] = {}
        for glob, value in models.pairs(f'a mapping, like {_EXAMPLE}; "*" is every model') or ():
            found = _override(value)
            if found is not None:
                prices[glob] = found
        if name is not None:
            hosts[name] = MappingProxyType(prices)
    return MappingProxyType(hosts)


def _override(place: Place) -> PriceOverride | None:
    """One price, or a list of them, each from a day on."""
    dated: dict[date, Card] = {}
    whole = True
    for item in (place.items("") if place.is_list else [place]) or ():
        found = _dated(item)
        if found is None:
            whole = False
        elif found.day in dated:
            item.wrong("a day that no other price of the model has", found=f"{found.words} again", key="from")
            whole = False
        else:
            dated[found.day] = found.card
    if place.is_list and whole and not dated:
        place.wrong(_DATED_WORDS, found="an empty list")
    return PriceOverride(tuple(sorted(dated.items(), key=lambda item: item[0]))) if dated and whole else None


@dataclass(frozen=True, slots=True)
class _Dated:
    day: date
    words: str
    card: Card


def _dated(place: Place) -> _Dated | None:
    fields = place.fields((*_FIELDS, "above", "tiers", "geography", "off_peak", "from"))
    if not place.is_mapping:
        return None
    # Never taken for 0: what nobody named a price for is not free.
    by_piece = any(name in fields for name in PIECES) and "input" not in fields and "output" not in fields
    missing = [] if by_piece else [name for name in ("input", "output") if name not in fields]
    for name in missing:
        place.missing(name, PRICE_WORDS)
    rows = _rows(fields)
    geography = _geography(fields["geography"]) if "geography" in fields else {}
    off_peak = _off_peak(fields["off_peak"]) if "off_peak" in fields else []
    day = _day(fields["from"]) if "from" in fields else date.min
    if missing or rows is None or geography is None or off_peak is None or day is None:
        return None
    words = f'"{day.isoformat()}"' if "from" in fields else "no day"
    return _Dated(day, words, own_card(rows, geography, off_peak))


def _rows(fields: Mapping[str, Place]) -> OwnRows | None:
    """What a mapping says of prices, its tiers and steps; None when something of it is wrong."""
    row = _row(fields)
    tiers = _tiers(fields["tiers"]) if "tiers" in fields else {}
    above = _above(fields["above"]) if "above" in fields else {}
    if row is None or tiers is None or above is None:
        return None
    return OwnRows(row, tiers, above)


def _row(fields: Mapping[str, Place]) -> dict[str, Decimal] | None:
    row: dict[str, Decimal] = {}
    asked = [name for name in _FIELDS if name in fields]
    for name in asked:
        amount = _amount(fields[name], _WORDS[name], MAX_PRICE_USD)
        if amount is not None:
            row[name] = amount
    return row if len(row) == len(asked) else None


def _needs_price(place: Place, fields: Mapping[str, Place]) -> bool:
    """Note a mapping that names no price at all; True when it names one."""
    if any(name in fields for name in _FIELDS):
        return True
    if place.is_mapping:
        place.missing("input", PRICE_WORDS)
    return False


def _tiers(place: Place) -> dict[str, dict[str, Decimal]] | None:
    tiers: dict[str, dict[str, Decimal]] = {}
    known = place.fields(_TIERS)
    whole = place.is_mapping
    for tier, value in known.items():
        fields = value.fields(_FIELDS)
        row = _row(fields) if _needs_price(value, fields) else None
        if row is None:
            whole = False
        else:
            tiers[tier] = row
    return tiers if whole else None


def _above(place: Place) -> dict[int, OwnRows] | None:
    steps: dict[int, OwnRows] = {}
    pairs = place.pairs(_ABOVE_WORDS)
    whole = pairs is not None
    for key, value in pairs or ():
        digits = key.replace("_", "")
        above = int(digits) if re.fullmatch(r"[0-9]{1,12}", digits) else 0
        if not 1 <= above <= MAX_STEP_TOKENS:
            value.unknown(key, _STEP_WORDS)
            whole = False
            continue
        fields = value.fields((*_FIELDS, "tiers"))
        rows = _rows(fields) if _needs_price(value, fields) else None
        if rows is None:
            whole = False
        else:
            steps[above] = rows
    return steps if whole else None


def _geography(place: Place) -> dict[str, Decimal] | None:
    factors: dict[str, Decimal] = {}
    pairs = place.pairs(_PLACE_WORDS)
    whole = pairs is not None
    for key, value in pairs or ():
        factor = _amount(value, _FACTOR_WORDS, MAX_FACTOR)
        if factor is None:
            whole = False
        else:
            factors[key.lower()] = factor
    return factors if whole else None


def _off_peak(place: Place) -> list[tuple[Hours, OwnRows]] | None:
    windows: list[tuple[Hours, OwnRows]] = []
    items = place.items(_OFF_PEAK_WORDS)
    whole = items is not None
    for item in items or ():
        fields = item.fields(("utc", "weekdays", *_FIELDS, "above", "tiers"))
        if item.is_mapping and "utc" not in fields:
            item.missing("utc", _HOURS_WORDS)
        hours = _hours(fields["utc"], fields.get("weekdays")) if "utc" in fields else None
        rows = _rows(fields) if _needs_price(item, fields) else None
        if hours is None or rows is None:
            whole = False
        else:
            windows.extend((each, rows) for each in hours)
    return windows if whole else None


def _hours(utc: Place, weekdays: Place | None) -> list[Hours] | None:
    days: Iterable[int] | None = EVERY_DAY if weekdays is None else _weekdays(weekdays)
    found: list[Hours] = []
    items = (utc.items("") if utc.is_list else [utc]) or ()
    for item in items:
        text = item.text(_HOURS_WORDS)
        if text is None:
            continue
        try:
            found.append(Hours.parse(text, days or EVERY_DAY))
        except ValueError:
            item.wrong(_HOURS_WORDS)
    if not items:
        utc.wrong(_HOURS_WORDS, found="an empty list")
    return found if days is not None and items and len(found) == len(items) else None


def _weekdays(place: Place) -> frozenset[int] | None:
    items = place.items(_WEEKDAY_WORDS)
    days: list[int] = []
    for item in items or ():
        text = item.text(_WEEKDAY_WORDS)
        if text is None:
            continue
        if re.fullmatch("[1-7]", text):
            days.append(int(text))
        else:
            item.wrong(_WEEKDAY_WORDS)
    if items == []:
        place.wrong(_WEEKDAY_WORDS, found="an empty list")
    return frozenset(days) if items and len(days) == len(items) else None


def _day(place: Place) -> date | None:
    text = place.text(_DAY_WORDS)
    try:
        if text is not None and re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
            return date.fromisoformat(text)
    except ValueError:
        pass
    if text is not None:
        place.wrong(_DAY_WORDS)
    return None


def _amount(place: Place, words: str, most: int) -> Decimal | None:
    text = place.text(words)
    amount = None if text is None else dollars(text, most)
    if text is not None and amount is None:
        place.wrong(words)
    return amount
