"""Server-sent events: bytes → whole events, and the meter that every event stream's meter stands on.

The format is WHATWG HTML's "event stream interpretation": lines end in LF, CR or CRLF, a blank line ends an event,
a line that begins with a colon is a comment. A stream may be split at any byte.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from llmcap_addon.usage import Reading

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""The largest event we keep to read it: above the largest inline image that a provider streams in one event."""

_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event, or a comment or blank line that stands between events (then `data` is empty)."""

    raw: bytes
    """The bytes as they came, with the blank line; joined, the raws of all events are the stream."""
    name: str = ""
    data: bytes = b""
    """The data lines joined by LF."""


class SseSplitter:
    """Splits a stream into events, each as soon as its last byte is there.

    A comment is given out as soon as its line is whole: it keeps the connection alive and must not wait for an event.
    Past `MAX_EVENT_BYTES` in one event `overflowed` is set, and from then on the bytes come out as they are, unread.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.overflowed = False
        self._max_event_bytes = max_event_bytes
        self._buffer = bytearray()
        self._line_start = 0
        self._after_cr = False
        self._first_line = True
        self._has_fields = False
        self._name = ""
        self._data: list[bytes] = []

    @property
    def rest(self) -> bytes:
        """The bytes of an unfinished event so far."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes, give the events they complete."""
        if self.overflowed:
            return [Event(data)] if data else []
        if not data:
            return []
        if not self._buffer and not self._first_line and (plain := self._one_plain(data)) is not None:
            return [plain]
        events: list[Event] = []
        buffer = self._buffer
        position = len(buffer)
        event_start = 0
        buffer += data
        if self._after_cr and data[0] == 0x0A:
            # The LF of a CRLF whose CR has already ended its line. When that CR ended an event, the LF is given out
            # at once: a client that looks for CRLF CRLF must not wait for the next event.
            position += 1
            self._line_start = position
            if position == 1:
                events.append(Event(b"\n"))
                event_start = 1
        while (end := _LINE_END.search(buffer, position)) is not None:
            position = end.end()
            line = bytes(buffer[self._line_start : end.start()])
            self._line_start = position
            if self._take_line(line):
                events.append(Event(bytes(buffer[event_start:position]), self._name, b"\n".join(self._data)))
                self._reset()
                event_start = position
        self._after_cr = data.endswith(b"\r")
        del buffer[:event_start]
        self._line_start -= event_start
        if len(buffer) > self._max_event_bytes:
            self.overflowed = True
            events.append(Event(bytes(buffer)))
            buffer.clear()
        return events

    def _one_plain(self, data: bytes) -> Event | None:
        """Read a piece that is one whole event in the form in which providers send them, the same as the long way."""
        if not data.endswith(b"\n\n") or b"\r" in data or self._after_cr or len(data) > self._max_event_bytes:
            return None
        name, _, rest = data.partition(b"\n") if data.startswith(b"event: ") else (b"", b"", data)
        if not rest.startswith(b"data: ") or rest.find(b"\n") != len(rest) - 2:
            return None
        return Event(data, name[7:].decode("utf-8", "replace"), rest[6:-2])

    def end(self) -> Event | None:
        """Say that the stream ended; gives a last event that lacks its blank line, as far as it came."""
        if not self._buffer:
            return None
        line = bytes(self._buffer[self._line_start :])
        if line:
            self._take_line(line)
        event = Event(bytes(self._buffer), self._name, b"\n".join(self._data))
        self._buffer.clear()
        self._line_start = 0
        self._reset()
        return event

    def _take_line(self, line: bytes) -> bool:
        """Read one line; True when what came so far can be given out."""
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(_BOM)
        if not line:
            return True
        if line.startswith(b":"):
            return not self._has_fields
        self._has_fields = True
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
        return False

    def _reset(self) -> None:
        self._has_fields = False
        self._name = ""
        self._data = []


class SseMeter:
    """A meter for an event stream; a dialect's own says what an event means in `on_event`.

    It gives out whole events, several in one piece when they came in one piece. The bytes of an unfinished event stay
    until it is whole: no client can use them earlier, and so a cut never follows half an event.
    """

    def __init__(self) -> None:
        self.reading = Reading()
        self._splitter = SseSplitter()

    @property
    def inside_event(self) -> bool:
        """True when the client may hold half an event, which only an event above the bound can cause."""
        return self._splitter.overflowed

    def feed(self, data: bytes) -> bytes:
        """Read the events that these bytes complete, and give those that the client shall see."""
        kept = [event.raw for event in self._splitter.feed(data) if self._keeps(event, whole=True)]
        if self._splitter.overflowed:
            self.mark_unreadable(f"an event of the stream is larger than {MAX_EVENT_BYTES} bytes")
        return kept[0] if len(kept) == 1 else b"".join(kept)

    def end(self) -> bytes:
        """Read what was left without a blank line, and give it: the provider ended its stream there."""
        event = self._splitter.end()
        if event is None:
            return b""
        return event.raw if self._keeps(event, whole=False) else b""

    def on_event(self, event: Event) -> bool:
        """Read one event with data; False takes it out of what the client sees. May raise ValueError."""
        raise NotImplementedError

    def on_half_event(self, event: Event) -> None:
        """Read a last event that broke off and is no longer valid; count what it holds from above."""

    def on_garbled_event(self, event: Event) -> None:  # noqa: ARG002 - others look into it
        """Read a whole event that is not valid: nothing is known of it, unless a dialect can count it from above."""
        self.mark_unreadable("an event of the stream is not valid")

    def mark_unreadable(self, why: str) -> None:
        """Say that something was not understood, unless the provider's last word on usage is already known."""
        if not self.reading.final and not self.reading.unreadable:
            self.reading.unreadable = why

    def _keeps(self, event: Event, *, whole: bool) -> bool:
        if not event.data:
            return True
        try:
            return self.on_event(event)
        except (ValueError, RecursionError):
            if whole:
                self.on_garbled_event(event)
            else:
                self.on_half_event(event)
            return True
