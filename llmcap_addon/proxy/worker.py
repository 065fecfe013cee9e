"""Worker: one of several, as `llmcap proxy --workers N` starts it.

It is the lean proxy as ever, with three differences: its port was opened by the supervisor, what a person would see
goes to the supervisor (`link`), and when the supervisor is gone, however it went, it ends in order. Its log is a pipe
to the supervisor, and no more than that: it neither waits until somebody reads it nor ends because nobody does.
"""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from llmcap_addon.errors import ConfigError, LLMCapError
from llmcap_addon.proxy import port
from llmcap_addon.proxy.link import Link
from llmcap_addon.proxy.master import LeanProxy, ProxyOptions, quiet_loggers, spare_checks
from llmcap_addon.proxy.seat import MAX_ORDER_BYTES, STDIN, Seat

COUNT_S = 0.1
"""How often the open connections are counted; in between, those that come are."""
STDOUT, STDERR = 1, 2
MAX_LINE_BYTES = 4_096
"""Twice what the supervisor shows of a line; Linux's pipes take so many at once or none."""


class Log(io.TextIOBase):
    """Standard error: writes whole lines to a pipe, and drops those that it does not take.

    mitmproxy's log ends the process when a line can't be written, and a full pipe would hold up the event loop; but a
    supervisor may have been killed, or stopped by Ctrl-Z, while calls are to be settled.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._begun = ""
        self._is_torn = False
        """True when the pipe took only the start of the last line."""
        os.set_blocking(descriptor, False)

    def writable(self) -> bool:
        """Say that it can be written."""
        return True

    def write(self, text: str) -> int:
        """Write the lines that this completes; the rest comes with the next."""
        *lines, begun = (self._begun + text).split("\n")
        self._begun = begun[:MAX_LINE_BYTES]
        for line in lines:
            data = line[:MAX_LINE_BYTES].encode(errors="replace")[: MAX_LINE_BYTES - 1] + b"\n"
            if self._is_torn:
                data = b"\n" + data
            with suppress(OSError):
                self._is_torn = os.write(self._descriptor, data) < len(data)
        return len(text)


def serve_seat(seat: Seat, ca_dir: Path, config: str | None) -> int:
    """Serve until told to end, or until the supervisor is gone; gives the exit code. Errors go to the supervisor."""
    link = Link(os.dup(STDOUT))
    os.dup2(STDERR, STDOUT)  # whatever prints must not write between our lines
    sys.stdout = sys.stderr = Log(STDERR)
    try:
        _serve(seat, ca_dir, config, link)
    except LLMCapError as error:
        link.failed(str(error), of_config=isinstance(error, ConfigError))
        return 1
    except Exception as error:
        link.failed(f"{type(error).__name__}: {error}", of_config=False)
        return 1
    finally:
        link.close()
    return 0


def _serve(seat: Seat, ca_dir: Path, config: str | None, link: Link) -> None:
    sockets = tuple(socket.socket(fileno=descriptor) for descriptor in seat.descriptors)
    shares = port.Shares(seat.shares, seat.number)
    telling: list[asyncio.Task[None]] = []

    def up(*_: object) -> None:
        assert proxy.service is not None
        proxy.service.activity.subscribe(link.call)
        told = link.tell_for_ever(proxy.service.bulletin.notices, proxy.service.unclaimed.seen)
        telling.append(asyncio.create_task(told))
        telling.append(asyncio.create_task(_count_for_ever(shares, proxy.connections)))
        link.up()

    proxy = LeanProxy(
        ProxyOptions(
            ca_dir=ca_dir,
            config=config,
            store=seat.store,
            view="off",
            run_id=seat.run_id,
            modes=port.modes(sockets),
            verbosity=seat.verbosity,
            ready=up,
        )
    )

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, proxy.shutdown)
        loop.add_reader(STDIN, _end_with_supervisor, loop, proxy.shutdown)
        try:
            await proxy.run()
        finally:
            for task in telling:
                task.cancel()

    quiet_loggers()
    spare_checks()
    with asyncio.Runner(loop_factory=lambda: port.PortLoop(sockets, shares)) as runner:
        runner.run(main())


async def _count_for_ever(shares: port.Shares, connections: Callable[[], int]) -> None:
    while True:
        shares.sync(connections())
        await asyncio.sleep(COUNT_S)


def _end_with_supervisor(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    if not os.read(STDIN, MAX_ORDER_BYTES):  # it never writes again: this is the end of its own life
        loop.remove_reader(STDIN)
        end()
