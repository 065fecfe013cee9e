"""Google's Live sessions through a real proxy, with Google's own SDK."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from google.genai.live import AsyncSession
from google.oauth2.credentials import Credentials

from tests.e2e.harness import WAIT_SECONDS, Proxy
from tests.fakes import google_live, vertex, websocket
from tests.fakes.script import Hold, Script
from tests.fakes.sdks import KEY
from tests.fakes.server import HOSTS, StandIn

MODEL, ON_VERTEX = "gemini-3.8-live", "gemini-live-2.5-flash-native-audio"
CAPS = """
wait: 0s
caps:
  - {name: daily, limit: 3, per: day}
  - {name: none, limit: 0, per: ever, match: {model: no-*}}
  - {name: once, limit: 0.04, per: ever, match: {model: "*-latest"}}
"""
CONFIG = types.LiveConnectConfig(response_modalities=[types.Modality.AUDIO], max_output_tokens=1_000)
MIC = types.Blob(data=bytes(3_200), mime_type="audio/pcm;rate=16000")


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Run the stand-ins, those of Vertex's hosts too."""
    assert any(server is google_live.LiveServer for _, server in websocket.SERVERS)
    with StandIn(tmp_path_factory.mktemp("providers"), (*HOSTS, *vertex.HOSTS)) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(providers: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Run one proxy for all tests."""
    with Proxy(tmp_path_factory.mktemp("live"), providers, CAPS) as running:
        yield running
    running.assert_sound()


@pytest.fixture(autouse=True)
def through(proxy: Proxy, providers: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the SDK's websockets through the proxy, as `llmcap run` does for whatever it starts."""
    providers.reset()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("SSL_CERT_FILE", str(proxy.ca_path))


@asynccontextmanager
async def connect(model: str = MODEL, **options: Any) -> AsyncIterator[AsyncSession]:
    """Open a session as a user of the SDK does."""
    client = genai.Client(**(options or {"api_key": KEY}))
    async with asyncio.timeout(WAIT_SECONDS), client.aio.live.connect(model=model, config=CONFIG) as session:
        yield session


async def say(session: AsyncSession, text: str = "Say something.") -> None:
    await session.send_client_content(turns=types.Content(role="user", parts=[types.Part(text=text)]))


async def heard(session: AsyncSession) -> int:
    """Receive one turn; gives how many tokens of sound it had."""
    sounds = [message.data async for message in session.receive()]
    return len([sound for sound in sounds if sound])


def test_a_session_costs_what_the_provider_bills(proxy: Proxy, providers: StandIn) -> None:
    """Text, then sound that the service answers by itself: a row a turn, exact; what was set aside is given back."""
    seen = proxy.rows()
    providers.enqueue(Script(output_tokens=5), Script(output_tokens=9), Script(output_tokens=7))

    async def talk() -> None:
        async with connect() as session:
            await say(session)
            assert await heard(session) == 5
            for _ in range(4):
                await session.send_realtime_input(audio=MIC)
            await session.send_realtime_input(audio_stream_end=True)
            assert await heard(session) == 9
        location: Any = {"vertexai": True, "project": "p", "location": vertex.REGION}
        credentials = Credentials(KEY)  # type: ignore[no-untyped-call]
        async with connect(ON_VERTEX, credentials=credentials, **location) as session:
            await say(session)
            assert await heard(session) == 7

    asyncio.run(talk())
    rows = proxy.quiet(seen)
    posted = [row for row in rows if row.state == "posted"]
    assert [row.cost for row in posted] == [record.cost_nanousd for record in providers.billable()]
    assert [row.entry.model for row in posted] == [MODEL, MODEL, ON_VERTEX]
    assert [row.usage.output_audio_tokens for row in posted] == [5, 9, 7]
    assert not any(row.marks for row in posted)
    assert [row.state for row in rows if row not in posted] == ["voided"]
    assert proxy.totals("daily").pending == 0


def test_what_does_not_fit_ends_the_session_with_the_reason(proxy: Proxy, providers: StandIn) -> None:
    """The SDK raises it, and nothing of what is refused goes out."""
    seen = proxy.rows()

    async def talk(model: str, further: str = "") -> None:
        async with connect(model) as session:
            await (session._ws.send(further) if further else say(session))
            await heard(session)

    with pytest.raises(errors.APIError, match='LLMCap: refused, cap "none"') as refused:
        asyncio.run(talk("no-such-live"))
    assert refused.value.code == 1008
    with pytest.raises(errors.APIError, match="the session is set up already") as again:
        asyncio.run(talk(MODEL, '{"setup": {"model": "models/gemini-2.5-pro"}}'))
    assert again.value.code == 1008
    assert [row.state for row in proxy.settled(2, seen)] == ["refused", "refused"]
    assert providers.seen_billable() == []


def test_where_the_next_turn_does_not_fit_the_one_that_runs_is_the_last(proxy: Proxy, providers: StandIn) -> None:
    """It is paid for, so it is heard to its end; then the connection ends, before the service can begin another."""
    seen = proxy.rows()
    providers.enqueue(Script(output_tokens=400, tokens_per_second=2_000))

    async def talk() -> None:
        async with connect("gemini-2.5-flash-native-audio-latest") as session:
            await session.send_realtime_input(audio=MIC)
            await session.send_realtime_input(audio_stream_end=True)
            assert await heard(session) == 400
            with pytest.raises(errors.APIError, match=r'LLMCap: refused.* cap "once"'):
                await heard(session)

    asyncio.run(talk())
    rows = proxy.settled(2, seen)
    assert sorted(row.state for row in rows) == ["posted", "refused"]
    assert sum(row.cost for row in rows) == providers.billed_nanousd()


def test_a_turn_whose_client_has_left_is_posted_whole(proxy: Proxy, providers: StandIn) -> None:
    """The service bills it to its end, so it is an estimate from above, and nothing stays set aside."""
    seen = proxy.rows()
    hold = Hold()
    providers.enqueue(Script(output_tokens=500, hold_stream=hold, hold_after_tokens=3))

    async def talk() -> None:
        async with connect() as session:
            await say(session)
            await anext(session.receive())
            await asyncio.to_thread(hold.reached.wait, WAIT_SECONDS)

    asyncio.run(talk())
    [row] = proxy.settled(1, seen)
    assert "estimated" in row.marks
    providers.wait_idle()
    assert providers.billed_nanousd() <= row.cost <= 30_000_000
    assert proxy.totals("daily").pending == 0
