from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.call import DEFAULT_SERVER_TURNS, Media
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Refusal, Request, ResponseHead, Target
from llmcap_addon.wire.openai_responses import RESPONSES, SEARCHES_PER_TURN
from tests.wire.corpus import FOLDER, feed_all, make_call, one
from tests.wire.sdk import Answered, streamed

SPENT = Refusal("spent", 'LLMCap: stream cut, cap "day" of $10 is spent.', cap="day")
REQUEST = Request("POST", "api.openai.com", "/v1/responses")
SSE = "text/event-stream"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def parse(body: dict[str, Any], provider: str = "openai") -> Any:
    data = {"model": "gpt-4o", "input": "Hi", **body}
    return RESPONSES.parse(
        Request("POST", "api.openai.com", "/v1/responses", body=json.dumps(data).encode()), Target(provider), ""
    )


def ask(client: openai.OpenAI, *, stream: bool = False) -> object:
    answer = client.responses.create(model="gpt-4o", input="Hi", stream=stream)
    return list(answer) if isinstance(answer, openai.Stream) else answer


# ── requests ──


def test_a_request_is_understood() -> None:
    """Instructions, input, limit, tier and a schema come from the body."""
    call = parse(
        {
            "instructions": "Be brief",
            "max_output_tokens": 300,
            "service_tier": "priority",
            "stream": True,
            "text": {"format": {"type": "json_schema", "schema": {}}},
        }
    )
    assert (call.dialect, call.model, call.streamed, call.max_output_tokens) == (
        "openai.responses",
        "gpt-4o",
        True,
        300,
    )
    assert call.terms.service_tier == "priority"
    assert call.content.texts[:2] == ("Be brief", "Hi")
    assert call.content.tool_bytes > 0
    assert (call.hidden_output_tokens, call.content.opaque) == (0, False)


@pytest.mark.parametrize(
    "body",
    [
        {"model": None},
        {"background": "yes"},
        {"max_output_tokens": "inf"},
        {"max_output_tokens": 0},
        {"max_tool_calls": -1},
        {"stream": 1},
        {"tools": [{"type": "image_generation"}]},
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
        {"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]},
    ],
)
def test_a_request_whose_cost_cannot_be_bounded_is_unreadable(body: dict[str, Any]) -> None:
    """What is billed later, elsewhere or by another measure is refused with a reason."""
    with pytest.raises(UnreadableRequest):
        parse(body)


def test_items_are_walked() -> None:
    """Texts, calls, results, images and inline files of a conversation count, each as what it is."""
    image = "data:image/gif;base64,R0lGODlhQAHIAAAA"
    content = parse(
        {
            "store": False,
            "input": [
                {
                    "role": "user",
                    "content": [{"type": "input_text", "text": "look"}, {"type": "input_image", "image_url": image}],
                },
                {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "gAAA"},
                {"type": "function_call", "name": "f", "arguments": '{"a":1}', "call_id": "c"},
                {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "out"}]},
                {
                    "type": "computer_call_output",
                    "call_id": "d",
                    "output": {"type": "computer_screenshot", "image_url": image},
                },
                {"type": "image_generation_call", "id": "ig", "result": "R0lGODlhQAHIAAAA"},
                {
                    "role": "user",
                    "content": [{"type": "input_file", "file_data": "data:application/pdf;base64,JVBERi0="}],
                },
                {"type": "web_search_call", "id": "ws", "action": {"type": "search", "query": "news"}},
            ],
        }
    ).content
    assert content.media == (
        *(Media("image", 12, 320, 200),) * 3,
        Media("document", 6),
    )
    assert {"look", "gAAA", '{"a":1}', "out"} <= set(content.texts)
    assert (content.messages, content.opaque) == (8, False)


@pytest.mark.parametrize(
    "body",
    [
        {"previous_response_id": "resp_that_nobody_saw"},
        {"conversation": "conv_1"},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"id": "msg_1"}]},
        {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://example.org/a.pdf"}]}]},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"type": "mcp", "server_label": "x", "server_url": "https://example.org"}]},
    ],
)
def test_what_the_body_does_not_show_makes_it_opaque(body: dict[str, Any]) -> None:
    """Stored, addressed and searched input is bounded by the context window alone."""
    assert parse(body).content.opaque


def test_tools_that_run_at_the_provider_take_turns() -> None:
    """Searches are bounded by max_tool_calls, or by our assumption; tools that the client runs cost no turns."""
    own = [{"type": "function", "name": "f"}, {"type": "custom", "name": "apply_patch"}, {"type": "local_shell"}]
    content = parse({"tools": [*own, {"type": "shell", "environment": {"type": "local"}}]}).content
    assert (content.server_turns, content.web_searches, content.opaque, content.provider_tools) == (0, 0, False, 2)
    searching = parse({"tools": [*own, {"type": "web_search"}]}).content
    assert searching.server_turns == DEFAULT_SERVER_TURNS
    assert searching.web_searches == DEFAULT_SERVER_TURNS * SEARCHES_PER_TURN
    limited = parse({"tools": [{"type": "web_search_preview"}], "max_tool_calls": 3}).content
    assert (limited.server_turns, limited.web_searches) == (3, 3 * SEARCHES_PER_TURN)
    remote = parse({"tools": [{"type": "mcp", "server_label": "x"}]}).content
    assert (remote.server_turns, remote.web_searches) == (DEFAULT_SERVER_TURNS, 0)
    added = parse({"input": [{"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]}]})
    assert added.content.web_searches == DEFAULT_SERVER_TURNS * SEARCHES_PER_TURN


def test_compaction_is_a_pass_of_its_own_that_nobody_sees() -> None:
    """It reads the input again and writes what the stream does not show."""
    call = parse({"context_management": [{"type": "compaction", "compact_threshold": 1000}]})
    assert call.content.server_turns == 1
    assert call.hidden_output_tokens is None


@pytest.mark.parametrize(
    ("body", "hidden"),
    [
        ({"model": "gpt-5-codex"}, None),
        ({"model": "gpt-5.1", "reasoning": {"effort": "none"}}, 0),
        ({"model": "gpt-5.1", "reasoning": {"effort": "low", "summary": "auto"}}, None),
        ({"model": "gpt-4.1-mini"}, 0),
    ],
)
def test_hidden_reasoning_is_foreseen(body: dict[str, Any], hidden: int | None) -> None:
    """A summary is no measure of the reasoning behind it."""
    assert parse(body).hidden_output_tokens == hidden


@given(st.dictionaries(st.sampled_from(["input", "instructions", "tools", "text", "reasoning", "prompt"]), JSON), JSON)
def test_no_body_raises_anything_but_unreadable(body: dict[str, Any], item: Any) -> None:
    """Whatever types stand where, a request is understood or UnreadableRequest."""
    for given_input in ([item], [{"type": item}], [{"type": "message", "content": [item]}], item):
        try:
            parse({"input": given_input} | body)
        except UnreadableRequest:
            pass


def test_only_the_limit_is_amended() -> None:
    """The same bytes go out unless the answer is to be limited, and then nothing else changes."""
    body = b'{"model":"gpt-5", "input":"Hi"}'
    assert RESPONSES.amend(make_call(), body, None) is body
    assert RESPONSES.amend(make_call(editable=False), body, 9) is body
    assert RESPONSES.amend(make_call(), body, 4096) == b'{"max_output_tokens":4096,' + body[1:]
    assert RESPONSES.amend(make_call(), b'{"max_output_tokens": 9999}', 16) == b'{"max_output_tokens": 16}'


# ── metering ──


def stream_reading(*events: dict[str, Any]) -> Any:
    meter = RESPONSES.meter(make_call("openai.responses"), b"{}", ResponseHead(200, SSE), one)
    for event in events:
        data = b"event: %s\ndata: %s\n\n" % (str(event.get("type")).encode(), json.dumps(event).encode())
        assert meter.feed(data) == data
    return meter.reading


def test_what_was_counted_stands_when_the_stream_breaks_off() -> None:
    """Deltas of text, summaries and arguments, a function's name, and searches are known at every moment."""
    reading = stream_reading(
        {"type": "response.created", "response": {"id": "resp_1", "model": "gpt-5", "usage": None}},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "delta": "a"},
        {"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "name": "f"}},
        {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{"},
        {"type": "response.function_call_arguments.done", "output_index": 1, "arguments": "{"},
        {"type": "response.output_item.done", "output_index": 1, "item": {"type": "function_call", "arguments": "{"}},
        {
            "type": "response.output_item.done",
            "output_index": 2,
            "item": {"type": "web_search_call", "action": {"type": "search", "queries": ["a", "b"]}},
        },
        {"type": "response.refusal.delta", "output_index": 3, "delta": "no"},
    )
    assert (reading.counted_output_tokens, reading.counted_web_search_requests) == (6, 2)
    assert (reading.usage, reading.final, reading.model) == (None, False, "gpt-5")


def test_an_item_that_came_without_deltas_is_counted_when_it_is_done() -> None:
    """Compatible hosts may send whole items; encrypted reasoning is no text."""
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "whole"}]}
    sealed = {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": "gAAAA"}
    reading = stream_reading(
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.output_item.done", "output_index": 1, "item": sealed},
    )
    assert reading.counted_output_tokens == 1


@pytest.mark.parametrize(
    ("tool_usage", "searches"),
    [({"web_search": {"num_requests": 5}}, 5), (None, 3), ({}, 3), ({"web_search": {"num_requests": True}}, 3)],
)
def test_searches_are_those_reported_or_else_those_seen(tool_usage: Any, searches: int) -> None:
    """The provider's count wins over ours, when it is one."""
    output = [
        {"type": "web_search_call", "action": {"type": "search"}},
        {"type": "web_search_call", "action": {"type": "search", "queries": ["a", "b"]}},
        {"type": "web_search_call", "action": {"type": "open_page"}},
    ]
    usage = {"input_tokens": 1, "output_tokens": 1}
    response = {"output": output, "usage": usage, "tool_usage": tool_usage}
    reading = stream_reading({"type": "response.completed", "response": response})
    assert reading.usage == Usage(1, 1, web_search_requests=searches)


@pytest.mark.parametrize("value", [-1, True, "12", None, 10**12])
def test_a_usage_that_is_not_sane_is_not_believed(value: Any) -> None:
    """The last event's usage is sound, or the call is unreadable."""
    usage = {"input_tokens": 5, "output_tokens": value}
    reading = stream_reading({"type": "response.completed", "response": {"usage": usage}})
    assert (reading.usage, reading.final) == (None, False)
    assert "output_tokens" in reading.unreadable


@given(
    JSON, st.sampled_from(["response.completed", "response.failed", "x.delta", "error", "response.output_item.done"])
)
def test_no_event_raises(payload: Any, kind: str) -> None:
    """Any JSON may stand in an event."""
    stream_reading(
        {"type": kind, "response": payload, "delta": payload, "item": payload, "output_index": payload},
        {"type": payload},
        {"type": kind, "response": {"usage": payload, "output": payload, "tool_usage": payload, "id": payload}},
    )


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"<html>", b'{"output":'])
def test_an_answer_that_is_not_understood_is_unreadable(body: bytes) -> None:
    """Such a call is settled at its bound."""
    meter = RESPONSES.meter(
        make_call("openai.responses", streamed=False), b"{}", ResponseHead(200, "application/json"), one
    )
    assert feed_all(meter, [body]) == body
    assert meter.reading.unreadable


# ── refusals and cuts ──


def test_a_refusal_raises_the_sdks_own_error_after_one_request() -> None:
    """Our message arrives, streamed or not, and the SDK does not retry."""
    for stream in (False, True):
        answered = Answered(RESPONSES.refusal(make_call(), REQUEST, SPENT, 429))
        raised = answered.error_of(lambda client, stream=stream: ask(client, stream=stream))  # type: ignore[misc]
        assert isinstance(raised, openai.RateLimitError)
        assert SPENT.message in raised.message
        assert answered.requests == 1


@pytest.mark.parametrize("length", [0, 1, 500, 1500, 2500, 4000])
def test_a_cut_raises_the_sdks_own_error_wherever_the_stream_stood(length: int) -> None:
    """Even in the middle of an event, the next thing the SDK sees is our error."""
    data = (FOLDER / "responses_stream.sse").read_bytes()
    meter = RESPONSES.meter(make_call("openai.responses"), b"{}", ResponseHead(200, SSE), one)
    shown = meter.feed(data[:length])
    answered = Answered(streamed(shown + RESPONSES.cut(make_call("openai.responses"), SPENT, meter)))
    raised = answered.error_of(lambda client: ask(client, stream=True))
    assert raised.message == SPENT.message
    assert answered.requests == 1


def test_a_cut_fails_the_response_that_was_streaming() -> None:
    """It is a response.failed of the same id with the next number, and the code that Codex stops at."""
    data = (FOLDER / "responses_stream.sse").read_bytes()
    meter = RESPONSES.meter(make_call("openai.responses"), b"{}", ResponseHead(200, SSE), one)
    meter.feed(data[:3000])
    name, line = RESPONSES.cut(make_call("openai.responses"), SPENT, meter).decode().strip().split("\n")
    event = json.loads(line.removeprefix("data: "))
    assert name == "event: response.failed"
    assert event["type"] == "response.failed"
    assert event["sequence_number"] == meter.read.sequence_number + 1 > 1  # type: ignore[attr-defined]
    assert event["response"]["id"] == "resp_68a1"
    assert event["response"]["model"] == "gpt-5-2025-08-07"
    assert event["response"]["error"] == {"code": "invalid_prompt", "message": SPENT.message}
    assert event["error"]["message"] == SPENT.message
