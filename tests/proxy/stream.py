"""mitmproxy's layers without a socket: events go in, what would be sent comes out, hooks run at once or when told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable

from mitmproxy import connection, http, options
from mitmproxy.hooks import Hook
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import GetHttpConnection, GetHttpConnectionCompleted, HTTPMode, SendHttp
from mitmproxy.proxy.layers.http._events import (
    HttpEvent,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
)

from llmcap_addon.proxy.cutting import CuttableHttpLayer, CuttableHttpStream

type OnHook = Callable[[Hook], Awaitable[None] | None]

STREAM_ID = 1


class Driver:
    """One request's stream, between a client and a server that are this test."""

    def __init__(
        self, opts: options.Options, on_hook: OnHook = lambda _: None, *, host: str = "api.openai.com"
    ) -> None:
        client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0)
        client.state = connection.ConnectionState.OPEN
        context = Context(client, opts)
        context.server.address = (host, 80)
        self.layer = CuttableHttpLayer(context, HTTPMode.transparent)
        self.stream = CuttableHttpStream(self.layer.context.fork(), STREAM_ID)
        self.client = client
        self.server = self.stream.context.server
        self.reachable = True
        self.on_connect: Callable[[], Awaitable[None]] | None = None
        """Called before the connection to the server is up."""
        self.hooks: list[str] = []
        self._on_hook = on_hook
        self._sent: list[tuple[connection.Connection, HttpEvent]] = []

    @property
    def flow(self) -> http.HTTPFlow:
        return self.stream.flow

    def to_client(self) -> list[HttpEvent]:
        return [event for to, event in self._sent if to is self.client]

    def to_server(self) -> list[HttpEvent]:
        return [event for to, event in self._sent if to is not self.client]

    def shown(self) -> bytes:
        """Give the body that the client has got so far."""
        return b"".join(event.data for event in self.to_client() if isinstance(event, ResponseData))

    def head(self) -> http.Response:
        """Give the response as the client got it."""
        [head] = [event for event in self.to_client() if isinstance(event, ResponseHeaders)]
        return head.response

    async def feed(self, event: events.Event) -> None:
        """Take one event, and answer whatever the stream asks."""
        pending: list[events.Event] = [event]
        while pending:
            for command in self.stream.handle_event(pending.pop(0)):
                if isinstance(command, SendHttp):
                    self._sent.append((command.connection, command.event))
                elif isinstance(command, GetHttpConnection):
                    if self.on_connect is not None:
                        await self.on_connect()
                    reply = (self.server, None) if self.reachable else (None, "unreachable")
                    pending.append(GetHttpConnectionCompleted(command, reply))
                elif isinstance(command, commands.StartHook):
                    self.hooks.append(command.name)
                    outcome = self._on_hook(command)
                    if isawaitable(outcome):
                        await outcome
                    pending.append(events.HookCompleted(command, None))

    async def request(
        self,
        body: bytes,
        path: str = "/v1/chat/completions",
        method: str = "POST",
        headers: dict[str, str] | None = None,
    ) -> None:
        """Send a whole request, its body in two pieces."""
        await self.feed(events.Start())
        assert self.server.address is not None
        request = http.Request.make(method, f"http://{self.server.address[0]}{path}")
        request.headers.update(headers or {})
        await self.feed(RequestHeaders(STREAM_ID, request, end_stream=False))
        half = len(body) // 2
        for piece in (body[:half], body[half:]):
            if piece:
                await self.feed(RequestData(STREAM_ID, piece))
        await self.feed(RequestEndOfMessage(STREAM_ID))

    async def respond(self, response: http.Response, *chunks: bytes, ends: bool = True) -> None:
        """Answer as the server does, in so many chunks."""
        await self.feed(ResponseHeaders(STREAM_ID, response, end_stream=False))
        await self.respond_more(*chunks)
        if ends:
            await self.feed(ResponseEndOfMessage(STREAM_ID))

    async def respond_more(self, *chunks: bytes) -> None:
        """Go on answering."""
        for chunk in chunks:
            await self.feed(ResponseData(STREAM_ID, chunk))


def streamed() -> http.Response:
    """Give the head of an event stream."""
    return http.Response.make(200, b"", {"content-type": "text/event-stream"})
