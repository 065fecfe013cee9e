"""How calls end: each is settled once, whoever goes away first, and whatever fails at it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mitmproxy import connection, flow
from mitmproxy.proxy.layers.http._events import ErrorCode, RequestProtocolError, ResponseProtocolError
from mitmproxy.test import tflow

from llmcap_addon.activity import CallLine
from llmcap_addon.budget.ledger import Row
from llmcap_addon.proxy import hooks as hooks_module
from tests.proxy.addon import Proxy
from tests.proxy.chat import REQUEST, price, tokens
from tests.proxy.stream import STREAM_ID, Driver, streamed


async def test_a_server_that_cannot_be_reached_costs_nothing(proxy: Proxy) -> None:
    """What never left is void."""
    driver = proxy.driver()
    driver.reachable = False
    await driver.request(REQUEST)
    assert "error" in driver.hooks
    [row] = await proxy.rows()
    assert (row.state, row.cost) == ("voided", 0)


async def broken_off(proxy: Proxy, event: Any) -> tuple[Driver, Row]:
    driver = proxy.driver()
    await driver.request(REQUEST)
    await driver.respond(streamed(), tokens(3), ends=False)
    await driver.feed(event)
    [row] = await proxy.rows()
    return driver, row


async def test_a_client_that_goes_away_is_told_from_a_provider_that_does(proxy: Proxy) -> None:
    """Both post what was counted, and the row says who went."""
    driver, row = await broken_off(
        proxy, RequestProtocolError(STREAM_ID, "Client disconnected.", ErrorCode.CLIENT_DISCONNECTED)
    )
    assert (row.state, row.note) == ("posted", "Client disconnected.")
    assert price(0, 3) < row.cost < price(2_000, 1_000)
    assert "estimated" in row.marks
    assert "estimated" in driver.flow.comment
    assert await proxy.pending() == 0


async def test_a_provider_that_goes_away_leaves_an_estimate(proxy: Proxy) -> None:
    """The client sees the break, the ledger an estimate from above."""
    driver, row = await broken_off(
        proxy, ResponseProtocolError(STREAM_ID, "server disconnected", ErrorCode.GENERIC_SERVER_ERROR)
    )
    assert isinstance(driver.to_client()[-1], ResponseProtocolError)
    assert row.note == "server disconnected"
    assert row.marks >= {"estimated"}
    assert await proxy.pending() == 0


@pytest.mark.parametrize("ended", [False, True])
async def test_a_call_whose_end_nobody_tells_is_settled(proxy: Proxy, ended: bool) -> None:
    """When something of mitmproxy's own has failed, a call ends with its client's connection at the latest."""
    driver = proxy.driver()
    await driver.request(REQUEST)
    await driver.respond(streamed(), tokens(3), ends=False)
    assert driver.flow.response is not None
    driver.flow.response.timestamp_end = 1.0 if ended else None
    await proxy.hooks.client_disconnected(driver.flow.client_conn)
    [row] = await proxy.rows()
    assert row.state == "posted"
    assert price(0, 3) < row.cost < price(2_000, 1_000)
    assert await proxy.pending() == 0


async def test_a_call_that_waits_for_a_connection_is_void_with_its_client(proxy: Proxy) -> None:
    """What has not left when its client goes costs nothing, and does not leave when the connection comes after all."""
    driver = proxy.driver()
    driver.on_connect = lambda: proxy.hooks.client_disconnected(driver.client)
    await driver.request(REQUEST)
    [row] = await proxy.rows()
    assert (row.state, row.cost) == ("voided", 0)
    assert driver.to_server() == []
    assert isinstance(driver.to_client()[-1], ResponseProtocolError)


async def test_a_call_that_waits_for_a_connection_is_void_while_another_is_read_on(proxy: Proxy) -> None:
    """A client leaves two calls behind: one is billed to its end and read on, the other must not leave meanwhile."""
    reading = proxy.driver("generativelanguage.googleapis.com")
    await reading.request(
        b'{"contents": [{"parts": [{"text": "Hi"}]}], "generationConfig": {"maxOutputTokens": 100}}',
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
    )
    waiting = proxy.driver()
    left: list[asyncio.Task[None]] = []

    async def leave() -> None:
        reading.flow.client_conn = waiting.client
        left.append(asyncio.create_task(proxy.hooks.client_disconnected(waiting.client)))
        for _ in range(1_000):
            if await proxy.pending() == reading_holds:
                return

    reading_holds = await proxy.pending()
    waiting.on_connect = leave
    await waiting.request(REQUEST)
    assert waiting.to_server() == []
    assert await proxy.pending() == reading_holds > 0
    assert not left[0].done()
    await reading.feed(ResponseProtocolError(STREAM_ID, "server disconnected", ErrorCode.GENERIC_SERVER_ERROR))
    await left[0]
    assert await proxy.pending() == 0


class Sent:
    """As much of an exchange as decides who went away."""

    def __init__(self, *, sent: bool) -> None:
        self.sent = sent


@pytest.mark.parametrize(
    ("sent", "connected", "error", "ending"),
    [
        (False, True, "connection refused", "never_sent"),
        (False, False, "Client disconnected.", "never_sent"),
        (True, False, "whatever", "client_gone"),
        (True, True, "Client disconnected.", "client_gone"),
        (True, True, "server disconnected", "upstream_gone"),
        (True, True, None, "upstream_gone"),
    ],
)
def test_who_went_away(sent: bool, connected: bool, error: str | None, ending: str) -> None:
    """What had not left yet is never billed; else the client's going is told from the provider's."""
    flow_ = tflow.tflow()
    flow_.client_conn.timestamp_end = None
    flow_.client_conn.state = connection.ConnectionState.OPEN if connected else connection.ConnectionState.CLOSED
    flow_.error = flow.Error(error) if error is not None else None
    assert hooks_module._ending(flow_, Sent(sent=sent)) == ending  # type: ignore[arg-type]


async def test_what_is_still_live_at_the_end_is_settled(waiting: Proxy) -> None:
    """A call that the proxy's end interrupts is posted from what was counted, and so is the next one."""
    await waiting.hooks.running()
    for _ in range(2):
        driver = waiting.driver()
        await driver.request(REQUEST)
        await driver.respond(streamed(), tokens(3), ends=False)
    await waiting.hooks.done()
    summary = waiting.hooks.summary
    assert summary.counts.calls == summary.counts.estimated == 2
    [balance] = summary.balances
    assert balance.pending == 0
    assert balance.posted == summary.spent > price(0, 6)


async def test_a_failure_in_one_settlement_does_not_reach_the_others(
    waiting: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    """At the end every call is settled, and the ledger closed, whatever fails on the way."""
    await waiting.hooks.running()
    assert waiting.hooks.service is not None

    def fails_once(line: CallLine) -> None:
        if line.ended() and not failed:
            failed.append(line)
            raise RuntimeError("oops")

    failed: list[CallLine] = []
    for _ in range(2):
        driver = waiting.driver()
        await driver.request(REQUEST)
        await driver.respond(streamed(), tokens(3), ends=False)
    for live in waiting.hooks.service.gate.live.values():
        live._on_change = fails_once
    await waiting.hooks.done()
    assert "oops" in caplog.text
    [balance] = waiting.hooks.summary.balances
    assert balance.pending == 0
    assert balance.posted > price(0, 6)
