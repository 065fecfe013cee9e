from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.clients import client_name, refusal_status
from llmcap_addon.wire.cohere import COHERE
from llmcap_addon.wire.cohere_meter import ChatLinesMeter, LineSplitter
from llmcap_addon.wire.dialect import Meter, Refusal, Request, ResponseHead, Target
from tests.wire.corpus import byte_by_byte, feed_all

CHAT, EMBED, RERANK = COHERE
REFUSAL = Refusal("spent", "LLMCap: the cap daily is spent", "daily", 10, 10)
PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def request(path: str, body: Any) -> Request:
    return Request("POST", "api.cohere.com", path, body=body if isinstance(body, bytes) else json.dumps(body).encode())


def chat(**fields: Any) -> Call:
    body = {"model": "command-a-03-2025", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return CHAT.parse(request("/v2/chat", body), Target("cohere"), "cohere-python")


def meter(call: Call, status: int = 200, kind: str = "text/event-stream") -> Meter:
    return CHAT.meter(call, b"", ResponseHead(status, kind), len)


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def test_a_chat_is_read_with_its_documents_and_limit() -> None:
    """Documents, tools and thinking are input that the body shows; the limit is the request's own."""
    call = chat(
        max_tokens=50,
        stream=True,
        documents=["Emperor penguins", {"id": "d", "data": {"text": "are tall"}}],
        tools=[{"type": "function", "function": {"name": "find"}}],
    )
    assert (call.dialect, call.provider, call.model) == ("cohere.chat", "cohere", "command-a-03-2025")
    assert (call.streamed, call.max_output_tokens, call.hidden_output_tokens) == (True, 50, 0)
    assert call.content.messages == 3
    assert not call.content.opaque
    assert any("are tall" in text for text in call.content.texts)
    assert call.content.tool_bytes > 0


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"model":"m","messages":{}}', b'{"model":"m","stream":1}'])
def test_an_odd_chat_is_refused(body: bytes) -> None:
    """What can't be understood can't be bounded."""
    with pytest.raises(UnreadableRequest):
        CHAT.parse(request("/v2/chat", body), Target("cohere"), "")


def test_an_answer_can_be_shortened() -> None:
    """The limit is set, every other byte stays."""
    body = b'{"model":"m", "messages":[]}'
    assert json.loads(CHAT.amend(chat(), body, 100))["max_tokens"] == 100
    assert CHAT.amend(chat(), body, None) == body


def test_a_refusal_is_shaped_as_cohere_does_and_not_repeated() -> None:
    """Its SDK repeats 408, 409, 429 and 5xx (`_should_retry`), whatever the headers say."""
    client = client_name({"user-agent": "cohere/7.3.1"})
    assert client == "cohere-python"
    for kind, expected in (("spent", 402), ("reserved", 402), ("store", 402), ("unreadable", 400)):
        status = refusal_status("cohere.chat", client, kind, None)  # type: ignore[arg-type]
        assert status == expected
    response = CHAT.refusal(None, request("/v2/chat", b""), REFUSAL, 402)
    assert json.loads(response.body) == {"message": REFUSAL.message}


def test_a_cut_ends_the_stream_as_cohere_ends_one_that_fails() -> None:
    """An event that the SDK understands, with our message."""
    stream = meter(chat(stream=True))
    stream.feed(event("content-delta", index=0, delta={"message": {"content": {"text": "Hi"}}}))
    [name, data] = CHAT.cut(chat(), REFUSAL, stream).decode().strip().split("\n")
    assert name == "event: message-end"
    assert json.loads(data.removeprefix("data: "))["delta"] == {"error": REFUSAL.message, "finish_reason": "ERROR"}
    assert EMBED.cut(chat(), REFUSAL, stream) == b""


def test_what_was_streamed_is_counted_until_the_usage_comes() -> None:
    """Text, thinking, plans and tool calls are output; the names of types are not."""
    stream = meter(chat(stream=True))
    for message in (
        {"content": {"type": "thinking", "thinking": "hmm"}},
        {"content": {"text": "four"}},
        {"tool_plan": "find"},
        {"tool_calls": {"id": "t", "type": "function", "function": {"name": "find", "arguments": ""}}},
    ):
        stream.feed(event("content-delta", index=0, delta={"message": message}))
    assert stream.reading.counted_output_tokens == 3 + 4 + 4 + 32 + 4
    assert stream.reading.usage is None


def test_an_error_in_the_stream_is_seen() -> None:
    """Cohere ends a failed stream with an event, which may still tell a usage."""
    stream = meter(chat(stream=True))
    usage = {"billed_units": {"input_tokens": 3.0, "output_tokens": 0.0}}
    feed_all(stream, [event("message-end", delta={"finish_reason": "ERROR", "error": "boom", "usage": usage})])
    assert stream.reading.failed
    assert stream.reading.usage == Usage(input_tokens=3)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"billed_units": {"input_tokens": 1.2, "output_tokens": 2}}, Usage(2, 2)),
        ({"tokens": {"input_tokens": 9, "output_tokens": 2}}, Usage(9, 2)),
        ({"billed_units": {"output_tokens": 2}, "tokens": {"input_tokens": 9, "output_tokens": 3}}, Usage(9, 2)),
        ({"billed_units": {"input_tokens": 1, "output_tokens": 2, "search_units": 1}}, Usage(1, 2, search_units=1)),
        ({"billed_units": {"input_tokens": 1}}, None),
        ({"billed_units": {"input_tokens": -1, "output_tokens": 2}}, None),
        ({"billed_units": {"input_tokens": "1", "output_tokens": 2}}, None),
        ({"billed_units": None}, None),
        (None, None),
    ],
)
def test_billed_units_come_before_tokens_and_odd_ones_are_no_usage(usage: Any, expected: Usage | None) -> None:
    """A part of a unit counts as one; a usage that is silent about either side is not the last word."""
    body = meter(chat(), kind="application/json")
    feed_all(body, [json.dumps({"message": {"content": [{"type": "text", "text": "Hi"}]}, "usage": usage}).encode()])
    assert body.reading.usage == expected
    assert body.reading.final is (expected is not None)
    assert body.reading.counted_output_tokens == 2


def test_an_embedding_of_images_is_read() -> None:
    """Images stand in data URLs; what can't be seen is refused or opaque."""
    call = EMBED.parse(
        request("/v2/embed", {"model": "embed-v4.0", "images": [PIXEL], "texts": ["a"]}), Target("cohere"), ""
    )
    assert [(media.kind, media.width_px) for media in call.content.media] == [("image", 1)]
    assert not call.has_output
    for body in (
        {"model": "embed-v4.0", "images": ["https://example.com/a.png"]},
        {"model": "embed-english-v3.0", "images": [PIXEL]},
    ):
        with pytest.raises(UnreadableRequest):
            EMBED.parse(request("/v2/embed", body), Target("cohere"), "")


@pytest.mark.parametrize(
    ("documents", "query", "limit", "units"),
    [
        (["a"] * 100, "q", None, 1),
        (["a"] * 101, "q", None, 2),
        (["a" * 499] * 100, "q", None, 1),
        (["a" * 500] * 100, "q", None, 2),
        (["a" * 100_000] * 100, "q", 499, 1),
        (["a" * 251] * 100, "q" * 4_000, None, 2),
        ([{"text": "a"}], "q", None, 1),
        ([], "q", None, 1),
    ],
)
def test_search_units_are_bounded(documents: list[Any], query: str, limit: int | None, units: int) -> None:
    """A hundred documents to the unit; a long one counts as several."""
    body = {"model": "rerank-v3.5", "query": query, "documents": documents, "max_tokens_per_doc": limit}
    call = RERANK.parse(request("/v2/rerank", body), Target("cohere"), "")
    assert call.unit_bound == Usage(search_units=units)


@pytest.mark.parametrize("answer", [b"", b"[]", b"{}", b'{"meta":{"billed_units":{"images":2}}}', b'{"meta":1}'])
def test_an_answer_without_billed_units_is_never_free(answer: bytes) -> None:
    """It is said not to be understood, so the bound is posted."""
    call = RERANK.parse(request("/v2/rerank", {"model": "m", "query": "q", "documents": ["d"]}), Target("cohere"), "")
    found = RERANK.meter(call, b"", ResponseHead(200, "application/json"), len)
    feed_all(found, [answer])
    assert found.reading.unreadable
    assert found.reading.usage is None
    failed = RERANK.meter(call, b"", ResponseHead(500, "application/json"), len)
    feed_all(failed, [answer])
    assert failed.reading.failed


def test_json_lines_are_read_as_events_are() -> None:
    """A client that does not take an event stream gets lines; by any split they come to the same, and can be cut."""
    usage = {"billed_units": {"input_tokens": 3, "output_tokens": 4}}
    events = (
        {"type": "content-delta", "delta": {"message": {"content": {"text": "four"}}}},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}},
    )
    data = b"".join(json.dumps(one).encode() + b"\n" for one in events)
    for chunks in ([data], byte_by_byte(data), [data[:-1]]):
        found = meter(chat(stream=True), kind="application/stream+json")
        assert feed_all(found, chunks) == b"".join(chunks)
        assert (found.reading.usage, found.reading.final, found.reading.counted_output_tokens) == (Usage(3, 4), True, 4)
    found = meter(chat(stream=True), kind="application/stream+json")
    assert found.feed(data[:10]) == b""
    cut = json.loads(CHAT.cut(chat(), REFUSAL, found))
    assert cut["delta"]["finish_reason"] == "ERROR"


def test_an_endless_line_is_passed_and_not_kept() -> None:
    """Memory stays bounded, and what can't be read is said to be so."""
    found = ChatLinesMeter(len)
    found._splitter = LineSplitter(100)
    assert found.feed(b"a" * 101) == b"a" * 101
    assert found.feed(b"b\n") == b"b\n"
    assert found.reading.unreadable
    assert CHAT.cut(chat(), REFUSAL, found).startswith(b"\n{")


@given(st.binary(max_size=300), st.sampled_from(["text/event-stream", "application/stream+json", "application/json"]))
@settings(deadline=None)
def test_no_bytes_raise(data: bytes, kind: str) -> None:
    """Whatever comes passes unchanged, and nothing leaves the meter."""
    found = meter(chat(stream=kind != "application/json"), kind=kind)
    assert feed_all(found, [data]) == data
