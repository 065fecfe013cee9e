"""OpenAI's Realtime through a real proxy, with OpenAI's own SDK."""

from __future__ import annotations

import base64
import contextlib
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
import websockets
from openai.resources.realtime.realtime import RealtimeConnection

from llmcap_addon.budget.ledger import Row
from tests.e2e.conftest import StartProxy
from tests.e2e.harness import AUDIT, WAIT_SECONDS, Proxy
from tests.fakes import realtime
from tests.fakes.openai_more import AZURE_HOST
from tests.fakes.script import Script
from tests.fakes.sdks import KEY
from tests.fakes.server import OPENAI_HOST, StandIn
from tests.fakes.websocket import SocketScript

SPEECH = base64.b64encode(b"\x01" * realtime.BYTES_PER_MS * 200).decode()
SILENCE = base64.b64encode(bytes(realtime.BYTES_PER_MS * 100)).decode()
TEXT: Any = {"type": "realtime", "output_modalities": ["text"], "audio": {"input": {"turn_detection": None}}}

type Connect = Callable[..., RealtimeConnection]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Open connections as a user of the SDK does, through the proxy; each is closed."""
    opened = contextlib.ExitStack()

    def make(proxy: Proxy, client: openai.OpenAI | None = None, model: str = "gpt-realtime") -> RealtimeConnection:
        client = client or openai.OpenAI(api_key=KEY)
        context = ssl.create_default_context(cafile=str(proxy.ca_path))
        way: Any = {"proxy": f"http://127.0.0.1:{proxy.port}", "ssl": context}
        connection = opened.enter_context(client.realtime.connect(model=model, websocket_connection_options=way))
        assert receive(connection).type == "session.created"
        return connection

    with opened:
        yield make


def receive(connection: RealtimeConnection) -> Any:
    """Receive one event as the SDK does, but never for ever."""
    return connection.parse_event(connection._connection.recv(timeout=WAIT_SECONDS, decode=False))


def until(connection: RealtimeConnection, *kinds: str) -> Any:
    """Receive until an event of these kinds."""
    while True:
        event = receive(connection)
        if event.type in kinds:
            return event


def speak(connection: RealtimeConnection) -> None:
    """Say something, and then nothing."""
    for piece in (SPEECH, SPEECH, SILENCE):
        connection.input_audio_buffer.append(audio=piece)


def bills(rows: list[Row] | tuple[Row, ...]) -> list[int]:
    return sorted(row.cost for row in rows if row.state == "posted")


def test_a_conversation_costs_what_the_provider_bills(
    start_proxy: StartProxy, stand_in: StandIn, connect: Connect
) -> None:
    """Turns that only the server hears, transcripts, a cancelled one, text out of band: equal to the nano-dollar."""
    proxy = start_proxy("caps: [{name: daily, limit: 9, per: day}]")
    stand_in.enqueue(
        Script(output_tokens=20), Script(output_tokens=9, input_tokens=300, cached_tokens=200), Script(output_tokens=4)
    )
    connection = connect(proxy)
    connection.session.update(
        session={"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    )
    until(connection, "session.updated")
    speak(connection)
    assert until(connection, "response.done").response.usage.output_tokens == 20
    speak(connection)
    assert until(connection, "response.done").response.usage.input_tokens == 300
    connection.session.update(session=TEXT)
    until(connection, "session.updated")
    apart: Any = {"conversation": "none", "output_modalities": ["text"], "input": [], "metadata": {"topic": "mood"}}
    connection.response.create(response=apart)
    assert until(connection, "response.done").response.metadata == {"topic": "mood"}
    stand_in.enqueue(Script(output_tokens=2_000, tokens_per_second=50))
    connection.response.create()
    until(connection, "response.output_text.delta")
    connection.response.create(event_id="too-early")
    assert until(connection, "error").error.event_id == "too-early"
    connection.response.cancel()
    assert until(connection, "response.done").response.status == "cancelled"
    connection.close()
    rows = proxy.settled(9)
    assert bills(rows) == sorted(record.cost_nanousd for record in stand_in.billable())
    assert not any(row.marks & {"estimated", "overrun", "assumed", "unreserved"} for row in rows if row.cost)
    assert {row.note for row in rows if row.state == "voided"} == {
        "the session was changed, so that nothing begins by itself",
        "the server refused to begin it",
        "",
    }
    assert proxy.totals("daily").pending == 0
    assert proxy.totals("daily").posted == stand_in.billed_nanousd()


def test_what_a_cap_does_not_allow_is_refused_in_the_conversation(
    start_proxy: StartProxy, stand_in: StandIn, connect: Connect
) -> None:
    """A request is told so by its own id and the connection goes on; sound that may lead to a response ends it."""
    proxy = start_proxy("{wait: 0s, caps: [{name: small, limit: 0.05, per: ever}]}")
    connection = connect(proxy)
    connection.session.update(session=TEXT)
    until(connection, "session.updated")
    connection.response.create(event_id="mine", response={"max_output_tokens": 4_000})
    refused = until(connection, "error").error
    assert (refused.event_id, refused.code) == ("mine", "llmcap_cap_spent")
    assert refused.message.startswith('LLMCap: refused, cap "small"')
    connection.response.create(response={"max_output_tokens": 50})
    assert until(connection, "response.done").response.status == "completed"
    voice = connect(proxy)
    speak(voice)
    assert until(voice, "error").error.code == "llmcap_cap_spent"
    with pytest.raises(websockets.exceptions.ConnectionClosedError) as closed:
        until(voice, "response.created")
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason[:15]) == (1008, "LLMCap: refused")
    rows = proxy.settled(3)
    assert sorted(row.state for row in rows) == ["posted", "refused", "refused"]
    assert bills(rows) == [stand_in.billed_nanousd()]
    assert len(stand_in.billable()) == 1
    assert proxy.totals("small").pending == 0


def test_a_response_that_nobody_asked_for_ends_the_connection(
    start_proxy: StartProxy, stand_in: StandIn, connect: Connect
) -> None:
    """Where no turns are detected nothing stands set aside: it is cut when it begins, and posted all the same."""
    proxy = start_proxy(AUDIT)
    stand_in.enqueue(SocketScript(output_tokens=4, unasked=True), Script(output_tokens=5_000, tokens_per_second=100))
    connection = connect(proxy)
    connection.session.update(session=TEXT)
    connection.response.create()
    until(connection, "response.done")
    assert until(connection, "error").error.message.startswith("LLMCap: stream cut")
    with pytest.raises(websockets.exceptions.ConnectionClosed):
        receive(connection)
    rows = proxy.settled(2)
    assert sum(bills(rows)) >= stand_in.billed_nanousd()
    assert {"cut", "unreserved"} <= rows[1].marks | rows[0].marks


@pytest.mark.parametrize("who", ["client", "silent provider"])
def test_what_is_not_told_is_posted_from_above(
    start_proxy: StartProxy, stand_in: StandIn, connect: Connect, who: str
) -> None:
    """A response whose usage is missing, or whose client leaves: never below the bill, nothing stays reserved."""
    proxy = start_proxy("caps: [{name: daily, limit: 9, per: day}]")
    stand_in.enqueue(Script(output_tokens=30, tokens_per_second=100, report_usage=False))
    connection = connect(proxy)
    speak(connection)
    until(connection, "response.output_audio.delta" if who == "client" else "response.done")
    connection.close()
    rows = [row for row in proxy.settled(1 if who == "client" else 2) if row.state == "posted"]
    assert [row.marks & {"estimated"} for row in rows] == [{"estimated"}]
    assert rows[0].cost >= stand_in.billed_nanousd() > 0
    assert proxy.totals("daily").pending == 0


def test_azure_names_its_deployment_in_the_address(connect: Connect, tmp_path: Any) -> None:
    """Both forms, priced as the model that `hosts:` puts behind it."""
    caps = f"caps: []\nhosts: {{{AZURE_HOST}: {{api: openai, zone: global, deployments: {{my-voice: gpt-realtime}}}}}}"
    base = f"https://{AZURE_HOST}"
    with (
        StandIn(tmp_path / "azure", (OPENAI_HOST, AZURE_HOST)) as stand_in,
        Proxy(tmp_path / "p", stand_in, caps) as proxy,
    ):
        for client in (
            openai.AzureOpenAI(api_key=KEY, api_version="2025-04-01-preview", azure_endpoint=base),
            openai.OpenAI(api_key=KEY, base_url=f"{base}/openai/v1"),
        ):
            connection = connect(proxy, client, "my-voice")
            speak(connection)
            until(connection, "response.done")
            connection.close()
        rows = proxy.settled(4)
        assert bills(rows) == sorted(record.cost_nanousd for record in stand_in.billable())
        assert [row.entry.model for row in rows] == ["gpt-realtime"] * 4
        assert not any(row.marks & {"assumed", "estimated"} for row in rows)
