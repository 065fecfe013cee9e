from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.report import Report, Totals, report_json
from llmcap_addon.unclaimed import (
    COMPACT_BYTES,
    FURTHER,
    MAX_PATHS,
    MAX_SHOWN_CHARS,
    Unclaimed,
    UnclaimedPath,
    file_beside,
    path_shape,
    read_unclaimed,
)
from llmcap_addon.view.console import unclaimed_notice
from llmcap_addon.view.report import render_report

HOST = "api.openai.com"


class Clock:
    def __init__(self) -> None:
        self.now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/videos", "/v1/videos"),
        ("/v1/videos/video_68a3c1aa5e8f/remix?key=AIzaSecret", "/v1/videos/{id}/remix"),
        ("/v1/threads/thread_abc123def456/runs", "/v1/threads/{id}/runs"),
        ("/v1beta/models/gemini-2.5-pro:predict", "/v1beta/models/gemini-2.5-pro:predict"),
        ("/v1/projects/123/locations/us-central1/x", "/v1/projects/{id}/locations/us-central1/x"),
        ("/x/0b5a8a2e-8f5e-4a53-9f0e-0d3f5c0a7e11", "/x/{id}"),
        ("/sk-proj-abcDEF123456789/x", "/{id}/x"),
        ("/v2/AIzaSyD3k3k3k3k3k3k3k3k3kkkkkkkk", "/v2/{id}"),
        ("/a/me@example.com/b", "/a/{id}/b"),
        ("/a/b:c d", "/a/{id}"),
        ("", "/"),
        ("/" + "a/" * 40, "/" + "a/" * 16 + "…"),
    ],
)
def test_a_shape_names_the_endpoint_and_no_id(path: str, shape: str) -> None:
    """Versions, words and models stay; ids, keys and queries go."""
    assert path_shape(path) == shape


@given(st.text())
@settings(deadline=None)
def test_every_path_has_a_bounded_shape_that_is_its_own(path: str) -> None:
    """Whatever comes, the shape is short, printable and stays what it is."""
    shape = path_shape(path)
    assert len(shape) <= MAX_SHOWN_CHARS
    assert shape.isprintable()


def test_requests_are_counted_and_written_by_the_path(tmp_path: Path) -> None:
    """Two processes append to one file; what each has seen is summed up, and nothing is written twice."""
    clock, file = Clock(), tmp_path / "state" / "ledger.unmetered.jsonl"
    mine, others = Unclaimed(file, clock), Unclaimed(file, clock)
    mine.note(HOST, "POST", "/v1/videos", forwarded=True)
    urgent = [mine.is_urgent]
    mine.write(mine.take_unwritten())
    assert [*urgent, mine.is_urgent] == [True, False]
    clock.now_ms = 5_000
    mine.note(HOST, "POST", "/v1/videos", forwarded=False)
    others.note(HOST, "POST", "/v1/videos", forwarded=True)
    others.note(HOST, "PUT", "/v1/other", forwarded=False)
    for one in (mine, others):
        one.write(one.take_unwritten())
        assert one.take_unwritten() == ()
    assert read_unclaimed(file) == (
        UnclaimedPath(HOST, "POST", "/v1/videos", 3, 2, 1_000, 5_000),
        UnclaimedPath(HOST, "PUT", "/v1/other", 1, 0, 5_000, 5_000),
    )
    assert read_unclaimed(file, since_ms=5_001) == ()
    assert mine.seen() == (UnclaimedPath(HOST, "POST", "/v1/videos", 2, 1, 1_000, 5_000),)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_can_not_be_written_is_kept(tmp_path: Path) -> None:
    """A full disk loses nothing."""
    (tmp_path / "file").write_text("")
    unclaimed = Unclaimed(tmp_path / "file" / "x", Clock())
    unclaimed.note(HOST, "POST", "/a", forwarded=False)
    taken = unclaimed.take_unwritten()
    with pytest.raises(OSError, match="file"):
        unclaimed.write(taken)
    unclaimed.put_back(taken)
    unclaimed.note(HOST, "POST", "/a", forwarded=False)
    [one] = unclaimed.take_unwritten()
    assert one.count == 2


def test_memory_and_file_are_bounded(tmp_path: Path) -> None:
    """Beyond so many paths the rest are one entry; a long file becomes a short one."""
    file = tmp_path / "x"
    unclaimed = Unclaimed(file, Clock())
    for number in range(MAX_PATHS + 100):
        unclaimed.note(
            HOST,
            "POST",
            f"/{'a' * (1 + number % 19)}/{'b' * (1 + number // 19 % 19)}/v{number // 361}",
            forwarded=False,
        )
    assert len(unclaimed.seen()) == MAX_PATHS + 1
    assert sum(one.count for one in unclaimed.seen()) == MAX_PATHS + 100
    assert any(one.path == FURTHER for one in unclaimed.seen())
    taken = unclaimed.take_unwritten()
    while not file.exists() or file.stat().st_size <= COMPACT_BYTES:
        unclaimed.write(taken)
    before = read_unclaimed(file)
    unclaimed.compact()
    assert file.stat().st_size < COMPACT_BYTES
    assert read_unclaimed(file) == before
    unclaimed.compact()
    assert read_unclaimed(file) == before


@given(st.binary(max_size=400))
@settings(deadline=None)
def test_a_damaged_file_is_read_as_far_as_it_goes(tmp_path_factory: pytest.TempPathFactory, garbage: bytes) -> None:
    """Lines that are none are left out; the good ones stay."""
    file = tmp_path_factory.mktemp("x") / "x"
    unclaimed = Unclaimed(file, Clock())
    unclaimed.note(HOST, "POST", "/a", forwarded=False)
    unclaimed.write(unclaimed.take_unwritten())
    with file.open("ab") as out:
        out.write(garbage + b"\n" + b'{"host":1}\n[]\n{"host":"h","method":"m","path":"p","count":-1}\n')
    assert [one.path for one in read_unclaimed(file)] == ["/a"]


def test_no_file_is_no_path(tmp_path: Path) -> None:
    """Nothing has been asked for yet."""
    assert read_unclaimed(file_beside(tmp_path / "ledger.sqlite")) == ()
    assert file_beside(Path("/s/ledger.sqlite")) == Path("/s/ledger.unmetered.jsonl")


def test_an_odd_method_is_no_text_of_the_clients(tmp_path: Path) -> None:
    """A method may be any token; only a plain one is kept."""
    unclaimed = Unclaimed(tmp_path / "x", Clock())
    assert unclaimed.note(HOST, "SECRET-123", "/a", forwarded=False).method == "OTHER"


def test_console_and_report_show_them() -> None:
    """In one line on the console, in a section of the report, and in its JSON."""
    paths = (
        UnclaimedPath(HOST, "POST", "/v1/videos", 3, 2, 1_000, 5_000),
        UnclaimedPath(HOST, "POST", "/v1/a", 1, 0, 1_000, 5_000),
        UnclaimedPath(HOST, "POST", "/v1/b", 1, 0, 1_000, 5_000),
    )
    [notice] = unclaimed_notice(paths)
    assert notice.text == (
        "not metered, 2 let through uncounted: POST api.openai.com/v1/videos (3), POST api.openai.com/v1/a (1), "
        "1 more in llmcap report"
    )
    assert notice.level == "warning"
    [refused] = unclaimed_notice(paths[1:2])
    assert (refused.text, refused.level) == ("not metered, refused: POST api.openai.com/v1/a (1)", "info")
    assert unclaimed_notice(()) == ()
    report = Report(Totals(), (), unclaimed=paths)
    text = render_report(report, 0, 100).plain
    assert "NOT METERED" in text
    assert "POST api.openai.com/v1/videos" in text
    assert json.loads(json.dumps(report_json(report)))["unmetered"][0] == {
        "host": HOST,
        "method": "POST",
        "path": "/v1/videos",
        "count": 3,
        "forwarded": 2,
        "first": "1970-01-01T00:00:01Z",
        "last": "1970-01-01T00:00:05Z",
    }
    assert "NOT METERED" not in render_report(Report(Totals(), ()), 0, 100).plain
