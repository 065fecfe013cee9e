"""The Lua scripts, and how an operation is written for them: one JSON object each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha1, sha256
from importlib import resources
from typing import Any

from llmcap_addon.budget.ledger import MAX_AMOUNT, Balance, Charge, Entry, Row, Settlement
from llmcap_addon.budget.matching import LABELS, RUN
from llmcap_addon.budget.stores.redis_globs import globs_for_lua
from llmcap_addon.budget.stores.text import counts, text
from llmcap_addon.usage import Usage

SCHEMA = "2"
"""Of the keys and fields that ledger.lua names; a newer LLMCap that changes them raises it there and here."""
OLD_SCHEMA = "1"
"""What migrate.lua brings to `SCHEMA`."""
UNDONE_MS = 3_600_000
"""How long an undone reservation is remembered: longer than a request can be on its way."""

_ALONE = ("open", "migrate")
_ROW_LABELS = (*LABELS, RUN)
_RUN_PERIOD = "run:"


@dataclass(frozen=True, slots=True)
class Script:
    """One operation's text."""

    name: str
    body: str
    sha: str


@lru_cache
def script(name: str) -> Script:
    """Read a script by its name ("reserve"): lua/NAME.lua after what all share, but for those of a start."""
    folder = resources.files(__package__).joinpath("lua")
    body = folder.joinpath(f"{name}.lua").read_text("utf-8")
    if name not in _ALONE:
        body = f"{folder.joinpath('ledger.lua').read_text('utf-8')}\n{body}"
    return Script(name, body, sha1(body.encode(), usedforsecurity=False).hexdigest())  # Redis' own name for it


def write_charges(charges: Sequence[Charge]) -> str:
    """Write charges as a JSON list."""
    return f"[{','.join(map(_write_charge, charges))}]"


@lru_cache(maxsize=1_024)  # the same few for a whole period
def _write_charge(charge: Charge) -> str:
    for label, _ in charge.match:
        if label not in _ROW_LABELS:
            raise ValueError(f"cap {charge.cap} matches on {label!r}, which rows do not have")
    is_run = charge.period.startswith(_RUN_PERIOD)
    return json.dumps(
        {
            "id": _digest(charge.key, charge.scope, charge.period),
            "period_id": period_id(charge.key, charge.period),
            "cap": text(charge.cap),
            "key": text(charge.key),
            "scope": text(charge.scope),
            "period": text(charge.period),
            "run": text(charge.period.removeprefix(_RUN_PERIOD)) if is_run else "",
            "starts": str(charge.starts_at_ms),
            "resets": "inf" if charge.resets_at_ms is None else str(charge.resets_at_ms),
            # Above $9 million a double would not be exact; such a limit holds at $9 million.
            "limit": str(min(charge.limit, MAX_AMOUNT)),
            "match": json.dumps([[text(label), text(glob)] for label, glob in charge.match]),
            "globs": globs_for_lua(charge.match),
        }
    )


def period_id(key: str, period: str) -> str:
    """Name a cap's period in a key of Redis."""
    return _digest(key, period)


def write_entry(entry: Entry) -> str:
    """Write the entry of a new row as a JSON object."""
    values = {label: text(getattr(entry, label)) for label in _ROW_LABELS}
    values |= {"dialect": text(entry.dialect), "streamed": str(int(entry.streamed)), "marks": _words(entry.marks)}
    pairs = [part for pair in values.items() for part in pair]
    return json.dumps({"id": text(entry.id), "started": str(entry.started_at_ms), "fields": pairs})


def write_settlement(settlement: Settlement) -> str:
    """Write how a call ended as a JSON object; a cost above `MAX_AMOUNT` as that."""
    return json.dumps(
        {
            "cost": str(min(settlement.cost, MAX_AMOUNT)),
            "usage": counts(settlement.usage),
            "settled": str(settlement.settled_at_ms),
            "marks": _words(settlement.marks),
            "status": str(settlement.status),
            "model": text(settlement.model),
            "note": text(settlement.note),
        }
    )


def read_balances(charges: Sequence[Charge], found: Sequence[Sequence[bytes]]) -> tuple[Balance, ...]:
    """Read how charges stand, in their order."""
    return tuple(
        Balance(charge, int(posted), int(pending)) for charge, (posted, pending) in zip(charges, found, strict=True)
    )


def read_seen(found: Sequence[Sequence[bytes]]) -> tuple[Balance, ...]:
    """Read whole balances, in the order of their scopes; their limit is not known here and given as 0."""
    balances = [_read_balance(_named(pairs)) for pairs in found if pairs]
    return tuple(sorted(balances, key=lambda balance: balance.charge.scope))


def _read_balance(field: dict[str, str]) -> Balance:
    charge = Charge(
        cap=field["cap"],
        key=field["key"],
        scope=field["scope"],
        period=field["period"],
        starts_at_ms=int(field["starts"]),
        resets_at_ms=None if field["resets"] == "inf" else int(field["resets"]),
        limit=0,
        match=tuple((label, glob) for label, glob in json.loads(field["match"])),
    )
    return Balance(charge, int(field["posted"]), int(field["pending"]))


def read_page(page: bytes) -> Iterator[tuple[str, Row]]:
    """Read rows, each with its member of the sorted set."""
    for member, pairs in json.loads(page):
        yield member, _read_row(member.partition(":")[2], dict(zip(pairs[::2], pairs[1::2], strict=True)))


def _read_row(entry_id: str, field: dict[str, str]) -> Row:
    marks = frozenset(field["marks"].split())
    return Row(
        entry=Entry(
            id=entry_id,
            started_at_ms=int(field["started"]),
            host=field["host"],
            provider=field["provider"],
            model=field["model"],
            client=field["client"],
            dialect=field["dialect"],
            streamed=field["streamed"] == "1",
            marks=marks,
            run=field["run"],
            billing=field.get("billing", "api"),
        ),
        state="posted" if field["state"] == "expired" else field["state"],
        reserved=int(field["reserved"]),
        cost=int(field["cost"]),
        usage=Usage(**json.loads(field["usage"])),
        marks=marks,
        status=int(field["status"]),
        settled_at_ms=int(field["settled"]) if "settled" in field else None,
        note=field["note"],
        caps=tuple(json.loads(field["caps"])),
    )


def _named(pairs: Sequence[bytes]) -> dict[str, str]:
    texts = [part.decode("utf-8", "replace") for part in pairs]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def _words(marks: frozenset[str]) -> str:
    return " ".join(sorted(marks))


def _digest(*parts: str) -> str:
    named: list[Any] = [text(part) for part in parts]
    return sha256(json.dumps(named).encode()).hexdigest()[:24]  # 96 bits: never the same for two
