"""Refusing: what a client is answered when its request does not go out."""

from __future__ import annotations

import logging

from mitmproxy import http

from llmcap_addon.call import Call
from llmcap_addon.gate import messages
from llmcap_addon.proxy import translate
from llmcap_addon.proxy.service import Service
from llmcap_addon.wire import clients
from llmcap_addon.wire.dialect import Dialect, Refusal, Request
from llmcap_addon.wire.routes import Route

log = logging.getLogger("llmcap")


def refuse(
    service: Service, dialect: Dialect, request: Request, refusal: Refusal, client: str, call: Call | None = None
) -> http.Response:
    """Shape a refusal. What was refused stays refused, also when shaping fails and `on_error: allow` is set."""
    try:
        status = clients.refusal_status(dialect.name, client, refusal.kind, service.config.refuse_with)
        return translate.to_response(dialect.refusal(call, request, refusal, status))
    except Exception as error:
        log.error("llmcap: a refusal could not be shaped: %s: %s", type(error).__name__, error)
        return translate.last_resort(refusal)


async def refuse_unread(
    service: Service, route: Route, dialect: Dialect, request: Request, why: str, client: str
) -> http.Response:
    """Refuse a request that can't be understood, in a row of its own."""
    refusal = messages.failure("unreadable", f"refused, the request can't be understood: {why}")
    await service.gate.note_refusal(route.dialect_name, route.host, route.provider, client, refusal)
    return refuse(service, dialect, request, refusal, client)


async def refuse_unmetered(
    service: Service, route: Route, dialect: Dialect, request: Request, client: str
) -> http.Response | None:
    """Refuse what may cost money and is not metered, or let it through where the user says so (`unmetered: allow`)."""
    if service.config.unmetered == "allow":
        one = service.unclaimed.note(route.host, request.method, request.path, forwarded=True)
        if one.count == 1:
            log.warning("llmcap: not metered, forwarded: %s %s%s", one.method, one.host, one.path)
        return None
    service.unclaimed.note(route.host, request.method, request.path, forwarded=False)
    refusal = messages.failure(
        "unmetered",
        f"refused, {request.method} {route.host}{request.path} may cost money and is not metered yet. "
        "To let such calls through uncounted, set `unmetered: allow` in caps.yaml.",
    )
    await service.gate.note_refusal(route.dialect_name, route.host, route.provider, client, refusal)
    return refuse(service, dialect, request, refusal, client)
