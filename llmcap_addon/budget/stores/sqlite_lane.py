"""One thread with one connection: where the ledger is read, or where it is written."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from llmcap_addon.budget.stores.owners import Owner
from llmcap_addon.budget.stores.sqlite_checkpoints import Checkpoints
from llmcap_addon.budget.stores.sqlite_open import connect, explain
from llmcap_addon.budget.stores.sqlite_tables import Tables
from llmcap_addon.errors import StoreError

_CACHE_KIB = 16_384
"""Pages of the file that a lane keeps in memory, against SQLite's 2,000 KiB: the inner pages of a million rows' indexes
and the balances in use."""


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
        self._begin = "BEGIN" if checkpoints is None else "BEGIN IMMEDIATE"
        self._file = str(path)
        self._place = _place(self._file)
        self._opened: tuple[sqlite3.Connection, Tables] | None = None
        self._thread = ThreadPoolExecutor(1, name)

    def submit[T](self, work: Callable[[Tables], T]) -> Future[T]:
        """Queue one transaction; its failure is a StoreError in the future."""
        if self.is_shut:
            raise StoreError(f"ledger {self._path}: it is closed")
        return self._thread.submit(self.transact, work)

    def shut(self, after: Iterable[Future[None]] = ()) -> Future[None]:
        """Close the connection and end the thread, after all that is queued and after others are closed."""
        self.is_shut = True
        closed = self._thread.submit(self._disconnect, tuple(after))
        self._thread.shutdown(wait=False)
        return closed

    def transact[T](self, work: Callable[[Tables], T]) -> T:
        """Do one transaction in this thread; only one thread may."""
        if self._checkpoints is not None:
            self._checkpoints.make_way()
        try:
            connection, tables = self._opened or self._connect()
            connection.execute(self._begin)
            # SQLite would go on writing to a deleted file, and the next start would know nothing of it.
            if self._checkpoints is not None and _place(self._file) != self._place:
                raise StoreError(f"ledger {self._path}: it was moved or replaced while in use; start LLMCap again")
            result = work(tables)
            connection.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            if isinstance(error, (sqlite3.Error, OSError, OverflowError, UnicodeError)):
                raise explain(error, self._path) from error
            raise
        if self._checkpoints is not None:
            self._checkpoints.committed()
        return result

    def _connect(self) -> tuple[sqlite3.Connection, Tables]:
        connection = connect(self._path, to_read=self._checkpoints is None)
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if self._checkpoints is not None:
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # that would be inside a commit
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


def _place(file: str) -> tuple[int, int] | None:
    try:
        status = os.stat(file)  # noqa: PTH116  # in every operation: half of what Path.stat takes
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
