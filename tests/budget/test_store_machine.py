"""Any sequence of operations by two processes leaves a store as the naive model says."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import Entry, Reserved, Store
from llmcap_addon.budget.stores import open_store
from tests.budget.model import Model
from tests.budget.redis_server import RedisServer
from tests.budget.samples import NOON_MS, Clock, charges, entry, settlement

CAPS = (
    Cap("daily", 100, "day"),
    Cap("minute", 60, "minute"),
    Cap("gpt", 70, "ever", (("model", "gpt-*"), ("model", "o3"))),
    Cap("each", 50, "day", each=("model",)),
    Cap("run", 80, "run", (("client", "codex"),)),
    Cap("none", 0, "ever", (("model", "grok"),)),
)
KEYS = st.sampled_from(["job|a|1", "job|a|2", "file|b|1"])
LATER_MS = st.integers(0, 3).map(lambda minutes: 60_000 * minutes)
"""Redis drops notes by its own clock too: no example takes a minute."""
AMOUNTS = st.integers(1, 60)
SOME_CAPS = st.lists(st.sampled_from(CAPS), unique=True)
CALLS = st.builds(
    lambda model, client, run, later_ms: entry(model=model, client=client, run=run, started_at_ms=NOON_MS + later_ms),
    st.sampled_from(["gpt-4o", "o3", "claude-opus-4-5", "grok"]),
    st.sampled_from(["codex", "claude-code"]),
    st.sampled_from(["run-1", "run-2"]),
    st.sampled_from([0, 30_000, 60_000, 86_400_000]),
)


class StoreMachine(RuleBasedStateMachine):
    """Two stores over one ledger, beside the model."""

    calls: Bundle[Entry] = Bundle("calls")

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.model = Model()
        self.opened = 0
        self.url = self._url()
        self.stores: list[Store] = [self._open(), self._open()]
        self.names = ["0", "1"]
        self.notes: dict[str, tuple[str, int]] = {}

    def teardown(self) -> None:
        for store in self.stores:
            self.loop.run_until_complete(store.close())
        self.loop.close()
        self.folder.cleanup()

    def _url(self) -> str:
        return f"sqlite://{Path(self.folder.name)}/ledger.sqlite"

    def _open(self) -> Store:
        return open_store(self.url, self.clock)

    def _run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    @rule(target=calls, which=st.integers(0, 1), call=CALLS, caps=SOME_CAPS, amount=AMOUNTS)
    def reserve(self, which: int, call: Entry, caps: list[Cap], amount: int) -> Entry:
        held = charges(caps, call)
        outcome = self._run(self.stores[which].reserve(call, held, amount))
        assert outcome == self.model.reserve(self.names[which], call, held, amount)
        if isinstance(outcome, Reserved):
            assert all(one.posted + one.pending <= one.charge.limit for one in outcome.balances)
        return call

    @rule(which=st.integers(0, 1), call=calls, caps=SOME_CAPS, amount=AMOUNTS, at_least=AMOUNTS)
    def extend(self, which: int, call: Entry, caps: list[Cap], amount: int, at_least: int) -> None:
        held = charges(caps, call)
        least = min(amount, at_least)
        granted = self._run(self.stores[which].extend(call.id, held, amount, least))
        assert granted == self.model.extend(call.id, held, amount, least)
        if granted:
            for one in self._run(self.stores[which].balances(held)):
                assert one.posted + one.pending <= one.charge.limit

    @rule(which=st.integers(0, 1), call=calls, cost=st.integers(0, 90))
    def settle(self, which: int, call: Entry, cost: int) -> None:
        ended = settlement(cost)
        assert self._run(self.stores[which].settle(call.id, ended)) == self.model.settle(call.id, ended)

    @rule(target=calls, which=st.integers(0, 1), call=CALLS, caps=SOME_CAPS, cost=st.integers(0, 90))
    def post(self, which: int, call: Entry, caps: list[Cap], cost: int) -> Entry:
        ended = settlement(cost)
        posted = self._run(self.stores[which].post(call, charges(caps, call), ended))
        assert posted == self.model.post(self.names[which], call, ended)
        return call

    @rule(which=st.integers(0, 1), call=calls)
    def void(self, which: int, call: Entry) -> None:
        assert self._run(self.stores[which].void(call.id, NOON_MS, 0, "")) == self.model.void(call.id)

    @rule(target=calls, which=st.integers(0, 1), call=CALLS)
    def refuse(self, which: int, call: Entry) -> Entry:
        self._run(self.stores[which].record_refusal(call, ["daily"], "spent"))
        self.model.refuse(self.names[which], call)
        return call

    @rule(which=st.integers(0, 1))
    def restart(self, which: int) -> None:
        self._run(self.stores[which].close())
        self.model.expire(self.names[which])
        self.stores[which] = self._open()
        self.model.expire_due(self.clock())
        self.opened += 1
        self.names[which] = f"restart {self.opened}"

    @rule(which=st.integers(0, 1), call=calls, later_ms=LATER_MS)
    def defer(self, which: int, call: Entry, later_ms: int) -> None:
        until_ms = self.clock() + later_ms
        assert self._run(self.stores[which].defer(call.id, until_ms)) == self.model.defer(call.id, until_ms)

    @rule(which=st.integers(0, 1), later_ms=LATER_MS)
    def beat(self, which: int, later_ms: int) -> None:
        self.clock.now_ms += later_ms
        assert self._run(self.stores[which].heartbeat(self.clock())) == self.model.expire_due(self.clock())

    @rule(which=st.integers(0, 1), key=KEYS, value=st.text(max_size=9), later_ms=LATER_MS | st.just(-1))
    def remember(self, which: int, key: str, value: str, later_ms: int) -> None:
        self._run(self.stores[which].remember(key, value, self.clock() + later_ms))
        self.notes[key] = value, self.clock() + later_ms

    @rule(which=st.integers(0, 1), key=KEYS)
    def recall(self, which: int, key: str) -> None:
        value, until_ms = self.notes.get(key, ("", 0))
        expected = value.encode("utf-8", "replace").decode() if until_ms > self.clock() else None
        assert self._run(self.stores[which].recall(key, self.clock())) == expected

    @invariant()
    def balances_are_the_sums_of_their_rows(self) -> None:
        for call in (entry(model=model, client="codex") for model in ("gpt-4o", "o3")):
            held = charges(CAPS, call)
            assert self._run(self.stores[0].balances(held)) == tuple(map(self.model.balance, held))

    @invariant()
    def rows_are_as_the_model_has_them(self) -> None:
        found = {
            row.entry.id: (row.state, row.reserved, row.cost, row.marks) for row in self._run(self.stores[1].rows())
        }
        assert found == {
            row.entry.id: ("posted" if row.state == "expired" else row.state, row.reserved, row.cost, row.marks)
            for row in self.model.rows.values()
        }


class RedisMachine(StoreMachine):
    """The same in Redis."""

    server: RedisServer

    def _url(self) -> str:
        return self.server.url(uuid4().hex)


@pytest.fixture(scope="class")
def machine_server(redis_server: RedisServer) -> None:
    """Hand the server to the machine, which Hypothesis makes itself."""
    RedisMachine.server = redis_server


SETTINGS = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
StoreMachine.TestCase.settings = SETTINGS
RedisMachine.TestCase.settings = SETTINGS
TestStoreMachine = StoreMachine.TestCase
TestRedisMachine = pytest.mark.usefixtures("machine_server")(RedisMachine.TestCase)
