"""Display: keeps what a person sees in step with the service, and mitmproxy's own output out of its way."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import IO, Any

from mitmproxy import ctx
from mitmproxy.addons.termlog import TermLogHandler

from llmcap_addon.activity import CallLine
from llmcap_addon.budget.ledger import Balance
from llmcap_addon.errors import StoreError
from llmcap_addon.proxy.service import Service
from llmcap_addon.view.console import snapshot
from llmcap_addon.view.lines import call_line
from llmcap_addon.view.pick import choose
from llmcap_addon.view.screen import LiveConsole

REFRESH_S = 0.25
"""A person follows no faster, and drawing takes a few milliseconds of a thread."""

log = logging.getLogger("llmcap")


class Display:
    """The live console on a terminal, else a line a call in mitmproxy's log, or nothing."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._console: LiveConsole | None = None
        self._drawer: asyncio.Task[None] | None = None
        self._balances: tuple[Balance, ...] = ()
        self._redirected: list[tuple[Any, str, IO[str]]] = []

    def start(self, listening: str) -> None:
        """Take the terminal over, or begin to print lines."""
        chosen = choose(self._service.settings.view, sys.stdout, os.environ)
        if chosen == "lines":
            self._service.activity.subscribe(_log_line)
        elif chosen == "console":
            self._console = LiveConsole(sys.stdout)
            self._redirect(self._console.log_stream())
            self._console.start()
            self._drawer = asyncio.create_task(self._draw_for_ever(self._console, listening))

    async def stop(self) -> None:
        """Give the terminal back, with the last state on it."""
        if self._console is None:
            return
        if self._drawer is not None:
            self._drawer.cancel()
            await asyncio.gather(self._drawer, return_exceptions=True)
        await asyncio.to_thread(self._console.stop)
        for owner, name, stream in self._redirected:
            setattr(owner, name, stream)

    def _redirect(self, stream: IO[str]) -> None:
        """Lead what mitmproxy prints, through files it took at its start, to the console's log section."""
        owners: list[tuple[Any, str]] = [
            (handler, "file") for handler in logging.getLogger().handlers if isinstance(handler, TermLogHandler)
        ]
        dumper = ctx.master.addons.get("dumper")
        if dumper is not None:
            owners.append((dumper, "outfp"))
        for owner, name in owners:
            self._redirected.append((owner, name, getattr(owner, name)))
            setattr(owner, name, stream)

    async def _draw_for_ever(self, console: LiveConsole, listening: str) -> None:
        service = self._service
        while True:
            try:
                self._balances = await service.gate.budget.balances()
            except StoreError as error:
                service.bulletin.trouble(str(error))
            state = snapshot(
                service.activity,
                self._balances,
                service.now_ms(),
                listening,
                notices=service.bulletin.notices(),
                zone=service.gate.policy.zone,
            )
            await asyncio.to_thread(console.refresh, state)
            await asyncio.sleep(REFRESH_S)


def _log_line(line: CallLine) -> None:
    if line.ended():
        log.info(call_line(line))
