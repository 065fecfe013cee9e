"""Cutting a live stream, which mitmproxy has no public call for.

Only this and `cutting_sockets` touch mitmproxy's private classes.

`HttpStream` decides what one request's client and server get. Ours is swapped in for it from the `next_layer` hook.
After each event it asks the flow's `Cuttable` whether the stream is to end. If so it closes the upstream side (HTTP/1
closes the socket, HTTP/2 sends RST_STREAM), gives the client the last bytes and a clean end of message, and lets the
`response` hook settle. `nudge` makes a stream look again from outside an event: after an extension was granted or
refused. mitmproxy itself ends a response the same way when it exceeds `body_size_limit`.

`self_test` drives such a stream without a socket. It runs at every start, because these classes are private and may
change: if it fails, the proxy must not start.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary, WeakSet, ref

from mitmproxy import connection, ctx, http, options
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import (
    DropStream,
    GetHttpConnection,
    GetHttpConnectionCompleted,
    HttpLayer,
    HTTPMode,
    HttpStream,
    SendHttp,
)
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import HttpResponseHook
from mitmproxy.utils import human

from llmcap_addon.proxy.telling import Telling

CUT_MESSAGE = "cut by LLMCap"


class Cuttable(Protocol):
    """What a stream asks about its flow."""

    aborts: bool
    """True when the end must break the response off, because no last bytes would make sense to its reader."""

    @property
    def reads_on(self) -> bool:
        """True when the answer shall be read to its end even if the client leaves: it is billed all the same."""
        ...

    def may_leave(self) -> bool:
        """Learn that the request is about to leave: from then on it may be billed. False when it must not any more."""
        ...

    def take_held(self) -> bytes:
        """Give the bytes that were held back and may go out now, once."""
        ...

    def take_tail(self) -> bytes | None:
        """Give the last bytes the client shall see if the stream is to end now, once; else None."""
        ...


_cuttables: WeakKeyDictionary[http.HTTPFlow, Cuttable] = WeakKeyDictionary()
_streams: WeakKeyDictionary[http.HTTPFlow, ref[HttpStream]] = WeakKeyDictionary()
_whole: WeakSet[http.HTTPFlow] = WeakSet()


@dataclass
class Nudge(events.MessageInjected[None]):
    """Look again whether this flow's stream has bytes to send, or is to end."""


def watch(flow: http.HTTPFlow, cuttable: Cuttable) -> None:
    """From now on, ask this about the flow."""
    _cuttables[flow] = cuttable


def keep_whole(flow: http.HTTPFlow) -> None:
    """Let nothing of this request leave before the `request` hook has judged it, however large it is.

    The option `stream_large_bodies` would send it on as it comes, and ask us when it is gone.
    """
    flow.request.stream = False
    _whole.add(flow)


def is_cuttable(flow: http.HTTPFlow) -> bool:
    """True when the flow runs on a stream of ours, so that it can be cut; one that is replayed runs on another."""
    known = _streams.get(flow)
    stream = known() if known is not None else None
    return stream is not None and stream.server_state == stream.state_wait_for_response_headers


def child_of(flow: http.HTTPFlow) -> layer.Layer | None:
    """Give the layer of what the flow has changed into (a websocket), if it runs on a stream of ours."""
    known = _streams.get(flow)
    stream = known() if known is not None else None
    return stream.child_layer if stream is not None else None


def make_cuttable(top: layer.Layer | None, telling: Telling | None = None) -> None:
    """Swap our HTTP layer in for mitmproxy's, anywhere in a new stack of layers; addons learn of its events so."""
    current = top
    while current is not None:
        if type(current) is HttpLayer:
            current.__class__ = CuttableHttpLayer
            vars(current)["telling"] = telling
        current = getattr(current, "child_layer", None)


def http_layer(context: Context) -> layer.Layer:
    """Make the layer that reads a connection to a server as HTTP."""
    return HttpLayer(context, HTTPMode.transparent)


class CuttableHttpStream(HttpStream):
    """mitmproxy's stream, which can be ended by us while it runs, and can go on without its client."""

    telling: Telling | None = None
    """How addons learn of this stream's events; None leaves that to mitmproxy."""
    _client_left = False

    @property
    def flow(self) -> http.HTTPFlow:
        """The flow, which we learn of here as soon as it exists."""
        return self._flow

    @flow.setter
    def flow(self, flow: http.HTTPFlow) -> None:
        self._flow = flow
        _streams[flow] = ref(self)

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseData) and not event.data:
            return  # an empty HTTP/2 frame would read as the end of the body
        if isinstance(event, RequestProtocolError) and self._reads_on():
            self._client_left = True
            return
        if isinstance(event, ResponseData) and not self._client_left:
            yield from super()._handle_event(event)  # never waits, so that nobody leaves meanwhile
        elif not isinstance(event, Nudge):
            yield from self._heard(super()._handle_event(event))
        if self.server_state == self.state_stream_response_body:
            yield from self._heard(self._obey())

    def _reads_on(self) -> bool:
        cuttable = _cuttables.get(self._flow) if hasattr(self, "_flow") else None
        waits = self.server_state in (self.state_wait_for_response_headers, self.state_stream_response_body)
        return cuttable is not None and cuttable.reads_on and waits and self.client_state == self.state_done

    def _heard(self, produced: layer.CommandGenerator[None]) -> layer.CommandGenerator[None]:
        """Tell addons at once where that can be done; leave out what is for a client that has left."""
        reply = None
        while True:
            try:
                command: commands.Command = produced.send(reply)
            except StopIteration:
                return
            reply = None
            if isinstance(command, commands.StartHook):
                if self.telling is not None and self.telling.is_for(command):
                    yield from self.telling.follow(command, self._flow)
                    continue
            elif self._client_left and isinstance(command, SendHttp) and command.connection is self.context.client:
                continue
            reply = yield command

    def check_body_size(self, request: bool) -> layer.CommandGenerator[bool]:
        """Hold a body to `body_size_limit`; to `stream_large_bodies` only when it need not be kept whole."""
        if request and self._flow in _whole:
            most = human.parse_size(self.context.options.body_size_limit)
            if most is None or len(self.request_body_buf) <= most:
                return False
        return (yield from super().check_body_size(request))

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        """Get a connection to the server; the request's head follows at once."""
        is_up = yield from super().make_server_connection()
        cuttable = _cuttables.get(self._flow)
        if not is_up or cuttable is None or cuttable.may_leave():
            return is_up
        error = ResponseProtocolError(self.stream_id, CUT_MESSAGE, ErrorCode.CONNECT_FAILED)
        yield from self.handle_protocol_error(error)
        return False

    def _obey(self) -> layer.CommandGenerator[None]:
        cuttable = _cuttables.get(self._flow)
        if cuttable is None:
            return
        held = cuttable.take_held()
        if held:
            yield SendHttp(ResponseData(self.stream_id, held), self.context.client)
        tail = cuttable.take_tail()
        if tail is not None:
            yield from self._cut(tail, cuttable.aborts)

    def _cut(self, tail: bytes, aborts: bool) -> layer.CommandGenerator[None]:
        assert self._flow.response
        self.client_state = self.server_state = self.state_errored
        yield SendHttp(RequestProtocolError(self.stream_id, CUT_MESSAGE, ErrorCode.CANCEL), self.context.server)
        if aborts:
            error = ResponseProtocolError(self.stream_id, CUT_MESSAGE, ErrorCode.CANCEL)
            yield SendHttp(error, self.context.client)
        else:
            if tail:
                yield SendHttp(ResponseData(self.stream_id, tail), self.context.client)
            yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        self._flow.response.timestamp_end = time.time()
        yield HttpResponseHook(self._flow)
        self._flow.live = False
        yield DropStream(self.stream_id)


class CuttableHttpLayer(HttpLayer):
    """mitmproxy's HTTP layer, whose streams are ours and which hands nudges to them."""

    telling: Telling | None = None
    """How addons learn of its streams' events."""

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        """Make the stream of one request."""
        stream = CuttableHttpStream(self.context.fork(), stream_id)
        stream.telling = self.telling
        self.streams[stream_id] = stream
        yield from self.event_to_child(stream, events.Start())

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if not isinstance(event, Nudge):
            yield from _joined(super()._handle_event(event))
            return
        for stream in list(self.streams.values()):
            # A stream with a child is a tunnel (CONNECT): the flow runs somewhere inside it.
            if stream.child_layer is not None or getattr(stream, "flow", None) is event.flow:
                yield from self.event_to_child(stream, event)


def _joined(produced: layer.CommandGenerator[None]) -> layer.CommandGenerator[None]:
    """Write in one piece what goes to one connection in a row, a head and its body: each write is a system call."""
    waiting: commands.SendData | None = None
    reply = None
    while True:
        try:
            command = produced.send(reply)
        except StopIteration:
            break
        except Exception:
            if waiting is not None:
                yield waiting
            raise
        reply = None
        if isinstance(command, commands.SendData):
            if waiting is not None and waiting.connection is command.connection:
                waiting.data += command.data
                continue
            waiting, command = command, waiting
        elif waiting is not None and not isinstance(command, commands.Log):
            yield waiting
            waiting = None
        if command is not None:
            reply = yield command
    if waiting is not None:
        yield waiting


def nudge(flow: http.HTTPFlow | None) -> None:
    """Make the flow's stream look again; nothing happens when its connection, or the flow itself, is gone."""
    if flow is None:
        return
    try:
        ctx.master.addons.get("proxyserver").inject_event(Nudge(flow, None))
    except ValueError:
        return  # the client is gone: the error hook settles


class _SelfTest:
    """Holds one chunk back, lets it go, then cuts."""

    aborts = False
    reads_on = False

    def __init__(self) -> None:
        self.held = b""
        self.tail: bytes | None = None
        self.sent = False

    def may_leave(self) -> bool:
        self.sent = True
        return True

    def take_held(self) -> bytes:
        held, self.held = self.held, b""
        return held

    def take_tail(self) -> bytes | None:
        tail, self.tail = self.tail, None
        return tail


def self_test(opts: options.Options) -> str:
    """Cut a stream without a socket, under the running mitmproxy's options; gives what went wrong, or ""."""
    try:
        return _run_self_test(opts)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _run_self_test(opts: options.Options) -> str:
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0)
    context = Context(client, opts)
    context.server.address = ("llmcap.invalid", 80)
    context.server.state = connection.ConnectionState.OPEN
    http_layer = CuttableHttpLayer(context, HTTPMode.transparent)
    stream = CuttableHttpStream(http_layer.context.fork(), 1)
    test = _SelfTest()
    request = http.Request.make("POST", "http://llmcap.invalid/")
    response = http.Response.make(200)
    sent: list[object] = []
    _drive(stream, events.Start(), sent)
    _drive(stream, RequestHeaders(1, request, end_stream=False), sent)
    if not is_cuttable(stream.flow):
        return "a flow did not register with its stream"
    watch(stream.flow, test)
    _drive(stream, RequestEndOfMessage(1), sent)
    if not test.sent:
        return "a request left unnoticed"
    response.stream = True
    _drive(stream, ResponseHeaders(1, response, end_stream=False), sent)
    test.held = b"held"
    _drive(stream, Nudge(stream.flow, None), sent)
    test.tail = b"tail"
    _drive(stream, Nudge(stream.flow, None), sent)
    _drive(stream, ResponseData(1, b"too late"), sent)
    kinds = [type(event).__name__ for event in sent]
    data = b"".join(event.data for event in sent if isinstance(event, ResponseData))
    wanted = ["ResponseHeaders", "ResponseData", "RequestProtocolError", "ResponseData", "ResponseEndOfMessage"]
    if kinds[-5:] != wanted or data != b"heldtail":
        return f"a cut sent {kinds} and {data!r}"
    return ""


def _drive(stream: HttpStream, event: events.Event, sent: list[object]) -> None:
    """Feed one event, answering every hook and connection request at once."""
    pending: list[events.Event] = [event]
    while pending:
        for command in stream.handle_event(pending.pop(0)):
            if isinstance(command, SendHttp):
                sent.append(command.event)
            elif isinstance(command, GetHttpConnection):
                pending.append(GetHttpConnectionCompleted(command, (stream.context.server, None)))
            elif isinstance(command, commands.StartHook):
                pending.append(events.HookCompleted(command, None))
