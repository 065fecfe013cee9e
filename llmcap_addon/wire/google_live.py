"""Google's Live API: `BidiGenerateContent` over a websocket, of the Gemini API and of Vertex.

Shapes and paths: the `google-genai` SDK's `genai/live.py`, and `LiveClientMessage` and `LiveServerMessage` in its
`types.py`.

The client's first message sets the session up and costs nothing. After it a turn of the model is a call of its own: it
reads the whole session anew, and is billed by the `usageMetadata` that comes with it. Text, results of functions and
the stated end of speech ask for one. Sound and pictures may lead to one whenever the service hears that it is its turn,
so with them the next turn always stands set aside. A turn is reserved whole, for as much as the session may hold by
then, and never cut: what it generates is billed even if nobody listens. There is no message for an error, so a refusal
is the end of the connection, with close code 1008 and what we say as its reason.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.dialect import Refusal, Request, Target
from llmcap_addon.wire.google_live_request import Setup, read_setup, size_of
from llmcap_addon.wire.google_live_session import Session
from llmcap_addon.wire.google_request import named, refuse_field_masks
from llmcap_addon.wire.socket import Asks, CountOutput, Denied, Free, Said, Stands, Told
from llmcap_addon.wire.text import load_json, parse_object

POLICY, NOT_JSON = 1008, 1007
"""Close codes (RFC 6455, 7.4.1)."""


@dataclass(frozen=True, slots=True)
class LiveSaid(Said):
    """What a client's message says by itself."""

    setup: Setup | None = None
    tokens: int | None = None
    """What it adds to the session; None when that can't be told."""


class LiveTalk:
    """One connection."""

    def __init__(self, name: str, request: Request, target: Target, client: str, count: CountOutput) -> None:
        self._name = name
        self._request = request
        self._target = target
        self._client = client
        self._count = count
        self._session: Session | None = None
        self._denied = 0

    def read(self, frame: bytes, *, is_text: bool) -> Said:
        """Read a client's message by itself; it is JSON in frames of either kind."""
        try:
            event = named(load_json(frame))
        except UnreadableRequest as error:
            return Said(frame, why_not=str(error), close_code=NOT_JSON)
        try:
            if "setup" in event:
                setup = read_setup(event, self._request, self._target, self._client, self._name)
                return LiveSaid(frame, event, setup=setup)
            return LiveSaid(frame, event, tokens=size_of(event))
        except UnreadableRequest as error:
            return Said(frame, event, why_not=str(error), close_code=POLICY)

    def from_client(self, said: Said) -> Free | Asks | Denied:
        """Take a client's message in its turn."""
        if not isinstance(said, LiveSaid):
            return self._deny(f"the request can't be understood: {said.why_not}", said.close_code)
        if said.setup is not None and self._session is not None:
            return self._deny("the session is set up already")
        if said.setup is not None:
            self._session = Session(said.setup, self._denied, self._count)
            return Free()
        if self._session is None:
            return self._deny("its first message does not set the session up")
        return self._session.from_client(said.event, said.tokens, said.data)

    def _deny(self, why: str, close_code: int = POLICY) -> Denied:
        if self._session is not None:
            self._session.last_number += 1
            return Denied(self._session.last_number, "unreadable", why, close_code)
        self._denied += 1
        return Denied(self._denied, "unreadable", why, close_code)

    def stand(self) -> Stands | None:
        """Say what must be set aside before the client's next message goes on."""
        return self._session.stand() if self._session is not None else None

    def quiet(self) -> bytes:
        """Give nothing: no message keeps the service from answering what it was told."""
        return b""

    def admit(self, number: int, output_limit: int, max_output_tokens: int | None) -> bytes:
        """Give the message to send for an admitted turn; a limit could only stand in the setup."""
        return self._session.admit(number) if self._session is not None else b""

    def refuse(self, number: int, refusal: Refusal, status: int) -> bytes:
        """Give nothing: the end of the connection tells why."""
        if self._session is not None:
            self._session.refuse(number)
        return b""

    def cut(self, number: int, refusal: Refusal) -> bytes:
        """Give nothing, as above."""
        return b""

    def from_server(self, frame: bytes, *, is_text: bool) -> tuple[Told, ...]:
        """Read a message of the service, which sends JSON in frames of either kind."""
        if self._session is None:
            return ()
        try:
            message = parse_object(frame)
        except (ValueError, RecursionError):
            return self._session.unread(frame)
        return self._session.from_server(message)


class GoogleLive:
    """`wss://…BidiGenerateContent`."""

    name = "google.live"

    def open(self, request: Request, target: Target, client: str, count: CountOutput) -> LiveTalk:
        """Begin a connection; raises UnreadableRequest."""
        refuse_field_masks(request)
        if "BidiGenerateMusic" in unquote(request.path):
            raise UnreadableRequest("nobody here can count what music costs while it plays (BidiGenerateMusic)")
        return LiveTalk(self.name, request, target, client, count)


LIVE = GoogleLive()
