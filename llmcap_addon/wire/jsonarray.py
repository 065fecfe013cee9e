"""Splits one top-level JSON array into its elements while it arrives, as Google streams without `alt=sse`.

Only the nesting is followed, not the values: strings, escapes and multi-byte characters may be split anywhere. What
is passed on always ends after a whole element (or after the closing bracket), so that a cut never follows half of one.
"""

from __future__ import annotations

import re

MAX_ELEMENT_BYTES = 32 * 1024 * 1024
"""Most bytes kept while an element is incomplete: an answer's inline images come in one element and are a few MB."""

_STRUCTURE = re.compile(rb'["{}\[\]]')
_STRING_STOP = re.compile(rb'["\\]')
_NOT_SEPARATOR = re.compile(rb"[^\s,]")


class ArraySplitter:
    """Takes bytes, gives whole elements; a bare top-level object counts as the one element.

    `fault` says why the bytes are not such an array (empty while they are); from then on they pass unread.
    """

    def __init__(self) -> None:
        self.fault = ""
        self.begun = False
        """True once a whole element has been passed on."""
        self.closed = False
        """True once the closing bracket (or the bare object's end) has been passed on."""
        self._kept = bytearray()
        self._scanned = 0
        self._depth = 0
        self._element_start = 0
        self._in_string = False
        self._bare = False

    def feed(self, data: bytes) -> tuple[bytes, list[bytes]]:
        """Give what may be passed on now, and the elements that became whole, as their own JSON bytes."""
        if self.fault:
            return data, []
        self._kept += data
        elements: list[bytes] = []
        whole = 0
        try:
            while (at := self._next()) is not None:
                whole = self._step(at, elements) or whole
            self._check_size(len(self._kept) - whole)
        except ValueError as error:
            self.fault = str(error)
            whole = len(self._kept)
        return self._take(whole), elements

    def end(self) -> bytes:
        """Say that the body ended; gives what was still kept back, and sets `fault` when the array is incomplete."""
        if not self.fault and not self.closed:
            self.fault = "the JSON array ended early"
        return self._take(len(self._kept))

    def _check_size(self, size: int) -> None:
        if size > MAX_ELEMENT_BYTES:
            raise ValueError(f"an array element is longer than {MAX_ELEMENT_BYTES} bytes")

    def _take(self, size: int) -> bytes:
        """Remove and give the first `size` bytes of what is kept."""
        taken = bytes(self._kept[:size])
        del self._kept[:size]
        self._scanned = max(0, self._scanned - size)
        self._element_start = max(0, self._element_start - size)
        return taken

    def _next(self) -> int | None:
        """Position of the next byte that matters, or None when more bytes are needed."""
        if self._in_string:
            pattern = _STRING_STOP
        elif self._depth == 0 or (self._depth == 1 and not self._bare):
            pattern = _NOT_SEPARATOR
        else:
            pattern = _STRUCTURE
        found = pattern.search(self._kept, self._scanned)
        if found is None:
            self._scanned = len(self._kept)
            return None
        at = found.start()
        if self._in_string and self._kept[at] == ord("\\") and at + 1 == len(self._kept):
            self._scanned = at  # the escaped byte is still to come
            return None
        return at

    def _step(self, at: int, elements: list[bytes]) -> int:
        """Take the byte at `at`; gives the end of what is whole with it, or 0. Raises ValueError for no such array."""
        byte = bytes(self._kept[at : at + 1])
        self._scanned = at + 1
        if self._in_string:
            if byte == b"\\":
                self._scanned = at + 2
            else:
                self._in_string = False
        elif self.closed:
            raise ValueError("bytes after the JSON array")
        elif self._depth == 0:
            self._open(at, byte)
        elif byte == b'"' and self._depth >= self._element_depth:
            self._in_string = True
        elif byte in b"{[":
            if self._depth < self._element_depth:
                self._element_start = at
            self._depth += 1
        elif byte in b"]}":
            return self._close(at + 1, elements)
        else:
            raise ValueError("the JSON array holds something other than objects")
        return 0

    @property
    def _element_depth(self) -> int:
        """Depth inside an element's own brackets."""
        return 1 if self._bare else 2

    def _open(self, at: int, byte: bytes) -> None:
        if byte not in b"{[":
            raise ValueError("the body is not a JSON array")
        self._bare = byte == b"{"
        self._element_start = at
        self._depth = 1

    def _close(self, end: int, elements: list[bytes]) -> int:
        self._depth -= 1
        if self._depth == self._element_depth - 1:
            elements.append(bytes(self._kept[self._element_start : end]))
            self.begun = True
            self.closed = self._bare
            return end
        if self._depth == 0:
            self.closed = True
            return end
        return 0
