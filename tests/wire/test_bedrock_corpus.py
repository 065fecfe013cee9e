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

from llmcap_addon.wire.eventstream import FrameMeter
from tests.corpus.case import Case, of
from tests.wire.corpus import feed_all

STREAMS = [case for case in of("bedrock") if case.streamed]


def ident(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", STREAMS, ids=ident)
def test_never_below_what_was_delivered(case: Case) -> None:
    """A stream that ends early has counted what the client got, or says that it can't be counted."""
    whole = case.meter(len)
    assert isinstance(whole, FrameMeter)
    counted = 0
    for size in range(len(case.data)):
        meter = case.meter(len)
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
        if case.route.dialect_name == "bedrock.invoke":
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
    name = "ConverseStreamOutput" if case.route.dialect_name == "bedrock.converse" else "ResponseStream"
    parser, buffer = EventStreamJSONParser(), EventStreamBuffer()
    buffer.add_data(case.data)
    events: list[dict[str, Any]] = [parser.parse(one.to_response_dict(), model.shape_for(name)) for one in buffer]
    assert len(events) > 2
    assert all(len(event) == 1 and set(event) <= set(model.shape_for(name).members) for event in events)
