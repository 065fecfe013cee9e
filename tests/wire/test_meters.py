from __future__ import annotations

from llmcap_addon.wire.meters import BodyMeter


class Recording(BodyMeter):
    """Keeps the body it is given, and fails on "bad"."""

    body = b""

    def on_body(self, body: bytes) -> None:
        self.body = body
        if body == b"bad":
            raise ValueError("bad")


def test_a_body_passes_at_once_and_is_read_at_its_end() -> None:
    """No byte waits for the reading."""
    meter = Recording()
    assert [meter.feed(b"ab"), meter.feed(b""), meter.feed(b"c"), meter.end()] == [b"ab", b"", b"c", b""]
    assert meter.body == b"abc"
    assert not meter.reading.unreadable


def test_a_body_above_the_bound_passes_unread() -> None:
    """Memory is bounded, and the reading says why it knows nothing."""
    meter = Recording(max_body_bytes=3)
    assert [meter.feed(b"ab"), meter.feed(b"cd"), meter.feed(b"e"), meter.end()] == [b"ab", b"cd", b"e", b""]
    assert meter.body == b""
    assert "larger than 3 bytes" in meter.reading.unreadable


def test_a_body_that_cannot_be_read_is_unreadable() -> None:
    """A ValueError of the dialect becomes a word in the reading."""
    meter = Recording()
    assert meter.feed(b"bad") + meter.end() == b"bad"
    assert meter.reading.unreadable
