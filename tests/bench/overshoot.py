"""`scripts/bench overshoot`: many streams on one cap through several proxies, against the stand-ins' own bill."""

from __future__ import annotations

import asyncio
import functools
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2

from llmcap_addon.budget.ledger import Row
from llmcap_addon.budget.stores import open_store
from tests.bench.baselines import RETRY_S, Outcome, count_afterwards, play, reserve_maximum
from tests.bench.load import Call, draw, make_client, send
from tests.bench.provider import Provider
from tests.budget.redis_server import PROGRAM, RedisServer
from tests.e2e.harness import Proxy

CAP = "budget"
SETTLE_S = 15.0
"""The longest to wait for the ledger once the last stream has ended."""
DRAIN_S = 30.0
"""The longest to let live streams end when the time is up before the budget is."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured."""

    streams: int
    proxies: int
    store: str
    seconds: float
    limit: int
    """In nano-dollars."""
    seed: int
    wait_s: float
    max_tokens: int
    """What each call states as its limit."""


class Clients:
    """The streams: each client sends its next call when one has ended, and a refused one again after a while."""

    def __init__(self, options: Options, clients: list[httpx2.AsyncClient], provider: Provider) -> None:
        self.answers: Counter[str] = Counter()
        self.bill_at_first_refusal: int | None = None
        self.exhausted = False
        """True when nothing was in flight and every client has been refused since the last stream ended."""
        self._options = options
        self._clients = clients
        self._provider = provider
        self._taken = 0
        self._over = asyncio.Event()
        self._ended = 0
        self._refused_at = [-1] * options.streams
        """How many streams had ended when a client sent what was then refused; -1 while it is not refused."""

    async def run(self) -> float:
        """Run until refusals are all that comes, or the time is up; gives the seconds it took."""
        begun_s = time.monotonic()
        running = [asyncio.create_task(self._client(number)) for number in range(self._options.streams)]
        try:
            async with asyncio.timeout(self._options.seconds):
                await self._over.wait()
            self.exhausted = True
        except TimeoutError:
            self._over.set()
        took_s = time.monotonic() - begun_s
        _, late = await asyncio.wait(running, timeout=DRAIN_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        return took_s

    async def _client(self, number: int) -> None:
        http = self._clients[number % len(self._clients)]
        call: Call | None = None
        while not self._over.is_set():
            if call is None:
                call = draw(self._options.seed, self._taken, self._options.max_tokens)
                self._taken += 1
            sent_at = self._ended
            answer = await send(http, call, on_head=lambda: self._begin(number))
            self.answers[answer] += 1
            if answer == "refused":
                if self.bill_at_first_refusal is None:
                    self.bill_at_first_refusal = self._provider.billed()
                self._refused_at[number] = sent_at
                if all(at == self._ended for at in self._refused_at):
                    self._over.set()
                await asyncio.sleep(RETRY_S)
            else:
                self._ended += 1
                self._refused_at[number] = -1
                call = None

    def _begin(self, number: int) -> None:
        self._refused_at[number] = -1


async def rows(url: str) -> tuple[Row, ...]:
    """Read the ledger once nothing is pending in it, or as it stands when the wait is over."""
    store = open_store(url, lambda: time.time_ns() // 1_000_000)
    try:
        until_s = time.monotonic() + SETTLE_S
        found = await store.rows()
        while any(row.state == "pending" for row in found) and time.monotonic() < until_s:
            await asyncio.sleep(0.1)
            found = await store.rows()
        return found
    finally:
        await store.close()


async def _on_the_wire(options: Options, proxies: list[Proxy], url: str, provider: Provider) -> dict[str, Any]:
    clients = [make_client(proxy.port, proxy.ca_path) for proxy in proxies]
    load = Clients(options, clients, provider)
    took_s = await load.run()
    for client in clients:
        await client.aclose()
    await asyncio.to_thread(provider.wait_idle)
    found = await rows(url)
    answers = load.answers
    outcome = Outcome(
        bill=provider.billed(),
        posted=sum(row.cost for row in found),
        streams=answers["done"] + answers["cut"] + answers["broken"],
        cut=sum("cut" in row.marks for row in found),
        refused=answers["refused"],
        bill_at_first_refusal=load.bill_at_first_refusal,
    )
    models = sorted({row.entry.model for row in found if row.cost})
    above = {
        model: sum(row.cost for row in found if row.entry.model == model) - provider.billed(model) for model in models
    }
    return asdict(outcome) | {
        "pending": sum(row.reserved for row in found),
        "overrun": sum("overrun" in row.marks for row in found),
        "broken": answers["broken"],
        "exhausted": load.exhausted,
        "seconds": round(took_s, 1),
        "posted_above_bill": above,
    }


def measure(options: Options) -> dict[str, Any]:
    """Run the load on the wire and the baselines beside it; gives the figures."""
    caps = f"{{wait: {options.wait_s:g}s, caps: [{{name: {CAP}, limit: {options.limit / 1e9:.9f}, per: ever}}]}}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmcap-bench-")))
        url = f"sqlite://{folder / 'ledger.sqlite'}"
        provider = stack.enter_context(Provider(folder, options.seed, options.max_tokens))
        if options.store == "redis":
            if PROGRAM is None:
                raise SystemExit("no redis-server on PATH (apt-get install redis-server, brew install redis)")
            server = RedisServer(folder, "--appendonly", "yes", "--appendfsync", "everysec")
            server.start()
            stack.callback(server.kill)
            url = server.url("bench")
            provider.further_routes["127.0.0.1"] = server.port
        proxies: list[Proxy] = [
            stack.enter_context(Proxy(folder / f"proxy-{number}", provider, caps, flavor="lean", store_url=url))
            for number in range(options.proxies)
        ]
        ours = asyncio.run(_on_the_wire(options, proxies, url, provider))
        for proxy in proxies:
            proxy.assert_sound()
    load = functools.cache(lambda index: draw(options.seed, index, options.max_tokens))
    return {
        "options": asdict(options),
        f"LLMCap, {options.store}": ours,
        "post-hoc counting": asdict(play(count_afterwards, load, options.streams, options.limit)),
        "reserve the maximum": asdict(play(reserve_maximum, load, options.streams, options.limit)),
    }


def tell(figures: dict[str, Any]) -> str:
    """The figures as one table, and what must be known to read it."""
    options = figures["options"]
    limit = options["limit"]
    lines = [
        (
            f"{options['streams']} streams at once, {options['proxies']} proxies, one cap of ${limit / 1e9:.2f}, "
            f"max_tokens {options['max_tokens']:,}, seed {options['seed']}, wait {options['wait_s']:g} s"
        ),
        "",
        f"{'':<22}{'over %':>9}{'usable %':>10}{'posted %':>10}{'1st refusal %':>15}{'streams':>9}{'cut':>6}{'refused':>9}",
    ]
    for name, row in figures.items():
        if name != "options":
            over = max(0, row["bill"] - limit) / limit * 100
            usable = min(row["bill"], limit) / limit * 100
            first = row["bill_at_first_refusal"]
            told = "–" if first is None else f"{min(first, limit) / limit * 100:.2f}"
            lines.append(
                f"{name:<22}{over:>9.3f}{usable:>10.2f}{row['posted'] / limit * 100:>10.2f}{told:>15}"
                f"{row['streams']:>9}{row['cut']:>6}{row['refused']:>9}"
            )
            if "exhausted" in row:
                ours = row
    lines += [
        "",
        "over, usable: the stand-ins' own bill above and within the limit, once refusals are all that comes",
        "(nothing is in flight, and every client has been refused since); 1st refusal: the bill when the first call was.",
        "post-hoc and reserve the maximum: simulated, the same calls, speeds, latencies and prices in virtual time.",
        (
            f"on the wire: {ours['seconds']} s, pending at the end ${ours['pending'] / 1e9:.6f}, "
            f"{ours['overrun']} overruns, {ours['broken']} broken answers"
        ),
    ]
    above = ", ".join(f"{model} {cost / limit * 100:.2f}" for model, cost in ours["posted_above_bill"].items() if cost)
    lines.append(f"posted above the bill (streams that were cut are counted from above), % of the limit: {above or 0}")
    if not ours["exhausted"]:
        lines.append(
            "THE TIME WAS UP before the budget was: usable % is a lower bound; raise --seconds or lower --limit"
        )
    return "\n".join(lines)


def is_held(figures: dict[str, Any]) -> bool:
    """True when our own run stayed under the limit, with its ledger not below the bill."""
    limit: int = figures["options"]["limit"]
    ours = next(row for name, row in figures.items() if name.startswith("LLMCap"))
    return bool(ours["bill"] <= ours["posted"] + ours["pending"] <= limit and not ours["pending"])
