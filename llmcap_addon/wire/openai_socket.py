"""Responses over a websocket: `response.create` and `response.steer` in, the events of a response out.

Shapes: the `openai` SDK's `types/responses/responses_client_event.py` and `responses_server_event.py`; how lanes,
warm-up and steering work: its `lib/responses_websocket/README.md`, and the docstrings of `response_steer_*`.

A response that the server begins although nothing was admitted for it is told as `unasked`.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import replace

from llmcap_addon.call import Call, Content
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Reading
from llmcap_addon.wire.dialect import Refusal, Request, Target
from llmcap_addon.wire.openai_common import error_object
from llmcap_addon.wire.openai_input import add_content, add_item
from llmcap_addon.wire.openai_lanes import Answer, Lanes
from llmcap_addon.wire.openai_responses import RESPONSES, ResponsesDialect, failed_event
from llmcap_addon.wire.openai_responses_reader import ENDS, ResponsesReader
from llmcap_addon.wire.replies import encode_json, error_code
from llmcap_addon.wire.seen import TOKENS_PER_ITEM
from llmcap_addon.wire.socket import Asks, CountOutput, Denied, Free, Said, Stands, Told
from llmcap_addon.wire.text import ContentBuilder, JsonObject, boolean, load_json, mapping, parse_object, string

MAX_PENDED = 1_024
"""Responses whose steering waits for their client's next request."""
STEERED_ITEMS = 64
"""Items of output that a response may have when it is steered; each is wrapped when it is read again."""
NOT_TEXT, NOT_JSON = 1003, 1007
"""Close codes (RFC 6455, 7.4.1)."""
_LANE = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_NAME = re.compile(r"[a-z0-9_.]{1,60}")


class ResponsesSocketTalk:
    """One connection's responses."""

    def __init__(
        self, responses: ResponsesDialect, name: str, request: Request, target: Target, client: str, count: CountOutput
    ) -> None:
        self._responses = responses
        self._name = name
        self._request = request
        self._target = target
        self._client = client
        self._count = count
        self._last_number = 0
        self._model = ""
        self._asked: dict[int, Answer] = {}
        """Neither admitted nor refused yet."""
        self._lanes = Lanes()
        self._pended: deque[str] = deque(maxlen=MAX_PENDED)

    # ── from the client ──

    def read(self, frame: bytes, *, is_text: bool) -> Said:
        """Read a client's frame by itself."""
        if not is_text:
            return Said(frame, why_not="the frame is binary, not JSON text", close_code=NOT_TEXT)
        try:
            event = load_json(frame)
        except UnreadableRequest as error:
            return Said(frame, why_not=str(error), close_code=NOT_JSON)
        try:
            lane = event.get("stream_id", "")
            if not isinstance(lane, str) or (lane and not _LANE.fullmatch(lane)):
                return Said(frame, why_not="stream_id is not 1 to 256 letters, digits, '_', '-' and '.'")
            call = None
            if event.get("type") == "response.create":
                call = self._created(event, frame)
            elif event.get("type") == "response.steer":
                string(event, "previous_response_id")
                call = replace(self._unknown_call(), content=_steering(event.get("input")))
        except UnreadableRequest as error:
            return Said(frame, event, why_not=str(error))
        return Said(frame, event, call)

    def _created(self, event: JsonObject, frame: bytes) -> Call:
        if boolean(event, "background"):
            raise UnreadableRequest("a background response is not metered over a websocket; ask for it over HTTP")
        request = replace(self._request, body=frame)
        call = self._responses.call_of(event, request, self._target, self._client)
        generates = event.get("generate") is None or boolean(event, "generate")
        if mapping(event.get("prompt_cache_options")).get("prewarm") is True:
            generates = False  # "Prepares the prompt cache without generating output", whatever `generate` says
        string(event, "previous_response_id")
        return replace(call, dialect=self._name, streamed=True, has_output=generates)

    def from_client(self, said: Said) -> Free | Asks | Denied:
        """Take a client's frame in its turn."""
        self._last_number += 1
        number, event = self._last_number, said.event
        kind, lane = event.get("type"), event.get("stream_id")
        lane = lane if isinstance(lane, str) else ""
        if kind == "response.processed" and event.keys() <= {"type", "response_id"}:
            return Free()  # Codex says so when it has done what a response asked for (codex-rs, `ResponsesWsRequest`)
        if said.call is None:
            self._ask(number, lane, self._unknown_call())
            if said.why_not:
                why = f"the request can't be understood: {said.why_not}"
                return Denied(number, "unreadable", why, said.close_code)
            shown = kind if isinstance(kind, str) and _NAME.fullmatch(kind) else "of its type"
            return Denied(number, "unmetered", f"the event {shown!r} may cost money and is not metered yet")
        previous = string(event, "previous_response_id")
        if kind == "response.steer":
            return self._steer(number, previous, said, said.call.content)
        call = said.call
        if previous and (previous in self._pended or self._steers(previous)):
            # What was steered and not read yet is put before this request's own input.
            call = replace(call, content=replace(call.content, opaque=True))
        self._ask(number, lane, call, said.data).previous = previous
        self._model = call.model
        return Asks(number, call)

    def _steer(self, number: int, previous: str, said: Said, content: Content) -> Free | Asks | Denied:
        steered = next(
            (one for one in self._lanes.active.values() if previous and one.read.response_id == previous), None
        )
        if steered is None:
            return Free()  # the server answers that the response is not active; if it begins one, that is unasked
        known = steered.output_limit + TOKENS_PER_ITEM * STEERED_ITEMS
        # It inherits the settings of the response that it continues, and can't be given others.
        call = replace(
            steered.call, content=steered.call.content.plus(content).plus(Content(known_tokens=known)), editable=False
        )
        waits = self._steers(previous)
        asked = self._ask(number, steered.lane, call, said.data)
        asked.previous, asked.steers, asked.steer_input = previous, True, said.event.get("input")
        if waits:
            # Whether both are read by one response or by two is not known beforehand.
            return Denied(number, "unmetered", "this response is being steered already; steer it when that is done")
        return Asks(number, call)

    def _steers(self, previous: str) -> bool:
        return any(one.steers and one.previous == previous for one in (*self._asked.values(), *self._lanes.sent))

    def _ask(self, number: int, lane: str, call: Call, frame: bytes = b"") -> Answer:
        reader = ResponsesReader(
            Reading(), lambda text: self._count(call, text), call.provider, self._responses.remembers(call)
        )
        answer = self._asked[number] = Answer(number, lane, call, reader, frame=frame)
        return answer

    def stand(self) -> Stands | None:
        """Set nothing aside: what the server begins, a frame has asked for."""
        return None

    def quiet(self) -> bytes:
        """Need no frame for that."""
        return b""

    def admit(self, number: int, output_limit: int, max_output_tokens: int | None) -> bytes:
        """Give the frame to send for an admitted call."""
        answer = self._asked.pop(number)
        frame, answer.frame, answer.steer_input = answer.frame, b"", None
        answer.output_limit = output_limit
        amended = self._responses.amend(answer.call, frame, max_output_tokens)
        if max_output_tokens is not None:
            answer.call = replace(answer.call, max_output_tokens=max_output_tokens)
        self._lanes.sent.append(answer)
        return amended

    def refuse(self, number: int, refusal: Refusal, status: int) -> bytes:
        """Give the frame that tells the client why its own does not go on."""
        answer = self._asked.pop(number)
        error = error_object(answer.call.provider, refusal, status)
        event: JsonObject
        if answer.steers:
            event = {
                "type": "response.steer.failed",
                "sequence_number": 0,
                "error": {**error, "type": "invalid_request_error", "code": error_code(refusal.kind)},
                "steer": {"previous_response_id": answer.previous, "input": answer.steer_input},
            }
        else:
            event = {"type": "error", "status": status, "error": error}
        return _on_lane(event, answer.lane)

    def cut(self, number: int, refusal: Refusal) -> bytes:
        """Give the client's last frame of a response that is cut."""
        answer = next((one for one in self._lanes.all() if one.number == number), None)
        if answer is None:
            return b""
        return _on_lane(failed_event(answer.call, refusal, answer.reading, answer.read), answer.lane)

    # ── from the server ──

    def from_server(self, frame: bytes, *, is_text: bool) -> tuple[Told, ...]:
        """Read a server's frame."""
        try:
            event = parse_object(frame) if is_text else {}
        except (ValueError, RecursionError):
            event = {}
        if not event:
            return self._unread(frame)
        kind, lane = event.get("type"), event.get("stream_id")
        kind = kind if isinstance(kind, str) else ""
        lane = lane if isinstance(lane, str) else ""
        if kind.startswith("response.steer."):
            return self._take_steer(kind, mapping(event.get("steer")))
        if kind == "error":
            return self._take_error(lane, event)
        if not kind.startswith("response."):
            return ()
        return self._take_event(kind, lane, event)

    def _unread(self, frame: bytes) -> tuple[Told, ...]:
        """Count what can't be read as output of every response that runs: nothing says whose it is."""
        for answer in self._lanes.active.values():
            answer.read.take_unread(frame)
        return tuple(answer.told() for answer in self._lanes.active.values())

    def _take_event(self, kind: str, lane: str, event: JsonObject) -> tuple[Told, ...]:
        response = mapping(event.get("response"))
        name = response.get("id")
        response_id = name if isinstance(name, str) else ""
        told: tuple[Told, ...] = ()
        answer = self._lanes.running(lane, response_id)
        if answer is None:
            if self._lanes.has_ended(response_id) or not _shows_a_response(kind):
                return ()
            before = self._lanes.active.get(lane)
            if before is not None:  # another one begins on the lane, so this one is over, whatever became of its end
                self._lanes.end(before)
                told = (before.told(ended=True),)
            answer = self._lanes.begin(lane, named="stream_id" in event, response=response)
        if answer is None:
            return (*told, self._unasked(kind, lane, event, response))
        answer.read.take(kind, event)
        if kind not in ENDS:
            return (*told, answer.told())
        self._lanes.end(answer)
        return (*told, answer.told(ended=True))

    def _unasked(self, kind: str, lane: str, event: JsonObject, response: JsonObject) -> Told:
        """Take in a response that the server began by itself; whoever hears of it ends the connection."""
        model = response.get("model")
        body = {"model": model if isinstance(model, str) and model else self._model, **_continued(response)}
        try:
            call = self._responses.call_of(body, self._request, self._target, self._client)
        except UnreadableRequest:
            call = self._unknown_call()
        content = call.content if call.content.known_tokens else replace(call.content, opaque=True)
        call = replace(call, dialect=self._name, streamed=True, content=content)
        self._last_number += 1
        answer = self._ask(self._last_number, lane, call)
        del self._asked[answer.number]
        self._lanes.active[lane] = answer
        answer.read.take(kind, event)
        return Told(answer.number, answer.reading, unasked=call)

    def _take_steer(self, kind: str, steer: JsonObject) -> tuple[Told, ...]:
        previous = steer.get("previous_response_id")
        answer = next((one for one in self._lanes.sent if one.steers and one.previous == previous), None)
        if kind == "response.steer.pending" and isinstance(previous, str):
            self._pended.append(previous)
        if answer is None or kind not in ("response.steer.failed", "response.steer.pending"):
            return ()
        self._lanes.sent.remove(answer)
        return (answer.told(ended=True, unused="the steering led to no response of its own"),)

    def _take_error(self, lane: str, event: JsonObject) -> tuple[Told, ...]:
        """Take an error: of the response that runs on the lane, or of a request that the server does not begin.

        With a status it is about a request (`ResponseWsError.status`). One that was sent while another response runs is
        the newest: those before it were taken.
        """
        stated = event.get("status")
        status = stated if type(stated) is int and 400 <= stated <= 599 else 0
        active = self._lanes.active.get(lane)
        waiting = [answer for answer in self._lanes.sent if answer.lane == lane and not answer.steers]
        if waiting and (active is None or status):
            answer = waiting[0] if active is None else waiting[-1]
            self._lanes.sent.remove(answer)
            answer.reading.failed = True
            return (answer.told(ended=True, status=status or 200),)
        if active is None:
            return ()  # of the connection
        active.read.take("error", event)
        self._lanes.end(active)
        return (active.told(ended=True),)

    def _unknown_call(self) -> Call:
        target = self._target
        return Call(
            dialect=self._name,
            provider=target.provider,
            host=self._request.host,
            model=self._model,
            streamed=True,
            content=Content(opaque=True),
            hidden_output_tokens=None,
            client=self._client,
        )


class ResponsesSocket:
    """`wss://…/responses`."""

    name = "openai.responses.socket"

    def __init__(self, responses: ResponsesDialect) -> None:
        self._responses = responses

    def open(self, request: Request, target: Target, client: str, count: CountOutput) -> ResponsesSocketTalk:
        """Begin a connection."""
        return ResponsesSocketTalk(self._responses, self.name, request, target, client, count)


RESPONSES_SOCKET = ResponsesSocket(RESPONSES)


def _steering(given: object) -> Content:
    """Read the input of a `response.steer`."""
    builder = ContentBuilder()
    if isinstance(given, list):
        for item in given:
            add_item(builder, item, stored=True)
    else:
        builder.messages += 1
        add_content(builder, given)
    return builder.build()


def _shows_a_response(kind: str) -> bool:
    """Tell whether an event can only come while a response is being answered."""
    begins = ("response.created", "response.queued", "response.in_progress")
    return kind in begins or kind in ENDS or kind.endswith(".delta") or kind.startswith("response.output_item.")


def _continued(response: JsonObject) -> JsonObject:
    """Give what a response tells of the request behind it, as far as it moves the bound."""
    keys = ("previous_response_id", "max_output_tokens", "service_tier", "reasoning")
    return {key: response[key] for key in keys if response.get(key) is not None}


def _on_lane(event: JsonObject, lane: str) -> bytes:
    return encode_json({**event, "stream_id": lane} if lane else event)
