from __future__ import annotations

import json
from typing import Any

import pytest

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.openai_compact import COMPACT, DECISIONS, MAX_QUESTIONS
from tests.wire.corpus import feed_all, one

PREDICATE = {"type": "predicate", "text": "Is it?"}


def compact(**body: Any) -> Any:
    data = json.dumps({"model": "gpt-5.1-codex", **body}).encode()
    return COMPACT.parse(Request("POST", "api.openai.com", "/v1/responses/compact", body=data), Target("openai"), "")


def decision(**body: Any) -> Any:
    data = json.dumps({"model": "gpt-6-luna", "input": "abc", "questions": [PREDICATE], **body}).encode()
    return DECISIONS.parse(Request("POST", "api.openai.com", "/v1/decisions", body=data), Target("openai"), "")


def test_a_compaction_reads_like_a_response_and_has_no_limit() -> None:
    """Its input may stand in an earlier response; nothing in its request could shorten it."""
    call = compact(input="Hi", instructions="Short.", max_output_tokens=5, stream=True)
    assert (call.dialect, call.streamed, call.max_output_tokens, call.editable) == (
        "openai.compact",
        False,
        None,
        False,
    )
    assert call.content.texts == ("Short.", "Hi")
    assert compact(previous_response_id="resp_that_nobody_saw").content.opaque
    assert COMPACT.amend(call, b"{}", 5) == b"{}"


def test_a_compaction_is_billed_as_it_reports() -> None:
    """Its answer names neither model nor tier."""
    meter = COMPACT.meter(compact(input="Hi"), b"", ResponseHead(200, "application/json"), one)
    usage = {"input_tokens": 9, "output_tokens": 7, "total_tokens": 16, "input_tokens_details": {"cached_tokens": 4}}
    feed_all(meter, [json.dumps({"object": "response.compaction", "output": [], "usage": usage}).encode()])
    assert (meter.reading.usage, meter.reading.final, meter.reading.model) == (Usage(9, 7, 4), True, "")


def test_each_question_reads_the_input() -> None:
    """Whether that is billed each time is not said, so it is reserved for; pictures are beyond the body then."""
    call = decision(questions=[PREDICATE] * 3)
    assert call.content.known_tokens == 2 * call.content.text_bytes
    assert (call.has_output, call.content.opaque) == (False, False)
    picture = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AA=="}]}]
    shown = decision(input=picture, questions=[PREDICATE] * 3)
    assert (shown.content.opaque, shown.content.server_turns) == (True, 2)


def test_decisions_pay_for_no_output() -> None:
    """It is reported, and costs nothing; an answer without a usage is posted as reserved."""
    meter = DECISIONS.meter(decision(), b"", ResponseHead(200, "application/json"), one)
    usage = {
        "input_tokens": 9,
        "output_tokens": 7,
        "total_tokens": 16,
        "output_tokens_details": {"reasoning_tokens": 2},
    }
    feed_all(meter, [json.dumps({"model": "gpt-6-luna", "answers": [], "usage": usage}).encode()])
    assert (meter.reading.usage, meter.reading.final) == (Usage(9), True)
    silent = DECISIONS.meter(decision(), b"", ResponseHead(200, "application/json"), one)
    feed_all(silent, [b'{"answers":[]}'])
    assert silent.reading.unreadable


@pytest.mark.parametrize("body", [{"questions": [PREDICATE] * (MAX_QUESTIONS + 1)}, {"questions": {}}, {"model": ""}])
def test_what_cannot_be_bounded_is_unreadable(body: dict[str, Any]) -> None:
    """A wrong type, or more than the API takes, is refused, not guessed at."""
    with pytest.raises(UnreadableRequest):
        decision(**body)
