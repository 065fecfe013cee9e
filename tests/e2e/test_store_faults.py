"""When the ledger fails under a running proxy: refused, cut, told in red, and well again by itself."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from llmcap_addon import config as configs
from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.ledger import Balance
from llmcap_addon.budget.stores import open_store
from llmcap_addon.budget.stores.redis_scripts import SCHEMA
from llmcap_addon.budget.stores.sqlite_open import MIGRATIONS
from tests.budget.redis_server import RedisServer, running
from tests.e2e.calls import (
    CHAT,
    CHAT_STREAM,
    ELSEWHERE,
    GENERATE,
    GENERATE_STREAM_ELSEWHERE,
    MESSAGES,
    MESSAGES_STREAM,
    RESPONSES,
    RESPONSES_STREAM,
    SDK_ERRORS,
    Kind,
    message_of,
)
from tests.e2e.faults import KILLED, MOVED, OF_REDIS, OF_SQLITE, Fault, delete, write_schema
from tests.e2e.harness import poll
from tests.e2e.terminal import Watched
from tests.fakes.route import ROUTES_VARIABLE
from tests.fakes.script import Hold, Script
from tests.fakes.server import StandIn

CAPS = f"{{wait: 0s, caps: [{{name: purse, limit: 10, per: ever}}], {ELSEWHERE}}}"
ALLOWING = f"{{wait: 0s, on_error: allow, caps: [{{name: purse, limit: 10, per: ever}}], {ELSEWHERE}}}"

STORE_S = 2.0
"""How long either store may take for an operation."""
SLACK_S = 4.0
"""Beside it: what is left of the slice that was reserved (a second), and a busy machine."""

ENDLESS = Script(output_tokens=1_000_000, tokens_per_second=500)
"""A stream that lives from extension to extension."""

PAIRS = (
    (RESPONSES, MESSAGES_STREAM),
    (MESSAGES, GENERATE_STREAM_ELSEWHERE),
    (GENERATE, CHAT_STREAM),
    (CHAT, RESPONSES_STREAM),
)
"""(Refused, cut): every dialect meets some fault of each store."""


def cases() -> Iterator[Any]:
    """Each fault on the lean proxy, and one under mitmdump."""
    for faults in (OF_SQLITE, OF_REDIS):
        for fault, (refused, cut) in zip(faults, itertools.cycle(PAIRS), strict=False):
            yield pytest.param(faults is OF_REDIS, fault, refused, cut, "lean", id=f"{fault}-{refused.name}-{cut.name}")
    yield pytest.param(False, MOVED, CHAT, MESSAGES_STREAM, "mitmdump", id="moved-mitmdump")


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that keeps its data over a crash."""
    with running(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        yield server


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder with a path such as users have: the console shows it in full, and what is wrong behind it."""
    with TemporaryDirectory(dir="/tmp", prefix="llmcap-") as folder:
        yield Path(folder)


class House:
    """A proxy on a terminal, and its ledger."""

    def __init__(self, proxy: Watched, server: RedisServer) -> None:
        self.proxy = proxy
        self.server = server

    def balance(self) -> Balance:
        """Read how the cap stands."""

        async def read() -> Balance:
            store = open_store(self.proxy.store_url, lambda: time.time_ns() // 1_000_000)
            try:
                caps = configs.load(self.proxy.config_path).caps
                [balance] = await Budget(caps, store, lambda: time.time_ns() // 1_000_000, "UTC", "").balances()
                return balance
            finally:
                await store.close()

        return asyncio.run(read())

    def assert_red(self, fault: Fault) -> None:
        """The console shows what is wrong as its first line below the head, in red, at any width."""
        for columns in (80, 200):
            self.proxy.resize(columns)
            poll(
                partial(self._shows, fault, columns),
                f"{fault.told!r} in red in {columns} columns",
                lambda: "\n".join(self.proxy.screen()),
            )
            assert self.proxy.red().startswith("! ledger ")
        assert fault.advice in self.proxy.red()

    def _shows(self, fault: Fault, columns: int) -> bool:
        return self.proxy.columns() == columns and fault.told in self.proxy.red()

    def assert_well(self) -> None:
        """Nothing is shown in red any more."""
        poll(lambda: self.proxy.screen() and not self.proxy.red(), "the red line to go", self.proxy.red)


type Open = Callable[..., House]


@pytest.fixture
def open_house(stand_in: StandIn, short_folder: Path, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Start proxies on a terminal; each is stopped, and its log must tell of no crash."""
    opened: list[Watched] = []

    def start(caps: str, *, redis: bool, flavor: str = "lean", is_started: bool = True) -> House:
        options: dict[str, Any] = {}
        server = RedisServer(short_folder)
        if redis:
            server = request.getfixturevalue("own_server")
            routes = stand_in.routes | {"127.0.0.1": server.port}
            options = {"store_url": server.url(), "environment": {ROUTES_VARIABLE: json.dumps(routes)}}
        opened.append(Watched(short_folder / f"{len(opened)}", stand_in, caps, flavor=flavor, **options))
        if is_started:
            opened[-1].start()
        return House(opened[-1], server)

    yield start
    for proxy in opened:
        proxy.stop()
        proxy.assert_sound()


def assert_says(message: str, opening: str, fault: Fault) -> None:
    """It names whose trouble it is, the cause and the way out."""
    assert message.startswith(f"LLMCap: {opening}"), message
    assert "ledger " in message
    assert fault.told in message
    assert fault.advice in message


@pytest.mark.parametrize(("redis", "fault", "refused", "cut", "flavor"), list(cases()))
def test_a_ledger_that_fails_and_comes_back(
    open_house: Open, stand_in: StandIn, redis: bool, fault: Fault, refused: Kind, cut: Kind, flavor: str
) -> None:
    """Calls are refused and the stream that needs more is cut, in words; what needs nothing ends normally; the console
    is red while it lasts; then all goes on without a restart, and no call is missing from the ledger."""
    house = open_house(CAPS, redis=redis, flavor=flavor)
    proxy, server = house.proxy, house.server
    sdks = proxy.sdks(max_retries=0)
    CHAT(sdks)
    hold_stream, hold_head = Hold(), Hold()
    with ThreadPoolExecutor(2) as pool:
        stand_in.enqueue(Script(output_tokens=50, hold_stream=hold_stream, hold_after_tokens=20))
        short = CHAT_STREAM.stream(sdks, max_tokens=60)
        started = next(short)
        stand_in.enqueue(Script(output_tokens=30, hold_head=hold_head))
        whole = pool.submit(MESSAGES, proxy.sdks(max_retries=0), 40)
        assert hold_head.reached.wait(20)
        stand_in.enqueue(ENDLESS)
        long = cut.stream(proxy.sdks(max_retries=0), max_tokens=16_000)
        next(piece for piece in long if piece)
        before = len(stand_in.billable())
        assert not proxy.red()

        with fault.inflict(proxy, server):
            since_s = time.monotonic()
            with pytest.raises(SDK_ERRORS) as raised:
                for _ in long:
                    pass
            assert time.monotonic() - since_s < STORE_S + SLACK_S
            assert_says(message_of(raised.value), "stream cut, its reservation could not be extended: ", fault)
            with pytest.raises(SDK_ERRORS) as raised:
                refused(sdks)
            assert_says(message_of(raised.value), "refused, the ledger can't be used: ", fault)
            assert len(stand_in.billable()) == before
            hold_stream.release()
            hold_head.release()
            assert started + "".join(short) == " token" * 50
            assert whole.result() == " token" * 30
            house.assert_red(fault)

        assert CHAT(sdks) == " token" * 16
    house.assert_well()
    records = stand_in.seen_billable()
    rows = proxy.settled(len(records) + 1)
    assert [row.state for row in rows].count("refused") == 1
    assert not any("expired" in row.marks for row in rows)
    # What ended while nothing could be written is there to the nano-dollar.
    exact = [record.cost_nanousd for record in records if record.complete]
    assert sorted(row.cost for row in rows if row.state == "posted" and not row.marks) == sorted(exact)
    balance = house.balance()
    assert (balance.posted, balance.pending) == (sum(row.cost for row in rows), 0)
    assert balance.posted >= stand_in.billed_nanousd() > 0


@pytest.mark.parametrize(("redis", "fault"), [(False, MOVED), (True, KILLED)], ids=["sqlite", "redis"])
def test_who_chose_so_goes_on_without_a_ledger(open_house: Open, stand_in: StandIn, redis: bool, fault: Fault) -> None:
    """With `on_error: allow` calls pass, streams too, while it is red; they are marked, and posted when it is back."""
    house = open_house(ALLOWING, redis=redis)
    proxy = house.proxy
    sdks = proxy.sdks(max_retries=0)
    CHAT(sdks)
    hold = Hold()
    stand_in.enqueue(Script(output_tokens=2_000, hold_stream=hold, hold_after_tokens=1))
    begun = CHAT_STREAM.stream(sdks, max_tokens=16_000)
    first = next(piece for piece in begun if piece)
    with fault.inflict(proxy, house.server):
        assert MESSAGES(proxy.sdks(max_retries=0)) == " token" * 16
        stand_in.enqueue(Script(output_tokens=1_500))
        assert MESSAGES_STREAM(sdks, max_tokens=16_000) == " token" * 1_500
        hold.release()
        assert first + "".join(begun) == " token" * 2_000
        house.assert_red(fault)
        poll(lambda: sum("unreserved" in line for line in proxy.screen()) == 3, "three marked calls", proxy.screen)
    assert CHAT(sdks) == " token" * 16
    house.assert_well()
    rows = proxy.settled(5)
    assert sorted(row.entry.dialect for row in rows if "unreserved" in row.marks) == sorted(
        row.entry.dialect for row in rows if row.entry.dialect != "openai.chat" or row.entry.streamed
    )
    assert sorted(row.cost for row in rows) == sorted(record.cost_nanousd for record in stand_in.seen_billable())
    balance = house.balance()
    assert (balance.posted, balance.pending) == (stand_in.billed_nanousd(), 0)


@pytest.mark.parametrize("redis", [False, True], ids=["sqlite", "redis"])
def test_a_ledger_that_is_gone_for_good_takes_a_restart(open_house: Open, stand_in: StandIn, redis: bool) -> None:
    """Deleted or emptied, it is not begun anew in silence: calls are refused, and the message says what helps."""
    house = open_house(CAPS, redis=redis)
    proxy = house.proxy
    CHAT(proxy.sdks(max_retries=0))
    if redis:
        with house.server.client() as client:
            client.flushall()
    else:
        delete(proxy.store_path)
    told = "emptied or replaced while in use" if redis else "moved or replaced while in use"
    for _ in range(2):
        with pytest.raises(SDK_ERRORS, match=rf"{told}.*start LLMCap again"):
            CHAT(proxy.sdks(max_retries=0))
    poll(lambda: told in proxy.red(), "the trouble in red", proxy.screen)
    assert len(stand_in.billable()) == 1
    proxy.stop()
    proxy.start()
    assert CHAT(proxy.sdks(max_retries=0)) == " token" * 16
    assert not proxy.red()


@pytest.mark.parametrize("redis", [False, True], ids=["sqlite", "redis"])
def test_a_ledger_of_a_newer_llmcap_stops_the_start(open_house: Open, redis: bool) -> None:
    """It is left as it is, and the message says so; brought back to what this LLMCap knows, it is used again."""
    house = open_house(CAPS, redis=redis, is_started=False)
    proxy = house.proxy
    assert proxy.rows() == ()  # it is made by being read

    def write(version: str) -> None:
        if redis:
            with house.server.client() as client:
                client.hset("{test}:meta", "schema", version)
        else:
            write_schema(proxy.store_path, version)

    write("99")
    with pytest.raises(RuntimeError, match="written by a newer LLMCap"):
        proxy.start()
    proxy.stop()
    write(SCHEMA if redis else str(len(MIGRATIONS)))
    proxy.start()
    assert CHAT(proxy.sdks()) == " token" * 16


def test_a_redis_that_evicts_stops_the_start(open_house: Open) -> None:
    """A Redis that would throw away what was spent is refused, with the command that mends it."""
    house = open_house(CAPS, redis=True, is_started=False)
    with house.server.client() as client:
        client.config_set("maxmemory", 50_000_000)
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(RuntimeError, match="CONFIG SET maxmemory-policy noeviction"):
            house.proxy.start()
        house.proxy.stop()
        client.config_set("maxmemory-policy", "noeviction")
    house.proxy.start()
    assert CHAT(house.proxy.sdks()) == " token" * 16
