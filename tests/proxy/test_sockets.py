"""Metered websockets on mitmproxy's real layers without a socket, over a real service."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy.layers.http._events import RequestData, ResponseData, ResponseProtocolError
from mitmproxy.proxy.layers.websocket import WebsocketLayer
from mitmproxy.test import taddons
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Message, TextMessage
from wsproto.extensions import Extension, PerMessageDeflate

from llmcap_addon.proxy import cutting, cutting_sockets
from llmcap_addon.proxy import sockets as sockets_module
from llmcap_addon.proxy.cutting_sockets import CuttableWebsocketLayer
from tests.proxy.addon import Proxy
from tests.proxy.stream import STREAM_ID

HANDSHAKE = {
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}
TURNS = 400
"""Turns of the loop (and of the ledger's thread) that a test gives what runs beside it."""


class Talk:
    """A client and a server on either side of the proxy."""

    def __init__(self, proxy: Proxy, *, compressed: bool = False) -> None:
        self.proxy = proxy
        self.driver = proxy.driver()
        extensions: list[Extension] = [PerMessageDeflate() for _ in range(2)] if compressed else []
        for extension in extensions:
            extension.finalize("permessage-deflate")
        self.client = Connection(ConnectionType.CLIENT, extensions[:1])
        self.server = Connection(ConnectionType.SERVER, extensions[1:])
        self.compressed = compressed
        self._seen = {"client": 0, "server": 0}
        self.to_client: list[Any] = []
        self.to_server: list[Any] = []
        self.closed: CloseConnection | None = None
        self.server_closed: CloseConnection | None = None

    async def open(self, path: str = "/v1/responses", **changed: str) -> None:
        await self.driver.request(b"", path, "GET", HANDSHAKE)
        headers = {"upgrade": "websocket", "connection": "Upgrade"} | changed
        if self.compressed:
            headers["sec-websocket-extensions"] = "permessage-deflate"
        await self.driver.respond(http.Response.make(101, b"", headers))

    @property
    def layer(self) -> WebsocketLayer:
        child = cutting.child_of(self.driver.flow)
        assert isinstance(child, WebsocketLayer)
        return child

    async def say(self, event: dict[str, Any] | bytes) -> None:
        """Send a frame as the client, and give what it starts its time."""
        message = BytesMessage(event) if isinstance(event, bytes) else TextMessage(json.dumps(event))
        await self.driver.feed(RequestData(STREAM_ID, self.client.send(message)))
        await self.settle()

    async def answer(self, *events: dict[str, Any] | bytes) -> None:
        """Send frames as the server, all in one piece."""
        sent = b""
        for event in events:
            data = event.decode() if isinstance(event, bytes) else json.dumps(event)
            sent += self.server.send(TextMessage(data))
        await self.driver.feed(ResponseData(STREAM_ID, sent))
        self._collect()

    async def settle(self) -> None:
        """Let tasks and the ledger's thread run, nudging as they would."""
        for _ in range(TURNS):
            await asyncio.sleep(0.0005)
            socket = self.proxy.hooks._sockets._sockets.get(self.driver.flow)
            if socket is None or (socket._idle.is_set() and not socket._settling):
                break
        await self.driver.feed(cutting.Nudge(self.driver.flow, None))
        self._collect()

    def _collect(self) -> None:
        sent = self.driver.to_client()
        data = [one.data for one in sent[self._seen["client"] :] if isinstance(one, ResponseData)]
        self._seen["client"] = len(sent)
        self.closed = _read(self.client, data, self.to_client) or self.closed
        sent = self.driver.to_server()
        data = [one.data for one in sent[self._seen["server"] :] if isinstance(one, RequestData)]
        self._seen["server"] = len(sent)
        self.server_closed = _read(self.server, data, self.to_server) or self.server_closed


def _read(side: Connection, data: list[bytes], into: list[Any]) -> CloseConnection | None:
    closed = None
    for piece in data:
        side.receive_data(piece)
        for event in side.events():
            if isinstance(event, Message):
                into.append(json.loads(event.data))
            elif isinstance(event, CloseConnection):
                closed = event
    return closed


def create(**fields: Any) -> dict[str, Any]:
    return {"type": "response.create", "model": "gpt-4o", "input": "hello", "max_output_tokens": 1_000, **fields}


def created(name: str = "resp_1", **fields: Any) -> dict[str, Any]:
    return {
        "type": "response.created",
        "response": {"id": name, "model": "gpt-4o", "service_tier": "default"},
        **fields,
    }


def delta(text: str = " token", **fields: Any) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": 0, "delta": text, **fields}


def completed(name: str = "resp_1", inputs: int = 10, outputs: int = 3, **fields: Any) -> dict[str, Any]:
    usage = {"input_tokens": inputs, "output_tokens": outputs, "total_tokens": inputs + outputs}
    response = {"id": name, "model": "gpt-4o", "service_tier": "default", "output": [], "usage": usage}
    return {"type": "response.completed", "response": response, **fields}


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_response_is_metered_and_nothing_of_it_is_kept(proxy: Proxy, compressed: bool) -> None:
    """Frames arrive unchanged on either side, the row is exact, and no message stays in the flow."""
    talk = Talk(proxy, compressed=compressed)
    await talk.open()
    assert isinstance(talk.layer, CuttableWebsocketLayer)
    await talk.say(create())
    assert talk.to_server == [create()]
    assert await proxy.pending() > 0
    await talk.answer(created(), delta(), completed())
    assert talk.to_client == [created(), delta(), completed()]
    await talk.settle()
    [row] = await proxy.rows()
    assert (row.state, row.cost, row.entry.dialect) == ("posted", 10 * 2_500 + 3 * 10_000, "openai.responses.socket")
    assert await proxy.pending() == 0
    assert talk.driver.flow.websocket is not None
    assert talk.driver.flow.websocket.messages == []
    assert talk.driver.flow.comment == "$0.000055 gpt-4o 10→3"
    assert "websocket_message" not in talk.driver.hooks


async def test_a_refused_request_goes_nowhere(proxy: Proxy) -> None:
    """The client is told on the same connection, and what comes behind it goes on."""
    talk = Talk(proxy)
    await talk.open()
    await talk.say(create(model="gpt-5.5", previous_response_id="resp_that_nobody_saw"))
    await talk.say(b"binary")
    assert talk.to_server == []
    assert [event["type"] for event in talk.to_client] == ["error", "error"]
    assert talk.to_client[0]["error"]["code"] == "llmcap_cap_spent"
    assert talk.closed is not None
    assert talk.closed.code == 1003
    assert [row.state for row in await proxy.rows()] == ["refused", "refused"]


async def test_frames_keep_their_order_behind_a_request_that_waits(proxy: Proxy) -> None:
    """While one is being admitted, those behind it wait, and the server's go on."""
    talk = Talk(proxy)
    await talk.open()
    for lane in "abc":
        await talk.driver.feed(
            RequestData(STREAM_ID, talk.client.send(TextMessage(json.dumps(create(stream_id=lane)))))
        )
    await talk.settle()
    assert [event["stream_id"] for event in talk.to_server] == ["a", "b", "c"]


@pytest.mark.parametrize("side", ["client", "server"])
async def test_an_exception_of_ours_ends_the_connection(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    """It fails closed: nothing more passes, and what was live is posted at its bound."""
    talk = Talk(proxy)
    await talk.open()
    await talk.say(create())
    await talk.answer(created())

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    socket = proxy.hooks._sockets._sockets[talk.driver.flow]
    monkeypatch.setattr(socket._talk, "read" if side == "client" else "from_server", broken)
    if side == "client":
        await talk.say(create())
        assert len(talk.to_server) == 1
    else:
        await talk.answer(delta("secret"))
        assert delta("secret") not in talk.to_client
    assert talk.closed is not None
    assert talk.closed.code == 1011
    assert talk.server_closed is not None
    assert talk.to_client[-1]["type"] == "response.failed"
    await talk.settle()
    [row] = await proxy.rows()
    assert {"cut", "estimated"} <= row.marks
    assert row.cost >= 1_000 * 10_000
    assert await proxy.pending() == 0


async def test_what_outruns_its_reservation_is_held_until_it_is_extended(proxy: Proxy) -> None:
    """In order, and the end of the response with it."""
    talk = Talk(proxy)
    await talk.open()
    await talk.say(create(max_output_tokens=4_000))
    frames = [delta(" token" * 700) for _ in range(4)]
    await talk.answer(created(), *frames)
    assert len(talk.to_client) < 5
    for _ in range(TURNS):
        await asyncio.sleep(0.0005)
        await talk.settle()
        if len(talk.to_client) == 5:
            break
    await talk.answer(completed(outputs=2_800))
    assert talk.to_client == [created(), *frames, completed(outputs=2_800)]
    await talk.settle()
    [row] = await proxy.rows()
    assert row.cost == 10 * 2_500 + 2_800 * 10_000


async def test_what_was_held_when_the_provider_leaves_still_arrives(proxy: Proxy) -> None:
    """It is billed, so its client shall have it, before the close."""
    talk = Talk(proxy)
    await talk.open()
    await talk.say(create(max_output_tokens=4_000))
    frames = [delta(" token" * 700) for _ in range(4)]
    sent = b"".join(talk.server.send(TextMessage(json.dumps(event))) for event in (created(), *frames))
    await talk.driver.feed(ResponseData(STREAM_ID, sent + talk.server.send(CloseConnection(1000))))
    await talk.settle()
    assert talk.to_client == [created(), *frames]
    assert talk.closed is not None
    [row] = await proxy.rows()
    assert "estimated" in row.marks
    assert row.cost >= 2_800 * 10_000


async def test_a_message_that_is_too_large_ends_the_connection(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it is whole: it would be kept in memory."""
    monkeypatch.setattr(cutting_sockets, "MAX_FRAME_BYTES", 1_000)
    talk = Talk(proxy)
    await talk.open()
    part = TextMessage("x" * 2_000, message_finished=False)
    await talk.driver.feed(RequestData(STREAM_ID, talk.client.send(part)))
    await talk.settle()
    assert talk.closed is not None
    assert talk.closed.code == 1009
    assert talk.to_server == []


async def test_too_many_requests_at_once_end_the_connection(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded."""
    monkeypatch.setattr(sockets_module, "MAX_QUEUED", 3)
    talk = Talk(proxy)
    await talk.open()
    sent = b"".join(talk.client.send(TextMessage(json.dumps(create()))) for _ in range(9))
    await talk.driver.feed(RequestData(STREAM_ID, sent))
    await talk.settle()
    assert talk.closed is not None
    assert talk.closed.code == 1008
    assert await proxy.pending() == 0
    assert {row.state for row in await proxy.rows()} <= {"voided"}


async def test_a_change_to_anything_but_a_websocket_is_not_let_through(proxy: Proxy) -> None:
    """Mitmproxy would pass it on as raw bytes, unread."""
    talk = Talk(proxy)
    await talk.open(upgrade="something-else")
    assert isinstance(talk.driver.to_client()[-1], ResponseProtocolError)
    assert cutting.child_of(talk.driver.flow) is None


async def test_without_mitmproxys_websockets_a_client_is_told_to_use_http(proxy: Proxy) -> None:
    """Its option `websocket` turned off, a websocket is raw bytes to it."""
    proxy.options.update(websocket=False)
    talk = Talk(proxy)
    await talk.driver.request(b"", "/v1/responses", "GET", HANDSHAKE)
    assert talk.driver.head().status_code == 426


async def test_what_the_layer_can_not_be_is_not_relayed(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """When our layer can't take mitmproxy's place, no message passes."""
    monkeypatch.setattr(cutting_sockets, "take_over", lambda *_: False)
    talk = Talk(proxy)
    await talk.open()
    await talk.driver.feed(RequestData(STREAM_ID, talk.client.send(TextMessage(json.dumps(create())))))
    await talk.answer(created())
    assert (talk.to_server, talk.to_client) == ([], [])
    assert await proxy.rows() == ()


async def test_at_shutdown_what_is_live_is_settled(proxy: Proxy) -> None:
    """From what was counted; a request that has not left costs nothing."""
    talk = Talk(proxy)
    await talk.open()
    await talk.say(create())
    await talk.answer(created(), delta())
    await proxy.hooks._sockets.finish_all("shutdown")
    [row] = await proxy.rows()
    assert (row.state, row.note) == ("posted", "the proxy stopped before the provider reported usage")
    assert await proxy.pending() == 0


async def test_the_installed_mitmproxy_passes_the_self_test() -> None:
    """Its websocket layer can be made ours, sends what we say, and is ended by us."""
    with taddons.context(Proxyserver()) as context:
        assert cutting_sockets.self_test(context.options) == ""
