"""What a review found: ways past the proxy, and what it kept in memory."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest
from mitmproxy import connection, options
from mitmproxy.proxy import events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import TCPLayer

from llmcap_addon.proxy.cutting import CuttableHttpLayer
from llmcap_addon.proxy.hooks import Hooks
from tests.e2e import census, replay
from tests.e2e.calls import CHAT, CHAT_STREAM
from tests.e2e.conftest import StartProxy
from tests.e2e.harness import WAIT_SECONDS
from tests.fakes.server import OPENAI_HOST, StandIn

BODY = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20}'
REQUEST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nContent-Type: application/json\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


async def chosen(host: str, data: bytes) -> tuple[layer.Layer | None, Context]:
    """Give what becomes of a connection that mitmproxy takes for raw TCP after these bytes."""
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0)
    context = Context(client, options.Options())
    context.server.address = (host, 443)
    asked = layer.NextLayer(context)
    asked.events.append(events.DataReceived(client, data))
    asked.layer = TCPLayer(context)
    hooks = Hooks()
    hooks._tried.set()  # as after a start
    await hooks.next_layer(asked)
    return asked.layer, context


@pytest.mark.parametrize("data", [b"\x16", b"\x16\x03", b"P", b"PO"])
async def test_a_first_piece_too_small_to_tell_waits_for_more(data: bytes) -> None:
    """A TLS hello or a request whose first byte comes alone must not pass unread as raw TCP."""
    found, context = await chosen(OPENAI_HOST, data)
    assert found is None
    assert not any(isinstance(one, TCPLayer) for one in context.layers)


async def test_what_goes_to_an_llm_is_read_as_http() -> None:
    """A blank line before a request, which servers skip, does not make it raw TCP; another host's bytes are left."""
    found, _ = await chosen(OPENAI_HOST, b"\r\nPOST /v1/chat/completions HTTP/1.1\r\n")
    assert isinstance(found, CuttableHttpLayer)
    found, _ = await chosen("mail.example", b"\r\nPOST /v1/chat/completions HTTP/1.1\r\n")
    assert isinstance(found, TCPLayer)
    found, _ = await chosen(OPENAI_HOST, b"SSH-2.0-OpenSSH_9.7\r\n")
    assert isinstance(found, TCPLayer)


def test_no_request_gets_through_behind_a_blank_line(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """With a cap of 0, a request that begins with an empty line is not forwarded."""
    proxy = start_proxy("{caps: [{name: nothing, limit: 0, per: ever}]}")
    context = ssl.create_default_context(cafile=str(proxy.ca_path))
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=WAIT_SECONDS) as plain:
        plain.sendall(f"CONNECT {OPENAI_HOST}:443 HTTP/1.1\r\n\r\n".encode())
        assert b" 200 " in plain.recv(4096)
        with context.wrap_socket(plain, server_hostname=OPENAI_HOST) as encrypted:
            encrypted.sendall(b"\r\n" + REQUEST)
            assert encrypted.recv(4096).startswith(b"HTTP/1.1 429 ")
    assert stand_in.billable() == []


def test_calls_that_have_ended_are_let_go(start_proxy: StartProxy) -> None:
    """Nothing of a settled call stays in memory: not its prompt, not what its answer was read with."""
    proxy = start_proxy("caps: []", scripts=[Path(census.__file__)])
    sdks = proxy.sdks()
    for kind in (CHAT, CHAT_STREAM, CHAT, CHAT_STREAM, CHAT):
        kind(sdks)
    proxy.settled(5)
    with proxy.client() as client:
        kept = int(client.get(f"https://{OPENAI_HOST}{census.PATH}").text)
    assert kept <= 1, "the last one's connection may still be there"


def test_a_replayed_call_is_not_forwarded(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """A replay runs on a stream of mitmproxy's own, on which nothing could be cut or told from never sent."""
    proxy = start_proxy("{caps: [{name: purse, limit: 10, per: ever}]}", scripts=[Path(replay.__file__)], sound=False)
    sdks = proxy.sdks()
    CHAT(sdks)
    [first] = proxy.settled(1)
    sdks.http.get(f"https://{OPENAI_HOST}{replay.PATH}")
    [second] = proxy.settled(1, [first])
    assert (first.state, second.state, second.cost) == ("posted", "voided", 0)
    assert len(stand_in.billable()) == 1
    proxy.wait_log(lambda log: "replayed" in log, "the reason")
