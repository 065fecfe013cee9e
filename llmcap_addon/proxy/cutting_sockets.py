"""Holding, answering and ending a live websocket, which mitmproxy has no public call for.

`WebsocketLayer` relays one connection's messages. Ours takes its place and, after each event, asks the flow's `Relay`
for the frames that are to go out on either side and whether the connection is to end. So a frame can go out later
without keeping the other direction waiting; a hook of mitmproxy's that waits stops both. And the `websocket_message`
hook does not run at all: it takes milliseconds, a provider sends hundreds of frames a second, and what it has sent
ahead of a proxy that lags behind is billed when the response is cut.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

from mitmproxy import connection, http, options
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.websocket import (
    Fragmentizer,
    WebsocketConnection,
    WebsocketEndHook,
    WebsocketLayer,
    WebsocketMessageHook,
)
from mitmproxy.websocket import WebSocketData
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import CloseConnection, TextMessage

from llmcap_addon.proxy import cutting
from llmcap_addon.wire.socket import MAX_FRAME_BYTES

NORMAL = 1000
TOO_BIG = 1009
"""Close codes (RFC 6455, 7.4.1)."""
MAX_REASON_BYTES = 123
"""What a close frame has room for beside its code (RFC 6455, 5.5)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message that is to go out."""

    to_client: bool
    data: bytes
    is_text: bool = True


@dataclass(frozen=True, slots=True)
class Close:
    """How a connection is to end, as its client is told."""

    code: int
    reason: str


class Relay(Protocol):
    """What a websocket's layer asks about its flow. None of it raises."""

    def passes(self, data: bytes, *, from_client: bool, is_text: bool) -> bool:
        """Take a message that has come; True when it goes on now, as it came."""
        ...

    def take_frames(self) -> list[Frame]:
        """Give the frames that are to go out now, once, in order."""
        ...

    def take_close(self) -> Close | None:
        """Say once that the connection is to end."""
        ...

    def take_last(self) -> list[Frame]:
        """Give what its client shall still get when the provider has ended the connection."""
        ...


_relays: WeakKeyDictionary[http.HTTPFlow, Relay] = WeakKeyDictionary()


def take_over(flow: http.HTTPFlow, relay: Relay) -> bool:
    """Put our layer in the place of mitmproxy's, in the `websocket_start` hook; False when that can't be done."""
    child = cutting.child_of(flow)
    if type(child) is not WebsocketLayer:
        return False
    _relays[flow] = relay
    child.__class__ = CuttableWebsocketLayer
    return True


class CuttableWebsocketLayer(WebsocketLayer):
    """mitmproxy's websocket layer, which sends what we say and can be ended by us."""

    def relay_messages(self, event: events.Event) -> layer.CommandGenerator[None]:
        """Relay, then obey; a nudge only makes it obey."""
        relay = _relays[self.flow]
        if not isinstance(event, cutting.Nudge):
            yield from self._relay(super().relay_messages(event), relay)
        if self._handle_event == self.relay_messages:
            yield from self._obey(relay)

    def done(self, _: events.Event) -> layer.CommandGenerator[None]:
        """Ignore what comes after the end, nudges too."""
        yield from ()

    def _obey(self, relay: Relay) -> layer.CommandGenerator[None]:
        close = relay.take_close()
        sides = (self.client_ws, self.server_ws)
        if close is None and any(sum(map(len, side.frame_buf)) > MAX_FRAME_BYTES for side in sides):
            close = Close(TOO_BIG, "LLMCap: a message is too large to be metered")
        if close is not None:
            # First of all the provider must stop.
            yield from self._end(self.server_ws, CloseConnection(NORMAL))
        yield from self._send(relay.take_frames())
        if close is not None:
            reason = close.reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
            yield from self._end(self.client_ws, CloseConnection(close.code, reason))
            yield from self._over(close.code, reason)

    def _relay(self, relayed: layer.CommandGenerator[None], relay: Relay) -> layer.CommandGenerator[None]:
        """Relay what passes; when the provider ends the connection, its last frames go out before the end does."""
        websocket = self.flow.websocket
        assert websocket is not None
        reply = None
        is_over = False
        while True:
            try:
                command = relayed.send(reply)
            except StopIteration:
                return
            if isinstance(command, WebsocketMessageHook):
                message = websocket.messages.pop()  # they would be kept for as long as the connection lives
                message.dropped = not relay.passes(
                    message.content, from_client=message.from_client, is_text=message.is_text
                )
                reply = None
                continue
            if websocket.timestamp_end is not None and not is_over:
                is_over = True
                if not websocket.closed_by_client:
                    yield from self._send(relay.take_last())
            reply = yield command

    def _send(self, frames: list[Frame]) -> layer.CommandGenerator[None]:
        for frame in frames:
            side = self.client_ws if frame.to_client else self.server_ws
            if side.state is ConnectionState.OPEN:
                for message in Fragmentizer([frame.data], frame.is_text)(frame.data):
                    yield side.send2(message)

    def _end(self, side: WebsocketConnection, event: CloseConnection) -> layer.CommandGenerator[None]:
        if side.state in (ConnectionState.OPEN, ConnectionState.REMOTE_CLOSING):
            yield side.send2(event)
        yield commands.CloseConnection(side.conn)

    def _over(self, code: int, reason: str) -> layer.CommandGenerator[None]:
        assert self.flow.websocket is not None
        self.flow.websocket.timestamp_end = time.time()
        self.flow.websocket.closed_by_client = False
        self.flow.websocket.close_code = code
        self.flow.websocket.close_reason = reason
        self._handle_event = self.done
        yield WebsocketEndHook(self.flow)
        self.flow.live = False


class _SelfTest:
    """Lets nothing through, says something of its own, then ends."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def passes(self, data: bytes, *, from_client: bool, is_text: bool) -> bool:
        self.heard.append(data)
        return not (from_client or is_text)

    def take_frames(self) -> list[Frame]:
        return [Frame(True, b"said")] if self.heard else []

    def take_last(self) -> list[Frame]:
        return []

    def take_close(self) -> Close | None:
        return Close(NORMAL, "over") if self.heard else None


def self_test(opts: options.Options) -> str:
    """Hold, say and end on a websocket without a socket; gives what went wrong, or ""."""
    try:
        return _run_self_test(opts)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _run_self_test(opts: options.Options) -> str:
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0)
    context = Context(client, opts)
    flow = http.HTTPFlow(client, context.server)
    flow.response, flow.websocket = http.Response.make(101), WebSocketData()
    child, test = WebsocketLayer(context, flow), _SelfTest()
    _relays[flow] = test
    child.__class__ = CuttableWebsocketLayer
    peer = WebsocketConnection(ConnectionType.CLIENT, [], conn=client)
    sent: dict[bool, bytes] = {True: b"", False: b""}
    hooks = []
    said = events.DataReceived(client, peer.send(TextMessage("held")))
    for event in (events.Start(), said, cutting.Nudge(flow, None)):
        pending: list[events.Event] = [event]
        while pending:
            for command in child.handle_event(pending.pop(0)):
                if isinstance(command, commands.SendData):
                    sent[command.connection is client] += command.data
                elif isinstance(command, commands.StartHook):
                    hooks.append(command.name)
                    pending.append(events.HookCompleted(command, None))
    peer.receive_data(sent[True])
    got = [getattr(event, "data", None) or getattr(event, "code", None) for event in peer.events()]
    if test.heard != [b"held"] or got != ["said", NORMAL] or hooks != ["websocket_start", "websocket_end"]:
        return f"a websocket heard {test.heard}, sent {got} and ran {hooks}"
    return "" if len(sent[False]) and b"held" not in sent[False] else "a websocket's held message went out"
