"""What Mistral has beyond OpenAI's shapes: OCR, agents, moderation, classification, speech."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.mistral import MISTRAL
from llmcap_addon.wire.openai_chat import ChatStreamMeter

OCR, AGENTS, MODERATIONS, CLASSIFICATIONS, SPEECH = MISTRAL
PDF = "data:application/pdf;base64,"
OK = ResponseHead(200, "application/json")


def request(body: object) -> Request:
    """Make a request."""
    return Request("POST", "api.mistral.ai", "/v1/x", body=json.dumps(body).encode())


def ocr(**fields: Any) -> Call:
    """Parse a request for OCR."""
    return OCR.parse(request({"model": "mistral-ocr-4", **fields}), Target("mistral"), "")


@pytest.mark.parametrize(
    ("fields", "pages"),
    [
        ({"pages": [0, 1, 7]}, 3),
        ({"pages": []}, 1000),
        ({"pages": [], "document": {"type": "document_url", "document_url": PDF + "A" * 4_000}}, 6),
        ({"pages": "0-5"}, 6),
        ({"pages": "0, 2-4 ,9"}, 5),
        ({"pages": "9-2"}, 1),
        ({"pages": "0-99999"}, 1000),
        ({"pages": list(range(2000))}, 1000),
        ({"document": {"type": "image_url", "image_url": "https://example.com/a.png"}}, 1),
        ({"document": {"image_url": {"url": "data:image/png;base64,AAAA"}}}, 1),
        ({"document": {"type": "document_url", "document_url": PDF + "A" * 4_000}}, 6),
        ({"document": {"type": "document_url", "document_url": PDF + "A" * 4_000_000}}, 1000),
        ({"document": {"type": "document_url", "document_url": "data:application/msword;base64,AAAA"}}, 1000),
        ({"document": {"type": "document_url", "document_url": "https://example.com/a.pdf"}}, 1000),
        ({"document": {"type": "document_url", "document_url": "https://example.com/a.pdf", "image_url": "x"}}, 1000),
        ({"document": {"type": "file", "file_id": "f"}}, 1000),
        ({}, 1000),
    ],
)
def test_pages_are_bounded(fields: dict[str, Any], pages: int) -> None:
    """By what is asked for, by the document's size, else by what Mistral takes of one."""
    call = ocr(**fields)
    assert (call.unit_bound, call.has_output, call.terms.service_tier) == (Usage(pages=pages), False, "")


@pytest.mark.parametrize("pages", ["", "all", "1-", "1;2", 5, {"a": 1}, "-1", "1--2", "999999"])
def test_pages_of_another_form_are_refused(pages: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(UnreadableRequest, match="pages"):
        ocr(pages=pages)


@pytest.mark.parametrize("key", ["bbox_annotation_format", "document_annotation_format"])
def test_annotated_pages_have_a_price_of_their_own(key: str) -> None:
    """Either kind of annotation; and the newest model where none is named."""
    call = OCR.parse(request({key: {"type": "json_schema"}, "model": None}), Target("mistral"), "")
    assert (call.terms.service_tier, call.model) == ("annotated", "mistral-ocr-latest")
    assert OCR.amend(call, b"{}", 5) == b"{}"


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"model": "mistral-ocr-4-0", "usage_info": {"pages_processed": 3}}, Usage(pages=3)),
        ({"usage_info": {"pages_processed": 0}}, Usage()),
        ({"usage_info": {"pages_processed": -1}}, None),
        ({"usage_info": {"pages_processed": "3"}}, None),
        ({"usage_info": {}}, None),
        ({}, None),
        ([], None),
    ],
)
def test_pages_are_read(answer: object, usage: Usage | None) -> None:
    """Without a sane count the bound is posted."""
    meter = OCR.meter(ocr(), b"", OK, len)
    meter.feed(json.dumps(answer).encode())
    meter.end()
    assert meter.reading.usage == usage
    assert meter.reading.final is not bool(meter.reading.unreadable)
    assert meter.reading.final is (usage is not None)


def test_an_agents_model_is_what_the_user_says_else_unknown() -> None:
    """The dearest is reserved for an unknown one; its instructions are not in the body; the answer is a chat's."""
    body = {"agent_id": "ag_1", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    call = AGENTS.parse(request(body), Target("mistral"), "")
    assert (call.dialect, call.model, call.content.opaque, call.hidden_output_tokens) == (
        "mistral.agents",
        "",
        True,
        None,
    )
    known = AGENTS.parse(request(body), Target("mistral", models={"ag_1": "mistral-large-2512"}), "")
    assert known.model == "mistral-large-2512"
    assert isinstance(AGENTS.meter(call, b"{}", ResponseHead(200, "text/event-stream"), len), ChatStreamMeter)
    with pytest.raises(UnreadableRequest, match="agent_id"):
        AGENTS.parse(request({"messages": []}), Target("mistral"), "")


@pytest.mark.parametrize("given", ["a fox", ["a fox", "a frog"], [{"role": "user", "content": "a fox"}], None])
def test_moderation_and_classification_read_their_input(given: object) -> None:
    """Texts or messages; a classifier of the user's own counts as a chat model with a token of output."""
    body = {"model": "m", "input": given}
    call = MODERATIONS.parse(request(body), Target("mistral"), "")
    assert call.content.text_bytes >= len("a fox") * (given is not None)
    assert not call.has_output
    own = CLASSIFICATIONS.parse(request(body), Target("mistral"), "")
    assert (own.has_output, own.max_output_tokens, own.content) == (True, 1, call.content)
    assert MODERATIONS.amend(call, b"{}", 5) == b"{}"


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        ({"results": [], "usage": {"prompt_tokens": 5, "total_tokens": 5}}, True),
        ({"results": []}, False),
        ({"results": [], "usage": {"prompt_tokens": -5}}, False),
    ],
)
def test_a_moderation_without_usage_is_posted_as_bounded(answer: object, final: bool) -> None:
    """The SDK's type has none."""
    call = MODERATIONS.parse(request({"model": "m", "input": "a fox"}), Target("mistral"), "")
    meter = MODERATIONS.meter(call, b"", OK, len)
    meter.feed(json.dumps(answer).encode())
    meter.end()
    assert meter.reading.final is final
    assert bool(meter.reading.unreadable) is not final


@pytest.mark.parametrize("dialect", [OCR, MODERATIONS, CLASSIFICATIONS, SPEECH])
def test_an_error_passes(dialect: Any) -> None:
    """Nothing is billed for it."""
    call = dialect.parse(request({"model": "m", "input": "a"}), Target("mistral"), "")
    assert dialect.meter(call, b"", ResponseHead(422), len).reading.failed


def test_speech_is_billed_by_the_character() -> None:
    """What is spoken and what came before it; posted once there is sound, whole or at the last event."""
    body = {"model": "voxtral-mini-tts-2603", "input": "A fox \U0001f98a", "conversation_history": [{"content": "Hi"}]}
    call = SPEECH.parse(request(body), Target("mistral"), "")
    assert (call.unit_bound, call.has_output, call.streamed) == (Usage(input_characters=10), False, False)
    assert SPEECH.amend(call, b"{}", 5) == b"{}"
    for answer, final in ((b'{"audio_data":"AAAA"}', True), (b"{}", False), (b"[]", False)):
        meter = SPEECH.meter(call, b"", OK, len)
        meter.feed(answer)
        meter.end()
        assert meter.reading.final is final
        assert bool(meter.reading.unreadable) is not final
    events = (
        b'data: {"type":"speech.audio.delta","audio_data":"AAAA"}\n\n',
        b'data: {"type":"error","message":"no"}\n\n',
        b'data: {"type":"speech.audio.done","usage":{}}\n\n',
        b"data: [DONE]\n\n",
    )
    streamed = SPEECH.parse(request({**body, "stream": True}), Target("mistral"), "")
    meter = SPEECH.meter(streamed, b"", ResponseHead(200, "text/event-stream"), len)
    found = [(meter.feed(event), meter.reading.final, meter.reading.failed)[1:] for event in events]
    assert found == [(False, False), (False, True), (True, True), (True, True)]
    assert meter.reading.usage == call.unit_bound
    with pytest.raises(UnreadableRequest, match="model"):
        SPEECH.parse(request({"input": "A fox"}), Target("mistral"), "")
