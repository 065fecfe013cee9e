"""Which response a frame of a websocket is about, by its lane and, where the frame holds the response, by its id.

A client's event may name a lane (`stream_id`); the server answers each lane first in first out, one response at a time,
and several lanes at once (the `openai` SDK's `types/responses/responses_client_event.py`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from llmcap_addon.call import Call
from llmcap_addon.usage import Reading
from llmcap_addon.wire.openai_responses_reader import ResponsesReader
from llmcap_addon.wire.socket import Told
from llmcap_addon.wire.text import JsonObject

MAX_ENDED = 256
"""Ids of responses that have ended, so that what comes late is not taken for a response that nobody asked for."""


@dataclass(slots=True)
class Answer:
    """One response, from the frame that asks for it to its last event."""

    number: int
    lane: str
    call: Call
    read: ResponsesReader
    previous: str = ""
    """The response that it continues."""
    steers: bool = False
    """True when `previous` is continued by the server itself."""
    frame: bytes = field(default=b"", repr=False)
    """What is sent once it is admitted; kept no longer."""
    steer_input: object = field(default=None, repr=False)
    output_limit: int = 0

    @property
    def reading(self) -> Reading:
        """What is understood of it so far."""
        return self.read.reading

    def told(self, *, ended: bool = False, status: int = 200, unused: str = "") -> Told:
        """Tell how it stands."""
        return Told(self.number, self.reading, ended, status, unused)


class Lanes:
    """The responses of one connection, from the moment that their requests are sent."""

    def __init__(self) -> None:
        self.sent: list[Answer] = []
        """Not begun by the server yet, oldest first."""
        self.active: dict[str, Answer] = {}
        """By lane: what the server is answering."""
        self._ended: deque[str] = deque(maxlen=MAX_ENDED)

    def all(self) -> tuple[Answer, ...]:
        """Give all that have not ended."""
        return (*self.active.values(), *self.sent)

    def has_ended(self, response_id: str) -> bool:
        """Tell whether a response is known to be over."""
        return bool(response_id) and response_id in self._ended

    def running(self, lane: str, response_id: str) -> Answer | None:
        """Find the response that an event is about, if the server has begun it."""
        for one in self.active.values():
            if response_id and one.read.response_id == response_id:
                return one
        answer = self.active.get(lane)
        if answer is None and not lane and len(self.active) == 1 and not response_id:
            return next(iter(self.active.values()))  # a lane that the server did not name again
        if answer is not None and response_id and answer.read.response_id:
            return None
        return answer

    def begin(self, lane: str, *, named: bool, response: JsonObject) -> Answer | None:
        """Find what the server begins to answer: what continues the same response, else the lane's oldest request."""
        here = [answer for answer in self.sent if answer.lane == lane or not named]
        here.sort(key=lambda answer: answer.lane != lane)
        previous = response.get("previous_response_id")
        exact = [answer for answer in here if previous and answer.previous == previous]
        plain = [answer for answer in here if not answer.steers]
        if not (exact or plain):
            return None
        answer = (exact or plain)[0]
        self.sent.remove(answer)
        self.active[lane] = answer
        return answer

    def end(self, answer: Answer) -> None:
        """Let go of a response that is over."""
        self.active = {lane: one for lane, one in self.active.items() if one is not answer}
        if answer.read.response_id:
            self._ended.append(answer.read.response_id)
