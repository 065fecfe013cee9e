"""The key `caps:` of caps.yaml, and amounts of dollars as people write them."""

from __future__ import annotations

import re
from decimal import Decimal

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.matching import BILLING, LABELS, Match
from llmcap_addon.budget.windows import PERIODS, Per
from llmcap_addon.config_yaml import LATER, Place
from llmcap_addon.money import Nanousd, nanousd

MAX_LIMIT_USD = 9_000_000
"""The largest limit: what every store counts exactly (2⁵³ nano-dollars)."""
MAX_CAPS = 1_000
"""Each call is held against every cap."""
MAX_NAME_CHARS = 64

AMOUNT_WORDS = "written out, like 5 or 0.25 (no exponent, at most 9 decimals)"
LIMIT_WORDS = f"dollars from 0 to {MAX_LIMIT_USD:,}, {AMOUNT_WORDS}"
CAPS_WORDS = "a list of caps, like [{name: daily, limit: 5, per: day}], or [] to only count"

_KEYS = ("name", "limit", "per", "match", "each")
_LATER_LABELS = ("tag", "key", "user")
_NAME_WORDS = f"a name of 1 to {MAX_NAME_CHARS} printable characters"
_AMOUNT = re.compile(r"\d(?:_?\d)*(?:\.\d{1,9})?|\.\d{1,9}", re.ASCII)
_MAX_AMOUNT_CHARS = 30


def read_caps(place: Place) -> tuple[Cap, ...]:
    """The list of caps; names are unique."""
    caps: dict[str, Cap] = {}
    items = place.items(CAPS_WORDS) or []
    if len(items) > MAX_CAPS:
        place.wrong(f"at most {MAX_CAPS:,} caps", found=f"{len(items):,}")
        return ()
    for item in items:
        cap = _cap(item)
        if cap is not None and caps.setdefault(cap.name, cap) is not cap:
            item.wrong("a name that no other cap has", found=f'the name "{cap.name}" again', key="name")
    return tuple(caps.values())


def _cap(place: Place) -> Cap | None:
    fields = place.fields(_KEYS, later=("at",))
    if not place.is_mapping:
        return None
    required = {"name": _NAME_WORDS, "limit": LIMIT_WORDS, "per": ", ".join(PERIODS)}
    for key, words in required.items():
        if key not in fields:
            place.missing(key, words)
    name = read_name(fields["name"]) if "name" in fields else None
    limit = _limit(fields["limit"]) if "limit" in fields else None
    per = _per(fields["per"]) if "per" in fields else None
    match = _match(fields["match"]) if "match" in fields else ()
    each = _each(fields["each"]) if "each" in fields else ()
    if name is None or limit is None or per is None:
        return None
    return Cap(name, limit, per, match, each)


def read_name(place: Place) -> str | None:
    """A word for people: it stands in messages, so it must be printable and short."""
    name = place.text(_NAME_WORDS)
    if name is None or (name.isprintable() and name == name.strip() and 0 < len(name) <= MAX_NAME_CHARS):
        return name
    place.wrong(_NAME_WORDS)
    return None


def _limit(place: Place) -> Nanousd | None:
    text = place.text(LIMIT_WORDS)
    amount = None if text is None else dollars(text, MAX_LIMIT_USD)
    if text is not None and amount is None:
        place.wrong(LIMIT_WORDS)
    return None if amount is None else nanousd(amount)


def _per(place: Place) -> Per | None:
    if place.is_mapping and "rolling" in dict(place.pairs("") or ()):
        place.wrong(", ".join(PERIODS), found=f"a rolling period, {LATER}")
        return None
    return place.choice(PERIODS)


def _match(place: Place) -> Match:
    pairs: list[tuple[str, str]] = []
    words = "a glob like claude-opus-*, or a list of them"
    for label, value in place.fields(LABELS, later=_LATER_LABELS).items():
        globs = value.items(words) if value.is_list else [value]
        if globs == []:
            value.wrong(words, found="an empty list")
        for one in globs or ():
            glob = one.text(words)
            if glob == "":
                one.wrong(words)
            elif glob is not None:
                # Hosts, providers and billing are in lower case; of models and clients every letter counts.
                pairs.append((label, glob.lower() if label in {"host", "provider", BILLING} else glob))
    return tuple(pairs)


def _each(place: Place) -> tuple[str, ...]:
    labels: list[str] = []
    for item in (place.items("") if place.is_list else [place]) or ():
        if item.is_scalar and item.text("") in _LATER_LABELS:
            item.wrong(", ".join(LABELS), found=f"{item.found()}, {LATER}")
        elif (label := item.choice(LABELS)) and label not in labels:
            labels.append(label)
    return tuple(labels)


def dollars(text: str, most: int) -> Decimal | None:
    """Read "5", "0.25", "1_000" or "$5" exactly, from 0 to `most`; None for anything else.

    Exponents are not taken: money is written out, and 1e999999999 would fill the memory.
    """
    digits = text.removeprefix("$")
    if len(digits) > _MAX_AMOUNT_CHARS or not _AMOUNT.fullmatch(digits):
        return None
    amount = Decimal(digits)
    return amount if amount <= most else None
