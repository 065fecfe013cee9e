"""How long recorded sound lasts, from its container's own words, else from above by its size.

WAVE (RIFF), FLAC (RFC 9639: STREAMINFO), Ogg (RFC 3533: the last page's position), ISO media (mvhd), MPEG audio
(ISO 11172-3, 13818-3: frame headers).
"""

from __future__ import annotations

from collections.abc import Iterator

SLOWEST_BYTES_PER_SECOND = 750
"""No codec in use needs less than 6 kbit a second (Opus at its lowest)."""
MAX_MS = 10**9
"""Eleven days; no host takes a recording nearly as long, so a container that says so is not believed."""
_TAIL_BYTES = 128 * 1024
"""The last page of an Ogg file stands in this: pages have at most 65,307 bytes."""
_COPIED_BYTES = 1 << 16
"""Copied at once out of a recording that is looked through."""
_TAG, _TAG_BYTES, _FRAME_HEAD_BYTES = b"ID3", 10, 4
_MAX_BOXES = 1_000
"""Boxes looked through on one level of an MP4 file."""

_RATES = (44_100, 48_000, 32_000)
_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


def length_ms(data: memoryview) -> int:
    """Bound the length of a recording, in milliseconds."""
    head = bytes(data[:64])
    found: int | None = None
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        found = _wave(data)
    elif head[:4] == b"fLaC":
        found = _flac(head)
    elif head[:4] == b"OggS":
        found = _ogg(data)
    elif head[4:8] == b"ftyp":
        found = _iso(data)
    elif head[:3] == b"ID3" or mpeg_frame(head):
        length = MpegLength()
        length.feed(data)
        found = length.ms
    if found is None or not 0 < found <= MAX_MS:
        return -(-len(data) * 1000 // SLOWEST_BYTES_PER_SECOND)
    return found


def _wave(data: memoryview) -> int | None:
    per_second = 0
    for kind, start, size in _chunks(data):
        if kind == b"fmt " and size >= 16:
            codec, channels = _little(data[start : start + 2]), _little(data[start + 2 : start + 4])
            bits = _little(data[start + 14 : start + 16])
            if codec in (1, 3, 0xFFFE):  # plain samples; others are compressed
                per_second = _little(data[start + 4 : start + 8]) * channels * bits // 8
        elif kind == b"data" and per_second:
            # A recorder that did not know the length writes 0 or the most there is.
            there = len(data) - start
            return -(-(min(size, there) if 0 < size < 0xFFFF_FF00 else there) * 1000 // per_second)
    return None


def _chunks(data: memoryview) -> Iterator[tuple[bytes, int, int]]:
    position = 12
    for _ in range(_MAX_BOXES):
        if position + 8 > len(data):
            return
        size = _little(data[position + 4 : position + 8])
        yield bytes(data[position : position + 4]), position + 8, size
        position += 8 + size + size % 2


def _flac(head: bytes) -> int | None:
    packed = int.from_bytes(head[18:26], "big")
    rate, samples = packed >> 44, packed & 0xF_FFFF_FFFF
    return -(-samples * 1000 // rate) if rate and samples else None


def _ogg(data: memoryview) -> int | None:
    head, tail = bytes(data[:128]), bytes(data[-_TAIL_BYTES:])
    place = tail.rfind(b"OggS")
    samples = int.from_bytes(tail[place + 6 : place + 14], "little")
    if place < 0 or not 0 < samples < 1 << 62:
        return None
    if b"OpusHead" in head:
        rate = 48_000  # RFC 7845: always
    elif (vorbis := head.find(b"\x01vorbis")) >= 0:
        rate = int.from_bytes(head[vorbis + 12 : vorbis + 16], "little")
    else:
        return None
    return -(-samples * 1000 // rate) if rate else None


def _iso(data: memoryview) -> int | None:
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"moov":
            for inner, begin, _ in _boxes(data, start, end):
                if inner == b"mvhd":
                    return _movie_length(bytes(data[begin : begin + 32]))
    return None


def _movie_length(head: bytes) -> int | None:
    if len(head) < 32:
        return None
    scale, length = (head[20:24], head[24:32]) if head[0] == 1 else (head[12:16], head[16:20])
    per_second = int.from_bytes(scale, "big")
    return -(-int.from_bytes(length, "big") * 1000 // per_second) if per_second else None


def _boxes(data: memoryview, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    for _ in range(_MAX_BOXES):
        if position + 8 > end:
            return
        size, head = int.from_bytes(data[position : position + 4], "big"), 8
        if size == 1 and position + 16 <= end:
            size, head = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        size = size or end - position
        if size < head:
            return
        yield bytes(data[position + 4 : position + 8]), position + head, min(position + size, end)
        position += size


class MpegLength:
    """Adds up the frames of MPEG audio as it comes; what is no frame counts as the slowest there could be."""

    def __init__(self) -> None:
        self._head = b""
        self._skip = 0
        self._frames_us = 0
        self._lost_bytes = 0
        self._begun = False

    @property
    def ms(self) -> int:
        """The length so far, in milliseconds."""
        return -(-self._frames_us // 1000) + -(-self._lost_bytes * 1000 // SLOWEST_BYTES_PER_SECOND)

    def feed(self, data: bytes | memoryview) -> None:
        """Take some bytes."""
        for start in range(0, len(data), _COPIED_BYTES):
            piece = self._head + bytes(data[start : start + _COPIED_BYTES])
            self._head = b""
            position = 0
            while position < len(piece):
                position = self._step(piece, position)

    def _step(self, data: bytes, position: int) -> int:
        """Read what begins here, and give where the next thing does."""
        left = len(data) - position
        if self._skip:
            step = min(self._skip, left)
            self._skip -= step
            return position + step
        if left < (_TAG_BYTES if data[position] == _TAG[0] else _FRAME_HEAD_BYTES):
            self._head = data[position:]
            return len(data)
        if not self._begun and data.startswith(_TAG, position):  # its size has seven bits a byte (ID3v2.4, section 3.1)
            size = reversed(data[position + 6 : position + _TAG_BYTES])
            self._skip = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(size))
            self._begun = True
            return position + _TAG_BYTES
        self._begun = True
        frame = mpeg_frame(data[position : position + _FRAME_HEAD_BYTES])
        if frame is None:
            found = data.find(b"\xff", position + 1)
            found = len(data) if found < 0 else found
            self._lost_bytes += found - position
            return found
        self._skip = frame[0]
        self._frames_us += frame[1]
        return position


def mpeg_frame(head: bytes | bytearray) -> tuple[int, int] | None:
    """Give a layer III frame's size in bytes and its length in microseconds, rounded up; None for no frame's head."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version = head[1] >> 3 & 3  # 3 is MPEG-1, 2 is MPEG-2, 0 is MPEG-2.5
    kbits_at, rate_at = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbits_at in (0, 15) or rate_at == 3:
        return None
    rate = _RATES[rate_at] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 1152 if version == 3 else 576
    kbits = (_KBITS_1 if version == 3 else _KBITS_2)[kbits_at]
    size = samples // 8 * kbits * 1000 // rate + (head[2] >> 1 & 1)
    return size, -(-samples * 1_000_000 // rate)


def _little(data: memoryview) -> int:
    return int.from_bytes(data, "little")
