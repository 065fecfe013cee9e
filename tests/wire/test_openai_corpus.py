from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.usage import Usage
from tests.wire.corpus import BODIES, ENCODERS, Body, byte_by_byte, encoded_in_pieces, feed_all, split_at

EACH_BODY = pytest.mark.parametrize("body", BODIES, ids=lambda body: body.name)


@EACH_BODY
def test_a_body_fed_whole_is_read_as_expected_and_passes_unchanged(body: Body) -> None:
    """Usage, model, tier and count are exact, and the client gets the provider's bytes."""
    meter = body.meter()
    assert feed_all(meter, [body.data]) == body.data
    body.check(meter.reading)


@EACH_BODY
def test_a_body_fed_byte_by_byte_is_read_the_same(body: Body) -> None:
    """The split into network pieces changes nothing."""
    meter = body.meter()
    assert feed_all(meter, byte_by_byte(body.data)) == body.data
    body.check(meter.reading)


@EACH_BODY
@given(places=st.lists(st.integers(0, 100_000), max_size=12))
@settings(max_examples=20, deadline=None)
def test_a_body_split_anywhere_is_read_the_same(body: Body, places: list[int]) -> None:
    """No split of a body changes what is read of it or what the client sees."""
    meter = body.meter()
    assert feed_all(meter, split_at(body.data, places)) == body.data
    body.check(meter.reading)


@EACH_BODY
@pytest.mark.parametrize("encoding", ENCODERS)
def test_an_encoded_body_is_read_the_same(body: Body, encoding: str) -> None:
    """gzip, br and zstd, in small pieces, decode to the same reading."""
    meter = body.meter()
    assert feed_all(meter, encoded_in_pieces(body.data, encoding)) == body.data
    body.check(meter.reading)


@EACH_BODY
def test_a_body_truncated_anywhere_raises_nothing_and_is_never_free(body: Body) -> None:
    """Whatever is missing, there is a usage, or a count of what was seen, or the word that it could not be read."""
    streamed = body.name.endswith(".sse")
    for length in range(len(body.data)):
        meter = body.meter()
        assert feed_all(meter, [body.data[:length]]) == body.data[:length]
        reading = meter.reading
        if reading.final:
            assert reading.usage == Usage(**body.expected["usage"])
            assert reading.unreadable == ""
        elif not streamed:
            assert reading.unreadable or reading.usage or body.expected["usage"] is None
        elif b'"content":"' in body.data[:length]:
            assert reading.counted_output_tokens > 0 or reading.usage or b'"content":""' in body.data[:length]


@EACH_BODY
@given(garbage=st.binary(max_size=200), place=st.integers(0, 100_000))
@settings(max_examples=20, deadline=None)
def test_garbage_anywhere_raises_nothing(body: Body, garbage: bytes, place: int) -> None:
    """Bytes that no provider sends pass to the client and never raise."""
    place %= len(body.data) + 1
    data = body.data[:place] + garbage + body.data[place:]
    meter = body.meter()
    assert feed_all(meter, split_at(data, [place])) == data


@pytest.mark.parametrize("body", [body for body in BODIES if body.name.endswith(".sse")], ids=lambda body: body.name)
def test_only_whole_events_reach_the_client(body: Body) -> None:
    """At every moment what the client holds ends with a whole line, so a cut never follows half an event."""
    meter = body.meter()
    seen = b""
    for byte in byte_by_byte(body.data):
        seen += meter.feed(byte)
        assert seen == b"" or seen[-1:] in b"\r\n"
        assert seen.rstrip(b"\r\n") == b"" or not seen.rsplit(b"\n\n", 1)[-1].startswith(b"data:") or b"\r" in seen
