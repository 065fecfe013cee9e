"""The tables `balance` and `amount`: found, made from the ledger's rows, moved. Its caller begins and commits."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from llmcap_addon.budget.ledger import Balance, Charge
from llmcap_addon.budget.stores.sqlite_live import Labels, Live, NotNow, read_match
from llmcap_addon.budget.stores.sqlite_sums import NEVER, Sums
from llmcap_addon.budget.stores.text import text
from llmcap_addon.money import Nanousd

_RUN_PERIOD = "run:"
_AMOUNTS = "SELECT id, posted, pending FROM amount WHERE id IN"
_MOVE = "UPDATE amount SET posted = posted + ?, pending = pending + ? WHERE id IN (SELECT value FROM json_each(?))"


@dataclass(slots=True)
class Held:
    """A charge's balance, as it stands in this transaction."""

    id: int
    charge: Charge
    posted: Nanousd
    pending: Nanousd
    is_new: bool = False
    """Made in this transaction; it has put itself into the rows it counts that can still change."""

    @property
    def room(self) -> Nanousd:
        """What is left of the limit; below 0 when the limit was lowered or a call cost more than was reserved."""
        return self.charge.limit - self.posted - self.pending

    def balance(self) -> Balance:
        """The same as a value."""
        return Balance(self.charge, self.posted, self.pending)


class Balances:
    """All balances. Methods raise sqlite3.Error, and ValueError for a charge that matches on no label of rows."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection.execute
        self.live = Live(connection)

    def held(self, labels: Labels, started_at_ms: int, charges: Sequence[Charge]) -> tuple[list[Held], list[int]]:
        """The charges' balances, made where they are not there yet, and the ids of others that count this call too.

        To be called once in a transaction, before it writes.
        """
        self.live.refresh(labels[-1], started_at_ms)
        ids = [self.live.id_of(charge) for charge in charges]
        amounts = self._amounts([number for number in ids if number is not None])
        sums = Sums(self._sql)
        held: list[Held] = []
        for charge, number in zip(charges, ids, strict=True):
            if number is not None:
                held.append(Held(number, charge, *amounts[number]))
            elif found := self._find(charge):
                held.append(Held(found[0], charge, found[1], found[2]))
            elif self.live.is_hurried:
                raise NotNow
            else:
                held.append(self._create(charge, sums))
        charged = {one.id for one in held}
        return held, [one for one in self.live.counting(labels, started_at_ms) if one not in charged]

    def read(self, charge: Charge) -> Balance:
        """How a balance stands; one that is not there is worked out from the rows, and nothing is written."""
        found = self._find(charge)
        posted, pending = found[1:3] if found else Sums(self._sql).of(charge)[:2]
        return Balance(charge, posted, pending)

    def seen(self, key: str, period: str) -> tuple[Balance, ...]:
        """The balances of all scopes of a cap in a period; their limit is not known here and given as 0."""
        rows = self._sql(
            "SELECT cap, scope, starts_at_ms, resets_at_ms, match, posted, pending FROM balance JOIN amount USING (id)"
            " WHERE key = ? AND period = ? ORDER BY scope",
            (key, period),
        )
        return tuple(
            Balance(
                Charge(cap, key, scope, period, starts, None if resets == NEVER else resets, 0, read_match(match)),
                posted,
                pending,
            )
            for cap, scope, starts, resets, match, posted, pending in rows
        )

    def move(self, ids: str, *, posted: Nanousd = 0, pending: Nanousd = 0) -> None:
        """Add to what these balances (a JSON list of ids) have posted and pending."""
        self._sql(_MOVE, (posted, pending, ids))

    def _amounts(self, ids: list[int]) -> dict[int, tuple[Nanousd, Nanousd]]:
        found = self._sql(f"{_AMOUNTS} ({_marks(len(ids))})", ids)
        return {number: (posted, pending) for number, posted, pending in found}

    def _find(self, charge: Charge) -> tuple[int, Nanousd, Nanousd] | None:
        found: tuple[int, Nanousd, Nanousd] | None = self._sql(
            "SELECT id, posted, pending FROM balance JOIN amount USING (id) WHERE key = ? AND scope = ? AND period = ?",
            (text(charge.key), text(charge.scope), text(charge.period)),
        ).fetchone()
        return found

    def _create(self, charge: Charge, sums: Sums) -> Held:
        """Make a balance from the rows of its period that match it."""
        posted, pending, open_rows = sums.of(charge)
        is_run = charge.period.startswith(_RUN_PERIOD)
        number = self._sql(
            "INSERT INTO balance (cap, key, scope, period, run, starts_at_ms, resets_at_ms, match)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (
                text(charge.cap),
                text(charge.key),
                text(charge.scope),
                text(charge.period),
                text(charge.period.removeprefix(_RUN_PERIOD)) if is_run else "",
                charge.starts_at_ms,
                NEVER if charge.resets_at_ms is None else charge.resets_at_ms,
                json.dumps(charge.match),
            ),
        ).fetchone()[0]
        self._sql("INSERT INTO amount VALUES (?, ?, ?)", (number, posted, pending))
        # Only these rows can still change what they count for.
        self._sql(
            "UPDATE ledger SET charges = json_insert(charges, '$[#]', ?), caps = json_insert(caps, '$[#]', ?)"
            " WHERE seq IN (SELECT value FROM json_each(?))",
            (number, text(charge.cap), open_rows),
        )
        return Held(number, charge, posted, pending, is_new=True)


@lru_cache(maxsize=256)
def _marks(count: int) -> str:
    """Question marks for so many values."""
    return ", ".join("?" * count)
