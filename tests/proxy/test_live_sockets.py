"""A protocol that knows no refusal (Google's Live) on mitmproxy's real layers: only the connection's end can tell one."""

from __future__ import annotations

from typing import Any

import pytest
from mitmproxy.proxy.layers.http._events import RequestData
from wsproto.events import CloseConnection

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


async def test_what_stands_and_never_begins_costs_nothing(waiting: Proxy) -> None:
    """The client may leave while its microphone is on."""
    talk = await opened(waiting, "0.05")
    await talk.say(MIC)
    assert await waiting.pending() == ONE_TURN
    await talk.driver.feed(RequestData(STREAM_ID, talk.client.send(CloseConnection(1000))))
    await talk.settle()
    assert [row.state for row in await waiting.rows()] == ["voided"]
    assert await waiting.pending() == 0
