"""The figure of workers: what two of them serve, against one."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

from tests.bench.speed.contenders import FULL_CAPS, Contender, Stand
from tests.bench.speed.figures import Figure
from tests.bench.speed.processes import ROOT

CONNECTIONS = 16
SECONDS = 4.0
MOST_CALLS = 100_000
COUNTING = """
import json, time
body = {"messages": [{"role": "user", "content": "x" * 100}] * 20}
began_ns = time.process_time_ns()
for _ in range(20_000):
    json.loads(json.dumps(body))
print(time.process_time_ns() - began_ns)
"""
"""Work of the same kind as a proxy's, that has nothing to do with any other process."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a load got out of so many workers."""

    calls_a_second: float
    cpu_a_call_ns: float
    idle: float
    """Share of the machine's cores that nobody here used."""
    other: float
    """Share of the machine's cores that the load and the upstream used."""


def measure(rounds: int) -> list[Figure]:
    """Load one worker and two in turn, as much as they take."""
    name = "llmcap proxy --workers 2 ÷ --workers 1, requests a second"
    if not _has_workers():
        return [Figure(name, (), 1.8, at_least=True, note="not measured: this llmcap proxy knows no --workers")]
    shared_nothing: list[float] = []
    with Stand() as stand:
        contenders = [stand.llmcap(FULL_CAPS, "--workers", str(number)) for number in (1, 2)]
        found: list[list[Served]] = [[], []]
        for number in range(-1, rounds):
            for contender, into in zip(contenders, found, strict=True):
                served = _serve(stand, contender)
                if number >= 0:  # the first round warms up
                    into.append(served)
            if number >= 0:
                shared_nothing.append(2 * _count(1) / _count(2))
    one, two = found
    pairs = list(zip(one, two, strict=True))
    other, idle = _mean([served.other for served in two]), _mean([max(0.0, served.idle) for served in two])
    note = (
        "with one worker the load and the upstream have a core to themselves, with two they share both cores with them: "
        f"they took {other:.0%} of the machine then, and {idle:.0%} of it was idle or busy with other things. Free of "
        "that, two cores serve what their processor time allows: the line below"
    )
    figures = [
        Figure(name, tuple(b.calls_a_second / a.calls_a_second for a, b in pairs), 1.8, at_least=True, note=note),
        Figure(
            "  the same, by CPU a request (2 × one's ÷ two's)",
            tuple(2 * a.cpu_a_call_ns / b.cpu_a_call_ns for a, b in pairs),
        ),
        Figure("  what this machine gives two processes that share nothing, so measured", tuple(shared_nothing)),
    ]
    for word, ones in (("1 worker", one), ("2 workers", two)):
        figures.append(Figure(f"  {word}, requests a second", tuple(served.calls_a_second for served in ones)))
        figures.append(
            Figure(f"  {word}, CPU a request", tuple(served.cpu_a_call_ns / 1e6 for served in ones), unit="ms")
        )
    return figures


def _serve(stand: Stand, contender: Contender) -> Served:
    load = contender.load(MOST_CALLS, connections=CONNECTIONS, warm_up=CONNECTIONS * 4, seconds=SECONDS)
    upstream_ns = stand.upstream.cpu_ns()
    measured = contender.measure(load)
    result = measured.result
    other_ns = result.cpu_ns + stand.upstream.cpu_ns() - upstream_ns
    whole_ns = result.elapsed_ns * (os.cpu_count() or 1)
    return Served(
        calls_a_second=result.calls / (result.elapsed_ns / 1e9),
        cpu_a_call_ns=measured.cpu_a_call_ns,
        idle=1 - (measured.cpu_ns + other_ns) / whole_ns,
        other=other_ns / whole_ns,
    )


def _count(processes: int) -> float:
    """What so many processes need at a time, in nanoseconds of processor time each."""
    command = [sys.executable, "-c", COUNTING]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processes)]
    return _mean([float(one.communicate()[0]) for one in running])


def _has_workers() -> bool:
    command = [sys.executable, "-m", "llmcap_addon", "proxy", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return "--workers" in done.stdout


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
