"""Amazon's binary event streams: bytes → whole frames, frames → bytes, and the meter that stands on them.

The format is "application/vnd.amazon.eventstream" (Smithy's event stream specification; botocore's `eventstream`): big
endian, total length, headers' length, CRC-32 of these eight bytes, headers, payload, CRC-32 of all before it. A stream
may be split at any byte.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import pack, unpack_from

from llmcap_addon.usage import Reading

PRELUDE_BYTES = 12
CRC_BYTES = 4
MIN_FRAME_BYTES = PRELUDE_BYTES + CRC_BYTES
MAX_HEADERS_BYTES = 128 * 1024
MAX_PAYLOAD_BYTES = 24 * 1024 * 1024
"""What botocore takes at most of each; a longer frame is an error to every client, so we need not keep it."""

_STRING = 7
_SIZED = (6, _STRING)
_FIXED_BYTES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type: true, false, int8 to int64, timestamp, UUID."""


class BadFrameError(ValueError):
    """Bytes that are no frame: a length above the bound, a checksum that does not fit, broken headers."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of a stream."""

    raw: bytes = field(repr=False)
    """The bytes as they came; joined, the raws of all frames are the stream."""
    headers: Mapping[str, str]
    """Those whose value is a text."""
    payload: bytes = field(repr=False)

    @property
    def kind(self) -> str:
        """Say what the frame carries: "event", "exception" or "error"."""
        return self.headers.get(":message-type", "")

    @property
    def name(self) -> str:
        """Name the event or the exception."""
        return self.headers.get(":event-type") or self.headers.get(":exception-type", "")


class FrameSplitter:
    """Splits a stream into frames, each as soon as its last byte is there.

    After bytes that are no frame there is no way back to the beginning of one: `broken` then says why, and from there
    on `rest` and all that comes are bytes of unknown meaning.
    """

    def __init__(self, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self.broken = ""
        self._max_payload_bytes = max_payload_bytes
        self._buffer = bytearray()

    @property
    def rest(self) -> bytes:
        """The bytes of an unfinished frame so far."""
        return bytes(self._buffer)

    def take_rest(self) -> bytes:
        """Give up the bytes of an unfinished frame."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes, give the frames they complete."""
        self._buffer += data
        frames: list[Frame] = []
        start = 0
        try:
            while not self.broken:
                total = self._length(start)
                if total is None or len(self._buffer) - start < total:
                    break
                frames.append(_frame(bytes(self._buffer[start : start + total])))
                start += total
        except BadFrameError as error:
            self.broken = str(error)
        del self._buffer[:start]
        return frames

    def _length(self, start: int) -> int | None:
        """Give the length of the frame that begins here; None while its prelude is not whole."""
        if len(self._buffer) - start < PRELUDE_BYTES:
            return None
        total, headers, crc = unpack_from(">III", self._buffer, start)
        if crc != zlib.crc32(self._buffer[start : start + 8]):
            raise BadFrameError("the checksum of a frame's prelude does not fit")
        if headers > MAX_HEADERS_BYTES:
            raise BadFrameError(f"the headers of a frame are longer than {MAX_HEADERS_BYTES} bytes")
        if not 0 <= int(total) - int(headers) - MIN_FRAME_BYTES <= self._max_payload_bytes:
            raise BadFrameError("the length of a frame is out of bounds")
        return int(total)


def _frame(raw: bytes) -> Frame:
    _, headers = unpack_from(">II", raw)
    (crc,) = unpack_from(">I", raw, len(raw) - CRC_BYTES)
    if crc != zlib.crc32(memoryview(raw)[:-CRC_BYTES]):
        raise BadFrameError("the checksum of a frame does not fit")
    end = PRELUDE_BYTES + headers
    return Frame(raw, _headers(raw[PRELUDE_BYTES:end]), raw[end:-CRC_BYTES])


def _headers(block: bytes) -> dict[str, str]:
    """Read a frame's headers: a name's length, the name, a type, a value; a value of open size has its own length."""
    found: dict[str, str] = {}
    position = 0
    while position < len(block):
        name, position = _take(block, position + 1, block[position])
        kind, position = _take(block, position, 1)
        if kind[0] in _SIZED:
            size, position = _take(block, position, 2)
            value, position = _take(block, position, int.from_bytes(size, "big"))
        elif kind[0] in _FIXED_BYTES:
            value, position = _take(block, position, _FIXED_BYTES[kind[0]])
        else:
            raise BadFrameError("a frame's header has an unknown type")
        if kind[0] == _STRING:
            found[name.decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return found


def _take(block: bytes, position: int, size: int) -> tuple[bytes, int]:
    if position + size > len(block):
        raise BadFrameError("a frame's headers break off")
    return block[position : position + size], position + size


def encode_frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """Write a frame whose headers are all texts."""
    block = b"".join(_header(name, value) for name, value in headers.items())
    prelude = pack(">II", MIN_FRAME_BYTES + len(block) + len(payload), len(block))
    frame = b"".join((prelude, pack(">I", zlib.crc32(prelude)), block, payload))
    return frame + pack(">I", zlib.crc32(frame))


def _header(name: str, value: str) -> bytes:
    key, data = name.encode(), value.encode()
    return b"".join((pack(">B", len(key)), key, pack(">BH", _STRING, len(data)), data))


class FrameMeter:
    """A meter for a binary event stream; a dialect's own says what a frame means in `on_frame`.

    It gives out whole frames only. No client can use half a frame earlier, and so what we write ourselves never stands
    inside one.
    """

    def __init__(self, reading: Reading | None = None) -> None:
        self.reading = Reading() if reading is None else reading
        self._splitter = FrameSplitter()

    @property
    def inside_frame(self) -> bool:
        """True when the client holds bytes that are no whole frame: nothing written behind them would be read."""
        return bool(self._splitter.broken)

    def feed(self, data: bytes) -> bytes:
        """Read the frames that these bytes complete, and give them; bytes that are no frames go on as they came."""
        if self.inside_frame:
            return data
        frames = self._splitter.feed(data)
        for frame in frames:
            try:
                self.on_frame(frame)
            except (ValueError, RecursionError):
                self.mark_unreadable("an event of the stream is not valid")
        shown = frames[0].raw if len(frames) == 1 else b"".join(frame.raw for frame in frames)
        if self._splitter.broken:
            self.mark_unreadable(self._splitter.broken)
            shown += self._splitter.take_rest()
        return shown

    def end(self) -> bytes:
        """Give what was left of a frame that broke off: the provider ended its stream there."""
        rest = self._splitter.take_rest()
        if rest:
            # What the lost event said is unknown: it may have been all of the answer.
            self.mark_unreadable("the stream broke off inside an event")
        return rest

    def on_frame(self, frame: Frame) -> None:
        """Read one frame. May raise ValueError."""
        raise NotImplementedError

    def mark_unreadable(self, why: str) -> None:
        """Say that something was not understood, unless the provider's last word on usage is already known."""
        if not self.reading.final and not self.reading.unreadable:
            self.reading.unreadable = why
