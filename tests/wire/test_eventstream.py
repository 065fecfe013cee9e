"""Tests of binary event streams, against botocore's own decoder and a hand-written frame."""

from __future__ import annotations

import itertools
import struct
import zlib
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.wire.eventstream import (
    MAX_HEADERS_BYTES,
    MAX_PAYLOAD_BYTES,
    MIN_FRAME_BYTES,
    Frame,
    FrameMeter,
    FrameSplitter,
    encode_frame,
)

HELLO = bytes.fromhex(
    # total 61, headers 32, their CRC; 13 ":content-type" 7 "application/json"; payload "{'foo':'bar'}"; CRC.
    "0000003d00000020"
    "07fd8396"
    "0c636f6e74656e742d7479706507"
    "00106170706c69636174696f6e2f6a736f6e"
    "7b27666f6f273a27626172277d"
    "8d9c08b1"
)
"""A message of the test suite that AWS's SDKs share (its "payload_one_str_header")."""

names = st.text(min_size=1, max_size=20)
headers = st.dictionaries(names, st.text(max_size=50), max_size=5)
messages = st.lists(st.tuples(headers, st.binary(max_size=300)), max_size=5)


def split(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


def raw_frame(block: bytes, payload: bytes = b"") -> bytes:
    """Write a frame around any block of headers."""
    prelude = struct.pack(">II", MIN_FRAME_BYTES + len(block) + len(payload), len(block))
    frame = prelude + struct.pack(">I", zlib.crc32(prelude)) + block + payload
    return frame + struct.pack(">I", zlib.crc32(frame))


def prelude(total: int, header_bytes: int) -> bytes:
    start = struct.pack(">II", total, header_bytes)
    return start + struct.pack(">I", zlib.crc32(start))


class Kept(FrameMeter):
    """Keeps what it reads; a payload of "bad" is no valid event."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []

    def on_frame(self, frame: Frame) -> None:
        if frame.payload == b"bad":
            raise ValueError
        self.frames.append(frame)


class TestFrames:
    def test_known_message(self) -> None:
        """A published message is read and written as it stands."""
        [frame] = FrameSplitter().feed(HELLO)
        assert frame.headers == {"content-type": "application/json"}
        assert frame.payload == b"{'foo':'bar'}"
        assert encode_frame(frame.headers, frame.payload) == HELLO

    @given(messages, st.lists(st.integers(0, 5000), max_size=8))
    def test_written_frames_are_botocores(self, sent: list[tuple[dict[str, str], bytes]], places: list[int]) -> None:
        """What we write, botocore reads; however it is split, we read the same."""
        data = b"".join(encode_frame(*message) for message in sent)
        theirs = EventStreamBuffer()
        theirs.add_data(data)
        assert [(event.headers, event.payload) for event in theirs] == sent
        splitter = FrameSplitter()
        ours = [frame for piece in split(data, places) for frame in splitter.feed(piece)]
        assert [(frame.headers, frame.payload) for frame in ours] == sent
        assert b"".join(frame.raw for frame in ours) == data
        assert splitter.rest == b""
        assert splitter.broken == ""

    def test_every_header_type(self) -> None:
        """Values that are no text are stepped over, by the sizes of the specification."""
        values = (
            (0, b""), (1, b""), (2, b"\x80"), (3, b"\0\1"), (4, b"\0\0\0\1"), (5, bytes(8)), (6, b"\0\2ab"),
            (8, bytes(8)), (9, bytes(16)), (7, b"\0\4text"),
        )  # fmt: skip
        block = b"".join(bytes([1, 97 + kind, kind]) + value for kind, value in values)
        theirs = EventStreamBuffer()
        theirs.add_data(raw_frame(block))
        assert len(next(iter(theirs)).headers) == len(values)
        [frame] = FrameSplitter().feed(raw_frame(block))
        assert frame.headers == {"h": "text"}

    @pytest.mark.parametrize("block", [b"\x05ab", b"\x01a", b"\x01a\x07\x00\x05abcd", b"\x01a\x0a", b"\x01a\x05\0"])
    def test_broken_headers(self, block: bytes) -> None:
        """Headers that break off, or are of no known type, make the stream unreadable, not an exception."""
        splitter = FrameSplitter()
        assert splitter.feed(raw_frame(block)) == []
        assert splitter.broken

    @given(st.integers(0, len(HELLO) - 1), st.integers(1, 255))
    def test_one_wrong_byte(self, place: int, flip: int) -> None:
        """A frame with any byte changed is never taken for a frame."""
        spoilt = bytearray(HELLO)
        spoilt[place] ^= flip
        splitter = FrameSplitter()
        assert splitter.feed(bytes(spoilt)) == []
        assert splitter.broken

    @pytest.mark.parametrize(
        ("total", "header_bytes"),
        [
            (0, 0),
            (MIN_FRAME_BYTES - 1, 0),
            (MIN_FRAME_BYTES + 4, 5),
            (2**32 - 1, 0),
            (MIN_FRAME_BYTES + MAX_PAYLOAD_BYTES + 1, 0),
            (MIN_FRAME_BYTES + 2 * MAX_HEADERS_BYTES, MAX_HEADERS_BYTES + 1),
        ],
    )
    def test_lengths_out_of_bounds(self, total: int, header_bytes: int) -> None:
        """A length that no client takes is refused by its prelude alone, and nothing is kept for it."""
        splitter = FrameSplitter()
        assert splitter.feed(prelude(total, header_bytes)) == []
        assert splitter.broken

    @given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
    def test_any_bytes(self, data: bytes, places: list[int]) -> None:
        """No bytes raise anything, and no byte is lost."""
        splitter = FrameSplitter()
        frames = [frame for piece in split(data, places) if not splitter.broken for frame in splitter.feed(piece)]
        assert data.startswith(b"".join(frame.raw for frame in frames) + splitter.rest)


class TestMeter:
    def test_gives_whole_frames_only(self) -> None:
        """Half a frame waits for its end, so that what we write never stands inside one."""
        meter = Kept()
        assert meter.feed(HELLO + HELLO[:20]) == HELLO
        assert meter.feed(HELLO[20:-1]) == b""
        assert not meter.inside_frame
        assert meter.feed(HELLO[-1:]) == HELLO
        assert meter.end() == b""
        assert len(meter.frames) == 2
        assert meter.reading.unreadable == ""

    @given(st.integers(1, 3 * len(HELLO)))
    def test_truncated(self, length: int) -> None:
        """A stream that ends inside a frame gives every byte, and can't be counted any more."""
        meter = Kept()
        data = (3 * HELLO)[:length]
        assert meter.feed(data) + meter.end() == data
        assert len(meter.frames) == length // len(HELLO)
        assert bool(meter.reading.unreadable) is (length % len(HELLO) != 0)

    def test_broken_stream_passes(self) -> None:
        """What is no frame goes on as it came, at once and for good, and can't be counted."""
        meter = Kept()
        bad = b"no frame at all, is it?"
        assert meter.feed(HELLO + bad) == HELLO + bad
        assert meter.inside_frame
        assert meter.feed(HELLO) == HELLO
        assert meter.end() == b""
        assert len(meter.frames) == 1
        assert "checksum" in meter.reading.unreadable

    def test_invalid_event(self) -> None:
        """A frame whose payload a dialect can't read passes, and the stream can't be counted."""
        meter = Kept()
        frame = encode_frame({}, b"bad")
        assert meter.feed(frame) == frame
        assert meter.reading.unreadable

    def test_memory_is_bounded(self) -> None:
        """A frame that never ends is kept up to its stated length, which is bounded; one of more is not kept at all."""
        meter: Any = Kept()
        endless = prelude(2**31, 0)
        assert meter.feed(endless) == endless
        for _ in range(100):
            assert len(meter.feed(bytes(100_000))) == 100_000
        assert meter._splitter.rest == b""
