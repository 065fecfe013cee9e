"""The statements of an operation: none reads the whole ledger, and what is remembered between them stays true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.stores.owners import Owner
from llmcap_addon.budget.stores.sqlite_open import connect, create
from llmcap_addon.budget.stores.sqlite_tables import Tables
from tests.budget.samples import NOON_MS, Clock, charges, entry, settlement

DAILY = Cap("daily", 100_000, "day")
MINUTE = Cap("minute", 100_000, "minute")
MINUTE_MS = 60_000


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    create(path, own_folder=False)
    return path


@pytest.fixture
def tables(ledger: Path) -> Iterator[Tables]:
    connection = connect(ledger)
    yield Tables(connection, Owner(ledger, "one"))
    connection.close()


def test_no_operation_reads_the_whole_ledger(ledger: Path) -> None:
    """Every statement of every operation finds its rows by an index; only the index of pending calls is read whole."""
    connection = connect(ledger)
    tables = Tables(connection, Owner(ledger, "one"))
    statements: set[str] = set()
    connection.set_trace_callback(statements.add)
    caps = [DAILY, Cap("each", 100_000, "ever", (("model", "gpt-*"),), ("client",)), Cap("run", 100_000, "run")]
    for _ in range(2):  # the second time all balances are known
        call, free, late, short = entry(), entry(), entry(), entry()
        tables.reserve(call, charges(caps, call), 10)
        tables.extend(call.id, charges([*caps, MINUTE], call), 10, 1)
        tables.reserve(short, charges(caps, call), 1_000_000)
        tables.settle(call.id, settlement(7))
        tables.reserve(free, charges(caps, free), 10)
        tables.void(free.id, NOON_MS, 0, "")
        tables.post(late, charges(caps, late), settlement(7))
        tables.record_refusal(short, ["daily"], "spent")
        tables.heartbeat(Clock()())
        tables.rows(NOON_MS, 10)
    connection.set_trace_callback(None)
    assert len(statements) > 30
    for statement in statements:
        for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}"):
            if step.startswith(("SCAN ledger", "SCAN balance")):
                assert step.endswith("INDEX ledger_open"), f"{step}: {statement}"
    connection.close()


def test_balances_of_another_process_are_counted_too(ledger: Path, tables: Tables) -> None:
    """A balance that another connection makes is found by the very next operation, and a rolled back one is not."""
    first = entry()
    tables.reserve(first, charges([DAILY], first), 10)
    connection = connect(ledger)
    other = Tables(connection, Owner(ledger, "two"))
    connection.execute("BEGIN IMMEDIATE")
    other.reserve(entry(), charges([MINUTE], first), 5)
    connection.execute("ROLLBACK")
    gpt = Cap("gpt", 100_000, "day", (("model", "gpt-*"),))
    second = entry()
    other.reserve(second, charges([gpt], second), 20)
    third = entry()
    tables.reserve(third, charges([DAILY], third), 40)
    for cap in (DAILY, gpt):
        assert tables.balances.read(charges([cap], first)[0]).pending == 70
    other.settle(first.id, settlement(9))
    assert [(one.posted, one.pending) for one in map(other.balances.read, charges([DAILY, gpt], first))] == [
        (9, 60)
    ] * 2
    connection.close()


def test_calls_longer_than_what_is_remembered(tables: Tables) -> None:
    """A stream is charged to the minute it began in, though hours of minutes have come and been forgotten since."""
    stream = entry()
    tables.reserve(stream, charges([MINUTE], stream), 10)
    for minute in range(1, 700):
        call = entry(started_at_ms=NOON_MS + minute * MINUTE_MS)
        tables.reserve(call, charges([MINUTE], call), 3)
        tables.settle(call.id, settlement(2))
        if minute in {100, 200}:
            assert tables.extend(stream.id, charges([MINUTE], stream), 5, 1) == 5
    assert len(tables.balances.live._known) < 300
    assert tables.extend(stream.id, charges([MINUTE], stream), 5, 1) == 5
    first, last = charges([MINUTE], stream)[0], charges([MINUTE], call)[0]
    assert (tables.balances.read(first).posted, tables.balances.read(first).pending) == (0, 25)
    assert tables.balances.read(last).posted == 2
