"""Worker: one of several, as `llmcap proxy --workers N` starts it.

It is the lean proxy as ever, with three differences: its port was opened by the supervisor, what a person would see
goes to the supervisor (`link`), and when the supervisor is gone, however it went, it ends in order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from llmcap_addon.errors import ConfigError, LLMCapError
from llmcap_addon.proxy import port
from llmcap_addon.proxy.link import Link
from llmcap_addon.proxy.master import LeanProxy, ProxyOptions, quiet_loggers
from llmcap_addon.proxy.seat import MAX_ORDER_BYTES, STDIN, Seat

COUNT_S = 0.1
"""How often the open connections are counted; in between, those that come are."""
STDOUT, STDERR = 1, 2


def serve_seat(seat: Seat, ca_dir: Path, config: str | None) -> int:
    """Serve until told to end, or until the supervisor is gone; gives the exit code. Errors go to the supervisor."""
    link = Link(os.dup(STDOUT))
    os.dup2(STDERR, STDOUT)  # whatever prints must not write between our lines
    sys.stdout = sys.stderr
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
