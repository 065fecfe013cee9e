"""The ledger's transitions as SQL; each method runs inside one transaction that its caller begins and commits."""
# ruff: noqa: S608 - what is put into the statements are names of columns, ours and constant

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from llmcap_addon.budget.ledger import (
    LEASE_MS,
    MAX_AMOUNT,
    Balance,
    Charge,
    Entry,
    Reserved,
    Row,
    Settlement,
    Short,
)
from llmcap_addon.budget.stores.owners import Owner
from llmcap_addon.budget.stores.sqlite_balances import Balances
from llmcap_addon.budget.stores.sqlite_live import ROW_LABELS, Labels
from llmcap_addon.budget.stores.sqlite_notes import Notes
from llmcap_addon.budget.stores.sqlite_sums import ROWS_A_MS, add_spent, first_seq
from llmcap_addon.budget.stores.text import counts, text
from llmcap_addon.money import Nanousd
from llmcap_addon.usage import Usage

_NOBODY = ""
"""The owner of what was deferred; every other name is longer, and sorts after it."""
_ROW_TO_END = "SELECT state, seq, reserved, cost, marks, charges FROM ledger WHERE id = ?"
_ROW_TO_EXTEND = (
    f"SELECT state, seq, reserved, charges, caps, started_at_ms, {', '.join(ROW_LABELS)} FROM ledger WHERE id = ?"
)
_INSERT = (
    f"INSERT INTO ledger (seq, id, owner, state, started_at_ms, {', '.join(ROW_LABELS)}, dialect,"
    " streamed, reserved, cost, usage, marks, status, response_model, note, charges, caps)"
    " VALUES ((SELECT ifnull(max(seq) + 1, ?1) FROM ledger WHERE seq >= ?1 AND seq < ?2),"
    " ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '{}', ?, 0, '', ?, ?, ?) ON CONFLICT (id) DO NOTHING"
)
_OPEN = "state IN ('pending', 'expired')"
"""What the index of rows that can still change needs to be told, word by word."""
_TO_EXPIRE = f"SELECT seq, reserved, marks, charges FROM ledger WHERE {_OPEN} AND state = 'pending'"
_END = (
    "UPDATE ledger SET state = ?, settled_at_ms = ?, reserved = 0, cost = ?, usage = ?, marks = ?, status = ?,"
    " response_model = ?, note = ? WHERE seq = ?"
)


class Tables:
    """The ledger as one owner sees it; see `Store` for what each method means. Methods raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection, owner: Owner) -> None:
        self.balances = Balances(connection)
        self.notes = Notes(connection)
        self._sql = connection.execute
        self._owner = owner

    def reserve(self, entry: Entry, charges: Sequence[Charge], amount: Nanousd) -> Reserved | Short:
        """– → pending, if it fits everywhere."""
        held, others = self.balances.held(_labels(entry), entry.started_at_ms, charges)
        lacking = tuple(one.balance() for one in held if one.room < amount)
        ids, caps = str([*(one.id for one in held), *others]), tuple(one.charge.cap for one in held)
        if lacking or not self._insert(entry, "pending", ids, caps, reserved=amount):
            balances = tuple(one.balance() for one in held)
            return Reserved(balances) if self._is_pending(entry.id) else Short(balances, lacking)
        self.balances.move(ids, pending=amount)
        return Reserved(tuple(Balance(one.charge, one.posted, one.pending + amount) for one in held))

    def extend(self, entry_id: str, charges: Sequence[Charge], amount: Nanousd, at_least: Nanousd) -> Nanousd:
        """Pending → pending, with more."""
        row = self._sql(_ROW_TO_EXTEND, (entry_id,)).fetchone()
        if row is None or row[0] != "pending":
            return 0
        _, seq, reserved, stored_ids, stored_caps, started_at_ms, *labels = row
        held, _ = self.balances.held(tuple(labels), started_at_ms, charges)
        if any(one.is_new for one in held):
            _, _, _, stored_ids, stored_caps, *_ = self._sql(_ROW_TO_EXTEND, (entry_id,)).fetchone()
        ids, caps = json.loads(stored_ids), json.loads(stored_caps)
        there = set(ids)
        joining = [one for one in held if one.id not in there]
        if joining:
            self.balances.move(str([one.id for one in joining]), pending=reserved)
            for one in joining:
                one.pending += reserved
                ids.append(one.id)
        unnamed = [one.charge.cap for one in held if one.charge.cap not in caps]
        room = min((one.room for one in held), default=amount)
        granted = amount if amount <= room else room if room >= at_least else 0
        if granted:
            self.balances.move(str(ids), pending=granted)
            self._sql("UPDATE ledger SET reserved = reserved + ? WHERE seq = ?", (granted, seq))
        if joining or unnamed:
            values = (str(ids), json.dumps([*caps, *unnamed]), seq)
            self._sql("UPDATE ledger SET charges = ?, caps = ? WHERE seq = ?", values)
        return granted

    def settle(self, entry_id: str, settlement: Settlement) -> bool:
        """Pending → posted, or expired → posted when it cost more."""
        row = self._sql(_ROW_TO_END, (entry_id,)).fetchone()
        if row is None or row[0] not in {"pending", "expired"}:
            return False
        state, seq, reserved, posted, words, ids = row
        cost = min(settlement.cost, MAX_AMOUNT)
        marks = {*words.split(), *settlement.marks} - {"deferred"}
        if state == "expired":
            if cost <= posted:
                return False
            marks -= {"expired", "estimated"} - settlement.marks
        if cost > reserved + posted:  # an expired row has posted what it had reserved
            marks.add("overrun")
        self.balances.move(ids, posted=cost - posted, pending=-reserved)
        self._end(seq, "posted", settlement, cost, marks)
        add_spent(self._sql, seq, cost - posted)
        return True

    def void(self, entry_id: str, settled_at_ms: int, status: int, note: str) -> bool:
        """Pending → voided."""
        row = self._sql(_ROW_TO_END, (entry_id,)).fetchone()
        if row is None or row[0] != "pending":
            return False
        _, seq, reserved, _, words, ids = row
        self.balances.move(ids, pending=-reserved)
        nothing = Settlement(cost=0, usage=Usage(), settled_at_ms=settled_at_ms, status=status, note=note)
        self._end(seq, "voided", nothing, 0, {*words.split()} - {"deferred"})
        return True

    def defer(self, entry_id: str, until_ms: int) -> bool:
        """Pending → deferred: nobody's, until its time."""
        row = self._sql("SELECT state, seq, marks FROM ledger WHERE id = ?", (entry_id,)).fetchone()
        if row is None or row[0] != "pending":
            return False
        _, seq, words = row
        marks = " ".join(sorted({*words.split(), "deferred"}))
        self._sql("UPDATE ledger SET owner = ?, due_ms = ?, marks = ? WHERE seq = ?", (_NOBODY, until_ms, marks, seq))
        return True

    def post(self, entry: Entry, charges: Sequence[Charge], settlement: Settlement) -> bool:
        """– → posted; else as `settle`."""
        if self._sql(_ROW_TO_END, (entry.id,)).fetchone() is None:
            held, others = self.balances.held(_labels(entry), entry.started_at_ms, charges)
            # A reservation of nothing, settled at once: so both ways write the same row.
            ids = str([*(one.id for one in held), *others])
            self._insert(entry, "pending", ids, tuple(one.charge.cap for one in held))
        return self.settle(entry.id, settlement)

    def record_refusal(self, entry: Entry, caps: Sequence[str], note: str) -> None:
        """– → refused."""
        self._insert(entry, "refused", "[]", tuple(caps), note=note)

    def expire(self, owner: str, now_ms: int) -> int:
        """Pending → expired for all that an owner holds, and the end of its lease; gives how many reservations."""
        held = self._sql(f"{_TO_EXPIRE} AND owner = ?", (owner,)).fetchall()
        self._sql("DELETE FROM process WHERE owner = ?", (owner,))
        return self._expire(held, now_ms, "its process ended before it was settled")

    def heartbeat(self, now_ms: int) -> int:
        """Renew this owner's lease, expire what dead owners hold and what is due, and drop old notes."""
        mine = self._owner.name
        self._sql("INSERT OR REPLACE INTO process VALUES (?, ?)", (mine, now_ms + LEASE_MS))
        others = self._sql("SELECT owner, lease_until_ms FROM process WHERE owner <> ?", (mine,)).fetchall()
        dead = [owner for owner, until_ms in others if self._owner.is_dead(owner, until_ms <= now_ms)]
        orphans = self._sql(
            f"SELECT DISTINCT owner FROM ledger WHERE {_OPEN} AND state = 'pending' AND owner > ?"
            " AND owner NOT IN (SELECT owner FROM process)",
            (_NOBODY,),
        ).fetchall()
        expired = sum(self.expire(owner, now_ms) for owner in [*dead, *(owner for (owner,) in orphans)])
        due = self._sql(f"{_TO_EXPIRE} AND due_ms <= ?", (now_ms,)).fetchall()
        self.notes.drop(now_ms)
        return expired + self._expire(due, now_ms, "its bill did not come in time")

    def rows(self, since_ms: int, limit: int | None) -> tuple[Row, ...]:
        """Rows begun since then, oldest first; with a limit, the newest so many."""
        names = ("state", "settled_at_ms", "reserved", "cost", "usage", "marks", "status", "note", "caps")
        columns = ("id", "started_at_ms", "dialect", "streamed", *ROW_LABELS, *names)
        found = self._sql(
            f"SELECT {', '.join(columns)} FROM ledger WHERE seq >= ? ORDER BY seq DESC LIMIT ?",
            (first_seq(since_ms), -1 if limit is None else limit),
        ).fetchall()
        return tuple(_row(dict(zip(columns, values, strict=True))) for values in reversed(found))

    def _expire(self, found: list[tuple[int, Nanousd, str, str]], now_ms: int, note: str) -> int:
        for seq, reserved, words, ids in found:
            self.balances.move(ids, posted=reserved, pending=-reserved)
            ended = Settlement(reserved, Usage(), now_ms, note=note)
            self._end(seq, "expired", ended, reserved, {*words.split(), "expired", "estimated"})
            add_spent(self._sql, seq, reserved)
        return len(found)

    def _is_pending(self, entry_id: str) -> bool:
        """False when there is no such row. Raises ValueError for a call that has ended."""
        found = self._sql("SELECT state FROM ledger WHERE id = ?", (entry_id,)).fetchone()
        if found is not None and found[0] != "pending":
            raise ValueError(f"call {entry_id} has ended before: {found[0]}")
        return found is not None

    def _insert(
        self, entry: Entry, state: str, ids: str, caps: tuple[str, ...], *, reserved: int = 0, note: str = ""
    ) -> bool:
        """Write a row; False, and nothing, when there is one of that id."""
        first = first_seq(entry.started_at_ms)
        return bool(
            self._sql(
                _INSERT,
                (
                    first,
                    first + ROWS_A_MS,
                    entry.id,
                    self._owner.name,
                    state,
                    entry.started_at_ms,
                    *map(text, _labels(entry)),
                    text(entry.dialect),
                    int(entry.streamed),
                    reserved,
                    " ".join(sorted(entry.marks)),
                    text(note),
                    ids,
                    _names(caps),
                ),
            ).rowcount
        )

    def _end(self, seq: int, state: str, settlement: Settlement, cost: Nanousd, marks: Iterable[str]) -> None:
        self._sql(
            _END,
            (
                state,
                settlement.settled_at_ms,
                cost,
                counts(settlement.usage),
                " ".join(sorted(marks)),
                settlement.status,
                text(settlement.model),
                text(settlement.note),
                seq,
            ),
        )


def _labels(entry: Entry) -> Labels:
    return entry.host, entry.provider, entry.model, entry.client, entry.billing, entry.run


@lru_cache(maxsize=256)
def _names(caps: tuple[str, ...]) -> str:
    return json.dumps(caps)


def _row(column: dict[str, Any]) -> Row:
    marks = frozenset(column["marks"].split())
    return Row(
        entry=Entry(
            id=column["id"],
            started_at_ms=column["started_at_ms"],
            host=column["host"],
            provider=column["provider"],
            model=column["model"],
            client=column["client"],
            dialect=column["dialect"],
            streamed=bool(column["streamed"]),
            marks=marks,
            run=column["run"],
            billing=column["billing"],
        ),
        state="posted" if column["state"] == "expired" else column["state"],
        reserved=column["reserved"],
        cost=column["cost"],
        usage=Usage(**json.loads(column["usage"])),
        marks=marks,
        status=column["status"],
        settled_at_ms=column["settled_at_ms"],
        note=column["note"],
        caps=tuple(json.loads(column["caps"])),
    )
