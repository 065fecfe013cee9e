"""Feeding a recorded body to a meter in every way a network may."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from llmcap_addon.wire.dialect import Meter

DATA = Path(__file__).parent.parent / "data"


def recorded(name: str) -> bytes:
    """Read a recorded body of tests/data."""
    return (DATA / name).read_bytes()


def feed(meter: Meter, chunks: Iterable[bytes]) -> bytes:
    """Feed chunks and the end; gives what the client saw."""
    return b"".join([*(meter.feed(chunk) for chunk in chunks), meter.end()])


def split(body: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Split a body at these places, each taken modulo its length."""
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    return [body[a:b] for a, b in itertools.pairwise(edges)]


def feed_all_ways(make: Callable[[], Meter], body: bytes) -> Meter:
    """Feed a body whole and byte by byte, which must read the same and pass every byte; gives the first meter."""
    whole, single = make(), make()
    assert feed(whole, [body]) == body
    assert feed(single, [body[at : at + 1] for at in range(len(body))]) == body
    assert whole.reading == single.reading
    return whole
