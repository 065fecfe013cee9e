"""OpenAI's Realtime over a websocket: conversations in sound, and transcription as it is spoken.

Shapes: the `openai` SDK's `types/realtime/realtime_client_event.py` and `realtime_server_event.py`, and those of
`types/beta/realtime`; how it is billed: https://developers.openai.com/api/docs/guides/realtime-costs.

The server begins responses by itself where it detects turns, so what the next one may cost stands set aside from the
first sound on. Each reads the whole conversation. A transcript of what the client says is another model's work, billed
apart: it stands set aside too. Azure speaks the same
(https://learn.microsoft.com/azure/foundry/openai/how-to/realtime-audio-websockets).
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import replace

from llmcap_addon.call import Call, Content
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.dialect import Refusal, RefusalKind, Request, Target
from llmcap_addon.wire.openai_common import edit_members
from llmcap_addon.wire.openai_realtime_replies import Calls, Reply, Standing
from llmcap_addon.wire.openai_realtime_session import (
    Conversation,
    Session,
    has_mcp,
    item_content,
    limit_of,
    prompt_content,
    sound,
)
from llmcap_addon.wire.openai_realtime_transcripts import MAX_ENDED, TRANSCRIPT, Transcripts, short_text
from llmcap_addon.wire.openai_realtime_usage import OUTPUT_MS_PER_TOKEN, realtime_usage, sound_ms
from llmcap_addon.wire.openai_socket import NOT_JSON, NOT_TEXT
from llmcap_addon.wire.openai_usage import MAX_NAME_CHARS, record_bad_usage, record_usage
from llmcap_addon.wire.replies import encode_json, error_code, error_type
from llmcap_addon.wire.seen import TOKENS_PER_ITEM
from llmcap_addon.wire.socket import Asks, CountOutput, Denied, Free, Said, Stands, Told
from llmcap_addon.wire.text import JsonObject, load_json, mapping, parse_object

MAX_LIMIT = 4_096
"""The largest limit that a response may be given, unless it has none (`realtime_response_create_params`)."""
POLICY = 1008
"""Close code (RFC 6455, 7.4.1)."""
_BY_TIME = re.compile(r"translate|live")
"""Models billed for as long as a session lasts."""
_PLAIN = re.compile(r"gpt-(?:4o(?:-mini)?-)?realtime(?:$|-mini|-preview|-1\.5|-\d{4}-)")
"""Models that do not reason: a response shows all that it is billed for. Later ones do (`RealtimeReasoning`)."""
_NAME = re.compile(r"[a-z0-9_.]{1,60}")
_FREE = frozenset(
    {
        "input_audio_buffer.clear", "output_audio_buffer.clear", "conversation.item.delete",
        "conversation.item.truncate", "conversation.item.retrieve", "response.cancel",
    }
)  # fmt: skip
_LIMITS = frozenset({"max_output_tokens", "max_response_output_tokens"})
"""The second is the beta's name."""
_UPDATES = frozenset({"session.update", "transcription_session.update"})
_IN_FORCE = frozenset(
    {"session.created", "session.updated", "transcription_session.created", "transcription_session.updated"}
)
_TEXT_DELTAS = re.compile(
    r"response\.(?:(?:output_)?text|(?:output_)?audio_transcript|(?:function|mcp)_call_arguments)\.delta"
)
_SOUND_DELTAS = frozenset({"response.output_audio.delta", "response.audio.delta"})


class RealtimeTalk:
    """One connection."""

    def __init__(self, name: str, request: Request, target: Target, client: str, count: CountOutput) -> None:
        self._count = count
        if not request.path.rstrip("/").lower().endswith("/realtime"):
            raise UnreadableRequest("it is billed by the time that a session lasts")
        if request.query.get("call_id"):
            raise UnreadableRequest("the call that it joins runs over WebRTC or SIP, where nobody here can count it")
        self._session = Session(only_transcribes=request.query.get("intent") == "transcription")
        self._calls = Calls(name, request, target, client, self._session)
        if _BY_TIME.search(self._calls.model.lower()):
            raise UnreadableRequest(f"{self._calls.model} is billed by the time that a session lasts")
        self._conversation = Conversation()
        self._speech = self._heard = 0
        """Marks in it: what came behind these may not have reached the server when it heard speech begin, and end."""
        self._last_number = 0
        self._asked: dict[int, Reply] = {}
        """Neither admitted nor refused yet."""
        self._sent: list[Reply] = []
        """Asked for, and not begun by the server yet, oldest first."""
        self._active: dict[str, Reply] = {}
        """By id: responses that are being answered."""
        self._ended: deque[str] = deque(maxlen=MAX_ENDED)
        self._next = Standing(lambda ms: self._response_call(self._conversation.content(ms)), self._new_reply)
        self._transcripts = Transcripts(self._calls, self._session, self._new_reply, count)
        self._ran_tools = False

    # ── from the client ──

    def read(self, frame: bytes, *, is_text: bool) -> Said:
        """Read a client's frame by itself."""
        if not is_text:
            return Said(frame, why_not="the frame is binary, not JSON text", close_code=NOT_TEXT)
        try:
            return Said(frame, load_json(frame))
        except UnreadableRequest as error:
            return Said(frame, why_not=str(error), close_code=NOT_JSON)

    def from_client(self, said: Said) -> Free | Asks | Denied:
        """Take a client's frame in its turn."""
        event = said.event
        kind = event.get("type")
        if said.why_not:
            return self._deny(event, f"the event can't be understood: {said.why_not}", said.close_code, "unreadable")
        if _BY_TIME.search(self._calls.model.lower()):
            return self._deny(event, f"{self._calls.model} is billed by the time that a session lasts", POLICY)
        try:
            if kind == "response.create" and not self._session.only_transcribes:
                return self._create(event, said.data)
            return self._take(kind, event)
        except UnreadableRequest as error:
            return self._deny(event, f"the event can't be understood: {error}", kind="unreadable")

    def _take(self, kind: object, event: JsonObject) -> Free | Denied:
        settings = self._session.settings
        if kind == "input_audio_buffer.append":
            length_ms = sound_ms(event.get("audio"), settings.bytes_per_ms)
            self._transcripts.hear(length_ms)
            self._conversation.add(Content(), length_ms)
        elif kind == "input_audio_buffer.commit":
            return Free(self._transcripts.commit())
        elif kind == "conversation.item.create":
            content, length_ms = item_content(mapping(event.get("item")), settings.bytes_per_ms)
            self._conversation.add(content, length_ms)
        elif str(kind) in _UPDATES:
            session = mapping(event.get("session"))
            if session.get("type", "realtime") not in ("realtime", "transcription"):
                return self._deny(event, f"a session of the type {str(session['type'])[:40]!r} is not metered yet")
            self._session.offer(session)
            self._conversation.add(prompt_content(session))
            if session.keys() & _LIMITS:
                self._calls.limit = None  # its own counts from now on
        elif not isinstance(kind, str) or kind not in _FREE:
            shown = kind if isinstance(kind, str) and _NAME.fullmatch(kind) else "of its type"
            return self._deny(event, f"the event {shown!r} may cost money and is not metered yet")
        return Free()

    def _deny(self, event: JsonObject, reason: str, close_code: int = 0, kind: RefusalKind = "unmetered") -> Denied:
        reply = self._new_reply(self._response_call(self._conversation.content()))
        reply.event_id = short_text(event.get("event_id"))
        self._asked[reply.number] = reply
        return Denied(reply.number, kind, reason, close_code)

    def _create(self, event: JsonObject, frame: bytes) -> Asks:
        response = mapping(event.get("response"))
        given = response.get("input")
        content, reads_all = prompt_content(response), given is None
        length_ms = 0
        for item in given if isinstance(given, list) else ():
            if mapping(item).get("type") == "item_reference":
                reads_all = True
                continue
            one, one_ms = item_content(mapping(item), self._session.settings.bytes_per_ms)
            content, length_ms = content.plus(one), length_ms + one_ms
        content = content.plus(Content(media=sound(length_ms)))
        self._ran_tools = self._ran_tools or has_mcp(response.get("tools"))
        call = self._response_call(self._conversation.content().plus(content) if reads_all else content)
        for key in _LIMITS:
            if response.get(key) is not None:
                call = replace(call, max_output_tokens=limit_of(response[key]))
        reply = self._new_reply(replace(call, editable=True))
        reply.event_id = short_text(event.get("event_id")) or f"llmcap_{reply.number}"
        reply.metadata, reply.apart = response.get("metadata"), response.get("conversation") == "none"
        reply.reads_all, reply.event, reply.frame = given is None, event, frame
        self._asked[reply.number] = reply
        return Asks(reply.number, reply.call)

    def stand(self) -> Stands | None:
        """Say what the server may begin by itself and is not set aside yet."""
        early = self._next.early() or self._transcripts.early()
        if early is not None:
            return early
        if self._may_respond() and not any(not reply.apart for reply in self._active.values()):
            rest = (self._conversation.revision, self._session.settings, self._calls.model, self._calls.limit)
            stands = self._next.ask(rest, self._conversation.sound_ms)
            if stands is not None:
                return stands
        return self._transcripts.ask()

    def _may_respond(self) -> bool:
        settings = self._session.settings
        if self._session.only_transcribes:
            return False
        heard = settings.responds and self._transcripts.heard_ms > 0
        return heard or settings.prompts or settings.runs_tools or self._ran_tools

    def admit(self, number: int, output_limit: int, max_output_tokens: int | None) -> bytes:
        """Give the frame to send for an admitted call."""
        if self._next.admit(number, output_limit):
            return b"" if max_output_tokens is None else self._limit(min(max_output_tokens, MAX_LIMIT))
        if self._transcripts.admit(number, output_limit):
            return b""
        reply = self._asked.pop(number, None)
        if reply is None:
            return b""  # what stood has begun while it grew
        reply.output_limit = output_limit
        reply.mark = self._conversation.mark(self._transcripts.uncommitted_ms)
        self._sent.append(reply)
        event, frame, reply.event, reply.frame = reply.event, reply.frame, {}, b""
        if max_output_tokens is not None:
            most = min(max_output_tokens, MAX_LIMIT)
            reply.call = replace(reply.call, max_output_tokens=most)
            response = {**mapping(event.get("response")), "max_output_tokens": most}
            return encode_json({**event, "event_id": reply.event_id, "response": response})
        # An error names the event that caused it, so each must have a name.
        return frame if event.get("event_id") else edit_members(frame, {"event_id": reply.event_id})

    def _limit(self, most: int) -> bytes:
        """Limit the session, whose responses can't be limited one by one where the server begins them."""
        change = self._session.limited_to(most)
        self._session.offer(change)
        self._calls.limit = most
        self._next.limit(most)
        return encode_json({"type": "session.update", "session": change})

    def refuse(self, number: int, refusal: Refusal, status: int) -> bytes:  # noqa: ARG002 (no status in this protocol)
        """Give the frame that tells the client why its own does not go on."""
        reply = self._asked.pop(number, None)
        if reply is None:
            self._next.refuse(number)
            self._transcripts.refuse(number)
        return _error(number, refusal, reply.event_id if reply is not None else "")

    def quiet(self) -> bytes:
        """Take back the sound that no turn was made of."""
        return encode_json({"type": "input_audio_buffer.clear"}) if self._transcripts.unheard_ms > 0 else b""

    def cut(self, number: int, refusal: Refusal) -> bytes:
        """Give the client's last frame of a response that is cut."""
        return _error(number, refusal, "")

    # ── from the server ──

    def from_server(self, frame: bytes, *, is_text: bool) -> tuple[Told, ...]:
        """Read a server's frame."""
        try:
            event = parse_object(frame) if is_text else {}
        except (ValueError, RecursionError):
            event = {}
        kind = event.get("type")
        if not isinstance(kind, str):
            return self._unread()
        if kind in _IN_FORCE:
            session = mapping(event.get("session"))
            self._session.take(session, answers=kind.endswith("updated"))
            if kind.endswith("created"):
                self._conversation.add(prompt_content(session))
            released = () if self._may_respond() else self._next.release()
            return (*released, *self._transcripts.release())
        if kind == "error":
            return self._take_error(mapping(event.get("error")))
        if kind == "input_audio_buffer.speech_stopped":
            self._transcripts.stop(event.get("audio_end_ms"))
        elif kind == "input_audio_buffer.speech_started":
            self._speech = self._conversation.mark()
        elif kind == "input_audio_buffer.committed":
            told = self._transcripts.take_commit(short_text(event.get("item_id")))
            self._heard = self._conversation.mark(self._transcripts.unheard_ms, self._speech)
            return told
        elif kind.startswith(TRANSCRIPT):
            return self._transcripts.take(event)
        elif kind.startswith("response."):
            return self._take_event(kind, event)
        return ()

    def _unread(self) -> tuple[Told, ...]:
        """Settle at its bound whatever runs while something came that can't be read."""
        running = (*self._active.values(), *self._transcripts.running())
        for reply in running:
            reply.reading.unreadable = reply.reading.unreadable or "the server sent a frame that is not JSON"
        return tuple(reply.told() for reply in running)

    def _take_error(self, error: JsonObject) -> tuple[Told, ...]:
        named = short_text(error.get("event_id"))
        reply = next((one for one in self._sent if named and one.event_id == named), None)
        if reply is None:
            return ()
        self._sent.remove(reply)
        return (reply.told(ended=True, unused="the server refused to begin it"),)

    def _take_event(self, kind: str, event: JsonObject) -> tuple[Told, ...]:
        response = mapping(event.get("response"))
        name = short_text(event.get("response_id")) or short_text(response.get("id"))
        if name in self._ended or not (name or response):
            return ()
        told: tuple[Told, ...] = ()
        reply = self._active.get(name)
        if reply is None:
            reply, unasked = self._begin(response)
            reply.name = name
            self._active[name] = reply
            if _PLAIN.match(self._calls.model.lower()):
                reply.reading.counted_at_usage = 0  # all that is billed is seen
            if reply.reads_all and not reply.apart:
                self._conversation.begin(reply.mark or self._heard)
            if unasked:
                told = (Told(reply.number, reply.reading, unasked=reply.call),)
        reading = reply.reading
        reading.model = self._session.model[:MAX_NAME_CHARS]
        if _TEXT_DELTAS.fullmatch(kind):
            delta = event.get("delta")
            reading.counted_output_tokens += self._count(reply.call, delta) if isinstance(delta, str) else 0
        elif kind in _SOUND_DELTAS:
            before, length_ms = reply.made_ms, sound_ms(event.get("delta"), self._session.settings.made_bytes_per_ms)
            reply.made_ms += length_ms
            tokens = -(-reply.made_ms // OUTPUT_MS_PER_TOKEN) - -(-before // OUTPUT_MS_PER_TOKEN)
            reading.counted_output_tokens += tokens
        elif kind == "response.done":
            self._end(reply, response)
        return told or (reply.told(ended=kind == "response.done"),)

    def _begin(self, response: JsonObject) -> tuple[Reply, bool]:
        """Find what the server begins: what was asked for with the same marks, what stands, else the oldest."""
        apart = "conversation_id" in response and response["conversation_id"] is None
        marked = [
            one
            for one in self._sent
            if one.metadata == response.get("metadata")
            and ("conversation_id" not in response or one.apart == apart)
            and ("max_output_tokens" not in response or one.is_limited_to(limit_of(response["max_output_tokens"])))
        ]
        if marked or (self._sent and not self._may_respond()):
            reply = (marked or self._sent)[0]
            self._sent.remove(reply)
            return reply, False
        stated = response.get("max_output_tokens")
        fits = stated is None or self._next.takes(limit_of(stated))
        standing = self._next.begin() if fits and self._may_respond() else None
        if standing is not None:
            return standing, False
        reply = self._new_reply(self._response_call(self._conversation.content()))
        reply.apart = apart
        return reply, True

    def _end(self, reply: Reply, response: JsonObject) -> None:
        del self._active[reply.name]
        if reply.name:
            self._ended.append(reply.name)
        reading = reply.reading
        reading.failed = response.get("status") == "failed"
        try:
            usage = realtime_usage(response.get("usage"))
            if usage is not None:
                record_usage(reading, usage, final=True)
            else:
                reading.counted_output_tokens += TOKENS_PER_ITEM  # what wraps it
        except ValueError as error:
            record_bad_usage(reading, error)
        if reply.apart:
            return
        if reply.reads_all:
            self._conversation.end(reading.usage, reply.output_limit)
        else:
            self._conversation.append(reading.usage.output_tokens if reading.usage else reply.output_limit)

    def _response_call(self, content: Content) -> Call:
        return self._calls.response(content, ran_tools=self._ran_tools)

    def _new_reply(self, call: Call) -> Reply:
        self._last_number += 1
        return Reply(self._last_number, call)


class Realtime:
    """`wss://…/realtime`."""

    name = "openai.realtime"

    def open(self, request: Request, target: Target, client: str, count: CountOutput) -> RealtimeTalk:
        """Begin a connection; raises UnreadableRequest for one that can't be metered."""
        return RealtimeTalk(self.name, request, target, client, count)


REALTIME_SOCKET = Realtime()


def _error(number: int, refusal: Refusal, event_id: str) -> bytes:
    error = {
        "type": error_type(refusal.kind),
        "code": error_code(refusal.kind),
        "message": refusal.message,
        "param": None,
        "event_id": event_id or None,
    }
    return encode_json({"type": "error", "event_id": f"event_llmcap_{number}", "error": error})
