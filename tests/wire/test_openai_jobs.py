"""Background responses: how they begin, and what a look at one tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.jobs import Outcome
from llmcap_addon.wire.openai_jobs import BackgroundDialect
from llmcap_addon.wire.openai_responses import ResponsesDialect
from llmcap_addon.wire.openai_responses_reader import job_of
from llmcap_addon.wire.seen import Seen
from tests.wire.corpus import one

DATA = Path(__file__).parents[1] / "data" / "openai"
HOST = "api.openai.com"
JSON = ResponseHead(200, "application/json")
EVENTS = ResponseHead(200, "text/event-stream")


def body_of(name: str) -> bytes:
    return (DATA / f"background_{name}").read_bytes()


def asked(responses: ResponsesDialect, **members: Any) -> Call:
    body = json.dumps({"model": "o4-mini", "input": "Hi", "background": True} | members).encode()
    return responses.parse(Request("POST", HOST, "/v1/responses", body=body), Target("openai"), "")


def look(
    responses: ResponsesDialect, name: str, head: ResponseHead = JSON, path: str = "/v1/responses/resp_0b9c1d"
) -> tuple[Outcome, ...]:
    watch = BackgroundDialect(responses).watch(Request("GET", HOST, path), Target("openai"), "")
    watch.begin(head)
    watch.feed(body_of(name))
    return watch.end()


def test_it_is_reserved_whole() -> None:
    """It goes on whether or not anybody listens."""
    responses = ResponsesDialect()
    for streamed in (False, True):
        call = asked(responses, stream=streamed)
        assert call.bills_after_disconnect
        assert call.begins_job
        assert call.streamed is streamed
    assert not asked(responses, background=False).bills_after_disconnect
    assert not asked(responses, background=False).begins_job
    assert not asked(responses, background=None).bills_after_disconnect
    with pytest.raises(UnreadableRequest):
        asked(responses, background="yes")


@pytest.mark.parametrize(
    ("name", "head", "job", "final"),
    [
        ("queued.json", JSON, "resp_0b9c1d", False),
        ("running.json", JSON, "resp_0b9c1d", False),
        ("failed.json", JSON, "resp_0b9c1d", False),
        ("cancelled_untold.json", JSON, "resp_0b9c1d", False),
        ("completed.json", JSON, "", True),
        ("broken.sse", EVENTS, "resp_0b9c1d", False),
        ("stream.sse", EVENTS, "", True),
    ],
)
def test_its_answer_names_the_job_or_is_the_bill(name: str, head: ResponseHead, job: str, *, final: bool) -> None:
    """Whatever has no usage yet is told later; a stream that ends by itself needs no second look."""
    responses = ResponsesDialect()
    meter = responses.meter(asked(responses, stream=head is EVENTS), b"", head, one)
    meter.feed(body_of(name))
    meter.end()
    assert (meter.reading.job, meter.reading.final, meter.reading.unreadable) == (job, final, "")


def test_what_is_no_background_response_is_no_job() -> None:
    """A stream's response is "in_progress" as long as it runs, and is billed by its own last event."""
    responses = ResponsesDialect()
    meter = responses.meter(asked(responses, background=False, stream=True), b"", EVENTS, one)
    meter.feed(body_of("broken.sse").replace(b'"background":true', b'"background":false'))
    meter.end()
    assert meter.reading.job == ""


@pytest.mark.parametrize("status", ["queued", "in_progress"])
@pytest.mark.parametrize("background", [{}, {"background": None}, {"background": False}])
def test_one_that_runs_is_no_bill_whatever_else_it_says(status: str, background: dict[str, Any]) -> None:
    """Hosts that leave `background` out tell a usage of zeros meanwhile."""
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    body = json.dumps({"id": "resp_1", "object": "response", "status": status, "usage": usage, **background}).encode()
    responses = ResponsesDialect()
    meter = responses.meter(asked(responses), b"", JSON, one)
    meter.feed(body)
    meter.end()
    assert (meter.reading.job, meter.reading.final) == ("resp_1", False)
    watch = BackgroundDialect(responses).watch(Request("GET", HOST, "/v1/responses/resp_1"), Target("openai"), "")
    watch.begin(JSON)
    watch.feed(body)
    assert watch.end() == ()


@given(st.dictionaries(st.sampled_from(["status", "background", "usage", "id"]), st.text() | st.booleans() | st.none()))
def test_any_response_has_a_name_or_none(response: dict[str, Any]) -> None:
    """Nothing that a provider sends raises."""
    assert isinstance(job_of(response), str)


@pytest.mark.parametrize("path", ["/v1/responses/resp_0b9c1d", "/v1/responses/resp%5F0b9c1d/cancel/"])
def test_the_job_is_the_one_that_was_asked_for(path: str) -> None:
    """Its id stands in the path, before or after decoding."""
    [outcome] = look(ResponsesDialect(), "completed.json", path=path)
    assert outcome.job == "resp_0b9c1d"


def test_an_error_tells_nothing() -> None:
    """Whatever its body looks like."""
    assert look(ResponsesDialect(), "completed.json", ResponseHead(404, "application/json")) == ()
    assert look(ResponsesDialect(), "completed.json", path="/v1/other") == ()
    assert BackgroundDialect().watch(Request("GET", HOST, "/v1/responses/r"), Target("openai"), "").end() == ()


def test_the_next_request_may_build_on_it() -> None:
    """Its length is known from the look that told its usage, for the model that was asked for; not before."""
    seen = Seen()
    responses = ResponsesDialect(seen)
    call = asked(responses)
    meter = responses.meter(call, b"", JSON, one)
    meter.feed(body_of("queued.json"))
    meter.end()
    assert asked(responses, previous_response_id="resp_0b9c1d").content.opaque
    look(responses, "completed.json")
    following = asked(responses, previous_response_id="resp_0b9c1d").content
    assert not following.opaque
    assert following.known_tokens >= 1_206 + 300
    assert asked(responses, previous_response_id="resp_0b9c1d", model="gpt-4o").content.opaque


def test_a_job_that_began_elsewhere_is_not_built_on() -> None:
    """Which model was asked for is not known, and the response's name for it may be another."""
    responses = ResponsesDialect(Seen())
    look(responses, "completed.json")
    assert asked(responses, previous_response_id="resp_0b9c1d").content.opaque
