"""Provider: the stand-ins at a distance. Between them and the proxy every byte, and every close, takes half a round
trip; so what is billed holds what was generated after a cut and what was on its way."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self

from tests.bench.load import CALL_HEADER, MAX_RTT_S, MAX_TOKENS, MIN_RTT_S, draw
from tests.fakes.script import Record, Script
from tests.fakes.server import WAIT_SECONDS, StandIn


class Provider(StandIn):
    """Answers each call of the load as it was drawn."""

    def __init__(self, folder: Path, seed: int, max_tokens: int = MAX_TOKENS) -> None:
        super().__init__(folder)
        self._seed = seed
        self._max_tokens = max_tokens
        self._chance = random.Random(seed)
        self.further_routes: dict[str, int] = {}
        """What else the proxies may reach: a ledger's server."""
        self._line: asyncio.Server | None = None
        self._line_port = 0

    def __enter__(self) -> Self:
        super().__enter__()
        asyncio.run_coroutine_threadsafe(self._open_line(), self._loop).result(WAIT_SECONDS)
        return self

    def __exit__(self, *error: object) -> None:
        if self._line is not None:
            self._loop.call_soon_threadsafe(self._line.close)
        super().__exit__(*error)

    @property
    def routes(self) -> dict[str, int]:
        """Real host name → the near end of the line."""
        return dict.fromkeys(self.hosts, self._line_port) | self.further_routes

    def billed(self, model: str = "") -> int:
        """The truth in nano-dollars: what all calls cost, or those of one model."""
        return sum(record.cost_nanousd for record in self.billable() if model in {"", record.model})

    def _script(self, record: Record) -> Script:
        index = record.headers.get(CALL_HEADER)
        return super()._script(record) if index is None else draw(self._seed, int(index), self._max_tokens).script

    async def _open_line(self) -> None:
        def near() -> _End:
            return _End(self._chance.uniform(MIN_RTT_S, MAX_RTT_S) / 2, self._connect)

        self._line = await self._loop.create_server(near, "127.0.0.1", 0, backlog=512)
        self._line_port = self._line.sockets[0].getsockname()[1]

    async def _connect(self, near: _End) -> None:
        try:
            await self._loop.create_connection(lambda: _End(near.delay_s, peer=near), "127.0.0.1", self.port)
        except OSError:
            near.close()


class _End(asyncio.Protocol):
    """One end of a delayed connection: what arrives here leaves at the other end `delay_s` later, in order."""

    def __init__(
        self,
        delay_s: float,
        connect: Callable[[_End], Coroutine[Any, Any, None]] | None = None,
        peer: _End | None = None,
    ) -> None:
        self.delay_s = delay_s
        self._connect = connect
        self._peer = peer
        self._transport: asyncio.Transport | None = None
        self._on_its_way: deque[bytes] = deque()
        self._early = bytearray()
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._peer is not None:
            self._peer.join(self)
        elif self._connect is not None:
            self._connecting = asyncio.create_task(self._connect(self))

    def join(self, peer: _End) -> None:
        """The far end stands: send it what came before."""
        self._peer = peer
        if self._early:
            self._pass_on(bytes(self._early))
            self._early.clear()
        if self._transport is None or self._transport.is_closing():
            peer.close()

    def data_received(self, data: bytes) -> None:
        if self._peer is None:
            self._early += data
        else:
            self._pass_on(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._peer is not None:
            asyncio.get_running_loop().call_later(self.delay_s, self._peer.close)

    def write(self, data: bytes) -> None:
        """Give bytes to this end's socket."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close this end; what was written still goes out."""
        if self._transport is not None:
            self._transport.close()

    def _pass_on(self, data: bytes) -> None:
        self._on_its_way.append(data)  # a queue beside the timers: two of the same instant may fire in any order
        asyncio.get_running_loop().call_later(self.delay_s, self._arrive)

    def _arrive(self) -> None:
        assert self._peer is not None
        self._peer.write(self._on_its_way.popleft())
