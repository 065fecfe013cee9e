"""Processes that a benchmark starts: what they take of the processor and of memory, and their end."""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench.speed.load import Load, Result

ROOT = Path(__file__).resolve().parents[3]
STOP_S = 10.0
"""After so long a process that was asked to end is killed."""
POLL_S = 0.01
LOAD_S = 180.0
"""A load that takes longer is ended, and the figure fails."""


class Process:
    """A process and those that it starts itself."""

    def __init__(
        self, command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None, piped: bool = False
    ) -> None:
        """Start it; what it prints goes to `log`, with `piped` only its errors do, and it is talked to by lines."""
        self.log = log
        with log.open("ab") as errors:
            self._popen = subprocess.Popen(
                list(command),
                cwd=log.parent,
                env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else errors,
                stderr=errors,
            )

    @property
    def pid(self) -> int:
        """Its id."""
        return self._popen.pid

    @property
    def is_over(self) -> bool:
        """True once it has ended."""
        return self._popen.poll() is not None

    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def write_line(self, line: str) -> None:
        """Tell it something."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(line.encode() + b"\n")
        self._popen.stdin.flush()

    def read_line(self) -> str:
        """Wait for what it says next; raises RuntimeError when it ends instead."""
        assert self._popen.stdout is not None
        line = self._popen.stdout.readline().decode().strip()
        if not line:
            self._popen.wait(STOP_S)
            raise RuntimeError(f"{self._popen.args!r} ended:\n{self.said()}")
        return line

    def cpu_ns(self) -> int:
        """Processor time so far, of it and of the processes below it, in nanoseconds."""
        return sum(_cpu_ns(pid) for pid in self.family())

    def resident_bytes(self) -> int:
        """Memory that it and the processes below it hold now."""
        told = _ps("rss=", self.family())
        return sum(int(line) for line in told) * 1024

    def family(self) -> list[int]:
        """Its own id and those of all processes below it."""
        below: dict[int, list[int]] = {}
        for line in _ps("pid=,ppid="):
            one, parent = line.split()
            below.setdefault(int(parent), []).append(int(one))
        found = [self.pid]
        for known in found:
            found += below.get(known, [])
        return found

    def wait(self, timeout_s: float) -> int:
        """Wait for its end; gives the exit code, raises subprocess.TimeoutExpired."""
        return self._popen.wait(timeout_s)

    def stop(self) -> None:
        """End it, kindly at first."""
        if self._popen.stdin is not None:
            self._popen.stdin.close()
        if not self.is_over:
            self._popen.terminate()
            try:
                self._popen.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Loader(Process):
    """A load in a process of its own, which has warmed up what it loads when this returns."""

    def __init__(self, load: Load, log: Path) -> None:
        super().__init__([sys.executable, "-m", "tests.bench.speed.load"], log, piped=True)
        self.write_line(json.dumps(asdict(load)))
        try:
            self.read_line()
        except BaseException:
            self.stop()
            raise

    def begin(self) -> None:
        """Let it run."""
        self.write_line("go")

    def result(self) -> Result:
        """Wait for what it saw; raises RuntimeError when a call has failed."""
        told: dict[str, Any] = json.loads(self.read_line())
        result = Result(**told)
        if result.failed:
            raise RuntimeError(f"{result.failed} of {result.calls} calls failed, the first with\n{result.failure}")
        return result


def free_port() -> int:
    """Find a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_port(process: Process, port: int, timeout_s: float) -> None:
    """Wait until a process takes connections; raises RuntimeError when it ends, TimeoutError when it takes too long."""
    until_s = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.is_over:
                raise RuntimeError(f"it ended while it started:\n{process.said()}") from None
            if time.monotonic() > until_s:
                raise TimeoutError(f"it did not listen within {timeout_s:g} s:\n{process.said()}") from None
            time.sleep(POLL_S)


def _ps(columns: str, pids: Sequence[int] = ()) -> list[str]:
    which = ["-p", ",".join(map(str, pids))] if pids else ["-A"]
    done = subprocess.run(["ps", *which, "-o", columns], capture_output=True, text=True, check=False)
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _cpu_ns(pid: int) -> int:
    """A process's own time, all its threads, those that have ended too; 0 when it is gone."""
    try:
        if platform.system() == "Linux":
            # clock_getcpuclockid(3), as glibc computes it: to the nanosecond, where /proc/PID/stat tells hundredths.
            return time.clock_gettime_ns((~pid << 3) | 2)
        minutes, seconds = _ps("time=", [pid])[0].split(":")[-2:]
        return round((int(minutes) * 60 + float(seconds)) * 1e9)
    except (OSError, IndexError):
        return 0
