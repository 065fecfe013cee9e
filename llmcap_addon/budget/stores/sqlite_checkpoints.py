"""Checkpoints: moving what was committed from the write-ahead log into the ledger itself, in a thread of their own.

A checkpoint waits for the disk. SQLite would do it inside the commit that fills the log, and that admission would pay;
here it is done beside them. But such a (passive) checkpoint stops nobody, and the log only begins anew when one of them
happens to catch up with all writers, which a busy ledger never grants. So when the log has grown too long in spite of
them, writers wait until its last pages are moved and it is empty.

The first commit into a log that begins anew waits for the disk too: its header is synced and its file is cut. So each
checkpoint is followed by a commit of its thread's own, and until then nobody else's begins the log anew.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from llmcap_addon.budget.stores.sqlite_open import connect

LOOK_COMMITS = 16
"""Transactions between two looks at the log's length, which take as long as a read of the ledger."""
CHECKPOINT_BYTES = 5_000_000
"""What is committed between two checkpoints: about 1,200 pages, little more than SQLite's own 1,000."""
EMPTY_BYTES = 16_000_000
"""How long the log gets before it is emptied: longer than any whose checkpoints catch up. Writers wait only while its
last pages are moved, a few milliseconds in which the disk takes them: one admission in about 800."""
MAX_LOG_BYTES = 32_000_000
"""How long the log may get at all, on a disk that is slower than the writers, before they wait for the whole of it;
still read in a blink after a crash. Each process that writes can add `LOOK_COMMITS` transactions before it sees that.
It gets longer only while it can't be emptied: somebody reads an old state of it (a report), or a disk takes longer than
`_PATIENCE_S`; then by what is committed in that time."""
LOCK_MS = 250
"""How long emptying the log waits for other processes' transactions, and for reads of before, which take milliseconds,
while nobody can write; then it is tried again `CHECKPOINT_BYTES` later."""
_PAUSE_S = 0.002
_PATIENCE_S = 1.0
"""How long transactions wait for the log to be emptied: half the time that an operation has. On a slower disk they go
on for `CHECKPOINT_BYTES`, and wait again."""


class Checkpoints:
    """The checkpoints that one process makes; others make their own, and SQLite lets one at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = f"{path}-wal"
        self._commits = 0
        self._seen_bytes = 0
        """The log's length at the last checkpoint; 0 when it has begun anew since."""
        self._most_bytes = MAX_LOG_BYTES
        self._is_queued = self._is_shut = False
        self._counter = threading.Lock()
        self._way_is_free = threading.Event()
        self._way_is_free.set()
        self._free_by_s = 0.0
        self._opened: tuple[sqlite3.Connection, sqlite3.Connection] | None = None
        """The one that works, and the one that holds the log."""
        self._thread = ThreadPoolExecutor(1, "llmcap-ledger-checkpoint")

    @staticmethod
    def leave_log_to_us(connection: sqlite3.Connection) -> None:
        """Keep a connection that writes from making checkpoints, and let the log's file be as long as the log."""
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # that would be inside a commit
        connection.execute("PRAGMA journal_size_limit = 0")  # a log that begins anew would keep its file's length

    @property
    def is_way_free(self) -> bool:
        """Whether `make_way` would not wait."""
        return self._way_is_free.is_set()

    def make_way(self, until_s: float) -> None:
        """Wait for a log that is too long to be emptied; to be called before each transaction that may write."""
        if self._way_is_free.is_set():
            return
        freed = self._way_is_free.wait(min(until_s, self._free_by_s) - time.monotonic())
        if not freed and time.monotonic() >= self._free_by_s:
            with self._counter:
                self._go_on(self._log_bytes())

    def committed(self) -> None:
        """Count a commit, and queue a checkpoint when there were enough; waits for nothing."""
        self._commits += 1
        if self._commits % LOOK_COMMITS:
            return
        log_bytes = self._log_bytes()
        with self._counter:
            if log_bytes < self._seen_bytes:
                self._seen_bytes, self._most_bytes = 0, MAX_LOG_BYTES
            if log_bytes > self._most_bytes or log_bytes - self._seen_bytes >= CHECKPOINT_BYTES:
                self._queue()
            if log_bytes > self._most_bytes and self._is_queued:
                self._stop()

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
            with suppress(RuntimeError):  # the system gives no thread: what was committed stands, and it is tried again
                self._thread.submit(self._checkpoint)
                self._is_queued, self._commits = True, 0

    def _stop(self) -> None:
        self._free_by_s = time.monotonic() + _PATIENCE_S
        self._way_is_free.clear()

    def _go_on(self, log_bytes: int) -> None:
        self._most_bytes = MAX_LOG_BYTES if log_bytes <= MAX_LOG_BYTES else log_bytes + CHECKPOINT_BYTES
        self._way_is_free.set()

    def _checkpoint(self) -> None:
        try:
            connection, holder = self._opened or self._connect()
            # SQLite begins no log anew while somebody reads in it, in whatever process.
            holder.execute("BEGIN")
            holder.execute("SELECT value FROM meta").fetchone()
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if self._log_bytes() > EMPTY_BYTES:
                holder.execute("COMMIT")
                self._stop()
                self._empty(connection)
            self._begin_anew(connection, holder)
        except sqlite3.Error:
            # The log still holds all; if it can't grow any more, the next admission is refused and says why.
            self._disconnect()
        finally:
            with self._counter:
                self._is_queued = False
                self._seen_bytes = self._log_bytes()
                self._go_on(self._seen_bytes)

    def _empty(self, connection: sqlite3.Connection) -> None:
        """Move the rest, which keeps all processes' writers out; most is moved already."""
        until_s = time.monotonic() + _PATIENCE_S
        while self._log_bytes() > EMPTY_BYTES:
            connection.execute(f"PRAGMA busy_timeout = {LOCK_MS}")
            _, pages, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            connection.execute("PRAGMA busy_timeout = 0")
            if pages >= 0 or time.monotonic() > until_s:
                return
            time.sleep(_PAUSE_S)  # another process makes one; SQLite waits for locks, but not for that

    def _begin_anew(self, connection: sqlite3.Connection, holder: sqlite3.Connection) -> None:
        """Make the first commit into the log, if all of it is moved; else one more, of a page.

        Meanwhile the others find the ledger locked, and wait for that in their threads. If it is locked by one of them,
        that one's commit does the same.
        """
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return
        finally:
            if holder.in_transaction:
                holder.execute("COMMIT")
        # Nobody reads this number, which is in the first page; without a change nothing would be written.
        [number] = connection.execute("PRAGMA user_version").fetchone()
        connection.execute(f"PRAGMA user_version = {number ^ 1}")
        connection.execute("COMMIT")

    def _log_bytes(self) -> int:
        try:
            return os.stat(self._log).st_size  # noqa: PTH116  # half of what Path.stat takes
        except OSError:
            return 0

    def _connect(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        connection, holder = self._opened = connect(self._path), connect(self._path, to_read=True)
        connection.execute("PRAGMA busy_timeout = 0")
        self.leave_log_to_us(connection)
        return connection, holder

    def _disconnect(self) -> None:
        for connection in self._opened or ():
            with suppress(sqlite3.Error):
                connection.close()
        self._opened = None
