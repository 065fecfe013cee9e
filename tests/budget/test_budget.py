"""The caps of the moment over a ledger."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.budget.budget import MAX_LABEL_CHARS, MAX_REMEMBERED, Budget, fits_without_others
from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import Reserved, Short, Store
from tests.budget.samples import NOON_MS, RUN, Clock, entry, labels, settlement

DAILY = Cap("daily", 100, "day")
GPT = Cap("gpt", 60, "minute", (("model", "gpt-*"),))
EACH = Cap("each", 50, "day", each=("client",))
GROK = Cap("grok", 5, "ever", (("model", "grok-*"),))


@pytest.fixture
def budget(store: Store, clock: Clock) -> Budget:
    return Budget([DAILY, GPT, EACH, GROK], store, clock, "UTC", RUN)


async def test_reserve_asks_every_cap_that_counts_the_call(budget: Budget) -> None:
    """A call is held against the caps it matches, in their order."""
    call = entry()
    outcome = await budget.reserve(call, labels(call), 50)
    assert isinstance(outcome, Reserved)
    assert [one.charge.cap for one in outcome.balances] == ["daily", "gpt", "each"]
    call = entry(client="claude-code")
    outcome = await budget.reserve(call, labels(call), 20)
    assert isinstance(outcome, Short)
    assert [one.charge.cap for one in outcome.lacking] == ["gpt"]


async def test_waiting_into_the_next_minute_finds_room(budget: Budget) -> None:
    """A call that tries again with the new time counts in the new period."""
    call = entry(client="a")
    await budget.reserve(call, labels(call), 50)
    call = entry(client="b")
    assert isinstance(await budget.reserve(call, labels(call), 20), Short)
    call = entry(client="b", started_at_ms=NOON_MS + 60_000)
    assert isinstance(await budget.reserve(call, labels(call), 20), Reserved)


async def test_whole_life_of_a_call(budget: Budget) -> None:
    """Reserve, extend, settle through the budget leaves the cost posted; void leaves nothing."""
    call = entry()
    await budget.reserve(call, labels(call), 10)
    assert await budget.extend(call.id, labels(call), call.started_at_ms, 30, 1) == 30
    assert await budget.settle(call.id, settlement(33))
    other = entry()
    await budget.reserve(other, labels(other), 10)
    assert await budget.void(other.id, NOON_MS, 502, "")
    await budget.record_refusal(entry(), ["gpt"], "spent")
    assert await budget.post_unreserved(entry(), labels(call), settlement(2))
    standing = await budget.standing(budget.charges(labels(call), NOON_MS))
    assert [(one.posted, one.pending) for one in standing] == [(35, 0)] * 3
    assert {row.state for row in await budget.rows()} == {"posted", "voided", "refused"}
    assert {row.entry.run for row in await budget.rows()} == {RUN}
    assert await budget.heartbeat() == 0


async def test_balances_show_every_cap(budget: Budget, clock: Clock) -> None:
    """All caps stand there in their order, those with `each` once for each scope seen, with today's limits."""
    for client in ("codex", "claude-code"):
        call = entry(client=client)
        await budget.reserve(call, labels(call), 10)
    assert [(one.charge.cap, one.charge.scope, one.pending, one.charge.limit) for one in await budget.balances()] == [
        ("daily", "", 20, 100),
        ("gpt", "", 20, 60),
        ("each", "claude-code", 10, 50),
        ("each", "codex", 10, 50),
        ("grok", "", 0, 5),
    ]
    clock.now_ms += 86_400_000
    assert [(one.charge.cap, one.pending) for one in await budget.balances()] == [("daily", 0), ("gpt", 0), ("grok", 0)]


async def test_replaced_caps_hold_from_the_next_extension_on(budget: Budget) -> None:
    """A reload reaches calls in flight, and a cap that is new counts what went before."""
    call = entry()
    await budget.reserve(call, labels(call), 40)
    budget.replace_caps([Cap("tight", 45, "day")], "UTC")
    assert await budget.extend(call.id, labels(call), call.started_at_ms, 30, 1) == 5
    assert [(one.charge.cap, one.pending) for one in await budget.balances()] == [("tight", 45)]


async def test_labels_are_bounded_and_writable(budget: Budget) -> None:
    """A model's name of a megabyte, or with lone surrogates, is counted, and the cap finds it again."""
    budget.replace_caps([Cap("each", 50, "day", each=("model",))], "UTC")
    for model in ("x" * 1_000_000, "\ud800?"):
        call = entry(model=model)
        for fits in (True, False):
            outcome = await budget.reserve(entry(model=model), labels(call), 30)
            assert isinstance(outcome, Reserved) == fits
            assert len(outcome.balances[0].charge.scope) <= MAX_LABEL_CHARS
    assert max(len(row.entry.model) for row in await budget.rows()) == MAX_LABEL_CHARS


async def test_an_amount_must_be_positive(budget: Budget) -> None:
    """No capped call goes out with nothing reserved."""
    call = entry()
    with pytest.raises(ValueError, match="reservation of 0"):
        await budget.reserve(call, labels(call), 0)


async def test_fits_without_others(budget: Budget) -> None:
    """Waiting helps against what is reserved, not against what is spent."""
    call, spent = entry(), entry()
    await budget.reserve(spent, labels(spent), 10)
    await budget.settle(spent.id, settlement(10))
    await budget.reserve(call, labels(call), 40)
    outcome = await budget.reserve(entry(), labels(call), 40)
    assert isinstance(outcome, Short)
    assert fits_without_others(outcome, 40)
    assert not fits_without_others(outcome, 41)


NAMES = st.sampled_from(["gpt-4o", "grok-4", "x" * (MAX_LABEL_CHARS + 1)])
DAY_MS = 86_400_000
CLOCKS_CHANGE_MS = 1_743_865_200_000
"""2025-04-05 15:00 UTC: the end of summer time at Lord Howe, whose clocks go back by half an hour, so that hours begin
at other minutes from then on."""


@settings(max_examples=60)
@given(
    calls=st.lists(
        st.tuples(st.integers(CLOCKS_CHANGE_MS - DAY_MS, CLOCKS_CHANGE_MS + DAY_MS), NAMES, NAMES), min_size=2
    ),
    gap_ms=st.integers(0, 120_000),
)
def test_what_is_remembered_of_charges_is_what_would_be_worked_out(
    calls: list[tuple[int, str, str]], gap_ms: int
) -> None:
    """Whatever calls came before, charges are those that a budget which remembers nothing names."""
    caps = [DAILY, GPT, EACH, GROK, Cap("hourly", 7, "hour"), Cap("run", 9, "run")]
    where = "Australia/Lord_Howe"
    remembers = Budget(caps, None, lambda: 0, where, RUN)  # type: ignore[arg-type]  # no store is asked
    for at_ms, model, client in calls:
        said = {"host": "h", "provider": "p", "model": model, "client": client}
        for moment in (at_ms, at_ms + gap_ms):
            fresh = Budget(caps, None, lambda: 0, where, RUN)  # type: ignore[arg-type]
            assert remembers.charges(said, moment) == fresh.charges(said, moment)


def test_changed_caps_and_endless_labels_are_not_remembered() -> None:
    """New caps count from the next call on, and a client that invents models takes bounded memory."""
    budget = Budget([DAILY], None, lambda: 0, "UTC", RUN)  # type: ignore[arg-type]
    for number in range(MAX_REMEMBERED + 5):
        assert len(budget.charges({"model": f"m{number}"}, NOON_MS)) == 1
    assert len(budget._charges) <= MAX_REMEMBERED
    budget.replace_caps([DAILY, GROK], "UTC")
    assert len(budget.charges({"model": "grok-4"}, NOON_MS)) == 2
