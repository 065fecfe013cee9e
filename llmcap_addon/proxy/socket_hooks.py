"""mitmproxy's websocket hooks, thin: a handshake opens a socket, its start puts the socket in the way of the frames,
its end settles."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from weakref import ref

from mitmproxy import ctx, http

from llmcap_addon.activity import CallLine
from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.gate import messages
from llmcap_addon.gate.endings import Ending
from llmcap_addon.proxy import cutting, cutting_sockets, translate
from llmcap_addon.proxy.service import Service
from llmcap_addon.proxy.sockets import REFUSED_STATUS, Socket
from llmcap_addon.view.lines import flow_comment
from llmcap_addon.wire.dialect import Request, Target
from llmcap_addon.wire.dialects import DIALECTS, SOCKETS
from llmcap_addon.wire.endpoints import CHAT, GENERATE
from llmcap_addon.wire.routes import Route

log = logging.getLogger("llmcap")


class SocketHooks:
    """The metered websockets of a proxy."""

    def __init__(
        self, spawn: Callable[[Coroutine[None, None, None]], None], is_gone: Callable[[http.HTTPFlow], bool]
    ) -> None:
        self._spawn = spawn
        self._is_gone = is_gone
        self._sockets: dict[http.HTTPFlow, Socket] = {}

    async def open(
        self, flow: http.HTTPFlow, service: Service, route: Route, request: Request, client: str
    ) -> http.Response | None:
        """Let the opening handshake of a metered websocket through, or say why not."""
        if not cutting.is_cuttable(flow) or not ctx.options.websocket:
            return translate.upgrade_required(route)  # its frames would pass unseen

        def count(call: Call, text: str) -> int:
            return service.gate.pricing.count_output(call, text)

        target = Target(route.provider, route.model, route.models, route.zone)
        try:
            talk = SOCKETS[route.dialect_name].open(request, target, client, count)
        except UnreadableRequest as error:
            allowed = service.config.unmetered == "allow"
            service.unclaimed.note(route.host, "WEBSOCKET", request.path, forwarded=allowed)
            if allowed:
                log.warning("llmcap: not metered, forwarded: a websocket to %s: %s", route.host, error)
                return None
            refusal = messages.failure("unmetered", f"refused, this websocket can't be metered: {error}")
            await service.gate.note_refusal(route.dialect_name, route.host, route.provider, client, refusal)
            shape = DIALECTS[GENERATE if route.dialect_name.startswith("google.") else CHAT]
            return translate.to_response(shape.refusal(None, request, refusal, REFUSED_STATUS))
        seen = ref(flow)  # the socket is kept as long as its flow is, so it must not keep the flow

        def comment(line: CallLine) -> None:
            known = seen()
            if known is not None:
                known.comment = flow_comment(line)

        def is_gone() -> bool:
            known = seen()
            return known is None or self._is_gone(known)

        self._sockets[flow] = Socket(
            service=service,
            route=route,
            request=request,
            talk=talk,
            client=client,
            spawn=self._spawn,
            nudge=lambda: cutting.nudge(seen()),
            is_gone=is_gone,
            on_line=comment,
        )
        return None

    def answered(self, flow: http.HTTPFlow) -> None:
        """Look at what the handshake was answered with: a change to anything but a websocket is not let through."""
        if flow.websocket is not None or self._sockets.pop(flow, None) is None:
            return
        if flow.response is not None and flow.response.status_code == 101:
            flow.kill()

    def start(self, flow: http.HTTPFlow) -> None:
        """Stand in the way of a websocket's frames, from the first on."""
        socket = self._sockets.get(flow)
        if socket is None:
            return
        if not cutting_sockets.take_over(flow, socket):
            log.error("llmcap: internal error: a websocket can't be metered, nothing passes on it")

    def message(self, flow: http.HTTPFlow) -> None:
        """Let nothing pass on a metered websocket whose layer is not ours; with ours this hook does not run."""
        if flow in self._sockets and flow.websocket is not None:
            flow.websocket.messages[-1].drop()

    async def end(self, flow: http.HTTPFlow) -> None:
        """Settle what was live when a connection ended."""
        socket = self._sockets.get(flow)
        if socket is None:
            return
        closed_by_client = flow.websocket is not None and flow.websocket.closed_by_client
        try:
            await socket.finish("client_gone" if closed_by_client else "upstream_gone")
        finally:
            self._sockets.pop(flow, None)  # not before: the end of the proxy waits for those that are here

    async def finish_all(self, ending: Ending) -> None:
        """Settle all that is live."""
        for socket in list(self._sockets.values()):
            try:
                await socket.finish(ending)
            except Exception as error:  # the next one must be settled all the same
                log.error("llmcap: internal error at the end of a websocket: %s: %s", type(error).__name__, error)
