"""Supervisor: what stands above several workers, from its port to its summary; `workers` says how it all works."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from llmcap_addon.errors import LLMCapError
from llmcap_addon.proxy import port
from llmcap_addon.proxy.display import Display
from llmcap_addon.proxy.relay import Relay
from llmcap_addon.proxy.seat import Seat
from llmcap_addon.proxy.service import Service, Settings, Summary
from llmcap_addon.proxy.workers import Workers

CA_FILE = "mitmproxy-ca-cert.pem"
"""mitmproxy's name for its authority's certificate, without the key."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for."""

    count: int
    ca_dir: Path
    command: tuple[str, ...]
    """Starts a worker: this very command, and the hidden option that makes it one."""
    listen_host: str = "127.0.0.1"
    listen_port: int = 8080
    """0 takes a free one."""
    config: str | None = None
    store: str | None = None
    view: Literal["auto", "off"] = "auto"
    ready: Callable[[str, int, Path], None] | None = None
    """Called with host, port and the authority's certificate file once all workers take connections."""


def serve_workers(wanted: Wanted) -> Summary:
    """Run the supervisor until SIGINT or SIGTERM; gives what the run came to. Raises LLMCapError."""
    if sys.platform == "win32":
        raise LLMCapError("--workers needs sockets that processes inherit, which Windows has not: leave it out there")
    level = logging.ERROR if wanted.view == "off" else logging.INFO
    relay = Relay(sys.stderr if wanted.view == "off" else sys.stdout, time.monotonic, level)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(relay)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    sockets = port.listen(wanted.listen_host, wanted.listen_port)
    try:
        with port.shares_file(wanted.count) as shares:
            return asyncio.run(_supervise(wanted, sockets, shares, relay))
    finally:
        root.removeHandler(relay)
        for one in sockets:
            one.close()


async def _supervise(wanted: Wanted, sockets: tuple[socket.socket, ...], shares: IO[bytes], relay: Relay) -> Summary:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    service = await Service.start(
        Settings(config=wanted.config, store=wanted.store, view=wanted.view, is_audience=True)
    )
    try:
        seat = Seat(
            number=0,
            run_id=service.settings.run_id,
            store=wanted.store or service.config.store,
            descriptors=[one.fileno() for one in sockets],
            shares=shares.fileno(),
            verbosity="error" if wanted.view == "off" else "info",
        )
        workers = Workers(wanted.command, wanted.count, seat, shares, service, relay, stopping)
        addresses = [port.address_of(one) for one in sockets]
        display = Display(service, workers.whole.notices, lambda stream: [(relay, "file", stream)])
        display.start(lambda: f"{', '.join(map(_shown, addresses))}, {workers.how_many()}")
        try:
            await _serve(wanted, workers, addresses[0], stopping)
        finally:
            for one in sockets:
                one.close()  # who connects from now on is refused, and does not wait for nobody
            try:
                await workers.end()
            finally:
                await display.stop()
    finally:
        summary = await service.close()
    return summary


async def _serve(wanted: Wanted, workers: Workers, address: tuple[str, int], stopping: asyncio.Event) -> None:
    ca_file = wanted.ca_dir / CA_FILE
    if await workers.start(one_first=not ca_file.exists()) and wanted.ready is not None:
        try:
            wanted.ready(*address, ca_file)
        except OSError as error:
            raise LLMCapError(f"the file of authorities can't be written: {error}") from error
    await stopping.wait()


def _shown(address: tuple[str, int]) -> str:
    host, number = address
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"
