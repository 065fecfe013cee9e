"""Content encodings of the stand-ins: a compressor that flushes after every piece, as streaming servers do."""

from __future__ import annotations

import importlib
import sys
import zlib
from typing import Any, Protocol

import brotli  # type: ignore[import-untyped]


def _zstd() -> tuple[Any, Any, Any]:
    """Make a compressor, and give its modes "end the block" and "end the frame".

    mitmproxy 12.3 brings backports.zstd (Python 3.14 has its own) in place of zstandard, so either may be there.
    """
    try:
        zstandard = importlib.import_module("zstandard")
    except ImportError:
        modern = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
        compressor = modern.ZstdCompressor()
        return compressor, compressor.FLUSH_BLOCK, compressor.FLUSH_FRAME
    compressor = zstandard.ZstdCompressor().compressobj()
    return compressor, zstandard.COMPRESSOBJ_FLUSH_BLOCK, zstandard.COMPRESSOBJ_FLUSH_FINISH


_GZIP_WINDOW_BITS = 31
"""zlib's way to say "gzip framing, the largest window"."""


class Encoder(Protocol):
    """Compresses one body."""

    def encode(self, data: bytes) -> bytes:
        """Compress a piece so that a reader can decode all of it at once."""
        ...

    def finish(self) -> bytes:
        """End the body."""
        ...


class Identity:
    """No encoding."""

    def encode(self, data: bytes) -> bytes:
        """Give the piece as it is."""
        return data

    def finish(self) -> bytes:
        """Add nothing."""
        return b""


class Gzip:
    """gzip, with a sync flush a piece."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(wbits=_GZIP_WINDOW_BITS)

    def encode(self, data: bytes) -> bytes:
        """Compress and flush."""
        return self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """Write the trailer."""
        return self._compressor.flush()


class Brotli:
    """br, with a flush a piece."""

    def __init__(self) -> None:
        self._compressor = brotli.Compressor(quality=5)

    def encode(self, data: bytes) -> bytes:
        """Compress and flush."""
        return bytes(self._compressor.process(data) + self._compressor.flush())

    def finish(self) -> bytes:
        """Write the last block."""
        return bytes(self._compressor.finish())


class Zstandard:
    """zstd, with a block flush a piece."""

    def __init__(self) -> None:
        self._compressor, self._block, self._frame = _zstd()

    def encode(self, data: bytes) -> bytes:
        """Compress and flush."""
        return bytes(self._compressor.compress(data) + self._compressor.flush(self._block))

    def finish(self) -> bytes:
        """End the frame."""
        return bytes(self._compressor.flush(self._frame))


_ENCODERS: dict[str, type[Encoder]] = {"": Identity, "gzip": Gzip, "br": Brotli, "zstd": Zstandard}


def encoder(name: str) -> Encoder:
    """Make the encoder of one body; "" is none."""
    return _ENCODERS[name]()
