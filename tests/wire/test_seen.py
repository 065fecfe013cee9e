"""What earlier responses bound: the conversations that later requests only name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmcap_addon.call import Call
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.openai_responses import ResponsesDialect
from llmcap_addon.wire.seen import MAX_ID_CHARS, MAX_SEEN, TOKENS_PER_ITEM, Seen

HOST = "api.openai.com"
SSE = "text/event-stream"


def parsed(dialect: ResponsesDialect, host: str = HOST, **fields: Any) -> Call:
    body = {"model": "gpt-5.5", "input": "next", **fields}
    request = Request("POST", host, "/v1/responses", body=json.dumps(body).encode())
    return dialect.parse(request, Target("openai"), "test")


def answer(dialect: ResponsesDialect, call: Call, *, streamed: bool, usage: Any, **fields: Any) -> None:
    """Let a response with this usage end."""
    response = {"id": "resp_1", "status": "completed", "output": [{}, {}], "usage": usage, **fields}
    if streamed:
        event = {"type": "response.completed", "response": response}
        body, content_type = b"data: " + json.dumps(event).encode() + b"\n\n", SSE
    else:
        body, content_type = json.dumps(response).encode(), "application/json"
    meter = dialect.meter(call, b"{}", ResponseHead(200, content_type), len)
    meter.feed(body)
    meter.end()


USAGE = {"input_tokens": 900, "output_tokens": 100, "total_tokens": 1000}


@pytest.mark.parametrize("streamed", [True, False])
def test_a_response_that_was_seen_bounds_the_conversation_it_ends(streamed: bool) -> None:
    """Its input and output, and what wraps each item of it, are all that the next request can add to its own body."""
    dialect = ResponsesDialect()
    answer(dialect, parsed(dialect), streamed=streamed, usage=USAGE)
    content = parsed(dialect, previous_response_id="resp_1").content
    assert not content.opaque
    assert content.known_tokens == 1000 + TOKENS_PER_ITEM * 3
    assert content.text_bytes == len("next")


@pytest.mark.parametrize("named", ["resp_2", "", 7, ["resp_1"], {"id": "resp_1"}])
def test_a_response_that_nobody_saw_is_bounded_by_the_context_window(named: Any) -> None:
    """Whatever stands there and is not known may be a whole window long."""
    dialect = ResponsesDialect()
    answer(dialect, parsed(dialect), streamed=True, usage=USAGE)
    assert parsed(dialect, previous_response_id=named).content.opaque


def test_what_another_model_or_host_counted_bounds_nothing() -> None:
    """Tokens of one model are not another's, and ids of one host not another's."""
    dialect = ResponsesDialect()
    answer(dialect, parsed(dialect), streamed=True, usage=USAGE)
    assert parsed(dialect, previous_response_id="resp_1", model="gpt-4o").content.opaque
    assert parsed(dialect, host="eu.api.openai.com", previous_response_id="resp_1").content.opaque


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0},
        {"input_tokens": -1, "output_tokens": 5, "total_tokens": 4},
    ],
)
def test_a_response_without_a_believable_input_tells_nothing(usage: Any) -> None:
    """A prewarm that is billed nothing still stands for input."""
    dialect = ResponsesDialect()
    answer(dialect, parsed(dialect), streamed=False, usage=usage)
    assert parsed(dialect, previous_response_id="resp_1").content.opaque


def test_a_stored_conversation_beside_it_is_still_not_bounded() -> None:
    """What `conversation` or a stored `prompt` adds is nowhere told."""
    dialect = ResponsesDialect()
    answer(dialect, parsed(dialect), streamed=True, usage=USAGE)
    assert parsed(dialect, previous_response_id="resp_1", prompt={"id": "pmpt_1"}).content.opaque
    assert parsed(dialect, conversation="conv_1").content.opaque


def test_memory_is_bounded() -> None:
    """The oldest are forgotten, and no id is kept that is none."""
    seen = Seen()
    for number in range(MAX_SEEN + 10):
        seen.note(HOST, f"resp_{number}", "gpt-5.5", 1, 0)
    assert seen.tokens(HOST, "resp_9", "gpt-5.5") is None
    assert seen.tokens(HOST, "resp_10", "gpt-5.5") == 1 + TOKENS_PER_ITEM
    seen.note(HOST, "x" * (MAX_ID_CHARS + 1), "gpt-5.5", 1, 0)
    assert seen.tokens(HOST, "x" * (MAX_ID_CHARS + 1), "gpt-5.5") is None
