"""`llmcap proxy --workers 2`: two processes on one port and one ledger, seen from outside as one proxy."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx2
import pytest

from llmcap_addon.proxy import port
from llmcap_addon.proxy.seat import Seat
from tests.e2e.harness import LEAN, ROOT, WAIT_SECONDS, Proxy, poll
from tests.e2e.terminal import Watched
from tests.fakes.script import Hold, Script
from tests.fakes.sdks import KEY
from tests.fakes.server import OPENAI_HOST, StandIn

pytestmark = pytest.mark.xdist_group("workers")

TWO = ("--workers", "2")
LIMIT = 40_000_000
CAPS = """
wait: 2s
caps:
  - {name: fuse, limit: 0.04, per: ever, match: {model: gpt-4o}}
  - {name: run, limit: 9, per: run}
"""
MOST_STREAMS = 40
"""Connections are taken by whoever is first: so many all taken by one worker is no accident."""


class Workers(Proxy):
    """A proxy of two workers."""

    def __init__(self, folder: Path, stand_in: StandIn, caps: str) -> None:
        super().__init__(folder, stand_in, caps, flavor="lean", arguments=TWO)

    @property
    def pids(self) -> list[int]:
        """The workers' processes, as the log has named them."""
        [first] = re.findall(r"2 workers, processes (\d+), (\d+)", self.log)[-1:]
        found = [int(pid) for pid in first]
        for number, pid in re.findall(r"worker (\d) takes connections again, process (\d+)", self.log):
            found[int(number) - 1] = int(pid)
        return found

    def owners(self) -> set[str]:
        """Who holds the reservations of the calls in flight: one name for each process."""
        with sqlite3.connect(f"file:{self.store_path}?mode=ro", uri=True) as database:
            rows = database.execute("SELECT DISTINCT owner FROM ledger WHERE state = 'pending'").fetchall()
        database.close()
        return {owner for (owner,) in rows}


class Sole(Proxy):
    """One worker whose supervisor is the test, which reads nothing of its log: the pipe is full from the beginning."""

    def __init__(self, folder: Path, stand_in: StandIn, caps: str) -> None:
        super().__init__(folder, stand_in, caps, flavor="lean", arguments=("--worker",))
        self._log_end = 0

    def _spawn(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        self._log_end, written = os.pipe()
        os.set_blocking(written, False)
        with suppress(BlockingIOError):
            while True:
                os.write(written, b"unread\n" * 1_000)
        with suppress(BlockingIOError):
            while True:
                os.write(written, b"\n")
        os.set_blocking(written, True)
        [listening] = port.listen("127.0.0.1", 0)
        with listening, port.shares_file(1) as shares:
            self.port = port.address_of(listening)[1]
            passed = (listening.fileno(), shares.fileno())
            process = subprocess.Popen(
                self._command(),
                cwd=self.folder,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=written,
                pass_fds=passed,
            )
        os.close(written)
        assert process.stdin is not None
        process.stdin.write(Seat(1, "r1", self.store_url, [passed[0]], passed[1], "info").encode())
        process.stdin.flush()
        return process

    def _take(self, printed: str) -> None:
        super()._take(f"listening at 127.0.0.1:{self.port}\n" if printed.startswith('{"up"') else printed)

    def leave(self, last: Callable[[], object]) -> int:
        """Be gone, as a supervisor is that was killed, `last` while only the log has noticed; gives the exit code."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        os.close(self._log_end)
        last()
        process.stdin.close()
        return process.wait(WAIT_SECONDS)


@pytest.fixture(scope="module")
def workers(stand_ins: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Run two workers for the tests that leave them running."""
    with Workers(tmp_path_factory.mktemp("workers"), stand_ins, CAPS) as proxy:
        yield proxy
    proxy.assert_sound()


def ask(proxy: Proxy, model: str, *, stream: bool = False) -> int:
    """Make a call on a connection of its own, and give the answer's status once all of it is there; 0 when it broke."""
    request = {"model": model, "stream": stream, "max_tokens": 200, "messages": [{"role": "user", "content": "hello"}]}
    with proxy.client() as client:
        try:
            url = f"https://{OPENAI_HOST}/v1/chat/completions"
            return client.post(url, json=request, headers={"authorization": f"Bearer {KEY}"}).status_code
        except httpx2.TransportError:
            return 0


def streams_over_both(proxy: Workers, pool: ThreadPoolExecutor, hold: Hold, stand_in: StandIn) -> int:
    """Begin streams, each on a connection of its own, until both workers hold some; gives how many that took."""
    stand_in.default = Script(hold_stream=hold, hold_after_tokens=8)
    for begun in range(1, MOST_STREAMS + 1):
        pool.submit(ask, proxy, "gpt-4o-mini", stream=True)
        stand_in.wait_for(partial(lambda count: len(stand_in.billable()) >= count, begun), "the next stream")
        if len(proxy.owners()) == 2:
            return begun
    pytest.fail(f"one worker took all of {MOST_STREAMS} connections")


def test_both_serve_and_bill_as_one(workers: Workers, stand_in: StandIn) -> None:
    """Streams at the same time are held by two processes, and each is billed to the nano-dollar in one ledger."""
    seen = workers.rows()
    hold = Hold()
    with ThreadPoolExecutor(MOST_STREAMS) as pool:
        begun = streams_over_both(workers, pool, hold, stand_in)
        hold.release()
    rows = workers.settled(begun, seen)
    assert sorted(row.cost for row in rows) == sorted(record.cost_nanousd for record in stand_in.seen_billable())
    assert len({row.entry.run for row in rows}) == 1, "a cap per run would count each worker by itself"


def test_one_cap_is_never_passed_from_both(workers: Workers, stand_in: StandIn) -> None:
    """Calls at once through both workers on one cap that runs out: what was billed stays below it."""
    stand_in.default = Script(output_tokens=150)

    with ThreadPoolExecutor(12) as pool:
        statuses = list(pool.map(lambda _: ask(workers, "gpt-4o"), range(60)))
    assert set(statuses) == {200, 429}
    workers.quiet()
    billed = sum(record.cost_nanousd for record in stand_in.seen_billable())
    assert LIMIT * 0.9 < billed <= LIMIT
    assert workers.totals("fuse").posted == billed
    assert workers.totals("fuse").pending == 0


def test_a_worker_that_is_killed_is_posted_and_restarted(workers: Workers, stand_in: StandIn) -> None:
    """What it had reserved is posted at once, the other's stream goes on, and both serve again."""
    seen = workers.rows()
    hold = Hold()
    with ThreadPoolExecutor(MOST_STREAMS) as pool:
        begun = streams_over_both(workers, pool, hold, stand_in)
        dead = workers.pids[0]
        os.kill(dead, signal.SIGKILL)
        poll(lambda: len(workers.owners()) == 1, "the dead worker's reservations to be posted", lambda: workers.log)
        workers.wait_log(lambda log: "worker 1 takes connections again" in log, "the restart")
        hold.release()
    rows = workers.settled(begun, seen)
    expired = [row for row in rows if "expired" in row.marks]
    assert 0 < len(expired) < begun
    assert sum(row.cost for row in rows) > sum(record.cost_nanousd for record in stand_in.seen_billable())
    assert "worker 1 has ended (killed by SIGKILL) and is restarted" in workers.log
    assert dead not in workers.pids
    again = Hold()
    with ThreadPoolExecutor(MOST_STREAMS) as pool:
        streams_over_both(workers, pool, again, stand_in)
        again.release()
    workers.quiet()
    assert workers.totals("run").pending == 0


def test_a_signal_ends_all_and_sums_up(workers: Workers, stand_in: StandIn, tmp_path: Path) -> None:
    """Live streams are settled in both workers, the summary is of the whole; a second proxy's port is told in a line."""
    proxy = Workers(tmp_path / "proxy", stand_in, CAPS)
    proxy.confdir, proxy.ca_path = workers.confdir, workers.ca_path  # its key takes a while to make
    with proxy:
        command = [sys.executable, str(LEAN), "proxy", "--listen", f"127.0.0.1:{proxy.port}", *TWO]
        paths = ["--config", str(proxy.config_path), "--store", proxy.store_url, "--ca-dir", str(proxy.confdir)]
        second = subprocess.run(
            [*command, *paths],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "HOME": str(proxy.home), "PYTHONPATH": str(ROOT)},
        )
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr == (
            f"llmcap: 127.0.0.1:{proxy.port} is in use by another program; choose another with --listen\n"
        )
        hold = Hold()
        with ThreadPoolExecutor(MOST_STREAMS) as pool:
            begun = streams_over_both(proxy, pool, hold, stand_in)
            pids = proxy.pids
            proxy.stop()
            hold.release()
    assert all(row.state == "posted" and "expired" not in row.marks for row in proxy.rows())
    spent = proxy.totals("run")
    assert spent.pending == 0
    last = proxy.log.strip().splitlines()[-1]
    assert re.fullmatch(rf"llmcap: \$\S+ of \$\S+ (?:in all|in this run) \(\S+\) · {begun} calls?", last), last
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    proxy.assert_sound()


def test_a_worker_outlives_its_supervisor_in_order(workers: Workers, stand_in: StandIn, tmp_path: Path) -> None:
    """It serves while nobody reads its log, and when its supervisor is gone it settles its live calls and ends."""
    proxy = Sole(tmp_path / "proxy", stand_in, f"{CAPS}\nunmetered: allow\n")
    proxy.confdir, proxy.ca_path = workers.confdir, workers.ca_path
    hold = Hold()

    def log_line(path: str) -> None:
        with proxy.client() as client:
            client.post(f"https://{OPENAI_HOST}/v1/{path}", json={})  # a path that nothing meters is logged

    with proxy, ThreadPoolExecutor(4) as pool:
        log_line("one")
        assert ask(proxy, "gpt-4o-mini") == 200
        stand_in.default = Script(hold_stream=hold, hold_after_tokens=8)
        for _ in range(4):
            pool.submit(ask, proxy, "gpt-4o-mini", stream=True)
        stand_in.wait_for(lambda: len(stand_in.billable()) >= 5, "the streams")
        code = proxy.leave(lambda: log_line("two"))
        rows = proxy.rows()
        hold.release()
    assert code == 0
    assert [row.state for row in rows] == ["posted"] * 5
    assert all("expired" not in row.marks for row in rows)
    proxy.assert_sound()


def test_the_console_shows_the_whole(workers: Workers, stand_in: StandIn, tmp_path: Path) -> None:
    """One screen, narrow or wide, has the calls of both workers, their caps and how many workers there are."""
    watched = Watched(tmp_path / "proxy", stand_in, CAPS, flavor="lean", arguments=TWO)
    watched.confdir, watched.ca_path = workers.confdir, workers.ca_path
    with watched:
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: ask(watched, "gpt-4o-mini"), range(8))) == {200}
        for columns in (80, 200):
            watched.resize(columns)
            poll(partial(lambda wide: watched.columns() == wide, columns), f"a screen of {columns} columns")
            poll(lambda: "8 calls" in "\n".join(watched.screen()), "all calls", watched.screen)
            screen = "\n".join(watched.screen())
            for word in (f"127.0.0.1:{watched.port}, 2 workers", "fuse", "run", "gpt-4o-mini", "done"):
                assert word in screen
    watched.assert_sound()
