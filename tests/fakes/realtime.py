"""Stand-in for OpenAI's Realtime: hears turns, answers in sound or text, writes down what it heard, bills each by itself.

Shapes: the `openai` SDK's `types/realtime`. Bytes of zero are silence, all others speech; a turn ends with silence.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any
from urllib.parse import parse_qs

from tests.fakes import websocket
from tests.fakes.answer import Piece, as_limit, limit_output
from tests.fakes.exchange import ClientLeftError
from tests.fakes.openai_more import DEPLOYMENTS
from tests.fakes.script import Record
from tests.fakes.websocket import SocketScript, SocketServer

BYTES_PER_MS = 48
TOKEN = base64.b64encode(b"\x01" * BYTES_PER_MS * 50).decode()
"""One token of sound: 50 ms."""


class RealtimeServer(SocketServer):
    """One connection."""

    async def _read(self) -> None:
        query = parse_qs(self._exchange.received.target.partition("?")[2])
        named = (query.get("deployment") or query.get("model") or [""])[0]
        self._model = DEPLOYMENTS.get(named, named)
        self._session: dict[str, Any] = {
            "type": "realtime",
            "object": "realtime.session",
            "id": "sess_1",
            "model": self._model,
            "instructions": "Be kind.",
            "output_modalities": ["audio"],
            "max_output_tokens": "inf",
            "tools": [],
            "prompt": None,
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": 24000},
                    "transcription": None,
                    "turn_detection": {"type": "server_vad", "create_response": True, "interrupt_response": True},
                },
                "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin"},
            },
        }
        self._tokens = 8
        self._heard_ms = self._pending_ms = self._items = self._events = 0
        self._cancelled: set[str] = set()
        self._running: dict[str, Record] = {}
        await self._say({"type": "session.created", "session": self._session})
        await super()._read()

    async def _take(self, text: str) -> None:
        body = json.loads(text)
        kind = body["type"]
        if kind == "session.update":
            changed = body["session"]
            heard = changed.get("audio", {}).get("input", {})
            self._session["audio"]["input"] |= heard
            self._session |= {key: value for key, value in changed.items() if key not in ("audio", "type")}
            await self._say({"type": "session.updated", "session": self._session})
        elif kind == "input_audio_buffer.append":
            await self._hear(base64.b64decode(body["audio"]))
        elif kind == "input_audio_buffer.commit":
            await self._commit()
        elif kind == "input_audio_buffer.clear":
            self._pending_ms = 0
            await self._say({"type": "input_audio_buffer.cleared"})
        elif kind == "conversation.item.create":
            self._tokens += len(json.dumps(body["item"])) // 4
            await self._say({"type": "conversation.item.added", "item": body["item"]})
        elif kind == "response.create":
            if self._running and (body.get("response") or {}).get("conversation") != "none":
                message = {"type": "invalid_request_error", "message": "Conversation already has an active response."}
                code = "conversation_already_has_active_response"
                await self._say({"type": "error", "error": {**message, "code": code, "event_id": body.get("event_id")}})
                return
            self._start(body.get("response") or {}, text.encode())
        elif kind == "response.cancel":
            self._cancelled |= set(self._running)

    async def _hear(self, data: bytes) -> None:
        self._heard_ms += len(data) // BYTES_PER_MS
        self._pending_ms += len(data) // BYTES_PER_MS
        turns = self._session["audio"]["input"]["turn_detection"]
        if turns is not None and not any(data) and self._pending_ms:
            await self._say({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": self._heard_ms})
            await self._commit()
            if turns.get("create_response", True):
                self._start({}, b"{}")

    async def _commit(self) -> None:
        self._items += 1
        item, heard_ms, self._pending_ms = f"item_{self._items}", self._pending_ms, 0
        self._tokens += heard_ms // 100
        await self._say({"type": "input_audio_buffer.committed", "item_id": item, "previous_item_id": None})
        wanted = self._session["audio"]["input"]["transcription"]
        if wanted is None:
            return
        record = self._new_record(b"{}")
        record.kind, record.billable, record.model = "transcript", True, wanted["model"]
        record.input_tokens, record.generated_tokens = max(1, heard_ms // 100), 3
        usage: dict[str, Any] = {"type": "tokens", "input_tokens": record.input_tokens, "output_tokens": 3}
        usage |= {"total_tokens": record.input_tokens + 3, "input_token_details": {"audio_tokens": record.input_tokens}}
        if record.model == "whisper-1":
            record.input_tokens, record.generated_tokens = heard_ms, 0
            usage = {"type": "duration", "seconds": heard_ms / 1000}
        record.complete, record.finished_ns = True, time.monotonic_ns()
        done = {"item_id": item, "content_index": 0, "transcript": "three short words", "usage": usage}
        await self._say({"type": "conversation.item.input_audio_transcription.completed", **done})

    def _start(self, asked: dict[str, Any], frame: bytes) -> None:
        record = self._new_record(frame)
        record.kind, record.billable, record.streamed = "realtime", True, True
        record.script = self._script(record)
        task = asyncio.ensure_future(self._run(record, asked))
        self._tasks.add(task)

    async def _run(self, record: Record, asked: dict[str, Any]) -> None:
        try:
            await self._answer(record, asked)
            record.complete = True
        except (ClientLeftError, asyncio.CancelledError):
            record.gone_ns = time.monotonic_ns()
        finally:
            record.finished_ns = time.monotonic_ns()
            self._note()
        if isinstance(record.script, SocketScript) and record.script.unasked:
            self._start({}, b"{}")

    async def _answer(self, record: Record, asked: dict[str, Any]) -> None:
        script, name = record.script, f"resp_{record.index}"
        modes = asked.get("output_modalities", self._session["output_modalities"])
        in_text = modes == ["text"]
        record.model = f"{self._model}@text" if in_text else self._model
        apart = asked.get("conversation") == "none"
        given = self._tokens if asked.get("input") is None else 1 + len(json.dumps(asked["input"])) // 4
        record.input_tokens = given if script.input_tokens is None else script.input_tokens
        record.cache_read_tokens = script.cached_tokens
        stated = asked.get("max_output_tokens", self._session["max_output_tokens"])
        output = limit_output(script, as_limit(stated) if stated != "inf" else None)
        whole: dict[str, Any] = {
            "object": "realtime.response",
            "id": name,
            "status": "in_progress",
            "output": [],
            "conversation_id": None if apart else "conv_1",
            "output_modalities": modes,
            "max_output_tokens": stated,
            "metadata": asked.get("metadata"),
            "usage": None,
        }
        self._running |= {} if apart else {name: record}
        await self._say({"type": "response.created", "response": whole}, record)
        kind, delta = ("output_text", " token") if in_text else ("output_audio", TOKEN)
        place = {"response_id": name, "item_id": f"{name}_item", "output_index": 0, "content_index": 0}
        began = time.monotonic()
        status = "incomplete" if output.limited else "completed"
        while record.generated_tokens < output.tokens:
            if name in self._cancelled:
                status = "cancelled"
                break
            await self._pace(record, Piece(b"", 1), began)
            await self._say({"type": f"response.{kind}.delta", "delta": delta, **place}, record)
            record.generated_tokens += 1
            self._note()
        kinds = ("text_tokens", "audio_tokens") if in_text else ("audio_tokens", "text_tokens")
        split = {kinds[0]: record.cache_read_tokens, kinds[1]: 0, "image_tokens": 0}
        details = {kinds[0]: record.input_tokens, kinds[1]: 0, "cached_tokens": record.cache_read_tokens}
        usage = {
            "total_tokens": record.input_tokens + record.generated_tokens,
            "input_tokens": record.input_tokens,
            "output_tokens": record.generated_tokens,
            "input_token_details": {**details, "cached_tokens_details": split},
            "output_token_details": {kinds[0]: record.generated_tokens, kinds[1]: 0},
        }
        self._running.pop(name, None)
        if not apart:
            self._tokens = given + record.generated_tokens
        reported = usage if script.report_usage else None
        await self._say({"type": "response.done", "response": {**whole, "status": status, "usage": reported}}, record)

    async def _say(self, event: dict[str, Any], record: Record | None = None) -> None:
        self._events += 1
        await self._send({**event, "event_id": f"event_{self._events}"}, "", record)


websocket.SERVERS.append(("/realtime", RealtimeServer))
