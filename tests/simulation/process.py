"""One simulated proxy process: the real gate and budget over a store of its own, its ticker, its calls."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from llmcap_addon.activity import CallLine
from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import HEARTBEAT_MS
from llmcap_addon.call import Call, Content
from llmcap_addon.errors import StoreError
from llmcap_addon.gate.admission import Policy
from llmcap_addon.gate.gate import Gate
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.usage import Terms
from tests.simulation.clockwork import Clockwork, SimRuntime
from tests.simulation.ledgers import Naive
from tests.simulation.plan import CallPlan
from tests.simulation.store import SimStore, Watch


@dataclass(eq=False, slots=True)
class Waiting:
    """A call on its way through admission."""

    entry_id: str
    deadline_s: float
    keys: frozenset[tuple[str, str]]
    climbing: bool
    """True while it stands in the queue, as far as can be seen from outside."""


class Process:
    """One life of one proxy; after a crash there is a new one."""

    def __init__(
        self,
        name: str,
        clockwork: Clockwork,
        ledger: Naive,
        watch: Watch,
        random: Random,
        prices: Prices,
        caps: Sequence[Cap],
        policy: Policy,
        timezone: str,
        starts_ms: int,
    ) -> None:
        self.name = name
        self.clockwork = clockwork
        self.alive = True
        self.in_flight = 0
        """Calls between their arrival and the end of their settlement, and the ticker's own work."""
        self.was_reloaded = False
        self.waiting: dict[str, Waiting] = {}
        self.runtime = SimRuntime(clockwork, starts_ms, lambda: random.uniform(0.0, 0.02))
        self.store = SimStore(ledger, name, clockwork, random, watch, self.runtime.now_ms)
        self.budget = Budget(caps, self.store, self.runtime.now_ms, timezone, name)
        self._numbers = itertools.count()
        self.arrivals = 0
        self.gate = Gate(
            budget=self.budget,
            pricing=prices,
            policy=policy,
            runtime=self.runtime,
            new_id=self._new_id,
            on_change=self._seen,
            on_trouble=self.trouble,
        )
        self.troubles: list[str] = []
        self.over = False

    @property
    def unwritten(self) -> int:
        """What the store did not take yet, or may have taken unheard."""
        return self.gate.unwritten

    def spawn_ticker(self) -> None:
        """Heartbeats, and retries of what could not be written, as the service does them."""
        self.clockwork.spawn(self._tick(), self, f"ticker of {self.name}")

    async def _tick(self) -> None:
        while not self.over:
            try:
                await self.budget.heartbeat()
                await self.gate.retry_unwritten()
            except StoreError as error:
                self.troubles.append(str(error))
            await self.clockwork.sleep(HEARTBEAT_MS / 1000)

    def _new_id(self) -> str:
        return f"{self.name}-{next(self._numbers)}"

    def _seen(self, line: CallLine) -> None:
        if line.state in ("running", "refused") and line.id in self.waiting:
            self.waiting[line.id].climbing = False

    def trouble(self, message: str) -> None:
        """Failures of the store are expected, errors of our own are not."""
        self.troubles.append(message)
        if "internal error" in message:
            raise AssertionError(message)


def to_call(plan: CallPlan) -> Call:
    """The request of a plan."""
    seller = plan.seller
    return Call(
        dialect=seller.dialect,
        provider=seller.provider,
        host=seller.host,
        model=seller.model,
        streamed=plan.streamed,
        content=Content(texts=("x" * plan.text_bytes,), text_bytes=plan.text_bytes, messages=1),
        max_output_tokens=plan.max_output,
        choices=plan.choices,
        hidden_output_tokens=plan.hidden_bound,
        has_output=seller.has_output,
        terms=Terms(service_tier=plan.asked),
        bills_after_disconnect=seller.bills_after_disconnect or bool(plan.job),
        cache_write="short" if seller.provider == "anthropic" else "none",
        client=plan.client,
    )
