"""A real redis-server of the tests' own: on a private port of loopback, in a folder of its own, killed by its pid."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

PROGRAM = shutil.which("redis-server")
MUST_RUN = os.environ.get("LLMCAP_NO_SKIPS", "") not in {"", "0"}
"""Set where nothing may be skipped: without a redis-server the tests then fail."""
START_S = 20.0
_POLL_S = 0.02


class RedisServer:
    """One server, started and stopped at will; its data stays in its folder."""

    def __init__(self, folder: Path, *settings: str, tls: bool = False) -> None:
        self.folder = folder
        self.port = free_port()
        self.tls = tls
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, prefix: str = "test", login: str = "") -> str:
        return f"redis://{login}127.0.0.1:{self.port}/0?prefix={prefix}"

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5, decode_responses=True)

    def start(self) -> None:
        assert PROGRAM is not None
        port = ("--port", "0", "--tls-port", str(self.port)) if self.tls else ("--port", str(self.port))
        common = ("--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "", "--daemonize", "no")
        self._process = subprocess.Popen(
            [PROGRAM, *port, *common, *self._settings], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.wait_until(self._listens)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Ask again and again until the server is so far."""
        give_up_at_s = time.monotonic() + START_S
        while not holds():
            assert self._process is not None
            assert self._process.poll() is None, "redis-server has ended"
            assert time.monotonic() < give_up_at_s, "redis-server takes too long"
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let it hang: connections are accepted by the system, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def _listens(self) -> bool:
        try:
            if self.tls:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return True
            with self.client() as client:
                return bool(client.ping())
        except (redis.RedisError, OSError):
            return False


@contextmanager
def running(folder: Path, *settings: str, tls: bool = False) -> Iterator[RedisServer]:
    """Run a server for a while, or skip."""
    need_server()
    server = RedisServer(folder, *settings, tls=tls)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def need_server() -> None:
    """Skip, or fail where nothing may be skipped, when there is no redis-server on PATH."""
    if PROGRAM is None:
        told = "no redis-server on PATH (apt-get install redis-server, brew install redis)"
        if MUST_RUN:
            pytest.fail(told)
        pytest.skip(told)


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
