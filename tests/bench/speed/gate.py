"""The gate's own figure: what admitting and settling a call takes, on a ledger in SQLite."""

from __future__ import annotations

import asyncio
import itertools
import json
import tempfile
import time
from pathlib import Path

from llmcap_addon import config
from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.stores import open_store
from llmcap_addon.gate.admission import Policy
from llmcap_addon.gate.gate import Gate
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.gate.runtime import AsyncioRuntime
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import Request, Target
from llmcap_addon.wire.dialects import DIALECTS
from tests.bench.speed import talk
from tests.bench.speed.contenders import FULL_CAPS
from tests.bench.speed.figures import Figure, percentile

WARM_UP = 300
CALLS = 1_000


def measure(rounds: int) -> list[Figure]:
    """Admit and settle calls one after the other, as the event loop sees it."""
    times = asyncio.run(_measure(rounds))

    def amounts(share: float) -> tuple[float, ...]:
        return tuple(percentile(one, share) / 1e3 for one in times)

    return [
        Figure("admit + settle in the gate, SQLite, 10 caps, p50", amounts(0.5), 200, unit="µs"),
        Figure("  the same, p99", amounts(0.99), unit="µs"),
    ]


async def _measure(rounds: int) -> list[list[int]]:
    with tempfile.TemporaryDirectory(prefix="llmcap-bench-") as name:
        folder = Path(name)
        (folder / "caps.yaml").write_text(FULL_CAPS, encoding="utf-8")
        caps = config.load(folder / "caps.yaml")
        runtime = AsyncioRuntime()
        store = open_store(f"sqlite://{folder / 'ledger.sqlite'}", runtime.now_ms)
        numbers = itertools.count()
        gate = Gate(
            budget=Budget(caps.caps, store, runtime.now_ms, caps.timezone, run_id="bench"),
            pricing=Prices.load(now_ms=runtime.now_ms),
            policy=Policy(),
            runtime=runtime,
            new_id=lambda: f"{next(numbers):024d}",
            on_change=lambda _line: None,
            on_trouble=_fail,
        )
        try:
            await _round(gate, WARM_UP)
            return [await _round(gate, CALLS) for _ in range(rounds)]
        finally:
            await store.close()


async def _round(gate: Gate, calls: int) -> list[int]:
    body = talk.request().split(b"\r\n\r\n", 1)[1]
    request = Request("POST", talk.HOST, talk.PATH, {}, {"content-type": "application/json"}, body)
    dialect = DIALECTS["openai.chat"]
    times = []
    for _ in range(calls):
        call = dialect.parse(request, Target("openai"), "openai-python")
        usage = Usage(input_tokens=142, output_tokens=260)
        reading = Reading(usage=usage, final=True, model=json.loads(body)["model"])
        begun_ns = time.perf_counter_ns()
        live = await gate.admit(call)
        if not isinstance(live, LiveCall):
            raise RuntimeError(f"a call of the benchmark was not admitted: {live.message}")  # noqa: TRY004  no wrong type
        await live.finish(reading, "complete", 200)
        times.append(time.perf_counter_ns() - begun_ns)
    return times


def _fail(trouble: str) -> None:
    raise RuntimeError(trouble)
