"""Display: keeps what a person sees in step with the service, and mitmproxy's own output out of its way."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import IO

from mitmproxy import ctx
from mitmproxy.log import MitmFormatter

from llmcap_addon.activity import CallLine
from llmcap_addon.budget.ledger import Balance
from llmcap_addon.errors import StoreError
from llmcap_addon.proxy.service import Service
from llmcap_addon.view.console import Notice, snapshot, unclaimed_notice
from llmcap_addon.view.lines import call_line
from llmcap_addon.view.pick import choose
from llmcap_addon.view.screen import LiveConsole

REFRESH_S = 0.25
"""A person follows no faster, and drawing takes a few milliseconds of a thread."""

log = logging.getLogger("llmcap")


type Swap = tuple[object, str, object]
"""An object, the name of an attribute of its, and the value that it shall have while the console stands."""


def mitmproxys_outputs(stream: IO[str]) -> Iterator[Swap]:
    """Give what leads all that mitmproxy prints, through files it took at its start, to a stream."""
    termlog, dumper = ctx.master.addons.get("termlog"), ctx.master.addons.get("dumper")
    if termlog is not None:
        yield termlog.logger, "file", stream
        yield termlog.logger, "formatter", MitmFormatter(colorize=False)
    if dumper is not None:
        yield dumper, "outfp", stream
        yield dumper, "out_has_vt_codes", False


class Display:
    """The live console on a terminal, else a line a call in mitmproxy's log, or nothing.

    `beside` gives further notices than the service's own, `outputs` says what else must write to the console's log.
    """

    def __init__(
        self,
        service: Service,
        beside: Callable[[], tuple[Notice, ...]] = tuple,
        outputs: Callable[[IO[str]], Iterable[Swap]] = mitmproxys_outputs,
    ) -> None:
        self._service = service
        self._beside = beside
        self._outputs = outputs
        self._console: LiveConsole | None = None
        self._drawer: asyncio.Task[None] | None = None
        self._balances: tuple[Balance, ...] = ()
        self._reading: asyncio.Task[None] | None = None
        self._swapped: list[Swap] = []

    def start(self, listening: str | Callable[[], str]) -> None:
        """Take the terminal over, or begin to print lines; `listening` stands on top of the console."""
        chosen = choose(self._service.settings.view, sys.stdout, os.environ)
        if chosen == "lines":
            self._service.activity.subscribe(_log_line)
        elif chosen == "console":
            self._console = LiveConsole(sys.stdout)
            self._redirect(self._console.log_stream())
            self._console.start()
            self._drawer = asyncio.create_task(
                self._draw_for_ever(self._console, listening if callable(listening) else lambda: listening)
            )

    async def stop(self) -> None:
        """Give the terminal back, with the last state on it."""
        if self._console is None:
            return
        tasks = [task for task in (self._drawer, self._reading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(self._console.stop)
        for owner, name, value in self._swapped:
            setattr(owner, name, value)

    def _redirect(self, stream: IO[str]) -> None:
        for owner, name, value in self._outputs(stream):
            self._swapped.append((owner, name, getattr(owner, name)))
            setattr(owner, name, value)

    async def _draw_for_ever(self, console: LiveConsole, listening: Callable[[], str]) -> None:
        while True:
            try:
                await self._draw(console, listening)
            except Exception as error:
                log.error("llmcap: the console could not be drawn: %s: %s", type(error).__name__, error)
            await asyncio.sleep(REFRESH_S)

    async def _draw(self, console: LiveConsole, listening: Callable[[], str]) -> None:
        service = self._service
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_balances())
        await asyncio.wait([self._reading], timeout=REFRESH_S)  # a slow store must not stop the screen
        state = snapshot(
            service.activity,
            self._balances,
            service.now_ms(),
            listening(),
            notices=tuple(
                dict.fromkeys(
                    (*service.bulletin.notices(), *self._beside(), *unclaimed_notice(service.unclaimed.seen()))
                )
            ),
            zone=service.gate.policy.zone,
        )
        await asyncio.to_thread(console.refresh, state)  # a terminal stopped with Ctrl-S must not stop the proxy

    async def _read_balances(self) -> None:
        try:
            self._balances = await self._service.gate.budget.balances()
        except StoreError as error:
            self._service.bulletin.store_trouble(str(error))
        except Exception as error:
            log.error("llmcap: the balances could not be read: %s: %s", type(error).__name__, error)


def _log_line(line: CallLine) -> None:
    if line.ended():
        log.info(call_line(line))
