"""Stand-in for Responses over a websocket: lanes, prewarms, steering, and what a server does wrong.

Shapes: the `openai` SDK's `types/responses/responses_client_event.py`, `responses_server_event.py` and
`response_steer_*`. Each response is a `Record` of its own, so that its bill can be told; the handshake is one too.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, TextMessage
from wsproto.extensions import Extension, PerMessageDeflate

from tests.fakes import openai
from tests.fakes.answer import Piece, as_limit, bill_input, dumps, limit_output, sse, strings_in
from tests.fakes.connection import PeerLeftError
from tests.fakes.exchange import ClientLeftError, sleep_unless, wait_unless
from tests.fakes.http1 import Http1Exchange
from tests.fakes.script import Record, Script

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(slots=True, kw_only=True)
class SocketScript(Script):
    """What else a server may do on a websocket."""

    unasked: bool = False
    """Begins one more response by itself when this one has ended."""
    rejects: bool = False
    """Answers with an error event instead of a response."""
    drops: bool = False
    """Closes the connection instead of the event that would pass `ending_after_tokens`."""


def is_socket(exchange: object) -> bool:
    """Tell a websocket's handshake."""
    return isinstance(exchange, Http1Exchange) and exchange.received.headers.get("upgrade", "").lower() == "websocket"


def _prewarmed(whole: dict[str, Any]) -> Iterator[Piece]:
    for number, kind in enumerate(("created", "in_progress", "completed")):
        response = whole if kind == "completed" else whole | {"status": "in_progress", "usage": None}
        yield sse({"type": f"response.{kind}", "sequence_number": number, "response": response})


class SocketServer:
    """One connection."""

    def __init__(
        self,
        exchange: Http1Exchange,
        new_record: Callable[[bytes], Record],
        script: Callable[[Record], Script],
        note: Callable[[], None],
    ) -> None:
        self._exchange = exchange
        self._new_record = new_record
        self._script = script
        self._note = note
        self._ws: Connection
        self._closing = False
        self._lanes: dict[str, asyncio.Queue[tuple[Record, dict[str, Any]]]] = {}
        self._active: dict[str, str] = {}
        self._steers: dict[str, dict[str, Any]] = {}
        self._conversations: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answer until the client leaves."""
        headers = self._exchange.received.headers
        accept = base64.b64encode(hashlib.sha1(headers["sec-websocket-key"].encode() + _MAGIC).digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "connection: Upgrade"]
        lines.append(f"sec-websocket-accept: {accept}")
        extensions: list[Extension] = []
        if "permessage-deflate" in headers.get("sec-websocket-extensions", ""):
            deflate = PerMessageDeflate()
            agreed = deflate.accept(headers["sec-websocket-extensions"].split(",")[0])
            lines.append(f"sec-websocket-extensions: permessage-deflate; {agreed}".rstrip("; "))
            extensions.append(deflate)
        self._ws = Connection(ConnectionType.SERVER, extensions)
        await self._exchange.raw("\r\n".join(lines).encode() + b"\r\n\r\n")
        try:
            await self._read()
        except (ClientLeftError, PeerLeftError):
            self._exchange.gone.set()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self) -> None:
        text = ""
        while True:
            self._ws.receive_data(await self._exchange.receive())
            for event in self._ws.events():
                if isinstance(event, TextMessage):
                    text += event.data
                    if event.message_finished:
                        await self._take(text)
                        text = ""
                elif isinstance(event, BytesMessage):
                    await self._send_error("", 400, "binary frames are not understood")
                elif isinstance(event, Ping):
                    await self._exchange.raw(self._ws.send(event.response()))
                elif isinstance(event, CloseConnection):
                    self._closing = True
                    with contextlib.suppress(ClientLeftError):
                        await self._exchange.raw(self._ws.send(event.response()))
                    self._exchange.gone.set()
                    return

    async def _take(self, text: str) -> None:
        """Understand one message; what serves another protocol over a websocket has its own."""
        body = json.loads(text)
        lane = body.get("stream_id", "")
        if body["type"] == "response.steer":
            await self._steer(body)
        elif body["type"] == "response.create":
            self._queue(lane, body, text.encode())
        else:
            await self._send_error(lane, 400, f"unknown event {body['type']}")

    def _queue(self, lane: str, body: dict[str, Any], frame: bytes) -> None:
        record = self._new_record(frame)
        record.kind, record.billable, record.streamed = "responses_socket", True, True
        record.model = str(body["model"])
        record.script = self._script(record)
        if lane not in self._lanes:
            self._lanes[lane] = asyncio.Queue()
            task = asyncio.ensure_future(self._work(lane, self._lanes[lane]))
            self._tasks.add(task)
        self._lanes[lane].put_nowait((record, body))

    async def _steer(self, body: dict[str, Any]) -> None:
        parent = body["previous_response_id"]
        steer = {"id": "steer_1", "previous_response_id": parent}
        lane = next((lane for lane, active in self._active.items() if active == parent), None)
        if lane is None:
            error = {"type": "invalid_request_error", "code": "response_not_active", "message": "It is over."}
            failed = {"type": "response.steer.failed", "sequence_number": 0, "error": error}
            await self._send({**failed, "steer": {"previous_response_id": parent, "input": body["input"]}}, "")
            return
        self._steers[parent] = body
        await self._send({"type": "response.steer.accepted", "sequence_number": 0, "steer": steer}, lane)

    async def _work(self, lane: str, queue: asyncio.Queue[tuple[Record, dict[str, Any]]]) -> None:
        while True:
            record, body = await queue.get()
            try:
                await self._respond(lane, record, body)
                record.complete = True
            except ClientLeftError:
                record.gone_ns = time.monotonic_ns()
                return
            except asyncio.CancelledError:
                record.gone_ns = time.monotonic_ns()
                raise
            except (KeyError, IndexError, TypeError):
                await self._exchange.reset()
                raise
            finally:
                record.finished_ns = time.monotonic_ns()
                self._note()
            if isinstance(record.script, SocketScript) and record.script.unasked:
                self._queue(lane, {**body, "previous_response_id": f"resp_{record.index}"}, record.body)

    async def _respond(self, lane: str, record: Record, body: dict[str, Any]) -> None:
        script = record.script
        if isinstance(script, SocketScript) and script.rejects:
            record.billable = False
            await self._send_error(lane, 400, "The stand-in was told to fail.")
            return
        previous = body.get("previous_response_id")
        given = body.get("input")
        bill_input(record, strings_in([given, body.get("instructions")]), len(given) if isinstance(given, list) else 1)
        record.input_tokens += self._conversations.get(previous or "", 0)
        output = limit_output(script, as_limit(body.get("max_output_tokens")))
        if body.get("generate") is False:
            output = type(output)(0, 0, limited=False)
        record.service_tier = script.service_tier or "default"
        whole = openai.response(record, body, output) | {"previous_response_id": previous}
        if body.get("generate") is False:
            whole["output"] = []
        if script.hold_head:
            await wait_unless(self._exchange.gone, script.hold_head.arrive())
        self._active[lane] = whole["id"]
        began = time.monotonic()
        steered = None
        pieces = openai.response_events(record, whole, output)
        if not whole["output"]:
            pieces = _prewarmed(whole)
        for piece in pieces:
            await self._pace(record, piece, began)
            event = json.loads(piece.data.split(b"data: ", 1)[1]) if piece.data else None
            steered = self._steers.pop(whole["id"], None)
            if steered is not None:
                usage = {**whole["usage"], "output_tokens": record.generated_tokens}
                usage["total_tokens"] = record.input_tokens + record.generated_tokens
                ended: dict[str, Any] = {
                    "incomplete_details": {"reason": "steered"},
                    "status": "incomplete",
                    "usage": usage,
                }
                event = {"type": "response.incomplete", "sequence_number": 999, "response": {**whole, **ended}}
            if event is not None:
                await self._send(event, lane, record)
            if steered is not None:
                break
            record.generated_tokens += piece.output_tokens
            self._note()
        del self._active[lane]
        self._conversations[whole["id"]] = record.input_tokens + record.generated_tokens
        if steered is not None:
            settings: dict[str, Any] = {key: body[key] for key in ("type", "model", "max_output_tokens") if key in body}
            successor: dict[str, Any] = {**settings, "input": steered["input"], "previous_response_id": whole["id"]}
            self._queue(lane, successor, dumps(successor))

    async def _pace(self, record: Record, piece: Piece, began: float) -> None:
        script, gone = record.script, self._exchange.gone
        after = record.generated_tokens + piece.output_tokens
        if isinstance(script, SocketScript) and script.drops and after > script.ending_after_tokens:
            await self._exchange.reset()
            raise ClientLeftError
        if script.hold_stream and after > script.hold_after_tokens:
            await wait_unless(gone, script.hold_stream.arrive())
        if script.tokens_per_second:
            due = began + after / script.tokens_per_second - time.monotonic()
            if due > 0:
                await sleep_unless(gone, due)
        else:
            await asyncio.sleep(0)
        if gone.is_set():
            raise ClientLeftError

    async def _send_error(self, lane: str, status: int, message: str) -> None:
        error = {"type": "invalid_request_error", "code": None, "message": message, "param": None}
        await self._send({"type": "error", "status": status, "error": error}, lane)

    async def _send(self, event: dict[str, Any], lane: str, record: Record | None = None) -> None:
        data = dumps({**event, "stream_id": lane} if lane else event)
        await self._write(TextMessage(data.decode()))
        if record is not None:
            record.sent_body += data
            record.last_write_ns = time.monotonic_ns()

    async def _write(self, event: Event) -> None:
        if self._closing:
            raise ClientLeftError
        await self._exchange.raw(self._ws.send(event))


SERVERS: list[tuple[str, type[SocketServer]]] = []
"""(part of the path, who serves it): other protocols than the one above."""


def server_of(path: str) -> type[SocketServer]:
    """Say who serves a websocket."""
    return next((server for part, server in SERVERS if part in path), SocketServer)
