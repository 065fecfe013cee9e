from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.wire.sse import Event, SseMeter, SseSplitter

STREAM = (
    b"\xef\xbb\xbf: hello\r\nevent: first\r\ndata: 1\r\ndata:2\r\n\r\n"
    b"data: x\n\n: keep-alive\n\nid: 7\nretry: 10\ndata: y\r\rdata\n\nnoise: z\ndata:  two blanks\n\ndata: half"
)


def split(chunks: list[bytes]) -> tuple[list[Event], Event | None]:
    splitter = SseSplitter()
    events = [event for chunk in chunks for event in splitter.feed(chunk)]
    return events, splitter.end()


def read(chunks: list[bytes]) -> list[tuple[str, bytes]]:
    events, last = split(chunks)
    return [(event.name, event.data) for event in [*events, last] if event is not None and event.data]


def test_events_are_read_by_the_rules_of_the_format() -> None:
    """A BOM, comments, three line ends, several data lines, unknown fields and a half event are told apart."""
    assert read([STREAM]) == [("first", b"1\n2"), ("", b"x"), ("", b"y"), ("", b" two blanks"), ("", b"half")]


@given(places=st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_no_split_changes_events_or_loses_a_byte(places: list[int]) -> None:
    """Wherever a stream is split, the events are the same and their raws are the stream."""
    edges = [0, *sorted(places), len(STREAM)]
    chunks = [STREAM[start:stop] for start, stop in itertools.pairwise(edges)]
    assert read(chunks) == read([STREAM])
    events, last = split(chunks)
    assert b"".join(event.raw for event in events) + (last.raw if last else b"") == STREAM


@given(st.lists(st.sampled_from([b"\r", b"\n", b":", b"data: a", b"event: b", b" ", b"\xff", b"\xef\xbb\xbf"])))
def test_no_bytes_are_lost_or_raise(pieces: list[bytes]) -> None:
    """Any bytes come out as they went in."""
    events, last = split(pieces)
    assert b"".join(event.raw for event in events) + (last.raw if last else b"") == b"".join(pieces)


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"])
def test_an_event_is_given_out_with_its_last_byte(end: bytes) -> None:
    """No event waits for the next one, whatever ends its lines."""
    splitter = SseSplitter()
    given_out = splitter.feed(b"data: 1" + end)
    assert [event.data for event in given_out] == [b"1"]
    assert splitter.rest == b""


def test_the_lf_of_a_split_crlf_is_given_out_at_once() -> None:
    """A client that looks for CRLF CRLF gets its last byte with the network's piece, not with the next event."""
    splitter = SseSplitter()
    assert b"".join(event.raw for event in splitter.feed(b"data: 1\r\n\r")) == b"data: 1\r\n\r"
    assert [event.raw for event in splitter.feed(b"\n")] == [b"\n"]
    assert [event.data for event in splitter.feed(b"data: 2\r\n\r\n")] == [b"2"]


def test_a_comment_does_not_wait_for_an_event() -> None:
    """A keep-alive line passes when it is whole, even without a blank line."""
    splitter = SseSplitter()
    assert [event.raw for event in splitter.feed(b": OPENROUTER PROCESSING\ndat")] == [b": OPENROUTER PROCESSING\n"]
    assert splitter.rest == b"dat"


def test_an_event_above_the_bound_passes_unread() -> None:
    """Memory is bounded; the bytes still come out, all of them and at once."""
    splitter = SseSplitter(max_event_bytes=10)
    assert splitter.feed(b"data: 1234") == []
    assert [event.raw for event in splitter.feed(b"5")] == [b"data: 12345"]
    assert splitter.overflowed
    assert [event.raw for event in splitter.feed(b"6\n\ndata: 7\n\n")] == [b"6\n\ndata: 7\n\n"]
    assert splitter.end() is None


class Keeping(SseMeter):
    """Drops events whose data is "drop", and fails on "bad"."""

    def on_event(self, event: Event) -> bool:
        if event.data == b"bad":
            raise ValueError("bad")
        return event.data != b"drop"


def test_a_meter_takes_out_what_it_drops_and_nothing_else() -> None:
    """Dropping an event leaves the bytes around it as they came."""
    meter = Keeping()
    assert meter.feed(b": c\n\ndata: 1\n\ndata: drop\n\ndata: 2\n\ndat") == b": c\n\ndata: 1\n\ndata: 2\n\n"
    assert meter.feed(b"a: drop") == b""
    assert meter.end() == b""


def test_an_invalid_event_makes_the_stream_unreadable_but_passes() -> None:
    """Unless a dialect knows better, what is not understood is said, and the client still gets it."""
    meter = Keeping()
    assert meter.feed(b"data: bad\n\n") == b"data: bad\n\n"
    assert meter.reading.unreadable


def test_a_meter_whose_splitter_overflows_says_so_and_knows_the_client_holds_half_an_event() -> None:
    """Past the bound the stream is unreadable, and a cut has to end the half event first."""
    meter = Keeping()
    meter._splitter = SseSplitter(max_event_bytes=4)
    assert meter.feed(b"data: 12") == b"data: 12"
    assert meter.inside_event
    assert meter.reading.unreadable
