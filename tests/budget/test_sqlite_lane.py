"""Transactions in the event loop itself: only where nothing makes it wait; all others in the thread, as ever."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import Reserved, Short
from llmcap_addon.budget.stores.disks import is_own, kind_of
from llmcap_addon.budget.stores.sqlite import SqliteStore
from llmcap_addon.budget.stores.sqlite_turns import FIRST_PAUSE_S, Turns
from llmcap_addon.errors import StoreError
from tests.budget.samples import NOON_MS, Clock, busy, charges, entry, settlement

DAILY = Cap("daily", 10_000, "day")
LANE = "llmcap_addon.budget.stores.sqlite_lane"
TURNS = "llmcap_addon.budget.stores.sqlite_turns"
FILLED = 16
"""Calls of 7 n$ that a store of these tests has seen before."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine that runs these tests is, it counts as quick, and the disk as its own."""
    monkeypatch.setattr(f"{LANE}.QUICK_S", 60.0)
    monkeypatch.setattr(f"{LANE}.HURRY_S", 60.0)
    monkeypatch.setattr(f"{TURNS}.BURST_S", 60.0)
    monkeypatch.setattr(f"{LANE}.is_own", lambda _: True)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A store that is in use."""
    one = SqliteStore(tmp_path / "ledger.sqlite", "one", Clock(), own_folder=False)
    for _ in range(FILLED):
        await fill(one)
    yield one
    await one.close()


async def fill(store: SqliteStore) -> None:
    call = entry()
    assert isinstance(await store.reserve(call, charges([DAILY], call), 10), Reserved)
    assert await store.settle(call.id, settlement(7))


def at_once[T](work: Coroutine[Any, Any, T]) -> T:
    """What an operation gives without giving the loop back even once."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    work.close()
    raise AssertionError("it went through the thread")


async def standing(store: SqliteStore) -> tuple[int, int]:
    balance = (await store.balances(charges([DAILY], entry())))[0]
    return balance.posted, balance.pending


async def test_every_operation_of_a_call_is_done_at_once(store: SqliteStore) -> None:
    """Where nothing makes it wait, the loop is given back to nobody, and the answers and the rows are the same."""
    posted = 7 * FILLED
    first, second, third = entry(), entry(), entry()
    held = charges([DAILY], first)
    assert isinstance(at_once(store.reserve(first, held, 10)), Reserved)
    assert at_once(store.extend(first.id, held, 20, 1)) == 20
    assert isinstance(at_once(store.reserve(second, held, 10_000)), Short)
    at_once(store.record_refusal(second, ["daily"], "spent"))
    assert at_once(store.settle(first.id, settlement(12)))
    assert not at_once(store.settle(first.id, settlement(12)))
    assert at_once(store.post(entry(), held, settlement(5)))
    assert isinstance(at_once(store.reserve(third, held, 10)), Reserved)
    assert at_once(store.defer(third.id, NOON_MS + 1))
    at_once(store.remember("key", "value", NOON_MS + 1))
    assert await store.recall("key", NOON_MS) == "value"
    assert at_once(store.void(third.id, NOON_MS, 0, ""))
    assert await standing(store) == (posted + 17, 0)
    with pytest.raises(ValueError, match="has ended before"):
        at_once(store.reserve(first, held, 10))


async def test_a_store_that_is_closed_does_nothing(tmp_path: Path) -> None:
    """Its transactions are not done at once, nor any other way."""
    store = SqliteStore(tmp_path / "ledger.sqlite", "one", Clock(), own_folder=False)
    assert store._writer.at_once(lambda _: True) == (True,)
    await store.close()
    assert store._writer.at_once(lambda _: True) is None


async def test_a_slow_transaction_sends_the_next_ones_through_the_thread(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a while, however quick they are there; then the loop tries again."""
    monkeypatch.setattr(f"{LANE}.QUICK_S", 0.0)
    began_s = time.monotonic()
    assert store._writer.at_once(lambda _: True) == (True,)
    assert store._writer.at_once(lambda _: True) is None or time.monotonic() - began_s > FIRST_PAUSE_S
    await fill(store)
    monkeypatch.setattr(f"{LANE}.QUICK_S", 60.0)
    while store._writer.at_once(lambda _: True) is None:
        store._writer.submit(lambda _: True).result()
    assert time.monotonic() - began_s >= FIRST_PAUSE_S


async def test_slow_transactions_in_the_thread_take_nothing_from_the_loop(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There each statement waits until a busy loop gives the interpreter up: that says nothing about the disk."""
    monkeypatch.setattr(f"{LANE}.QUICK_S", 0.0)
    for _ in range(FILLED):
        store._writer.submit(lambda _: True).result()
    assert store._writer.at_once(lambda _: True) == (True,)


async def test_thousands_one_after_the_other_leave_the_loop_time(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a part of its time is spent on them; a while later there is time again."""
    monkeypatch.setattr(f"{TURNS}.BURST_S", 0.0)
    assert store._writer.at_once(lambda _: True) is None
    await fill(store)
    monkeypatch.setattr(f"{TURNS}.BURST_S", 60.0)
    for _ in range(3):
        assert store._writer.at_once(lambda _: True) == (True,)


async def test_a_busy_interpreter_sends_them_through_the_thread(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the lock alone took long, nothing is done, and the thread does all of it."""
    monkeypatch.setattr(f"{LANE}.HURRY_S", -1.0)
    assert store._writer.at_once(lambda _: pytest.fail("it was done")) is None
    before = await standing(store)
    await fill(store)
    assert await standing(store) == (before[0] + 7, 0)


async def test_a_balance_to_be_made_is_made_in_the_thread(store: SqliteStore) -> None:
    """Summing up rows may take long; the attempt leaves nothing behind."""
    call = entry()
    new = charges([replace(DAILY, name="new", per="ever")], call)
    assert store._writer.at_once(lambda tables: tables.reserve(call, new, 10)) is None
    assert all(row.entry.id != call.id for row in await store.rows())
    outcome = await store.reserve(call, new, 10)
    assert isinstance(outcome, Reserved)
    assert outcome.balances[0].posted == 7 * FILLED
    assert at_once(store.settle(call.id, settlement(1)))


async def test_a_lock_that_another_process_keeps_is_waited_for_in_the_thread(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop goes on, and for a while it does not try again; the operation is done when the lock is free."""
    monkeypatch.setattr(f"{LANE}.HURRY_S", 0.001)
    monkeypatch.setattr(f"{TURNS}.FIRST_PAUSE_S", 60.0)
    store._writer._turns = Turns()
    other = sqlite3.connect(tmp_path / "ledger.sqlite", autocommit=True)
    other.execute("BEGIN IMMEDIATE")
    assert store._writer.at_once(lambda _: pytest.fail("it was done")) is None
    assert not store._writer._turns.may_begin(time.monotonic())
    filling = asyncio.ensure_future(fill(store))
    await asyncio.sleep(0)
    assert not filling.done()
    other.execute("ROLLBACK")
    other.close()
    await filling


async def test_a_lock_that_another_process_has_for_a_moment_is_waited_for(store: SqliteStore, tmp_path: Path) -> None:
    """That takes less time than the way through the thread."""
    other = sqlite3.connect(tmp_path / "ledger.sqlite", autocommit=True, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.01, other.execute, ["ROLLBACK"]).start()
    assert store._writer.at_once(lambda _: "done") == ("done",)
    other.close()


async def test_what_the_thread_does_is_waited_for_only_a_moment(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it takes longer, everything queues behind, in order, and the loop waits no more for a while."""
    monkeypatch.setattr(f"{LANE}.HURRY_S", 0.001)
    monkeypatch.setattr(f"{TURNS}.FIRST_PAUSE_S", 60.0)
    store._writer._turns = Turns()
    go_on = busy(store)
    assert store._writer.at_once(lambda _: True) is None
    assert not store._writer._turns.may_begin(time.monotonic())
    call = entry()
    held = charges([DAILY], call)
    reserving = asyncio.ensure_future(store.reserve(call, held, 10))
    settling = asyncio.ensure_future(store.settle(call.id, settlement(3)))
    await asyncio.sleep(0)
    go_on.set()
    assert isinstance(await reserving, Reserved)
    assert await settling


async def test_the_loop_goes_before_what_is_queued(store: SqliteStore) -> None:
    """The thread gives way between two transactions, and does its own all the same."""
    go_on = busy(store)
    queued = [store._writer.submit(lambda _: True) for _ in range(3)]
    threading.Timer(0.01, go_on.set).start()
    assert store._writer.at_once(lambda _: "done") == ("done",)
    assert [one.result() for one in queued] == [True] * 3


async def test_a_log_that_is_being_emptied_is_waited_for_in_the_thread(store: SqliteStore) -> None:
    """Writers stand aside for a checkpoint without holding up the loop."""
    store._checkpoints._stop()
    assert store._writer.at_once(lambda _: True) is None
    store._checkpoints._go_on(0)
    assert store._writer.at_once(lambda _: True) == (True,)


async def test_a_failure_is_the_same_at_once(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is put in words, leaves nothing behind, and the next ones go through the thread."""
    before = await standing(store)

    def fail(_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    def overflow(tables: Any) -> None:
        tables.reserve(entry("lost"), charges([DAILY], entry()), 10)
        tables.balances.move("[1]", posted=-(2**40))

    monkeypatch.setattr(f"{TURNS}.FIRST_PAUSE_S", 60.0)
    for work, told in ((fail, "disk I/O error"), (overflow, "CHECK constraint failed")):
        await fill(store)
        store._writer._turns = Turns()
        before = await standing(store)
        with pytest.raises(StoreError, match=told):
            store._writer.at_once(work)
        assert not store._writer._turns.may_begin(time.monotonic())
        assert await standing(store) == before
    store._writer._turns = Turns()
    (tmp_path / "ledger.sqlite").rename(tmp_path / "moved")
    with pytest.raises(StoreError, match="moved or replaced while in use"):
        await fill(store)
    (tmp_path / "moved").rename(tmp_path / "ledger.sqlite")


async def test_only_on_a_disk_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network may keep anyone waiting for as long as it likes."""
    monkeypatch.setattr(f"{LANE}.is_own", lambda _: False)
    store = SqliteStore(tmp_path / "ledger.sqlite", "one", Clock(), own_folder=False)
    await fill(store)
    assert store._writer.at_once(lambda _: True) is None
    await store.close()


MOUNTS = """\
21 26 0:20 / /proc rw,relatime shared:13 - proc proc rw
26 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
30 26 0:40 / /home rw shared:3 - nfs4 server:/home rw,vers=4.2
31 30 8:3 / /home/me/my\\040disk rw - xfs /dev/sdb1 rw
40 26 0:50 / /mnt/twice rw - ext4 /dev/sdc1 rw
41 40 0:51 / /mnt/twice rw - fuse.sshfs me@far: rw
an odd line
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/me/.local/state", "nfs4"),
        ("/homework", "ext4"),
        ("/home/me/my disk/llmcap", "xfs"),
        ("/mnt/twice/x", "fuse.sshfs"),
    ],
)
def test_the_file_system_of_a_folder(folder: str, kind: str) -> None:
    """That of the longest mount point above it, the last one mounted there."""
    assert kind_of(Path(folder), MOUNTS) == kind
    assert kind_of(Path(folder), "") == ""


def test_what_cannot_be_told_is_not_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the kernel's list, or on another system, the thread is used."""
    monkeypatch.setattr("llmcap_addon.budget.stores.disks._MOUNTS", tmp_path / "nothing")
    assert not is_own(tmp_path)
    monkeypatch.setattr("sys.platform", "darwin")
    assert not is_own(tmp_path)
