"""The addon's hooks, on mitmproxy's real stream without a socket, over a real service."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from mitmproxy import connection, http, tls
from mitmproxy.options import Options
from mitmproxy.proxy import layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode
from mitmproxy.proxy.layers.http._events import ResponseData
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import tflow

from llmcap_addon.budget.stores import state_file
from llmcap_addon.errors import ConfigError
from llmcap_addon.proxy import hooks as hooks_module
from llmcap_addon.proxy.cutting import CuttableHttpLayer
from llmcap_addon.unclaimed import file_beside, read_unclaimed
from llmcap_addon.wire.dialects import DIALECTS
from tests.proxy.addon import CAPS, Proxy
from tests.proxy.chat import DONE, REQUEST, price, tokens, usage
from tests.proxy.stream import STREAM_ID, Driver, streamed

UNSTREAMED = json.dumps({**json.loads(REQUEST), "stream": False}).encode()


def answer(inputs: int = 1_234, outputs: int = 567) -> bytes:
    counts = {"prompt_tokens": inputs, "completion_tokens": outputs, "total_tokens": inputs + outputs}
    message = {"role": "assistant", "content": "hi"}
    return json.dumps(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o",
            "service_tier": "default",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": counts,
        }
    ).encode()


def message_of(driver: Driver) -> str:
    """Give what a refused client reads."""
    [head] = [driver.head()]
    assert 400 <= head.status_code < 500
    assert head.headers["x-should-retry"] == "false"
    return driver.shown().decode()


# ── a call ──


async def test_a_call_ends_with_its_cost_as_the_flows_comment(proxy: Proxy) -> None:
    """Mitmproxy and mitmweb show the comment beside the flow."""
    driver = proxy.driver()
    await driver.request(UNSTREAMED)
    assert await proxy.pending() > 0
    await driver.respond(http.Response.make(200, b"", {"content-type": "application/json"}), answer())
    assert driver.shown() == answer()
    assert driver.flow.comment == "$0.0088 gpt-4o 1,234→567"
    [row] = await proxy.rows()
    assert row.cost == price(1_234, 567)
    assert await proxy.pending() == 0


async def test_a_stream_is_metered_and_never_stored(proxy: Proxy) -> None:
    """The usage that we ask for is taken out again, and no body is kept."""
    driver = proxy.driver()
    await driver.request(REQUEST)
    assert b"include_usage" in (driver.flow.request.raw_content or b"")
    await driver.respond(streamed(), tokens(3), usage(10, 3) + DONE)
    assert driver.shown() == tokens(3) + DONE
    assert not driver.flow.response or not driver.flow.response.raw_content
    assert driver.flow.comment.endswith(" gpt-4o 10→3")
    assert (await proxy.rows())[0].cost == price(10, 3)


async def test_a_refused_call_reaches_nobody(proxy: Proxy) -> None:
    """Over its cap a call is answered by us, in the provider's shape, and nothing is reserved."""
    proxy.caps.write_text("caps: [{name: daily, limit: 0, per: day}]\n")
    assert proxy.hooks.service is not None
    await proxy.hooks.service.look_at_config()
    driver = proxy.driver()
    await driver.request(REQUEST)
    assert driver.to_server() == []
    message = json.loads(message_of(driver))["error"]["message"]
    assert message.startswith("LLMCap:")
    assert "daily" in message
    assert [row.state for row in await proxy.rows()] == ["refused"]


async def test_what_was_refused_stays_refused_when_its_shaping_fails(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`on_error: allow` lets through what we fail on, but never what a cap has refused."""
    proxy.caps.write_text("on_error: allow\ncaps: [{name: daily, limit: 0, per: day}]\n")
    assert proxy.hooks.service is not None
    await proxy.hooks.service.look_at_config()

    def fail(*_: object) -> None:
        raise RuntimeError("sabotage")

    monkeypatch.setattr(type(DIALECTS["openai.chat"]), "refusal", fail)
    driver = proxy.driver()
    await driver.request(REQUEST)
    assert driver.to_server() == []
    assert "daily" in message_of(driver)


async def test_a_flow_that_is_answered_already_is_left_alone(proxy: Proxy) -> None:
    """Another addon's answer, or a dead flow, costs nothing and is not judged."""
    for flow_ in (tflow.tflow(resp=True), tflow.tflow(err=True)):
        flow_.request = http.Request.make("POST", "https://api.openai.com/v1/chat/completions", REQUEST)
        before = flow_.response
        await proxy.hooks.request(flow_)
        assert flow_.response is before
    assert await proxy.rows() == ()


@pytest.mark.parametrize("host", ["plain.example.com", "openai.com.example.net", "127.0.0.1"])
async def test_other_hosts_are_untouched(proxy: Proxy, host: str) -> None:
    """Not a byte, not a header, not a comment, whatever the Host header claims."""
    driver = proxy.driver(host)
    await driver.request(b"x" * 100, headers={"host": "api.openai.com"})
    assert driver.flow.response is None
    await driver.respond(http.Response.make(200, b""), b"answer")
    assert driver.shown() == b"answer"
    assert driver.flow.comment == ""
    assert await proxy.rows() == ()


async def test_a_free_endpoint_passes(proxy: Proxy) -> None:
    """A list of models costs nothing and leaves no row."""
    driver = proxy.driver()
    await driver.request(b"", "/v1/models", "GET")
    await driver.respond(http.Response.make(200, b""), b"{}")
    assert driver.shown() == b"{}"
    assert await proxy.rows() == ()


async def test_an_unmetered_endpoint_is_refused_unless_allowed(proxy: Proxy) -> None:
    """What may cost money and can't be counted is not forwarded by default."""
    driver = proxy.driver()
    await driver.request(b"{}", "/v1/videos")
    assert driver.to_server() == []
    assert "unmetered: allow" in message_of(driver)
    assert [row.note for row in await proxy.rows()] == ["unmetered"]
    proxy.caps.write_text(CAPS + "unmetered: allow\n")
    assert proxy.hooks.service is not None
    await proxy.hooks.service.look_at_config()
    driver = proxy.driver()
    await driver.request(b"{}", "/v1/videos")
    assert driver.to_server()
    service = proxy.hooks.service
    [one] = service.unclaimed.seen()
    assert (one.method, one.host, one.path, one.count, one.forwarded) == ("POST", "api.openai.com", "/v1/videos", 2, 1)
    await service.write_unclaimed()
    [kept] = read_unclaimed(file_beside(state_file(service.settings.store or service.config.store)))
    assert (kept.path, kept.count) == ("/v1/videos", 2)


@pytest.mark.parametrize(
    ("body", "headers"),
    [(b"{", {}), (b"\xff\xfe", {}), (b"", {}), (REQUEST, {"content-encoding": "gzip"}), (b"[" * 100_000, {})],
    ids=["JSON", "UTF-8", "empty", "encoding", "deep"],
)
async def test_what_cannot_be_read_is_refused(proxy: Proxy, body: bytes, headers: dict[str, str]) -> None:
    """Its cost is unknown, so it does not leave; the ledger says what happened."""
    driver = proxy.driver()
    await driver.request(body, headers=headers)
    assert driver.to_server() == []
    assert driver.head().status_code == 400
    assert "LLMCap:" in message_of(driver)
    assert [row.note for row in await proxy.rows()] == ["unreadable"]


async def test_a_large_request_is_judged_whole(proxy: Proxy) -> None:
    """`stream_large_bodies` is for other hosts: no byte of a call leaves before its verdict."""
    proxy.options.stream_large_bodies = "50"
    proxy.caps.write_text("caps: [{name: daily, limit: 0, per: day}]\n")
    assert proxy.hooks.service is not None
    await proxy.hooks.service.look_at_config()
    driver = proxy.driver()
    await driver.request(REQUEST, headers={"content-length": str(len(REQUEST))})
    assert driver.to_server() == []
    assert "daily" in message_of(driver)


async def test_a_flow_that_could_not_be_cut_does_not_leave(proxy: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    """A call on a stream that is not ours is refused, and what was reserved for it released."""
    flow_ = tflow.tflow()
    flow_.request = http.Request.make("POST", "https://api.openai.com/v1/chat/completions", REQUEST)
    await proxy.hooks.request(flow_)
    assert flow_.response is not None
    assert "LLMCap:" in (flow_.response.text or "")
    assert await proxy.pending() == 0
    assert [row.state for row in await proxy.rows()] == ["voided"]
    assert "could not be cut" in caplog.text


async def test_a_cancelled_request_dies(proxy: Proxy) -> None:
    """When the hook itself is taken back, its flow does not go on."""
    proxy.caps.write_text(CAPS.replace("limit: 5", "limit: 0.02").replace("0s", "60s"))
    assert proxy.hooks.service is not None
    await proxy.hooks.service.look_at_config()
    first = proxy.driver()
    await first.request(UNSTREAMED)
    second = proxy.driver()
    waits = asyncio.Event()
    proxy.hooks.service.activity.subscribe(lambda line: waits.set() if line.state == "waiting" else None)
    waiting = asyncio.create_task(second.request(UNSTREAMED))
    await asyncio.wait_for(waits.wait(), 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert second.flow.error is not None
    assert second.to_server() == []


# ── before and while it starts ──


async def test_a_request_before_the_start_waits_for_it(waiting: Proxy) -> None:
    """A host that only caps.yaml knows must not slip through in the proxy's first second."""
    driver = waiting.driver("llm.example.net")
    early = asyncio.create_task(driver.request(UNSTREAMED))
    await asyncio.sleep(0)
    assert driver.to_server() == []
    await waiting.hooks.running()
    await early
    assert driver.to_server()
    assert await waiting.pending() > 0


@pytest.mark.parametrize("host", ["api.openai.com", "llm.example.net", "plain.example.com"])
async def test_a_request_is_refused_when_the_start_does_not_come(
    waiting: Proxy, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    """Nothing leaves a proxy that does not know its caps."""
    monkeypatch.setattr(hooks_module, "START_WAIT_S", 0.01)
    driver = waiting.driver(host)
    await driver.request(REQUEST)
    assert driver.to_server() == []
    assert "still starting" in message_of(driver)


async def test_a_start_that_fails_says_why_and_stops_the_proxy(
    waiting: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """In one message, and without a traceback; what came meanwhile is refused at once."""
    waiting.caps.write_text("caps: [{name: daily, limit: lots, per: day}]\n")
    driver = waiting.driver()
    early = asyncio.create_task(driver.request(REQUEST))
    await waiting.hooks.running()
    await early
    assert driver.to_server() == []
    assert isinstance(waiting.hooks.failure, ConfigError)
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is None
    assert "caps[0].limit" in record.getMessage()
    await asyncio.sleep(0)
    assert waiting.context.master.should_exit.is_set()


async def test_it_starts_once(proxy: Proxy) -> None:
    """A second `running`, as a reload of the script causes, changes nothing."""
    service = proxy.hooks.service
    await proxy.hooks.running()
    assert proxy.hooks.service is service


# ── whose traffic ──


def hello(opts: Options, sni: str | None, address: str | None, mode: str = "regular") -> tls.ClientHelloData:
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0)
    client.proxy_mode = ProxyMode.parse(mode)
    context = Context(client, opts)
    context.server.address = (address, 443) if address else None

    class Hello:
        pass

    message = Hello()
    message.sni = sni  # type: ignore[attr-defined]
    return tls.ClientHelloData(context, message)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sni", "address", "ignored"),
    [
        ("api.openai.com", "api.openai.com", False),
        ("API.OpenAI.com", "10.0.0.1", False),
        (None, "api.openai.com", False),
        ("plain.example.com", "api.openai.com", False),
        ("llm.example.net", "llm.example.net", False),
        ("plain.example.com", "plain.example.com", True),
        (None, "10.0.0.1", True),
        (None, None, True),
        ("notapi.openai.com.example.net", None, True),
    ],
)
async def test_only_llm_hosts_are_decrypted(proxy: Proxy, sni: str | None, address: str | None, ignored: bool) -> None:
    """By the name that is asked for or the destination; all other certificates reach the client untouched."""
    data = hello(proxy.options, sni, address)
    await proxy.hooks.tls_clienthello(data)
    assert data.ignore_connection is ignored


async def test_a_reverse_proxy_ignores_nothing(proxy: Proxy) -> None:
    """Its clients speak to us by our own name."""
    data = hello(proxy.options, "localhost", "10.0.0.1", "reverse:https://llm.example.net")
    await proxy.hooks.tls_clienthello(data)
    assert data.ignore_connection is False


async def test_a_connection_before_the_start_waits_for_it(waiting: Proxy) -> None:
    """Let through, it would stay undecrypted for as long as it lives."""
    data = hello(waiting.options, "llm.example.net", "llm.example.net")
    early = asyncio.create_task(waiting.hooks.tls_clienthello(data))
    await asyncio.sleep(0)
    assert not early.done()
    await waiting.hooks.running()
    await early
    assert data.ignore_connection is False


async def test_a_flow_to_an_address_is_known_by_its_tls_name(proxy: Proxy) -> None:
    """With an IP in CONNECT, the name in TLS decides; the Host header never does."""
    driver = proxy.driver("10.0.0.1")
    driver.client.sni = "API.OpenAI.com."
    await driver.request(UNSTREAMED)
    assert await proxy.pending() > 0
    [row] = await proxy.rows()
    assert row.entry.host == "api.openai.com"


async def test_every_http_layer_becomes_ours(proxy: Proxy) -> None:
    """Also one that another addon has chosen."""
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0)
    nextlayer = layer.NextLayer(Context(client, proxy.options))
    nextlayer.layer = HttpLayer(nextlayer.context, HTTPMode.regular)
    await proxy.hooks.next_layer(nextlayer)
    assert type(nextlayer.layer) is CuttableHttpLayer


async def test_a_failure_in_a_response_ends_it(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that can't be read (bytes that are no charset's) cuts the stream before its first byte."""
    driver = proxy.driver()
    await driver.request(REQUEST)
    head = streamed()
    head.headers["content-encoding"] = "rot13"
    await driver.respond(head, b"secret", ends=False)
    await driver.feed(ResponseData(STREAM_ID, b"more"))
    assert b"secret" not in driver.shown()
    assert b"LLMCap:" in driver.shown()
    assert "cut" in driver.flow.comment
    assert await proxy.pending() == 0
