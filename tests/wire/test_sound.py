from __future__ import annotations

import io
import itertools
import struct
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.wire.sound import MpegLength, length_ms, mpeg_frame

FRAME = b"\xff\xf3\x84\xc4" + bytes(188)
"""MPEG-2 layer III, 24 kHz, 64 kbit a second: 192 bytes, 24 ms."""


def of(data: bytes) -> int:
    return length_ms(memoryview(data))


def riff(seconds: float, rate: int = 16_000, channels: int = 2) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(bytes(int(rate * seconds) * channels * 2))
    return file.getvalue()


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def flac(samples: int, rate: int = 44_100) -> bytes:
    return b"fLaC" + b"\0\0\0\x22" + bytes(10) + ((rate << 44) | samples).to_bytes(8, "big") + bytes(16)


def ogg(samples: int, first: bytes = b"OpusHead\x01") -> bytes:
    return b"OggS\0\x02" + bytes(22) + first + bytes(80) + b"OggS\0\x04" + struct.pack("<q", samples) + bytes(20)


@pytest.mark.parametrize(
    ("data", "ms"),
    [
        (riff(1.5), 1_500),
        (riff(2, rate=8_000, channels=1), 2_000),
        (flac(44_100 * 3), 3_000),
        (ogg(48_000 * 7), 7_000),
        (ogg(44_100, b"\x01vorbis" + bytes(5) + struct.pack("<I", 44_100)), 1_000),
        (
            box(b"ftyp", b"M4A ") + box(b"moov", box(b"mvhd", bytes(12) + struct.pack(">II", 600, 5_400) + bytes(80))),
            9_000,
        ),
        (FRAME * 50, 1_200),
        (b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + FRAME * 50, 1_200),
    ],
)
def test_a_container_says_how_long_it_is(data: bytes, ms: int) -> None:
    """WAVE, FLAC, Ogg, MP4 and MP3 are as long as their heads or frames say."""
    assert of(data) == ms


@pytest.mark.parametrize("data", [b"x" * 7_500, b"\x1aE\xdf\xa3" + b"x" * 7_496, flac(0) + bytes(7_458), bytes(7_500)])
def test_what_says_nothing_is_as_long_as_its_size_allows(data: bytes) -> None:
    """No codec needs less than 750 bytes a second."""
    assert of(data) == 10_000


def test_a_recorder_that_did_not_know_the_length_is_not_believed() -> None:
    """A WAVE file of size 0 or "endless" is as long as what there is."""
    data = riff(1)
    for size in (0, 0xFFFF_FFFF):
        assert of(data[:40] + struct.pack("<I", size) + data[44:]) == 1_000


def test_frames_have_the_lengths_of_the_standard() -> None:
    """MPEG-1 at 128 kbit and 44.1 kHz: 417 bytes (418 padded), 26.1 ms; a reserved rate is no frame."""
    assert mpeg_frame(b"\xff\xfb\x90\x00") == (417, 26_123)
    assert mpeg_frame(b"\xff\xfb\x92\x00") == (418, 26_123)
    assert mpeg_frame(FRAME[:4]) == (192, 24_000)
    for head in (b"\xff\xfb\xf0\x00", b"\xff\xfb\x9c\x00", b"\xff\xf1\x50\x80", b"\xff\xfb", b"abcd"):
        assert mpeg_frame(head) is None


@given(st.lists(st.integers(0, 192 * 20), max_size=8), st.binary(max_size=40))
def test_frames_are_added_up_however_they_come(cuts: list[int], garbage: bytes) -> None:
    """No split changes a length, and what is no frame never shortens it."""
    data = FRAME * 20
    length = MpegLength()
    edges = [0, *sorted(cuts), len(data)]
    for start, stop in itertools.pairwise(edges):
        length.feed(data[start:stop])
    assert length.ms == 480
    lost = MpegLength()
    lost.feed(FRAME * 20 + garbage)
    assert lost.ms >= 480


@given(
    st.binary(max_size=200), st.sampled_from([b"RIFF\0\0\0\0WAVE", b"fLaC", b"OggS", b"\0\0\0\x18ftyp", b"ID3", b""])
)
def test_no_recording_raises(data: bytes, head: bytes) -> None:
    """Whatever it holds, it has a length."""
    assert of(head + data) >= 0
