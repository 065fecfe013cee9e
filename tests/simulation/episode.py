"""One episode: a plan played to its end, and beyond, until nothing is in flight and every lease is over."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from pathlib import Path
from random import Random

from llmcap_addon.budget.ledger import HEARTBEAT_MS, LEASE_MS
from llmcap_addon.gate.jobs import KEPT_MS
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.pricing.overrides import PriceOverride
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.pricing.tokens import Tokenizer
from llmcap_addon.wire.dialect import Refusal
from tests.simulation.check import Checker, Tally
from tests.simulation.clockwork import START_MS, Clockwork
from tests.simulation.ledgers import Beside, Naive
from tests.simulation.plan import CallPlan, Crash, Item, Jump, Look, Plan, Reload, Storm
from tests.simulation.process import Process, Waiting, to_call
from tests.simulation.store import Weather
from tests.simulation.talk import Broken, Talk

LONGEST_S = 4_000.0
"""No call runs longer: 5,000 tokens at 50 a second, waiting and thinking on top, and an hour that a clock jumped."""


class Letters(Tokenizer):
    """A tokenizer of four letters a token: as plain as texts of nothing but "x" need it, and always loaded."""

    @property
    def ready(self) -> bool:
        """There is nothing to load."""
        return True

    def count(self, text: str) -> int:
        """Count."""
        return -(-len(text) // 4)


def make_prices() -> Prices:
    """The shipped table, and a price of the user's own."""
    own = PriceOverride.flat(3, 12, cached_input="0.75")
    overrides = {"llm.internal.example": {"my-*": own}}
    return Prices.load(overrides, now_ms=lambda: START_MS, tokenizer=Letters())


class Episode:
    """A plan, and the world it is played in."""

    def __init__(self, plan: Plan, prices: Prices, tally: Tally, ledger: Naive) -> None:
        self.plan = plan
        self.trace: list[str] = []
        self.clockwork = Clockwork()
        self.ledger = ledger
        self.checker = Checker(ledger, tally)
        self.clockwork.after_step = self.checker.after_step
        self._prices = prices
        self._random = Random(plan.seed)
        self._lives = [0] * plan.processes
        self._caps = [plan.caps] * plan.processes
        self._policies = [plan.policy] * plan.processes
        self._processes = [self._start(number) for number in range(plan.processes)]

    def play(self) -> None:
        """Play it; raises Broken, Deadlock or whatever the code under test raises."""
        clockwork = self.clockwork
        for item in self.plan.items:
            clockwork.at(item.at_s, lambda item=item: self._do(item))  # type: ignore[misc]
        clockwork.run(self.plan.items[-1].at_s if self.plan.items else 0.0)
        while any(process.alive and process.in_flight for process in self._processes) or clockwork.now_s < 100:
            if clockwork.now_s > LONGEST_S:
                raise Broken("calls are still in flight after an hour")
            clockwork.run(clockwork.now_s + 10)
        for process in self._processes:
            process.store.weather = Weather()
        # Settlements that were kept are written at the next tick, and all leases of the dead run out.
        jumped_s = sum(abs(item.by_ms) for item in self.plan.items if isinstance(item, Jump)) / 1000
        clockwork.run(clockwork.now_s + (LEASE_MS + 3 * HEARTBEAT_MS) / 1000 + jumped_s)
        # And what nobody was told the bill of expires.
        for process in self._processes:
            process.runtime.jumped_ms += KEPT_MS + 2 * int(jumped_s * 1000)
        clockwork.run(clockwork.now_s + 3 * HEARTBEAT_MS / 1000)
        for process in self._processes:
            if process.gate.live or process.unwritten:
                raise Broken(f"{process.name} has {len(process.gate.live)} live, {process.unwritten} unwritten calls")
            process.over = True
        clockwork.run(clockwork.now_s + 60)
        if clockwork.tasks:
            raise Broken(f"never came to an end: {sorted(task.name for task in clockwork.tasks)}")
        self.checker.finish()

    def _start(self, number: int) -> Process:
        self._lives[number] += 1
        name = f"p{number}.{self._lives[number]}"
        process = Process(
            name, self.clockwork, self.ledger, self.checker, self._random, self._prices, self._caps[number],
            self._policies[number], self.plan.timezone, self.plan.starts_ms,
        )  # fmt: skip
        self.checker.processes[name] = process
        self.ledger.do(name, "heartbeat", process.runtime.now_ms())
        process.spawn_ticker()
        return process

    def _do(self, item: Item) -> None:
        process = self._processes[item.process]
        if isinstance(item, CallPlan):
            if process.alive:
                process.in_flight += 1
                self.clockwork.spawn(self._call(process, item), process, f"call to {process.name}")
        elif isinstance(item, Reload):
            self._caps[item.process], self._policies[item.process] = item.caps, item.policy
            process.was_reloaded = True
            process.budget.replace_caps(item.caps, self.plan.timezone)
            process.gate.policy = item.policy
        elif isinstance(item, Storm):
            process.store.weather = item.weather
            self.clockwork.at(item.at_s + item.lasts_s, lambda: setattr(process.store, "weather", Weather()))
        elif isinstance(item, Jump):
            process.runtime.jumped_ms += item.by_ms
        elif process.alive:
            self._crash(process, item)

    def _crash(self, process: Process, item: Crash) -> None:
        process.alive = False
        self.clockwork.kill(process)
        self.ledger.die(process.name)
        for talk in self.checker.talks.values():
            if talk.live.entry.id.startswith(f"{process.name}-"):
                talk.kill(self.clockwork.now_s)

        def restart() -> None:
            self._processes[item.process] = self._start(item.process)

        self.clockwork.at(self.clockwork.now_s + item.back_after_s, restart)

    async def _call(self, process: Process, plan: CallPlan) -> None:
        clockwork, gate = self.clockwork, process.gate
        call = to_call(plan)
        begun_s = clockwork.now_s
        charges = process.budget.charges(call.labels(), process.runtime.now_ms())
        keys = frozenset((charge.key, charge.scope) for charge in charges)
        # After a cut a call first asks whether its scope is spent, and queues only then.
        waiting = Waiting(
            f"{process.name}-{process.arrivals}",
            begun_s + gate.policy.wait_ms / 1000,
            keys,
            climbing=not gate._tripped,
        )
        process.arrivals += 1
        process.waiting[waiting.entry_id] = waiting
        leaves_s = None if plan.leaves_after_s is None else begun_s + plan.leaves_after_s
        outcome = await gate.admit(call, lambda: leaves_s is not None and clockwork.now_s >= leaves_s)
        del process.waiting[waiting.entry_id]
        self.checker.admitted(process, waiting, outcome, plan)
        if isinstance(outcome, Refusal):
            process.in_flight -= 1
            return
        self._forward(process, plan, outcome)

    def _forward(self, process: Process, plan: CallPlan, live: LiveCall) -> None:
        def ended(_: Talk) -> None:
            process.in_flight -= 1

        talk = Talk(plan, live, process.gate, self.clockwork, process, ended, process.trouble)
        self.checker.talks[live.entry.id] = talk
        talk.begin()
        for look in plan.looks:
            self.clockwork.at(self.clockwork.now_s + look.after_s, lambda look=look: self._look(talk, look))  # type: ignore[misc]

    def _look(self, talk: Talk, look: Look) -> None:
        process = self._processes[look.process]
        if process.alive and talk.is_accepted:
            process.in_flight += 1
            self.clockwork.spawn(self._be_told(process, talk), process, f"look at {talk.job} by {process.name}")

    async def _be_told(self, process: Process, talk: Talk) -> None:
        look = self.checker.looked(process, talk)
        await process.gate.jobs.settle(talk.call.host, talk.outcome())
        self.checker.told(process, talk, look)
        process.in_flight -= 1


def play(plan: Plan, prices: Prices, tally: Tally) -> int:
    """Play a plan over a ledger of its own; gives the steps it took."""
    folder = tempfile.TemporaryDirectory() if plan.real_store else nullcontext()
    with folder as path:
        ledger = Beside(Path(path)) if path is not None else Naive()
        try:
            episode = Episode(plan, prices, tally, ledger)
            episode.play()
            return episode.clockwork.steps
        finally:
            if isinstance(ledger, Beside):
                ledger.shut()
