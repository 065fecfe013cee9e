"""What a worker tells its supervisor, through a real pipe."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.activity import KEPT_LABEL_CHARS, CallLine
from llmcap_addon.proxy import link as links
from llmcap_addon.proxy.link import Failed, Link, Lost, Notices, Paths, Told, Up, decode, lines_of
from llmcap_addon.unclaimed import UnclaimedPath
from llmcap_addon.view.console import Notice

LINE = CallLine(
    id="1",
    at_ms=1_763_900_000_000,
    client="codex",
    host="api.openai.com",
    provider="openai",
    model="gpt-4o",
    state="streaming",
    input_tokens=1_234,
    cache_read_tokens=1_000,
    output_tokens=567,
    cost=12_300_000,
    reserved=20_000_000,
    marks=frozenset({"estimated", "assumed"}),
    message="LLMCap: \u201cspent\u201d",
    billing="plan",
)


class Pipe:
    """A pipe, read without waiting."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._rest = b""

    def told(self) -> list[Told | None]:
        """Give all that has come whole."""
        data = self._rest
        try:
            while piece := os.read(self.reader, 1 << 20):
                data += piece
        except BlockingIOError:
            pass
        *lines, self._rest = data.split(b"\n")
        return [decode(line) for line in lines]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for descriptor in (pipe.reader, pipe.writer):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_all_kinds_arrive_as_they_were(pipe: Pipe) -> None:
    """What was told is what is heard."""
    link = Link(pipe.writer)
    notice = Notice("the ledger is locked", "error")
    path = UnclaimedPath("api.openai.com", "POST", "/v1/videos", 2, 1, 3, 4)
    link.up()
    link.call(LINE)
    link.notices((notice,))
    link.paths((path,))
    link.failed("caps.yaml: limit", of_config=True)
    assert link.flush()
    expected = [Up(), Notices((notice,)), Paths((path,)), Failed("caps.yaml: limit", True), LINE]
    assert pipe.told() == expected


def test_the_newest_line_takes_the_place_of_those_before(pipe: Pipe) -> None:
    """A stream's thousand chunks between two looks are one line."""
    link = Link(pipe.writer)
    for tokens in range(1_000):
        link.call(replace(LINE, output_tokens=tokens))
    link.call(replace(LINE, id="2", state="done"))
    link.flush()
    assert pipe.told() == [replace(LINE, output_tokens=999), replace(LINE, id="2", state="done")]
    link.notices(())
    link.paths(())
    link.flush()
    assert pipe.told() == [], "what has not changed is not told again"


def test_names_from_requests_are_cut(pipe: Pipe) -> None:
    """A client may invent a model of a megabyte."""
    link = Link(pipe.writer)
    link.call(replace(LINE, model="m" * 2_000_000, client="c" * 2_000_000))
    link.flush()
    [line] = pipe.told()
    assert isinstance(line, CallLine)
    assert (line.model, line.client) == ("m" * KEPT_LABEL_CHARS, "c" * KEPT_LABEL_CHARS)


def test_a_supervisor_that_does_not_read_stops_nothing(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipe runs full, the oldest are forgotten beyond a bound, and that is told when it reads again."""
    monkeypatch.setattr(links, "MAX_UNTOLD_CALLS", 3_000)
    monkeypatch.setattr(links, "MAX_BUFFER_BYTES", 10_000)
    link = Link(pipe.writer)
    begun = 10_000
    for number in range(begun):
        link.call(replace(LINE, id=str(number), state="done"))
        if number % 100 == 0:
            link.flush()
    assert not link.flush()
    heard: list[Told | None] = []
    while not link.flush():
        heard += pipe.told()
    heard += pipe.told()
    lost = sum(told.calls for told in heard if isinstance(told, Lost))
    calls = [told.id for told in heard if isinstance(told, CallLine)]
    assert lost > 0
    assert len(calls) + lost == begun
    assert calls[-1] == str(begun - 1)


def test_a_supervisor_that_is_gone_is_no_failure(pipe: Pipe) -> None:
    """The worker is about to end too; until then it serves."""
    link = Link(pipe.writer)
    os.close(pipe.reader)
    for _ in range(2):
        link.call(LINE)
        assert link.flush()
    link.close()


def test_the_end_waits_for_what_is_left_but_not_for_ever(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A supervisor that is stopped must not keep a worker from ending."""
    monkeypatch.setattr(links, "LAST_WORDS_S", 0.0)
    link = Link(pipe.writer)
    for number in range(2_000):
        link.call(replace(LINE, id=str(number)))
    link.close()
    assert len(pipe.told()) < 2_000


@given(st.binary(max_size=200))
def test_what_is_torn_is_left_out(line: bytes) -> None:
    """A worker may die in the middle of a line; no bytes whatever raise."""
    decode(line)


@pytest.mark.parametrize("line", [b"null", b"[]", b'{"call":{}}', b'{"call":null}', b'{"other":1}', b'{"up":1,"x":2}'])
def test_what_is_no_line_of_ours_is_left_out(line: bytes) -> None:
    """JSON of another kind is as good as torn."""
    assert decode(line) is None


async def test_lines_are_put_together_from_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are split; one without an end comes at the end, and of a long one the last part."""
    monkeypatch.setattr(links, "MAX_LINE_BYTES", 8)
    stream = asyncio.StreamReader()
    heard: list[bytes] = []
    reading = asyncio.create_task(lines_of(stream, heard.append))
    for piece in (b"on", b"e\ntw", b"o\n\nabcdefghijkl", b"mnop", b"q\nlast"):
        stream.feed_data(piece)
        await asyncio.sleep(0)
    stream.feed_eof()
    await reading
    assert heard[:3] == [b"one", b"two", b""]
    assert heard[3].endswith(b"mnopq")
    assert len(heard[3]) < 17
    assert heard[4] == b"last"
