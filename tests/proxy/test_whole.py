"""What several workers have told, as if one had done it all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmcap_addon.activity import Activity, CallLine
from llmcap_addon.proxy.link import Failed, Lost, Notices, Paths, Up
from llmcap_addon.proxy.whole import Whole
from llmcap_addon.unclaimed import UnclaimedPath
from llmcap_addon.view.console import Notice
from tests.proxy.test_link import LINE

LOCKED = Notice("the ledger is locked", "error")
CALL = replace(LINE, billing="api", marks=frozenset(), cost=100, reserved=300)


@pytest.fixture
def activity() -> Activity:
    return Activity(lambda: LINE.at_ms)


@pytest.fixture
def whole(activity: Activity) -> Whole:
    return Whole(activity)


def path(shape: str, count: int, at_ms: int) -> UnclaimedPath:
    return UnclaimedPath("api.openai.com", "POST", shape, count, 0, at_ms, at_ms)


def test_calls_of_all_are_counted_together(whole: Whole, activity: Activity) -> None:
    """One sum, one list, whoever took the call."""
    for number in (1, 2):
        whole.take(number, replace(CALL, id=f"a{number}", state="done", cost=1_000))
        whole.take(number, replace(CALL, id=f"b{number}", state="streaming"))
    assert activity.counts().calls == 4
    assert activity.spent_by("model") == [("gpt-4o", 2_200, 4)]
    assert len(activity.live()) == 2


def test_a_dead_workers_calls_end_as_the_ledger_ends_them(whole: Whole, activity: Activity) -> None:
    """What was reserved is posted; what only waited was never sent; the other's calls go on."""
    whole.take(1, replace(CALL, id="live"))
    whole.take(1, replace(CALL, id="waits", state="waiting", cost=0, reserved=0))
    whole.take(1, replace(CALL, id="over"))
    whole.take(1, replace(CALL, id="over", state="done"))
    whole.take(2, replace(CALL, id="other"))
    assert whole.gone(1) == 2
    assert whole.gone(1) == 0
    lines: dict[str, CallLine] = {line.id: line for line in activity.recent(10)}
    assert (lines["live"].state, lines["live"].cost) == ("done", 300)
    assert lines["live"].marks == {"expired", "estimated"}
    assert lines["waits"].state == "refused"
    assert (lines["over"].cost, lines["over"].marks) == (100, frozenset())
    assert [line.id for line in activity.live()] == ["other"]
    assert activity.counts().refused == 1


def test_a_notice_of_all_stands_once(whole: Whole) -> None:
    """The ledger that fails for one fails for all; when one sees that it works again, the others soon do."""
    other = Notice("something else")
    whole.take(1, Notices((LOCKED, other)))
    whole.take(2, Notices((LOCKED,)))
    assert whole.notices() == (LOCKED, other)
    whole.take(1, Notices(()))
    assert whole.notices() == (LOCKED,)
    whole.gone(2)
    assert whole.notices() == ()


def test_unmetered_paths_are_added_up_over_deaths(whole: Whole) -> None:
    """What a worker has seen stays seen when it is gone, and its successor begins from nothing."""
    whole.take(1, Paths((path("/v1/videos", 2, 10),)))
    whole.take(2, Paths((path("/v1/videos", 3, 20), path("/v1/other", 1, 5))))
    whole.gone(1)
    whole.take(1, Paths((path("/v1/videos", 1, 30),)))
    [notice] = whole.notices()
    assert "/v1/videos (6)" in notice.text
    assert "/v1/other (1)" in notice.text


def test_who_takes_connections_and_who_could_not_start(whole: Whole, caplog: pytest.LogCaptureFixture) -> None:
    """The supervisor goes by these; what a worker could not tell is said."""
    whole.take(1, Up())
    whole.take(2, Failed("the ledger is locked", of_config=False))
    whole.take(2, Lost(7))
    assert whole.up == {1}
    assert whole.failures[2].message == "the ledger is locked"
    assert "7 calls are missing" in caplog.text
    whole.gone(1)
    assert whole.up == set()
