"""One process's store: any operation may be slow, fail or hang, before or after it took effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from llmcap_addon.budget.ledger import Balance, Charge, Entry, Reserved, Row, Settlement, Short
from llmcap_addon.errors import StoreError
from llmcap_addon.money import Nanousd
from tests.simulation.clockwork import Clockwork
from tests.simulation.ledgers import Naive

TIME_LIMIT_S = 2.0
"""After so long a store gives up; SQLite's own waits as long."""


@dataclass(slots=True)
class Weather:
    """How the store does: chances of what goes wrong with one operation."""

    slow: float = 0.0
    fails: float = 0.0
    hangs: float = 0.0
    after: float = 0.0
    """Of the failures and hangs, those that come after the effect."""

    @property
    def is_fair(self) -> bool:
        """Nothing goes wrong."""
        return not (self.slow or self.fails or self.hangs)


class SimStore:
    """`Store` for one process of the simulation. `seen` is told of each operation asked for and each done."""

    def __init__(
        self, ledger: Naive, owner: str, clockwork: Clockwork, random: Random, watch: Watch, now_ms: Callable[[], int]
    ) -> None:
        self.owner = owner
        self.weather = Weather()
        self.is_dead = False
        self.last_foul_s = -1e9
        self._ledger = ledger
        self._clockwork = clockwork
        self._random = random
        self._watch = watch
        self._now_ms = now_ms

    async def _do(self, operation: str, *values: Any) -> Any:
        random, weather = self._random, self.weather
        self._watch.asked(self, operation, values)
        await self._clockwork.sleep(random.uniform(0.0001, 0.005))
        luck = random.random()
        if luck < weather.fails + weather.hangs:
            self.last_foul_s = self._clockwork.now_s
            done = random.random() < weather.after
            if done:
                self._effect(operation, values)
            await self._clockwork.sleep(0.001 if luck < weather.fails else TIME_LIMIT_S)
            self.last_foul_s = self._clockwork.now_s
            raise StoreError(f"simulated failure of {operation}")
        if random.random() < weather.slow:
            await self._clockwork.sleep(random.uniform(0.05, TIME_LIMIT_S * 0.9))
            self.last_foul_s = self._clockwork.now_s
        result = self._effect(operation, values)
        await self._clockwork.sleep(random.uniform(0.0001, 0.005))
        return result

    def _effect(self, operation: str, values: tuple[Any, ...]) -> Any:
        before = self._watch.before(operation, values)
        result = self._ledger.do(self.owner, operation, *values)
        self._watch.done(self, operation, values, result, before)
        return result

    async def reserve(self, entry: Entry, charges: Sequence[Charge], amount: Nanousd) -> Reserved | Short:
        """As `Store.reserve`."""
        result: Reserved | Short = await self._do("reserve", entry, tuple(charges), amount)
        return result

    async def extend(self, entry_id: str, charges: Sequence[Charge], amount: Nanousd, at_least: Nanousd) -> Nanousd:
        """As `Store.extend`."""
        result: Nanousd = await self._do("extend", entry_id, tuple(charges), amount, at_least)
        return result

    async def settle(self, entry_id: str, settlement: Settlement) -> bool:
        """As `Store.settle`."""
        return bool(await self._do("settle", entry_id, settlement))

    async def post(self, entry: Entry, charges: Sequence[Charge], settlement: Settlement) -> bool:
        """As `Store.post`."""
        return bool(await self._do("post", entry, tuple(charges), settlement))

    async def void(self, entry_id: str, settled_at_ms: int, status: int, note: str) -> bool:
        """As `Store.void`."""
        return bool(await self._do("void", entry_id, settled_at_ms, status, note))

    async def defer(self, entry_id: str, until_ms: int) -> bool:
        """As `Store.defer`."""
        return bool(await self._do("defer", entry_id, until_ms))

    async def remember(self, key: str, value: str, until_ms: int) -> None:
        """As `Store.remember`."""
        await self._do("remember", key, value, until_ms)

    async def recall(self, key: str, now_ms: int) -> str | None:
        """As `Store.recall`."""
        value: str | None = await self._do("recall", key, now_ms)
        return value

    async def record_refusal(self, entry: Entry, caps: Sequence[str], note: str) -> None:
        """As `Store.record_refusal`."""
        await self._do("record_refusal", entry, tuple(caps), note)

    async def balances(self, charges: Sequence[Charge]) -> tuple[Balance, ...]:
        """As `Store.balances`."""
        result: tuple[Balance, ...] = await self._do("balances", tuple(charges))
        return result

    async def heartbeat(self, now_ms: int) -> int:
        """As `Store.heartbeat`."""
        return int(await self._do("heartbeat", now_ms))

    async def close(self) -> None:
        """As `Store.close`."""
        await self._do("close", self._now_ms())

    async def seen(self, key: str, period: str) -> tuple[Balance, ...]:
        """No call of the gate's needs it."""
        raise NotImplementedError

    async def rows(self, since_ms: int = 0, limit: int | None = None) -> tuple[Row, ...]:
        """No call of the gate's needs it."""
        raise NotImplementedError


class Watch:
    """Who checks what stores are asked and do."""

    def asked(self, store: SimStore, operation: str, values: tuple[Any, ...]) -> None:
        """An operation begins."""

    def before(self, operation: str, values: tuple[Any, ...]) -> Any:
        """An operation takes effect now; what is given here comes back in `done`."""

    def done(self, store: SimStore, operation: str, values: tuple[Any, ...], result: Any, before: Any) -> None:
        """An operation has taken effect."""
