"""What the user is told beside the calls: not too often, not too much, and until it is mended."""

from __future__ import annotations

import logging

import pytest

from llmcap_addon.proxy.bulletin import (
    KEPT_NOTICES,
    KEPT_TROUBLES,
    LEAST_SHOWN_S,
    REPEAT_S,
    SHOWN_TROUBLE_S,
    Bulletin,
)
from llmcap_addon.view.console import Notice


class Told:
    """A bulletin on a clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1_000.0
        self.bulletin = Bulletin(lambda: self.now_s)

    def shown(self) -> list[str]:
        return [notice.text for notice in self.bulletin.notices()]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    caplog.set_level(logging.INFO, "llmcap")
    return Told()


def test_the_same_trouble_is_logged_now_and_then(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """A store that is down fails every call; its line comes once in a while, however many calls there are."""
    for _ in range(100):
        told.bulletin.trouble("the store is down")
        told.now_s += REPEAT_S / 50
    assert caplog.messages == ["llmcap: the store is down"] * 2
    told.bulletin.trouble("something else")
    assert len(caplog.messages) == 3


def test_a_trouble_is_shown_for_a_while(told: Told) -> None:
    """It stays on the console so long after it was last seen, and goes away by itself."""
    told.bulletin.trouble("the store is down")
    told.now_s += SHOWN_TROUBLE_S
    assert told.bulletin.notices() == (Notice("the store is down", "error"),)
    told.now_s += 0.1
    assert told.shown() == []


def test_troubles_are_bounded(told: Told) -> None:
    """Troubles that differ each time are forgotten, the oldest first."""
    for number in range(KEPT_TROUBLES + 10):
        told.bulletin.trouble(f"trouble {number}")
    assert told.shown() == [f"trouble {number}" for number in range(10, KEPT_TROUBLES + 10)]


def test_a_notice_is_told_once_and_stays(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """The last few stay on the console, below what presses."""
    for number in (*range(KEPT_NOTICES + 1), KEPT_NOTICES):
        told.bulletin.notice(f"notice {number}")
    assert len(caplog.messages) == KEPT_NOTICES + 1
    told.now_s += 10_000
    told.bulletin.trouble("trouble")
    told.bulletin.standing("standing")
    kept = tuple(Notice(f"notice {number}") for number in range(1, KEPT_NOTICES + 1))
    assert told.bulletin.notices() == (Notice("standing", "error"), Notice("trouble", "error"), *kept)


def test_an_error_stands_until_it_is_mended(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """A broken caps.yaml is logged once for each way it is broken, and shown until it can be used again."""
    for message in ("line 3", "line 3", "line 4"):
        told.bulletin.standing(message)
    assert caplog.messages == ["llmcap: line 3", "llmcap: line 4"]
    told.now_s += 10_000
    assert told.shown() == ["line 4"]
    told.bulletin.standing("")
    assert told.shown() == []
    assert len(caplog.messages) == 2


def test_a_store_that_works_again_takes_its_trouble_away(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """What the store was told to fail in goes soon after it works again, said once; other troubles stay."""
    told.bulletin.store_works()
    told.bulletin.trouble("something else")
    assert not told.bulletin.is_store_failing()
    told.bulletin.store_trouble("the store is down")
    assert told.bulletin.is_store_failing()
    told.bulletin.store_works()
    told.bulletin.store_works()
    assert not told.bulletin.is_store_failing()
    assert told.shown() == ["something else", "the store is down"]
    told.now_s += LEAST_SHOWN_S + 0.1
    assert told.shown() == ["something else"]
    assert caplog.messages[2:] == ["llmcap: the ledger works again"]
    told.now_s += REPEAT_S
    told.bulletin.store_trouble("the store is down")
    told.now_s += SHOWN_TROUBLE_S
    assert told.shown() == ["the store is down"]
    assert caplog.messages[3:] == ["llmcap: the store is down"]
