"""The addon: thin hooks that guard, translate, and make one call into the gate.

mitmproxy logs an exception in a hook and forwards the flow. So every hook that decides about money ends in a refusal
or a cut when anything of ours fails, unless the user chose `on_error: allow`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from weakref import ref

from mitmproxy import connection, ctx, http, tls
from mitmproxy.addonmanager import Loader
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.layers import TCPLayer
from mitmproxy.proxy.mode_specs import ReverseMode

from llmcap_addon.errors import LLMCapError, UnreadableRequest
from llmcap_addon.gate import messages
from llmcap_addon.gate.endings import Ending
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.proxy import cutting, cutting_sockets, queueing, refusing, translate
from llmcap_addon.proxy.display import Display
from llmcap_addon.proxy.exchange import Exchange, read_on
from llmcap_addon.proxy.service import Service, Settings, Summary
from llmcap_addon.proxy.socket_hooks import SocketHooks
from llmcap_addon.proxy.telling import Teller
from llmcap_addon.proxy.watching import Watching
from llmcap_addon.view.lines import flow_comment, refused_comment
from llmcap_addon.wire import routes
from llmcap_addon.wire.dialect import Dialect, Refusal, Request
from llmcap_addon.wire.dialects import DIALECTS
from llmcap_addon.wire.hosts import is_llm_host

START_WAIT_S = 30.0
"""Connections that come before caps.yaml is read wait so long to learn whose they are: its `hosts:` says it."""
NOT_STARTED = "refused, the proxy is still starting or could not start; try again"
READ_ON_S = 600.0
"""An answer whose client has left is read on for so long; what has not ended then is posted at its bound."""
READ_ON_AT_END_S = 10.0
"""The same when the proxy ends: a tool that has gone must not keep its user waiting, and most answers are shorter."""
LEFT = "Client disconnected."
"""What mitmproxy says of a client that has left."""
TLS_HANDSHAKE = b"\x16"
TLS_HEAD_BYTES = 3
"""What mitmproxy looks at to tell TLS, and then HTTP, from anything else: type and version of the first record."""
LARGE_BODY_BYTES = 256 << 10
"""Bodies above this are read in a thread: parsing 1 MB takes long enough for other streams to feel it."""

log = logging.getLogger("llmcap")


class Hooks:
    """LLMCap as mitmproxy's addon manager sees it."""

    name = "llmcap"

    def __init__(self, settings: Settings | None = None) -> None:
        self.service: Service | None = None
        self.summary = Summary()
        """What the run came to, once it is done."""
        self.failure: LLMCapError | None = None
        """Why it could not start."""
        self._settings = settings
        self._exchanges: dict[http.HTTPFlow, Exchange] = {}
        """Those not settled yet."""
        self._sockets = SocketHooks(self._spawn, _is_gone)
        self._watching = Watching()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        """Set once it has started, or could not."""
        self._display: Display | None = None
        self._teller: Teller | None = None

    # ── life ──

    def load(self, loader: Loader) -> None:
        """Declare our options; they stand in `mitmdump --options` and in mitmproxy's own config.yaml."""
        self._teller = Teller(ctx.master.addons)
        if self._settings is None:
            translate.add_options(loader)
        scripts = ctx.master.addons.get("scriptloader")
        if scripts is not None and scripts.is_running:  # loaded into a proxy that runs already: no `running` comes
            self._starting = asyncio.create_task(self.running())

    async def running(self) -> None:
        """Start, or say in one message why not and stop the proxy: it must not run unmetered."""
        if self.service is not None:
            return
        service: Service | None = None
        try:
            broken = cutting.self_test(ctx.options) or cutting_sockets.self_test(ctx.options)
            if broken:
                raise LLMCapError(f"this version of mitmproxy can't be relied on to cut a stream ({broken})")
            if self._settings is None:
                await translate.keep_to_loopback(ctx.options, ctx.master.addons.get("proxyserver"))
            settings = self._settings or translate.settings_from_options(ctx.options, type(ctx.master).__name__)
            service = await Service.start(settings)
            self._display = Display(service)
            self._display.start(translate.listening(ctx.master.addons.get("proxyserver")))
            self.service = service
            if self._settings is None:
                translate.quieten(ctx.options, service.bulletin.notice)
        except Exception as error:
            failure = error if isinstance(error, LLMCapError) else LLMCapError(f"{type(error).__name__}: {error}")
            self.failure = failure
            log.error("llmcap: not started: %s", self.failure)
            if service is not None:
                await service.close()
            ctx.master.shutdown()
        finally:
            self._tried.set()

    async def done(self) -> None:
        """Settle what is still live, and close the ledger."""
        if self.service is not None and any(exchange.reads_on for exchange in self._exchanges.values()):
            self.service.bulletin.notice(
                f"waiting {READ_ON_AT_END_S:g} s at most for answers that are billed to their end"
            )
            await read_on(self._exchanges.values(), READ_ON_AT_END_S)
        for exchange in list(self._exchanges.values()):
            try:
                await exchange.finish("shutdown")
            except Exception as error:  # the next one must be settled all the same
                log.error("llmcap: internal error at the end of a call: %s: %s", type(error).__name__, error)
        await self._sockets.finish_all("shutdown")
        await self._watching.finish_all()
        try:
            if self._display is not None:
                await self._display.stop()
        finally:
            if self.service is not None:
                self.summary = await self.service.close()

    # ── whose traffic ──

    def client_connected(self, client: connection.Client) -> None:
        """Let no event of this connection get lost."""
        queueing.queue_events_of(client)

    async def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        """Leave every connection encrypted that does not go to an LLM host."""
        if isinstance(data.context.client.proxy_mode, ReverseMode):
            return
        await self._wait_for_start()
        address = data.context.server.address
        names = [data.client_hello.sni or "", address[0] if address else ""]
        data.ignore_connection = not any(self._is_llm_host(name) for name in names)

    async def next_layer(self, nextlayer: layer.NextLayer) -> None:
        """Put streams that can be cut under every HTTP connection, and let none to an LLM host pass for raw TCP."""
        if nextlayer.layer is None:
            ctx.master.addons.get("nextlayer").next_layer(nextlayer)
        if isinstance(nextlayer.layer, TCPLayer) and nextlayer.layer.flow is not None:
            await self._read_anyway(nextlayer, nextlayer.layer)
        telling = self._teller.telling(nextlayer.context.client) if self._teller is not None else None
        cutting.make_cuttable(nextlayer.layer, telling)

    async def _read_anyway(self, nextlayer: layer.NextLayer, raw: TCPLayer) -> None:
        """Take back a hasty choice: mitmproxy calls a connection raw TCP by its first piece, be it a single byte.

        Whoever sends less than a TLS record's head, or a blank line before the request, would pass unread.
        """
        context = nextlayer.context
        if isinstance(context.client.proxy_mode, ReverseMode):
            return  # `reverse:tcp://…` says it
        await self._wait_for_start()
        data = nextlayer.data_client()
        names = [context.client.sni or "", context.server.address[0] if context.server.address else ""]
        is_llm = any(self._is_llm_host(name) for name in names)
        may_be_tls = len(data) < TLS_HEAD_BYTES and data.startswith(TLS_HANDSHAKE)
        if not (is_llm or may_be_tls) or data.startswith(b"SSH-"):
            return
        context.layers.remove(raw)
        nextlayer.layer = None
        if len(data) >= TLS_HEAD_BYTES:
            nextlayer.layer = cutting.http_layer(context)
            for event in nextlayer.events:
                if isinstance(event, events.DataReceived) and event.connection is context.client:
                    event.data = event.data.lstrip(b"\r\n")  # mitmproxy would wait for more behind a blank line
                    if event.data:
                        break

    async def _wait_for_start(self) -> None:
        """Wait until it is known which hosts count; mitmproxy takes connections before we have read that."""
        if not self._tried.is_set():
            try:
                async with asyncio.timeout(START_WAIT_S):
                    await self._tried.wait()
            except TimeoutError:
                pass

    def _is_llm_host(self, name: str) -> bool:
        hosts = self.service.hosts if self.service is not None else {}
        return bool(name) and is_llm_host(name, hosts)

    def _llm_host(self, flow: http.HTTPFlow) -> str | None:
        """The LLM host this flow goes to: its destination, else the name its TLS asked for; never the Host header."""
        for name in (flow.request.host, flow.client_conn.sni or ""):
            if self._is_llm_host(name):
                return name.lower().rstrip(".")
        return None

    async def llmcap_until_told(self, rest: asyncio.Task[None]) -> None:
        """Wait for an addon, ours or another, that was told of a stream's event and was not done at once."""
        await rest

    # ── a call ──

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Keep the body of an LLM request together: it is judged whole, before a byte of it is forwarded."""
        if self.service is None or self._llm_host(flow) is not None:
            cutting.keep_whole(flow)

    async def request(self, flow: http.HTTPFlow) -> None:
        """Admit or refuse."""
        if flow.response is not None or flow.error is not None:
            return
        try:
            await self._wait_for_start()
            host = self._llm_host(flow)
            if self.service is None:
                flow.response = translate.last_resort(messages.failure("internal", NOT_STARTED))
            elif host is not None:
                flow.response = await self._decide(flow, translate.request_head(flow.request, host))
                if flow.response is not None:
                    flow.comment = flow.comment or refused_comment()
        except asyncio.CancelledError:
            flow.kill()
            raise
        except Exception as error:
            log.error("llmcap: internal error in a request: %s: %s", type(error).__name__, error)
            if self.service is None or self.service.config.on_error != "allow":
                known = isinstance(error, LLMCapError)
                why = f"refused, {error}" if known else f"refused after an internal error ({type(error).__name__})"
                reason = f"{why}; nothing was sent or spent"
                flow.response = translate.last_resort(messages.failure("internal", reason))

    async def _decide(self, flow: http.HTTPFlow, request: Request) -> http.Response | None:
        service = self.service
        assert service is not None
        route = routes.classify(request, service.hosts)
        if route.kind in ("free", "foreign"):
            return None
        client = service.client_of(request)
        if route.kind == "socket":
            return await self._sockets.open(flow, service, route, request, client)
        if route.kind == "watched":
            await self._watching.open(flow, service, route, request, client)
            return None
        dialect = DIALECTS[route.dialect_name]
        if route.upgrade and service.config.unmetered != "allow":
            service.unclaimed.note(route.host, "WEBSOCKET", request.path, forwarded=False)
            return translate.upgrade_required(route)
        if route.kind == "unmetered":
            return await refusing.refuse_unmetered(service, route, dialect, request, client)
        try:
            encoding = request.headers.get("content-encoding", "")
            raw = flow.request.raw_content
            if raw is None:
                raise UnreadableRequest("its body was streamed past the proxy")
            if len(raw) > LARGE_BODY_BYTES:
                request, call = await asyncio.to_thread(translate.read, dialect, request, raw, encoding, route, client)
            else:
                request, call = translate.read(dialect, request, raw, encoding, route, client)
        except UnreadableRequest as error:
            return await refusing.refuse_unread(service, route, dialect, request, str(error), client)
        outcome = await service.gate.admit(call, lambda: _is_gone(flow))
        if isinstance(outcome, Refusal):
            flow.comment = refused_comment(call.model)
            return refusing.refuse(service, dialect, request, outcome, client, call)
        try:
            self._send(flow, service, dialect, request, outcome)
        except BaseException as error:
            await outcome.finish(translate.NOTHING_READ, "never_sent", 0, "refused after an internal error")
            if not isinstance(error, Exception):
                raise
            # Its row is void, so it must not go out, whatever `on_error` says.
            log.error("llmcap: a call could not be sent: %s: %s", type(error).__name__, error)
            why = str(error) if isinstance(error, LLMCapError) else f"internal error ({type(error).__name__})"
            return translate.last_resort(messages.failure("internal", f"refused, {why}; nothing was sent or spent"))
        return None

    def _send(self, flow: http.HTTPFlow, service: Service, dialect: Dialect, request: Request, live: LiveCall) -> None:
        """Let an admitted call go out, with what we ask for in its body."""
        if not cutting.is_cuttable(flow):
            raise LLMCapError("this request's answer could not be cut or counted (was it replayed?)")
        flow.request.headers.pop("upgrade", None)  # what came after a change of protocol could not be counted
        amended = dialect.amend(live.call, request.body, live.max_output_tokens)
        if amended is not request.body:
            flow.request.headers.pop("content-encoding", None)
            flow.request.content = amended
        seen = ref(flow)  # the exchange is kept as long as its flow is, so it must not keep the flow
        exchange = Exchange(
            gate=service.gate,
            live=live,
            dialect=dialect,
            body=request.body,
            spawn=self._spawn,
            nudge=lambda: cutting.nudge(seen()),
            on_trouble=service.bulletin.trouble,
        )
        self._exchanges[flow] = exchange
        cutting.watch(flow, exchange)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Put the meter in the way of the body, chunk by chunk; no body is ever stored."""
        exchange = self._exchanges.get(flow)
        if self._watching.headers(flow) or exchange is None or flow.response is None:
            return
        try:
            translate.stream_through(flow, exchange)
        except Exception as error:
            exchange.fail(error)
            flow.response.stream = exchange

    async def response(self, flow: http.HTTPFlow) -> None:
        """Settle a call whose response has ended, by itself or cut."""
        self._sockets.answered(flow)
        await self._watching.answered(flow)
        await self._finish(flow, "complete", "")

    async def error(self, flow: http.HTTPFlow) -> None:
        """Settle a call whose client or provider went away."""
        await self._sockets.end(flow)
        self._watching.broken(flow)
        exchange = self._exchanges.get(flow)
        if exchange is None:
            return
        note = flow.error.msg if flow.error is not None else ""
        await self._finish(flow, _ending(flow, exchange), note)

    async def client_disconnected(self, client: connection.Client) -> None:
        """Keep a connection's upstream side open while answers that are billed all the same are read to their end.

        mitmproxy closes it when this hook returns. Nobody tells us of a call whose layers have failed, or that waits
        for a connection to its provider, so all are settled here, and what had not left by now never will.
        """
        left = {flow: exchange for flow, exchange in self._exchanges.items() if flow.client_conn is client}
        await self._finish_left({flow: exchange for flow, exchange in left.items() if not exchange.reads_on})
        await read_on(left.values(), READ_ON_S)
        await self._finish_left(left)

    async def _finish_left(self, left: dict[http.HTTPFlow, Exchange]) -> None:
        await asyncio.gather(*[self._finish(flow, _last_ending(flow, one), LEFT) for flow, one in left.items()])

    async def _finish(self, flow: http.HTTPFlow, ending: Ending, note: str) -> None:
        exchange = self._exchanges.get(flow)
        if exchange is None:
            return
        try:
            line = await exchange.finish(ending, note)
        finally:
            self._exchanges.pop(flow, None)  # not before: the end of the proxy waits for those that are here
        if line is not None:
            flow.comment = flow_comment(line)

    # ── websockets ──

    def websocket_start(self, flow: http.HTTPFlow) -> None:
        """Stand in the way of a metered websocket's frames."""
        self._sockets.start(flow)

    def websocket_message(self, flow: http.HTTPFlow) -> None:
        """Let no frame pass that is not metered."""
        self._sockets.message(flow)

    async def websocket_end(self, flow: http.HTTPFlow) -> None:
        """Settle what was live."""
        await self._sockets.end(flow)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_gone(flow: http.HTTPFlow) -> bool:
    return not flow.client_conn.state & connection.ConnectionState.CAN_READ


def _last_ending(flow: http.HTTPFlow, exchange: Exchange) -> Ending:
    """Tell how a call ended whose client's connection has ended."""
    if flow.response is not None and flow.response.timestamp_end is not None:
        return "complete"
    return "client_gone" if exchange.sent else "never_sent"


def _ending(flow: http.HTTPFlow, exchange: Exchange) -> Ending:
    """Tell who went away, and whether the request had left before."""
    if not exchange.sent:
        return "never_sent"
    if not flow.client_conn.connected or (flow.error is not None and "lient disconnected" in flow.error.msg):
        return "client_gone"
    return "upstream_gone"
