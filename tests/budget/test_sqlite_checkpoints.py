"""Checkpoints: in no admission and not in the event loop, and often enough that the log stays short."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.stores.owners import Owner
from llmcap_addon.budget.stores.sqlite import SqliteStore
from llmcap_addon.budget.stores.sqlite_checkpoints import (
    CHECKPOINT_BYTES,
    EMPTY_BYTES,
    LOOK_COMMITS,
    MAX_LOG_BYTES,
    Checkpoints,
)
from llmcap_addon.budget.stores.sqlite_lane import Lane
from llmcap_addon.budget.stores.sqlite_open import connect, create
from tests.budget.samples import Clock, charges, entry, settlement

DAILY = Cap("daily", 10_000_000, "day")
COMMIT_BYTES = 60_000
"""More than one transaction here writes into the log."""
PATIENCE = "llmcap_addon.budget.stores.sqlite_checkpoints._PATIENCE_S"


def log_bytes(ledger: Path) -> int:
    log = ledger.with_name(f"{ledger.name}-wal")
    return log.stat().st_size if log.exists() else 0


def idle(checkpoints: Checkpoints) -> None:
    """Wait for what is queued."""
    checkpoints._thread.submit(lambda: None).result()


@contextmanager
def busy(checkpoints: Checkpoints) -> Iterator[None]:
    """Keep the thread for checkpoints from making any."""
    go_on = threading.Event()
    checkpoints._thread.submit(go_on.wait)
    try:
        yield
    finally:
        go_on.set()


async def test_only_their_own_thread_makes_them(tmp_path: Path) -> None:
    """While that thread is kept busy, however much is committed, the ledger itself is not written, and no one waits."""
    ledger = tmp_path / "ledger.sqlite"
    store = SqliteStore(ledger, "one", Clock(), own_folder=False)
    before = ledger.read_bytes()
    with busy(store._checkpoints):
        for _ in range(300):
            call = entry()
            await store.reserve(call, charges([DAILY], call), 10)
            await store.settle(call.id, settlement(7))
        await store.heartbeat(Clock()())
        assert log_bytes(ledger) > CHECKPOINT_BYTES
        assert ledger.read_bytes() == before
    idle(store._checkpoints)
    assert ledger.read_bytes() != before
    await store.close()


async def test_a_heartbeat_leaves_nothing_to_a_power_loss(tmp_path: Path) -> None:
    """What was committed before a heartbeat is in the ledger itself soon after; an idle proxy's disk may sleep."""
    ledger = tmp_path / "ledger.sqlite"
    store = SqliteStore(ledger, "one", Clock(), own_folder=False)
    call = entry()
    await store.reserve(call, [], 10)
    await store.heartbeat(Clock()())
    idle(store._checkpoints)
    kept = ledger.read_bytes()
    assert call.id.encode() in kept
    await store.heartbeat(Clock()() + 1)
    idle(store._checkpoints)
    assert ledger.read_bytes() == kept
    await store.close()


def header(ledger: Path) -> bytes:
    """The log's, with a number and salt that are others when it begins anew: written, and synced, by who does that."""
    return ledger.with_name(f"{ledger.name}-wal").read_bytes()[:32]


async def test_their_own_thread_also_begins_the_log_anew(tmp_path: Path) -> None:
    """The commit that syncs the log's header and cuts its file is that thread's, and the next ones only add to it."""
    ledger = tmp_path / "ledger.sqlite"
    store = SqliteStore(ledger, "one", Clock(), own_folder=False)
    for _ in range(3):
        before, long = header(ledger), log_bytes(ledger)
        for _ in range(20):
            await store.reserve(entry(), [], 10)
        assert header(ledger) == before
        assert log_bytes(ledger) > long
        await store.heartbeat(Clock()())
        idle(store._checkpoints)
        assert header(ledger) != before
        assert log_bytes(ledger) < COMMIT_BYTES
    await store.close()


async def test_nobody_begins_it_anew_before_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that commits right after a checkpoint adds to the log; nothing is lost, and next time it works."""
    ledger = tmp_path / "ledger.sqlite"
    store = SqliteStore(ledger, "one", Clock(), own_folder=False)
    begin_anew = Checkpoints._begin_anew
    seen: list[bool] = []

    with writing(ledger, "two") as (other, _):

        def meanwhile(*arguments: Any) -> None:
            before = header(ledger)
            other.transact(lambda tables: tables.reserve(entry(), [], 10))
            seen.append(header(ledger) == before)
            begin_anew(*arguments)

        monkeypatch.setattr(Checkpoints, "_begin_anew", meanwhile)
        first = header(ledger)
        await store.reserve(entry(), [], 10)
        await store.heartbeat(Clock()())
        idle(store._checkpoints)
        assert seen == [True]
        assert header(ledger) == first
        monkeypatch.undo()
        await store.reserve(entry(), [], 10)
        await store.heartbeat(Clock()())
        idle(store._checkpoints)
        assert header(ledger) != first
    await store.close()


@contextmanager
def writing(ledger: Path, name: str = "one") -> Iterator[tuple[Lane, Checkpoints]]:
    """One process's way to write."""
    create(ledger, own_folder=False)
    checkpoints = Checkpoints(ledger)
    lane = Lane(ledger, Owner(ledger, name), name, checkpoints)
    try:
        yield lane, checkpoints
    finally:
        lane.shut(after=[checkpoints.shut()]).result()


def write(lane: Lane, ledger: Path, total_bytes: int) -> int:
    """Write until so much was added to the log, however often it begins anew; gives how long it was at most."""
    most = added = 0
    before = log_bytes(ledger)
    while added < total_bytes:
        call = entry()
        lane.transact(lambda tables: tables.reserve(call, charges([DAILY], call), 10))  # noqa: B023
        lane.transact(lambda tables: tables.settle(call.id, settlement(7)))  # noqa: B023
        now = log_bytes(ledger)
        added += max(0, now - before)
        most, before = max(most, now), now
    return most


def test_the_log_stays_short_under_steady_load(tmp_path: Path) -> None:
    """Writers that never pause, in several processes, do not make the log grow past its bound."""
    ledger = tmp_path / "ledger.sqlite"
    with writing(ledger) as (one, _), writing(ledger, "two") as (two, _), ThreadPoolExecutor(2) as pool:
        longest = [pool.submit(write, lane, ledger, 2 * MAX_LOG_BYTES) for lane in (one, two)]
        assert max(most.result() for most in longest) < MAX_LOG_BYTES + 2 * LOOK_COMMITS * COMMIT_BYTES
    assert not ledger.with_name(f"{ledger.name}-wal").exists()


def test_while_somebody_reads_an_old_state_the_log_grows_and_then_no_more(tmp_path: Path) -> None:
    """A report delays admissions by no more than a moment now and then; after it the log is emptied."""
    ledger = tmp_path / "ledger.sqlite"
    with writing(ledger) as (lane, checkpoints):
        write(lane, ledger, 100_000)
        reader = connect(ledger, to_read=True)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM ledger").fetchone()
        assert write(lane, ledger, EMPTY_BYTES + CHECKPOINT_BYTES) > EMPTY_BYTES
        reader.execute("COMMIT")
        reader.close()
        write(lane, ledger, 2 * CHECKPOINT_BYTES)
        idle(checkpoints)
        assert log_bytes(ledger) < EMPTY_BYTES


def test_a_disk_that_takes_for_ever_stops_nobody_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a checkpoint does not end, writers wait for it once in `CHECKPOINT_BYTES`, for a bounded time, and go on."""
    monkeypatch.setattr(PATIENCE, 0.05)
    ledger = tmp_path / "ledger.sqlite"
    with writing(ledger) as (lane, checkpoints):
        with busy(checkpoints):
            began_s = time.monotonic()
            assert write(lane, ledger, 2 * MAX_LOG_BYTES) >= 2 * MAX_LOG_BYTES
            assert time.monotonic() - began_s < 20
        idle(checkpoints)
        write(lane, ledger, 2 * CHECKPOINT_BYTES)
        idle(checkpoints)
        assert log_bytes(ledger) < EMPTY_BYTES
