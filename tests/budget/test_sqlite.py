"""The SQLite file: private, and every failure of it is a StoreError that says what to do."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import LEASE_MS, Reserved, Store
from llmcap_addon.budget.stores import open_store, store_path
from llmcap_addon.budget.stores.sqlite import MAX_QUEUED
from llmcap_addon.budget.stores.sqlite_open import MIGRATIONS, explain
from llmcap_addon.errors import ConfigError, StoreError
from tests.budget.samples import NOON_MS, Clock, busy, charges, entry, settlement

ROOT = Path(__file__).parents[2]
DAILY = Cap("daily", 1_000, "day")
BUSY = "llmcap_addon.budget.stores.sqlite_lane.BUSY_S"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


def open_ledger(ledger: Path, clock: Clock | None = None) -> Store:
    return open_store(f"sqlite://{ledger}", clock or Clock())


async def fill(store: Store, cost: int = 7) -> None:
    call = entry()
    assert isinstance(await store.reserve(call, charges([DAILY], call), 10), Reserved)
    await store.settle(call.id, settlement(cost))


async def posted(store: Store) -> tuple[int, int]:
    balance = (await store.balances(charges([DAILY], entry())))[0]
    return balance.posted, balance.pending


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def damage(file: Path) -> None:
    """Overwrite all but SQLite's header and its list of tables."""
    data = file.read_bytes()
    file.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))


def move_away(file: Path) -> None:
    file.rename(file.with_name("moved"))


def modes(folder: Path) -> dict[str, int]:
    return {path.name.split("-owner-")[0]: stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.iterdir()]}


# ── where it is ──


def test_default_is_the_state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`store: sqlite` is a file in a folder of ours in the user's state folder, made and closed to others."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))  # where macOS looks
    path = store_path("sqlite")
    assert path.is_relative_to(tmp_path)
    path.parent.mkdir(parents=True, mode=0o755)
    asyncio.run(open_store("sqlite", Clock()).close())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "url",
    ["", "sqlite:", "sqlite://", "sqlite:///", "sqlite://ledger.db", "sqlite:///x/", "postgres://x", "/x/y", "sqlit"],
)
def test_other_urls_are_refused(url: str) -> None:
    """Whatever is not one of the forms gets a message that names them."""
    with pytest.raises(ConfigError, match=r"allowed: sqlite, sqlite:///absolute/path, redis://"):
        open_store(url, Clock())


# ── who may read it ──


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o777])
async def test_only_its_owner_may_read_it(ledger: Path, mask: int) -> None:
    """Folder 0700, ledger, -wal, -shm and lock 0600, whatever the umask."""
    with umask(mask):
        store = open_ledger(ledger)
        await fill(store)
    found = modes(ledger.parent)
    assert found.pop("state") == 0o700
    assert set(found) == {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"}
    assert {mode & 0o077 for mode in found.values()} == {0}
    await store.close()


def test_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    """An existing ledger with loose rights gets tight ones; a folder that may not be ours alone is left alone."""
    ledger = tmp_path / "ledger.sqlite"
    asyncio.run(open_ledger(ledger).close())
    ledger.chmod(0o644)
    tmp_path.chmod(0o755)
    asyncio.run(open_ledger(ledger).close())
    assert stat.S_IMODE(ledger.stat().st_mode) == 0o600
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


async def test_close_leaves_only_the_ledger(ledger: Path) -> None:
    """No lock, -wal or -shm stays behind."""
    store = open_ledger(ledger)
    await fill(store)
    await store.balances([])
    await store.close()
    assert [path.name for path in ledger.parent.iterdir()] == ["ledger.sqlite"]
    with pytest.raises(StoreError, match="it is closed"):
        await fill(store)


# ── processes that die ──

_VICTIM = """
import asyncio, sys
from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.stores import open_store
from tests.budget.samples import Clock, charges, entry, settlement

async def main():
    store = open_store(sys.argv[1], Clock())
    for number, cost in enumerate((100, 20, None)):
        call = entry(f"victim-{number}")
        await store.reserve(call, charges([Cap("daily", 1_000, "day")], call), 300)
        if cost is not None:
            await store.settle(call.id, settlement(cost))
    await store.extend(call.id, [], 11, 1)
    print("holding", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


@contextmanager
def victim(ledger: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has posted 120 and holds 311."""
    process = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, f"sqlite://{ledger}"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_killed_process_is_posted_in_full_at_the_next_start(ledger: Path) -> None:
    """After kill -9 the next start finds all that was posted, and posts what was held, at once and marked."""
    with victim(ledger) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        store = open_ledger(ledger)
        assert await posted(store) == (431, 0)
        row = (await store.rows())[-1]
        assert (row.entry.id, row.state, row.cost, row.reserved) == ("victim-2", "posted", 311, 0)
        assert row.marks == {"expired", "estimated"}
        assert [path.name for path in ledger.parent.glob("*-owner-*")] != []
        await store.close()
    assert list(ledger.parent.glob("*-owner-*")) == []


async def test_killed_process_is_seen_by_a_running_one(ledger: Path) -> None:
    """A heartbeat posts what a killed process held, before its lease is over; until then it stays held."""
    clock = Clock()
    store = open_ledger(ledger, clock)
    with victim(ledger) as process:
        clock.now_ms += 10 * LEASE_MS
        assert await store.heartbeat(clock()) == 0  # it lives, and its lock says so
        assert await posted(store) == (120, 311)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert await store.heartbeat(clock()) == 1
        assert await store.heartbeat(clock()) == 0
        assert await posted(store) == (431, 0)
    await store.close()


async def test_without_locks_the_lease_decides(ledger: Path) -> None:
    """Where no lock can be had, reservations expire when their process has been silent for a lease, not before."""
    clock = Clock()
    store, other = open_ledger(ledger, clock), open_ledger(ledger, clock)
    for lock in ledger.parent.glob("*-owner-*"):
        lock.unlink()
    call = entry()
    await other.reserve(call, charges([DAILY], call), 300)
    assert await store.heartbeat(NOON_MS + LEASE_MS - 1) == 0
    assert await store.heartbeat(NOON_MS + LEASE_MS) == 1
    assert await posted(store) == (300, 0)
    assert await other.extend(call.id, [], 10, 1) == 0
    await store.close()
    await other.close()


async def test_owner_names_are_not_shared(ledger: Path) -> None:
    """Two open stores by one name would expire each other's calls: the second is refused."""
    url = f"sqlite://{ledger}"
    store = open_store(url, Clock(), "proxy-1")
    with pytest.raises(StoreError, match="proxy-1 is in use"):
        open_store(url, Clock(), "proxy-1")
    await fill(store)
    await store.close()
    await open_store(url, Clock(), "proxy-1").close()


# ── what can be wrong with it ──


def test_file_that_is_no_database(ledger: Path) -> None:
    """A file of something else is left as it is, and the message says what to do."""
    ledger.parent.mkdir()
    ledger.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(StoreError, match=r"ledger\.sqlite: it is not a SQLite file; move it away"):
        open_ledger(ledger)
    assert ledger.read_bytes().startswith(b"not a database")


def test_database_of_another_program(ledger: Path) -> None:
    """Another program's SQLite file is not written into."""
    ledger.parent.mkdir()
    with sqlite3.connect(ledger) as other:
        other.execute("CREATE TABLE cookies (name TEXT)")
    other.close()
    with pytest.raises(StoreError, match="another program; set store:"):
        open_ledger(ledger)


async def test_damaged_database(ledger: Path) -> None:
    """Damaged pages are told as damage, at the start or at the first call, and never as an empty ledger."""
    store = open_ledger(ledger)
    for _ in range(50):
        await fill(store)
    await store.close()
    damage(ledger)
    with pytest.raises(StoreError, match="it is damaged; move it away"):
        open_ledger(ledger)


def test_newer_schema(ledger: Path) -> None:
    """A ledger of a newer LLMCap is not touched."""
    asyncio.run(open_ledger(ledger).close())
    with sqlite3.connect(ledger) as other:
        other.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    other.close()
    with pytest.raises(StoreError, match=rf"newer LLMCap \(schema 99, this one knows {len(MIGRATIONS)}\); upgrade"):
        open_ledger(ledger)


async def test_newer_schema_in_mid_flight(ledger: Path) -> None:
    """A ledger that a newer LLMCap brings to its schema meanwhile is not written or read any more; brought back it is."""
    store = open_ledger(ledger)
    await fill(store)
    told = rf"newer LLMCap \(schema 99, this one knows {len(MIGRATIONS)}\); upgrade"
    with sqlite3.connect(ledger, autocommit=True) as other:
        other.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
        for work in (fill(store), store.settle("nobody", settlement(1)), store.heartbeat(NOON_MS), posted(store)):
            with pytest.raises(StoreError, match=told):
                await work
        other.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (str(len(MIGRATIONS)),))
    other.close()
    await fill(store)
    assert await posted(store) == (14, 0)
    await store.close()


@contextmanager
def locked(ledger: Path) -> Iterator[None]:
    """Another process is in a transaction that it does not end."""
    other = sqlite3.connect(ledger, autocommit=True)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


async def test_locked_by_another_process(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a file stays locked, everything that waits fails in the time that one operation has, not one after another;
    then all goes on, and what could not be written can be."""
    monkeypatch.setattr(BUSY, 0.5)
    store = open_ledger(ledger)
    call = entry()
    held = charges([DAILY], call)
    await store.reserve(call, held, 10)
    loop = asyncio.get_running_loop()
    with locked(ledger):
        began_s = loop.time()
        outcomes = await asyncio.gather(
            *(store.reserve(entry(), held, 1) for _ in range(6)),
            store.extend(call.id, held, 5, 1),
            store.settle(call.id, settlement(3)),
            *(store.reserve(entry(), held, 1) for _ in range(6)),
            store.void(call.id, NOON_MS, 0, ""),
            return_exceptions=True,
        )
        assert loop.time() - began_s < 1.5  # 15 of them
        assert {type(outcome) for outcome in outcomes} == {StoreError}
        assert all("another process has locked it for more than 2 s; end that process" in str(one) for one in outcomes)
        assert await posted(store) == (0, 10)  # reading goes on
    assert await store.extend(call.id, held, 5, 1) == 5
    assert await store.settle(call.id, settlement(3))
    assert await posted(store) == (3, 0)
    await store.close()


async def test_queue_is_bounded(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many admissions may wait and no more; settlements queue all the same."""
    monkeypatch.setattr(BUSY, 1.0)
    store = open_ledger(ledger)
    call = entry()
    await store.reserve(call, charges([DAILY], call), 10)
    with locked(ledger):
        waiting = [asyncio.ensure_future(store.reserve(entry(), [], 1)) for _ in range(MAX_QUEUED)]
        await asyncio.sleep(0)
        with pytest.raises(StoreError, match="calls wait for it"):
            await store.reserve(entry(), [], 1)
        settling = asyncio.ensure_future(store.settle(call.id, settlement(3)))
        await asyncio.gather(*waiting, settling, return_exceptions=True)
    assert await store.settle(call.id, settlement(3))
    await store.close()


async def test_late_admissions_are_not_begun_and_late_settlements_are(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits behind a slow transaction for longer than it may is refused; what was spent gets in all the same."""
    store = open_ledger(ledger)
    call = entry()
    await store.reserve(call, charges([DAILY], call), 10)
    monkeypatch.setattr(BUSY, 0.0)
    slow = busy(store)
    late = entry()
    admitting = asyncio.ensure_future(store.reserve(late, charges([DAILY], late), 1))
    settling = asyncio.ensure_future(store.settle(call.id, settlement(3)))
    await asyncio.sleep(0)
    slow.set()
    with pytest.raises(StoreError, match="its turn did not come within 2 s; its disk is slow"):
        await admitting
    assert await settling
    monkeypatch.undo()
    assert await posted(store) == (3, 0)
    assert len(await store.rows()) == 1
    await store.close()


async def test_what_is_given_up_while_it_is_locked_is_released_later(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that leaves while its reservation is made leaves nothing reserved, though the ledger then fails."""
    store = open_ledger(ledger)
    call, go_on = entry(), busy(store)
    reserving = asyncio.ensure_future(store.reserve(call, charges([DAILY], call), 10))
    await asyncio.sleep(0)
    locking = store._writer.submit(lambda _: monkeypatch.setattr(BUSY, 0.0))  # type: ignore[attr-defined]
    other = store._writer._thread.submit(sqlite3.connect, ledger, autocommit=True, check_same_thread=False)  # type: ignore[attr-defined]
    held = store._writer._thread.submit(lambda: other.result().execute("BEGIN IMMEDIATE"))  # type: ignore[attr-defined]
    go_on.set()
    locking.result()
    held.result()
    reserving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    store._writer._thread.submit(lambda: None).result()  # type: ignore[attr-defined]
    assert await posted(store) == (0, 10)
    other.result().execute("ROLLBACK")
    other.result().close()
    monkeypatch.undo()
    await store.heartbeat(NOON_MS)
    await store.heartbeat(NOON_MS)
    assert await posted(store) == (0, 0)
    await store.close()


@pytest.mark.parametrize("replaced", [False, True])
async def test_moved_while_in_use(ledger: Path, replaced: bool) -> None:
    """A ledger that is deleted or replaced under us takes no more money: the next start would not know of it."""
    store = open_ledger(ledger)
    await fill(store)
    move_away(ledger)
    if replaced:
        other = open_ledger(ledger)
    with pytest.raises(StoreError, match="moved or replaced while in use"):
        await fill(store)
    with pytest.raises(StoreError, match="moved or replaced while in use"):
        await store.close()
    if replaced:
        await other.close()


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """A path below a file can't be made, and the message names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"ledger .*file/ledger\.sqlite: can't be made here \(Not a directory\)"):
        open_ledger(tmp_path / "file" / "ledger.sqlite")


def test_read_only_database_is_explained(ledger: Path) -> None:
    """SQLite's refusal to write becomes advice."""
    asyncio.run(open_ledger(ledger).close())
    with sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True) as reader, pytest.raises(sqlite3.Error) as caught:
        reader.execute("DELETE FROM ledger")
    reader.close()
    assert "it is read-only; give yourself the right" in str(explain(caught.value, ledger))


_UNPRIVILEGED = """
import asyncio, os, sys, tempfile
from pathlib import Path
from llmcap_addon.budget.stores import open_store
from llmcap_addon.budget.stores import sqlite
from llmcap_addon.errors import StoreError
from tests.budget.samples import Clock

folder = Path(tempfile.mkdtemp())
ledger = folder / "ledger.sqlite"
asyncio.run(open_store(f"sqlite://{ledger}", Clock()).close())
if os.getuid() == 0:  # whom no mode keeps out
    os.chown(folder, 65534, 65534)
    os.chown(ledger, 65534, 65534)
    os.setuid(65534)
for path, mode in ((ledger, 0o400), (folder, 0o500)):
    path.chmod(mode)
try:
    open_store(f"sqlite://{ledger}", Clock())
except StoreError as error:
    print(error)
folder.chmod(0o700)
for path in folder.iterdir():
    path.unlink()
"""


def test_read_only_file() -> None:
    """Without the right to write, the start fails and says so."""
    done = subprocess.run(
        [sys.executable, "-c", _UNPRIVILEGED], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert "it is read-only; give yourself the right" in done.stdout


_FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.stores import open_store
from llmcap_addon.errors import StoreError
from tests.budget.samples import Clock, charges, entry, settlement

DAILY = Cap("daily", 10_000_000, "day")

async def main(path):
    store = open_store(f"sqlite://{path}", Clock())
    call = entry("call 0")
    await store.reserve(call, charges([DAILY], call), 50)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size + 300_000, hard))
    admitted, failure = 1, ""
    while not failure and admitted < 1_000:
        call = entry(f"call {admitted}")
        try:
            await store.reserve(call, charges([DAILY], call), 50)
            admitted += 1
        except StoreError as error:
            failure = str(error)
    print(failure)
    settled = 0
    while settled < admitted:  # smaller transactions may fit for a while
        try:
            await store.settle(f"call {settled}", settlement(7))
            settled += 1
        except StoreError as error:
            print(error)
            break
    balance = (await store.balances(charges([DAILY], call)))[0]
    assert (balance.posted, balance.pending) == (settled * 7, (admitted - settled) * 50), balance
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for number in range(settled, admitted):
        assert await store.settle(f"call {number}", settlement(7))
    balance = (await store.balances(charges([DAILY], call)))[0]
    assert (balance.posted, balance.pending) == (admitted * 7, 0), balance
    await store.close()
    print("went on")

asyncio.run(main(sys.argv[1]))
"""


def test_full_disk(ledger: Path) -> None:
    """On a full disk calls fail with a reason, nothing is half written, and with room again the ledger goes on."""
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(ledger)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    reserving, settling, on = done.stdout.splitlines()
    for failure in (reserving, settling):
        assert "the disk" in failure
        assert "the ledger goes on by itself" in failure
    assert on == "went on"
