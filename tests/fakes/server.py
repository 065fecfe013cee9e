"""StandIn: all providers behind one loopback port, in a thread of the test's own process.

Tests read `records` directly and queue a `Script` for how the next request is answered. The stand-in keeps its own
count of what it generated and bills; nothing of llmcap_addon is imported here.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.fakes import directory, http1, http2, websocket
from tests.fakes.answer import Answer, Piece
from tests.fakes.authority import Authority
from tests.fakes.connection import PeerLeftError, TLSConnection
from tests.fakes.directory import ANTHROPIC_HOST, GOOGLE_HOST, OTHER_HOST
from tests.fakes.exchange import ClientLeftError, Exchange
from tests.fakes.script import Hold, Record, Script
from tests.fakes.sdks import CUSTOM_HOST
from tests.fakes.sender import Sender

OPENAI_HOST = "api.openai.com"
COMPATIBLE_HOSTS = ("openrouter.ai", "api.groq.com", "api.deepseek.com", "api.mistral.ai", "api.x.ai")
HOSTS = (OPENAI_HOST, ANTHROPIC_HOST, GOOGLE_HOST, *COMPATIBLE_HOSTS, CUSTOM_HOST, OTHER_HOST)

SEND_BUFFER_BYTES = 4096
"""SO_SNDBUF: so small that little is generated ahead of the reader (the kernel doubles it)."""

WAIT_SECONDS = 20.0
"""The longest a test waits for the stand-in; many times what a slow machine needs."""


class StandIn:
    """The providers. Use as a context manager."""

    def __init__(self, folder: Path, hosts: tuple[str, ...] = HOSTS) -> None:
        self.authority = Authority(folder, hosts)
        self.hosts = hosts
        self.port = 0
        self.records: list[Record] = []
        """Every request seen, oldest first."""
        self.default = Script()
        """Answers whatever no queued script takes."""
        self._queue: deque[Script] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stand-in", daemon=True)

    # What tests use.

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(WAIT_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(WAIT_SECONDS)

    @property
    def routes(self) -> dict[str, int]:
        """Real host name → the loopback port that answers for it."""
        return dict.fromkeys(self.hosts, self.port)

    def enqueue(self, *scripts: Script) -> None:
        """Answer the next requests (those a script's `when` accepts) by these, in this order."""
        with self._changed:
            self._queue.extend(scripts)

    def reset(self) -> None:
        """Forget scripts and records; requests still running go on unseen."""
        with self._changed:
            self._queue.clear()
            self.default = Script()
            self.records = []

    def seen(self) -> list[Record]:
        """Wait until no request is being answered, and give all records."""
        self.wait_idle()
        return list(self.records)

    def seen_billable(self) -> list[Record]:
        """Wait until no request is being answered, and give the records of those that cost money."""
        self.wait_idle()
        return self.billable()

    def billable(self) -> list[Record]:
        """Give the records of requests that cost money, as things stand."""
        return [record for record in list(self.records) if record.billable]

    def billed_nanousd(self) -> int:
        """The truth: what all requests seen cost together, as things stand."""
        return sum(record.cost_nanousd for record in self.billable())

    def wait_for(self, condition: Callable[[], object], what: str = "the stand-in") -> None:
        """Wait until a condition on the records holds; raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(condition, WAIT_SECONDS):
                raise TimeoutError(f"waited {WAIT_SECONDS} s for {what}; records: {self.records}")

    def wait_idle(self) -> None:
        """Wait until no request is being answered."""
        self.wait_for(lambda: all(record.finished for record in self.records), "all requests to finish")

    # The server.

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        context = self.authority.server_context()
        with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            listener.setblocking(False)
            self.port = listener.getsockname()[1]
            self._ready.set()
            accepting = asyncio.ensure_future(self._accept(listener, context))
            await self._stop.wait()
            for task in (accepting, *self._connections):
                task.cancel()
            await asyncio.gather(accepting, *self._connections, return_exceptions=True)

    async def _accept(self, listener: socket.socket, context: ssl.SSLContext) -> None:
        while True:
            sock, _ = await self._loop.sock_accept(listener)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            task = asyncio.ensure_future(self._connection(sock, context))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

    async def _connection(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        connection = TLSConnection(sock, context)
        with contextlib.suppress(PeerLeftError):
            try:
                await connection.handshake()
                if connection.protocol == "h2":
                    await http2.serve(connection, self._answer)
                else:
                    await http1.serve(connection, self._answer)
            finally:
                connection.close()

    def _record(self, exchange: Exchange, body: bytes) -> Record:
        received = exchange.received
        path, _, query = received.target.partition("?")
        with self._changed:
            record = Record(
                index=len(self.records),
                method=received.method,
                host=received.authority.rsplit(":", 1)[0].lower(),
                path=path,
                query=query,
                headers=received.headers,
                body=body,
                http_version="1.1" if isinstance(exchange, http1.Http1Exchange) else "2",
                started_ns=time.monotonic_ns(),
            )
            self.records.append(record)
            self._changed.notify_all()
        return record

    async def _answer(self, exchange: Exchange) -> None:
        record = self._record(exchange, exchange.received.body)
        if isinstance(exchange, http1.Http1Exchange) and websocket.is_socket(exchange):
            record.kind, record.status, record.finished_ns = "socket", 101, record.started_ns
            exchange.keep_alive = False
            await websocket.server_of(record.path)(
                exchange, lambda frame: self._record(exchange, frame), self._script, self._note
            ).serve()
            return
        try:
            answer = self._route(record)
            await Sender(exchange, record, self._note).send(answer)
            record.complete = record.script.ending == "complete"
        except ClientLeftError:
            record.gone_ns = time.monotonic_ns()
        except PeerLeftError:
            record.gone_ns = time.monotonic_ns()
            raise
        finally:
            record.finished_ns = time.monotonic_ns()
            self._note()

    def _note(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _script(self, record: Record) -> Script:
        with self._changed:
            for script in self._queue:
                if script.when is None or script.when(record):
                    self._queue.remove(script)
                    return script
            return self.default

    def _route(self, record: Record) -> Answer:
        """Find out what the request is, choose its script, and make the answer."""
        endpoint = directory.find(record)
        record.kind, record.billable = endpoint.kind, endpoint.billable
        body: Any = None
        if record.billable:
            try:
                body = directory.read(endpoint, record)
            except (ValueError, AttributeError, KeyError):
                record.billable = False
                record.status = 400
                return endpoint.error(400, "We could not parse the JSON body of your request.")
        record.script = self._script(record)
        script = record.script
        if script.status != 200:
            record.billable = False
            if script.error_body is not None:
                return Answer(script.status, "application/json", [Piece(script.error_body)])
            return endpoint.error(script.status, "The stand-in was told to fail.")
        try:
            return endpoint.answer(record, body)
        except (KeyError, TypeError, AttributeError) as error:
            record.billable = False
            return endpoint.error(400, f"Missing or wrong parameter: {error}.")


__all__ = ["ANTHROPIC_HOST", "GOOGLE_HOST", "HOSTS", "OTHER_HOST", "Hold", "Record", "Script", "StandIn"]
