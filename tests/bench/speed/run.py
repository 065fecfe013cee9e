"""`scripts/bench speed`: all figures of speed in one table, or one of them alone."""

from __future__ import annotations

import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from types import FrameType
from typing import Any

from tests.bench.speed import gate, memory, requests, start, streams, talk, workers
from tests.bench.speed.figures import Figure, markdown, table

ROUNDS = 5
MOST_LINES = 5
"""Shown of what a contender that failed has printed last."""
KINDS: dict[str, tuple[str, Callable[[int], list[Figure]]]] = {
    "requests": ("processor time of a request, and what a proxy adds to it", requests.measure),
    "streams": ("processor time and delay of a stream's events", streams.measure_streams),
    "first-byte": ("time to the first byte of a stream", streams.measure_first_byte),
    "gate": ("admitting and settling a call, without a proxy", gate.measure),
    "stall": ("how long a prompt of a megabyte holds other streams up", streams.measure_stall),
    "memory": ("what ten thousand calls and a long stream leave in memory", memory.measure),
    "start": ("from the start of `llmcap run` to its tool's first byte", start.measure),
    "workers": ("what two workers serve, against one", workers.measure),
}
"""Sub-command → what it tells, and how it is measured in so many rounds."""


GROSS = {requests.OURS: 2.5, requests.ADDON: 3.5, streams.EVENT: 2.5, streams.MERGED: 20.0}
"""What the short form fails on: far above what was measured, so that a busy machine passes and a blunder does not. No
figure of it is a time: those say more about the machine. A stream that the machine holds up may have events held back
together, so a few of the 2,000 may be merged."""


def short(rounds: int = 2) -> list[Figure]:
    """Measure what tells most, quickly: ratios of processor time, and whether events stay apart."""
    figures = requests.measure(rounds, 120, warm_up=60, with_peer=False)
    return figures + streams.measure_streams(1, talk.Stream(events=1_000, gap_us=1_500))


def gross(figures: Sequence[Figure]) -> list[str]:
    """Give what is wrong with the figures of the short form."""
    return [
        f"{figure.name} is {figure.median:.2f}, above {GROSS[figure.name]:g}"
        for figure in figures
        if figure.median > GROSS.get(figure.name, float("inf"))
    ]


def run(
    names: Sequence[str], rounds: int, *, is_short: bool = False, is_markdown: bool = False
) -> tuple[dict[str, Any], str, bool]:
    """Measure; gives the figures as JSON and as text, and whether all could be measured. What misses its target is told
    only; of the short form, what is grossly above it fails."""
    signal.signal(signal.SIGTERM, _leave)  # so that what was started is ended, as after SIGINT
    begun_s = time.monotonic()
    found: list[Figure] = []
    failures: list[str] = []
    if is_short:
        found = short()
        failures = gross(found)
        names, rounds = (), 2
    for name in names:
        print(f"measuring {name}: {KINDS[name][0]}", file=sys.stderr)
        try:
            found += KINDS[name][1](rounds)
        except (RuntimeError, TimeoutError, OSError) as error:
            told = str(error).splitlines()
            failures.append("\n".join([f"{name} was not measured: {told[0]}", *told[1:][-MOST_LINES:]]))
            found.append(Figure(name, ()))
    machine = {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "system": platform.system(),
        "python": platform.python_version(),
        "mitmproxy": version("mitmproxy"),
    }
    seconds = time.monotonic() - begun_s
    head = (
        f"{machine['cores']} cores, load average {machine['load_average']:.1f} at the end, Python {machine['python']}, "
        f"mitmproxy {machine['mitmproxy']}; medians of {rounds} rounds in turn, loopback, {seconds:.0f} s"
    )
    text = "\n".join(
        [head, "", markdown(found) if is_markdown else table(found), *(["", *failures] if failures else [])]
    )
    figures = {"machine": machine, "rounds": rounds, "figures": [figure.as_json() for figure in found]}
    return figures, text, not failures


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
