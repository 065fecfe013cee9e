"""A naive ledger in memory: every balance is summed anew from all rows, so there is nothing to keep in step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from llmcap_addon.budget.ledger import Balance, Charge, Entry, Reserved, Settlement, Short
from llmcap_addon.budget.matching import matches
from llmcap_addon.money import Nanousd


@dataclass
class ModelRow:
    entry: Entry
    owner: str
    state: str
    reserved: Nanousd = 0
    cost: Nanousd = 0
    marks: set[str] = field(default_factory=set)
    due_ms: int | None = None


class Model:
    """The contract of `Store`, as plainly as it can be said; not atomic, not durable."""

    def __init__(self) -> None:
        self.rows: dict[str, ModelRow] = {}

    def balance(self, charge: Charge) -> Balance:
        counted = [row for row in self.rows.values() if _counts(charge, row.entry)]
        return Balance(charge, sum(row.cost for row in counted), sum(row.reserved for row in counted))

    def reserve(self, owner: str, entry: Entry, charges: Sequence[Charge], amount: Nanousd) -> Reserved | Short:
        before = tuple(self.balance(charge) for charge in charges)
        lacking = tuple(one for one in before if one.posted + one.pending + amount > one.charge.limit)
        if lacking:
            return Short(before, lacking)
        self.rows[entry.id] = ModelRow(entry, owner, "pending", reserved=amount, marks=set(entry.marks))
        return Reserved(tuple(self.balance(charge) for charge in charges))

    def extend(self, entry_id: str, charges: Sequence[Charge], amount: Nanousd, at_least: Nanousd) -> Nanousd:
        row = self.rows.get(entry_id)
        if row is None or row.state != "pending":
            return 0
        balances = [self.balance(charge) for charge in charges]
        room = min((one.charge.limit - one.posted - one.pending for one in balances), default=amount)
        granted = amount if amount <= room else room if room >= at_least else 0
        row.reserved += granted
        return granted

    def settle(self, entry_id: str, settlement: Settlement) -> bool:
        row = self.rows.get(entry_id)
        if row is None or row.state not in {"pending", "expired"}:
            return False
        if row.state == "expired":
            if settlement.cost <= row.cost:
                return False
            row.marks -= {"expired", "estimated"}
        row.marks |= settlement.marks
        row.marks.discard("deferred")
        if settlement.cost > row.reserved + row.cost:
            row.marks.add("overrun")
        row.state, row.cost, row.reserved = "posted", settlement.cost, 0
        return True

    def post(self, owner: str, entry: Entry, settlement: Settlement) -> bool:
        if entry.id not in self.rows:
            self.rows[entry.id] = ModelRow(entry, owner, "pending", marks=set(entry.marks))
        return self.settle(entry.id, settlement)

    def void(self, entry_id: str) -> bool:
        row = self.rows.get(entry_id)
        if row is None or row.state != "pending":
            return False
        row.state, row.reserved = "voided", 0
        row.marks.discard("deferred")
        return True

    def defer(self, entry_id: str, until_ms: int) -> bool:
        row = self.rows.get(entry_id)
        if row is None or row.state != "pending":
            return False
        row.owner, row.due_ms = "", until_ms
        row.marks.add("deferred")
        return True

    def refuse(self, owner: str, entry: Entry) -> None:
        self.rows.setdefault(entry.id, ModelRow(entry, owner, "refused", marks=set(entry.marks)))

    def expire(self, owner: str) -> int:
        return _expire([row for row in self.rows.values() if row.owner == owner and row.state == "pending"])

    def expire_due(self, now_ms: int) -> int:
        pending = (row for row in self.rows.values() if row.state == "pending")
        return _expire([row for row in pending if row.due_ms is not None and row.due_ms <= now_ms])


def _expire(held: list[ModelRow]) -> int:
    for row in held:
        row.state, row.cost, row.reserved = "expired", row.reserved, 0
        row.marks |= {"expired", "estimated"}
    return len(held)


def _counts(charge: Charge, entry: Entry) -> bool:
    labels = {label: getattr(entry, label) for label in ("host", "provider", "model", "client", "billing", "run")}
    in_time = charge.starts_at_ms <= entry.started_at_ms
    if charge.resets_at_ms is not None:
        in_time = in_time and entry.started_at_ms < charge.resets_at_ms
    return in_time and matches(charge.match, labels)
