"""StandIn: all providers behind one loopback port, in a thread of the test's own process.

Tests read `records` directly and queue a `Script` for how the next request is answered. The stand-in keeps its own
count of what it generated and bills; nothing of llmcap_addon is imported here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote

from tests.fakes import anthropic, google, http1, http2, openai
from tests.fakes.answer import Answer, Piece, unstreamed
from tests.fakes.authority import Authority
from tests.fakes.connection import PeerLeftError, TLSConnection
from tests.fakes.encodings import encoder
from tests.fakes.exchange import ClientLeftError, Exchange, sleep_unless, wait_unless
from tests.fakes.script import Hold, Record, Script

OPENAI_HOST = "api.openai.com"
ANTHROPIC_HOST = "api.anthropic.com"
GOOGLE_HOST = "generativelanguage.googleapis.com"
OTHER_HOST = "plain.example.com"
"""A host that has nothing to do with language models."""
COMPATIBLE_HOSTS = ("openrouter.ai", "api.groq.com", "api.deepseek.com", "api.mistral.ai", "api.x.ai")
CUSTOM_HOST = "llm.example.net"
"""A host that only `hosts:` in caps.yaml knows."""
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

    async def _answer(self, exchange: Exchange) -> None:
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
                body=received.body,
                http_version="1.1" if isinstance(exchange, http1.Http1Exchange) else "2",
                started_ns=time.monotonic_ns(),
            )
            self.records.append(record)
            self._changed.notify_all()
        try:
            answer = self._route(record)
            await _Sender(exchange, record, self._note).send(answer)
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
        failure: Callable[[int, str], Answer] = openai.error
        if record.host == ANTHROPIC_HOST:
            failure = anthropic.error
        elif record.host == GOOGLE_HOST and "/openai/" not in record.path:
            failure = google.error
        record.kind, record.billable = _kind(record)
        body: Any = None
        if record.billable:
            try:
                body = json.loads(record.body)
                record.model = _model(record, body)
                record.streamed = record.kind == "stream_generate" or bool(body.get("stream"))
            except (ValueError, AttributeError, KeyError):
                record.billable = False
                record.status = 400
                return failure(400, "We could not parse the JSON body of your request.")
        record.script = self._script(record)
        script = record.script
        if script.status != 200:
            record.billable = False
            if script.error_body is not None:
                return Answer(script.status, "application/json", [Piece(script.error_body)])
            return failure(script.status, "The stand-in was told to fail.")
        try:
            return _ANSWERS[record.kind](record, body)
        except (KeyError, TypeError, AttributeError) as error:
            record.billable = False
            return failure(400, f"Missing or wrong parameter: {error}.")


def _kind(record: Record) -> tuple[str, bool]:
    """Name the endpoint, and say whether it costs money."""
    path, method = record.path, record.method
    if record.host == OTHER_HOST:
        return "other", False
    if method == "POST":
        if path.endswith("/chat/completions"):
            return "chat", True
        if path.endswith("/responses"):
            return "responses", True
        if path.endswith("/embeddings"):
            return "embeddings", True
        if path.endswith("/images/generations"):
            return "images", True
        if path.endswith("/messages"):
            return "messages", True
        if path.endswith("/messages/count_tokens"):
            return "anthropic_count", False
        if path.endswith(":generateContent"):
            return "generate", True
        if path.endswith(":streamGenerateContent"):
            return "stream_generate", True
        if path.endswith(":countTokens"):
            return "google_count", False
    if method == "GET" and path.endswith("/models"):
        names = {ANTHROPIC_HOST: "anthropic_models", GOOGLE_HOST: "google_models"}
        return names.get(record.host, "openai_models"), False
    return "unknown", False


def _model(record: Record, body: Any) -> str:
    if record.kind in ("generate", "stream_generate"):
        return unquote(record.path.rsplit("/", 1)[-1].rsplit(":", 1)[0])
    return str(body["model"])


def _stream_generate(record: Record, body: Any) -> Answer:
    framing = parse_qs(record.query).get("alt")
    return google.generate(record, body, "sse" if framing == ["sse"] else "array")


_ANSWERS: dict[str, Callable[[Record, Any], Answer]] = {
    "chat": openai.chat,
    "responses": openai.responses,
    "embeddings": openai.embeddings,
    "images": openai.images,
    "messages": anthropic.messages,
    "generate": lambda record, body: google.generate(record, body, "whole"),
    "stream_generate": _stream_generate,
    "anthropic_count": lambda record, _: anthropic.count_tokens(record),
    "google_count": lambda record, _: google.count_tokens(record),
    "openai_models": lambda record, _: openai.models(record),
    "anthropic_models": lambda record, _: anthropic.models(record),
    "google_models": lambda record, _: google.models(record),
    "other": lambda record, _: unstreamed({"hello": "world", "path": record.path}),
    "unknown": lambda record, _: openai.error(404, f"Unknown request URL: {record.method} {record.path}."),
}


class _Sender:
    """Sends one answer as its script says, and keeps count."""

    def __init__(self, exchange: Exchange, record: Record, note: Callable[[], None]) -> None:
        self._exchange = exchange
        self._record = record
        self._script = record.script
        self._note = note
        self._encoder = encoder(record.script.encoding)
        self._headed = False
        self._began = 0.0

    async def send(self, answer: Answer) -> None:
        """Send all of it, or as much as the script and the client let through."""
        script, record = self._script, self._record
        if script.hold_head:
            await wait_unless(self._exchange.gone, script.hold_head.arrive())
        self._began = time.monotonic()
        if answer.streamed:
            await self._head(answer, None)
            await self._body(script.sse_prelude if answer.content_type.startswith("text/event-stream") else b"")
        for number, piece in enumerate(answer.pieces):
            after = record.generated_tokens + piece.output_tokens
            if answer.streamed and script.ending != "complete" and after > script.ending_after_tokens:
                break
            await self._pace(after)
            data = script.rewrite(number, piece.data) if script.rewrite and piece.data else piece.data
            if answer.streamed:
                await self._body(data)
            elif data:
                await self._whole(answer, data)
            elif self._exchange.gone.is_set() and not script.generate_after_disconnect:
                raise ClientLeftError
            record.generated_tokens = after
            self._note()
        await self._end(answer)

    async def _pace(self, tokens: int) -> None:
        """Wait until the token's time has come, by the real clock, and at the test's door."""
        script, gone = self._script, self._exchange.gone
        if script.generate_after_disconnect:
            gone = asyncio.Event()
        if script.hold_stream and tokens > script.hold_after_tokens:
            await wait_unless(gone, script.hold_stream.arrive())
        if script.tokens_per_second:
            due = self._began + tokens / script.tokens_per_second - time.monotonic()
            if due > 0:
                await sleep_unless(gone, due)
        elif tokens % _TOKENS_BETWEEN_YIELDS == 0:
            await asyncio.sleep(0)

    async def _head(self, answer: Answer, length: int | None) -> None:
        script = self._script
        encoding = script.encoding if script.claimed_encoding is None else script.claimed_encoding
        headers = [("content-type", answer.content_type)]
        if encoding:
            headers.append(("content-encoding", encoding))
        headers += [("x-request-id", f"req_{self._record.index}"), *script.headers.items(), *answer.headers.items()]
        self._record.status = answer.status
        await self._exchange.head(answer.status, headers, length)
        self._headed = True

    async def _body(self, data: bytes) -> None:
        if data:
            await self._raw(self._encoder.encode(data))

    async def _raw(self, data: bytes) -> None:
        if self._script.generate_after_disconnect and self._exchange.gone.is_set():
            return
        try:
            await self._exchange.data(data)
        except ClientLeftError:
            if not self._script.generate_after_disconnect:
                raise
            self._record.gone_ns = time.monotonic_ns()
        else:
            self._record.sent_body += data
            self._record.last_write_ns = time.monotonic_ns()

    async def _whole(self, answer: Answer, data: bytes) -> None:
        """Send an unstreamed body, or the half of it."""
        encoded = self._encoder.encode(data) + self._encoder.finish()
        sent = encoded if self._script.ending == "complete" else encoded[: len(encoded) // 2]
        claimed = len(sent) if self._script.ending == "truncated" else len(encoded)
        await self._head(answer, claimed + self._script.content_length_error)
        await self._raw(sent)

    async def _end(self, answer: Answer) -> None:
        ending = self._script.ending
        if not self._headed:
            await self._head(answer, 0)
        if ending == "reset":
            await self._exchange.reset()
        elif ending == "close" or self._script.content_length_error > 0:
            await self._exchange.hang_up()
        else:
            if answer.streamed:
                await self._raw_if_any(self._encoder.finish())
            await self._exchange.end()

    async def _raw_if_any(self, data: bytes) -> None:
        if data:
            await self._raw(data)


_TOKENS_BETWEEN_YIELDS = 32
"""At full speed, others get their turn so often."""


__all__ = ["HOSTS", "Hold", "Record", "Script", "StandIn"]
