from __future__ import annotations

import json
from typing import Any

import pytest

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Reading, Share, Usage
from llmcap_addon.wire.anthropic import MESSAGES
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.openai_chat import CHAT
from llmcap_addon.wire.openai_responses import RESPONSES
from tests.wire.corpus import feed_all, make_call


def parsed(provider: str, **fields: Any) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return CHAT.parse(Request("POST", "x", "/", body=json.dumps(body).encode()), Target(provider), "")


def read(provider: str, payload: dict[str, Any], **fields: Any) -> Reading:
    call = make_call(provider=provider, streamed=False, **fields)
    meter = CHAT.meter(call, b"{}", ResponseHead(200, "application/json"), len)
    feed_all(meter, [json.dumps(payload).encode()])
    return meter.reading


def answer(usage: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"message": {"content": "Hi"}}], "usage": usage, **fields}


PLAIN = {"prompt_tokens": 100, "completion_tokens": 10}


def test_a_breakdown_below_the_whole_leaves_a_share_of_the_systems_own() -> None:
    """Nothing that the total holds is lost; what the breakdown holds beyond it counts too."""
    breakdown = {"models": [{"model": "a", "usage": {"prompt_tokens": 60, "completion_tokens": 20}}]}
    reading = read("groq", answer(PLAIN, usage_breakdown=breakdown))
    assert reading.shares == (Share(Usage(60, 20), "a"), Share(Usage(40, 0)))
    assert reading.usage == Usage(100, 20)


@pytest.mark.parametrize(
    "breakdown",
    [
        {"models": [{"usage": PLAIN}]},
        {"models": [{"model": "a"}]},
        {"models": [{"model": "a" * 300, "usage": PLAIN}]},
        {"models": [{"model": "a", "usage": {"prompt_tokens": -1, "completion_tokens": 1}}]},
        {"models": [7]},
    ],
)
def test_an_odd_breakdown_is_not_believed(breakdown: Any) -> None:
    """A part that can't be priced makes the usage no usage."""
    reading = read("groq", answer(PLAIN, usage_breakdown=breakdown))
    assert (reading.usage, reading.final, reading.shares) == (None, False, ())
    assert reading.unreadable


@pytest.mark.parametrize("breakdown", [None, {}, {"models": []}, [], "x"])
def test_no_breakdown_is_one_share(breakdown: Any) -> None:
    """Groq's other models have none."""
    reading = read("groq", answer(PLAIN, usage_breakdown=breakdown))
    assert (reading.usage, reading.shares, reading.final) == (Usage(100, 10), (), True)


def test_groqs_tools_are_billed_where_they_ran() -> None:
    """A compound system that ran none owes none, whatever it might have run."""
    call = parsed("groq", model="groq/compound")
    assert call.content.web_searches == 10
    ran = answer(PLAIN)
    ran["choices"][0]["message"]["executed_tools"] = [{"index": 0}, {"index": 1}, {"index": 1}, {}]
    found = read("groq", ran, content=call.content)
    assert found.usage == Usage(100, 10, web_search_requests=3)
    assert found.counted_output_tokens == 2
    none = read("groq", answer(PLAIN), content=call.content)
    assert none.usage == Usage(100, 10)


def test_mistral_names_its_tier_in_the_usage() -> None:
    """The tier that served the request is what is billed."""
    assert read("mistral", answer({**PLAIN, "service_tier": "PRIORITY"})).terms.service_tier == "priority"
    assert read("mistral", answer({**PLAIN, "service_tier": 1})).terms.service_tier == ""


@pytest.mark.parametrize(
    ("details", "web", "files"),
    [
        ({"web_search_calls": 2, "x_search_calls": 1, "code_interpreter_calls": 1}, 4, 0),
        ({"attachment_search_calls": 2, "web_search_calls": 1}, 1, 2),
        ({}, 0, 5),
        (None, 0, 5),
    ],
)
def test_xais_tools_are_told_apart_by_price(details: Any, web: int, files: int) -> None:
    """What is not told apart is taken as the dearer kind."""
    used = sum(details.values()) if details else 5
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11, "num_server_side_tools_used": used}
    reading = read("xai", answer({**usage, "server_side_tool_usage_details": details}))
    assert reading.usage == Usage(10, 1, web_search_requests=web, file_search_requests=files)
    assert reading.billed is None


def test_a_bad_usage_takes_back_what_was_said_to_be_billed() -> None:
    """A stream whose last usage is not sane is not billed by an earlier word."""
    call = make_call(provider="openrouter", streamed=True)
    meter = CHAT.meter(call, b"{}", ResponseHead(200, "text/event-stream"), len)
    for usage in ({**PLAIN, "cost": 0.5}, {**PLAIN, "prompt_tokens": "x"}):
        meter.feed(b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n")
    assert (meter.reading.billed, meter.reading.final) == (None, False)


def test_perplexitys_fee_is_in_the_bound() -> None:
    """Each answer is one search at least; research may run many, and reads what it finds."""
    assert parsed("perplexity", model="sonar").content.web_searches == 1
    research = parsed("perplexity", model="sonar-deep-research").content
    assert (research.web_searches, research.opaque) == (100, True)
    assert parsed("openai", model="sonar").content.web_searches == 0


@pytest.mark.parametrize("fields", [{"models": ["a", "b"]}, {"preset": "deep-research"}, {"models": ["a"]}])
def test_what_another_model_may_answer_is_refused(fields: dict[str, Any]) -> None:
    """The bound of one model does not hold another's price."""
    body = {"model": "m", "input": "Hi", **fields}
    with pytest.raises(UnreadableRequest, match="name one `model`"):
        RESPONSES.parse(
            Request("POST", "api.perplexity.ai", "/v1/responses", body=json.dumps(body).encode()),
            Target("perplexity"),
            "",
        )


@pytest.mark.parametrize("provider", ["openrouter", "anthropic"])
def test_openrouters_word_counts_in_anthropics_dialect_too(provider: str) -> None:
    """Where the usage of a message tells a cost; nobody else's does."""
    call = make_call("anthropic.messages", provider, model="claude-haiku-4-5", streamed=False)
    usage = {"input_tokens": 100, "output_tokens": 10, "cost": 0.0005, "is_byok": False}
    message = {"type": "message", "model": "claude-haiku-4-5", "content": [], "stop_reason": "end_turn", "usage": usage}
    meter = MESSAGES.meter(call, b"{}", ResponseHead(200, "application/json"), len)
    feed_all(meter, [json.dumps(message).encode()])
    assert (meter.reading.usage, meter.reading.final) == (Usage(100, 10), True)
    assert meter.reading.billed == (500_000 if provider == "openrouter" else None)
