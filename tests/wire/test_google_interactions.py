"""Tests of Google's interactions: requests and what of them is refused, answers without a last word, cuts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Terms, Usage
from llmcap_addon.wire.dialect import Meter, Refusal, Request, ResponseHead, Target
from llmcap_addon.wire.google_interactions import INTERACTIONS, MAX_DEPTH
from llmcap_addon.wire.routes import classify
from tests.corpus.case import DATA, of
from tests.wire.corpus import feed_all

HOST = "generativelanguage.googleapis.com"


def request(**body: Any) -> Request:
    full = {"model": "gemini-2.5-flash", "input": "hi", **body}
    return Request("POST", HOST, "/v1beta/interactions", body=json.dumps(full).encode())


def parse(**body: Any) -> Call:
    return INTERACTIONS.parse(request(**body), Target("google"), "test")


def meter(*, streamed: bool = False, **body: Any) -> Meter:
    kind = "text/event-stream" if streamed else "application/json"
    return INTERACTIONS.meter(parse(**body), b"", ResponseHead(200, kind), len)


def test_a_request() -> None:
    """Texts, media, tools and limits are read, whichever way the fields are named."""
    image = {"type": "image", "data": "QUJD", "mime_type": "image/png", "resolution": "low"}
    steps = [{"type": "user_input", "content": [{"type": "text", "text": "one"}, image]}]
    call = parse(
        input=steps,
        system_instruction="two",
        stream=True,
        service_tier="flex",
        generation_config={"max_output_tokens": 50},
        tools=[{"type": "function", "name": "three"}, {"type": "google_search"}, {"type": "google_maps"}],
    )
    assert (call.dialect, call.model, call.streamed, call.max_output_tokens) == (
        "google.interactions", "gemini-2.5-flash", True, 50
    )  # fmt: skip
    joined = " ".join(call.content.texts)
    assert all(word in joined for word in ("one", "two", "three"))
    assert "QUJD" not in joined
    assert [(part.kind, part.detail) for part in call.content.media] == [("image", "low")]
    assert (call.content.server_turns, call.content.web_searches) == (DEFAULT_SERVER_TURNS, DEFAULT_SERVER_TURNS)
    assert call.unit_bound == Usage(maps_requests=DEFAULT_SERVER_TURNS)
    assert call.terms == Terms("flex")
    assert not call.content.opaque
    assert parse(generationConfig={"maxOutputTokens": 7}).max_output_tokens == 7


@pytest.mark.parametrize(
    "body",
    [
        {"previous_interaction_id": "v1_a"},
        {"cached_content": "cachedContents/a"},
        {"input": {"type": "document", "uri": "gs://a/b.pdf"}},
        {"tools": [{"type": "mcp_server", "url": "https://example.com"}]},
    ],
)
def test_what_the_body_does_not_show(body: dict[str, Any]) -> None:
    """Stored conversations, caches, files and servers make the input opaque."""
    assert parse(**body).content.opaque


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({"agent": "deep-research-pro"}, "agent"),
        ({"environment": "env_1"}, "environment"),
        ({"model": None}, "model"),
        ({"input": 3}, "input"),
        ({"generation_config": {"max_output_tokens": -1}}, "maxOutputTokens"),
    ],
)
def test_what_can_not_be_bounded_is_refused(body: dict[str, Any], what: str) -> None:
    """An agent, an answer that comes later and a machine of its own are refused, by name and with the reason."""
    with pytest.raises(UnreadableRequest, match=what):
        parse(**body)


def test_deep_nesting() -> None:
    """An input nested beyond any use is refused instead of overflowing the stack."""
    value: object = "x"
    for _ in range(MAX_DEPTH + 1):
        value = {"type": "function_result", "result": value}
    with pytest.raises(UnreadableRequest, match="nested"):
        parse(input=value)


def test_the_limit() -> None:
    """A limit is set where the body has it; without one to set the same bytes go out."""
    body = request(generation_config={"max_output_tokens": 500}).body
    assert INTERACTIONS.amend(parse(), body, None) is body
    assert json.loads(INTERACTIONS.amend(parse(), body, 90))["generation_config"] == {"max_output_tokens": 90}
    camel = b'{"generationConfig":{"maxOutputTokens":500}}'
    assert json.loads(INTERACTIONS.amend(parse(), camel, 9)) == {"generationConfig": {"maxOutputTokens": 9}}


def test_routes() -> None:
    """Creating an interaction costs money; reading and cancelling one does not, but may tell what it cost."""
    assert classify(request(), {}).dialect_name == "google.interactions"
    assert classify(request(), {}).kind == "metered"
    assert classify(Request("POST", HOST, "/v1beta/interactions/v1_a/cancel"), {}).kind == "watched"
    assert classify(Request("GET", HOST, "/v1beta/interactions/v1_a"), {}).kind == "watched"
    assert classify(Request("DELETE", HOST, "/v1beta/interactions/v1_a"), {}).kind == "free"


@given(*(st.integers(0, 500) for _ in range(5)))
def test_usage_is_never_below_its_total(inputs: int, output: int, thoughts: int, tools: int, beyond: int) -> None:
    """Whatever the parts include of each other, what is billed is not less than the total or any part."""
    total = inputs + output + beyond
    usage = {
        "total_input_tokens": inputs,
        "total_output_tokens": output,
        "total_thought_tokens": thoughts,
        "total_tool_use_tokens": tools,
        "total_tokens": total,
    }
    told = meter()
    feed_all(told, [json.dumps({"status": "completed", "usage": usage}).encode()])
    read = told.reading.usage
    assert told.reading.final
    assert read is not None
    assert read.input_tokens + read.output_tokens >= total
    assert read.output_tokens >= max(output, thoughts)
    assert read.input_tokens >= max(inputs, tools)


@pytest.mark.parametrize("bad", ['"7"', "-1", "1.5", "true", "{}", "1e400"])
def test_a_count_that_is_none(bad: str) -> None:
    """A number that is no count makes the answer unreadable, and raises nothing."""
    told = meter()
    feed_all(told, [b'{"status": "completed", "usage": {"total_output_tokens": %s}}' % bad.encode()])
    assert told.reading.unreadable
    assert not told.reading.final


def test_output_is_counted() -> None:
    """Until the end, shown output is counted, pictures and calls too; signatures, results and inputs are not."""
    told = meter(streamed=True)
    events = [
        {"event_type": "step.start", "step": {"type": "function_call", "name": "f", "id": "x", "arguments": {}}},
        {"event_type": "step.delta", "delta": {"type": "arguments_delta", "arguments": '{"a":1}'}},
        {"event_type": "step.delta", "delta": {"type": "thought_summary", "content": {"type": "text", "text": "hm"}}},
        {"event_type": "step.delta", "delta": {"type": "thought_signature", "signature": "c2ln"}},
        {"event_type": "step.delta", "delta": {"type": "google_search_result", "result": "long" * 99}},
    ]
    told.feed(b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events))
    assert len("f") + len('{"a":1}') + len("hm") <= told.reading.counted_output_tokens < 40
    told.feed(b'data: {"event_type": "step.delta", "delta": {"type": "image", "data": "QUJD"}}\n\n')
    assert told.reading.counted_output_tokens > 2_000


def test_errors_and_answers_that_come_later() -> None:
    """An error ends the stream as failed; an interaction still in progress has no last word."""
    told = meter(streamed=True)
    told.feed(b'event: error\ndata: {"event_type": "error", "error": {"code": "500", "message": "x"}}\n\n')
    assert told.reading.failed
    later = meter()
    feed_all(later, [b'{"status": "in_progress", "usage": {"total_output_tokens": 0}}'])
    assert not later.reading.final
    failed = meter()
    feed_all(failed, [b'{"error": {"code": 400, "message": "x"}}'])
    assert failed.reading.failed
    assert INTERACTIONS.meter(parse(), b"", ResponseHead(500), len).reading.failed


def test_cut_and_refusal() -> None:
    """A stream ends in an error event with our message, a whole answer just breaks off; a refusal is Google's error."""
    refusal = Refusal("spent", "LLMCap: spent.")
    [case] = [case for case in of("google") if case.raw["response"] == "interaction_stream.sse"]
    live = case.meter()
    shown = live.feed(case.data[:700])
    assert shown.endswith(b"\n\n")
    event = INTERACTIONS.cut(parse(stream=True), refusal, live)
    told = json.loads(event.partition(b"data: ")[2])
    assert (told["event_type"], told["error"]["message"]) == ("error", "LLMCap: spent.")
    assert INTERACTIONS.cut(parse(), refusal, meter()) == b""
    assert json.loads(INTERACTIONS.refusal(None, request(), refusal, 429).body)["error"]["code"] == 429


# ── in the background ──


@pytest.mark.parametrize(
    ("name", "members", "job", "final"),
    [
        ("interaction_running.json", {}, "v1_a", False),
        ("interaction.json", {}, "", True),
        ("interaction_broken.sse", {"stream": True}, "v1_a", False),
        ("interaction_stream.sse", {"stream": True}, "v1_a", True),
        ("interaction_broken.sse", {"stream": True, "background": False}, "", False),
    ],
)
def test_what_goes_on_behind_its_answer_is_named(name: str, members: dict[str, Any], job: str, *, final: bool) -> None:
    """Its usage comes with a later answer, unless its stream ends by itself; one that was not asked for does not."""
    body = {"model": "gemini-2.5-flash", "input": "hi", "background": True} | members
    asked = request(**body)
    call = INTERACTIONS.parse(asked, Target("google"), "")
    assert call.bills_after_disconnect is body["background"]
    head = ResponseHead(200, "text/event-stream" if name.endswith("sse") else "application/json")
    reads = INTERACTIONS.meter(call, asked.body, head, len)
    feed_all(reads, [(DATA / "google" / name).read_bytes()])
    assert (reads.reading.job, reads.reading.final) == (job, final)
