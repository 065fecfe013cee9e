"""What stands set aside on a Realtime connection, on mitmproxy's real layers, over a real service."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from mitmproxy.proxy.layers.http._events import RequestData, ResponseData
from mitmproxy.proxy.layers.websocket import WebsocketLayer
from wsproto.events import CloseConnection, TextMessage

from llmcap_addon.call import Call
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.proxy import sockets
from llmcap_addon.wire.dialect import Refusal
from tests.proxy.addon import Proxy
from tests.proxy.stream import STREAM_ID
from tests.proxy.test_sockets import HANDSHAKE, Talk

PATH = "/v1/realtime?model=gpt-realtime"
FIRST = 1_000 * 64_000
"""An answer of 1,000 tokens, in nano-dollars: the session's limit."""


def append(length_ms: int = 100) -> dict[str, Any]:
    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(48 * length_ms)).decode()}


def session(**more: Any) -> dict[str, Any]:
    heard = {"format": {"type": "audio/pcm"}, "turn_detection": {"type": "server_vad"}, "transcription": None}
    base = {"type": "realtime", "model": "gpt-realtime", "max_output_tokens": 1_000, "audio": {"input": heard}}
    return {"type": "session.created", "session": {**base, **more}}


def created(name: str = "resp_1", conversation: str | None = "conv_1") -> dict[str, Any]:
    return {"type": "response.created", "response": {"id": name, "conversation_id": conversation, "metadata": None}}


def done(name: str = "resp_1", inputs: int = 100, outputs: int = 10) -> dict[str, Any]:
    usage: dict[str, Any] = {"input_tokens": inputs, "output_tokens": outputs, "total_tokens": inputs + outputs}
    usage |= {"input_token_details": {"text_tokens": inputs, "audio_tokens": 0}}
    usage |= {"output_token_details": {"text_tokens": outputs, "audio_tokens": 0}}
    return {"type": "response.done", "response": {"id": name, "status": "completed", "usage": usage}}


COST = 100 * 4_000 + 10 * 16_000


async def opened(proxy: Proxy, limit: str = "9", **more: Any) -> Talk:
    proxy.caps.write_text(f"{{wait: 0s, caps: [{{name: small, limit: {limit}, per: ever}}]}}")
    await proxy.hooks.running()
    talk = Talk(proxy)
    await talk.open(PATH)
    await talk.answer(session(**more))
    return talk


def is_closed(talk: Talk) -> bool:
    return talk.closed is not None


async def states(proxy: Proxy) -> list[str]:
    return sorted(row.state for row in await proxy.rows())


async def test_sound_goes_out_once_a_response_is_set_aside(waiting: Proxy) -> None:
    """Its reservation grows with what is said, is renewed after each response, and released at the end."""
    talk = await opened(waiting)
    await talk.say(append())
    assert talk.to_server == [append()]
    first = await waiting.pending()
    assert FIRST < first < FIRST + 1_500 * 32_000
    for _ in range(3):
        await talk.say(append(25_000))
    assert await waiting.pending() > first + 700 * 32_000
    assert await states(waiting) == ["pending"]
    stopped = {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 75_100}
    await talk.answer(stopped, {"type": "input_audio_buffer.committed", "item_id": "item_1"}, created(), done())
    await talk.settle()
    assert await states(waiting) == ["pending", "posted"]
    assert FIRST < await waiting.pending() < first + 300 * 32_000
    await talk.driver.feed(RequestData(STREAM_ID, talk.client.send(CloseConnection(1000))))
    await talk.settle()
    rows = {row.state: row for row in await waiting.rows()}
    assert (rows["posted"].cost, rows["voided"].cost) == (COST, 0)
    assert await waiting.pending() == 0


async def test_a_session_is_limited_to_what_a_cap_has_left(waiting: Proxy) -> None:
    """Before the sound that may lead to a response goes out; what is reserved is that."""
    talk = await opened(waiting, "0.15", max_output_tokens="inf")
    await talk.say(append())
    assert [event["type"] for event in talk.to_server] == ["session.update", "input_audio_buffer.append"]
    most = talk.to_server[0]["session"]["max_output_tokens"]
    assert 1_024 < most < 4_096
    assert most * 64_000 < await waiting.pending() <= 150_000_000
    await talk.answer({**session(max_output_tokens=most), "type": "session.updated"}, created(), done())
    await talk.settle()
    posted = [row for row in await waiting.rows() if row.state == "posted"]
    assert [(row.cost, "shortened" in row.marks) for row in posted] == [(COST, True)]


async def test_a_response_that_comes_before_it_stands_is_taken_in(waiting: Proxy) -> None:
    """The server begins the next in the same packet that ends the one before: it is billed, and not cut."""
    talk = await opened(waiting)
    await talk.say(append())
    await talk.answer(created(), done(), created("resp_2"), done("resp_2"), created("resp_3"))
    await talk.settle()
    assert [event["type"] for event in talk.to_client][-1] == "response.created"
    assert talk.closed is None
    await talk.answer(done("resp_3"))
    await talk.settle()
    assert [row.cost for row in await waiting.rows() if row.state == "posted"] == [COST] * 3
    assert not any("unreserved" in row.marks for row in await waiting.rows())


async def test_what_runs_is_heard_to_its_end_when_nothing_more_fits(waiting: Proxy) -> None:
    """The client is told at once, its sound is taken back and dropped, and the connection ends after the answer."""
    talk = await opened(waiting, "0.15")
    await talk.say(append())
    await talk.answer(created())
    request = {"type": "response.create", "event_id": "mine", "response": {"conversation": "none"}}
    await talk.say(request)
    assert talk.to_client[-1]["error"]["event_id"] == "mine"
    await talk.say(append())
    await talk.answer(done(inputs=4_000, outputs=7_000))
    await talk.settle()
    refused = talk.to_client[-1]
    assert (refused["type"], refused["error"]["code"]) == ("error", "llmcap_cap_spent")
    assert talk.closed is not None
    assert (talk.closed.code, (talk.closed.reason or "")[:26]) == (1008, 'LLMCap: refused, cap "smal')
    assert await states(waiting) == ["posted", "refused", "refused"]
    assert await waiting.pending() == 0


async def test_growth_that_does_not_fit_is_refused_while_another_answer_runs(waiting: Proxy) -> None:
    """What is out of band goes on; nothing of the client's goes out any more."""
    talk = await opened(waiting, "0.22")
    await talk.say(append())
    apart = {"type": "response.create", "response": {"conversation": "none", "input": [], "max_output_tokens": 1_000}}
    await talk.say(apart)
    await talk.answer(created("resp_a", None))
    for _ in range(6):
        await talk.say(append(60_000))
    assert talk.to_client[-1]["error"]["code"] == "llmcap_cap_spent"
    assert json.loads(json.dumps(talk.to_server[-1])) == {"type": "input_audio_buffer.clear"}
    assert not is_closed(talk)
    sent = len(talk.to_server)
    await talk.say({"type": "response.cancel"})
    assert len(talk.to_server) == sent
    await talk.answer(done("resp_a"))
    await talk.settle()
    assert is_closed(talk)
    assert await states(waiting) == ["posted", "refused", "voided"]


async def test_what_never_ends_does_not_keep_a_connection_that_is_to_end(
    waiting: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response that was asked for and never begins, when nothing more can be set aside."""
    monkeypatch.setattr(sockets, "LAST_S", 0.0)
    talk = await opened(waiting, "0.15")
    await talk.say({"type": "response.create", "response": {"conversation": "none", "input": []}})
    await talk.say(append())
    await talk.settle()
    await talk.settle()
    assert talk.to_client[-1]["error"]["code"] == "llmcap_cap_reserved"
    assert talk.server_closed is not None
    assert await waiting.pending() == 0


async def test_a_response_that_begins_after_a_refusal_is_cut_and_posted(waiting: Proxy) -> None:
    """It came from sound that had gone out before: the connection ends, its cost stands in the ledger."""
    talk = await opened(waiting, "0.15")
    await talk.say(append())
    await talk.answer(created(), done(inputs=1_000, outputs=6_000), created("resp_2"))
    await talk.settle()
    assert talk.closed is not None
    rows = await waiting.rows()
    [cut] = [row for row in rows if "cut" in row.marks]
    assert {"unreserved", "estimated"} <= cut.marks
    assert cut.cost > 1_000 * 4_000
    assert await waiting.pending() == 0


async def test_what_began_early_is_posted_when_the_connection_ends_at_once(waiting: Proxy) -> None:
    """Neither the ledger nor the client was fast enough."""
    talk = await opened(waiting)
    await talk.say(append())
    frames = b"".join(talk.server.send(TextMessage(json.dumps(one))) for one in (created(), done(), created("resp_2")))
    await talk.driver.feed(ResponseData(STREAM_ID, frames + talk.server.send(CloseConnection(1000))))
    await talk.settle()
    rows = [row for row in await waiting.rows() if row.state == "posted"]
    assert len(rows) == 2
    assert all(row.cost for row in rows)
    assert await waiting.pending() == 0


async def test_a_transcript_written_at_once_is_posted_without_a_commit(waiting: Proxy) -> None:
    """Models that write while they listen bill what they heard."""
    heard = {"turn_detection": None, "transcription": {"model": "gpt-live-transcribe"}, "format": {"type": "audio/pcm"}}
    talk = await opened(waiting, audio={"input": heard})
    await talk.say(append())
    await talk.driver.feed(RequestData(STREAM_ID, talk.client.send(CloseConnection(1000))))
    await talk.settle()
    [row] = await waiting.rows()
    assert (row.state, row.entry.model, "estimated" in row.marks) == ("posted", "gpt-live-transcribe", True)
    assert row.cost > 0


async def test_a_transcript_written_at_once_is_posted_when_it_is_turned_off(waiting: Proxy) -> None:
    """What it has heard by then is billed."""
    heard = {"turn_detection": None, "transcription": {"model": "gpt-live-transcribe"}, "format": {"type": "audio/pcm"}}
    talk = await opened(waiting, audio={"input": heard})
    await talk.say(append())
    off = {**session(audio={"input": {**heard, "transcription": None}}), "type": "session.updated"}
    await talk.answer(off)
    await talk.settle()
    [row] = await waiting.rows()
    assert (row.state, "estimated" in row.marks, row.cost > 0) == ("posted", True, True)


@pytest.mark.parametrize("commits", [True, False])
async def test_a_transcript_is_posted_once_its_sound_is_committed(waiting: Proxy, commits: bool) -> None:
    """Whether the server has said yet that it writes it, or not."""
    heard = {"turn_detection": None, "transcription": {"model": "whisper-1"}, "format": {"type": "audio/pcm"}}
    talk = await opened(waiting, audio={"input": heard})
    await talk.say(append())
    if commits:
        await talk.say({"type": "input_audio_buffer.commit"})
    await talk.driver.feed(RequestData(STREAM_ID, talk.client.send(CloseConnection(1000))))
    await talk.settle()
    assert await states(waiting) == ["posted" if commits else "voided"]


async def test_what_is_turned_off_while_the_ledger_is_asked_is_given_back(
    waiting: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not stay set aside until the connection ends."""
    talk = await opened(waiting)
    assert waiting.hooks.service is not None
    gate = waiting.hooks.service.gate
    admit, asked, goes_on = gate.admit, asyncio.Event(), asyncio.Event()

    async def slow(call: Call, is_gone: Callable[[], bool]) -> LiveCall | Refusal:
        asked.set()
        await goes_on.wait()
        return await admit(call, is_gone)

    monkeypatch.setattr(gate, "admit", slow)
    message = TextMessage(json.dumps(append()))
    await talk.driver.feed(RequestData(STREAM_ID, talk.client.send(message)))
    await asked.wait()
    await talk.answer({**session(audio={"input": {"turn_detection": None}}), "type": "session.updated"})
    goes_on.set()
    await talk.settle()
    assert talk.to_server == [append()]
    assert await states(waiting) == ["voided"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/realtime?call_id=rtc_1",
        "/v1/realtime?model=gpt-realtime-translate",
        "/v1/realtime/translations?model=gpt-realtime-translate",
        "/v1/live/sessions/sess_1/fork",
    ],
)
async def test_what_can_not_be_metered_is_told_why(waiting: Proxy, path: str) -> None:
    """In OpenAI's shape, before a connection is there."""
    await waiting.hooks.running()
    talk = Talk(waiting)
    await talk.driver.request(b"", path, "GET", HANDSHAKE)
    assert talk.driver.head().status_code == 400
    [row] = await waiting.rows()
    assert (row.state, row.entry.dialect) == ("refused", "openai.realtime")


async def test_what_can_not_be_metered_passes_where_it_is_allowed_to(waiting: Proxy) -> None:
    """As every other websocket does; nothing stands in the way of its frames."""
    waiting.caps.write_text("unmetered: allow\ncaps: []\n")
    await waiting.hooks.running()
    talk = Talk(waiting)
    await talk.open("/v1/realtime/translations")
    assert type(talk.layer) is WebsocketLayer
    assert await waiting.rows() == ()
