"""Checkpoints: in no admission and not in the event loop, and often enough that the log stays short."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.stores.owners import Owner
from llmcap_addon.budget.stores.sqlite import SqliteStore
from llmcap_addon.budget.stores.sqlite_checkpoints import COMMITS, MAX_LOG_PAGES, Checkpoints
from llmcap_addon.budget.stores.sqlite_lane import Lane
from llmcap_addon.budget.stores.sqlite_open import create
from tests.budget.samples import Clock, charges, entry, settlement

DAILY = Cap("daily", 10_000_000, "day")
PAGE_BYTES = 4_096 + 24
"""A page in the log, with its header."""


def log_pages(ledger: Path) -> int:
    return ledger.with_name(f"{ledger.name}-wal").stat().st_size // PAGE_BYTES


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
        for _ in range(COMMITS):
            call = entry()
            await store.reserve(call, charges([DAILY], call), 10)
            await store.settle(call.id, settlement(7))
        await store.heartbeat(Clock()())
        assert log_pages(ledger) > 2 * 1_000  # where SQLite by itself would have made two
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


def test_the_log_stays_short_under_steady_load(tmp_path: Path) -> None:
    """A writer that never pauses while a checkpoint runs does not make the log grow past its bound."""
    ledger = tmp_path / "ledger.sqlite"
    create(ledger, own_folder=False)
    checkpoints = Checkpoints(ledger)
    lane = Lane(ledger, Owner(ledger, "one"), "writer", checkpoints)
    meanwhile, most, written = 50, 0, 0
    while written < 3 * MAX_LOG_PAGES:
        before = log_pages(ledger) if written else 0
        for _ in range((COMMITS + meanwhile) // 2):
            call = entry()
            lane.transact(lambda tables, call=call: tables.reserve(call, charges([DAILY], call), 10))  # type: ignore[misc]
            lane.transact(lambda tables, call=call: tables.settle(call.id, settlement(7)))  # type: ignore[misc]
        idle(checkpoints)
        most = max(most, log_pages(ledger))
        written += max(log_pages(ledger) - before, COMMITS * 3)
    assert most < MAX_LOG_PAGES + 2 * 8 * (COMMITS + meanwhile)
    lane.shut(after=[checkpoints.shut()]).result()
    assert not ledger.with_name(f"{ledger.name}-wal").exists()
