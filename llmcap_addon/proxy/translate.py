"""Between mitmproxy's values and ours: options, requests, responses."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from mitmproxy import http, options
from mitmproxy.addonmanager import Loader
from mitmproxy.addons.proxyserver import Proxyserver

from llmcap_addon.call import Call
from llmcap_addon.errors import ConfigError, UnreadableRequest
from llmcap_addon.proxy.exchange import Exchange
from llmcap_addon.proxy.service import Settings
from llmcap_addon.usage import Reading
from llmcap_addon.wire.dialect import Dialect, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.encodings import UndecodableBody, decode_body
from llmcap_addon.wire.providers import with_habits
from llmcap_addon.wire.routes import Route

MAX_REQUEST_BYTES = 256 << 20
"""Decoded. Providers take 32–100 MB at most; a body that unpacks to more than this is a bomb."""

NOTHING_READ = Reading()
"""What is known of a call that was never sent."""

VIEWS = ("auto", "off")

_TAKES_CLIENTS = re.compile(r"(?:regular|socks5|(?:upstream|reverse):[^@]+)(?:@\d+)?")
"""Modes whose clients name the proxy, with no address of their own ("regular@0.0.0.0:8080" has one)."""


def add_options(loader: Loader) -> None:
    """Declare `llmcap_config`, `llmcap_store` and `llmcap_view`."""
    loader.add_option(
        "llmcap_config",
        str,
        "",
        "Path of caps.yaml; empty: ./caps.yaml, then the user's config folder, then $5 per day.",
    )
    loader.add_option(
        "llmcap_store", str, "", "Where the ledger lives: sqlite, sqlite:///absolute/path or redis://HOST."
    )
    loader.add_option(
        "llmcap_view", str, "auto", "auto: a live console in a terminal, else a line a call; or off.", choices=VIEWS
    )


async def keep_to_loopback(opts: options.Options, proxyserver: Proxyserver) -> None:
    """Listen on loopback unless the user named another address: whoever reaches the proxy spends from the caps.

    mitmproxy's own default is every interface, and it listens before addons are loaded; until this is done, calls to
    LLM hosts are refused. Modes that take redirected traffic are left alone, and all that stand beside them.
    """
    addresses = proxyserver.listen_addrs()
    if opts.listen_host or not addresses or not all(map(_TAKES_CLIENTS.fullmatch, opts.mode)):
        return
    await proxyserver.servers.update([])
    opts.update(listen_host="127.0.0.1")
    if len(opts.mode) == 1 and "@" not in opts.mode[0]:
        opts.update(listen_port=addresses[0][1])  # with port 0, the one that was free a moment ago
    await proxyserver.setup_servers()


def quieten(opts: options.Options, notice: Callable[[str], None]) -> None:
    """Keep keys out of mitmdump's own lines, and tell of options that lead LLM hosts around the meter."""
    if "flow_detail" in opts and opts.flow_detail == opts.default("flow_detail"):
        opts.update(flow_detail=0)  # its line for a flow holds the URL, and Google's API keys stand in URLs
    if opts.ignore_hosts or opts.allow_hosts:
        notice("ignore_hosts or allow_hosts is set: hosts that mitmproxy does not decrypt for it are not capped")


def settings_from_options(opts: options.Options, master: str) -> Settings:
    """Read our options; the console is for mitmdump alone, mitmproxy and mitmweb have their own."""
    if opts.llmcap_view not in VIEWS:
        raise ConfigError(f"llmcap_view: found {opts.llmcap_view!r}; allowed: {', '.join(VIEWS)}")
    return Settings(
        config=opts.llmcap_config or None,
        store=opts.llmcap_store or None,
        view=opts.llmcap_view if master == "DumpMaster" else "off",
    )


def listening(proxyserver: Proxyserver) -> str:
    """Where the proxy listens, as the console shows it ("127.0.0.1:8080")."""
    addresses = [(host, port) for host, port, *_ in proxyserver.listen_addrs()]
    return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses)


def request_head(request: http.Request, host: str) -> Request:
    """A request as dialects read it, still without its body; `host` is the one we decided on."""
    path, mark, _ = request.path.partition("?")
    return Request(
        method=request.method.upper(),
        host=host,
        path=path,
        query=dict(request.query) if mark else {},
        headers=lowered(request.headers),
    )


def lowered(headers: http.Headers) -> dict[str, str]:
    """Headers by name in lower case, those that repeat joined by commas.

    The same as mitmproxy's own view of them, which goes through all for each name.
    """
    told: dict[str, str] = {}
    for raw_name, raw_value in headers.fields:
        name = raw_name.decode("utf-8", "surrogateescape").lower()
        value = raw_value.decode("utf-8", "surrogateescape")
        told[name] = f"{told[name]}, {value}" if name in told else value
    return told


def read(
    dialect: Dialect, request: Request, raw: bytes, encoding: str, route: Route, client: str
) -> tuple[Request, Call]:
    """Decode and understand a request; raises UnreadableRequest."""
    request = decoded(request, raw, encoding, route)
    call = dialect.parse(request, Target(route.provider, route.model, route.models, route.zone), client)
    return request, with_habits(call, request)


def decoded(request: Request, raw: bytes, encoding: str, route: Route) -> Request:
    """Give a request with its body, any content-encoding taken off; raises UnreadableRequest."""
    try:
        body = decode_body(raw, encoding, MAX_REQUEST_BYTES) if encoding else raw
    except UndecodableBody as error:
        raise UnreadableRequest(f"its body is not {encoding!r} as it says: {error}") from error
    return replace(request, host=route.host, body=body)


def to_response(response: Response) -> http.Response:
    """Our refusal as mitmproxy's response."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]
    return http.Response.make(response.status, response.body, http.Headers(headers))


def last_resort(refusal: Refusal) -> http.Response:
    """A refusal when not even the dialect can be relied on: plain text that every client shows."""
    return http.Response.make(
        429, refusal.message, {"content-type": "text/plain; charset=utf-8", "x-should-retry": "false"}
    )


def upgrade_required(route: Route) -> http.Response:
    """Tell a websocket client to fall back to HTTP, where calls are metered; Codex does so at once."""
    message = f"LLMCap: websockets to {route.host} are not metered yet; use HTTP."
    return http.Response.make(426, message, {"content-type": "text/plain; charset=utf-8", "x-should-retry": "false"})


def stream_through(flow: http.HTTPFlow, exchange: Exchange) -> None:
    """Let a response's body run through an exchange, and frame it so that it can end early."""
    assert flow.response is not None
    headers = flow.response.headers
    told = lowered(headers)
    decodes = exchange.begin(ResponseHead(flow.response.status_code, told.get("content-type", ""), told))
    if decodes:
        headers.pop("content-encoding", None)
    if not exchange.aborts:
        # A cut, or a chunk taken out, makes a stated length wrong.
        headers.pop("content-length", None)
        if flow.request.http_version == "HTTP/1.1" and flow.response.status_code != 204:
            headers["transfer-encoding"] = "chunked"
    flow.response.stream = exchange
