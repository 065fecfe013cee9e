"""However many ask at once, exactly so many are admitted as fit."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import Reserved, Store
from llmcap_addon.budget.stores import open_store
from tests.budget.conftest import OpenStore
from tests.budget.samples import Clock, charges, entry

EIGHT = Cap("eight", 80, "day")
ROOT = Path(__file__).parents[2]

_PROCESS = """
import asyncio, sys
from llmcap_addon.budget.ledger import Reserved
from llmcap_addon.budget.stores import open_store
from tests.budget.samples import Clock, charges, entry, settlement
from tests.budget.test_store_races import RACED

async def main(url, name, calls, settles):
    store = open_store(url, Clock())
    print("ready", flush=True)
    sys.stdin.readline()
    admitted = 0
    for number in range(calls):
        call = entry(f"{name}-{number}")
        if isinstance(await store.reserve(call, charges([RACED], call), 10), Reserved):
            admitted += 1
        if settles:
            await store.settle(call.id, settlement(10 if number % 2 else 4))
    await store.close()
    print(admitted, flush=True)

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "settles"))
"""
RACED = Cap("raced", 500, "day")


async def test_hundred_tasks_on_one_loop(store: Store) -> None:
    """Of 100 calls at once on a cap for 8, exactly 8 are admitted."""
    calls = [entry() for _ in range(100)]
    outcomes = await asyncio.gather(*(store.reserve(call, charges([EIGHT], call), 10) for call in calls))
    assert sum(isinstance(outcome, Reserved) for outcome in outcomes) == 8


def test_hundred_threads_with_loops_of_their_own(tmp_path: Path) -> None:
    """SQLite's store may be used from many event loops; still exactly 8 of 100 are admitted."""
    url = f"sqlite://{tmp_path}/ledger.sqlite"
    stores = [open_store(url, Clock()) for _ in range(2)]
    start = threading.Barrier(100)
    admitted: list[bool] = []

    def ask(number: int) -> None:
        call = entry()
        start.wait()
        outcome = asyncio.run(stores[number % 2].reserve(call, charges([EIGHT], call), 10))
        admitted.append(isinstance(outcome, Reserved))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        asyncio.run(store.close())
    assert (len(admitted), sum(admitted)) == (100, 8)


def race(url: str, processes: int, calls: int, *, settle: bool) -> list[int]:
    """Start processes that each ask for so many calls, all at the same moment; gives how many each was admitted."""
    then = "settles" if settle else "holds"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, url, f"racer-{number}", str(calls), then],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(processes)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    admitted = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * processes
    return admitted


async def test_four_processes(open_another: OpenStore, store_url: str) -> None:
    """Four processes that reserve and settle on one cap fill it exactly, and no call is lost or counted twice."""
    admitted = race(store_url, 4, 60, settle=True)
    store = open_another()
    rows = await store.rows()
    balance = (await store.balances(charges([RACED], entry())))[0]
    assert len(rows) == sum(admitted)
    assert {row.state for row in rows} == {"posted"}
    assert (balance.posted, balance.pending) == (sum(row.cost for row in rows), 0)
    # Full: all that is left is too little for one more, and it was never more than full.
    assert 490 < balance.posted <= 500


async def test_four_processes_that_hold(open_another: OpenStore, store_url: str) -> None:
    """Of 160 reservations by four processes on a cap for 50, exactly 50 are admitted."""
    admitted = race(store_url, 4, 40, settle=False)
    balance = (await open_another().balances(charges([RACED], entry())))[0]
    assert sum(admitted) == 50
    assert (balance.posted, balance.pending) == (500, 0)  # they ended without settling
