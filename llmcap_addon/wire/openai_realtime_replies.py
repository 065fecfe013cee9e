"""What is set aside on a Realtime connection for its responses and transcripts, and the calls that bound them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from llmcap_addon.call import Call, Content
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import Request, Target
from llmcap_addon.wire.openai_audio import CHUNK_MS
from llmcap_addon.wire.openai_realtime_session import Session, sound
from llmcap_addon.wire.socket import Stands, Told
from llmcap_addon.wire.text import JsonObject

HEADROOM_MS = 60_000
"""So much further sound is set aside at a time, so that the ledger is not asked for each tenth of a second of it."""
_TOKENS_ONLY = re.compile(r"gpt-4o.*transcribe")
_STREAMS = re.compile(r"live|realtime")
"""Models that write down what is said before it has ended."""


@dataclass(slots=True)
class Reply:
    """One response or transcript, from when it is asked for or set aside to its last event."""

    number: int
    call: Call
    reading: Reading = field(default_factory=Reading)
    name: str = ""
    """The id of the response, or of the item that is transcribed."""
    event_id: str = ""
    """Of the frame that asks for it."""
    metadata: object = None
    apart: bool = False
    """True when it is not added to the conversation."""
    reads_all: bool = True
    """True when it reads the conversation."""
    mark: int = 0
    """Up to where it does; 0 for what nobody asked for."""
    event: JsonObject = field(default_factory=dict, repr=False)
    frame: bytes = field(default=b"", repr=False)
    output_limit: int = 0
    made_ms: int = 0

    def is_limited_to(self, most: int | None) -> bool:
        """Tell whether a response of that limit can be the one that this was asked for."""
        stated = self.call.max_output_tokens
        return stated is None or (most is not None and most <= stated)

    def told(self, *, ended: bool = False, unused: str = "") -> Told:
        """Tell how it stands."""
        return Told(self.number, self.reading, ended, unused=unused, call=self.call)


class Standing:
    """What the server may begin next, of one kind, and how much is set aside for it."""

    def __init__(self, new_call: Callable[[int], Call], new_reply: Callable[[Call], Reply]) -> None:
        """`new_call` bounds it as things stand, with so much further sound in milliseconds."""
        self._new_call = new_call
        self._new_reply = new_reply
        self._reply: Reply | None = None
        self._is_admitted = self._is_down = False
        self._asked: tuple[object, int] = (None, 0)
        """(all that makes it dear but sound, sound in milliseconds) of what is being asked for."""
        self._covered: tuple[object, int] = (None, 0)
        """The same of what is set aside."""
        self._early: list[Reply] = []
        """Begun by the server before they were set aside."""

    @property
    def number(self) -> int:
        """Of what stands; 0 when nothing does."""
        return self._reply.number if self._reply is not None else 0

    def early(self) -> Stands | None:
        """Say what has begun already and is not set aside yet."""
        if not self._early:
            return None
        # It can't be limited any more.
        return Stands(self._early[0].number, replace(self._early[0].call, editable=False))

    def ask(self, rest: object, length_ms: int, *, billed_at_once: bool = False) -> Stands | None:
        """Say what is to be set aside; None when that is done."""
        if self._is_admitted and self._covered[0] == rest and length_ms <= self._covered[1]:
            return None
        self._asked = (rest, length_ms + HEADROOM_MS)
        call = self._new_call(HEADROOM_MS)
        if self._reply is None:
            self._reply = self._new_reply(call)
        self._reply.call = call
        return Stands(self._reply.number, call, billed_at_once)

    def admit(self, number: int, output_limit: int) -> bool:
        """Take in that it is set aside; False when the number is none of these."""
        for reply in (*self._early, *([self._reply] if self._reply is not None else [])):
            if reply.number == number:
                reply.output_limit = output_limit
                self._early = [one for one in self._early if one is not reply]
                if reply is self._reply:
                    self._is_admitted, self._covered = True, self._asked
                return True
        return False

    def limit(self, most: int) -> None:
        """Take in that what stands can't be longer than that."""
        if self._reply is not None:
            self._reply.call = replace(self._reply.call, max_output_tokens=most)
            self._reply.output_limit = min(self._reply.output_limit, most)

    def refuse(self, number: int) -> None:
        """Take in that nothing more is set aside: from now on only what stands already may begin."""
        self._is_down = True
        self._early = [reply for reply in self._early if reply.number != number]

    def release(self) -> tuple[Told, ...]:
        """Give back what is set aside, or is being: the server will not begin it any more."""
        reply = self._reply
        if reply is None or (self._is_down and not self._is_admitted):
            return ()
        self._reply, self._is_admitted = None, False
        return (reply.told(ended=True, unused="the session was changed, so that nothing begins by itself"),)

    def takes(self, most: int | None) -> bool:
        """Tell whether a response of that limit is what stands."""
        return self._reply is None or not self._is_admitted or self._reply.is_limited_to(most)

    def begin(self) -> Reply | None:
        """Let the server begin it; None when nothing is or will be set aside for it."""
        if self._is_down and not self._is_admitted:
            return None
        reply = self._reply or self._new_reply(self._new_call(HEADROOM_MS))
        if not self._is_admitted:
            self._early.append(reply)
        self._reply, self._is_admitted = None, False
        return reply


class Calls:
    """Bounds what one connection may begin."""

    def __init__(self, name: str, request: Request, target: Target, client: str, session: Session) -> None:
        self._name = name
        self._request = request
        self._target = target
        self._client = client
        self._session = session
        self.limit: int | None = None
        """What a session that has no limit on its responses was limited to by us."""
        query = request.query
        self._asked_model = target.model_of(query.get("deployment") or query.get("model") or "")

    @property
    def model(self) -> str:
        """The model that answers: the URL's, unless a client's secret has set another, as the server then says."""
        told, asked = self._session.model, self._asked_model
        is_other = self._target.provider == "openai" and not told.startswith(asked)
        return told if told and (is_other or not asked) else asked

    def response(self, content: Content, *, ran_tools: bool) -> Call:
        """Bound a response that reads so much."""
        settings = self._session.settings
        if settings.runs_tools or ran_tools:
            content = replace(content, opaque=True)
        most = settings.max_output_tokens or self.limit
        call = self._call(self._name, self.model)
        return replace(call, content=content, max_output_tokens=most, editable=most is None)

    def transcript(self, length_ms: int) -> Call:
        """Bound a transcript of so much sound."""
        settings = self._session.settings
        model = self._target.models.get(settings.transcriber.lower(), settings.transcriber)
        content = Content(known_tokens=settings.transcriber_bytes, media=sound(length_ms))
        # Models billed by the second round it up.
        seconds = Usage() if _TOKENS_ONLY.search(model.lower()) else Usage(input_audio_ms=length_ms + 1_000)
        call = self._call(f"{self._name}.transcription", model)
        return replace(call, content=content, choices=1 + length_ms // CHUNK_MS, unit_bound=seconds)

    @property
    def is_written_at_once(self) -> bool:
        """True when the transcript is written, and billed, while the client speaks."""
        return bool(_STREAMS.search(self._session.settings.transcriber.lower()))

    def _call(self, dialect: str, model: str) -> Call:
        return Call(
            dialect=dialect,
            provider=self._target.provider,
            host=self._request.host,
            model=model,
            streamed=True,
            content=Content(),
            # Sound comes faster than it is heard, and is billed as it is made: all of a response is set aside.
            hidden_output_tokens=None,
            tells_images=True,
            terms=self._target.terms(),
            editable=False,
            cache_write="none",
            client=self._client,
        )
