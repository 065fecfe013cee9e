"""Content encodings (RFC 9110 8.4): decoded piece by piece, each flush at once, each step bounded."""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import brotli  # type: ignore[import-untyped]

MAX_FEED_BYTES = 64 * 1024 * 1024
"""The most one piece may decode to: a network piece is 64 KiB or so, and a body's whole bound is no larger."""
MAX_STACKED = 3
"""Encodings on top of each other; more than two are not seen, and each multiplies what a bomb can do."""


class UndecodableBody(Exception):
    """The bytes are not what their content-encoding says, the encoding is unknown, or they decode to too much."""


class Decoder(Protocol):
    """Takes one content-encoding off, or several."""

    def feed(self, data: bytes) -> bytes:
        """Decode as much as these bytes complete; raises UndecodableBody."""
        ...

    def end(self) -> bytes:
        """Say that the body ended; raises UndecodableBody when it is incomplete."""
        ...


def decoder(content_encoding: str, max_feed_bytes: int = MAX_FEED_BYTES) -> Decoder:
    """Make the decoder for a content-encoding header's value; raises UndecodableBody for an unknown encoding.

    `max_feed_bytes` bounds what one call of `feed` gives.
    """
    names = [name.strip().lower() for name in content_encoding.split(",")]
    names = [name for name in names if name and name != "identity"]
    if len(names) > MAX_STACKED:
        raise UndecodableBody(f"{len(names)} content-encodings are stacked; at most {MAX_STACKED} are read")
    # The last one named was applied last, so it is taken off first.
    steps = [_make(name, max_feed_bytes) for name in reversed(names)]
    if not steps:
        return _Identity()
    return steps[0] if len(steps) == 1 else _Stacked(steps)


def decode_body(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    """Decode a whole body of at most `max_bytes` when decoded; raises UndecodableBody."""
    taken_off = decoder(content_encoding, max_bytes)
    decoded = taken_off.feed(body) + taken_off.end()
    if len(decoded) > max_bytes:
        raise UndecodableBody(_too_large(max_bytes))
    return decoded


def _make(name: str, max_feed_bytes: int) -> Decoder:
    if name in ("gzip", "x-gzip"):
        return _Zlib(_gzip_stream, max_feed_bytes, members=True)
    if name == "deflate":
        return _Deflate(max_feed_bytes)
    if name == "br":
        return _Brotli(max_feed_bytes)
    if name == "zstd":
        return _zstd(max_feed_bytes)
    raise UndecodableBody(f"the content-encoding {name[:40]!r} is unknown")


def _too_large(max_bytes: int) -> str:
    return f"the body decodes to more than {max_bytes} bytes"


class _Identity:
    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bytes:
        return b""


class _Stacked:
    def __init__(self, steps: Sequence[Decoder]) -> None:
        self._steps = steps

    def feed(self, data: bytes) -> bytes:
        for step in self._steps:
            data = step.feed(data)
        return data

    def end(self) -> bytes:
        rest = b""
        for step in self._steps:
            rest = (step.feed(rest) if rest else b"") + step.end()
        return rest


def _gzip_stream() -> zlib._Decompress:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _zlib_stream() -> zlib._Decompress:
    return zlib.decompressobj(zlib.MAX_WBITS)


def _raw_stream() -> zlib._Decompress:
    return zlib.decompressobj(-zlib.MAX_WBITS)


class _Zlib:
    """One zlib format; with `members`, several after each other, as gzip allows (RFC 1952 2.2)."""

    def __init__(self, make: Callable[[], zlib._Decompress], max_feed_bytes: int, *, members: bool) -> None:
        self._make = make
        self._stream = make()
        self._members = members
        self._max_feed_bytes = max_feed_bytes
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        output = bytearray()
        while data:
            if self._stream.eof:
                if not self._members:
                    return bytes(output)
                data = data.lstrip(b"\0")  # gzip pads its last member with zeros on tapes and in some servers
                if not data:
                    break
                self._stream = self._make()
            try:
                output += self._stream.decompress(data, self._max_feed_bytes + 1 - len(output))
            except zlib.error as error:
                raise UndecodableBody("the body is not what its content-encoding says") from error
            self._begun = True
            if len(output) > self._max_feed_bytes:
                raise UndecodableBody(_too_large(self._max_feed_bytes))
            data = self._stream.unused_data
        return bytes(output)

    def end(self) -> bytes:
        if self._begun and not self._stream.eof:
            raise UndecodableBody("the encoded body is incomplete")
        return b""


class _Deflate:
    """Either meaning of "deflate": zlib's format by RFC 9110 8.4.1.2, a raw deflate stream by many servers."""

    def __init__(self, max_feed_bytes: int) -> None:
        self._max_feed_bytes = max_feed_bytes
        self._head = b""
        self._inner: _Zlib | None = None

    def feed(self, data: bytes) -> bytes:
        if self._inner is None:
            self._head += data
            if len(self._head) < 2:
                return b""
            data, self._head = self._head, b""
            # zlib's two header bytes: method 8, and together a multiple of 31 (RFC 1950 2.2).
            is_zlib = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            make = _zlib_stream if is_zlib else _raw_stream
            self._inner = _Zlib(make, self._max_feed_bytes, members=False)
        return self._inner.feed(data)

    def end(self) -> bytes:
        if self._inner is not None:
            return self._inner.end()
        if self._head:
            raise UndecodableBody("the encoded body is incomplete")
        return b""


class _Brotli:
    def __init__(self, max_feed_bytes: int) -> None:
        self._stream = brotli.Decompressor()
        self._max_feed_bytes = max_feed_bytes
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        if not data:
            return b""
        self._begun = True
        output = bytearray()
        try:
            if self._stream.is_finished():
                return b""
            output += self._stream.process(data, output_buffer_limit=self._max_feed_bytes + 1)
            while not self._stream.can_accept_more_data() and len(output) <= self._max_feed_bytes:
                output += self._stream.process(b"", output_buffer_limit=self._max_feed_bytes + 1)
        except brotli.error as error:
            raise UndecodableBody("the body is not what its content-encoding says") from error
        if len(output) > self._max_feed_bytes:
            raise UndecodableBody(_too_large(self._max_feed_bytes))
        return bytes(output)

    def end(self) -> bytes:
        if self._begun and not self._stream.is_finished():
            raise UndecodableBody("the encoded body is incomplete")
        return b""


class _ZstdFrames:
    """Zstandard frames after each other (RFC 8878 3.1), through whichever module is installed.

    mitmproxy brings `zstandard` up to 12.2 and the standard library's `compression.zstd` (or its backport) after it.
    """

    def __init__(self, make: Callable[[], Any], errors: tuple[type[Exception], ...], max_feed_bytes: int) -> None:
        self._make = make
        self._errors = errors
        self._stream = make()
        self._max_feed_bytes = max_feed_bytes
        self._begun = False

    def feed(self, data: bytes) -> bytes:
        output = bytearray()
        for start in range(0, len(data), _ZSTD_SLICE_BYTES):
            piece = data[start : start + _ZSTD_SLICE_BYTES]
            while piece:
                if self._stream.eof:
                    self._stream = self._make()
                try:
                    output += self._stream.decompress(piece)
                except self._errors as error:
                    raise UndecodableBody("the body is not what its content-encoding says") from error
                self._begun = True
                if len(output) > self._max_feed_bytes:
                    raise UndecodableBody(_too_large(self._max_feed_bytes))
                piece = self._stream.unused_data if self._stream.eof else b""
        return bytes(output)

    def end(self) -> bytes:
        if self._begun and not self._stream.eof:
            raise UndecodableBody("the encoded body is incomplete")
        return b""


_ZSTD_SLICE_BYTES = 1024
"""A block of 4 bytes may decode to 128 KiB (RFC 8878 3.1.1.2), so a slice gives at most 32 MiB before we look."""
_ZSTD_WINDOW_LOG = 23
"""8 MiB, the largest window a content-encoding may use (RFC 9659)."""


def _zstd_backend() -> tuple[Callable[[], Any], tuple[type[Exception], ...]] | None:
    """Find a Zstandard module; each name is imported only if it is there."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        options = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        return partial(module.ZstdDecompressor, options=options), (module.ZstdError, EOFError)
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        return None
    context = zstandard.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG)
    return context.decompressobj, (zstandard.ZstdError,)


_ZSTD = _zstd_backend()


def _zstd(max_feed_bytes: int) -> Decoder:
    if _ZSTD is None:
        raise UndecodableBody("no module for the content-encoding 'zstd' is installed")
    make, errors = _ZSTD
    return _ZstdFrames(make, errors, max_feed_bytes)
