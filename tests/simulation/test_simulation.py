"""The simulator over a fixed set of seeds, and that it would find what it looks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import Charge, Entry, Reserved, Settlement, Short
from llmcap_addon.gate.admission import Admission, Policy, Waiter
from llmcap_addon.money import Nanousd
from llmcap_addon.pricing.prices import Prices
from tests.simulation.__main__ import tell
from tests.simulation.check import Tally
from tests.simulation.episode import make_prices, play
from tests.simulation.ledgers import Naive, Row
from tests.simulation.plan import SELLERS, CallPlan, Crash, Item, Look, Plan, Storm, draw
from tests.simulation.shrink import failure, shrink
from tests.simulation.store import Weather

GPT_4O, GEMINI = SELLERS[0], SELLERS[3]
CALL = CallPlan(
    at_s=0.1,
    process=0,
    seller=GPT_4O,
    client="codex",
    streamed=True,
    text_bytes=1_000,
    max_output=8_000,
    hidden_bound=0,
    choices=1,
    asked="default",
    applied="default",
    named="first",
    reports="none",
    end="complete",
    end_after_s=0.0,
    leaves_after_s=None,
    input_share=1.0,
    cached_share=0.0,
    visible=4_000,
    hidden=0,
    rate=500.0,
    hidden_rate=100.0,
    think_s=0.5,
    chunk=16,
    down_s=0.05,
    up_s=0.2,
    counted_percent=100,
)
LOST = Weather(fails=1.0, after=1.0)
"""Every operation takes effect, and its answer gets lost."""


def plan(*items: Item, caps: Sequence[Cap] = (), **policy: Any) -> Plan:
    return Plan(
        seed=1,
        processes=1,
        timezone="UTC",
        starts_ms=0,
        caps=tuple(caps),
        policy=Policy(**policy),
        real_store=False,
        items=tuple(sorted(items, key=lambda item: item.at_s)),
    )


@pytest.fixture(scope="module")
def prices() -> Prices:
    return make_prices()


@pytest.mark.parametrize("first", range(1, 401, 100))
def test_invariants_hold_in_every_episode(first: int, prices: Prices) -> None:
    """A hundred random episodes with all their faults break nothing, over the naive ledger and the real SQLite one."""
    for seed in range(first, first + 100):
        episode = draw(seed)
        try:
            play(episode, prices, Tally())
        except Exception as error:
            pytest.fail(tell(*shrink(episode, error, prices)))


def test_an_episode_is_the_same_each_time(prices: Prices) -> None:
    """The same seed gives the same steps and the same money, so that a failure can be looked at again."""
    for seed in (3, 25, 41):
        tallies = Tally(), Tally()
        steps = [play(draw(seed), prices, tally) for tally in tallies]
        assert steps[0] == steps[1]
        assert tallies[0] == tallies[1]


# ── what it has found ──


def test_a_reservation_whose_answer_got_lost_is_released(prices: Prices) -> None:
    """A refused call holds no money, even where the store failed only after it had reserved."""
    play(plan(Storm(0.0, 0, LOST, 2.0), CALL), prices, Tally())


def test_a_call_let_through_without_a_ledger_releases_what_it_had_reserved_unheard(prices: Prices) -> None:
    """With `on_error: allow`, a call that never leaves does not keep the reservation whose answer got lost."""
    unsent = replace(CALL, end="never_sent")
    play(plan(Storm(0.0, 0, LOST, 2.0), unsent, on_error="allow"), prices, Tally())


def test_a_refused_answer_without_a_ledger_has_its_row(prices: Prices) -> None:
    """With `on_error: allow`, even a call that the provider answered with an error gives one row."""
    play(plan(Storm(0.0, 0, Weather(fails=1.0), 2.0), replace(CALL, end="error"), on_error="allow"), prices, Tally())


@pytest.mark.parametrize("weather", [Weather(hangs=1.0), Weather(fails=1.0), Weather(slow=1.0)])
def test_a_stream_cut_for_a_failing_store_is_not_posted_below_its_bill(weather: Weather, prices: Prices) -> None:
    """What outran the reservation while the store was asked, and what was on its way then, is posted."""
    for begins_s in (0.7, 1.0, 1.5, 2.0):
        for call in (CALL, replace(CALL, seller=GEMINI, asked="", applied="", reports="running")):
            play(plan(Storm(begins_s, 0, weather, 3.0), call), prices, Tally())


@pytest.mark.parametrize("end", ["client_gone", "upstream_gone"])
def test_a_stream_that_breaks_off_between_two_chunks_is_not_posted_below_its_bill(end: Any, prices: Prices) -> None:
    """What was ready of the next chunk is posted too, and what was generated before the speed could be told."""
    for chunk in (1, 16, 85):
        for after_s in (0.3, 0.8, 1.0, 1.5, 1.7, 2.7):
            broken = replace(CALL, end=end, end_after_s=after_s, chunk=chunk, max_output=None)
            play(plan(broken), prices, Tally())


def test_a_crash_loses_nothing(prices: Prices) -> None:
    """Killed at any moment of a stream, a process leaves a ledger that is not below the bill."""
    for killed_s in (0.105, 0.11, 0.4, 0.9, 1.3, 1.31, 2.5, 5.0, 9.1):
        tally = Tally()
        play(plan(CALL, Crash(killed_s, 0, 1.0)), prices, tally)
        assert not any(what.startswith("short") for what in tally.counts)


# ── jobs, whose bill comes later ──

JOB = replace(CALL, streamed=False, visible=50, named="last", job="billed")


def stages(tally: Tally) -> set[str]:
    """How far jobs were when somebody was told their bill, and how they ended."""
    return {what.removeprefix("looked at a ") for what in tally.counts if "job" in what}


def test_a_crash_between_a_jobs_note_and_its_deferral_loses_nothing(prices: Prices) -> None:
    """Killed at any moment around a job's answer, a process leaves what another one bills exactly, or in full."""
    tally = Tally()
    job = replace(JOB, looks=(Look(1.5, 1), Look(60.0, 1)))
    for killed_ms in range(940, 1_020):
        play(replace(plan(job, Crash(killed_ms / 1000, 0, 40.0)), processes=2), prices, tally)
    told = {"job: known, not deferred yet", "job: deferred", "job: not known yet", "job: posted", "job: expired"}
    assert stages(tally) == {*told, "job posted", "job expired"}


def test_a_job_is_settled_by_whoever_is_told_its_bill(prices: Prices) -> None:
    """The process that began it, another one, or one that was started after a crash; the first counts."""
    for looks in ((Look(3.0, 0),), (Look(3.0, 1), Look(3.0, 0)), (Look(9.0, 0), Look(9.0, 1))):
        for kind, ended in (("billed", "job posted"), ("free", "job voided")):
            tally = Tally()
            job = replace(JOB, job=cast("Any", kind), looks=looks)
            play(replace(plan(job, Crash(5.0, 0, 1.0)), processes=2), prices, tally)
            assert tally.counts[ended] == 1


def test_a_job_nobody_is_told_of_is_posted_in_full(prices: Prices) -> None:
    """When its time is over, and not before."""
    tally = Tally()
    play(plan(JOB), prices, tally)
    assert stages(tally) == {"job expired"}


def test_a_bill_that_is_told_before_the_job_has_a_note_is_kept_for_a_moment(prices: Prices) -> None:
    """Another process may be about to write it; it is looked for once more at the next heartbeat."""
    tally = Tally()
    play(plan(replace(JOB, looks=(Look(0.6, 0),))), prices, tally)
    assert stages(tally) == {"job: not known yet", "job posted"}


def test_jobs_that_expire_while_they_are_asked_about(monkeypatch: pytest.MonkeyPatch, prices: Prices) -> None:
    """Late bills never lower what was posted, and no bill is counted twice, in any mix of faults."""
    for module in ("jobs", "writing"):
        monkeypatch.setattr(f"llmcap_addon.gate.{module}.KEPT_MS", 5_000)
    tally = Tally()
    for seed in range(1, 101):
        play(draw(seed), prices, tally)
    assert {"job: expired", "job: deferred", "job expired", "job posted", "job voided"} <= stages(tally)


# ── that it would find more ──


def found_in(prices: Prices, seeds: Sequence[int]) -> tuple[Plan, Exception]:
    for seed in seeds:
        error = failure(draw(seed), prices)
        if error is not None:
            return draw(seed), error
    pytest.fail("nothing was found")


def test_a_ledger_that_lets_all_through_is_found(monkeypatch: pytest.MonkeyPatch, prices: Prices) -> None:
    """Without the check against limits, the first balance over its limit is seen, and the plan is made short."""
    whole = Naive.reserve

    def reserve(self: Naive, owner: str, entry: Entry, charges: Sequence[Charge], amount: Nanousd) -> Reserved | Short:
        return whole(self, owner, entry, [replace(charge, limit=10**15) for charge in charges], amount)

    monkeypatch.setattr(Naive, "reserve", reserve)
    failing, error = found_in(prices, range(1, 60))
    assert "over after reserve" in str(error)
    shortest, error = shrink(failing, error, prices)
    assert "over after reserve" in str(error)
    assert len(shortest.items) <= 2
    assert f"seed {failing.seed}" in tell(shortest, error)


def test_a_ledger_that_loses_a_cent_is_found(monkeypatch: pytest.MonkeyPatch, prices: Prices) -> None:
    """A settlement that posts a little less than the bill is seen at the end."""
    whole = Naive.settle

    def settle(self: Naive, owner: str, entry_id: str, settlement: Settlement) -> bool:
        return whole(self, owner, entry_id, replace(settlement, cost=settlement.cost * 99 // 100))

    monkeypatch.setattr(Naive, "settle", settle)
    assert "billed are" in str(found_in(prices, range(1, 60))[1])


def test_a_gate_that_forgets_to_release_is_found(monkeypatch: pytest.MonkeyPatch, prices: Prices) -> None:
    """A void that is never written leaves money pending with nothing in flight."""

    async def void(self: Budget, entry_id: str, settled_at_ms: int, status: int, note: str) -> bool:
        return True

    monkeypatch.setattr(Budget, "void", void)
    assert "pending" in str(found_in(prices, range(1, 60))[1])


def test_a_job_without_a_note_is_found(monkeypatch: pytest.MonkeyPatch, prices: Prices) -> None:
    """When nobody knows any more what a job was, its bill is told in vain."""

    async def remember(self: Budget, key: str, value: str, until_ms: int) -> None:
        pass

    monkeypatch.setattr(Budget, "remember", remember)
    assert "was told its bill" in str(found_in(prices, range(1, 60))[1])


def test_a_job_that_is_not_deferred_is_found(monkeypatch: pytest.MonkeyPatch, prices: Prices) -> None:
    """A job that stays its process's own would expire with it."""

    async def defer(self: Budget, entry_id: str, until_ms: int) -> bool:
        return True

    monkeypatch.setattr(Budget, "defer", defer)
    assert "pending" in str(found_in(prices, range(1, 60))[1])


def test_a_ledger_that_expires_jobs_for_nothing_is_found(monkeypatch: pytest.MonkeyPatch, prices: Prices) -> None:
    """A job that is released at its time, instead of posted, is seen."""

    def lose(held: list[Row]) -> int:
        for row in held:
            row.state, row.reserved = "expired", 0
        return len(held)

    monkeypatch.setattr("tests.simulation.ledgers._expire", lose)
    assert "billed are" in str(found_in(prices, range(1, 60))[1])


def test_a_queue_without_order_is_found(monkeypatch: pytest.MonkeyPatch, prices: Prices) -> None:
    """When everyone who waits may try at once, somebody overtakes."""

    def is_first(self: Admission, waiter: Waiter) -> bool:
        return True

    monkeypatch.setattr(Admission, "_is_first", is_first)
    assert "overtakes" in str(found_in(prices, range(1, 60))[1])
