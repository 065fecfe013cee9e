"""Bedrock's recorded answers: fed in every way, truncated anywhere, priced to the nano-dollar."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]
from botocore.loaders import Loader  # type: ignore[import-untyped]
from botocore.model import ServiceModel  # type: ignore[import-untyped]
from botocore.parsers import EventStreamJSONParser  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.wire.eventstream import FrameMeter
from tests.wire.corpus import feed_all, split_at
from tests.wire.provider_corpus import Case, cases

CASES = cases("bedrock")
STREAMS = [case for case in CASES if case.name.endswith(".bin")]


def ident(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=ident)
def test_read_and_priced(case: Case) -> None:
    """Usage, model and cost are as worked out by hand, however the body comes."""
    case.check_every_way()


@pytest.mark.parametrize("case", CASES, ids=ident)
def test_truncated(case: Case) -> None:
    """A body that breaks off anywhere raises nothing, and its usage is never taken for the last word."""
    case.check_truncated()


@given(st.sampled_from(STREAMS), st.lists(st.integers(0, 10_000), max_size=10))
def test_split_anywhere(case: Case, places: list[int]) -> None:
    """A stream split anywhere passes whole frames, every byte in the end, and reads the same."""
    meter = case.meter()
    assert feed_all(meter, split_at(case.data, places)) == case.data
    case.check(meter.reading)


@pytest.mark.parametrize("case", STREAMS, ids=ident)
def test_never_below_what_was_delivered(case: Case) -> None:
    """A stream that ends early has counted what the client got, or says that it can't be counted."""
    whole = case.meter()
    assert isinstance(whole, FrameMeter)
    counted = 0
    for size in range(len(case.data)):
        meter = case.meter()
        given_out = feed_all(meter, [case.data[:size]])
        assert given_out == case.data[:size]
        reading = meter.reading
        assert reading.counted_output_tokens >= counted
        counted = reading.counted_output_tokens
        assert reading.final or reading.unreadable or size == 0 or counted >= len(delivered(case, given_out))


def delivered(case: Case, data: bytes) -> str:
    """Give the text that a client has read out of whole frames, by botocore's own decoder."""
    buffer, found = EventStreamBuffer(), ""
    buffer.add_data(data)
    for message in buffer:
        value = json.loads(message.payload)
        if case.expected["dialect"] == "bedrock.invoke":
            value = json.loads(base64.b64decode(value["bytes"]))
        value = value.get("contentBlockDelta", value)
        found += value.get("delta", {}).get("text", "") + value.get("generation", "")
        for choice in value.get("choices", ()):
            found += choice.get("text", "") + choice.get("delta", {}).get("content", "")
    return found


@pytest.mark.parametrize("case", STREAMS, ids=ident)
def test_recorded_as_the_sdk_has_it(case: Case) -> None:
    """Each recorded stream is one that botocore parses by its own service model."""
    model = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))
    name = "ConverseStreamOutput" if case.expected["dialect"] == "bedrock.converse" else "ResponseStream"
    parser, buffer = EventStreamJSONParser(), EventStreamBuffer()
    buffer.add_data(case.data)
    events: list[dict[str, Any]] = [parser.parse(one.to_response_dict(), model.shape_for(name)) for one in buffer]
    assert len(events) > 2
    assert all(len(event) == 1 and set(event) <= set(model.shape_for(name).members) for event in events)


@pytest.mark.parametrize("case", CASES, ids=ident)
def test_streamed_costs_what_the_whole_does(case: Case) -> None:
    """The two forms of one call use and cost the same."""
    pair = case.expected.get("pair")
    twins = [other for other in CASES if pair and other.expected.get("pair") == pair]
    assert len({json.dumps(other.expected["usage"]) for other in twins}) <= 1
    assert len({other.expected["cost_nanousd"] for other in twins}) <= 1
