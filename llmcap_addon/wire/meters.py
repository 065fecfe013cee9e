"""The meters that are no event stream: a body read when it is whole, and an error answer that only passes."""

from __future__ import annotations

from llmcap_addon.usage import Reading

MAX_BODY_BYTES = 64 * 1024 * 1024
"""The largest unstreamed answer kept to read its usage: several inline images, or 2,000 embeddings as text."""


class BodyMeter:
    """Passes the bytes on at once and reads the whole body at its end; a dialect's own does so in `on_body`."""

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.reading = Reading()
        self._max_body_bytes = max_body_bytes
        self._body = bytearray()
        self._overflowed = False

    def feed(self, data: bytes) -> bytes:
        """Keep the bytes for the end, up to the bound, and pass them on."""
        if not self._overflowed:
            if len(self._body) + len(data) > self._max_body_bytes:
                self._overflowed = True
                self._body.clear()
                self.reading.unreadable = f"the answer is larger than {self._max_body_bytes} bytes"
            else:
                self._body += data
        return data

    def end(self) -> bytes:
        """Read the body; keeps nothing back."""
        if not self._overflowed:
            try:
                self.on_body(bytes(self._body))
            except (ValueError, RecursionError):
                self.mark_unreadable("the answer is not valid JSON")
            self._body.clear()
        return b""

    def on_body(self, body: bytes) -> None:
        """Read the whole body. May raise ValueError."""
        raise NotImplementedError

    def mark_unreadable(self, why: str) -> None:
        """Say that something was not understood, unless the provider's last word on usage is already known."""
        if not self.reading.final and not self.reading.unreadable:
            self.reading.unreadable = why


class FailedMeter:
    """Passes the answer of a failed request, of which nothing is billed; what the error says is the client's affair."""

    def __init__(self) -> None:
        self.reading = Reading(failed=True)

    def feed(self, data: bytes) -> bytes:
        """Pass the bytes on."""
        return data

    def end(self) -> bytes:
        """Keep nothing back."""
        return b""
