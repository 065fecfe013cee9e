"""JSON lines: whole lines out of bytes that are split anywhere."""

from __future__ import annotations

MAX_LINE_BYTES = 16 * 1024 * 1024
"""The longest line kept to read it: above the largest answer with an inline image."""


class LineSplitter:
    """Takes bytes, gives whole lines without what ends them; blank ones are left out.

    Past `MAX_LINE_BYTES` in one line `overflowed` is set, and nothing is given any more.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self.overflowed = False
        self._max_line_bytes = max_line_bytes
        self._kept = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, give the lines they complete."""
        if self.overflowed:
            return []
        whole, end, rest = data.rpartition(b"\n")
        if not end:
            self._keep(rest)
            return []
        lines = bytes(self._kept) + whole
        self._kept.clear()
        self._keep(rest)
        return [line for line in map(bytes.strip, lines.split(b"\n")) if line]

    def end(self) -> list[bytes]:
        """Say that the bytes have ended; gives a last line that nothing ends."""
        rest = bytes(self._kept).strip()
        self._kept.clear()
        return [rest] if rest else []

    def _keep(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > self._max_line_bytes:
            self.overflowed = True
            self._kept.clear()
