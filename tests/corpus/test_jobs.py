"""Every job of the corpus, however its answers' bytes come: usage and cost are what was worked out by hand."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import BATCH_PART, Usage
from llmcap_addon.wire.dialect import Target
from llmcap_addon.wire.dialects import JOBS
from llmcap_addon.wire.endpoints import WATCHED
from llmcap_addon.wire.jobs import Outcome, Watch
from tests.corpus.case import PRICES
from tests.corpus.jobs import JOB_CASES, JobCase, Look
from tests.wire.corpus import byte_by_byte, feed_all, split_at

EACH = pytest.mark.parametrize("case", JOB_CASES, ids=lambda case: case.name)
LOOKS = [look for case in JOB_CASES for look in case.looks]
EACH_LOOK = pytest.mark.parametrize("look", LOOKS, ids=lambda look: f"{look.case.name}-{look.raw['response']}")
LARGEST = 10_000


def told(watch: Watch, pieces: Any) -> dict[str, Outcome]:
    for piece in pieces:
        watch.feed(piece)
    return {outcome.job: outcome for outcome in watch.end()}


def check(look: Look, outcomes: dict[str, Outcome]) -> None:
    case = look.case
    also = tuple(look.raw.get("also", ()))
    if "voids" in look.raw:
        reading = outcomes.pop(look.raw["voids"]).reading
        assert reading.failed
        assert reading.usage is None
    if "settles" in look.raw:
        outcome = outcomes.pop(look.raw["settles"])
        reading = outcome.reading
        assert outcome.also == also
        assert outcome.requests in (None, case.raw.get("listed", case.raw.get("requests")))
        assert reading.final
        assert not reading.unreadable
        assert not reading.failed
        assert reading.usage == case.usage
        assert reading.model == case.raw["model"]
        if reading.shares:
            assert len(reading.shares) == case.raw.get("requests", len(reading.shares))
            assert reduce(Usage.plus, (share.usage for share in reading.shares)) == reading.usage
        assert case.cost(reading) == case.raw["cost"], case.raw["worked"]
    elif also:
        outcome = outcomes.pop(case.raw["job"])
        assert outcome.also == also
        assert not outcome.reading.final
    assert outcomes == {}


@EACH
def test_a_job_begins_and_is_bounded(case: JobCase) -> None:
    """The answer names the job, however its bytes come, and what was billed in the end is within what was reserved."""
    assert case.begun.route.kind == "metered"
    assert case.raw["worked"]
    assert case.raw["follows"]
    for pieces in ([case.begun.data], byte_by_byte(case.begun.data)):
        meter = case.begun.meter()
        feed_all(meter, pieces)
        assert meter.reading.job == case.raw["job"]
        assert not meter.reading.final
    call = case.call
    assert call.bills_after_disconnect
    assert call.begins_job
    assert not call.editable
    assert not call.streamed
    for rung in ("bytes", "counted"):
        quote = PRICES.quote(call, rung)
        assert quote.amount(quote.output_tokens) >= case.raw["cost"]
        assert not quote.assumed


@EACH
def test_a_file_is_known_by_the_id_its_upload_is_answered_with(case: JobCase) -> None:
    """Its requests are bounded one by one, and an upload settles nothing."""
    look = case.upload
    if look is None:
        return
    assert look.route.kind == "watched"
    watch = look.watch()
    calls = list(watch.stored_calls())
    assert calls
    assert {call.model for call in calls} == {case.call.model}
    assert {call.terms.service_tier for call in calls} == {BATCH_PART}
    assert watch.stored == ""
    assert told(watch, byte_by_byte(look.data)) == {}
    assert watch.stored == look.raw["stored"]
    failed = look.watch(400)
    assert told(failed, [look.data]) == {}
    assert failed.stored == ""


@EACH_LOOK
def test_an_answer_tells_the_bill(look: Look) -> None:
    """Whole, byte by byte; to the nano-dollar."""
    assert look.route.kind == "watched"
    check(look, told(look.watch(), [look.data]))
    check(look, told(look.watch(), byte_by_byte(look.data)))


@EACH_LOOK
@given(places=st.lists(st.integers(0, LARGEST), max_size=12))
@settings(max_examples=15, deadline=None)
def test_split_anywhere_it_is_the_same(look: Look, places: list[int]) -> None:
    """No split of a body changes what it tells."""
    check(look, told(look.watch(), split_at(look.data, places)))


@EACH_LOOK
def test_what_is_no_whole_answer_tells_nothing(look: Look) -> None:
    """An error, a part of the file; a truncated body tells nothing either, unless it ends between two lines."""
    for status in (206, 304, 404, 500):
        assert told(look.watch(status), [look.data]) == {}
    data = look.data.rstrip()
    step = max(1, len(data) // 500)
    for length in range(0, len(data), step):
        outcomes = told(look.watch(), [data[:length]])
        assert outcomes == {} or data[length:].startswith(b"\n") or data[:length].endswith((b"\n", b"}"))


@EACH_LOOK
@given(noise=st.lists(st.tuples(st.integers(0, LARGEST), st.binary(max_size=3)), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_noise_raises_nothing(look: Look, noise: list[tuple[int, bytes]]) -> None:
    """Whatever bytes an answer has, no exception leaves the watch, and no usage is negative."""
    data = bytearray(look.data)
    for place, instead in noise:
        data[place : place + len(instead)] = instead
    for outcome in told(look.watch(), split_at(bytes(data), [len(data) // 2])).values():
        assert outcome.reading.usage is None or outcome.reading.usage.input_tokens >= 0


@EACH
@given(noise=st.lists(st.tuples(st.integers(0, LARGEST), st.binary(max_size=3)), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_a_request_with_noise_is_refused_or_bounded(case: JobCase, noise: list[tuple[int, bytes]]) -> None:
    """A request that can't be understood raises UnreadableRequest and nothing else, a file's lines too."""
    request = case.upload.request if case.upload is not None else case.begun.request
    data = bytearray(request.body)
    for place, instead in noise:
        data[place : place + len(instead)] = instead
    changed = type(request)(request.method, request.host, request.path, request.query, request.headers, bytes(data))
    route = case.upload.route if case.upload is not None else case.begun.route
    target = Target(route.provider, route.model, route.models, route.zone)
    try:
        if case.upload is not None:
            list(JOBS[route.dialect_name].watch(changed, target, "").stored_calls())
        else:
            case.begun.dialect.parse(changed, target, "")
    except UnreadableRequest:
        pass


def test_every_watched_endpoint_of_batches_has_a_case() -> None:
    """An endpoint without a case is not shown to be read right."""
    looks = [*LOOKS, *(case.upload for case in JOB_CASES if case.upload is not None)]
    read = {look.route.dialect_name for look in looks}
    assert {one.dialect for one in WATCHED if "batch" in one.dialect} <= read
