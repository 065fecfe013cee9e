"""The cut: a live stream that runs out of its cap ends at once, with a message, on both sides."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import openai
import pytest

from tests.e2e.calls import CHAT, CHAT_STREAM, CUTTABLE, ELSEWHERE, SDK_ERRORS, Kind, message_of
from tests.e2e.conftest import StartProxy
from tests.fakes.script import Hold, Script
from tests.fakes.server import OPENAI_HOST, StandIn

CUT_SECONDS = 0.05
"""The upstream must stop so soon after the client was told."""

ENDLESS = Script(output_tokens=1_000_000, tokens_per_second=500)
"""A stream that ends only when it is cut."""

LIMITS = {"gpt-4o": "0.012", "claude-sonnet-4-5": "0.024", "gemini-2.5-flash": "0.004"}
"""Room for some hundreds of tokens of each model: a second of `ENDLESS`."""

USD_TO_NANOUSD = 1_000_000_000


def capped(kind: Kind, limit: str = "") -> str:
    """Cap the kind's own model only, so that other models go on."""
    match = f'match: {{model: "{kind.model}"}}'
    return f"{{wait: 0s, caps: [{{name: fuse, limit: {limit or LIMITS[kind.model]}, per: day, {match}}}], {ELSEWHERE}}}"


def read_into(pieces: list[str], stream: Iterator[str]) -> None:
    """Keep what arrived, however the stream ends."""
    for piece in stream:
        pieces.append(piece)  # noqa: PERF402  # extend would not say that it keeps what came before an exception


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
@pytest.mark.parametrize("kind", CUTTABLE, ids=lambda kind: kind.name)
def test_a_live_stream_is_cut(start_proxy: StartProxy, stand_in: StandIn, kind: Kind, http2: bool) -> None:
    """The SDK raises our message, the provider stops, and what is posted lies between truth and limit."""
    proxy = start_proxy(capped(kind))
    sdks = proxy.sdks(http2=http2)
    stand_in.enqueue(ENDLESS)
    pieces: list[str] = []
    with pytest.raises(SDK_ERRORS) as raised:
        read_into(pieces, kind.stream(sdks, max_tokens=16_000))
    received = len("".join(pieces)) // len(" token")
    message = message_of(raised.value)
    assert message.startswith("LLMCap:")
    assert "fuse" in message
    [record] = stand_in.seen_billable()
    assert record.aborted
    assert 0 < received <= record.generated_tokens < 5_000
    [row] = proxy.settled(1)
    limit = round(float(LIMITS[kind.model]) * USD_TO_NANOUSD)
    assert record.cost_nanousd <= row.cost <= limit
    assert {"cut", "estimated"} <= row.marks
    total = proxy.totals("fuse")
    assert (total.posted, total.pending) == (row.cost, 0)
    assert row.cost * 3 > limit * 2  # most of the cap was usable
    # What clients do next is to send the call again: it must already be refused.
    with pytest.raises(SDK_ERRORS, match="LLMCap"):
        kind(sdks)
    assert len(stand_in.billable()) == 1


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_the_provider_stops_within_50_ms(start_proxy: StartProxy, stand_in: StandIn, http2: bool) -> None:
    """Between the moment the client is told and the moment the provider sees its connection end: the median of all
    dialects, for one of them may meet a busy machine."""
    seconds: list[float] = []
    for kind in CUTTABLE:
        stand_in.reset()
        sdks = start_proxy(capped(kind)).sdks(http2=http2)
        stand_in.enqueue(ENDLESS)
        with pytest.raises(SDK_ERRORS, match="LLMCap"):
            read_into([], kind.stream(sdks, max_tokens=16_000))
        told_ns = time.monotonic_ns()
        [record] = stand_in.seen_billable()
        assert record.gone_ns is not None
        seconds.append(abs(record.gone_ns - told_ns) / 1e9)
    assert statistics.median(seconds) < CUT_SECONDS, seconds


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_the_connection_survives_a_cut(start_proxy: StartProxy, stand_in: StandIn, http2: bool) -> None:
    """A cut ends the body cleanly: the client's connection to the proxy carries the next call."""
    proxy = start_proxy(capped(CHAT_STREAM))
    sdks = proxy.sdks(http2=http2)
    CHAT(sdks, model="gpt-4o-mini")
    before = proxy.log.count("client connect")
    stand_in.enqueue(ENDLESS)
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    # Not through the SDK: it closes an HTTP/1.1 connection whose body it has not read to the end.
    answer = sdks.http.post(f"https://{OPENAI_HOST}/v1/chat/completions", json=body)
    assert answer.status_code == 200
    last = json.loads(answer.text.rstrip().splitlines()[-1].removeprefix("data: "))
    assert last["error"]["message"].startswith("LLMCap:")
    assert CHAT(sdks, model="gpt-4o-mini") == " token" * 16
    assert proxy.log.count("client connect") == before


def test_a_sibling_survives_a_cut(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """A call on the same h2 connection, answered while another is cut, is unharmed."""
    proxy = start_proxy(capped(CHAT_STREAM))
    hold = Hold()
    ask: Any = {"messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 16_000}

    async def call_twice() -> tuple[str | None, int]:
        async with proxy.async_client(http2=True) as http:
            client = openai.AsyncOpenAI(api_key="key", http_client=http)
            await client.chat.completions.create(model="gpt-4o-mini", **ask)
            before = proxy.log.count("client connect")
            stand_in.enqueue(
                Script(when=lambda record: record.model == "gpt-4o-mini", hold_head=hold, output_tokens=33),
                replace(ENDLESS, when=lambda record: record.model == "gpt-4o"),
            )
            sibling = asyncio.ensure_future(client.chat.completions.create(model="gpt-4o-mini", **ask))
            assert await asyncio.to_thread(hold.reached.wait, 20)
            with pytest.raises(openai.APIError, match="LLMCap"):
                [chunk async for chunk in await client.chat.completions.create(model="gpt-4o", stream=True, **ask)]
            hold.release()
            answer = await sibling
        return answer.choices[0].message.content, proxy.log.count("client connect") - before

    text, further_connections = asyncio.run(call_twice())
    assert (text, further_connections) == (" token" * 33, 0)
    whole = [record for record in stand_in.seen_billable() if record.complete]
    assert [record.model for record in whole] == ["gpt-4o-mini"] * 2
    rows = proxy.settled(3)
    assert sorted(row.cost for row in rows if "cut" not in row.marks) == sorted(record.cost_nanousd for record in whole)


def test_streams_at_once_share_a_cap(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """Many live streams on one cap are all cut, and together they stay under it."""
    proxy = start_proxy(capped(CHAT_STREAM, "0.05"))
    # The speed of real models: twelve times ENDLESS would measure how this machine shares two cores.
    stand_in.default = replace(ENDLESS, tokens_per_second=100)
    sdks = proxy.sdks()

    def run() -> str:
        with pytest.raises(SDK_ERRORS) as raised:
            CHAT_STREAM(sdks, max_tokens=16_000)
        return message_of(raised.value)

    with ThreadPoolExecutor(12) as pool:
        messages = [one.result() for one in [pool.submit(run) for _ in range(12)]]
    assert all(message.startswith("LLMCap:") and "fuse" in message for message in messages)
    stand_in.wait_idle()
    proxy.settled(12)
    total = proxy.totals("fuse")
    assert total.pending == 0
    assert stand_in.billed_nanousd() <= total.posted <= 50_000_000


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_an_encoded_stream_is_cut(start_proxy: StartProxy, stand_in: StandIn, encoding: Any) -> None:
    """A stream under a content-encoding is cut like any other: the SDK can read the last event."""
    proxy = start_proxy(capped(CHAT_STREAM))
    stand_in.enqueue(replace(ENDLESS, encoding=encoding))
    with pytest.raises(SDK_ERRORS, match="fuse"):
        CHAT_STREAM(proxy.sdks(), max_tokens=16_000)
    [row] = proxy.settled(1)
    assert "cut" in row.marks


def test_a_flood_is_cut(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """A provider that sends as fast as it can is cut as well, and what was read is posted."""
    proxy = start_proxy(capped(CHAT_STREAM))
    stand_in.enqueue(Script(output_tokens=1_000_000))
    with pytest.raises(SDK_ERRORS, match="fuse"):
        CHAT_STREAM(proxy.sdks(), max_tokens=16_000)
    [record] = stand_in.seen_billable()
    assert record.aborted
    [row] = proxy.settled(1)
    assert "cut" in row.marks
    # What had already left for the proxy when it cut lay in the sockets' buffers, which no proxy can call back; the
    # margin covers a quarter of a second of a real provider's speed, not of a loop in the same machine.
    total = proxy.totals("fuse")
    assert (total.posted, total.pending) == (row.cost, 0)


def test_frames_are_neither_held_nor_merged(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """Each event is with the client before the provider sends the next one."""
    proxy = start_proxy(f"{{caps: [{{name: wide, limit: 10, per: day}}], {ELSEWHERE}}}")
    sdks = proxy.sdks()
    for kind in CUTTABLE:
        holds = [Hold() for _ in range(3)]
        for after, hold in enumerate(holds, start=1):
            stand_in.enqueue(Script(output_tokens=after + 1, hold_stream=hold, hold_after_tokens=after))
            received = 0
            for text in kind.stream(sdks):
                received += bool(text)
                if received == after:
                    hold.release()  # the stand-in would wait for ever if this token had been kept back
            assert received == after + 1
