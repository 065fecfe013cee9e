"""The ledger all simulated processes share: a naive one that sums all rows anew, alone or beside the real SQLite one."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmcap_addon.budget.ledger import LEASE_MS, Balance, Charge, Entry, Reserved, Settlement, Short
from llmcap_addon.budget.matching import matches
from llmcap_addon.budget.stores.owners import Owner
from llmcap_addon.budget.stores.sqlite_open import connect, create
from llmcap_addon.budget.stores.sqlite_tables import Tables
from llmcap_addon.money import Nanousd

_LABELS = ("host", "provider", "model", "client", "billing", "run")
_memory: dict[tuple[object, ...], bool] = {}


@dataclass(eq=False, slots=True)
class Row:
    """One call."""

    entry: Entry
    owner: str
    state: str
    reserved: Nanousd = 0
    cost: Nanousd = 0
    overrun: bool = False
    due_ms: int | None = None
    """When it expires, if it was deferred; then it is nobody's."""
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.labels = tuple(getattr(self.entry, name) for name in _LABELS)

    def is_lost(self, leases: Container[str], now_ms: int) -> bool:
        """Whether nobody will settle it any more."""
        return self.owner not in leases if self.due_ms is None else self.due_ms <= now_ms


def counts(charge: Charge, row: Row) -> bool:
    """Whether a charge counts a row, by time and labels."""
    started_ms = row.entry.started_at_ms
    if started_ms < charge.starts_at_ms or (charge.resets_at_ms is not None and started_ms >= charge.resets_at_ms):
        return False
    key = (charge.match, row.labels)
    found = _memory.get(key)
    if found is None:
        if len(_memory) > 100_000:
            _memory.clear()
        found = _memory[key] = matches(charge.match, dict(zip(_LABELS, row.labels, strict=True)))
    return found


class Disagreement(Exception):
    """The real store and the naive one gave different answers."""


class Naive:
    """The contract of `Store` said plainly: rows, and balances that are sums over all of them."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.leases: dict[str, int] = {}
        self.notes: dict[str, tuple[str, int]] = {}
        self.locked: set[str] = set()
        """Who is seen to be alive, whatever its lease says."""

    def do(self, owner: str, operation: str, *values: Any) -> Any:
        """Do one operation of `Store` for a process."""
        return getattr(self, operation)(owner, *values)

    def balance(self, charge: Charge) -> Balance:
        """Sum up."""
        posted = pending = 0
        for row in self.rows.values():
            if (row.cost or row.reserved) and counts(charge, row):
                posted += row.cost
                pending += row.reserved
        return Balance(charge, posted, pending)

    def reserve(self, owner: str, entry: Entry, charges: Sequence[Charge], amount: Nanousd) -> Reserved | Short:
        """Set aside, or change nothing."""
        if entry.id in self.rows:
            if self.rows[entry.id].state != "pending":
                raise ValueError(f"{entry.id} has ended")
            return Reserved(self.balances(owner, charges))
        before = self.balances(owner, charges)
        lacking = tuple(one for one in before if one.posted + one.pending + amount > one.charge.limit)
        if lacking:
            return Short(before, lacking)
        self.rows[entry.id] = Row(entry, owner, "pending", reserved=amount)
        return Reserved(tuple(Balance(one.charge, one.posted, one.pending + amount) for one in before))

    def extend(
        self, owner: str, entry_id: str, charges: Sequence[Charge], amount: Nanousd, at_least: Nanousd
    ) -> Nanousd:
        """Set more aside."""
        row = self.rows.get(entry_id)
        if row is None or row.state != "pending":
            return 0
        room = min(
            (one.charge.limit - one.posted - one.pending for one in self.balances(owner, charges)), default=amount
        )
        granted = amount if amount <= room else room if room >= at_least else 0
        row.reserved += granted
        return granted

    def settle(self, owner: str, entry_id: str, settlement: Settlement) -> bool:
        """Post."""
        row = self.rows.get(entry_id)
        if row is None or row.state not in ("pending", "expired"):
            return False
        if row.state == "expired" and settlement.cost <= row.cost:
            return False
        row.overrun = settlement.cost > row.reserved + row.cost
        row.state, row.cost, row.reserved = "posted", settlement.cost, 0
        return True

    def post(self, owner: str, entry: Entry, charges: Sequence[Charge], settlement: Settlement) -> bool:
        """Post without a reservation."""
        if entry.id not in self.rows:
            self.rows[entry.id] = Row(entry, owner, "pending")
        return self.settle(owner, entry.id, settlement)

    def void(self, owner: str, entry_id: str, settled_at_ms: int, status: int, note: str) -> bool:
        """Release."""
        row = self.rows.get(entry_id)
        if row is None or row.state != "pending":
            return False
        row.state, row.reserved = "voided", 0
        return True

    def defer(self, owner: str, entry_id: str, until_ms: int) -> bool:
        """Take it from its process."""
        row = self.rows.get(entry_id)
        if row is None or row.state != "pending":
            return False
        row.owner, row.due_ms = "", until_ms
        return True

    def remember(self, owner: str, key: str, value: str, until_ms: int) -> None:
        """Keep a note."""
        self.notes[key] = value, until_ms

    def recall(self, owner: str, key: str, now_ms: int) -> str | None:
        """Read a note."""
        value, until_ms = self.notes.get(key, ("", now_ms))
        return value if until_ms > now_ms else None

    def record_refusal(self, owner: str, entry: Entry, caps: Sequence[str], note: str) -> None:
        """Write a row without money."""
        self.rows.setdefault(entry.id, Row(entry, owner, "refused"))

    def balances(self, owner: str, charges: Sequence[Charge]) -> tuple[Balance, ...]:
        """Sum up each."""
        return tuple(map(self.balance, charges))

    def heartbeat(self, owner: str, now_ms: int) -> int:
        """Renew a lease, expire those that are over, what nobody has a lease for, and what is due."""
        self.leases[owner] = now_ms + LEASE_MS
        for other in [name for name, until_ms in self.leases.items() if self._is_dead(name, owner, until_ms <= now_ms)]:
            del self.leases[other]
        pending = [row for row in self.rows.values() if row.state == "pending"]
        self.notes = {key: note for key, note in self.notes.items() if note[1] > now_ms}
        return _expire([row for row in pending if row.is_lost(self.leases, now_ms)])

    def _is_dead(self, name: str, asking: str, lease_is_over: bool) -> bool:
        return lease_is_over and name != asking and name not in self.locked

    def close(self, owner: str, now_ms: int) -> int:
        """Give up a lease and what it holds."""
        self.leases.pop(owner, None)
        return _expire([row for row in self.rows.values() if row.state == "pending" and row.owner == owner])

    def die(self, owner: str) -> None:
        """Nothing: a dead process leaves its lease behind."""


def _expire(held: list[Row]) -> int:
    for row in held:
        row.state, row.cost, row.reserved = "expired", row.reserved, 0
    return len(held)


class Beside(Naive):
    """The naive ledger and the real SQLite tables, told the same: every answer and every balance must agree."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        path = folder / "ledger.sqlite"
        create(path, own_folder=False)
        self._path = path
        self._connection = connect(path)
        self._connection.execute("PRAGMA synchronous = OFF")
        self._tables: dict[str, tuple[Tables, Owner]] = {}
        self._seen: dict[tuple[str, str, str], Charge] = {}

    def do(self, owner: str, operation: str, *values: Any) -> Any:
        """Do it in both."""
        if owner not in self._tables:
            lock = Owner(self._path, owner)
            lock.lock()
            self.locked.add(owner)
            self._tables[owner] = Tables(self._connection, lock), lock
        expected = self._outcome(lambda: super(Beside, self).do(owner, operation, *values))
        self._connection.execute("BEGIN IMMEDIATE")
        found = self._outcome(lambda: self._real(owner, operation, values))
        self._connection.execute("ROLLBACK" if isinstance(found, Exception) else "COMMIT")
        if repr(found) != repr(expected):
            raise Disagreement(f"{operation}{values}: SQLite gave {found}, the naive ledger {expected}")
        self._compare(owner, values)
        if isinstance(expected, Exception):
            raise expected
        return expected

    def die(self, owner: str) -> None:
        """Its lock is free; nothing else tells that it died."""
        if owner in self._tables:
            self._tables.pop(owner)[1].release()
            self.locked.discard(owner)

    def shut(self) -> None:
        """Let the file go."""
        for owner in list(self._tables):
            self.die(owner)
        self._connection.close()

    def _real(self, owner: str, operation: str, values: tuple[Any, ...]) -> Any:
        tables = self._tables[owner][0]
        if operation in ("remember", "recall"):
            return getattr(tables.notes, operation)(*values)
        if operation == "balances":
            return tuple(map(tables.balances.read, values[0]))
        if operation == "close":
            return tables.expire(owner, values[0])
        return getattr(tables, operation)(*values)

    @staticmethod
    def _outcome(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except ValueError as error:
            return ValueError(type(error).__name__)

    def _compare(self, owner: str, values: tuple[Any, ...]) -> None:
        for value in values:
            if isinstance(value, Sequence) and not isinstance(value, str):
                charges = (one for one in value if isinstance(one, Charge))
                self._seen.update({(one.key, one.scope, one.period): one for one in charges})
        tables = self._tables[owner][0]
        for charge in self._seen.values():
            real, naive = tables.balances.read(charge), self.balance(charge)
            if (real.posted, real.pending) != (naive.posted, naive.pending):
                raise Disagreement(f"{real} is not the sum of the rows: {naive}")
