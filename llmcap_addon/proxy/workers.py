"""Workers: `llmcap proxy --workers N`, N processes that share a port and a ledger, under a supervisor.

Python uses one core a process, and mitmproxy's share of a request is nearly all of it: so more cores take more
processes. What makes that simple is that the ledger decides about money, one transaction a step, for any number of
processes: a worker is the lean proxy as it ever was, and no cap rests on what workers know of each other.

The supervisor opens the port (`port`: one socket that all accept from), hands each worker the run's id and the ledger's
URL (`seat`), and touches no traffic; `worker` is what each runs. Workers are started by the command that started the
supervisor, not forked: no half of a running event loop, of SQLite's locks or of threads is inherited. What workers know
of calls, notices and unmetered paths comes through a pipe each (`link`) and is put together (`whole`) for the one
console and the one summary; balances are read from the ledger. What they log comes through another (`relay`).

- Start: the first worker alone while there is no certificate authority, since each would make one; else all at once.
  Who can't start says why, once, and all end. `ready` is called when all take connections.
- A worker that dies is restarted (`restarts`); one that dies again and again ends all, with the reason: connections
  that nobody takes would only hang. Its reservations are posted at once where the ledger can see its death (SQLite, by
  its lock), else when its lease is over. What it took in its last tenth of a second may be missing in the console's
  sums and the summary; the ledger has it.
- SIGINT and SIGTERM end all in order: workers settle their calls, tell of them and go; then the summary of the whole.
  Workers are in a process group of their own, so that a terminal's Ctrl-C comes to the supervisor alone.
- A supervisor that dies takes its workers along, in order: each sees the end of its standard input. Until then, and
  while it is only stopped, what they log is dropped; no call waits for that, or ends by it.

What each worker has to itself, and what that means: who waits is first in, first out in each worker, and looks four
times a second for what others have released; after a cut, only the worker that cut refuses its cap's next calls, while
another still admits one that fits into what is left (the margin of the stream that was cut); what a host or a model has
shown (that it answers in one piece, how long a conversation behind a response's id is, that a plan is used up) each
worker learns anew. A reservation may then be larger than it need be, or a first call be an "overrun" once a worker;
never is a cap's balance passed by an admission.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import IO

from llmcap_addon.errors import ConfigError, LLMCapError
from llmcap_addon.proxy import port
from llmcap_addon.proxy.link import Up, decode, lines_of
from llmcap_addon.proxy.relay import Relay
from llmcap_addon.proxy.restarts import EARLY_S, Restarts
from llmcap_addon.proxy.seat import Seat
from llmcap_addon.proxy.service import Service
from llmcap_addon.proxy.whole import Whole

START_S = 60.0
"""A start takes two seconds of a core; all of them may have one core between them."""
END_S = 30.0
"""Answers that are billed to their end are read on for ten seconds, and a failing ledger is waited for a few."""
log = logging.getLogger("llmcap")


class Workers:
    """The processes of one run, from their start to their end."""

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        seat: Seat,
        shares: IO[bytes],
        service: Service,
        relay: Relay,
        stopping: asyncio.Event,
    ) -> None:
        self.whole = Whole(service.activity)
        self._command = command
        self._numbers = range(1, count + 1)
        self._seat = seat
        """Of any of them."""
        self._shares = shares
        self._service = service
        self._relay = relay
        self._stopping = stopping
        self._failure: LLMCapError | None = None
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        """Set whenever a worker has said something, or ended."""
        self._is_up = False
        """True once all have taken connections."""

    def how_many(self) -> str:
        """Say how many take connections, as the console shows it ("4 workers", "3 of 4 workers")."""
        up, count = len(self.whole.up), len(self._numbers)
        return f"{count if up == count else f'{up} of {count}'} workers"

    async def start(self, *, one_first: bool) -> bool:
        """Start all, the first alone if need be; gives whether they take connections (else it is time to stop)."""
        self._begin(self._numbers[:1] if one_first else self._numbers)
        await self._until_up()
        if one_first:
            self._begin(self._numbers[1:])
            await self._until_up()
        self._is_up = not self._stopping.is_set()
        if self._is_up:
            pids = ", ".join(str(self._processes[number].pid) for number in sorted(self._processes))
            log.info("llmcap: %d workers, processes %s", len(self._numbers), pids)
        return self._is_up

    async def end(self) -> None:
        """End all in order. Raises LLMCapError when it was no signal that stopped them."""
        self._signal(signal.SIGTERM)
        left = (await asyncio.wait(self._tasks, timeout=END_S))[1] if self._tasks else ()
        if left:
            log.error("llmcap: %d workers did not end within %g s; their reservations are posted", len(left), END_S)
            self._signal(signal.SIGKILL)
            await asyncio.wait(left)
            await self._service.look_at_store()
        if self._failure is not None:
            raise self._failure

    def _begin(self, numbers: Iterable[int]) -> None:
        if not self._stopping.is_set():
            self._tasks += [asyncio.create_task(self._keep(number)) for number in numbers]

    async def _until_up(self) -> None:
        while len(self.whole.up) < len(self._tasks) and not self._stopping.is_set():
            self._changed.clear()
            waits = [asyncio.create_task(event.wait()) for event in (self._changed, self._stopping)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)

    # ── one worker ──

    async def _keep(self, number: int) -> None:
        """Start a worker, and start it again for as long as that makes sense."""
        restarts = Restarts()
        while not self._stopping.is_set():
            started_s = time.monotonic()
            try:
                code = await self._attend(number)
            except Exception as error:
                self._fail(LLMCapError(f"worker {number} can't be started: {type(error).__name__}: {error}"))
                return
            if self._stopping.is_set():
                return
            failure = self.whole.failures.pop(number, None)
            reason = failure.message if failure is not None else _how(code)
            if not self._is_up:
                told = ConfigError if failure is not None and failure.of_config else LLMCapError
                self._fail(told(reason if failure is not None else f"worker {number} did not start: {reason}"))
                return
            alone = not self.whole.up
            delay_s = restarts.after(time.monotonic() - started_s, explained=failure is not None, alone=alone)
            if delay_s is None:
                times = f"worker {number} ended {restarts.early} times within {EARLY_S:g} s of its start"
                self._fail(LLMCapError(f"{times}, so all are stopped: {reason}"))
                return
            self._service.bulletin.trouble(
                f"worker {number} has ended ({reason}) and is restarted"
                if failure is None
                else f"worker {number} can't be restarted and is tried again: {reason}"
            )
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)

    def _fail(self, error: LLMCapError) -> None:
        """Stop all; the first to fail says why."""
        self._failure = self._failure or error
        self._stopping.set()

    async def _attend(self, number: int) -> int:
        """Run one process to its end, and clear up behind it; gives its exit code."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(*self._seat.descriptors, self._seat.shares),
            process_group=0,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._processes[number] = process
        if self._stopping.is_set():  # its signal came while it was started
            process.terminate()
        late = asyncio.get_running_loop().call_later(START_S, self._give_up, number)
        try:
            process.stdin.write(replace(self._seat, number=number).encode())
            await asyncio.gather(
                lines_of(process.stdout, partial(self._hear, number)),
                lines_of(process.stderr, lambda line: self._relay.take(number, line.decode(errors="replace"))),
            )
            return await process.wait()
        finally:
            late.cancel()
            del self._processes[number]
            port.leave(self._shares, number)
            self.whole.gone(number)
            if not self._stopping.is_set():
                await self._service.look_at_store()  # its lock tells that it is dead: what it held is posted now
            self._changed.set()

    def _give_up(self, number: int) -> None:
        """End a worker that does not get going."""
        if number not in self.whole.up:
            self._processes[number].kill()

    def _hear(self, number: int, line: bytes) -> None:
        told = decode(line)
        if told is None:
            return
        self.whole.take(number, told)
        self._changed.set()
        if isinstance(told, Up) and self._is_up:
            log.info("llmcap: worker %d takes connections again, process %d", number, self._processes[number].pid)


def _how(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
