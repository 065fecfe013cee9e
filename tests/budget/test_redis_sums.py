"""Sums of Redis' rows: the same whether they come from days, hours or rows, and made for a ledger of before."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any
from uuid import uuid4

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import Charge, Row, Short, Store
from llmcap_addon.budget.matching import matches
from llmcap_addon.budget.stores import open_store
from llmcap_addon.budget.stores import redis_scripts as scripts
from llmcap_addon.errors import StoreError
from tests.budget.redis_server import RedisServer
from tests.budget.samples import NOON_MS, Clock, charges, entry, labels, settlement

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DAILY = Cap("daily", 1_000, "day")
MOMENTS = st.one_of(
    st.integers(0, 3 * DAY_MS),
    st.builds(lambda hour, off: max(0, hour * HOUR_MS + off), st.integers(0, 72), st.integers(-1, 1)),
)
MODELS = st.sampled_from(["gpt-4o", "gpt-5", "claude-opus-4-5"])
ENDINGS = st.sampled_from(["pending", "posted", "voided", "deferred", "refused"])
MATCHES = st.sampled_from(
    [(), (("model", "gpt-*"),), (("model", "gpt-5"),), (("model", "gpt-5"), ("model", "claude-*"), ("client", "c?dex"))]
)


def run[T](work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


async def end(store: Store, call_id: str, ending: str, cost: int) -> None:
    if ending == "posted":
        await store.settle(call_id, settlement(cost))
    elif ending == "voided":
        await store.void(call_id, 1, 0, "")
    elif ending == "deferred":
        await store.defer(call_id, 2**50)


def expected(charge: Charge, rows: Sequence[Row]) -> tuple[int, int]:
    resets = 2**63 if charge.resets_at_ms is None else charge.resets_at_ms
    counted = [
        row
        for row in rows
        if charge.starts_at_ms <= row.entry.started_at_ms < resets and matches(charge.match, labels(row.entry))
    ]
    return sum(row.cost for row in counted), sum(row.reserved for row in counted)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(st.tuples(MOMENTS, MODELS, ENDINGS, st.integers(0, 90)), max_size=12),
    spans=st.lists(st.tuples(MOMENTS, st.none() | MOMENTS, MATCHES), min_size=1, max_size=6),
    lost=st.integers(0, 12),
    of=st.sampled_from(["day", "hour"]),
)
def test_sums_are_those_of_the_rows(
    redis_server: RedisServer,
    calls: list[tuple[int, str, str, int]],
    spans: list[tuple[int, int | None, tuple[tuple[str, str], ...]]],
    lost: int,
    of: str,
) -> None:
    """For any rows, spans and matches a charge's sums are what adding up its rows gives; also after days or hours were
    lost, and begun anew by what came then."""
    prefix = uuid4().hex

    async def compare() -> None:
        store = open_store(redis_server.url(prefix), Clock())
        for number, (started_at_ms, model, ending, cost) in enumerate(calls):
            if number == lost:
                with redis_server.client() as client:
                    for key in client.keys(f"{{{prefix}}}:{of}:*"):
                        client.delete(key)
            call = entry(started_at_ms=started_at_ms, model=model)
            if ending == "refused":
                await store.record_refusal(call, [], "")
                continue
            await store.reserve(call, [], 50)
            await end(store, call.id, ending, cost)
        rows = await store.rows()
        asked = [
            Charge("cap", f"{at}", "", "span", starts, resets, 1, m) for at, (starts, resets, m) in enumerate(spans)
        ]
        found = await store.balances(asked)
        assert [(one.posted, one.pending) for one in found] == [expected(charge, rows) for charge in asked]
        await store.close()
        again = open_store(redis_server.url(prefix), Clock())  # what was pending has expired
        rows = await again.rows()
        found = await again.balances(asked)
        assert [(one.posted, one.pending) for one in found] == [expected(charge, rows) for charge in asked]
        await again.close()

    run(compare())


async def test_a_day_is_read_from_few_rows(redis_server: RedisServer) -> None:
    """A new balance over many days reads the rows of their edges only: the others could be gone."""
    prefix = uuid4().hex
    store = open_store(redis_server.url(prefix), Clock())
    for number in range(100):
        call = entry(f"{number}", started_at_ms=number * DAY_MS // 10)
        await store.post(call, [], settlement(3))
    with redis_server.client() as client:
        for number in range(10, 90):
            client.delete(f"{{{prefix}}}:row:{number}")
    charge = Charge("cap", "key", "", "span", DAY_MS // 2 - 1, 10 * DAY_MS - DAY_MS // 2, 1)
    assert (await store.balances([charge]))[0].posted == 90 * 3
    await store.close()


async def test_a_lost_list_of_what_is_pending_is_noticed(redis_server: RedisServer) -> None:
    """A new balance that would not count reservations is not made."""
    prefix = uuid4().hex
    store = open_store(redis_server.url(prefix), Clock())
    call = entry()
    await store.reserve(call, [], 100)
    with redis_server.client() as client:
        client.delete(f"{{{prefix}}}:open")
        for _ in range(2):
            with pytest.raises(StoreError, match="keys of it are missing"):
                await store.reserve(entry(), charges([DAILY], call), 1)
            await store.reserve(entry(), [], 1)  # does not hide that
    await store.close()


# ── a ledger of schema 1 ──


async def begin_old(server: RedisServer, prefix: str) -> tuple[Row, ...]:
    """Write a ledger as schema 1 had it, with calls that are posted, expired, voided and refused, and one pending."""
    store = open_store(server.url(prefix), Clock(), "expires")
    for number in range(9):
        call = entry(f"{number}", started_at_ms=NOON_MS - number * 5 * HOUR_MS)
        await store.reserve(call, charges([DAILY], call), 50)
        if number % 3:
            await end(store, call.id, ("posted", "voided")[number % 2], 7 * number)
    await store.record_refusal(entry("refused"), ["daily"], "spent")
    await store.close()
    with server.client() as client:
        other = open_store(server.url(prefix), Clock(), "dies")
        held = entry("held")
        await other.reserve(held, charges([DAILY], held), 11)
        rows = await other.rows()
        base = f"{{{prefix}}}:"
        for pattern in ("open", "day:*", "hour:*"):
            client.delete(*client.keys(base + pattern))
        client.hdel(base + "meta", "open")
        client.hset(base + "meta", "schema", "1")
        for key in client.keys(base + "row:*"):
            client.hdel(key, "billing")  # rows of before there was any
    with pytest.raises(StoreError):
        await other.close()
    return rows


@pytest.mark.parametrize("broken_off", [False, True])
async def test_a_ledger_of_schema_1_is_brought_up_to_date(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, broken_off: bool
) -> None:
    """Its rows and reservations are there as before, and a new cap counts all of them; also when a start was broken off
    in the middle of it, which nobody can use until the next start has gone on."""
    prefix = uuid4().hex
    rows = await begin_old(redis_server, prefix)
    url, meta = redis_server.url(prefix), f"{{{prefix}}}:meta"
    monkeypatch.setattr("llmcap_addon.budget.stores.redis_open.MIGRATED_ROWS", 4)
    with redis_server.client() as client:
        if broken_off:
            assert client.eval(scripts.script("migrate").body, 1, meta, "4") == len(rows) - 4
            assert client.hget(meta, "schema") == scripts.SCHEMA  # from now on older ones leave it alone
            wanted = f'{{"ledger":"{client.hget(meta, "id")}","owner":"o","lease_ms":1,"charges":[]}}'
            assert client.eval(scripts.script("balances").body, 1, meta, wanted) == ["moving"]
        store = open_store(url, Clock())
        assert client.hget(meta, "moved") is None
        assert client.eval(scripts.script("migrate").body, 1, meta, "4") == 0
    assert await store.rows() == rows
    whole = [
        Charge("new", f"new {match}", "", "ever:0", 0, None, 10_000, match) for match in ((), (("model", "gpt-*"),))
    ]
    part = Charge("part", "part", "", "span", NOON_MS - 20 * HOUR_MS, NOON_MS, 10_000)
    found = await store.balances([*whole, part])
    assert [(one.posted, one.pending) for one in found] == [expected(one, rows) for one in (*whole, part)]
    call = entry()
    assert isinstance(await store.reserve(call, [whole[0]], 10_001 - sum(expected(whole[0], rows))), Short)
    assert await store.settle("held", settlement(5))
    assert sum(one.posted for one in await store.balances(whole[:1])) == expected(whole[0], rows)[0] + 5
    await store.close()


def test_a_ledger_that_lost_rows_is_not_brought_up_to_date(redis_server: RedisServer) -> None:
    """What was spent can't be told, and nothing is written."""
    prefix = uuid4().hex
    run(begin_old(redis_server, prefix))
    with redis_server.client() as client:
        client.delete(f"{{{prefix}}}:row:4")
        before = dump(client, prefix)
        with pytest.raises(StoreError, match="keys of it are missing"):
            open_store(redis_server.url(prefix), Clock())
        assert dump(client, prefix) == before


def dump(client: redis.Redis, prefix: str) -> dict[str, object]:
    script = "return redis.sha1hex(redis.call('DUMP', KEYS[1]))"
    return {str(key): client.eval(script, 1, str(key)) for key in client.keys(f"{{{prefix}}}:*")}
