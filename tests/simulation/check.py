"""What must hold after every step; the first thing that does not is raised as `Broken`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import Charge, Entry, Reserved
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.gate.pace import MIN_MARGIN_TOKENS
from llmcap_addon.wire.dialect import Refusal
from tests.simulation.ledgers import Naive, Row
from tests.simulation.plan import CallPlan
from tests.simulation.process import Process, Waiting
from tests.simulation.store import TIME_LIMIT_S, SimStore, Watch
from tests.simulation.talk import Broken, Talk

SLACK_S = 8 * TIME_LIMIT_S
"""After its wait is over a call asks the store a few times more, each time at most for the store's own limit."""
FOUL_S = 1.0
"""A stream whose store failed so recently may not have been extended in time."""


@dataclass
class Tally:
    """What happened, over all episodes."""

    counts: Counter[str] = field(default_factory=Counter)
    amounts: Counter[str] = field(default_factory=Counter)
    largest: dict[str, int] = field(default_factory=dict)

    def note(self, what: str, amount: int = 0) -> None:
        """Count it, with how much money it was about."""
        self.counts[what] += 1
        self.amounts[what] += amount
        self.largest[what] = max(self.largest.get(what, 0), amount)

    def add(self, other: Tally) -> None:
        """Take another's counts too."""
        self.counts.update(other.counts)
        self.amounts.update(other.amounts)
        for what, amount in other.largest.items():
            self.largest[what] = max(self.largest.get(what, 0), amount)


class Checker(Watch):
    """Looks over the ledger's shoulder."""

    def __init__(self, ledger: Naive, tally: Tally) -> None:
        self.ledger = ledger
        self.tally = tally
        self.processes: dict[str, Process] = {}
        self.talks: dict[str, Talk] = {}
        self._charges: dict[str, Sequence[Charge]] = {}
        self._changed = False

    # ── each operation of the store ──

    def asked(self, store: SimStore, operation: str, values: tuple[Any, ...]) -> None:
        """The right balances are asked for, and nobody overtakes."""
        if operation != "reserve":
            return
        entry, charges, amount = values
        process = self.processes[store.owner]
        if entry.id in process.waiting:
            process.waiting[entry.id].climbing = True
        _check_charges(process.budget.caps, entry, charges)
        if amount <= 0:
            raise Broken(f"{entry.id} reserves {amount}")
        self._check_order(process, entry, charges)

    def before(self, operation: str, values: tuple[Any, ...]) -> Any:
        """How much a call that is about to be settled has reserved."""
        if operation in ("settle", "post"):
            entry_id = values[0] if operation == "settle" else values[0].id
            row = self.ledger.rows.get(entry_id)
            return (row.reserved + row.cost, row.state) if row is not None else (0, "")
        return None

    def done(self, store: SimStore, operation: str, values: tuple[Any, ...], result: Any, before: Any) -> None:
        """No admission and no extension takes a balance over its limit; no polite call costs more than its own."""
        self._changed = True
        if (operation == "reserve" and isinstance(result, Reserved)) or (operation == "extend" and result):
            self._charges[values[0] if operation == "extend" else values[0].id] = values[1]
            for charge in values[1]:
                balance = self.ledger.balance(charge)
                if balance.posted + balance.pending > charge.limit:
                    raise Broken(f"over after {operation} of {values[0]}: {balance}")
            if operation == "extend" and not values[3] <= result <= values[2]:
                raise Broken(f"extended by {result}, not {values[3]} to {values[2]}")
        elif operation in ("settle", "post") and result:
            entry_id = values[0] if operation == "settle" else values[0].id
            self._check_settled(store, self.ledger.rows[entry_id], *before)
            if operation == "settle" and "estimated" not in values[1].marks:
                self.talks[entry_id].told = True

    def _check_settled(self, store: SimStore, row: Row, reserved: int, state: str) -> None:
        talk = self.talks.get(row.entry.id)
        over = row.cost - reserved
        if talk is None or over <= 0 or not talk.live.backed:
            return
        if talk.plan.rude:
            cause = f"rude provider ({talk.plan.rude})"
        elif talk.reading.unreadable:
            cause = "unreadable, posted from above"
        elif state == "expired" or not self._was_fair(store, talk):
            cause = "the store failed or was slow"
        elif talk.ending == "complete":
            cause = "counted from above, and no usage was reported"
        elif talk.plan.chunk > 2 * MIN_MARGIN_TOKENS:
            cause = f"large chunks, {talk.ending}"
        else:
            cause = f"polite, {talk.ending}"
        self.tally.note(f"overrun: {cause}", over)
        balances = map(self.ledger.balance, self._charges.get(row.entry.id, ()))
        excess = max((one.posted + one.pending - one.charge.limit for one in balances), default=0)
        if excess > 0:
            self.tally.note(f"over the limit: {cause}", min(excess, over))

    def _was_fair(self, store: SimStore, talk: Talk) -> bool:
        begun_s = talk.sent_s or 0.0
        return store.last_foul_s < begun_s - FOUL_S

    def _check_order(self, process: Process, entry: Entry, charges: Sequence[Charge]) -> None:
        own = process.waiting.get(entry.id)
        if own is None or process.clockwork.now_s >= own.deadline_s:
            return
        keys = {(charge.key, charge.scope) for charge in charges}
        for other in process.waiting.values():
            if other is own:
                return
            if other.climbing and other.keys & keys & own.keys:
                raise Broken(f"{entry.id} overtakes {other.entry_id}, which waits for the same cap")

    # ── jobs ──

    def looked(self, process: Process, talk: Talk) -> bool:
        """Somebody is about to be told what became of a job; gives whether its row then has to end."""
        row = self.ledger.rows.get(talk.live.entry.id)
        self.tally.note(f"looked at a job: {self._stage(row, talk)}")
        due_ms = None if row is None else row.due_ms
        return due_ms is not None and due_ms > process.runtime.now_ms() + 60_000  # else its note may be gone before it

    def _stage(self, row: Row | None, talk: Talk) -> str:
        if row is None or row.state != "pending":
            return "no row" if row is None else row.state
        if row.due_ms is not None:
            return "deferred"
        is_known = f"job|{talk.call.host}|{talk.job}" in self.ledger.notes
        return "known, not deferred yet" if is_known else "not known yet"

    def told(self, process: Process, talk: Talk, has_to_end: bool) -> None:
        """Whoever looks at a job that was deferred settles it, unless the store fails."""
        row = self.ledger.rows.get(talk.live.entry.id)
        is_fair = process.store.last_foul_s < process.clockwork.now_s - FOUL_S - SLACK_S
        if has_to_end and is_fair and row is not None and row.state == "pending":
            raise Broken(f"{row.entry.id} is pending, though {process.name} was told its bill")

    # ── each step, each admission, and the end ──

    def after_step(self) -> None:
        """A process with nothing in flight holds nothing."""
        if not self._changed:
            return
        self._changed = False
        for process in self.processes.values():
            if process.alive and not process.in_flight and not process.gate.live and not process.unwritten:
                for row in self.ledger.rows.values():
                    if row.state == "pending" and row.owner == process.store.owner:
                        raise Broken(f"{row.entry.id} is pending, nothing is in flight")

    def admitted(self, process: Process, waiting: Waiting, outcome: LiveCall | Refusal, plan: CallPlan) -> None:
        """Everyone has an answer by the deadline; nothing passes a limit of 0."""
        late_s = process.clockwork.now_s - waiting.deadline_s
        if late_s > SLACK_S:
            raise Broken(f"{waiting.entry_id} got its answer {late_s:.3f} s after its wait was over")
        if isinstance(outcome, Refusal):
            self.tally.note(f"refused: {outcome.kind}")
            if not outcome.message.startswith("LLMCap:"):
                raise Broken(f"a refusal says {outcome.message!r}")
            return
        self.tally.note("admitted" if outcome.backed else "admitted without a ledger")
        if not outcome.backed and process.gate.policy.on_error != "allow" and not process.was_reloaded:
            raise Broken(f"{outcome.entry.id} went out without a reservation")

    def finish(self) -> None:
        """Nothing is in flight any more: the ledger holds what the providers bill."""
        for row in self.ledger.rows.values():
            if row.reserved or row.state == "pending":
                raise Broken(f"{row.entry.id} of {row.owner} is pending at the end")
        for entry_id, talk in self.talks.items():
            found = self.ledger.rows.get(entry_id)
            if found is not None:
                self._check_bill(talk, found)
            elif talk.live.backed or (talk.settled and talk.sent_s is not None):
                raise Broken(f"{entry_id} was forwarded and has no row")
            elif talk.sent_s is not None:
                self.tally.note("lost: went out without a ledger, then the process died", talk.bill())
        for entry_id, row in self.ledger.rows.items():
            if row.cost and entry_id not in self.talks and row.state != "expired":
                raise Broken(f"{entry_id} was never forwarded and costs {row.cost}")

    def _check_bill(self, talk: Talk, row: Row) -> None:
        billed, plan = talk.bill(), talk.plan
        if talk.plan.job:
            self._check_job(talk, row, billed)
            return
        self.tally.note("settled", billed)
        if not talk.settled:
            if row.cost < billed:
                self._check_crashed(talk, row, billed)
            return
        if talk.is_exact:
            if row.cost != billed and not (row.cost > billed and row.state == "expired"):
                raise Broken(f"{row.entry.id} cost {row.cost}, billed are {billed}, and the provider said all")
            return
        if row.cost >= billed:
            self.tally.note("estimated", row.cost - billed)
        elif talk.is_unforeseen:
            self.tally.note("short: a first large chunk, or cut before its speed could be told", billed - row.cost)
        elif plan.rude:
            self.tally.note(f"short: rude provider ({plan.rude})", billed - row.cost)
        else:
            raise Broken(
                f"{row.entry.id} cost {row.cost}, billed are {billed} ({talk.ending}, {plan.seller.model}, reported"
                f" {plan.reports}, {plan.rate:.0f} tokens/s in chunks of {plan.chunk})"
            )

    def _check_job(self, talk: Talk, row: Row, billed: int) -> None:
        """Billed to the nano-dollar where its bill was told, else from above."""
        self.tally.note(f"job {row.state}", billed)
        if row.cost < billed or (talk.told and row.cost != billed):
            raise Broken(f"the job of {row.entry.id} cost {row.cost} ({row.state}), billed are {billed}")

    def _check_crashed(self, talk: Talk, row: Row, billed: int) -> None:
        """What a dead process had reserved covers what it had let through, if its store had kept up."""
        short, plan = billed - row.cost, talk.plan
        if plan.rude:
            self.tally.note("short after a crash: rude provider", short)
        elif not talk.live.backed or not self._was_fair(self.processes[row.owner].store, talk):
            self.tally.note("short after a crash: the store failed or was slow", short)
        elif talk.is_unforeseen:
            self.tally.note("short after a crash: a first large chunk", short)
        else:
            raise Broken(f"{row.entry.id} had {row.cost} reserved when its process died, billed are {billed}")


def _check_charges(caps: Sequence[Cap], entry: Entry, charges: Sequence[Charge]) -> None:
    """The charges are those of the caps that match, worked out anew."""
    labels: Mapping[str, str] = {
        "host": entry.host, "provider": entry.provider, "model": entry.model, "client": entry.client,
    }  # fmt: skip
    expected = []
    for cap in caps:
        globs: dict[str, list[str]] = {}
        for label, glob in cap.match:
            globs.setdefault(label, []).append(glob)
        if all(any(fnmatchcase(labels[label], glob) for glob in any_of) for label, any_of in globs.items()):
            expected.append((cap.name, cap.limit))
    if sorted(expected) != sorted((charge.cap, charge.limit) for charge in charges):
        raise Broken(f"{entry.id} is charged to {charges}, the caps that match are {expected}")
    for charge in charges:
        ends_ms = charge.resets_at_ms
        if entry.started_at_ms < charge.starts_at_ms or (ends_ms is not None and entry.started_at_ms >= ends_ms):
            raise Broken(f"{entry.id} is charged to a period it is not in: {charge}")
