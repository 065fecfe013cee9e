"""What is done when a worker ends."""

from __future__ import annotations

from llmcap_addon.proxy.restarts import EARLY_S, FIRST_DELAY_S, MAX_DELAY_S, MAX_EARLY, Restarts


def test_one_that_has_served_is_restarted_at_once() -> None:
    """However often, as long as it serves for a while each time."""
    restarts = Restarts()
    for _ in range(10 * MAX_EARLY):
        assert restarts.after(EARLY_S, explained=False, alone=True) == 0


def test_early_ends_wait_longer_each_time_and_end_all() -> None:
    """A worker that does not get going is given up after so many tries."""
    restarts = Restarts()
    delays = [restarts.after(0.1, explained=False, alone=False) for _ in range(MAX_EARLY)]
    assert delays == [FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S, 8 * FIRST_DELAY_S, None]


def test_one_good_life_forgives() -> None:
    """The count is of ends in a row."""
    restarts = Restarts()
    for _ in range(MAX_EARLY - 1):
        assert restarts.after(0.1, explained=False, alone=True)
    assert restarts.after(EARLY_S + 1, explained=False, alone=True) == 0
    assert restarts.after(0.1, explained=False, alone=True) == FIRST_DELAY_S


def test_a_reason_is_waited_out_while_another_serves() -> None:
    """A broken caps.yaml keeps the old caps in the others: it may take hours to be mended, and no core meanwhile."""
    restarts = Restarts()
    delays = [restarts.after(0.1, explained=True, alone=False) for _ in range(1_000)]
    assert None not in delays
    assert max(delay for delay in delays if delay) == delays[-1] == MAX_DELAY_S
    assert restarts.after(0.1, explained=True, alone=True) is None
