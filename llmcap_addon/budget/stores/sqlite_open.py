"""The SQLite file: made for its owner only, brought to this version's schema, its failures put in words."""

from __future__ import annotations

import sqlite3
import time
from functools import lru_cache
from importlib import resources
from json import loads
from pathlib import Path

from llmcap_addon.budget.matching import any_matches
from llmcap_addon.budget.stores.text import GOES_ON
from llmcap_addon.errors import StoreError
from llmcap_addon.keep import keep_file, keep_folder

MIGRATIONS = ("schema_1.sql", "schema_2.sql", "schema_3.sql", "schema_4.sql")
"""The scripts that make each schema version from the one before; version 0 is an empty file."""
_NEWEST = str(len(MIGRATIONS))
BUSY_S = 2.0
"""How long an operation may wait, for its turn and for another process's transaction, which takes under a millisecond;
then the store has failed."""
_OLDEST = (3, 37)
"""SQLite's first version with STRICT tables; Python 3.12 is rarely built with an older one."""
_POLL_S = 0.01

_ELSEWHERE = "or set store: to another path"
_ADVICE = {
    sqlite3.SQLITE_FULL: f"the disk is full; free some space, {GOES_ON}",
    sqlite3.SQLITE_BUSY: f"another process has locked it for more than {BUSY_S:g} s; end that process",
    sqlite3.SQLITE_LOCKED: f"another process has locked it for more than {BUSY_S:g} s; end that process",
    sqlite3.SQLITE_READONLY: f"it is read-only; give yourself the right to write it and its folder, {_ELSEWHERE}",
    sqlite3.SQLITE_PERM: f"it is not yours to open; change its owner, {_ELSEWHERE}",
    sqlite3.SQLITE_CANTOPEN: f"it can't be opened; see that its folder exists and is yours, {_ELSEWHERE}",
    sqlite3.SQLITE_IOERR: f"the disk failed or is full; see to the disk, {GOES_ON}",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away (with its -wal and -shm) to begin a new one, or restore it",
    sqlite3.SQLITE_NOTADB: f"it is not a SQLite file; move it away to begin a new ledger, {_ELSEWHERE}",
}


def explain(error: Exception, path: Path) -> StoreError:
    """Say of a failure which file it concerns, what the cause is and what to do."""
    code = getattr(error, "sqlite_errorcode", None)
    advice = _ADVICE.get(code & 0xFF) if code is not None else None  # the low byte is the primary result code
    cause = str(error) or type(error).__name__
    return StoreError(f"ledger {path}: {advice} ({cause})" if advice else f"ledger {path}: {cause}")


def create(path: Path, own_folder: bool) -> None:
    """Make the file and its folder, readable by their owner only, and bring it to the newest schema.

    `own_folder` is True when the folder holds nothing but ours and may be closed to others. SQLite gives -wal and -shm
    the file's own mode. Raises StoreError.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old, 3.37 is needed; use a newer Python")
    try:
        if own_folder or not path.parent.exists():
            keep_folder(path.parent)
        keep_file(path)
    except OSError as error:
        raise StoreError(
            f"ledger {path}: can't be made here ({error.strerror}); see to the folder, {_ELSEWHERE}"
        ) from error
    try:
        connection = connect(path)
        try:
            _use_wal(connection)
            connection.execute("BEGIN IMMEDIATE")
            _migrate(connection, path)
            connection.execute("COMMIT")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise explain(error, path) from error


def connect(path: Path, *, to_read: bool = False, wait_s: float = BUSY_S) -> sqlite3.Connection:
    """Open an existing file; nothing is begun or committed but by hand. Raises sqlite3.Error.

    synchronous=NORMAL: a commit survives `kill -9` of any process at once, and a power loss only after the next
    checkpoint, which follows each heartbeat (the last seconds of spending may then be forgotten; the file is never
    damaged by it).
    """
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=max(0, wait_s),
        autocommit=True,
        check_same_thread=False,
    )
    connection.execute("PRAGMA synchronous = NORMAL")
    if to_read:
        connection.execute("PRAGMA query_only = ON")
    connection.create_function("any_matches", 2, _any_matches, deterministic=True)
    return connection


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a ledger that a newer LLMCap has brought to its schema, also in mid-flight. Raises StoreError.

    To be asked in every transaction: it takes 3 µs, as long as to ask SQLite whether anything has changed at all.
    """
    found = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    if found is None or found[0] != _NEWEST:
        raise _not_ours(found[0] if found else "", path)


def _any_matches(globs: str, value: str) -> bool:
    return any_matches(_globs(globs), value)


@lru_cache(maxsize=256)
def _globs(text: str) -> tuple[str, ...]:
    return tuple(loads(text))


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn on the write-ahead log. SQLite does not wait by itself for others that do the same at this moment."""
    give_up_at_s = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at_s:
                raise
            time.sleep(_POLL_S)


def _not_ours(version: str, path: Path) -> StoreError:
    if not version.isdecimal():
        return StoreError(f"ledger {path}: it is a SQLite file of another program; set store: to another path")
    return StoreError(
        f"ledger {path}: it was written by a newer LLMCap (schema {version}, this one knows {_NEWEST}); "
        f"upgrade LLMCap, {_ELSEWHERE}"
    )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    version = 0
    if "meta" in tables:
        found = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
        version = int(found[0]) if found and str(found[0]).isdecimal() else -1
    if (tables and "meta" not in tables) or version < 0:
        raise _not_ours("", path)
    if version > len(MIGRATIONS):
        raise _not_ours(str(version), path)
    if version == len(MIGRATIONS):
        return
    connection.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
    for name in MIGRATIONS[version:]:
        # With autocommit=True executescript stays inside this transaction.
        connection.executescript(resources.files(__package__).joinpath(name).read_text("utf-8"))
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (_NEWEST,))
