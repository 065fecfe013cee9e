"""`scripts/bench ledger`: how long a reservation and its settlement take in SQLite, as the ledger grows.

Each ledger holds half a year of calls and the balances they left behind, in a real file of the store's own schema. Of
100 caps, one kind of call counts against 10 and another against all.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import MAX_AMOUNT, Charge, Entry, Reserved, Settlement
from llmcap_addon.budget.stores.owners import Owner
from llmcap_addon.budget.stores.sqlite import SqliteStore
from llmcap_addon.budget.stores.sqlite_checkpoints import Checkpoints
from llmcap_addon.budget.stores.sqlite_lane import Lane
from llmcap_addon.budget.stores.sqlite_live import ROW_LABELS
from llmcap_addon.budget.stores.sqlite_sums import first_seq
from llmcap_addon.budget.windows import PERIODS
from llmcap_addon.usage import Usage

NOW_MS = 1_763_899_200_000
HALF_A_YEAR_MS = 182 * 86_400_000
RUN = "run-of-today"
MODELS = (
    ("api.openai.com", "openai", "openai.chat", "gpt-4o"),
    ("api.openai.com", "openai", "openai.responses", "gpt-5"),
    ("api.openai.com", "openai", "openai.responses", "gpt-5-mini"),
    ("api.anthropic.com", "anthropic", "anthropic.messages", "claude-opus-4-5"),
    ("api.anthropic.com", "anthropic", "anthropic.messages", "claude-sonnet-4-5"),
    ("generativelanguage.googleapis.com", "google", "gemini.generate", "gemini-2.5-pro"),
)
CLIENTS = tuple(f"tool-{number}" for number in range(40))
ALL, FEW = MODELS[1], MODELS[3]
"""The model that all caps count, and the one that one cap in `EACH_COUNTED` counts."""
EACH_COUNTED = 10
GAP_MS = 50
"""Between two timed calls on the ledger's clock: the rounds cross several minutes, whose balances are made anew."""
ROUNDS, PAIRS = 5, 400
"""Rounds of so many reservations and settlements each; told is the median of the rounds, of its p50 and its p99."""
EXTENSIONS = 200
TICK_S = 0.001
"""How often the event loop is asked whether it still turns."""
USAGE = Usage(input_tokens=12_345, output_tokens=678, cache_read_tokens=11_008, reasoning_tokens=64)


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one operation, in microseconds."""

    p50: float
    p99: float
    worst: float


def caps_of(count: int) -> list[Cap]:
    """Caps of all periods, with and without `each`, with literal, globbed and no match."""
    wide: tuple[tuple[tuple[str, str], ...], ...] = ((), (("model", "*-5*"),), (("client", "tool-*"),))
    narrow = (
        (("model", "gpt-*"),),
        (("provider", "openai"),),
        (("host", "api.openai.com"), ("client", "tool-?")),
        (("model", "gpt-4*"), ("model", "gpt-5")),
    )
    scopes: tuple[tuple[str, ...], ...] = ((), (), ("client",), ("model",), ("client", "model"))
    caps = []
    for number in range(count):
        kind = number // EACH_COUNTED
        match = wide[kind % len(wide)] if number % EACH_COUNTED == 0 else narrow[number % len(narrow)]
        per = PERIODS[(number + kind) % len(PERIODS)]
        caps.append(Cap(f"cap-{number}", MAX_AMOUNT, per, match, scopes[(number + kind) % len(scopes)]))
    return caps


def fill(path: Path, rows: int, caps: Sequence[Cap]) -> None:
    """Write so many settled calls, evenly over half a year, and the balances of periods that are over."""
    chance = random.Random(rows)
    columns = ("host", "provider", "dialect", "model")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -400000")
        starts = range(NOW_MS - HALF_A_YEAR_MS, NOW_MS, max(1, HALF_A_YEAR_MS // rows))
        names = [cap.name for cap in caps]

        def calls() -> Iterator[tuple[Any, ...]]:
            for number, start_ms in enumerate(itertools.islice(starts, rows)):
                host, provider, dialect, model = MODELS[number % 7 % len(MODELS)]
                first = number // 50 * 3
                charges = ",".join(map(str, range(first, first + 10)))
                counted = '","'.join(names[number % 10 :: max(1, len(names) // 10)])
                yield (
                    first_seq(start_ms), UUID(int=chance.getrandbits(128), version=4).hex, "owner-of-old", "run-of-old", "posted", start_ms,
                    start_ms + 4_000, host, provider, model, CLIENTS[number % len(CLIENTS)], dialect, 1, 0,
                    1_000_000 + number % 9_973, '{"input_tokens": 12345, "output_tokens": 678}', "", 200, "", "",
                    f"[{charges}]", f'["{counted}"]', "api",
                )  # fmt: skip

        connection.executemany(
            "INSERT INTO ledger (seq, id, owner, run, state, started_at_ms, settled_at_ms, host, provider, model, client,"
            " dialect, streamed, reserved, cost, usage, marks, status, response_model, note, charges, caps, billing)"
            f" VALUES ({', '.join('?' * 23)})",
            calls(),
        )
        connection.execute(
            f"INSERT INTO spent SELECT started_at_ms / 86400000, {', '.join(ROW_LABELS)}, sum(cost) FROM ledger"
            f" GROUP BY 1, {', '.join(ROW_LABELS)}"
        )
        lasting = [cap for cap in caps if cap.per not in {"run", "ever"}]

        def balances() -> Iterator[tuple[Any, ...]]:
            for number, start_ms in enumerate(itertools.islice(starts, rows)):
                if not lasting:
                    return
                cap = lasting[number % len(lasting)]
                labels = dict(zip(columns, MODELS[number % len(MODELS)], strict=True))
                labels["client"] = CLIENTS[number % len(CLIENTS)]
                charge = cap.charge(labels, start_ms, "UTC", "run-of-old")
                if charge is not None and charge.resets_at_ms is not None and charge.resets_at_ms <= NOW_MS:
                    yield (
                        charge.cap, charge.key, charge.scope, charge.period, "", charge.starts_at_ms,
                        charge.resets_at_ms, '[["model", "gpt-*"]]',
                    )  # fmt: skip

        connection.executemany(
            "INSERT OR IGNORE INTO balance (cap, key, scope, period, run, starts_at_ms, resets_at_ms, match)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            balances(),
        )
        connection.execute("INSERT INTO amount SELECT id, 1000000, 0 FROM balance")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class Calls:
    """Calls of one kind, each a little later than the one before."""

    def __init__(self, caps: Sequence[Cap], model: tuple[str, str, str, str], at_ms: Iterator[int]) -> None:
        self._caps = caps
        self._host, self._provider, self._dialect, self._model = model
        self._at_ms = at_ms
        self._chance = random.Random(model[3])

    def next(self) -> tuple[Entry, list[Charge]]:
        """Give a new call and what it counts against."""
        entry = Entry(
            id=UUID(int=self._chance.getrandbits(128), version=4).hex,
            started_at_ms=next(self._at_ms),
            host=self._host,
            provider=self._provider,
            model=self._model,
            client=CLIENTS[0],
            dialect=self._dialect,
            streamed=True,
            run=RUN,
        )
        labels = {"host": entry.host, "provider": entry.provider, "model": entry.model, "client": entry.client}
        found = (cap.charge(labels, entry.started_at_ms, "UTC", RUN) for cap in self._caps)
        return entry, [charge for charge in found if charge is not None]


def ended(entry: Entry) -> Settlement:
    """How every timed call ends."""
    return Settlement(1_234_567, USAGE, entry.started_at_ms + 4_000, status=200)


def timing(rounds: Iterable[Sequence[int]]) -> Timing:
    """Sum up rounds of nanoseconds: medians of their p50 and p99, and the worst of all."""
    ordered = [sorted(one) for one in rounds]
    p50 = statistics.median(one[len(one) // 2] for one in ordered)
    p99 = statistics.median(one[int(len(one) * 0.99)] for one in ordered)
    return Timing(round(p50 / 1e3, 1), round(p99 / 1e3, 1), round(max(one[-1] for one in ordered) / 1e3, 1))


def measure_thread(lane: Lane, calls: Calls) -> dict[str, Timing]:
    """Time the transactions themselves, in this thread."""
    steps: dict[str, list[list[int]]] = {"reserve": [], "settle": [], "both": [], "extend": []}
    now_ns = time.perf_counter_ns
    for _ in range(ROUNDS):
        for times in steps.values():
            times.append([])
        for _ in range(PAIRS):
            entry, charges = calls.next()
            settlement = ended(entry)
            began_ns = now_ns()
            outcome = lane.transact(lambda tables: tables.reserve(entry, charges, 5_000_000))  # noqa: B023
            reserved_ns = now_ns()
            settled = lane.transact(lambda tables: tables.settle(entry.id, settlement))  # noqa: B023
            settled_ns = now_ns()
            if not isinstance(outcome, Reserved) or not settled:
                raise RuntimeError("a call of the benchmark was not admitted or not settled")
            steps["reserve"][-1].append(reserved_ns - began_ns)
            steps["settle"][-1].append(settled_ns - reserved_ns)
            steps["both"][-1].append(settled_ns - began_ns)
        entry, charges = calls.next()
        lane.transact(lambda tables: tables.reserve(entry, charges, 5_000_000))  # noqa: B023
        for _ in range(EXTENSIONS):
            began_ns = now_ns()
            lane.transact(lambda tables: tables.extend(entry.id, charges, 1_000, 1_000))  # noqa: B023
            steps["extend"][-1].append(now_ns() - began_ns)
        lane.transact(lambda tables: tables.settle(entry.id, ended(entry)))  # noqa: B023
    return {step: timing(times) for step, times in steps.items()}


async def measure_loop(store: SqliteStore, calls: Calls) -> dict[str, Timing]:
    """Time what a caller in the event loop waits for, one call after the other."""
    rounds: list[list[int]] = []
    for _ in range(ROUNDS):
        rounds.append([])
        for _ in range(PAIRS):
            entry, charges = calls.next()
            settlement = ended(entry)
            began_ns = time.perf_counter_ns()
            await store.reserve(entry, charges, 5_000_000)
            await store.settle(entry.id, settlement)
            rounds[-1].append(time.perf_counter_ns() - began_ns)
            await asyncio.sleep(0)  # calls are tasks of their own: between two of them others have their turn
    return {"asyncio": timing(rounds)}


async def blocked(work: Callable[[], Awaitable[object]]) -> float:
    """Give the longest that the event loop stood still during some work, in milliseconds."""
    worst_s = 0.0

    async def tick() -> None:
        nonlocal worst_s
        while True:
            began_s = time.perf_counter()
            await asyncio.sleep(TICK_S)
            worst_s = max(worst_s, time.perf_counter() - began_s - TICK_S)

    ticking = asyncio.ensure_future(tick())
    try:
        await work()
    finally:
        ticking.cancel()
    return round(worst_s * 1e3, 2)


async def measure(rows: int, count: int, folder: Path) -> dict[str, Any]:
    """Fill one ledger and time it."""
    caps = caps_of(count)
    path = folder / f"ledger-{rows}.sqlite"
    clock_ms = itertools.count(NOW_MS, GAP_MS)
    few, every = Calls(caps, FEW, clock_ms), Calls(caps, ALL, clock_ms)
    store = SqliteStore(path, "bench-loop", lambda: NOW_MS, own_folder=False)
    await store.close()
    began_s = time.perf_counter()
    fill(path, rows, caps)
    filled_s = time.perf_counter() - began_s
    store = SqliteStore(path, "bench-loop", lambda: NOW_MS, own_folder=False)
    idle_ms = await blocked(lambda: asyncio.sleep(1))
    began_s = time.perf_counter()
    for calls in (few, every):  # the balances of today are made from the rows
        entry, charges = calls.next()
        await store.reserve(entry, charges, 5_000_000)
        await store.settle(entry.id, ended(entry))
    figures: dict[str, Any] = {
        "rows": rows,
        "caps": count,
        "fill_s": round(filled_s, 1),
        "new_caps_s": round(time.perf_counter() - began_s, 2),
        "megabytes": round(path.stat().st_size / 1e6),
        "loop_blocked_idle_ms": idle_ms,
        "calls": {},
    }
    owner = Owner(path, "bench-thread")
    owner.lock()
    checkpoints = Checkpoints(path)
    lane = Lane(path, owner, "bench", checkpoints)
    try:
        for name, calls in (("few", few), ("all", every)):
            measured = {"counted": len(calls.next()[1]), **measure_thread(lane, calls)}
            standing: list[dict[str, Timing]] = []

            async def through_the_loop(calls: Calls = calls, into: list[dict[str, Timing]] = standing) -> None:
                into.append(await measure_loop(store, calls))

            measured["loop_blocked_ms"] = await blocked(through_the_loop)
            figures["calls"][name] = measured | standing[0]
    finally:
        lane.shut(after=[checkpoints.shut()]).result()
        owner.release()
    figures["log_megabytes"] = round(path.with_name(f"{path.name}-wal").stat().st_size / 1e6, 1)
    await store.close()
    return figures


def run(rows: Sequence[int], caps: int) -> list[dict[str, Any]]:
    """Measure each size in a folder of its own, in which everything is left out again."""
    found = []
    for size in rows:
        with tempfile.TemporaryDirectory(prefix="llmcap-bench-") as folder:
            found.append(asyncio.run(measure(size, caps, Path(folder))))
    return found


def tell(found: Sequence[dict[str, Any]]) -> str:
    """Put the figures in a table, with the ratio of the largest ledger to the smallest."""
    lines = [
        f"SQLite, {found[0]['caps']} caps; microseconds, p50 / p99 of {ROUNDS} rounds of {PAIRS} calls (medians)",
        "",
        (
            f"{'rows':>9}  {'counts in':>9}  {'reserve':>15}  {'settle':>15}  {'both':>15}  {'extend':>15}"
            f"  {'both, asyncio':>15}  loop stood still"
        ),
    ]
    steps = ("reserve", "settle", "both", "extend", "asyncio")
    for one in found:
        for measured in one["calls"].values():
            cells = (f"{measured[step].p50:>7.0f} /{measured[step].p99:>6.0f}" for step in steps)
            counted = f"{measured['counted']} caps"
            lines.append(
                f"{one['rows']:>9,}  {counted:>9}  {'  '.join(cells)}  {measured['loop_blocked_ms']:.1f} ms at worst"
            )
    for name in found[0]["calls"]:
        first, last = found[0]["calls"][name], found[-1]["calls"][name]
        cells = (
            f"{last[step].p50 / first[step].p50:>7.2f} /{last[step].p99 / first[step].p99:>6.2f}" for step in steps
        )
        lines.append(f"{'ratio':>9}  {first['counted']:>4} caps  {'  '.join(cells)}")
    lines.append("")
    lines += (
        f"{one['rows']:>9,} rows: {one['megabytes']} MB, filled in {one['fill_s']} s; balances of all caps made from "
        f"its rows in {one['new_caps_s']} s; log at most {one['log_megabytes']} MB; the idle loop stood still "
        f"{one['loop_blocked_idle_ms']} ms"
        for one in found
    )
    return "\n".join(lines)


def as_json(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The same as plain values."""
    return {
        "ledgers": [
            one
            | {
                "calls": {
                    name: {
                        key: asdict(value) if isinstance(value, Timing) else value for key, value in measured.items()
                    }
                    for name, measured in one["calls"].items()
                }
            }
            for one in found
        ]
    }
