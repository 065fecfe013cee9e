"""A protocol that knows no refusal (Google's Live) on mitmproxy's real layers: only the connection's end can tell one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from mitmproxy.proxy.layers.http._events import RequestData
from wsproto.events import CloseConnection

from llmcap_addon.call import Call
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.wire.dialect import Refusal
from tests.proxy.addon import Proxy
from tests.proxy.stream import STREAM_ID
from tests.proxy.test_sockets import Talk

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
SETUP = {"setup": {"model": "models/gemini-3.8-live", "generationConfig": {"maxOutputTokens": 2_000}}}
TEXT = {"clientContent": {"turns": [{"parts": [{"text": "hello"}]}], "turnComplete": True}}
MIC = {"realtimeInput": {"audio": {"mimeType": "audio/pcm;rate=16000", "data": "AAAA"}}}
SPOKEN = {"serverContent": {"modelTurn": {"parts": [{"text": "hi"}]}}}
CALLS = {"toolCall": {"functionCalls": [{"id": "1", "name": "f", "args": {}}]}}
RESULT = {"toolResponse": {"functionResponses": [{"id": "1", "name": "f", "response": {}}]}}
BILL = {"promptTokenCount": 100, "responseTokenCount": 10, "totalTokenCount": 110}
OVER = {"serverContent": {"turnComplete": True}, "usageMetadata": BILL}
ONE_TURN = 4_940 * 3_000 + 2_000 * 12_000
"""What one run is reserved at, in nano-dollars: 4,940 tokens of sound in, 2,000 out."""


async def opened(waiting: Proxy, limit: str) -> Talk:
    """Open a session under a cap, and set it up."""
    waiting.caps.write_text(f"{{wait: 0s, caps: [{{name: small, limit: {limit}, per: ever}}]}}")
    await waiting.hooks.running()
    talk = Talk(waiting)
    talk.driver = waiting.driver("generativelanguage.googleapis.com")
    await talk.open(PATH)
    await talk.say(SETUP)
    assert talk.to_server == [SETUP]
    return talk


def is_closed(talk: Talk) -> bool:
    return talk.closed is not None


async def test_a_turn_that_does_not_fit_ends_the_connection(waiting: Proxy) -> None:
    """Nothing of it goes out, and no empty frame comes back."""
    talk = await opened(waiting, "0.03")
    await talk.say(TEXT)
    assert talk.to_server == [SETUP]
    assert talk.to_client == []
    assert talk.closed is not None
    assert talk.closed.code == 1008
    assert (talk.closed.reason or "").startswith('LLMCap: refused, cap "small"')
    assert [row.state for row in await waiting.rows()] == ["refused"]


async def test_what_runs_is_heard_to_its_end_before_the_connection_ends(waiting: Proxy) -> None:
    """The next turn can't be set aside; the last message of the one that is paid for still arrives."""
    talk = await opened(waiting, "0.05")
    await talk.say(MIC)
    assert await waiting.pending() == ONE_TURN
    await talk.answer(SPOKEN)
    await talk.settle()
    await talk.say(MIC)  # dropped
    assert not is_closed(talk)
    await talk.answer(SPOKEN, OVER)
    await talk.settle()
    assert talk.to_client == [SPOKEN, SPOKEN, OVER]
    assert talk.to_server == [SETUP, MIC]
    assert talk.closed is not None
    assert talk.closed.code == 1008
    rows = await waiting.rows()
    assert [(row.state, row.usage.input_tokens) for row in rows if row.state == "posted"] == [("posted", 100)]
    assert await waiting.pending() == 0


@pytest.mark.parametrize("fits", [True, False])
async def test_the_result_of_a_function_makes_its_turn_dearer(waiting: Proxy, fits: bool) -> None:
    """It goes out once that is set aside; when it can't be, the turn would wait for ever, so the connection ends."""
    talk = await opened(waiting, "0.10" if fits else "0.05")
    await talk.say(TEXT)
    await talk.answer(CALLS)
    await talk.settle()
    assert await waiting.pending() == ONE_TURN
    await talk.say(RESULT)
    sent: list[dict[str, Any]] = [SETUP, TEXT]
    if not fits:
        assert talk.to_server == sent
        assert talk.closed is not None
        assert talk.closed.code == 1008
        [row] = [row for row in await waiting.rows() if row.state == "posted"]
        assert "estimated" in row.marks
        assert row.cost == ONE_TURN
        return
    assert talk.to_server == [*sent, RESULT]
    assert ONE_TURN < await waiting.pending() <= 2 * ONE_TURN
    await talk.answer(SPOKEN, OVER)
    await talk.settle()
    [row] = await waiting.rows()
    assert (row.state, row.marks, row.usage.input_tokens) == ("posted", frozenset(), 100)
    assert talk.closed is None


async def test_what_began_early_is_posted_when_the_next_does_not_fit(waiting: Proxy) -> None:
    """Two turns were over before the ledger could be asked for the first of them: their bills are there."""
    talk = await opened(waiting, "0.05")
    await talk.say(MIC)
    dear = {**OVER, "usageMetadata": {"promptTokenCount": 4_000, "responseTokenCount": 2_000}}
    await talk.answer(SPOKEN, dear, SPOKEN, OVER, SPOKEN, OVER)
    await talk.settle()
    assert is_closed(talk)
    rows = [row for row in await waiting.rows() if row.state == "posted"]
    assert sorted(row.usage.input_tokens for row in rows) == [100, 100, 4_000]
    assert await waiting.pending() == 0


@pytest.mark.parametrize("fails", [False, True])
async def test_what_began_early_is_posted_when_the_connection_ends(
    waiting: Proxy, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Two turns while the ledger is slow; when something of ours failed, too."""
    talk = await opened(waiting, "0.50")
    await talk.say(MIC)
    assert waiting.hooks.service is not None
    gate = waiting.hooks.service.gate
    admit, goes_on = gate.admit, asyncio.Event()

    async def slow(call: Call, is_gone: Callable[[], bool]) -> LiveCall | Refusal:
        await goes_on.wait()
        return await admit(call, is_gone)

    monkeypatch.setattr(gate, "admit", slow)
    await talk.answer(SPOKEN, OVER, SPOKEN, OVER, SPOKEN, OVER)
    socket = waiting.hooks._sockets._sockets[talk.driver.flow]
    if fails:
        socket.fail(RuntimeError("ours"))
    ended = asyncio.ensure_future(socket.finish("upstream_gone"))
    goes_on.set()
    await ended
    rows = [row for row in await waiting.rows() if row.state == "posted"]
    assert [row.usage.input_tokens for row in rows] == [100] * 3
    assert await waiting.pending() == 0


async def test_a_bill_is_kept_where_the_ledger_answers_at_once(waiting: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks begin at once in mitmproxy's loop: the ledger's answer may be there before the server's frame is through."""
    talk = await opened(waiting, "0.50")
    assert waiting.hooks.service is not None
    gate = waiting.hooks.service.gate
    calls: list[Call] = []
    admit = gate.admit

    async def noted(call: Call, is_gone: Callable[[], bool]) -> LiveCall | Refusal:
        calls.append(call)
        return await admit(call, is_gone)

    monkeypatch.setattr(gate, "admit", noted)
    await talk.say(TEXT)
    await talk.answer({**CALLS, "usageMetadata": BILL})
    await talk.settle()
    ready = await admit(calls[0], lambda: False)

    async def at_once(call: Call, is_gone: Callable[[], bool]) -> LiveCall | Refusal:
        return ready

    monkeypatch.setattr(gate, "admit", at_once)
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    try:
        await talk.answer({**OVER, "usageMetadata": {**BILL, "promptTokenCount": 5_000}})
    finally:
        asyncio.get_running_loop().set_task_factory(None)
    await talk.settle()
    rows = await waiting.rows()
    assert sorted((row.state, row.usage.input_tokens) for row in rows) == [("posted", 100), ("posted", 5_000)]


async def test_what_stands_and_never_begins_costs_nothing(waiting: Proxy) -> None:
    """The client may leave while its microphone is on."""
    talk = await opened(waiting, "0.05")
    await talk.say(MIC)
    assert await waiting.pending() == ONE_TURN
    await talk.driver.feed(RequestData(STREAM_ID, talk.client.send(CloseConnection(1000))))
    await talk.settle()
    assert [row.state for row in await waiting.rows()] == ["voided"]
    assert await waiting.pending() == 0
