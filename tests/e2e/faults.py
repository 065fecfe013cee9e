"""What can happen to a ledger while a proxy runs on it, done with the real thing and undone again."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmcap_addon.budget.stores.redis_scripts import SCHEMA
from llmcap_addon.budget.stores.sqlite_open import MIGRATIONS
from tests.budget.redis_server import RedisServer
from tests.e2e.terminal import Watched

PAGE_BYTES = 4096
"""SQLite's page: its header and list of tables are in the first one."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One trouble: what brings it about, and what users must be told of it."""

    name: str
    told: str
    """The cause, in the store's words."""
    advice: str
    """What to do about it."""
    inflict: Callable[[Watched, RedisServer], AbstractContextManager[None]]
    """Brings it about within a `with` block; the server is that of a ledger in Redis."""

    def __str__(self) -> str:
        return self.name


@contextmanager
def _on_file(path: Path) -> Iterator[sqlite3.Connection]:
    """Another process's connection to a ledger's file: ours, for the proxy."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        yield connection
    finally:
        connection.close()


@contextmanager
def _full(proxy: Watched, _: RedisServer) -> Iterator[None]:
    """No file of the proxy may grow past a page: what it writes fails as on a full disk."""
    if sys.platform != "linux":
        pytest.skip("only Linux limits another process's files (prlimit)")
    import resource

    soft, hard = resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (PAGE_BYTES, hard))
    try:
        yield
    finally:
        resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def _immutable(proxy: Watched, _: RedisServer) -> Iterator[None]:
    """Files that nobody may write any more, whoever has them open: no mode of a file does that to root."""
    files = [str(path) for path in (proxy.store_path, proxy.store_path.with_name("ledger.sqlite-wal"))]
    chattr = shutil.which("chattr")
    if chattr is None:
        pytest.skip("there is no chattr to make a file immutable")
    try:
        if subprocess.run([chattr, "+i", *files], capture_output=True, check=False).returncode:
            pytest.skip("this user or file system can't make a file immutable (chattr +i)")
        yield
    finally:
        subprocess.run([chattr, "-i", *files], capture_output=True, check=False)


@contextmanager
def _damaged(proxy: Watched, _: RedisServer) -> Iterator[None]:
    """All pages but the first are overwritten."""
    with _on_file(proxy.store_path) as other, proxy.store_path.open("r+b") as file:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        file.seek(PAGE_BYTES)
        good = file.read()
        file.seek(PAGE_BYTES)
        file.write(b"\xa5" * len(good))
        file.flush()
        other.execute("PRAGMA user_version = 1")  # a change of the first page: what others have read is read anew
        try:
            yield
        finally:
            file.seek(PAGE_BYTES)
            file.write(good)
            file.flush()
            other.execute("PRAGMA user_version = 0")


@contextmanager
def _locked(proxy: Watched, _: RedisServer) -> Iterator[None]:
    """Another process holds the file for itself."""
    with _on_file(proxy.store_path) as other:
        other.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


@contextmanager
def _upgraded(proxy: Watched, _: RedisServer) -> Iterator[None]:
    """A newer LLMCap on this machine has brought the ledger to its schema."""
    write_schema(proxy.store_path, "99")
    try:
        yield
    finally:
        write_schema(proxy.store_path, str(len(MIGRATIONS)))


@contextmanager
def _moved(proxy: Watched, _: RedisServer) -> Iterator[None]:
    """The file is somewhere else."""
    aside = proxy.store_path.with_name("aside.sqlite")
    proxy.store_path.rename(aside)
    try:
        yield
    finally:
        aside.rename(proxy.store_path)


@contextmanager
def _killed(_: Watched, server: RedisServer) -> Iterator[None]:
    """Redis crashes, and comes back with its append-only file."""
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def _paused(_: Watched, server: RedisServer) -> Iterator[None]:
    """Redis takes what is sent and does not answer."""
    with server.paused():
        yield


@contextmanager
def _without_memory(_: Watched, server: RedisServer) -> Iterator[None]:
    """Redis has more than it may have, and throws nothing away (noeviction)."""
    with server.client() as client:
        client.config_set("maxmemory", 100_000)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)


@contextmanager
def _evicting(_: Watched, server: RedisServer) -> Iterator[None]:
    """Redis has been told to throw keys away when it is full."""
    with server.client() as client:
        client.config_set("maxmemory", 50_000_000)
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            yield
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 0)


@contextmanager
def _migrated(_: Watched, server: RedisServer) -> Iterator[None]:
    """A newer LLMCap on another machine has brought the ledger to its schema."""
    with server.client() as client:
        client.hset("{test}:meta", "schema", "99")
        try:
            yield
        finally:
            client.hset("{test}:meta", "schema", SCHEMA)


MOVED = Fault("moved", "it was moved or replaced while in use", "start LLMCap again", _moved)
KILLED = Fault("killed", "it can't be reached", "see that Redis runs there", _killed)

OF_SQLITE = (
    Fault("full", "the disk failed or is full", "see to the disk, the ledger goes on by itself", _full),
    Fault("immutable", "the disk failed or is full", "see to the disk", _immutable),
    Fault("damaged", "it is damaged", "or restore it", _damaged),
    Fault("locked", "another process has locked it for more than 2 s", "end that process", _locked),
    Fault("migrated", "it was written by a newer LLMCap (schema 99", "upgrade LLMCap", _upgraded),
    MOVED,
)
OF_REDIS = (
    KILLED,
    Fault("paused", "no answer within 2 s", "see that Redis runs and is not overloaded", _paused),
    Fault("without-memory", "its memory is full (maxmemory)", "give it more", _without_memory),
    Fault("migrated", "it was written by a newer LLMCap (schema 99", "upgrade LLMCap", _migrated),
    Fault("evicting", "it evicts keys when it is full", "CONFIG SET maxmemory-policy noeviction", _evicting),
)


def write_schema(path: Path, version: str) -> None:
    """Say in a ledger's file which schema it has."""
    with _on_file(path) as other:
        other.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (version,))


def delete(path: Path) -> None:
    """Take a ledger's file away, for good."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
