"""Routes: where a request goes, and whether it costs money.

A path on such a host that is not known to be free is never let through uncounted: it is metered or "unmetered", and
what happens to those is the user's choice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

from llmcap_addon.wire import bedrock_paths
from llmcap_addon.wire.dialect import Request
from llmcap_addon.wire.endpoints import (
    CHAT,
    COHERE_CHAT,
    CONVERSE,
    EMBEDDINGS,
    GENERATE,
    MESSAGES,
    OVER_WEBSOCKET,
    RESPONSES,
    metered,
    watched,
)
from llmcap_addon.wire.free import is_free
from llmcap_addon.wire.hosts import Place, normal_host, place_of

type RouteKind = Literal["metered", "socket", "watched", "free", "unmetered", "foreign"]
"""A socket is metered too, frame by frame. What is watched costs nothing, but its answer tells what became of a job."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes."""

    kind: RouteKind
    dialect_name: str = ""
    """The dialect to meter or to refuse with (a job dialect for what is watched); empty only for a foreign host."""
    provider: str = ""
    host: str = ""
    """Lower case, no port."""
    model: str = ""
    """What the URL says, where the body does not name the model."""
    models: Mapping[str, str] = field(default_factory=dict)
    """From `hosts:`: deployment, in lower case → the model behind it."""
    zone: str = ""
    """From `hosts:`: where the deployments are."""
    upgrade: bool = False
    """True for a websocket, which a client may give up for HTTP."""


def classify(request: Request, hosts: Mapping[str, Place]) -> Route:
    """Say what a request is; never raises.

    Reading and deleting are free at every provider, though some of it is watched. A websocket is not: a whole
    conversation may run over it.
    """
    host = normal_host(request.host)
    place = place_of(host, hosts)
    if place is None:
        return Route("foreign", host=host)
    path = _normal_path(bedrock_paths.decoded(request.path) if place.api == "bedrock" else request.path)
    dialect_name = _refusing_dialect(place, path or "")
    if place.api == "chatgpt" and not _is_codex(path, request.path):
        return Route("free", dialect_name, place.provider, host)  # a person's conversations, websockets too
    if _is_upgrade(request):
        # Over h2 it would be a CONNECT, which mitmproxy does not turn into a websocket.
        is_get = request.method.upper() == "GET" and place.metered and path is not None
        found = metered(place, path or "", OVER_WEBSOCKET) if is_get else None
        if found:
            return Route("socket", found[0], place.provider, host, found[1], place.models, place.zone, upgrade=True)
        return Route("unmetered", dialect_name, place.provider, host, upgrade=True)
    method = request.method.upper()
    overridden = "x-http-method-override" in request.headers  # Google's hosts obey it
    jobs = watched(place, method, path) if path is not None and place.metered and not overridden else ""
    if jobs:
        return Route("watched", jobs, place.provider, host, "", place.models, place.zone)
    if method in ("GET", "HEAD", "OPTIONS", "DELETE") and not overridden:
        return Route("free", dialect_name, place.provider, host)
    kind: RouteKind = "unmetered"
    model = ""
    if path is not None and not request.headers.get("content-type", "").lower().startswith("application/grpc"):
        found = metered(place, path) if place.metered and method == "POST" else None
        if found:
            kind, (dialect_name, model) = "metered", found
        elif is_free(place, host, path):
            kind = "free"
    return Route(kind, dialect_name, place.provider, host, model, place.models, place.zone)


def _is_codex(path: str | None, raw: str) -> bool:
    return "codex" in raw.lower() if path is None else "/codex/responses" in path.lower()


def _is_upgrade(request: Request) -> bool:
    # Over h2 a websocket begins with CONNECT (RFC 8441), which has no other use inside a connection to an API.
    return "websocket" in request.headers.get("upgrade", "").lower() or request.method.upper() == "CONNECT"


_ODD = re.compile(r"[%\\\x00-\x1f\x7f]|(?:^|/)\.{1,2}(?:/|$)")


def _normal_path(path: str) -> str | None:
    """Decode a path once and join its slashes; None for one that a server might read as another path."""
    decoded = unquote(path, errors="replace")
    if _ODD.search(decoded):
        return None
    joined = re.sub("/+", "/", decoded)
    return joined.rstrip("/") if len(joined) > 1 else joined


_OTHERS_SHAPES = re.compile(r"/openai/|/anthropic/|/(?:chat/completions|responses|messages)(?:/|$)")


def _refusing_dialect(place: Place, path: str) -> str:
    """Name the dialect whose error shape the client of this path understands."""
    if place.api == "bedrock" and ("/model/" in path or not _OTHERS_SHAPES.search(path)):
        return CONVERSE
    if place.api == "anthropic" or "/anthropic/" in path or path.endswith("/messages"):
        return MESSAGES
    if place.api == "google" and "/openai/" not in path and "/openapi/" not in path:
        return GENERATE
    if place.api == "cohere":
        return COHERE_CHAT
    if place.api == "code-assist":
        return GENERATE
    if "/responses" in path:
        return RESPONSES
    return EMBEDDINGS if path.endswith("/embeddings") else CHAT
