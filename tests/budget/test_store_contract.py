"""What `ledger.py` promises of every store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import LEASE_MS, MAX_AMOUNT, MAX_NOTE_BYTES, Balance, Reserved, Row, Short, Store
from llmcap_addon.usage import Usage
from tests.budget.conftest import OpenStore
from tests.budget.samples import NOON_MS, Clock, charges, entry, settlement

HOUR_MS = 3_600_000
"""Redis drops notes by its own clock too: no test takes an hour."""
DAILY = Cap("daily", 100, "day")
GPT = Cap("gpt", 60, "day", (("model", "gpt-*"),))
CLAUDE = Cap("claude", 100, "day", (("model", "claude-*"),))


async def standing(store: Store, cap: Cap) -> tuple[int, int]:
    """What a cap has posted and pending for gpt-4o at noon."""
    balance = (await store.balances(charges([cap], entry())))[0]
    return balance.posted, balance.pending


async def row(store: Store, entry_id: str) -> Row:
    return next(one for one in await store.rows() if one.entry.id == entry_id)


async def test_reserve_sets_aside_under_every_cap(store: Store) -> None:
    """A reservation is pending under each charge, and the answer says how they now stand."""
    call = entry()
    held = charges([DAILY, GPT], call)
    outcome = await store.reserve(call, held, 60)
    assert outcome == Reserved((Balance(held[0], 0, 60), Balance(held[1], 0, 60)))
    assert outcome.balances[0].remaining == 40
    found = await row(store, call.id)
    assert (found.entry, found.state, found.reserved, found.cost) == (call, "pending", 60, 0)
    assert found.caps == ("daily", "gpt")


async def test_reserve_that_does_not_fit_changes_nothing(store: Store) -> None:
    """What lacks room under one cap is set aside under none, and only that one is named as lacking."""
    first, second = entry(), entry()
    await store.reserve(first, charges([DAILY, GPT], first), 50)
    outcome = await store.reserve(second, charges([DAILY, GPT], second), 11)
    assert isinstance(outcome, Short)
    assert [one.charge.cap for one in outcome.balances] == ["daily", "gpt"]
    assert [one.charge.cap for one in outcome.lacking] == ["gpt"]
    assert await standing(store, DAILY) == (0, 50)
    assert [one.entry.id for one in await store.rows()] == [first.id]


async def test_a_plans_calls_count_only_where_a_cap_asks_for_them(store: Store) -> None:
    """Their cost is notional: a cap that says nothing of billing counts none of it, whoever reserves and whenever."""
    plans = Cap("plans", 100, "day", (("billing", "plan"),))
    both = Cap("both", 100, "day", (("billing", "*"),))
    paid, planned = entry(), entry(billing="plan")
    assert [charge.cap for charge in charges([DAILY, GPT, plans, both], planned)] == ["plans", "both"]
    await store.reserve(paid, charges([DAILY, plans], paid), 10)
    await store.reserve(planned, charges([DAILY, plans], planned), 40)
    await store.settle(planned.id, settlement(30))
    await store.settle(paid.id, settlement(7))
    balances = {
        one.charge.cap: one.posted
        for one in await store.balances([cap.whole(NOON_MS, "UTC", "run-1") for cap in (DAILY, GPT, plans, both)])
    }
    assert balances == {"daily": 7, "gpt": 7, "plans": 30, "both": 37}
    assert (await row(store, planned.id)).entry == planned


async def test_reserve_may_fill_a_cap_to_the_last_nanodollar(store: Store) -> None:
    """A reservation of exactly what is left fits, and after it not one nano-dollar more."""
    call = entry()
    assert isinstance(await store.reserve(call, charges([DAILY], call), 100), Reserved)
    call = entry()
    assert isinstance(await store.reserve(call, charges([DAILY], call), 1), Short)


async def test_limit_of_nothing_refuses_everything(store: Store) -> None:
    """A cap of 0 lets nothing through."""
    call = entry()
    assert isinstance(await store.reserve(call, charges([Cap("none", 0, "ever")], call), 1), Short)


async def test_reserve_without_charges_only_counts(store: Store) -> None:
    """Without caps any amount is reserved, and its row is kept."""
    call = entry()
    assert await store.reserve(call, [], MAX_AMOUNT) == Reserved(())
    assert (await row(store, call.id)).reserved == MAX_AMOUNT


@pytest.mark.parametrize("amount", [0, -1, MAX_AMOUNT + 1])
async def test_reserve_takes_only_amounts_that_mean_something(store: Store, amount: int) -> None:
    """A reservation of nothing would pass any cap, and one too large would not be counted exactly."""
    with pytest.raises(ValueError, match="reservation of"):
        await store.reserve(entry(), [], amount)


async def test_reserve_twice_is_answered_again(store: Store) -> None:
    """A repeated reservation (its answer was lost) holds the money once; of an ended call it is an error."""
    call = entry()
    held = charges([DAILY], call)
    assert await store.reserve(call, held, 30) == await store.reserve(call, held, 30)
    assert await standing(store, DAILY) == (0, 30)
    await store.settle(call.id, settlement(5))
    with pytest.raises(ValueError, match="has ended before"):
        await store.reserve(call, held, 30)


async def test_settle_posts_the_cost_and_releases_the_rest(store: Store) -> None:
    """After settling nothing is pending, posted is the cost, and the row says all that is known."""
    call = entry(marks=frozenset({"assumed"}))
    await store.reserve(call, charges([DAILY, GPT], call), 50)
    usage = Usage(input_tokens=100, output_tokens=20, cache_read_tokens=64, web_search_requests=1)
    ended = settlement(7, usage=usage, marks=frozenset({"estimated"}), note="no usage in the stream")
    assert await store.settle(call.id, ended)
    assert await standing(store, DAILY) == await standing(store, GPT) == (7, 0)
    found = await row(store, call.id)
    assert (found.state, found.reserved, found.cost, found.usage) == ("posted", 0, 7, usage)
    assert (set(found.marks), found.status, found.note) == ({"assumed", "estimated"}, 200, "no usage in the stream")
    assert found.settled_at_ms == NOON_MS + 1


async def test_settle_above_the_reservation_is_posted_and_marked(store: Store) -> None:
    """The settle step never refuses: what a call cost too much is posted over the limit and marked."""
    call = entry()
    await store.reserve(call, charges([DAILY], call), 10)
    assert await store.settle(call.id, settlement(500))
    assert await standing(store, DAILY) == (500, 0)
    assert "overrun" in (await row(store, call.id)).marks
    assert (await store.balances(charges([DAILY], entry())))[0].remaining == 0


async def test_a_cost_beyond_counting_is_posted_as_the_most(store: Store) -> None:
    """Even a nonsensical cost is not lost."""
    call = entry()
    await store.reserve(call, charges([DAILY], call), 10)
    assert await store.settle(call.id, settlement(10**30))
    assert await standing(store, DAILY) == (MAX_AMOUNT, 0)


async def test_void_releases_all(store: Store) -> None:
    """A call that was not billed leaves the balances as if it had not been."""
    call = entry()
    await store.reserve(call, charges([DAILY], call), 10)
    assert await store.void(call.id, NOON_MS + 5, 503, "overloaded_error")
    assert await standing(store, DAILY) == (0, 0)
    found = await row(store, call.id)
    assert (found.state, found.cost, found.status, found.note) == ("voided", 0, 503, "overloaded_error")


@pytest.mark.parametrize("end", ["settle", "void"])
async def test_only_the_first_end_counts(store: Store, end: str) -> None:
    """After settle or void every further settle, void and extend changes nothing."""
    call = entry()
    held = charges([DAILY], call)
    await store.reserve(call, held, 10)
    await (store.settle(call.id, settlement(4)) if end == "settle" else store.void(call.id, NOON_MS, 0, ""))
    before = (await standing(store, DAILY), await store.rows())
    assert not await store.settle(call.id, settlement(9))
    assert not await store.void(call.id, NOON_MS, 0, "")
    assert not await store.post(call, held, settlement(9))
    assert await store.extend(call.id, held, 5, 1) == 0
    assert (await standing(store, DAILY), await store.rows()) == before


async def test_unknown_calls_are_no_ones(store: Store) -> None:
    """Settling, voiding or extending what was never reserved does nothing and does not fail."""
    assert not await store.settle("nobody", settlement(9))
    assert not await store.void("nobody", NOON_MS, 0, "")
    assert await store.extend("nobody", [], 5, 1) == 0


async def test_extend_grants_all_or_what_fits_or_nothing(store: Store) -> None:
    """The whole slice while there is room, then what is left if it is worth it, then 0."""
    call = entry()
    held = charges([DAILY, GPT], call)  # gpt's 60 is the tighter
    await store.reserve(call, held, 10)
    assert await store.extend(call.id, held, 30, 5) == 30
    assert await store.extend(call.id, held, 30, 21) == 0
    assert await store.extend(call.id, held, 30, 20) == 20
    assert await store.extend(call.id, held, 30, 1) == 0
    assert await standing(store, DAILY) == await standing(store, GPT) == (0, 60)
    assert (await row(store, call.id)).reserved == 60


async def test_extend_heeds_limits_of_the_moment(store: Store) -> None:
    """A limit that was lowered below what is held grants nothing, and one that was raised grants more."""
    call = entry()
    await store.reserve(call, charges([DAILY], call), 50)
    assert await store.extend(call.id, charges([replace(DAILY, limit=40)], call), 10, 1) == 0
    assert await store.extend(call.id, charges([replace(DAILY, limit=200)], call), 120, 120) == 120


async def test_extend_counts_under_a_cap_added_since(store: Store) -> None:
    """A cap added in mid-stream counts the whole call, limits its extensions, and is released with it."""
    call = entry()
    await store.reserve(call, charges([DAILY], call), 50)
    assert await store.extend(call.id, charges([DAILY, GPT], call), 30, 1) == 10
    assert await standing(store, GPT) == (0, 60)
    assert (await row(store, call.id)).caps == ("daily", "gpt")
    await store.settle(call.id, settlement(33))
    assert await standing(store, GPT) == await standing(store, DAILY) == (33, 0)


async def test_charges_are_obeyed_whatever_they_match(store: Store) -> None:
    """A charge handed in counts the call even if its match does not, when it is reserved and when it is extended."""
    holder, call = entry(model="claude-opus-4-5"), entry()
    claude = charges([CLAUDE], holder)
    await store.reserve(holder, claude, 40)
    await store.reserve(call, charges([DAILY], call), 20)
    assert await store.extend(call.id, claude, 50, 1) == 40
    assert [(one.posted, one.pending) for one in await store.balances(claude)] == [(0, 100)]
    await store.settle(call.id, settlement(5))
    late = entry()
    await store.reserve(late, claude, 55)
    assert [(one.posted, one.pending) for one in await store.balances(claude)] == [(5, 95)]


async def test_extend_without_charges_grants_all(store: Store) -> None:
    """When all caps were taken out, a stream goes on."""
    call = entry()
    await store.reserve(call, charges([DAILY], call), 100)
    assert await store.extend(call.id, [], 70, 1) == 70


@pytest.mark.parametrize(("amount", "at_least"), [(0, 0), (5, 0), (5, 6), (-1, -1)])
async def test_extend_takes_only_amounts_that_mean_something(store: Store, amount: int, at_least: int) -> None:
    """An extension asks for something."""
    with pytest.raises(ValueError, match="extension by"):
        await store.extend("call", [], amount, at_least)


async def test_new_cap_counts_what_was_already_spent(store: Store) -> None:
    """A cap that is new is made from its period's rows that match it, pending ones too, and follows them on."""
    spent, held, other = entry(), entry(), entry(model="claude-opus-4-5")
    for call, amount in ((spent, 30), (held, 20), (other, 40)):
        await store.reserve(call, charges([DAILY], call), amount)
    await store.settle(spent.id, settlement(25))
    await store.settle(other.id, settlement(40))
    assert await standing(store, GPT) == (25, 20)
    call = entry()
    outcome = await store.reserve(call, charges([GPT], call), 16)
    assert isinstance(outcome, Short)
    assert (outcome.lacking[0].posted, outcome.lacking[0].pending) == (25, 20)
    await store.settle(held.id, settlement(3))
    assert await standing(store, GPT) == (28, 0)


async def test_new_cap_counts_its_own_period_only(store: Store) -> None:
    """Yesterday's spending and tomorrow's are not today's."""
    for days in (-1, 0, 1):
        call = entry(started_at_ms=NOON_MS + days * 86_400_000)
        await store.reserve(call, [], 10)
        await store.settle(call.id, settlement(10 + days))
    assert await standing(store, DAILY) == (10, 0)
    assert await standing(store, Cap("all", 100, "ever")) == (30, 0)


async def test_cap_that_was_away_has_missed_nothing(store: Store) -> None:
    """A cap that is taken out and put back counts what was spent in between, though it was never charged for it."""
    call = entry()
    await store.reserve(call, charges([DAILY], call), 10)
    between = entry()
    await store.reserve(between, [], 30)
    assert await standing(store, DAILY) == (0, 40)
    await store.settle(between.id, settlement(20))
    unreserved = entry()
    await store.post(unreserved, [], settlement(7))
    assert await standing(store, DAILY) == (27, 10)


async def test_cap_does_not_see_what_it_does_not_match(store: Store) -> None:
    """A balance that is there already stays untouched by calls that it does not match."""
    call = entry(model="claude-haiku-4-5")
    await store.reserve(call, charges([CLAUDE], call), 10)
    other = entry()
    await store.reserve(other, charges([DAILY], other), 30)
    assert (await store.balances(charges([CLAUDE], call)))[0].pending == 10


async def test_run_caps_count_their_own_run(store: Store) -> None:
    """A cap per run counts one run's calls, also when it is added in the middle."""
    cap = Cap("run", 100, "run")
    for run, amount in (("run-1", 10), ("run-2", 20)):
        call = entry(run=run)
        await store.reserve(call, charges([DAILY], call), amount)
    assert await standing(store, cap) == (0, 10)
    call = entry(run="run-2")
    outcome = await store.reserve(call, charges([cap], call), 5)
    assert isinstance(outcome, Reserved)
    assert outcome.balances[0].pending == 25
    assert await standing(store, cap) == (0, 10)


async def test_each_scope_has_the_whole_limit(store: Store) -> None:
    """A cap with `each` holds its scopes apart, also scopes whose names look like globs, and lists them."""
    cap = Cap("each", 10, "day", each=("model",))
    for model in ("gpt-4o", "gpt-*", "[gpt]?", "gpt-4o-mini"):
        call = entry(model=model)
        assert isinstance(await store.reserve(call, charges([cap], call), 10), Reserved)
        again = entry(model=model)
        assert isinstance(await store.reserve(again, charges([cap], again), 1), Short)
    period = charges([cap], entry())[0].period
    seen = await store.seen(cap.key, period)
    assert {one.charge.scope for one in seen} == {"gpt-4o", "gpt-*", "[gpt]?", "gpt-4o-mini"}
    assert {(one.posted, one.pending, one.charge.limit) for one in seen} == {(0, 10, 0)}
    assert next(one.charge for one in seen if one.charge.scope == "gpt-*") == replace(
        charges([cap], entry(model="gpt-*"))[0], limit=0
    )


async def test_reading_writes_nothing(store: Store) -> None:
    """Looking at a balance never seen does not make it."""
    cap = Cap("each", 10, "day", each=("model",))
    held = charges([cap], entry())
    assert await store.balances(held) == (Balance(held[0], 0, 0),)
    assert await store.seen(cap.key, held[0].period) == ()


async def test_post_writes_what_was_never_reserved(store: Store) -> None:
    """A call that went out while the store was away is posted whatever the limits are, and marked as overrun."""
    call = entry()
    assert await store.post(call, charges([DAILY], call), settlement(150))
    assert await standing(store, DAILY) == (150, 0)
    found = await row(store, call.id)
    assert (found.state, found.cost, set(found.marks), found.caps) == ("posted", 150, {"overrun"}, ("daily",))


async def test_post_settles_what_was_reserved_after_all(store: Store) -> None:
    """When the reservation had reached the store and only its answer was lost, posting is settling."""
    call = entry()
    held = charges([DAILY], call)
    await store.reserve(call, held, 50)
    assert await store.post(call, held, settlement(20))
    assert await standing(store, DAILY) == (20, 0)


async def test_refusals_are_rows_without_money(store: Store) -> None:
    """A refused call is kept, with the caps that refused it, and counts nowhere; an id that is there stays as it is."""
    call = entry()
    await store.record_refusal(call, ["daily", "gpt"], "spent")
    found = await row(store, call.id)
    assert (found.state, found.caps, found.note, found.cost) == ("refused", ("daily", "gpt"), "spent", 0)
    assert await standing(store, DAILY) == (0, 0)
    assert not await store.settle(call.id, settlement(9))
    held = entry()
    await store.reserve(held, [], 10)
    await store.record_refusal(held, ["daily"], "spent")
    assert (await row(store, held.id)).state == "pending"


async def test_rows_come_oldest_first_and_the_newest_so_many(store: Store) -> None:
    """`since_ms` includes its moment; `limit` keeps the newest."""
    for number, at_ms in enumerate((3, 1, 2, 2)):
        await store.reserve(entry(f"r{number}", started_at_ms=NOON_MS + at_ms), [], 1)
    assert [one.entry.id for one in await store.rows()] == ["r1", "r2", "r3", "r0"]
    assert [one.entry.id for one in await store.rows(NOON_MS + 2)] == ["r2", "r3", "r0"]
    assert [one.entry.id for one in await store.rows(limit=2)] == ["r3", "r0"]
    assert await store.rows(limit=0) == ()


async def test_strange_names_are_no_hindrance(store: Store) -> None:
    """Lone surrogates, NUL and quotes in what a request names neither fail a call nor leave it unsettled."""
    call = entry(model="a\ud800\x00'\"%", client="🙂")
    held = charges([Cap("each", 10, "day", each=("model", "client"))], call)
    assert isinstance(await store.reserve(call, held, 10), Reserved)
    assert await store.settle(call.id, settlement(1, note="\udfff", model="x\ud800"))
    assert (await store.balances(held))[0].posted == 1


async def test_what_was_written_is_there_after_a_restart(open_another: OpenStore) -> None:
    """Closing and opening again gives the same balances and rows."""
    first = open_another()
    call = entry()
    await first.reserve(call, charges([DAILY], call), 50)
    await first.settle(call.id, settlement(20))
    rows = await first.rows()
    await first.close()
    second = open_another()
    assert await standing(second, DAILY) == (20, 0)
    assert await second.rows() == rows


async def test_two_processes_share_a_cap(open_another: OpenStore) -> None:
    """What one holds the other can't have."""
    one, two = open_another(), open_another()
    first, second = entry(), entry()
    await one.reserve(first, charges([DAILY], first), 70)
    assert isinstance(await two.reserve(second, charges([DAILY], second), 31), Short)
    assert isinstance(await two.reserve(second, charges([DAILY], second), 30), Reserved)
    assert await standing(one, DAILY) == (0, 100)


async def test_the_living_are_not_expired(open_another: OpenStore, clock: Clock) -> None:
    """A process that beats keeps its reservations however old they are."""
    one, two = open_another(), open_another()
    call = entry()
    await one.reserve(call, charges([DAILY], call), 70)
    for _ in range(5):
        clock.now_ms += LEASE_MS - 1
        assert await one.heartbeat(clock()) == 0
        assert await two.heartbeat(clock()) == 0
    assert await standing(two, DAILY) == (0, 70)


async def test_close_expires_what_nobody_can_settle_any_more(open_another: OpenStore) -> None:
    """What is pending when a store closes is posted in full and marked; closing twice is closing once."""
    one, two = open_another(), open_another()
    call = entry()
    await one.reserve(call, charges([DAILY], call), 70)
    await one.close()
    await one.close()
    assert await standing(two, DAILY) == (70, 0)
    found = await row(two, call.id)
    assert (found.state, found.cost, found.reserved) == ("posted", 70, 0)
    assert found.marks == {"expired", "estimated"}


@pytest.mark.parametrize(("cost", "posted", "marks"), [(90, 90, {"overrun"}), (70, 70, None), (5, 70, None)])
async def test_settling_the_expired_corrects_upwards_only(
    open_another: OpenStore, cost: int, posted: int, marks: set[str] | None
) -> None:
    """A settlement that comes after all raises what was posted, everywhere it was posted, and never lowers it."""
    one, two = open_another(), open_another()
    call = entry()
    await one.reserve(call, charges([DAILY], call), 70)
    await one.close()
    late = entry()
    await two.reserve(late, charges([GPT], late), 1)  # is short, but makes gpt's balance from the expired row
    assert await two.settle(call.id, settlement(cost)) == (cost > 70)
    assert await standing(two, DAILY) == await standing(two, GPT) == (posted, 0)
    assert (await row(two, call.id)).marks == (marks or {"expired", "estimated"})
    assert not await two.void(call.id, NOON_MS, 0, "")
    assert not await two.settle(call.id, settlement(cost))


# ── bills that come later ──


async def test_a_deferred_call_outlives_its_process(open_another: OpenStore, clock: Clock) -> None:
    """Whatever becomes of the process that reserved it, it stays pending and marked, and another one settles it."""
    one, two = open_another(), open_another()
    call, other = entry(marks=frozenset({"assumed"})), entry()
    for each in (call, other):
        await one.reserve(each, charges([DAILY], each), 40)
    assert await one.defer(call.id, NOON_MS + 1_000)
    await one.close()
    assert await standing(two, DAILY) == (40, 40)  # the other has expired
    found = await row(two, call.id)
    assert (found.state, found.reserved, found.cost, set(found.marks)) == ("pending", 40, 0, {"assumed", "deferred"})
    assert await two.heartbeat(NOON_MS + 999) == 0
    assert await two.extend(call.id, charges([DAILY], call), 5, 1) == 5
    assert await two.settle(call.id, settlement(7))
    assert await standing(two, DAILY) == (47, 0)
    assert (await row(two, call.id)).marks == {"assumed"}
    assert await two.heartbeat(NOON_MS + 2_000) == 0


async def test_a_deferred_call_may_not_be_billed_at_all(open_another: OpenStore) -> None:
    """A job that was cancelled is voided, by any process, and leaves nothing."""
    one, two = open_another(), open_another()
    call = entry()
    await one.reserve(call, charges([DAILY], call), 40)
    assert await one.defer(call.id, NOON_MS + 1_000)
    assert await two.void(call.id, NOON_MS + 5, 200, "cancelled")
    assert await standing(one, DAILY) == (0, 0)
    found = await row(one, call.id)
    assert (found.state, found.marks, found.note) == ("voided", frozenset(), "cancelled")
    assert await one.heartbeat(NOON_MS + 2_000) == 0


async def test_what_was_deferred_expires_at_its_time(open_another: OpenStore) -> None:
    """At its time it is posted in full, once; a bill that comes after all corrects it upwards only."""
    store = open_another()
    calls = [entry() for _ in range(3)]
    for number, call in enumerate(calls):
        await store.reserve(call, charges([DAILY], call), 20)
        assert await store.defer(call.id, NOON_MS + 1_000 * (number + 1))
    assert await store.defer(calls[1].id, NOON_MS + 1_000)  # the time of the last word counts
    assert await store.heartbeat(NOON_MS + 1_000) == 2
    assert await store.heartbeat(NOON_MS + 1_000) == 0
    assert await standing(store, DAILY) == (40, 20)
    found = await row(store, calls[0].id)
    assert (found.state, found.cost, found.reserved, found.settled_at_ms) == ("posted", 20, 0, NOON_MS + 1_000)
    assert (set(found.marks), found.note) == ({"deferred", "expired", "estimated"}, "its bill did not come in time")
    assert not await store.defer(calls[0].id, NOON_MS + 9_000)
    assert not await store.settle(calls[0].id, settlement(19))
    assert await store.settle(calls[1].id, settlement(21))
    assert (await row(store, calls[1].id)).marks == {"overrun"}
    assert await standing(store, DAILY) == (41, 20)


async def test_only_what_is_pending_is_deferred(store: Store) -> None:
    """What has ended, was refused or was never there is left as it is."""
    settled, voided, refused = entry(), entry(), entry()
    for call in (settled, voided):
        await store.reserve(call, [], 10)
    await store.settle(settled.id, settlement(3))
    await store.void(voided.id, NOON_MS, 0, "")
    await store.record_refusal(refused, [], "")
    before = await store.rows()
    for name in (settled.id, voided.id, refused.id, "nobody"):
        assert not await store.defer(name, NOON_MS)
    assert await store.rows() == before


async def test_a_deferred_call_counts_for_a_cap_that_is_new(open_another: OpenStore) -> None:
    """A cap added while the bill is awaited counts what is reserved, and later what it cost."""
    store = open_another()
    call = entry()
    await store.reserve(call, charges([DAILY], call), 40)
    await store.defer(call.id, NOON_MS + 1_000)
    late = entry()
    assert isinstance(await store.reserve(late, charges([GPT], late), 21), Short)
    assert await store.settle(call.id, settlement(9))
    assert await standing(store, GPT) == await standing(store, DAILY) == (9, 0)


async def test_a_reservation_of_that_id_is_answered_again_while_deferred(store: Store) -> None:
    """It is pending all the time."""
    call = entry()
    held = charges([DAILY], call)
    outcome = await store.reserve(call, held, 40)
    await store.defer(call.id, NOON_MS + 1_000)
    assert await store.reserve(call, held, 40) == outcome


async def test_notes_are_for_all_processes_until_their_time(open_another: OpenStore) -> None:
    """What one remembers another recalls, anew after a restart; not after its time, and the last word counts."""
    one, two = open_another(), open_another()
    await one.remember("job|api.openai.com|resp_1", '{"id": 1}', NOON_MS + HOUR_MS)
    await one.remember("job|api.openai.com|resp_2", "ä\n {} \ud800", NOON_MS + HOUR_MS)
    await one.remember("job|api.openai.com|resp_1", '{"id": 2}', NOON_MS + 5 * HOUR_MS)
    await one.close()
    assert await two.recall("job|api.openai.com|resp_1", NOON_MS + 5 * HOUR_MS - 1) == '{"id": 2}'
    assert await two.recall("job|api.openai.com|resp_1", NOON_MS + 5 * HOUR_MS) is None
    assert await two.recall("job|api.openai.com|resp_2", NOON_MS) == "ä\n {} ?"
    assert await two.recall("job|elsewhere|resp_1", NOON_MS) is None
    await two.heartbeat(NOON_MS + 2 * HOUR_MS)
    assert await two.recall("job|api.openai.com|resp_2", NOON_MS) is None
    assert await two.recall("job|api.openai.com|resp_1", NOON_MS) == '{"id": 2}'
    await two.remember("job|api.openai.com|resp_1", "late", NOON_MS)
    assert await two.recall("job|api.openai.com|resp_1", NOON_MS) is None


async def test_notes_are_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A note too large is an error; of too many, those that end soonest are dropped by the next heartbeat."""
    with pytest.raises(ValueError, match="a note of 4097 bytes is larger than 4096"):
        await store.remember("key", "ä" * ((MAX_NOTE_BYTES - 3) // 2) + "ab", NOON_MS + 1)
    await store.remember("key", "x" * (MAX_NOTE_BYTES - 3), NOON_MS + 1)
    for module in ("sqlite_notes", "redis"):
        monkeypatch.setattr(f"llmcap_addon.budget.stores.{module}.MAX_NOTES", 3)
    for number in (5, 3, 1, 4, 2):
        await store.remember(f"{number}", "x", NOON_MS + HOUR_MS * number)
    await store.heartbeat(NOON_MS + 1)
    await store.heartbeat(NOON_MS + 1)
    kept = [number for number in range(1, 6) if await store.recall(f"{number}", NOON_MS + 1) is not None]
    assert kept == [3, 4, 5]


async def test_cancelled_reserve_leaves_nothing_behind(store: Store) -> None:
    """A client that goes away while its reservation is on its way holds no money; one that has its answer says so."""
    for _ in range(20):
        call = entry()
        task = asyncio.ensure_future(store.reserve(call, charges([DAILY], call), 100))
        await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
        else:  # it was done at once
            assert await store.void(call.id, NOON_MS, 0, "")
    call = entry()
    assert isinstance(await store.reserve(call, charges([DAILY], call), 100), Reserved)


async def test_cancelled_settle_is_settled_all_the_same(store: Store) -> None:
    """A settlement that was begun is not lost with its caller."""
    call = entry()
    await store.reserve(call, charges([DAILY], call), 100)
    task = asyncio.ensure_future(store.settle(call.id, settlement(40)))
    await asyncio.sleep(0)
    if task.cancel():
        with pytest.raises(asyncio.CancelledError):
            await task
    await store.heartbeat(NOON_MS)  # behind it in the queue
    assert await standing(store, DAILY) == (40, 0)
