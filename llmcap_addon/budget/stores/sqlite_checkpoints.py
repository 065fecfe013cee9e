"""Checkpoints: moving what was committed from the write-ahead log into the ledger itself, in a thread of their own.

A checkpoint waits for the disk. SQLite would do it inside the commit that fills the log, and that admission would pay;
here no admission does. A passive checkpoint stops nobody, but the log only begins anew when one of them happens to
catch up with all writers, which a busy ledger never grants. So when the log has grown too long in spite of them, the
last few pages are moved between two transactions, under the write lock.
"""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from llmcap_addon.budget.stores.sqlite_open import connect

COMMITS = 250
"""Transactions between two checkpoints: about 1,200 pages, little more than SQLite's own 1,000."""
MAX_LOG_PAGES = 4_096
"""16 MB of log, and what is committed while one checkpoint waits for a slow disk: longer than any whose checkpoints
catch up, and still read in a blink after a crash. One admission in about 800 then begins a few milliseconds later, when
the disk has taken the last pages."""
LOCK_MS = 20
"""How long to wait for other processes' transactions before those last pages; then the next checkpoint tries."""
_PATIENCE_S = 2.0
"""How long a transaction lets a checkpoint go first: a disk slower than this must not stop admissions for it."""


class Checkpoints:
    """The checkpoints that one process makes; others make their own, and SQLite lets one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._commits = 0
        self._is_queued = self._is_shut = False
        self._counter = threading.Lock()
        self._way_is_free = threading.Event()
        self._way_is_free.set()
        self._connections: tuple[sqlite3.Connection, sqlite3.Connection] | None = None
        self._thread = ThreadPoolExecutor(1, "llmcap-ledger-checkpoint")

    def make_way(self) -> None:
        """Let a checkpoint that needs the write lock go first; to be called before each transaction that may write."""
        self._way_is_free.wait(_PATIENCE_S)

    def committed(self) -> None:
        """Count a commit, and queue a checkpoint when there were enough; waits for nothing."""
        with self._counter:
            self._commits += 1
            if self._commits >= COMMITS:
                self._queue()

    def soon(self) -> None:
        """Queue a checkpoint if anything was committed since the last but the asking commit; waits for nothing."""
        with self._counter:
            if self._commits > 1:
                self._queue()

    def shut(self) -> Future[None]:
        """Close the connection and end the thread, after the checkpoint under way."""
        with self._counter:
            self._is_shut = True
        closed = self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=False)
        return closed

    def _queue(self) -> None:
        if not self._is_queued and not self._is_shut:
            self._is_queued, self._commits = True, 0
            self._thread.submit(self._checkpoint)

    def _checkpoint(self) -> None:
        try:
            mover, locker = self._connections or self._connect()
            if _move(mover) > MAX_LOG_PAGES:
                self._way_is_free.clear()
                locker.execute("BEGIN IMMEDIATE")
                _move(mover)
                locker.execute("ROLLBACK")
        except sqlite3.Error:
            # The log still holds all; if it can't grow any more, the next admission is refused and says why.
            self._disconnect()
        finally:
            self._way_is_free.set()
            with self._counter:
                self._is_queued = False

    def _connect(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        # A checkpoint by the connection that holds the lock is not possible; SQLite's FULL one would wait for readers
        # while it keeps writers out.
        mover, locker = self._connections = connect(self._path), connect(self._path)
        locker.execute(f"PRAGMA busy_timeout = {LOCK_MS}")
        return mover, locker

    def _disconnect(self) -> None:
        for connection in self._connections or ():
            with suppress(sqlite3.Error):
                connection.close()
        self._connections = None


def _move(connection: sqlite3.Connection) -> int:
    """Move what the log holds at this moment; gives how many pages that is, those moved before included."""
    pages: int = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
    return pages
