"""Stand-in for Google's Live API: one session over a websocket, of the Gemini API or of Vertex.

Shapes: the `google-genai` SDK's `LiveClientMessage` and `LiveServerMessage`. A turn is a `Record` of its own: text in,
sound out, the session read anew and billed each time. It begins with a complete content, with text, and with the end of
a stream of sound; and it is billed whole, whoever has left. What is sent is JSON in binary frames.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import Any

from wsproto.events import BytesMessage

from tests.fakes import websocket
from tests.fakes.answer import Output, as_limit, bill_input, dumps, limit_output, strings_in
from tests.fakes.exchange import ClientLeftError, sleep_unless, wait_unless
from tests.fakes.script import Record

SOUND = base64.b64encode(bytes(1_920)).decode()
"""One token: a 25th of a second at 24 kHz."""


class LiveServer(websocket.SocketServer):
    """One session."""

    _setup: dict[str, Any] | None = None
    _held_tokens = 0
    """What the session holds."""

    async def _take(self, text: str) -> None:
        body = json.loads(text)
        if self._setup is None:
            self._setup = body["setup"]
            self._held_tokens = 20
            await self._write(BytesMessage(dumps({"setupComplete": {}})))
            return
        content, spoken = _member(body, "clientContent"), _member(body, "realtimeInput")
        complete = content.get("turnComplete") or content.get("turn_complete")
        if complete or spoken.get("text") or spoken.get("audioStreamEnd") or spoken.get("activityEnd"):
            task = asyncio.ensure_future(self._turn(text.encode(), [content, spoken.get("text")]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _turn(self, frame: bytes, said: list[Any]) -> None:
        assert self._setup is not None
        record = self._new_record(frame)
        record.kind, record.billable, record.streamed = "live", True, True
        record.model = str(self._setup["model"]).rpartition("/")[2]
        record.script = self._script(record)
        bill_input(record, strings_in(said), 1)
        record.input_tokens += self._held_tokens
        config = self._setup.get("generationConfig") or {}
        output = limit_output(record.script, as_limit(config.get("maxOutputTokens")))
        try:
            await self._speak(record, output)
            record.complete = True
        except (ClientLeftError, asyncio.CancelledError):
            record.gone_ns = time.monotonic_ns()
        finally:
            record.generated_tokens = output.visible_tokens
            self._held_tokens = record.input_tokens + output.visible_tokens
            record.finished_ns = time.monotonic_ns()
            self._note()

    async def _speak(self, record: Record, output: Output) -> None:
        script, gone = record.script, self._exchange.gone
        for number in range(output.visible_tokens):
            if script.hold_stream and number >= script.hold_after_tokens:
                await wait_unless(gone, script.hold_stream.arrive())
            if script.tokens_per_second:
                await sleep_unless(gone, 1 / script.tokens_per_second)
            part = {"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": SOUND}}
            await self._tell(record, serverContent={"modelTurn": {"parts": [part], "role": "model"}})
            record.generated_tokens += 1
            self._note()
        await self._tell(record, serverContent={"generationComplete": True})
        answered = "responseToken" if "generativelanguage" in record.path else "candidatesToken"
        usage = {
            "promptTokenCount": record.input_tokens,
            f"{answered}Count": output.visible_tokens,
            "totalTokenCount": record.input_tokens + output.visible_tokens,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": record.input_tokens}],
            f"{answered}sDetails": [{"modality": "AUDIO", "tokenCount": output.visible_tokens}],
        }
        await self._tell(record, serverContent={"turnComplete": True}, usageMetadata=usage)

    async def _tell(self, record: Record, **message: Any) -> None:
        data = dumps(message)
        await self._write(BytesMessage(data))
        record.sent_body += data
        record.last_write_ns = time.monotonic_ns()


def _member(body: dict[str, Any], name: str) -> dict[str, Any]:
    snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return body.get(name) or body.get(snake) or {}


websocket.SERVERS.append(("BidiGenerateContent", LiveServer))
