"""Sums of rows: the same whether they come from days or from rows, and made from a ledger of before."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.budget.ledger import Charge
from llmcap_addon.budget.matching import matches
from llmcap_addon.budget.stores import open_store
from llmcap_addon.budget.stores.owners import Owner
from llmcap_addon.budget.stores.sqlite_open import connect, create
from llmcap_addon.budget.stores.sqlite_sums import DAY_MS, Sums
from llmcap_addon.budget.stores.sqlite_tables import Tables
from tests.budget.samples import Clock, entry, labels, settlement

MOMENTS = st.one_of(
    st.integers(0, 4 * DAY_MS),
    st.builds(lambda day, off: max(0, day * DAY_MS + off), st.integers(0, 4), st.integers(-1, 1)),
)
MODELS = st.sampled_from(["gpt-4o", "gpt-5", "claude-opus-4-5"])
ENDINGS = st.sampled_from(["pending", "posted", "voided", "expired", "corrected"])
MATCHES = st.sampled_from(
    [(), (("model", "gpt-*"),), (("model", "gpt-5"),), (("model", "gpt-5"), ("model", "claude-*"), ("client", "c?dex"))]
)


@contextmanager
def tables() -> Iterator[Tables]:
    """A ledger of its own, in one transaction."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        create(path, own_folder=False)
        with closing(connect(path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield Tables(connection, Owner(path, "one"))


@settings(max_examples=60, deadline=None)
@given(
    calls=st.lists(st.tuples(MOMENTS, MODELS, ENDINGS, st.integers(0, 90)), max_size=12),
    spans=st.lists(st.tuples(MOMENTS, st.none() | MOMENTS, MATCHES), min_size=1, max_size=6),
)
def test_sums_are_those_of_the_rows(
    calls: list[tuple[int, str, str, int]], spans: list[tuple[int, int | None, tuple[tuple[str, str], ...]]]
) -> None:
    """For any rows, spans and matches a charge's sums are what adding up its rows one by one gives."""
    with tables() as ledger:
        for number, (started_at_ms, model, ending, cost) in enumerate(calls):
            call = entry(f"{number}", started_at_ms=started_at_ms, model=model)
            ledger.reserve(call, [], 50)
            if ending == "posted":
                ledger.settle(call.id, settlement(cost))
            elif ending == "voided":
                ledger.void(call.id, 1, 0, "")
            elif ending in {"expired", "corrected"}:
                ledger.balances._sql("UPDATE ledger SET owner = 'dead' WHERE id = ?", (call.id,))
                ledger.expire("dead", 1)
                if ending == "corrected":
                    ledger.settle(call.id, settlement(cost))
        rows = ledger.rows(0, None)
        sums = Sums(ledger.balances._sql)
        for starts, resets, match in spans:
            counted = [
                row
                for row in rows
                if starts <= row.entry.started_at_ms < (2**63 if resets is None else resets)
                and matches(match, labels(row.entry))
            ]
            posted, pending, _ = sums.of(Charge("cap", "key", "", "span", starts, resets, 1, match))
            assert (posted, pending) == (sum(row.cost for row in counted), sum(row.reserved for row in counted))
        ledger.balances._sql("ROLLBACK")


def test_a_ledger_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its rows, balances and reservations are there as before, and a new cap counts what was spent in it."""
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
        old.execute("INSERT INTO meta VALUES ('schema', '1')")
        old.executescript(resources.files("llmcap_addon.budget.stores").joinpath("schema_1.sql").read_text("utf-8"))
        for number, (day, cost, reserved) in enumerate(((0, 7, 0), (0, 5, 0), (2, 11, 0), (2, 0, 40))):
            old.execute(
                "INSERT INTO ledger VALUES (NULL, ?, 'dead', '', ?, ?, NULL, 'h', 'p', 'gpt-5', 'c', 'openai.chat', 1,"
                " ?, ?, '{}', '', 200, '', '', '[]', '[]')",
                (f"{number}", "pending" if reserved else "posted", day * DAY_MS + number, reserved, cost),
            )
        old.commit()
    store = open_store(f"sqlite://{path}", Clock())
    ever = Charge("cap", "key", "", "ever:0", 0, None, 1_000, (("model", "gpt-*"),))

    async def read() -> tuple[int, int, int]:
        [balance] = await store.balances([ever])
        found = balance.posted, balance.pending, len(await store.rows())
        await store.close()
        return found

    assert asyncio.run(read()) == (63, 0, 4)  # the dead owner's reservation is posted in full


def test_a_ledger_of_before_billing_was_paid_by_the_token(tmp_path: Path) -> None:
    """Its rows, sums and balances count for every cap that they counted for, and for none of a plan's."""
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
        old.execute("INSERT INTO meta VALUES ('schema', '2')")
        for name in ("schema_1.sql", "schema_2.sql"):
            old.executescript(resources.files("llmcap_addon.budget.stores").joinpath(name).read_text("utf-8"))
        old.execute(
            "INSERT INTO ledger VALUES (NULL, 'a', 'o', '', 'posted', 5, 6, 'h', 'p', 'gpt-5', 'c', 'openai.chat', 1,"
            " 0, 7, '{}', '', 200, '', '', '[1]', '[]')"
        )
        old.execute("INSERT INTO spent VALUES (0, 'h', 'p', 'gpt-5', 'c', '', 7)")
        old.execute(f"INSERT INTO balance VALUES (1, 'old', 'old', '', 'ever:0', '', 0, {2**63 - 1}, '[]', 7, 0)")
        old.commit()
    store = open_store(f"sqlite://{path}", Clock())
    kept, new, plans = (
        Charge(name, name, "", "ever:0", 0, None, 1_000, match)
        for name, match in (("old", ()), ("new", ()), ("plans", (("billing", "plan"),)))
    )

    async def read() -> list[int]:
        call = entry("b", billing="plan")
        await store.reserve(call, [plans], 50)
        await store.settle(call.id, settlement(11))
        found = [balance.posted for balance in await store.balances([kept, new, plans])]
        assert [row.entry.billing for row in await store.rows()] == ["api", "plan"]
        await store.close()
        return found

    assert asyncio.run(read()) == [7, 7, 11]


def test_rows_of_schema_3_keep_their_order_and_their_balances(tmp_path: Path) -> None:
    """Rows lie by their starts from then on, those of one moment as they were; reservations count where they did."""
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT")
        old.execute("INSERT INTO meta VALUES ('schema', '3')")
        for number in (1, 2, 3):
            script = resources.files("llmcap_addon.budget.stores").joinpath(f"schema_{number}.sql")
            old.executescript(script.read_text("utf-8"))
        for name, start_ms, state, cost, reserved in (
            ("d", 9, "posted", 7, 0), ("b", 5, "voided", 0, 0), ("c", 5, "pending", 0, 30), ("a", 3, "expired", 20, 0),
        ):  # fmt: skip
            old.execute(
                "INSERT INTO ledger VALUES (NULL, ?, 'dead', '', ?, ?, NULL, 'h', 'p', 'gpt-5', 'c', 'openai.chat', 1,"
                " ?, ?, '{}', '', 200, '', '', '[3]', '[\"old\"]', 'api')",
                (name, state, start_ms, reserved, cost),
            )
        old.execute("INSERT INTO spent VALUES (0, 'h', 'p', 'gpt-5', 'c', 'api', '', 27)")
        old.execute(f"INSERT INTO balance VALUES (3, 'old', 'old', '', 'ever:0', '', 0, {2**63 - 1}, '[]', 27, 30)")
        old.commit()
    store = open_store(f"sqlite://{path}", Clock())
    kept, new = (Charge(name, name, "", "ever:0", 0, None, 1_000) for name in ("old", "new"))

    async def read() -> None:
        assert [row.entry.id for row in await store.rows()] == ["a", "b", "c", "d"]
        assert [(one.posted, one.pending) for one in await store.balances([kept, new])] == [(57, 0)] * 2
        assert await store.settle("c", settlement(31))  # the dead owner's, posted in full meanwhile
        assert await store.settle("a", settlement(21))
        assert [one.posted for one in await store.balances([kept, new])] == [59, 59]
        call = entry("e", started_at_ms=5)
        await store.reserve(call, [kept], 1)
        assert [row.entry.id for row in await store.rows(5)] == ["b", "c", "e", "d"]
        await store.close()

    asyncio.run(read())


def test_a_day_is_read_from_few_rows(tmp_path: Path) -> None:
    """A new balance over many days reads the rows of their edges only: the others could be gone."""
    path = tmp_path / "ledger.sqlite"
    create(path, own_folder=False)
    with closing(connect(path)) as connection:
        ledger = Tables(connection, Owner(path, "one"))
        for number in range(100):
            call = entry(f"{number}", started_at_ms=number * DAY_MS // 10)
            ledger.reserve(call, [], 50)
            ledger.settle(call.id, settlement(3))
        connection.execute("UPDATE ledger SET cost = 0 WHERE started_at_ms BETWEEN ? AND ?", (DAY_MS, 9 * DAY_MS - 1))
        charge = Charge("cap", "key", "", "span", DAY_MS // 2, 10 * DAY_MS - DAY_MS // 2, 1)
        assert Sums(connection.execute).of(charge)[0] == 90 * 3
