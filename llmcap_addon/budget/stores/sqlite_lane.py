"""One thread with one connection: where the ledger is read, or where it is written.

A transaction takes less time than handing it to a thread and back, and nothing in it waits for a disk: pages go into
the system's memory; checkpoints have a thread of their own, and so has the one commit after each that syncs the log's
header. So an event loop may do one itself, where nothing makes it wait for more than a moment: no lock that another
process keeps, no network, no log that has to be emptied, and none that was slow a moment ago; and then only for a part
of its time (`Turns`). Everything else goes through the thread. It overtakes what is queued there; of the same call that
can only be an extension or a deferral, which then finds that the call has ended.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from llmcap_addon.budget.stores.disks import is_own
from llmcap_addon.budget.stores.owners import Owner
from llmcap_addon.budget.stores.sqlite_checkpoints import Checkpoints
from llmcap_addon.budget.stores.sqlite_live import NotNow
from llmcap_addon.budget.stores.sqlite_open import BUSY_S, check_schema, connect, explain
from llmcap_addon.budget.stores.sqlite_tables import Tables
from llmcap_addon.budget.stores.sqlite_turns import HURRY_S, QUICK_S, Turns
from llmcap_addon.errors import StoreError

_CACHE_KIB = 16_384
"""Pages of the file that a lane keeps in memory, against SQLite's 2,000 KiB: the inner pages of a million rows' indexes
and the balances in use."""
_PAUSES_S = (0.000_25, 0.001)
"""Between two tries for the write lock, at first and at last. SQLite's own waiting sleeps up to 0.1 s at a time, in
which the lock goes from one busy process to another and back: one of three was left out for 2 s."""
_HURRIED_PAUSES_S = (0.000_05, 0.000_05)
"""The same in an event loop: another process's transaction is over in a tenth of a millisecond, and going through the
thread takes longer than that."""


class Lane:
    """Transactions one after the other, in a thread of its own; the connection is opened again after a failure.

    A lane without `checkpoints` only reads.
    """

    def __init__(self, path: Path, owner: Owner, name: str, checkpoints: Checkpoints | None = None) -> None:
        """Raise OSError when there is no file."""
        self.is_shut = False
        self._path = path
        self._owner = owner
        self._checkpoints = checkpoints
        self._file = str(path)
        self._place = _place(self._file)
        self._is_own_disk = checkpoints is not None and is_own(path.parent)
        self._turns = Turns()
        self._turn = threading.Lock()
        """Held in a transaction."""
        self._opened: tuple[sqlite3.Connection, Tables] | None = None
        self._failure = ""
        """Why the transaction before failed; empty when it did not."""
        self._thread = ThreadPoolExecutor(1, name)

    def submit[T](self, work: Callable[[Tables], T], *, or_never: bool = False) -> Future[T]:
        """Queue one transaction; its failure is a StoreError in the future.

        A write has `BUSY_S` from now on, its time in the queue included. One that is late for its turn waits for no
        lock any more; with `or_never` it is not even begun.
        """
        if self.is_shut:
            raise StoreError(f"ledger {self._path}: it is closed")
        return self._thread.submit(self.transact, work, time.monotonic() + BUSY_S, or_never)

    def at_once[T](self, work: Callable[[Tables], T]) -> tuple[T] | None:
        """Do one transaction in the caller's thread, an event loop's; None when it has to be queued. Raises as its
        future would."""
        began_s = time.monotonic()
        if not self._is_own_disk or self.is_shut or not self._turns.may_begin(began_s):
            return None
        # While the loop waits, the thread has the interpreter for itself and is soon done. If the loop went on instead,
        # the thread would be so slow that ever more came behind it.
        if not self._turn.acquire(timeout=HURRY_S):
            self._turns.ended(began_s, time.monotonic(), is_quick=False)
            return None
        try:
            if self._opened is None or self._checkpoints is None or not self._checkpoints.is_way_free:
                return None
            return self._hurry(self._opened[0], self._opened[1], work, began_s)
        finally:
            self._turn.release()

    def shut(self, after: Iterable[Future[None]] = ()) -> Future[None]:
        """Close the connection and end the thread, after all that is queued and after others are closed."""
        self.is_shut = True
        closed = self._thread.submit(self._disconnect, tuple(after))
        self._thread.shutdown(wait=False)
        return closed

    def transact[T](self, work: Callable[[Tables], T], until_s: float | None = None, or_never: bool = False) -> T:
        """Do one transaction in this thread; only one thread may. `until_s` is by `time.monotonic`."""
        until_s = time.monotonic() + BUSY_S if until_s is None else until_s
        with self._turn:
            try:
                if or_never and time.monotonic() >= until_s:
                    raise StoreError(self._failure or f"ledger {self._path}: {_LATE}")
                if self._checkpoints is not None:
                    self._checkpoints.make_way(until_s)
                connection, tables = self._opened or self._connect(until_s)
                self._begin_by(connection, until_s)
                return self._commit(connection, tables, work)
            except BaseException as error:
                if (told := self._fail(error)) is error:
                    raise
                raise told from error

    def _hurry[T](
        self, connection: sqlite3.Connection, tables: Tables, work: Callable[[Tables], T], began_s: float
    ) -> tuple[T] | None:
        is_quick, held_s = True, time.monotonic()
        tables.balances.live.is_hurried = True
        try:
            self._begin_by(connection, held_s + HURRY_S, _HURRIED_PAUSES_S)
            if time.monotonic() - held_s <= 2 * HURRY_S:
                return (self._commit(connection, tables, work),)
            is_quick = False
            self._roll_back()
        except NotNow:
            self._roll_back()
        except BaseException as error:
            is_quick = False  # nor when another process keeps the lock: each try would hold the loop up
            if not connection.in_transaction and _is_busy(error):
                return None
            if (told := self._fail(error)) is error:
                raise
            raise told from error
        finally:
            tables.balances.live.is_hurried = False
            now_s = time.monotonic()
            self._turns.ended(began_s, now_s, is_quick=is_quick and now_s - held_s < QUICK_S)
        return None

    def _commit[T](self, connection: sqlite3.Connection, tables: Tables, work: Callable[[Tables], T]) -> T:
        """Do the rest of a transaction that has begun."""
        # SQLite would go on writing to a deleted file, and the next start would know nothing of it.
        if self._checkpoints is not None and _place(self._file) != self._place:
            raise StoreError(f"ledger {self._path}: it was moved or replaced while in use; start LLMCap again")
        check_schema(connection, self._path)
        result = work(tables)
        connection.execute("COMMIT")
        self._failure = ""
        if self._checkpoints is not None:
            self._checkpoints.committed()
        return result

    def _fail(self, error: BaseException) -> BaseException:
        """Undo a transaction, and put its failure in words."""
        self._roll_back()
        told = error
        if isinstance(error, (sqlite3.Error, OSError, OverflowError, UnicodeError)):
            told = explain(error, self._path)
        self._failure = str(told) if isinstance(told, StoreError) else ""
        return told

    def _begin_by(
        self, connection: sqlite3.Connection, until_s: float, pauses_s: tuple[float, float] = _PAUSES_S
    ) -> None:
        if self._checkpoints is None:
            connection.execute("BEGIN")
            return
        pause_s, longest_s = pauses_s
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() + pause_s > until_s:
                    raise
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)

    def _connect(self, until_s: float) -> tuple[sqlite3.Connection, Tables]:
        reads = self._checkpoints is None
        connection = connect(self._path, to_read=reads, wait_s=BUSY_S if reads else until_s - time.monotonic())
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if self._checkpoints is not None:
            self._checkpoints.leave_log_to_us(connection)
            connection.execute("PRAGMA busy_timeout = 0")
        self._opened = connection, Tables(connection, self._owner)
        return self._opened

    def _roll_back(self) -> None:
        if self._opened is None or not self._opened[0].in_transaction:
            return
        try:
            self._opened[0].execute("ROLLBACK")
        except sqlite3.Error:
            self._disconnect(())

    def _disconnect(self, after: tuple[Future[None], ...]) -> None:
        wait(after)
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None


_LATE = f"its turn did not come within {BUSY_S:g} s; its disk is slow or another process keeps it busy"


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _place(file: str) -> tuple[int, int] | None:
    try:
        status = os.stat(file)  # noqa: PTH116  # in every operation: half of what Path.stat takes
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
