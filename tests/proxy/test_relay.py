"""One log of several processes."""

from __future__ import annotations

import io
import logging

import pytest

from llmcap_addon.proxy.relay import KEPT_TEXTS, OWN, SAME_S, Relay


class Clock:
    """Seconds, moved by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def relay(clock: Clock) -> Relay:
    return Relay(io.StringIO(), clock, logging.INFO)


def printed(relay: Relay) -> list[str]:
    assert isinstance(relay.file, io.StringIO)
    return relay.file.getvalue().splitlines()


def test_what_all_say_is_written_once(relay: Relay) -> None:
    """Each worker takes over a changed caps.yaml, at another moment."""
    for number, moment in enumerate(("10:00:00.001", "10:00:00.950", "10:00:01.000"), start=1):
        relay.take(number, f"[{moment}] llmcap: caps.yaml has changed")
    assert printed(relay) == ["[10:00:00.001] llmcap: caps.yaml has changed"]


def test_what_one_says_again_is_written_again(relay: Relay, clock: Clock) -> None:
    """It has happened again; and the others' echo of that is left out too."""
    for second in (0, 5):
        clock.now_s = second
        for number in (1, 2):
            relay.take(number, f"[10:00:0{second}.000] ledger: locked")
    assert printed(relay) == ["[10:00:00.000] ledger: locked", "[10:00:05.000] ledger: locked"]


def test_after_a_while_it_is_news_from_anybody(relay: Relay, clock: Clock) -> None:
    """Two workers may meet the same trouble an hour apart."""
    relay.take(1, "trouble")
    clock.now_s = SAME_S
    relay.take(2, "trouble")
    assert printed(relay) == ["trouble", "trouble"]


def test_the_supervisors_own_lines_are_among_them(relay: Relay) -> None:
    """They look like the workers', and are compared with them line by line."""
    relay.handle(logging.LogRecord("llmcap", logging.INFO, "", 0, "llmcap: %s", ("up",), None))
    relay.take(1, "[10:00:00.000] llmcap: up")
    [line] = printed(relay)
    assert line.startswith("[")
    assert line.endswith("] llmcap: up")


def test_a_closed_terminal_is_no_failure(relay: Relay) -> None:
    """Who listens no more is told nothing, and counting goes on."""
    relay.file.close()
    relay.take(OWN, "nobody reads this")


def test_it_remembers_so_many_texts(relay: Relay) -> None:
    """The memory is bounded: what was forgotten is written again."""
    relay.take(1, "first")
    for index in range(KEPT_TEXTS):
        relay.take(1, f"line {index}")
    relay.take(2, "first")
    assert printed(relay).count("first") == 2
