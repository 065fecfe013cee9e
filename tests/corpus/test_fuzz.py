"""What no provider and no client should send: nothing raises, nothing becomes money that is none, memory is bounded."""

from __future__ import annotations

import re
import tracemalloc
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.dialect import Target
from tests.corpus.case import CASES, PRICES, Case
from tests.wire.corpus import feed_all, split_at

EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
EACH_METER = pytest.mark.parametrize(
    "case",
    {(case.route.dialect_name, case.streamed): case for case in CASES}.values(),
    ids=lambda case: case.name,
)

ODD = (
    b"-1", b"1e400", b"NaN", b"Infinity", b"-Infinity", b"99999999999999999999999999999999", b"0.5", b"1e3", b"true",
    b"null", b'"7"', b'"\\ud800"', b"{}", b"[]", b"[" * 5_000, b'{"a":' * 5_000, b"", b"\x00", b"\xff\xfe", b"9" * 5_000,
)  # fmt: skip
_VALUE = re.compile(rb'-?\d+(?:\.\d+)?|"[^"\\]*"|true|false|null')

MEMORY_BYTES = {True: 48 << 20, False: 160 << 20}
"""Streamed or not: a stream keeps one event (at most 16 MB, or 32 MB of Google's array), a body is kept whole up to a
bound of its own (64 MB); and each may be copied once while it grows."""


@st.composite
def broken(draw: st.DrawFn, data: bytes) -> bytes:
    """Change a body in a few places: a value for an odd one, a stretch doubled or taken out."""
    for _ in range(draw(st.integers(1, 3))):
        values = list(_VALUE.finditer(data))
        how = draw(st.sampled_from(["odd", "double", "drop"]))
        if how == "odd" and values:
            found = values[draw(st.integers(0, len(values) - 1))]
            data = data[: found.start()] + draw(st.sampled_from(ODD)) + data[found.end() :]
        else:
            start = draw(st.integers(0, len(data)))
            stop = min(len(data), start + draw(st.integers(1, 200)))
            stretch = data[start:stop] * (2 if how == "double" else 0)
            data = data[:start] + stretch + data[stop:]
    return data


@EACH
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_response_raises_or_costs_less_than_nothing(case: Case, data: st.DataObject) -> None:
    """Whatever a provider sends, there is a reading that can be priced, and the client gets the rest of the bytes."""
    body = data.draw(broken(case.data))
    meter = case.meter()
    feed_all(meter, split_at(body, [data.draw(st.integers(0, len(body)))]))
    reading = meter.reading
    assert reading.counted_output_tokens >= 0
    if reading.usage is not None:
        assert case.cost(reading) >= 0
    if reading.billed is not None:
        assert 0 <= reading.billed < 10**15


@EACH
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_request_raises_anything_but_that_it_is_unreadable(case: Case, data: st.DataObject) -> None:
    """Whatever a client sends is understood and bounded, or refused with a reason."""
    request = replace(case.request, body=data.draw(broken(case.request.body[:4_000] or b"{}")))
    with suppress(UnreadableRequest):
        call = case.dialect.parse(request, Target(case.route.provider, case.route.model), "")
        quote = PRICES.quote(call)
        assert quote.amount(quote.output_tokens) >= 0
        case.dialect.amend(call, request.body, 1_024)


@EACH_METER
def test_memory_is_bounded_on_an_endless_line(case: Case) -> None:
    """A line without an end is given up, not collected."""
    meter = case.meter()
    meter.feed(case.data[: len(case.data) // 2])
    chunk = b"a" * (1 << 16)
    meter.feed(chunk)
    tracemalloc.start()
    try:
        for _ in range(1_000):  # 64 MB
            meter.feed(chunk)
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES[case.streamed]
    finally:
        tracemalloc.stop()


@EACH_METER
def test_memory_is_bounded_on_endless_events(case: Case) -> None:
    """What was read is not kept."""
    meter = case.meter()
    half = case.data[: len(case.data) // 2]
    rounds = (8 << 20) // max(1, len(half))
    tracemalloc.start()
    try:
        for _ in range(min(rounds, 4_000)):
            meter.feed(half)
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES[case.streamed]
    finally:
        tracemalloc.stop()
