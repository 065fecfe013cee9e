"""Responses over a websocket through a real proxy, with OpenAI's own SDK."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
import websockets
from openai.resources.responses.responses import ResponsesConnection

from llmcap_addon.budget.ledger import Row
from tests.e2e.conftest import StartProxy
from tests.e2e.harness import AUDIT, WAIT_SECONDS, Proxy, poll
from tests.fakes.prices import PRICES
from tests.fakes.script import Hold, Script
from tests.fakes.sdks import KEY
from tests.fakes.server import StandIn
from tests.fakes.websocket import SocketScript

ENDS = ("response.completed", "response.incomplete", "response.failed", "error", "response.steer.failed")
PROMPT = "Say something about distinctive-PROMPT-8472, please."

type Connect = Callable[..., ResponsesConnection]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Open connections as a user of the SDK does, through the proxy; each is closed."""
    opened = contextlib.ExitStack()

    def make(proxy: Proxy, **options: Any) -> ResponsesConnection:
        client = openai.OpenAI(api_key=KEY)
        context = ssl.create_default_context(cafile=str(proxy.ca_path))
        way: Any = {"proxy": f"http://127.0.0.1:{proxy.port}", "ssl": context, **options}
        return opened.enter_context(client.responses.connect(websocket_connection_options=way))

    with opened:
        yield make


def ask(connection: ResponsesConnection, **fields: Any) -> None:
    """Send one `response.create`."""
    event: Any = {"type": "response.create", "model": "gpt-4o", "input": PROMPT, "max_output_tokens": 200, **fields}
    connection.send(event)


def receive(connection: ResponsesConnection) -> Any:
    """Receive one event as the SDK does, but never for ever."""
    return connection.parse_event(connection._connection.recv(timeout=WAIT_SECONDS, decode=False))


def until_end(connection: ResponsesConnection) -> tuple[Any, str]:
    """Receive until something ends; gives that and the text before it."""
    text = ""
    while True:
        event = receive(connection)
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type in ENDS:
            return event, text


def bills(rows: list[Row]) -> list[int]:
    return sorted(row.cost for row in rows)


@pytest.mark.parametrize("flavor", ["mitmdump", "lean"])
def test_a_conversation_costs_what_the_provider_bills(
    start_proxy: StartProxy, stand_in: StandIn, connect: Connect, flavor: str
) -> None:
    """Turns, a prewarm, lanes at once, reasoning and caches: a row each, equal to the nano-dollar; frames unchanged."""
    proxy = start_proxy(AUDIT, flavor=flavor)
    stand_in.enqueue(
        Script(output_tokens=30),
        Script(output_tokens=7, input_tokens=2_000, cached_tokens=1_500),
        Script(output_tokens=5, reasoning_tokens=40),
        *[Script(output_tokens=20 + number) for number in range(4)],
    )
    connection = connect(proxy)
    ask(connection, generate=False)
    warm, text = until_end(connection)
    assert (warm.type, text, warm.response.output) == ("response.completed", "", [])
    ask(connection, previous_response_id=warm.response.id, input="Go on.")
    second, _ = until_end(connection)
    ask(connection, model="o4-mini", previous_response_id=second.response.id)
    until_end(connection)
    for number in range(4):
        ask(connection, stream_id=f"lane-{number}", input=PROMPT * (1 + number))
    ends = [until_end(connection)[0] for _ in range(4)]
    assert {end.stream_id for end in ends} == {f"lane-{number}" for number in range(4)}
    rows = proxy.settled(7)
    assert bills(rows) == sorted(record.cost_nanousd for record in stand_in.billable())
    assert not any(row.marks & {"estimated", "overrun", "assumed"} for row in rows)
    assert all(record.complete for record in stand_in.billable())
    with proxy.store_path.open("rb") as ledger:
        assert b"distinctive-PROMPT" not in ledger.read()


def test_a_refused_request_is_told_so_and_the_connection_goes_on(
    start_proxy: StartProxy, stand_in: StandIn, connect: Connect
) -> None:
    """One error event of status 400 with the lane's id and our message; what fits is still answered."""
    proxy = start_proxy('{wait: 0s, caps: [{name: mini, limit: 0, per: ever, match: {model: "gpt-4o-mini"}}]}')
    connection = connect(proxy)
    ask(connection, model="gpt-4o-mini", stream_id="poor")
    refused, _ = until_end(connection)
    assert (refused.type, refused.status, refused.stream_id) == ("error", 400, "poor")
    assert refused.error.message.startswith('LLMCap: refused, cap "mini"')
    assert refused.error.code == "llmcap_cap_spent"
    ask(connection)
    assert until_end(connection)[0].type == "response.completed"
    surprise: Any = {"type": "session.surprise"}
    connection.send(surprise)
    assert "session.surprise" in until_end(connection)[0].error.message
    rows = proxy.settled(3)
    assert sorted(row.state for row in rows) == ["posted", "refused", "refused"]
    assert [record.model for record in stand_in.billable()] == ["gpt-4o"]
    assert sum(bills(rows)) == stand_in.billed_nanousd()


def test_a_response_that_runs_out_is_cut_and_the_provider_stops(
    start_proxy: StartProxy, stand_in: StandIn, connect: Connect
) -> None:
    """The client gets `response.failed` with our message and a close; what was generated is within what was posted."""
    proxy = start_proxy("{wait: 0s, caps: [{name: tiny, limit: 0.02, per: ever}]}")
    stand_in.default = Script(output_tokens=20_000, tokens_per_second=500)
    connection = connect(proxy)
    ask(connection, max_output_tokens=20_000)
    end, text = until_end(connection)
    assert end.type == "response.failed"
    assert end.response.error.message.startswith("LLMCap: stream cut")
    assert text.startswith(" token token")
    with pytest.raises(websockets.exceptions.ConnectionClosedError) as closed:
        receive(connection)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008
    assert closed.value.rcvd.reason.startswith("LLMCap: stream cut")
    stand_in.wait_for(lambda: stand_in.billable()[0].gone_ns, "the provider to see the end")
    [row] = proxy.settled(1)
    assert row.state == "posted"
    assert {"cut", "estimated"} <= row.marks
    assert stand_in.billed_nanousd() <= row.cost <= 20_000_000
    assert proxy.totals("tiny").pending == 0
    again = connect(proxy)
    ask(again)
    assert until_end(again)[0].status == 400


def test_a_short_cap_shortens_the_answer(start_proxy: StartProxy, stand_in: StandIn, connect: Connect) -> None:
    """A reasoning model without a limit goes out with the largest that fits, written into the frame."""
    proxy = start_proxy("{wait: 0s, caps: [{name: small, limit: 0.02, per: ever}]}")
    connection = connect(proxy)
    connection.send({"type": "response.create", "model": "o4-mini", "input": PROMPT})
    assert until_end(connection)[0].type == "response.completed"
    [sent] = stand_in.billable()
    limit = json.loads(sent.body)["max_output_tokens"]
    assert 1_024 <= limit <= 20_000_000 // (PRICES["o4-mini"].output // 1_000)
    [row] = proxy.settled(1)
    assert row.cost == stand_in.billed_nanousd()
    assert "shortened" in row.marks


def test_a_request_waits_for_what_others_only_hold(
    start_proxy: StartProxy, stand_in: StandIn, connect: Connect
) -> None:
    """It goes out when the one before has ended, and nothing else on the connection waits with it."""
    hold = Hold()
    proxy = start_proxy("{wait: 20s, shorten: never, caps: [{name: one, limit: 0.05, per: ever}]}")
    stand_in.enqueue(Script(output_tokens=20, hold_stream=hold, hold_after_tokens=10))
    connection = connect(proxy)
    ask(connection, model="o4-mini", max_output_tokens=4_000, stream_id="first")
    assert receive(connection).type == "response.created"
    assert hold.reached.wait(20)
    ask(connection, model="o4-mini", max_output_tokens=4_000, stream_id="second")
    poll(lambda: "waiting" in proxy.log or len(stand_in.billable()) == 1, "the second to wait")
    hold.release()
    assert [until_end(connection)[0].stream_id for _ in range(2)] == ["first", "second"]
    rows = proxy.settled(2)
    assert sum(bills(rows)) == stand_in.billed_nanousd()


def test_steering_is_admitted_like_a_request(start_proxy: StartProxy, stand_in: StandIn, connect: Connect) -> None:
    """What the server begins for it has a row of its own; steering that does not fit is refused, in its own shape."""
    proxy = start_proxy(AUDIT)
    hold = Hold()
    stand_in.enqueue(Script(output_tokens=50, hold_stream=hold, hold_after_tokens=10), Script(output_tokens=9))
    connection = connect(proxy)
    ask(connection)
    created = receive(connection)
    hold.reached.wait(20)
    steer: Any = {"type": "response.steer", "previous_response_id": created.response.id, "input": "Shorter!"}
    connection.send(steer)
    while receive(connection).type != "response.steer.accepted":
        pass
    hold.release()
    assert until_end(connection)[0].response.incomplete_details.reason == "steered"
    assert until_end(connection)[0].type == "response.completed"
    connection.send(steer)
    assert until_end(connection)[0].error.code == "response_not_active"
    rows = proxy.settled(2)
    assert bills(rows) == sorted(record.cost_nanousd for record in stand_in.billable())


def test_a_response_that_nobody_asked_for_ends_the_connection(
    start_proxy: StartProxy, stand_in: StandIn, connect: Connect
) -> None:
    """It is cut when it begins, and posted all the same."""
    proxy = start_proxy(AUDIT)
    stand_in.enqueue(SocketScript(output_tokens=8, unasked=True), Script(output_tokens=5_000, tokens_per_second=500))
    connection = connect(proxy)
    ask(connection)
    assert until_end(connection)[0].type == "response.completed"
    assert until_end(connection)[0].type == "response.failed"
    with pytest.raises(websockets.exceptions.ConnectionClosed):
        receive(connection)
    rows = proxy.settled(2)
    assert sum(bills(rows)) >= stand_in.billed_nanousd()
    assert {"cut", "unreserved"} <= rows[1].marks | rows[0].marks


@pytest.mark.parametrize("who", ["client", "provider", "proxy"])
def test_whoever_leaves_what_was_generated_is_posted(
    start_proxy: StartProxy, stand_in: StandIn, connect: Connect, who: str
) -> None:
    """A row each, never below the bill, and nothing stays reserved."""
    proxy = start_proxy("caps: [{name: daily, limit: 5, per: day}]", sound=who != "proxy")
    hold = Hold()
    script = SocketScript(output_tokens=500, tokens_per_second=2_000)
    if who == "provider":
        script.drops, script.ending_after_tokens = True, 100
    else:
        script.hold_stream, script.hold_after_tokens = hold, 100
    stand_in.enqueue(script)
    connection = connect(proxy)
    ask(connection, max_output_tokens=500)
    for _ in range(20):
        receive(connection)
    if who == "client":
        hold.reached.wait(20)
        connection._connection.socket.close()
    elif who == "proxy":
        hold.reached.wait(20)
        proxy.stop()
    else:
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            until_end(connection)
    [row] = proxy.settled(1)
    assert "estimated" in row.marks
    assert row.cost >= stand_in.billed_nanousd()
    assert proxy.totals("daily").pending == 0


def test_what_the_server_rejects_costs_nothing(start_proxy: StartProxy, stand_in: StandIn, connect: Connect) -> None:
    """Its error passes, its reservation is released, and the next request is answered."""
    proxy = start_proxy("{wait: 0s, caps: [{name: daily, limit: 5, per: day}]}")
    stand_in.enqueue(SocketScript(rejects=True))
    connection = connect(proxy, compression=None)
    ask(connection)
    assert until_end(connection)[0].error.message == "The stand-in was told to fail."
    ask(connection, input=PROMPT * 2_000)
    assert until_end(connection)[0].type == "response.completed"
    rows = proxy.settled(2)
    assert sorted(row.state for row in rows) == ["posted", "voided"]
    assert sum(bills(rows)) == stand_in.billed_nanousd()
