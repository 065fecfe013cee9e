"""The embedded store: one SQLite file, shared by all processes of this machine.

Writes happen one after the other, each in one IMMEDIATE transaction, in a thread of their own or, where nothing has to
be waited for, in the event loop itself; reads have another thread and connection, so that a report never delays an
admission (readers of a write-ahead log do not block writers); checkpoints a third.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from llmcap_addon.budget.ledger import MAX_AMOUNT, Balance, Charge, Entry, Reserved, Row, Settlement, Short
from llmcap_addon.budget.stores.owners import Owner
from llmcap_addon.budget.stores.sqlite_checkpoints import Checkpoints
from llmcap_addon.budget.stores.sqlite_lane import Lane
from llmcap_addon.budget.stores.sqlite_open import create, explain
from llmcap_addon.budget.stores.sqlite_tables import Tables
from llmcap_addon.budget.stores.text import check_note
from llmcap_addon.errors import StoreError
from llmcap_addon.money import Nanousd

MAX_QUEUED = 2_000
"""Admissions and extensions that may wait for the writing thread: 0.2 s of work. More means that the store is stuck,
and they are refused; settlements always queue, there are never more of them than calls in flight."""


class SqliteStore:
    """A `Store` over the file at `path`; see there for what each method does."""

    def __init__(self, path: Path, owner: str, clock: Callable[[], int], *, own_folder: bool) -> None:
        """Open or make the ledger, and expire what dead processes hold in it. Blocks; raises StoreError."""
        self._path = path
        self._clock = clock
        self._owner = Owner(path, owner)
        self._queued = 0
        self._given_up: set[str] = set()
        """Calls whose caller has left while they were reserved, and whose reservation could not be released yet."""
        self._undoing = 0
        """Reservations that are being given up: until they are gone, admissions queue behind."""
        self._counter = threading.Lock()
        create(path, own_folder)
        try:
            self._owner.lock()
            self._checkpoints = Checkpoints(path)
            self._writer = Lane(path, self._owner, "llmcap-ledger-write", self._checkpoints)
            self._reader = Lane(path, self._owner, "llmcap-ledger-read")
        except OSError as error:
            raise explain(error, path) from error
        try:
            self._writer.submit(lambda tables: tables.heartbeat(clock())).result()
        except BaseException:
            self._shut().result()
            self._owner.release()
            raise

    async def reserve(self, entry: Entry, charges: Sequence[Charge], amount: Nanousd) -> Reserved | Short:
        """Set an amount aside under all charges, or change nothing."""
        if not 0 < amount <= MAX_AMOUNT:
            raise ValueError(f"a reservation of {amount} n$ is not between 1 and {MAX_AMOUNT}")
        try:
            return await self._admit(lambda tables: tables.reserve(entry, charges, amount))
        except asyncio.CancelledError:
            # The work may be under way. Behind it in the same queue, this undoes it; nothing was sent yet.
            with suppress(StoreError):  # closed meanwhile: then it has expired
                self._give_up(entry.id)
            raise

    async def extend(self, entry_id: str, charges: Sequence[Charge], amount: Nanousd, at_least: Nanousd) -> Nanousd:
        """Set more aside for a pending call."""
        if not 0 < at_least <= amount <= MAX_AMOUNT:
            raise ValueError(f"an extension by {amount} n$, at least {at_least}, is not between 1 and {MAX_AMOUNT}")
        return await self._admit(lambda tables: tables.extend(entry_id, charges, amount, at_least))

    async def settle(self, entry_id: str, settlement: Settlement) -> bool:
        """Post what a call cost and release the rest."""
        _check(settlement)
        return await self._write(lambda tables: tables.settle(entry_id, settlement))

    async def post(self, entry: Entry, charges: Sequence[Charge], settlement: Settlement) -> bool:
        """Post a call that was never reserved."""
        _check(settlement)
        return await self._write(lambda tables: tables.post(entry, charges, settlement))

    async def void(self, entry_id: str, settled_at_ms: int, status: int, note: str) -> bool:
        """Release a call that was not billed."""
        return await self._write(lambda tables: tables.void(entry_id, settled_at_ms, status, note))

    async def defer(self, entry_id: str, until_ms: int) -> bool:
        """Keep a call reserved until a time, whatever becomes of this process."""
        return await self._write(lambda tables: tables.defer(entry_id, until_ms))

    async def remember(self, key: str, value: str, until_ms: int) -> None:
        """Keep a note."""
        check_note(key, value)
        await self._write(lambda tables: tables.notes.remember(key, value, until_ms))

    async def recall(self, key: str, now_ms: int) -> str | None:
        """Read a note."""
        return await _wait(self._reader.submit(lambda tables: tables.notes.recall(key, now_ms)))

    async def record_refusal(self, entry: Entry, caps: Sequence[str], note: str) -> None:
        """Write the row of a call that was not forwarded."""
        await self._admit(lambda tables: tables.record_refusal(entry, caps, note))

    async def balances(self, charges: Sequence[Charge]) -> tuple[Balance, ...]:
        """Read how balances stand."""
        return await _wait(self._reader.submit(lambda tables: tuple(map(tables.balances.read, charges))))

    async def seen(self, key: str, period: str) -> tuple[Balance, ...]:
        """Read all scopes of a cap in a period."""
        return await _wait(self._reader.submit(lambda tables: tables.balances.seen(key, period)))

    async def rows(self, since_ms: int = 0, limit: int | None = None) -> tuple[Row, ...]:
        """Read ledger rows, oldest first."""
        return await _wait(self._reader.submit(lambda tables: tables.rows(since_ms, limit)))

    async def heartbeat(self, now_ms: int) -> int:
        """Renew the lease, and expire what dead processes hold and what is due."""
        expired = await _wait(self._writer.submit(lambda tables: tables.heartbeat(now_ms)))
        self._checkpoints.soon()
        for entry_id in tuple(self._given_up):
            self._given_up.discard(entry_id)
            self._give_up(entry_id)
        return expired

    async def close(self) -> None:
        """Expire what is still pending, give up the lease and end both threads; a second time nothing."""
        if self._writer.is_shut:
            return
        expired = self._writer.submit(lambda tables: tables.expire(self._owner.name, self._clock()))
        closed = self._shut()
        try:
            await _wait(expired)
        finally:
            await _wait(closed)
            self._owner.release()

    def _shut(self) -> Future[None]:
        # The last connection to go takes -wal and -shm away, and only one that may write can.
        return self._writer.shut(after=(self._reader.shut(), self._checkpoints.shut()))

    def _give_up(self, entry_id: str) -> None:
        undone = self._writer.submit(
            lambda tables: tables.void(entry_id, self._clock(), 0, "given up before it was sent")
        )
        with self._counter:
            self._undoing += 1

        def on_done(done: Future[bool]) -> None:
            if done.cancelled() or done.exception():
                self._given_up.add(entry_id)
            with self._counter:
                self._undoing -= 1

        undone.add_done_callback(on_done)

    async def _write[T](self, work: Callable[[Tables], T]) -> T:
        done = self._writer.at_once(work)
        return await _wait(self._writer.submit(work)) if done is None else done[0]

    async def _admit[T](self, work: Callable[[Tables], T]) -> T:
        if not self._undoing and (done := self._writer.at_once(work)) is not None:
            return done[0]
        with self._counter:
            if self._queued >= MAX_QUEUED:
                raise StoreError(
                    f"ledger {self._path}: {MAX_QUEUED} calls wait for it; it is stuck or its disk is slow"
                )
            self._queued += 1
        future = self._writer.submit(work, or_never=True)
        future.add_done_callback(lambda _: self._leave_queue())
        return await _wait(future)

    def _leave_queue(self) -> None:
        with self._counter:
            self._queued -= 1


def _check(settlement: Settlement) -> None:
    if settlement.cost < 0:
        raise ValueError(f"a cost of {settlement.cost} n$ is negative")


async def _wait[T](future: Future[T]) -> T:
    """Wait for a thread's work; a caller that is cancelled does not take back what is queued."""
    return await asyncio.shield(asyncio.wrap_future(future))
