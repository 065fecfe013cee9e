"""Between mitmproxy's values and ours: addresses, odd headers, framing."""

from __future__ import annotations

import gzip
from dataclasses import replace

import pytest
from mitmproxy import http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.options import Options
from mitmproxy.test import taddons, tflow

from llmcap_addon.errors import ConfigError, UnreadableRequest
from llmcap_addon.gate import messages
from llmcap_addon.proxy import translate
from llmcap_addon.wire import routes
from llmcap_addon.wire.dialect import Response
from llmcap_addon.wire.openai_chat import CHAT
from tests.gate.house import GPT_4O, STREAM, MakeHouse
from tests.proxy.chat import REQUEST, Driven

EVERYWHERE = {"0.0.0.0", "::"}


async def listen(mode: list[str], host: str = "") -> tuple[set[str], set[str], bool]:
    """Listen as mitmproxy does, then as we want it; the addresses before and after, and whether a port has changed."""
    proxyserver = Proxyserver()
    with taddons.context(proxyserver) as context:
        context.options.update(mode=mode, listen_host=host, listen_port=0)
        await proxyserver.setup_servers()
        try:
            before = proxyserver.listen_addrs()
            await translate.keep_to_loopback(context.options, proxyserver)
            after = proxyserver.listen_addrs()
        finally:
            await proxyserver.servers.update([])
    kept = {address[1] for address in after} == {before[0][1]}
    return {address[0] for address in before}, {address[0] for address in after}, kept


@pytest.mark.parametrize("mode", ["regular", "reverse:http://llm.example.net", "upstream:http://127.0.0.1:9", "socks5"])
async def test_it_listens_on_loopback_unless_told_otherwise(mode: str) -> None:
    """Mitmproxy's own default is every interface; whoever reaches the port would spend from the caps."""
    before, after, kept = await listen([mode])
    assert before & EVERYWHERE
    assert after == {"127.0.0.1"}
    assert kept


@pytest.mark.parametrize(
    ("mode", "host"),
    [
        (["regular"], "0.0.0.0"),
        (["regular@0.0.0.0:0"], ""),
        (["reverse:http://llm.example.net@0.0.0.0:0"], ""),
        (["regular", "socks5@127.0.0.1:0"], ""),
    ],
)
async def test_an_address_the_user_named_is_left_alone(mode: list[str], host: str) -> None:
    """Named by `listen_host`, or by the mode itself; several modes at once are the user's own affair."""
    before, after, _ = await listen(mode, host)
    assert before == after
    assert "0.0.0.0" in after


async def test_nothing_is_done_where_nothing_listens() -> None:
    """A port in use is told by mitmproxy itself."""
    proxyserver = Proxyserver()
    with taddons.context(proxyserver) as context:
        await translate.keep_to_loopback(context.options, proxyserver)
        assert context.options.listen_host == ""
        assert translate.listening(proxyserver) == ""


def request(headers: dict[bytes, bytes], path: str = "/v1/chat/completions?a=1&a=2&b=%ff") -> http.Request:
    made = http.Request.make("post", f"http://api.openai.com{path}")
    made.headers = http.Headers(tuple(headers.items()))
    return made


def test_headers_of_odd_bytes_are_read() -> None:
    """No byte that a client may put into a header, a query or a path stops a request from being judged."""
    odd = bytes(range(1, 256)).replace(b"\n", b"").replace(b"\r", b"")
    head = translate.request_head(
        request({b"X-Odd": odd, b"User-Agent": b"\xff\xfe", b"\xffname": b"v"}), "api.openai.com"
    )
    assert head.method == "POST"
    assert head.path == "/v1/chat/completions"
    assert head.query["a"] == "1"
    assert head.headers["x-odd"].encode("utf-8", "surrogateescape") == odd
    assert routes.classify(head, {}).dialect_name == "openai.chat"


def test_a_header_that_comes_twice_is_read_whole() -> None:
    """Two encodings in two headers are two encodings."""
    made = request({})
    made.headers = http.Headers([(b"Content-Encoding", b"gzip"), (b"content-encoding", b"br")])
    assert translate.request_head(made, "api.openai.com").headers["content-encoding"] == "gzip, br"


@pytest.mark.parametrize("encoding", ["gzip", "rot13", "\udcff", "br, br, br, br"])
def test_a_body_that_is_not_what_it_says_is_unreadable(encoding: str) -> None:
    """The message can be shown, whatever stood in the header."""
    head = translate.request_head(request({}), "api.openai.com")
    route = routes.classify(head, {})
    with pytest.raises(UnreadableRequest) as raised:
        translate.read(CHAT, head, REQUEST, encoding, route, "test")
    str(raised.value).encode("utf-8")


def test_an_encoded_body_is_read_decoded() -> None:
    """What the client has compressed is judged by what it says."""
    head = translate.request_head(request({}), "api.openai.com")
    understood, call = translate.read(CHAT, head, gzip.compress(REQUEST), "gzip", routes.classify(head, {}), "test")
    assert understood.body == REQUEST
    assert (call.model, call.streamed, call.client) == ("gpt-4o", True, "test")


def test_a_refusal_keeps_its_headers_and_body() -> None:
    """Our response becomes mitmproxy's, byte for byte."""
    headers = (("content-type", "application/json"), ("x-odd", "é"), ("content-length", "2"))
    response = translate.to_response(Response(429, headers, b"{}"))
    assert response.status_code == 429
    assert response.headers.fields == tuple((name.encode(), value.encode("latin-1")) for name, value in headers)
    assert response.raw_content == b"{}"


@pytest.mark.parametrize("text", ["plain", "é ✓ 🦊", "lone \udcff surrogate", "line\nend"])
def test_the_last_resort_takes_any_text(text: str) -> None:
    """The refusal of last resort can't fail, or its request would be forwarded."""
    response = translate.last_resort(messages.failure("internal", text))
    assert response.status_code == 429
    assert response.headers["x-should-retry"] == "false"
    assert response.raw_content is not None
    assert response.raw_content.startswith(b"LLMCap: ")


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2.0", "HTTP/1.0"])
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_body_that_may_end_early_states_no_length(make_house: MakeHouse, version: str, streamed: bool) -> None:
    """A stream is chunked in HTTP/1.1, framed by HTTP/2 itself, and ends with the connection in HTTP/1.0; an
    unstreamed answer stays as it is."""
    house = make_house("1")
    driven = Driven(house, await house.admitted(STREAM if streamed else GPT_4O))
    flow = tflow.tflow(resp=True)
    assert flow.response is not None
    flow.request.http_version = version
    flow.response.headers = http.Headers(content_type="text/event-stream", content_encoding="gzip", content_length="9")
    translate.stream_through(flow, driven.exchange)
    assert flow.response.stream is driven.exchange
    assert ("content-length" in flow.response.headers) is not streamed
    assert ("content-encoding" in flow.response.headers) is not streamed
    assert (flow.response.headers.get("transfer-encoding") == "chunked") is (streamed and version == "HTTP/1.1")


def test_settings_come_from_the_options() -> None:
    """Empty options mean the usual places, and only mitmdump leaves the terminal to our console."""
    opts = Options()
    for name, value in (("llmcap_config", ""), ("llmcap_store", "sqlite"), ("llmcap_view", "auto")):
        opts.add_option(name, str, value, "")
    settings = translate.settings_from_options(opts, "DumpMaster")
    assert (settings.config, settings.store, settings.view) == (None, "sqlite", "auto")
    assert translate.settings_from_options(opts, "WebMaster").view == "off"
    opts.llmcap_view = "sometimes"
    with pytest.raises(ConfigError, match="sometimes"):
        translate.settings_from_options(opts, "DumpMaster")


def test_a_websocket_is_sent_back_to_http() -> None:
    """Codex falls back at once on this status."""
    head = translate.request_head(
        request({b"Upgrade": b"websocket", b"Connection": b"Upgrade"}, "/v1/responses"), "api.openai.com"
    )
    route = routes.classify(replace(head, method="GET"), {})
    assert route.upgrade
    response = translate.upgrade_required(route)
    assert response.status_code == 426
    assert "LLMCap:" in (response.text or "")
