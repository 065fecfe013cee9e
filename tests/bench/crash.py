"""`scripts/bench crash`: kill -9 the proxy under load at random moments, start it again, and compare the ledger with
the stand-ins' own bill each time."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmcap_addon.budget.ledger import LEASE_MS
from tests.bench.load import draw, make_client, send
from tests.bench.provider import Provider
from tests.e2e.harness import POLL_SECONDS, Proxy

STREAMS = 24
MIN_RUN_S, MAX_RUN_S = 0.05, 3.0
"""How long the load runs before a kill: from the first handshakes to streams that are cut."""
MIN_ROOM, MAX_ROOM = 4_000_000, 60_000_000
"""What a round may spend, in nano-dollars: in many rounds the cap runs out before the kill."""
DEAR_MODEL = "claude-sonnet-4-5"
EXPIRE_S = LEASE_MS / 1000 + 5
"""The longest until what a dead process held is posted: its lease, where flock does not show its death at once."""
REFUSED_PAUSE_S = 0.1


@dataclass(slots=True)
class Figures:
    """What came of it; money in nano-dollars."""

    kills: int = 0
    bill: int = 0
    posted: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    """How the clients saw their calls end; "broken": by the kill."""
    pending_at_kills: int = 0
    """What dead processes held, over all kills."""
    kills_with_pending: int = 0
    longest_expiry_s: float = 0.0
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


class Crasher:
    """One proxy, its load, and what it may spend in each of two caps that overlap."""

    def __init__(self, folder: Path, provider: Provider, seed: int) -> None:
        self.figures = Figures()
        self._provider = provider
        self._chance = random.Random(seed)
        self._seed = seed
        self._taken = 0
        self._limits = {"all": MAX_ROOM, "dear": MAX_ROOM // 2}
        self._proxy = Proxy(folder, provider, self._caps(), flavor="lean")

    def _caps(self) -> str:
        return (
            "{wait: 0s, caps: ["
            f"{{name: all, limit: {self._limits['all'] / 1e9:.9f}, per: ever}}, "
            f"{{name: dear, limit: {self._limits['dear'] / 1e9:.9f}, per: ever, match: {{model: {DEAR_MODEL}}}}}]}}"
        )

    async def run(self, kills: int) -> None:
        """Kill it so many times."""
        begun_s = time.monotonic()
        await asyncio.to_thread(self._proxy.start)
        try:
            for number in range(1, kills + 1):
                await self._load()
                await asyncio.to_thread(self._compare, f"kill {number}, while it is dead")
                self._give_room()
                await asyncio.to_thread(self._proxy.start)
                await asyncio.to_thread(self._wait_expired, f"kill {number}, restarted")
                self.figures.kills = number
        finally:
            await asyncio.to_thread(self._proxy.stop)
        self.figures.bill = self._provider.billed()
        self.figures.posted = self._proxy.totals("all").posted
        self.figures.seconds = round(time.monotonic() - begun_s, 1)
        self._proxy.assert_sound()

    async def _load(self) -> None:
        """Run the streams, kill the proxy under them, and wait until everybody has noticed."""
        over = asyncio.Event()
        async with make_client(self._proxy.port, self._proxy.ca_path) as http:

            async def client() -> None:
                while not over.is_set():
                    self._taken += 1
                    answer = await send(http, draw(self._seed, self._taken))
                    self.figures.answers[answer] += 1
                    if answer == "refused":
                        await asyncio.sleep(REFUSED_PAUSE_S)

            running = [asyncio.create_task(client()) for _ in range(STREAMS)]
            await asyncio.sleep(self._chance.uniform(MIN_RUN_S, MAX_RUN_S))
            over.set()
            await asyncio.to_thread(self._proxy.kill)
            await asyncio.gather(*running)
        await asyncio.to_thread(self._provider.wait_idle)

    def _compare(self, when: str) -> int:
        """Note where the ledger is below the bill or above a limit; gives what is pending."""
        pending = 0
        for cap, model in (("all", ""), ("dear", DEAR_MODEL)):
            try:
                total = self._proxy.totals(cap)
            except sqlite3.Error as error:
                self._violated(when, f"the ledger can't be read: {error}")
                return 0
            bill, limit = self._provider.billed(model), self._limits[cap]
            if total.posted + total.pending < bill:
                self._violated(when, f"{cap}: the ledger has {total.posted + total.pending}, billed is {bill} n$")
            if total.posted + total.pending > limit:
                self._violated(when, f"{cap}: the ledger has {total.posted + total.pending}, the limit is {limit} n$")
            if bill > limit:
                self._violated(when, f"{cap}: billed is {bill}, the limit is {limit} n$")
            if cap == "all":
                pending = total.pending
        if pending and "dead" in when:
            self.figures.pending_at_kills += pending
            self.figures.kills_with_pending += 1
        return pending

    def _give_room(self) -> None:
        """Raise both caps a little above what they hold, so that the next round spends under a tight one."""
        for cap, part in (("all", 1), ("dear", 2)):
            total = self._proxy.totals(cap)
            room = self._chance.randint(MIN_ROOM, MAX_ROOM) // part
            self._limits[cap] = total.posted + total.pending + room
        self._proxy.write_caps(self._caps())

    def _wait_expired(self, when: str) -> None:
        """Wait until the restarted proxy has posted what the dead one held, and compare again."""
        begun_s = time.monotonic()
        while self._proxy.totals("all").pending or self._proxy.totals("dear").pending:
            if time.monotonic() - begun_s > EXPIRE_S:
                self._violated(when, f"still pending after {EXPIRE_S:g} s")
                break
            time.sleep(POLL_SECONDS)
        self.figures.longest_expiry_s = max(self.figures.longest_expiry_s, round(time.monotonic() - begun_s, 3))
        self._compare(when)

    def _violated(self, when: str, what: str) -> None:
        self.figures.violations.append(f"{when}: {what}")


def crash(kills: int, seed: int) -> Figures:
    """Kill a proxy so many times under load; gives the figures."""
    with tempfile.TemporaryDirectory(prefix="llmcap-bench-") as name:
        folder = Path(name)
        with Provider(folder, seed) as provider:
            crasher = Crasher(folder / "proxy", provider, seed)
            asyncio.run(crasher.run(kills))
    return crasher.figures


def as_json(figures: Figures) -> dict[str, Any]:
    """The figures as a JSON document."""
    return asdict(figures) | {"answers": dict(figures.answers)}


def tell(figures: Figures, seed: int) -> str:
    """The figures for people."""
    answers = figures.answers
    over = (figures.posted / figures.bill - 1) * 100 if figures.bill else 0.0
    lines = [
        f"{figures.kills} kills (SIGKILL) under {STREAMS} streams, seed {seed}, {figures.seconds} s",
        f"{'calls whole':<34}{answers['done']:>12}",
        f"{'calls cut at a cap':<34}{answers['cut']:>12}",
        f"{'calls refused':<34}{answers['refused']:>12}",
        f"{'calls broken by a kill':<34}{answers['broken']:>12}",
        f"{'kills that found money pending':<34}{figures.kills_with_pending:>12}",
        f"{'pending at kills, posted in full':<34}{figures.pending_at_kills / 1e9:>12.6f} $",
        f"{'longest wait for pending = 0':<34}{figures.longest_expiry_s:>12.3f} s after the restart",
        f"{'billed by the stand-ins':<34}{figures.bill / 1e9:>12.6f} $",
        f"{'posted in the ledger':<34}{figures.posted / 1e9:>12.6f} $ ({over:+.1f} %: what was reserved at a kill is posted in full)",
        f"{'violations':<34}{len(figures.violations):>12}",
    ]
    return "\n".join([*lines, *figures.violations])
