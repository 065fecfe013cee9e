"""What a worker is told when it starts."""

from __future__ import annotations

import os

import pytest

from llmcap_addon.errors import LLMCapError
from llmcap_addon.proxy.seat import Seat, read_seat


def written(data: bytes) -> int:
    """Give a pipe's end from which this can be read."""
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


def test_a_seat_is_read_as_it_was_written() -> None:
    """Through a pipe."""
    seat = Seat(3, "0a1b", "rediss://u:p%20w@h:1/0?prefix=x", descriptors=[5, 6], shares=7, verbosity="info")
    assert read_seat(written(seat.encode())) == seat


@pytest.mark.parametrize("data", [b"", b"hello\n", b"[]\n", b"null\n", b'{"store":"sqlite"}\n', b'{"colour":1}\n'])
def test_who_starts_a_worker_by_hand_is_told(data: bytes) -> None:
    """The option is hidden, and no traceback shows what it is for."""
    with pytest.raises(LLMCapError, match="--workers N"):
        read_seat(written(data))
