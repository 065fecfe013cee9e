from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.wire.jsonl import LineSplitter
from tests.wire.corpus import split_at


@given(
    lines=st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")), max_size=9),
    places=st.lists(st.integers(0, 60), max_size=9),
    ended=st.booleans(),
)
def test_lines_are_the_same_however_they_come(lines: list[bytes], places: list[int], ended: bool) -> None:
    """Split anywhere, with or without an end of the last line; blank lines are none."""
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    splitter = LineSplitter()
    found = [line for piece in split_at(data, places) for line in splitter.feed(piece)]
    assert found + splitter.end() == [line.strip() for line in lines if line.strip()]
    assert not splitter.overflowed


def test_an_endless_line_is_not_kept() -> None:
    """Past the bound nothing is given any more."""
    splitter = LineSplitter(max_line_bytes=10)
    assert splitter.feed(b"ab\n" + b"c" * 10) == [b"ab"]
    assert splitter.feed(b"c") == []
    assert splitter.overflowed
    assert splitter.feed(b"\nd\n") == []
    assert splitter.end() == []
