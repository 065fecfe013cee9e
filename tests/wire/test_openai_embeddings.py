from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Refusal, Request, ResponseHead, Target
from llmcap_addon.wire.openai_embeddings import EMBEDDINGS
from tests.wire.corpus import feed_all, make_call, one
from tests.wire.sdk import Answered


def parse(given: Any, model: Any = "text-embedding-3-small") -> Any:
    body = json.dumps({"model": model, "input": given}).encode()
    return EMBEDDINGS.parse(Request("POST", "api.openai.com", "/v1/embeddings", body=body), Target("openai"), "")


@pytest.mark.parametrize(
    ("given", "text_bytes", "messages"),
    [("abc", 3, 1), (["ab", "cde"], 5, 2), ([15339, 1917], 2, 1), ([[1, 2], [3]], 3, 2), ([], 0, 0)],
)
def test_input_is_counted(given: Any, text_bytes: int, messages: int) -> None:
    """Texts count their bytes, and each token number is one token; no output is billed."""
    call = parse(given)
    assert (call.content.text_bytes, call.content.messages) == (text_bytes, messages)
    assert (call.has_output, call.streamed) == (False, False)


@pytest.mark.parametrize("given", [None, 5, {"a": 1}])
def test_input_of_the_wrong_type_is_unreadable(given: Any) -> None:
    """What is neither a text nor a list can't be bounded."""
    with pytest.raises(UnreadableRequest):
        parse(given)


def test_what_is_no_text_makes_the_input_opaque() -> None:
    """Compatible hosts embed images by their address."""
    assert parse([{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]).content.opaque


def test_the_request_goes_out_as_it_came() -> None:
    """There is nothing to ask for and nothing to limit."""
    body = b'{"input":"a"}'
    assert EMBEDDINGS.amend(make_call("openai.embeddings"), body, 5) is body


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data":[],"usage":null}', b'{"usage":{"prompt_tokens":-1}}'])
def test_an_answer_without_sound_usage_is_unreadable(body: bytes) -> None:
    """Such a call is settled at its bound."""
    meter = EMBEDDINGS.meter(make_call("openai.embeddings"), b"{}", ResponseHead(200, "application/json"), one)
    assert feed_all(meter, [body]) == body
    assert meter.reading.unreadable


def test_usage_is_input_alone() -> None:
    """`total_tokens` repeats `prompt_tokens`."""
    meter = EMBEDDINGS.meter(make_call("openai.embeddings"), b"{}", ResponseHead(200, "application/json"), one)
    feed_all(meter, [b'{"usage":{"prompt_tokens":8,"total_tokens":8}}'])
    assert meter.reading.usage == Usage(8, 0)


def test_a_refusal_raises_the_sdks_own_error_after_one_request() -> None:
    """Our message arrives and the SDK does not retry."""
    refusal = Refusal("reserved", "LLMCap: reserved by others.", cap="c")
    answered = Answered(EMBEDDINGS.refusal(None, Request("POST", "api.openai.com", "/v1/embeddings"), refusal, 429))
    raised = answered.error_of(lambda client: client.embeddings.create(model="m", input="a"))
    assert isinstance(raised, openai.RateLimitError)
    assert raised.code == "llmcap_cap_reserved"
    assert "reserved by others" in raised.message
    assert answered.requests == 1
    assert EMBEDDINGS.cut(make_call(), refusal, EMBEDDINGS.meter(make_call(), b"", ResponseHead(200, ""), one)) == b""
