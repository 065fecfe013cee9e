from __future__ import annotations

import json
from typing import Any

import pytest

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.openai_completions import COMPLETIONS, DEFAULT_TOKENS
from tests.wire.corpus import one


def parse(provider: str = "openai", **body: Any) -> Any:
    data = json.dumps({"model": "gpt-3.5-turbo-instruct", "prompt": "Hi", **body}).encode()
    return COMPLETIONS.parse(Request("POST", "api.openai.com", "/v1/completions", body=data), Target(provider), "")


@pytest.mark.parametrize(
    ("prompt", "text_bytes", "prompts"),
    [("abc", 3, 1), (["ab", "cde"], 5, 2), ([1, 2, 3], 3, 1), ([[1, 2], [3]], 3, 2), (None, 0, 1), ([], 0, 1)],
)
def test_each_prompt_is_answered(prompt: Any, text_bytes: int, prompts: int) -> None:
    """Texts, tokens and lists of both; each has an answer of its own."""
    call = parse(prompt=prompt)
    assert (call.content.text_bytes, call.choices) == (text_bytes, prompts)


def test_answers_that_are_not_shown_are_billed() -> None:
    """With `best_of` more are made than `n`, so the output can't be seen in a stream."""
    call = parse(prompt=["a", "b"], n=2, best_of=5)
    assert (call.choices, call.hidden_output_tokens) == (10, None)
    assert (parse(n=3).choices, parse(n=3).hidden_output_tokens) == (3, 0)


def test_the_limit_is_16_at_openai_when_unset() -> None:
    """Others generate up to the model's own limit."""
    assert parse().max_output_tokens == DEFAULT_TOKENS
    assert parse("together").max_output_tokens is None
    assert (parse(max_tokens=0).max_output_tokens, parse(max_tokens=500).max_output_tokens) == (0, 500)


def test_a_suffix_is_read_too() -> None:
    """It is part of the prompt."""
    assert parse("mistral", suffix="wörld").content.text_bytes == 2 + 6


@pytest.mark.parametrize(
    "body",
    [{"prompt": 5}, {"prompt": {"a": 1}}, {"prompt": [{"a": 1}]}, {"n": 0}, {"max_tokens": "9"}, {"model": None}],
)
def test_what_cannot_be_bounded_is_unreadable(body: dict[str, Any]) -> None:
    """A wrong type is refused, not guessed at."""
    with pytest.raises(UnreadableRequest):
        parse(**body)


def test_usage_is_asked_for_and_the_limit_is_max_tokens() -> None:
    """A stream is asked for its usage, and limited under the only name there is; Mistral tells it unasked."""
    body = b'{"model":"m","prompt":"x","stream":true}'
    assert json.loads(COMPLETIONS.amend(parse(stream=True), body, 50)) == {
        "model": "m", "prompt": "x", "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 50,
    }  # fmt: skip
    assert COMPLETIONS.amend(parse("mistral", stream=True), body, None) == body


def test_the_chunk_we_asked_for_is_taken_out() -> None:
    """A client that did not ask for a usage does not see it, and it is read all the same."""
    body = b'{"model":"m","prompt":"x","stream":true}'
    meter = COMPLETIONS.meter(parse(stream=True), body, ResponseHead(200, "text/event-stream"), one)
    text = b'data: {"choices":[{"text":"a","index":0}],"usage":null}\n\n'
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":4,"completion_tokens":1,"total_tokens":5}}\n\n'
    assert meter.feed(text + usage + b"data: [DONE]\n\n") + meter.end() == text + b"data: [DONE]\n\n"
    assert meter.reading.usage == Usage(4, 1)
    assert meter.reading.final
