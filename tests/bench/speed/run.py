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

from tests.bench.speed import requests
from tests.bench.speed.figures import Figure, table

ROUNDS = 5
KINDS: dict[str, tuple[str, Callable[[int], list[Figure]]]] = {
    "requests": ("processor time of a request, and what a proxy adds to it", requests.measure),
}
"""Sub-command → what it tells, and how it is measured in so many rounds."""


def run(names: Sequence[str], rounds: int) -> tuple[dict[str, Any], str, bool]:
    """Measure; gives the figures as JSON and as text, and whether all could be measured."""
    signal.signal(signal.SIGTERM, _leave)  # so that what was started is ended, as after SIGINT
    begun_s = time.monotonic()
    found: list[Figure] = []
    failures: list[str] = []
    for name in names:
        print(f"measuring {name}: {KINDS[name][0]}", file=sys.stderr)
        try:
            found += KINDS[name][1](rounds)
        except (RuntimeError, TimeoutError, OSError) as error:
            failures.append(f"{name} was not measured: {error}")
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
    text = "\n".join([head, "", table(found), *(["", *failures] if failures else [])])
    figures = {"machine": machine, "rounds": rounds, "figures": [figure.as_json() for figure in found]}
    return figures, text, not failures


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)
