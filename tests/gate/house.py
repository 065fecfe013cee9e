"""A gate over the real budget, ledger and prices, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmcap_addon.activity import CallLine
from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import Row, Store
from llmcap_addon.budget.stores import open_store
from llmcap_addon.call import Call, Content
from llmcap_addon.gate.admission import Policy
from llmcap_addon.gate.gate import Gate
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.money import nanousd
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import Refusal
from tests.gate.clock import VirtualRuntime

GPT_4O = Call(
    dialect="openai.chat",
    provider="openai",
    host="api.openai.com",
    model="gpt-4o",
    streamed=False,
    content=Content(texts=("hello",), text_bytes=5, messages=1),
    max_output_tokens=1000,
    client="test",
)
STREAM = replace(GPT_4O, streamed=True)


class House:
    """A gate and what stands behind it."""

    def __init__(self, store: Store, caps: list[Cap], policy: Policy) -> None:
        self.runtime = VirtualRuntime()
        self.lines: list[CallLine] = []
        self.troubles: list[str] = []
        self.store = store
        self.budget = Budget(caps, store, self.runtime.now_ms, "UTC", "run-1")
        numbers = itertools.count()
        self.gate = Gate(
            budget=self.budget,
            pricing=Prices.load(now_ms=self.runtime.now_ms),
            policy=policy,
            runtime=self.runtime,
            new_id=lambda: f"call-{next(numbers)}",
            on_change=self.lines.append,
            on_trouble=self.troubles.append,
        )

    async def rows(self) -> tuple[Row, ...]:
        return await self.store.rows()

    async def standing(self) -> tuple[int, int]:
        balance = (await self.budget.balances())[0]
        return balance.posted, balance.pending

    async def admitted(self, call: Call) -> LiveCall:
        outcome = await self.gate.admit(call)
        assert isinstance(outcome, LiveCall), outcome
        return outcome

    async def refused(self, call: Call) -> Refusal:
        outcome = await self.gate.admit(call)
        assert isinstance(outcome, Refusal), outcome
        return outcome

    async def advance(self, until: Callable[[], bool], step_s: float = 0.1) -> None:
        """Move time on until something holds, giving every task its turn in between."""
        for _ in range(2_000):
            if until():
                return
            await asyncio.sleep(0.001)  # the ledger's thread is real
            self.runtime.advance(step_s)
        raise AssertionError("it never came to hold")


type MakeHouse = Callable[..., House]


@pytest.fixture
async def make_house(tmp_path: Path) -> AsyncIterator[MakeHouse]:
    """Make a house over a ledger of its own; a conftest.py imports this."""
    stores: list[Store] = []

    def make(limit: str | None, **policy: object) -> House:
        clock = VirtualRuntime()
        store = open_store(f"sqlite://{tmp_path}/ledger{len(stores)}.sqlite", clock.now_ms)
        stores.append(store)
        caps = [Cap("daily", nanousd(limit), "day")] if limit is not None else []
        return House(store, caps, Policy(**policy))  # type: ignore[arg-type]

    yield make
    for store in stores:
        await store.close()


def final(usage: Usage) -> Reading:
    return Reading(usage=usage, final=True, model="gpt-4o")
