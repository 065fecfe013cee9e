"""What a worker logs: lines through a pipe that may be full, or that nobody reads any more."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from llmcap_addon.proxy.worker import MAX_LINE_BYTES, Log


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Its end to read, and its end to write."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_lines_are_written_whole(pipe: tuple[int, int]) -> None:
    """However they come: `print` writes a line's end by itself; what is begun is not lost."""
    log = Log(pipe[1])
    print("one", "tw\u00f6", file=log)
    print("three\nfour", end="", file=log)
    assert os.read(pipe[0], 1_000).decode() == "one tw\u00f6\nthree\n"
    print(" and a half \udc80", file=log, flush=True)
    assert os.read(pipe[0], 1_000).decode() == "four and a half ?\n"
    assert not log.isatty()


def test_a_full_pipe_holds_up_nobody_and_tears_no_line(pipe: tuple[int, int]) -> None:
    """What it does not take is dropped, line by line; when there is room again, lines come as before."""
    log = Log(pipe[1])
    for number in range(5_000):
        print(f"{number:050}", file=log)
    lines = os.read(pipe[0], 1 << 20).decode().splitlines()
    assert lines == [f"{number:050}" for number in range(len(lines))]
    assert 0 < len(lines) < 5_000
    print("again", file=log)
    assert os.read(pipe[0], 1_000) == b"again\n"


def test_a_line_that_was_torn_ends(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe may take the start of a long one; the next is a line of its own."""
    monkeypatch.setattr("llmcap_addon.proxy.worker.MAX_LINE_BYTES", 1 << 20)
    log = Log(pipe[1])
    print("x" * (1 << 19), file=log)
    print("dropped", file=log)
    assert set(os.read(pipe[0], 1 << 20)) == {ord("x")}
    print("next", file=log)
    print("one more", file=log)
    assert os.read(pipe[0], 1_000) == b"\nnext\none more\n"


def test_a_line_is_bounded(pipe: tuple[int, int]) -> None:
    """Of a longer one its start is written; one that never ends takes no more memory."""
    log = Log(pipe[1])
    print("\u00e4" * MAX_LINE_BYTES, file=log)
    for _ in range(10):
        log.write("y" * MAX_LINE_BYTES)
    log.write("\n")
    first, second = os.read(pipe[0], 1 << 20).splitlines()
    assert len(first) == len(second) == MAX_LINE_BYTES - 1


def test_nobody_to_read_is_no_failure(pipe: tuple[int, int]) -> None:
    """The supervisor has been killed."""
    other, writer = os.pipe()
    os.close(other)
    log = Log(writer)
    print("nobody reads this", file=log)
    log.flush()
    os.close(writer)
    print("nor this", file=log)
