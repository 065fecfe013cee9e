"""The ledger's transitions as SQL; each method runs inside one transaction that its caller begins and commits."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import fields
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
from llmcap_addon.budget.stores.sqlite_balances import ROW_LABELS, Balances, Held
from llmcap_addon.budget.stores.text import text
from llmcap_addon.money import Nanousd
from llmcap_addon.usage import Usage

_COUNTS = tuple(field.name for field in fields(Usage))


class Tables:
    """The ledger as one owner sees it; see `Store` for what each method means. Methods raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection, owner: Owner) -> None:
        self.balances = Balances(connection)
        self._sql = connection.execute
        self._owner = owner

    def reserve(self, entry: Entry, charges: Sequence[Charge], amount: Nanousd) -> Reserved | Short:
        """– → pending, if it fits everywhere."""
        before = self._state(entry.id)
        if before not in {None, "pending"}:
            raise ValueError(f"call {entry.id} has ended before: {before}")
        held, others = self._held(entry, charges)
        balances = tuple(one.balance() for one in held)
        if before == "pending":
            return Reserved(balances)
        lacking = tuple(one.balance() for one in held if one.room < amount)
        if lacking:
            return Short(balances, lacking)
        ids = [*(one.id for one in held), *others]
        self.balances.move(ids, pending=amount)
        self._insert(entry, "pending", ids, [one.charge.cap for one in held], reserved=amount)
        return Reserved(tuple(Balance(one.charge, one.posted, one.pending + amount) for one in held))

    def extend(self, entry_id: str, charges: Sequence[Charge], amount: Nanousd, at_least: Nanousd) -> Nanousd:
        """Pending → pending, with more."""
        row = self._sql(
            f"SELECT state, reserved, started_at_ms, {', '.join(ROW_LABELS)} FROM ledger WHERE id = ?",  # noqa: S608
            (entry_id,),
        ).fetchone()
        if row is None or row[0] != "pending":
            return 0
        held, _ = self.balances.held(dict(zip(ROW_LABELS, row[3:], strict=True)), row[2], charges)
        # Read only now: a balance that was just made has put itself into the row.
        ids, caps = map(json.loads, self._sql("SELECT charges, caps FROM ledger WHERE id = ?", (entry_id,)).fetchone())
        for one in held:
            if one.id not in ids:
                self.balances.move([one.id], pending=row[1])
                one.pending += row[1]
                ids.append(one.id)
            if one.charge.cap not in caps:
                caps.append(one.charge.cap)
        room = min((one.room for one in held), default=amount)
        granted = amount if amount <= room else room if room >= at_least else 0
        self.balances.move(ids, pending=granted)
        self._sql(
            "UPDATE ledger SET reserved = reserved + ?, charges = ?, caps = ? WHERE id = ?",
            (granted, json.dumps(ids), json.dumps(caps), entry_id),
        )
        return granted

    def settle(self, entry_id: str, settlement: Settlement) -> bool:
        """Pending → posted, or expired → posted when it cost more."""
        row = self._sql("SELECT state, reserved, cost, marks, charges FROM ledger WHERE id = ?", (entry_id,)).fetchone()
        if row is None or row[0] not in {"pending", "expired"}:
            return False
        state, reserved, posted, words, charges = row
        cost = min(settlement.cost, MAX_AMOUNT)
        marks = {*words.split(), *settlement.marks}
        if state == "expired":
            if cost <= posted:
                return False
            marks -= {"expired", "estimated"} - settlement.marks
        if cost > reserved + posted:  # an expired row has posted what it had reserved
            marks.add("overrun")
        self.balances.move(json.loads(charges), posted=cost - posted, pending=-reserved)
        self._end(entry_id, "posted", settlement, cost, marks)
        return True

    def void(self, entry_id: str, settled_at_ms: int, status: int, note: str) -> bool:
        """Pending → voided."""
        row = self._sql("SELECT state, reserved, marks, charges FROM ledger WHERE id = ?", (entry_id,)).fetchone()
        if row is None or row[0] != "pending":
            return False
        self.balances.move(json.loads(row[3]), pending=-row[1])
        nothing = Settlement(cost=0, usage=Usage(), settled_at_ms=settled_at_ms, status=status, note=note)
        self._end(entry_id, "voided", nothing, 0, row[2].split())
        return True

    def post(self, entry: Entry, charges: Sequence[Charge], settlement: Settlement) -> bool:
        """– → posted; else as `settle`."""
        if self._state(entry.id) is None:
            held, others = self._held(entry, charges)
            # A reservation of nothing, settled at once: so both ways write the same row.
            self._insert(entry, "pending", [*(one.id for one in held), *others], [one.charge.cap for one in held])
        return self.settle(entry.id, settlement)

    def record_refusal(self, entry: Entry, caps: Sequence[str], note: str) -> None:
        """– → refused."""
        if self._state(entry.id) is None:
            self._insert(entry, "refused", [], caps, note=note)

    def expire(self, owner: str, now_ms: int) -> int:
        """Pending → expired for all that an owner holds, and the end of its lease; gives how many reservations."""
        pending = self._sql(
            "SELECT id, reserved, marks, charges FROM ledger WHERE state = 'pending' AND owner = ?", (owner,)
        ).fetchall()
        for entry_id, reserved, words, charges in pending:
            self.balances.move(json.loads(charges), posted=reserved, pending=-reserved)
            ended = Settlement(reserved, Usage(), now_ms, note="its process ended before it was settled")
            self._end(entry_id, "expired", ended, reserved, {*words.split(), "expired", "estimated"})
        self._sql("DELETE FROM process WHERE owner = ?", (owner,))
        return len(pending)

    def heartbeat(self, now_ms: int) -> int:
        """Renew this owner's lease and expire what dead owners hold."""
        mine = self._owner.name
        self._sql("INSERT OR REPLACE INTO process VALUES (?, ?)", (mine, now_ms + LEASE_MS))
        others = self._sql("SELECT owner, lease_until_ms FROM process WHERE owner <> ?", (mine,)).fetchall()
        dead = [owner for owner, until_ms in others if self._owner.is_dead(owner, until_ms <= now_ms)]
        orphans = self._sql(
            "SELECT DISTINCT owner FROM ledger WHERE state = 'pending' AND owner NOT IN (SELECT owner FROM process)"
        ).fetchall()
        return sum(self.expire(owner, now_ms) for owner in [*dead, *(owner for (owner,) in orphans)])

    def rows(self, since_ms: int, limit: int | None) -> tuple[Row, ...]:
        """Rows begun since then, oldest first; with a limit, the newest so many."""
        names = ("state", "settled_at_ms", "reserved", "cost", "usage", "marks", "status", "note", "caps")
        columns = ("id", "started_at_ms", "dialect", "streamed", *ROW_LABELS, *names)
        found = self._sql(
            f"SELECT {', '.join(columns)} FROM ledger WHERE started_at_ms >= ?"  # noqa: S608
            " ORDER BY started_at_ms DESC, seq DESC LIMIT ?",
            (since_ms, -1 if limit is None else limit),
        ).fetchall()
        return tuple(_row(dict(zip(columns, values, strict=True))) for values in reversed(found))

    def _state(self, entry_id: str) -> str | None:
        found = self._sql("SELECT state FROM ledger WHERE id = ?", (entry_id,)).fetchone()
        return found[0] if found else None

    def _held(self, entry: Entry, charges: Sequence[Charge]) -> tuple[list[Held], list[int]]:
        labels = {label: getattr(entry, label) for label in ROW_LABELS}
        return self.balances.held(labels, entry.started_at_ms, charges)

    def _insert(
        self, entry: Entry, state: str, ids: Sequence[int], caps: Sequence[str], *, reserved: int = 0, note: str = ""
    ) -> None:
        self._sql(
            "INSERT INTO ledger (id, owner, state, started_at_ms, host, provider, model, client, run, dialect,"
            " streamed, reserved, cost, usage, marks, status, response_model, note, charges, caps)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '{}', ?, 0, '', ?, ?, ?)",
            (
                entry.id,
                self._owner.name,
                state,
                entry.started_at_ms,
                *(text(getattr(entry, label)) for label in ROW_LABELS),
                text(entry.dialect),
                int(entry.streamed),
                reserved,
                " ".join(sorted(entry.marks)),
                text(note),
                json.dumps(ids),
                json.dumps(caps),
            ),
        )

    def _end(self, entry_id: str, state: str, settlement: Settlement, cost: Nanousd, marks: Iterable[str]) -> None:
        usage = {name: count for name in _COUNTS if (count := getattr(settlement.usage, name))}
        self._sql(
            "UPDATE ledger SET state = ?, settled_at_ms = ?, reserved = 0, cost = ?, usage = ?, marks = ?, status = ?,"
            " response_model = ?, note = ? WHERE id = ?",
            (
                state,
                settlement.settled_at_ms,
                cost,
                json.dumps(usage),
                " ".join(sorted(marks)),
                settlement.status,
                text(settlement.model),
                text(settlement.note),
                entry_id,
            ),
        )


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
