"""The supervisor's processes: real ones, which do no more than say that they are up, or fail as a worker may."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

import pytest

from llmcap_addon import config as configs
from llmcap_addon.errors import ConfigError, LLMCapError
from llmcap_addon.proxy import port, restarts
from llmcap_addon.proxy import workers as workers_module
from llmcap_addon.proxy.relay import Relay
from llmcap_addon.proxy.seat import Seat
from llmcap_addon.proxy.service import Service, Settings
from llmcap_addon.proxy.workers import Workers

RUN, STORE = "r7", "redis://u:secret@h:1/0"
UP = "import os, signal, sys; sys.stdin.readline(); os.write(1, b'{\"up\":null}\\n');"
SERVES = f"{UP} sys.stdin.read()"
"""Ends by SIGTERM, or when the supervisor is gone."""
WAIT_S = 20.0


class Stage:
    """A supervisor without a proxy under it."""

    def __init__(self, service: Service, shares: IO[bytes]) -> None:
        self.service = service
        self.shares = shares
        self.stopping = asyncio.Event()
        self.relay = Relay(io.StringIO(), time.monotonic, logging.INFO)

    def workers(self, script: str, count: int = 2) -> Workers:
        """Give workers that run a script."""
        command = (sys.executable, "-S", "-c", script)
        seat = Seat(0, RUN, STORE, descriptors=[], shares=self.shares.fileno(), verbosity="info")
        return Workers(command, count, seat, self.shares, self.service, self.relay, self.stopping)

    def printed(self) -> str:
        """What the workers have logged."""
        assert isinstance(self.relay.file, io.StringIO)
        return self.relay.file.getvalue()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    settings = Settings(config_value=configs.builtin(), store=f"sqlite://{tmp_path}/ledger.sqlite", is_audience=True)
    service = await Service.start(settings)
    with port.shares_file(4) as shares:
        yield Stage(service, shares)
    await service.close()


async def ends(workers: Workers) -> None:
    """Wait until something stops all, and end it."""
    try:
        await asyncio.wait_for(workers.start(one_first=False), WAIT_S)
        await asyncio.wait_for(workers._stopping.wait(), WAIT_S)
    finally:
        await workers.end()


async def test_all_start_and_end(stage: Stage) -> None:
    """They are up when all have said so, and their end is no failure."""
    workers = stage.workers(SERVES, count=3)
    assert await asyncio.wait_for(workers.start(one_first=False), WAIT_S)
    assert workers.how_many() == "3 workers"
    stage.stopping.set()
    await workers.end()
    assert workers.how_many() == "0 of 3 workers"


async def test_each_gets_its_seat_and_what_it_logs_is_written(stage: Stage) -> None:
    """The seat comes on standard input, not among the arguments, and standard error is the log."""
    script = (
        "import os, sys; line = sys.stdin.readline(); print(line.strip(), sys.argv, file=sys.stderr, flush=True);"
        "os.write(1, b'{\"up\":null}\\n'); sys.stdin.read()"
    )
    workers = stage.workers(script, 1)
    await asyncio.wait_for(workers.start(one_first=True), WAIT_S)
    stage.stopping.set()
    await workers.end()
    told, _, arguments = stage.printed().strip().rpartition(" ")
    seat = json.loads(told)
    assert (seat["number"], seat["run_id"], seat["store"]) == (1, RUN, STORE)
    assert "secret" not in arguments


async def test_the_first_may_have_to_be_up_before_the_others_start(stage: Stage, tmp_path: Path) -> None:
    """Each would make an authority of its own where there is none."""
    made = tmp_path / "authority"
    script = (
        f"import os, sys, pathlib; made = pathlib.Path({str(made)!r}); new = not made.exists(); sys.stdin.readline();"
        "made.open('x') if new else None; os.write(1, b'{\"up\":null}\\n'); sys.stdin.read()"
    )
    workers = stage.workers(script, count=4)
    assert await asyncio.wait_for(workers.start(one_first=True), WAIT_S)
    stage.stopping.set()
    await workers.end()
    assert "FileExistsError" not in stage.printed()


@pytest.mark.parametrize(("of_config", "kind"), [(True, ConfigError), (False, LLMCapError)])
async def test_who_cannot_start_says_why_and_all_end(stage: Stage, of_config: bool, kind: type[LLMCapError]) -> None:
    """One message of several that say the same, and the right kind for the exit code."""
    told = json.dumps({"failed": ["the ledger is locked", of_config]})
    script = f"import os, sys; sys.stdin.readline(); os.write(1, b'{told}\\n'); sys.exit(1)"
    with pytest.raises(LLMCapError) as raised:
        await ends(stage.workers(script))
    assert type(raised.value) is kind
    assert str(raised.value) == "the ledger is locked"


async def test_who_dies_at_the_start_ends_all(stage: Stage) -> None:
    """Without a word: then how it died is told."""
    with pytest.raises(LLMCapError, match=r"^worker \d did not start: exit code 3$"):
        await ends(stage.workers("import sys; sys.exit(3)"))


async def test_a_command_that_cannot_be_run_ends_all(stage: Stage) -> None:
    """The program may have been moved away by an upgrade."""
    workers = stage.workers("")
    workers._command = ("/gone/python",)
    with pytest.raises(LLMCapError, match="can't be started"):
        await ends(workers)


async def test_who_does_not_get_going_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that hangs must not leave a port on which nobody answers."""
    monkeypatch.setattr(workers_module, "START_S", 0.2)
    with pytest.raises(LLMCapError, match="did not start: killed by SIGKILL"):
        await ends(stage.workers("import sys; sys.stdin.read()", count=1))


async def test_a_killed_worker_is_restarted(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place is taken again, and what happened is told on the console."""
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 0.0)
    workers = stage.workers(SERVES)
    await asyncio.wait_for(workers.start(one_first=False), WAIT_S)
    before = workers._processes[1].pid
    os.kill(before, signal.SIGKILL)
    while 1 not in workers.whole.up or workers._processes[1].pid == before:
        await asyncio.wait_for(workers._changed.wait(), WAIT_S)
        workers._changed.clear()
    [notice] = stage.service.bulletin.notices()[:1]
    assert notice.text == "worker 1 has ended (killed by SIGKILL) and is restarted"
    assert workers.how_many() == "2 workers"
    stage.stopping.set()
    await workers.end()


async def test_a_worker_that_dies_again_and_again_ends_all(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left running, and the message has the reason."""
    monkeypatch.setattr(restarts, "FIRST_DELAY_S", 0.0)
    with pytest.raises(LLMCapError, match=r"^worker 1 ended 5 times within 10 s .* all are stopped: exit code 4$"):
        await ends(stage.workers(f"{UP} sys.exit(4)", count=1))


async def test_who_does_not_end_is_killed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who stops the proxy does not wait for ever."""
    monkeypatch.setattr(workers_module, "END_S", 0.1)
    workers = stage.workers(f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SERVES}", count=1)
    assert await asyncio.wait_for(workers.start(one_first=False), WAIT_S)
    [pid] = [process.pid for process in workers._processes.values()]
    stage.stopping.set()
    await workers.end()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
