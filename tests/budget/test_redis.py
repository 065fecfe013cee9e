"""Redis: read from its URL, exact, one round trip an operation, and every failure of it says what to do."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from redis.exceptions import BusyLoadingError, MovedError, ResponseError

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import LEASE_MS, MAX_AMOUNT, Reserved, Short, Store
from llmcap_addon.budget.stores import open_store
from llmcap_addon.budget.stores.redis import MAX_CONNECTIONS, PAGE_ROWS
from llmcap_addon.budget.stores.redis_errors import explain
from llmcap_addon.budget.stores.redis_url import read_redis_url
from llmcap_addon.errors import ConfigError, StoreError
from tests.budget.redis_server import RedisServer, free_port, running
from tests.budget.samples import NOON_MS, Clock, charges, entry, settlement

ROOT = Path(__file__).parents[2]
DAILY = Cap("daily", 1_000, "day")
LOOK = "llmcap_addon.budget.stores.redis.LOOK_S"
LIMITS = "llmcap_addon.budget.stores.redis.OPERATION_S"


@pytest.fixture
def prefix() -> str:
    return uuid4().hex


@pytest.fixture
async def store(redis_server: RedisServer, prefix: str) -> AsyncIterator[Store]:
    async with opened(redis_server.url(prefix)) as one:
        yield one


@asynccontextmanager
async def opened(url: str, clock: Clock | None = None, owner: str = "") -> AsyncIterator[Store]:
    one = open_store(url, clock or Clock(), owner)
    try:
        yield one
    finally:
        await one.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill, pause and fill; its data survives a kill."""
    with running(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


async def fill(store: Store, cost: int = 7) -> None:
    call = entry()
    assert isinstance(await store.reserve(call, charges([DAILY], call), 10), Reserved)
    await store.settle(call.id, settlement(cost))


async def standing(store: Store, cap: Cap = DAILY) -> tuple[int, int]:
    balance = (await store.balances(charges([cap], entry())))[0]
    return balance.posted, balance.pending


# ── where it is ──


def test_url_says_everything() -> None:
    """User, password, port, database, TLS, certificates and prefix are read; as text it holds no password."""
    place = read_redis_url("rediss://me:p%40ss%23@ledger.example:7000/3?prefix=team-a&ca=/etc/ca.pem")
    assert (place.host, place.port, place.database, place.tls) == ("ledger.example", 7000, 3, True)
    assert (place.username, place.password, place.ca, place.prefix) == ("me", "p@ss#", Path("/etc/ca.pem"), "team-a")
    assert str(place) == "rediss://ledger.example:7000/3 ({team-a})"
    plain = read_redis_url("redis://[::1]")
    assert (plain.host, plain.port, plain.database, plain.username, plain.prefix) == ("::1", 6379, 0, None, "llmcap")
    assert read_redis_url("redis://:secret@h").password == "secret"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://", "no host"),
        ("redis:h", "no host"),
        ("redis://:secret@h:port", "an address that can't be read"),
        ("redis://:secret@h/db", '"db" for the number'),
        ("redis://:secret@h?prefx=a", 'the option "prefx"'),
        ("redis://:secret@h?prefix={a}", 'prefix "{a}"'),
        ("redis://:sec#ret@h", "a # in it|can't be read"),
        ("redis://:secret@h?ca=/x.pem", "which takes rediss://"),
        ("rediss://:secret@h?ca=x.pem", "an absolute path"),
    ],
)
def test_wrong_urls_are_explained(url: str, told: str) -> None:
    """A mistake is named, and the password beside it is not repeated."""
    with pytest.raises(ConfigError, match=told) as caught:
        open_store(url, Clock())
    assert "allowed: redis://" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is an extra; without it the message names the extra."""
    monkeypatch.delitem(sys.modules, "llmcap_addon.budget.stores.redis")
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"pip install 'llmcap-addon\[redis\]'"):
        open_store("redis://127.0.0.1", Clock())


async def test_prefixes_are_ledgers_apart_in_one_slot_each(redis_server: RedisServer, prefix: str) -> None:
    """Another prefix is another ledger, and every key begins with it in braces: one slot of a cluster."""
    async with opened(redis_server.url(prefix)) as one, opened(redis_server.url(f"{prefix}-b")) as other:
        await fill(one)
        await one.record_refusal(entry(), ["daily"], "spent")
        await one.reserve(entry(), [], 5)
        assert await standing(other) == (0, 0)
    with redis_server.client() as client:
        keys = {key for key in client.scan_iter() if prefix in key}
    assert all(key.startswith((f"{{{prefix}}}:", f"{{{prefix}-b}}:")) for key in keys)


# ── how it counts ──


async def test_one_round_trip_an_operation(redis_server: RedisServer, store: Store, prefix: str) -> None:
    """Every operation is one EVALSHA, also one that sees a cap for the first time; nothing else is sent."""
    names = ("cmdstat_evalsha", "cmdstat_eval")
    await fill(store)
    await store.extend("nobody", [], 2, 1)
    call = entry()

    async def counted(work: Any) -> int:
        with redis_server.client() as client:
            before = client.info("commandstats")
            await work
            after = client.info("commandstats")
        return sum(after.get(name, {}).get("calls", 0) - before.get(name, {}).get("calls", 0) for name in names)

    caps = [DAILY, Cap("new", 100, "ever")]
    assert await counted(store.reserve(call, charges(caps, call), 10)) == 1
    assert await counted(store.extend(call.id, charges([*caps, Cap("newer", 100, "day")], call), 5, 1)) == 1
    assert await counted(store.balances(charges(caps, call))) <= 2  # its first use sends the script's text
    assert await counted(store.settle(call.id, settlement(3))) == 1


async def test_scripts_that_redis_forgot_are_sent_again(redis_server: RedisServer, store: Store) -> None:
    """After SCRIPT FLUSH (a restart, a failover) operations go on."""
    await fill(store)
    with redis_server.client() as client:
        client.script_flush()
    await fill(store)
    assert await standing(store) == (14, 0)


async def test_sums_beyond_doubles_are_exact(store: Store) -> None:
    """Amounts are 64-bit integers in Redis; a balance made from the rows is as exact as one that was kept."""
    for cost in (MAX_AMOUNT, MAX_AMOUNT, 1, 2):
        call = entry()
        await store.post(call, charges([DAILY], call), settlement(cost))
    assert await standing(store) == (2 * MAX_AMOUNT + 3, 0)
    assert await standing(store, Cap("other", 5, "ever")) == (2 * MAX_AMOUNT + 3, 0)
    call = entry()
    assert isinstance(await store.reserve(call, charges([DAILY, Cap("other", 2**60, "ever")], call), 1), Short)


async def test_the_last_nanodollar_of_the_highest_limit(store: Store) -> None:
    """At $9 million a cap still fills exactly; a limit above that holds there."""
    for limit in (MAX_AMOUNT, 10 * MAX_AMOUNT):
        cap = Cap(f"most {limit}", limit, "ever", (("model", str(limit)),))
        first, second, third = (entry(model=str(limit)) for _ in range(3))
        assert isinstance(await store.reserve(first, charges([cap], first), MAX_AMOUNT - 1), Reserved)
        assert isinstance(await store.reserve(second, charges([cap], second), 2), Short)
        assert isinstance(await store.reserve(second, charges([cap], second), 1), Reserved)
        assert isinstance(await store.reserve(third, charges([cap], third), 1), Short)


async def test_rows_come_in_pages(store: Store) -> None:
    """More rows than one script reads come whole and in order, from any of them on."""
    calls = [entry(f"{number:05}", started_at_ms=NOON_MS + number // 3) for number in range(PAGE_ROWS * 2 + 1)]
    for call in calls:
        await store.record_refusal(call, [], "")
    assert [row.entry.id for row in await store.rows()] == [call.id for call in calls]
    assert len(await store.rows(NOON_MS + 1)) == len(calls) - 3
    assert [row.entry.id for row in await store.rows(limit=PAGE_ROWS + 1)] == [
        call.id for call in calls[-PAGE_ROWS - 1 :]
    ]


async def test_many_at_once_share_few_connections(redis_server: RedisServer, store: Store) -> None:
    """Hundreds of operations at once wait for the connections there are, and all are done."""
    calls = [entry() for _ in range(300)]
    outcomes = await asyncio.gather(*(store.reserve(call, charges([DAILY], call), 10) for call in calls))
    assert sum(isinstance(outcome, Reserved) for outcome in outcomes) == 100
    with redis_server.client() as client:
        assert len(client.client_list()) <= MAX_CONNECTIONS + 5


# ── processes that die ──

_VICTIM = """
import asyncio, sys
from llmcap_addon.budget.stores import open_store
from tests.budget.samples import Clock, charges, entry, settlement
from tests.budget.test_redis import DAILY

async def main():
    store = open_store(sys.argv[1], Clock(), "victim")
    for number, cost in enumerate((100, 20, None)):
        call = entry(f"victim-{number}")
        await store.reserve(call, charges([DAILY], call), 300)
        if cost is not None:
            await store.settle(call.id, settlement(cost))
    await store.extend(call.id, [], 11, 1)
    print("holding", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


@contextmanager
def victim(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has posted 120 and holds 311."""
    process = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, url], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_killed_process_is_posted_in_full_when_its_lease_is_over(redis_server: RedisServer, prefix: str) -> None:
    """After kill -9 what a process held stays held until its lease is over by the clock of Redis, then is posted."""
    url = redis_server.url(prefix)
    with victim(url) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    clock = Clock(NOON_MS + 100 * LEASE_MS)  # a machine whose clock is ahead expires nobody too early
    async with opened(url, clock) as store:
        assert await store.heartbeat(clock()) == 0
        assert await standing(store) == (120, 311)
        with redis_server.client() as client:
            seconds, micros = client.time()
            now_ms = seconds * 1000 + micros // 1000
            assert now_ms + LEASE_MS // 2 < float(client.zscore(f"{{{prefix}}}:owners", "victim") or 0)
            client.zadd(f"{{{prefix}}}:owners", {"victim": now_ms - 1})
        assert await store.heartbeat(clock()) == 1
        assert await store.heartbeat(clock()) == 0
        assert await standing(store) == (431, 0)
        row = (await store.rows())[-1]
        assert (row.entry.id, row.state, row.cost, row.settled_at_ms) == ("victim-2", "posted", 311, clock())
        assert row.marks == {"expired", "estimated"}


async def test_when_redis_was_away_the_living_get_time_to_come_back(redis_server: RedisServer, prefix: str) -> None:
    """After an outage longer than a lease nobody's reservations expire at the first heartbeat of another."""
    url = redis_server.url(prefix)
    async with opened(url, owner="one") as one, opened(url, owner="two") as two:
        call = entry()
        await one.reserve(call, charges([DAILY], call), 300)
        with redis_server.client() as client:
            client.zadd(f"{{{prefix}}}:owners", {"one": 1, "two": 1})
            client.hset(f"{{{prefix}}}:meta", "beat", 1)
        assert await two.heartbeat(NOON_MS) == 0
        assert await one.heartbeat(NOON_MS) == 0
        assert await one.settle(call.id, settlement(5))
        with redis_server.client() as client:  # … and no longer than that
            await one.reserve(entry(), charges([DAILY], call), 300)
            client.zadd(f"{{{prefix}}}:owners", {"one": 1})
            client.hset(f"{{{prefix}}}:meta", "grace", 1)
        assert await two.heartbeat(NOON_MS) == 1
        assert await standing(two) == (305, 0)


async def test_owner_names_are_not_shared(redis_server: RedisServer, prefix: str) -> None:
    """Two open stores by one name would expire each other's calls: the second is refused."""
    url = redis_server.url(prefix)
    async with opened(url, owner="proxy-1"):
        with pytest.raises(StoreError, match="proxy-1 is in use"):
            open_store(url, Clock(), "proxy-1")
    async with opened(url, owner="proxy-1") as store:
        await fill(store)
    with pytest.raises(StoreError, match="it is closed"):
        await fill(store)


# ── a Redis that fails, and comes back ──


async def test_killed_redis_refuses_and_goes_on_when_it_is_back(own_server: RedisServer) -> None:
    """While Redis is gone every operation says so; when it is back with its append-only file nothing is missing."""
    async with opened(own_server.url()) as store:
        call = entry()
        await fill(store)
        await store.reserve(call, charges([DAILY], call), 30)
        own_server.kill()
        with pytest.raises(StoreError, match=r"ledger redis://127.*: it can't be reached; see that Redis runs there"):
            await store.reserve(entry(), [], 1)
        with pytest.raises(StoreError, match="can't be reached"):
            await store.settle(call.id, settlement(20))
        with pytest.raises(StoreError, match="can't be reached"):
            await store.heartbeat(NOON_MS)
        own_server.start()
        assert await store.settle(call.id, settlement(20))
        assert await store.heartbeat(NOON_MS) == 0
        assert await standing(store) == (27, 0)
        assert len(await store.rows()) == 2
    own_server.kill()
    with pytest.raises(StoreError, match="can't be reached; see that Redis runs there, then start LLMCap again"):
        open_store(own_server.url(), Clock())


async def test_redis_that_lost_its_data_takes_no_more_money(own_server: RedisServer) -> None:
    """A Redis that was emptied (or came back without its data) would allow every cap once more: it is refused."""
    async with opened(own_server.url()) as store:
        await fill(store)
        with own_server.client() as client:
            client.flushall()
        with pytest.raises(StoreError, match="emptied or replaced while in use; restore it, or start LLMCap again"):
            await fill(store)
        async with opened(own_server.url()) as anew:  # a start is the user's word that it is meant
            await fill(anew)
        with pytest.raises(StoreError, match="emptied or replaced"):
            await fill(store)
        with pytest.raises(StoreError, match="emptied or replaced"):
            await store.close()


async def test_paused_redis_is_given_up_in_time_and_nothing_stays_reserved(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that hangs fails each call after the time limit; reservations that it makes later are undone."""
    monkeypatch.setattr(LIMITS, 0.3)
    async with opened(own_server.url()) as store:
        await fill(store)
        calls = [entry() for _ in range(5)]
        loop = asyncio.get_running_loop()
        with own_server.paused():
            begun_s = loop.time()
            outcomes = await asyncio.gather(
                *(store.reserve(call, charges([DAILY], call), 100) for call in calls), return_exceptions=True
            )
            assert all("no answer within" in str(outcome) for outcome in outcomes)
            assert loop.time() - begun_s < 2
        assert await store.heartbeat(NOON_MS) == 0
        assert await standing(store) == (7, 0)
        # And one that arrives only now (it was on its way all the time) is not let in.
        with pytest.raises(ValueError, match="has ended before: undone"):
            await store.reserve(calls[0], charges([DAILY], calls[0]), 100)
        assert await standing(store) == (7, 0)
        assert len(await store.rows()) == 1
        # What becomes of the call under its id is still written.
        await store.record_refusal(calls[0], [], "store")
        assert await store.post(calls[1], charges([DAILY], calls[1]), settlement(50))
        assert await standing(store) == (57, 0)
        assert [row.state for row in await store.rows()] == ["posted", "refused", "posted"]


async def test_reservation_whose_answer_was_lost_is_undone(
    redis_server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reservation that Redis made but nobody heard of leaves no money and no row behind."""
    async with opened(redis_server.url(prefix)) as store:
        call = entry()
        await store.reserve(call, charges([DAILY], call), 100)
        monkeypatch.setattr(LIMITS, 0.0)
        with pytest.raises(StoreError):
            await store.reserve(call, charges([DAILY], call), 100)
        monkeypatch.undo()
        assert await store.heartbeat(NOON_MS) == 0
        assert await standing(store) == (0, 0)
        assert await store.rows() == ()


async def test_full_redis_refuses_calls_and_takes_settlements(own_server: RedisServer) -> None:
    """At maxmemory calls are refused and nothing is half written; what was spent and leases get in all the same."""
    async with opened(own_server.url()) as store:
        call, other, job = entry(), entry(), entry()
        for one in (call, other, job):
            await store.reserve(one, charges([DAILY], one), 100)
        with own_server.client() as client:
            client.config_set("maxmemory", 100_000)
            for work in (
                store.reserve(entry(), charges([DAILY, Cap("new", 9, "ever")], call), 10),
                store.extend(call.id, charges([DAILY], call), 10, 1),
                store.record_refusal(entry(), ["daily"], "spent"),
            ):
                with pytest.raises(StoreError, match=r"its memory is full \(maxmemory\); give it more"):
                    await work
            assert await standing(store) == (0, 300)
            assert await store.settle(call.id, settlement(60))
            assert await store.void(other.id, NOON_MS, 503, "overloaded")
            await store.remember("job", "note", NOON_MS + LEASE_MS)
            assert await store.recall("job", NOON_MS) == "note"
            assert await store.defer(job.id, NOON_MS + LEASE_MS)
            assert await store.heartbeat(NOON_MS) == 0
            assert await standing(store) == (60, 100)
            assert {row.state for row in await store.rows()} == {"posted", "voided", "pending"}
            assert await store.settle(job.id, settlement(0))
            client.config_set("maxmemory", 0)
        await fill(store)
        assert await standing(store) == (67, 0)


def test_redis_that_evicts_is_refused(own_server: RedisServer) -> None:
    """With an eviction policy Redis would forget what was spent just when it is busy."""
    with own_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        asyncio.run(open_store(own_server.url(), Clock()).close())  # it has no limit, so it never evicts
        client.config_set("maxmemory", 10_000_000)
        with pytest.raises(StoreError, match=r"maxmemory-policy allkeys-lru.*CONFIG SET maxmemory-policy noeviction"):
            open_store(own_server.url(), Clock())


async def test_redis_that_begins_to_evict_takes_no_more_calls(own_server: RedisServer) -> None:
    """An eviction policy switched on meanwhile is seen by the next heartbeat and by admissions themselves; what was
    spent still gets in, and when it is switched off all goes on."""
    told = r"it evicts keys .*maxmemory-policy allkeys-lru.*CONFIG SET maxmemory-policy noeviction"
    async with opened(own_server.url()) as store:
        call, other = entry(), entry()
        for one in (call, other):
            await store.reserve(one, charges([DAILY], one), 100)
        with own_server.client() as client:
            client.config_set("maxmemory", 50_000_000)
            client.config_set("maxmemory-policy", "allkeys-lru")
            with pytest.raises(StoreError, match=told):
                await store.heartbeat(NOON_MS)
            for _ in range(2):
                refused = await asyncio.gather(
                    *(store.reserve(entry(), charges([DAILY], call), 10) for _ in range(3)),
                    store.extend(call.id, charges([DAILY], call), 10, 1),
                    return_exceptions=True,
                )
                assert [type(one) for one in refused] == [StoreError] * 4
                assert all("it evicts keys" in str(one) for one in refused)
            assert await store.settle(call.id, settlement(60))
            assert await store.void(other.id, NOON_MS, 503, "overloaded")
            assert await standing(store) == (60, 0)
            client.config_set("maxmemory-policy", "noeviction")
        await fill(store)  # at once
        assert await store.heartbeat(NOON_MS) == 0
        assert await standing(store) == (67, 0)


async def test_admissions_look_by_themselves(own_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between heartbeats too: within a second an admission has Redis look."""
    monkeypatch.setattr(LOOK, 0.0)
    async with opened(own_server.url()) as store:
        await fill(store)
        with own_server.client() as client:
            client.config_set("maxmemory-policy", "volatile-ttl")
            await fill(store)  # without a limit nothing is ever evicted
            client.config_set("maxmemory", 50_000_000)
            with pytest.raises(StoreError, match="it evicts keys"):
                await fill(store)
            client.config_set("maxmemory", 0)
        await fill(store)


@pytest.mark.parametrize("meanwhile", [False, True])
async def test_a_balance_that_was_thrown_away_is_made_again(
    redis_server: RedisServer, prefix: str, meanwhile: bool
) -> None:
    """What was spent and is reserved still counts when the balance's key is gone, also if calls have ended since."""
    caps = [DAILY, Cap("codex", 900, "ever", (("client", "codex"),))]
    async with opened(redis_server.url(prefix)) as store:
        call, other = entry(), entry(client="other")
        await fill(store, 500)
        for one in (call, other):
            assert isinstance(await store.reserve(one, charges(caps, one), 200), Reserved)
        with redis_server.client() as client:
            client.delete(*client.keys(f"{{{prefix}}}:balance:*"))
            if meanwhile:
                assert await store.settle(call.id, settlement(150))
                assert isinstance(
                    await store.reserve(entry(), [], 10), Reserved
                )  # counts in neither, for nobody asks for them
            held = 850 if meanwhile else 900
            late = entry()
            assert isinstance(await store.reserve(late, charges([DAILY], late), 1_001 - held - 10 * meanwhile), Short)
            posted, pending = await standing(store)
            assert posted + pending == held + 10 * meanwhile
        if not meanwhile:
            assert await store.settle(call.id, settlement(150))
        assert await store.settle(other.id, settlement(200))
        codex = caps[1]
        assert await standing(store) == (850, 10 * meanwhile)
        assert await standing(store, codex) == (650, 10 * meanwhile)
        assert [balance.posted for balance in await store.seen(codex.key, "ever:0")] in ([650], [])


@pytest.mark.parametrize("gone", ["rows", "row", "live", "charged"])
async def test_a_ledger_whose_rows_were_thrown_away_takes_no_more_money(
    redis_server: RedisServer, prefix: str, gone: str
) -> None:
    """Where it can't be told any more what was spent, it is refused, at the next start too; nothing counts as 0."""
    told = r"keys of it are missing, evicted or deleted.*restore it from a backup, or begin a new one: add \?prefix="
    caps = [DAILY, Cap("run", 1_000, "run")]
    async with opened(redis_server.url(prefix)) as store:
        call = entry()
        await fill(store, 500)
        await store.reserve(call, charges(caps, call), 100)
        with redis_server.client() as client:
            base = f"{{{prefix}}}:"
            key = {"rows": "rows", "row": f"row:{call.id}", "live": "live:", "charged": f"charged:{call.id}"}[gone]
            assert client.delete(base + key) == 1
        late = entry()
        new = charges([*caps, Cap("new", 5_000, "ever")], late)
        touching: Any = store.settle(call.id, settlement(50)) if gone == "charged" else store.reserve(late, new, 100)
        with pytest.raises(StoreError, match=told):
            await touching
        if gone == "row":
            for work in (store.settle(call.id, settlement(50)), store.extend(call.id, new, 5, 1), store.rows()):
                with pytest.raises(StoreError, match=told):
                    await work
        if gone == "charged":  # a balance made from the rows must not begin its list anew, without the others
            await store.reserve(late, new, 100)
            with pytest.raises(StoreError, match=told):
                await store.settle(call.id, settlement(50))
            assert await standing(store) == (500, 200)
            return
        assert await standing(store) == (500, 100)  # what it held stays reserved


async def test_a_ledger_whose_first_key_was_thrown_away_is_not_begun_anew(
    redis_server: RedisServer, prefix: str
) -> None:
    """Without the key that names it, but with others of it there, neither a running LLMCap nor a start takes money."""
    store = open_store(redis_server.url(prefix), Clock())
    await fill(store)
    with redis_server.client() as client:
        client.delete(f"{{{prefix}}}:meta")
    with pytest.raises(StoreError, match="emptied or replaced"):
        await fill(store)
    with pytest.raises(StoreError, match="keys of it are missing"):
        open_store(redis_server.url(prefix), Clock())
    with pytest.raises(StoreError, match="emptied or replaced"):
        await store.close()


@pytest.mark.parametrize("policy", ["allkeys-random", "allkeys-lru", "allkeys-lfu"])
async def test_no_cap_is_passed_while_redis_evicts(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    """Also when nobody looks: whatever keys a full Redis throws away, more than the limit is never given out."""
    monkeypatch.setattr(LOOK, 1e9)
    cap = Cap("purse", 1_000, "ever")
    store = open_store(own_server.url(), Clock())
    spent = 0

    async def spend(count: int) -> None:
        nonlocal spent
        for _ in range(count):
            call = entry(model="m" * 500)
            if isinstance(await store.reserve(call, charges([cap], call), 1), Short):
                return
            spent += 1
            with suppress(StoreError):
                await store.settle(call.id, settlement(1))

    await spend(500)
    with own_server.client() as client:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 20_000)
        client.config_set("maxmemory-policy", policy)
        for _ in range(1_500):
            with suppress(StoreError):
                await spend(1)
        assert client.info("stats")["evicted_keys"] > 0
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
    with suppress(StoreError):
        await spend(1_001)
    assert spent <= 1_000
    with suppress(StoreError):
        await store.close()


async def test_one_trouble_is_told_in_one_way(own_server: RedisServer) -> None:
    """A full Redis is the same line for every operation: no script's digest is in it."""
    async with opened(own_server.url()) as store:
        call = entry()
        await store.reserve(call, charges([DAILY], call), 100)
        with own_server.client() as client:
            client.config_set("maxmemory", 100_000)
            outcomes = await asyncio.gather(
                store.reserve(entry(), [], 10),
                store.extend(call.id, [], 10, 1),
                store.record_refusal(entry(), ["daily"], "spent"),
                return_exceptions=True,
            )
            client.config_set("maxmemory", 0)
        assert len({str(outcome) for outcome in outcomes}) == 1
        assert "script" not in str(outcomes[0])


def test_redis_without_append_only_file_is_told_once(
    redis_server: RedisServer, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A Redis that forgets everything at a restart is used, but not in silence."""
    with caplog.at_level(logging.WARNING):
        asyncio.run(open_store(redis_server.url(prefix), Clock()).close())
    (record,) = caplog.records
    assert "it keeps no append-only file: a restart may forget what was spent" in record.getMessage()


async def test_replica_is_refused(own_server: RedisServer) -> None:
    """A Redis that becomes a replica takes no writes, and the message says where to go."""
    async with opened(own_server.url()) as store:
        with own_server.client() as client:
            client.replicaof("127.0.0.1", "1")
            with pytest.raises(StoreError, match="it is a read-only replica; name the primary"):
                await fill(store)
            with pytest.raises(StoreError, match="it is a read-only replica"):
                open_store(own_server.url(), Clock())
            client.replicaof("NO", "ONE")
        await fill(store)


async def test_keys_of_another_program(redis_server: RedisServer, prefix: str) -> None:
    """What is not ours is left as it is, and the message names another prefix as the way out."""
    with redis_server.client() as client:
        client.set(f"{{{prefix}}}:meta", "theirs")
        with pytest.raises(StoreError, match="keys of another program"):
            open_store(redis_server.url(prefix), Clock())
        assert client.get(f"{{{prefix}}}:meta") == "theirs"
        client.delete(f"{{{prefix}}}:meta")
        async with opened(redis_server.url(prefix)) as store:
            client.set(f"{{{prefix}}}:rows", "theirs")
            with pytest.raises(StoreError, match=r"keys of another program .*add \?prefix="):
                await store.rows()
            client.delete(f"{{{prefix}}}:rows")


async def test_newer_schema(redis_server: RedisServer, prefix: str) -> None:
    """A ledger that a newer LLMCap has changed is not touched, at the start or in mid-flight."""
    told = r"newer LLMCap \(schema 3, this one knows 2\); upgrade"
    async with opened(redis_server.url(prefix)) as store:
        with redis_server.client() as client:
            client.hset(f"{{{prefix}}}:meta", "schema", "3")
            with pytest.raises(StoreError, match=told):
                await fill(store)
            with pytest.raises(StoreError, match=told):
                open_store(redis_server.url(prefix), Clock())
            client.hset(f"{{{prefix}}}:meta", "schema", "2")
        await fill(store)


async def test_node_of_a_cluster(tmp_path: Path) -> None:
    """One hash tag keeps all keys in one slot, so that a cluster's node runs the scripts; others say where to go."""
    with (
        running(tmp_path, "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server,
        server.client() as client,
    ):
        with pytest.raises(StoreError, match="its cluster is down"):
            open_store(server.url(), Clock())
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        server.wait_until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        async with opened(server.url()) as store:
            await fill(store)
            call = entry()
            await store.reserve(call, charges([DAILY, Cap("run", 100, "run"), Cap("new", 50, "ever")], call), 10)
            assert await store.settle(call.id, settlement(5))
            assert await standing(store) == (12, 0)
            assert len(await store.rows()) == 2


# ── who may use it ──

RIGHTS = [
    "+@connection",
    "+@scripting",
    "+@hash",
    "+@sortedset",
    "+@set",
    "+@string",
    "+@keyspace",
    "+time",
    "-@dangerous",
]
"""README names them."""


@pytest.mark.parametrize("may_ask", [True, False])
async def test_user_with_few_rights(
    redis_server: RedisServer, prefix: str, caplog: pytest.LogCaptureFixture, may_ask: bool
) -> None:
    """A user who may do no more than README says can keep the ledger; without INFO it is said that nobody looked."""
    with redis_server.client() as client:
        rights = " ".join([*RIGHTS, *(["+info"] if may_ask else [])])
        client.execute_command("ACL", "SETUSER", prefix, "on", ">pass word", f"~{{{prefix}}}:*", *rights.split())
    with caplog.at_level(logging.WARNING):
        async with opened(redis_server.url(prefix, login=f"{prefix}:pass%20word@")) as store:
            await fill(store)
            call = entry()
            await store.reserve(call, charges([DAILY, Cap("new", 100, "day")], call), 10)
            await store.void(call.id, NOON_MS, 0, "")
            await store.record_refusal(entry(), [], "")
            assert await store.heartbeat(NOON_MS) == 0
            assert (len(await store.rows()), await standing(store)) == (3, (7, 0))
    assert ("may not ask INFO" in caplog.text) is not may_ask
    with pytest.raises(StoreError, match="its user may not do this; see README"):
        open_store(redis_server.url("other", login=f"{prefix}:pass%20word@"), Clock())
    assert "pass" not in caplog.text


def test_wrong_password(redis_server: RedisServer) -> None:
    """A wrong password is told as that, and not repeated; so is one that is missing."""
    with pytest.raises(StoreError, match="does not know this user and password") as caught:
        open_store(redis_server.url(login="me:secret@"), Clock())
    assert "secret" not in str(caught.value)


async def test_missing_password(own_server: RedisServer) -> None:
    """A server with a password says that it wants one; with it all is well."""
    with own_server.client() as client:
        client.config_set("requirepass", "secret")
    with pytest.raises(StoreError, match="it wants a password; write it in store:"):
        open_store(own_server.url(), Clock())
    async with opened(own_server.url(login=":secret@")) as store:
        await fill(store)


async def test_tls_is_checked_against_the_named_authority(tmp_path: Path) -> None:
    """rediss:// with `ca=` works; without it a certificate of one's own is not trusted, and the message says so."""
    certificate, key = self_signed(tmp_path)
    tls = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients", "no")
    with running(tmp_path, *tls, tls=True) as server:
        url = f"rediss://localhost:{server.port}"
        async with opened(f"{url}?ca={certificate}") as store:
            await fill(store)
        with pytest.raises(StoreError, match="TLS failed; see that it is rediss:// and that ca= names"):
            open_store(url, Clock())
        with pytest.raises(StoreError, match="ledger redis://localhost"):
            open_store(url.replace("rediss", "redis"), Clock())
        with pytest.raises(StoreError, match=r"TLS failed|can't be reached"):
            open_store(f"{url}?ca={tmp_path}/nowhere.pem", Clock())


def self_signed(folder: Path) -> tuple[Path, Path]:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = folder / "redis.crt", folder / "redis.key"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return files


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (BusyLoadingError("Redis is loading the dataset in memory"), "reading its data after a start"),
        (MovedError("3999 127.0.0.1:6381"), "this node of the cluster does not hold"),
        (ResponseError("MISCONF Redis is configured to save RDB snapshots"), "it can't save to its disk"),
        (ResponseError("BUSY Redis is busy running a script"), "busy with a script"),
        (ResponseError("CLUSTERDOWN Hash slot not served"), "its cluster is down"),
        (ResponseError("Error running script: @user_script:1: -OOM command not allowed"), "its memory is full"),
        (ResponseError("unknown command 'EVALSHA'"), "Redis 6.2 or newer"),
    ],
)
def test_what_redis_answers_is_put_in_words(error: Exception, told: str) -> None:
    """Failures that a test can't easily bring about become advice too."""
    message = str(explain(error, read_redis_url("redis://:secret@h")))
    assert message.startswith("ledger redis://h:6379/0 ({llmcap}): ")
    assert told in message
