from __future__ import annotations

import json
from typing import Any

import pytest

from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.openai_chat import CHAT
from llmcap_addon.wire.openai_embeddings import EMBEDDINGS
from tests.wire.corpus import feed_all, one

MODELS = {"my-gpt": "gpt-4o", "thinker": "o3"}


def parse(version: str = "2024-10-21", deployment: str = "my-gpt", **body: Any) -> Any:
    path = f"/openai/deployments/{deployment}/chat/completions"
    data = json.dumps({"messages": [{"role": "user", "content": "Hi"}], **body}).encode()
    request = Request("POST", "r.openai.azure.com", path, {"api-version": version}, {}, data)
    return CHAT.parse(request, Target("azure", deployment, MODELS, "global"), "")


def test_a_deployment_stands_for_its_model() -> None:
    """In any case; its zone decides the price; and what no one mapped keeps its name, and may hide reasoning."""
    call = parse(deployment="My-GPT")
    assert (call.model, call.terms.geography, call.hidden_output_tokens) == ("gpt-4o", "global", 0)
    assert parse(deployment="thinker").hidden_output_tokens is None
    assert (parse(deployment="prod").model, parse(deployment="prod").hidden_output_tokens) == ("prod", None)
    request = Request("POST", "r.openai.azure.com", "/openai/v1/embeddings", body=b'{"input":"a","model":"thinker"}')
    assert EMBEDDINGS.parse(request, Target("azure", "", MODELS), "").model == "o3"


@pytest.mark.parametrize(
    ("version", "takes"),
    [
        ("2024-09-01-preview", True), ("2024-10-21", True), ("2025-04-01-preview", True), ("preview", True), ("v1", True),
        ("", True), ("2024-08-01-preview", False), ("2024-06-01", False), ("2023-05-15", False),
    ],
)  # fmt: skip
def test_old_versions_are_not_asked_for_usage(version: str, takes: bool) -> None:
    """They answer 400 to `stream_options`, and know only the old name of a limit."""
    call = parse(version, stream=True)
    body = b'{"messages":[],"stream":true}'
    assert call.takes_stream_options is takes
    asked = json.loads(CHAT.amend(call, body, 9))
    assert ("stream_options" in asked, asked["max_tokens"]) == (takes, 9)


def test_a_model_that_reasons_is_limited_under_the_new_name() -> None:
    """It refuses the old one."""
    asked = json.loads(CHAT.amend(parse(deployment="thinker"), b'{"messages":[]}', 9))
    assert asked == {"max_completion_tokens": 9, "messages": []}


def test_own_data_is_not_asked_for_usage() -> None:
    """Requests with `data_sources` are refused when they ask."""
    assert not parse(data_sources=[{"type": "azure_search"}]).takes_stream_options


@pytest.mark.parametrize(
    ("status", "code", "billed"),
    [
        (400, "content_filter", True), (400, "context_length_exceeded", True), (408, "timeout", True),
        (400, "invalid_value", False), (401, "content_filter", False), (429, "429", False), (500, "", False),
        (400, {"odd": 1}, False),
    ],
)  # fmt: skip
def test_errors_behind_which_azure_worked_are_not_free(status: int, code: object, billed: bool) -> None:
    """They report no usage, so the reading can't be read, and is posted from above; others are void."""
    body = json.dumps({"error": {"code": code, "message": "no"}}).encode()
    meter = CHAT.meter(parse(), b"{}", ResponseHead(status, "application/json"), one)
    assert feed_all(meter, [body]) == body
    assert meter.reading.failed
    assert (meter.reading.usage == Usage(), bool(meter.reading.unreadable), meter.reading.final) == (
        billed,
        billed,
        False,
    )


def test_a_stream_begins_with_what_the_filter_found() -> None:
    """That chunk has neither model nor choices; it reaches the client, and says nothing."""
    meter = CHAT.meter(parse(stream=True), b'{"stream":true}', ResponseHead(200, "text/event-stream"), one)
    first = b'data: {"choices":[],"id":"","model":"","object":"","prompt_filter_results":[]}\n\n'
    assert meter.feed(first) == first
    assert (meter.reading.model, meter.reading.counted_output_tokens, meter.reading.usage) == ("", 0, None)
