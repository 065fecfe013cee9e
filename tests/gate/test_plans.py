"""Calls under a subscription: notional, unless the answer says that the subscription is used up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from llmcap_addon.activity import Activity
from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.stores import open_store
from llmcap_addon.call import Call
from llmcap_addon.gate.live import LiveCall, Step
from llmcap_addon.report import make_report, report_json
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.view.console import render, snapshot
from llmcap_addon.view.report import render_report
from tests.gate.house import GPT_4O, STREAM, House, MakeHouse, final

PLANNED = replace(GPT_4O, billing="plan")
USED = Usage(input_tokens=100, output_tokens=50)
COST = 100 * 2_500 + 50 * 10_000
HOUR_MS = 3_600_000


def told(billing: str) -> Reading:
    reading = final(USED)
    reading.billing = billing
    return reading


async def ended(house: House, billing: str = "") -> None:
    live = await house.admitted(PLANNED)
    house.gate.note_billing(live.call, billing)
    await live.finish(told(billing), "complete", 200)


async def test_a_plans_call_is_counted_and_spends_nothing(make_house: MakeHouse) -> None:
    """Its row holds what it would have cost; a cap of 0 lets it through, and no sum of money holds it."""
    house = make_house("0")
    await ended(house)
    [row] = await house.rows()
    assert (row.state, row.cost, row.entry.billing, row.caps) == ("posted", COST, "plan", ())
    assert await house.standing() == (0, 0)
    activity = Activity(house.runtime.now_ms)
    for line in house.lines:
        activity.update(line)
    assert (activity.plans(), activity.spent_by("model"), activity.burn_rate(house.runtime.now_ms())) == (
        (COST, 1),
        [],
        0,
    )
    assert activity.burn_rate(house.runtime.now_ms(), lambda labels: labels["billing"] == "plan") > 0
    screen = render(snapshot(activity, (), house.runtime.now_ms(), "x"), 120, 30).plain
    assert "spent $0.00 this run" in screen
    assert "plans $0.0008 notional" in screen
    report = make_report([row], (), by="billing")
    assert (report.totals.posted, report.totals.calls, report.plans.posted) == (0, 0, COST)
    assert [name for name, _ in report.groups] == ["plan"]
    assert make_report([row], (), by="model").groups == ()
    assert report_json(report)["plans"]["posted_usd"] == "0.00075"
    assert "1 call that would have cost $0.0008" in render_report(report, 0, 120).plain


async def test_a_cap_that_names_plans_holds_them(make_house: MakeHouse) -> None:
    """It refuses a plan's calls, and none that is paid by the token."""
    house = make_house("1")
    house.budget.replace_caps([Cap("plans", 0, "day", (("billing", "plan"),))], "UTC")
    assert (await house.refused(PLANNED)).cap == "plans"
    await house.admitted(GPT_4O)


async def test_what_is_billed_beyond_a_plan_is_posted_as_paid(make_house: MakeHouse) -> None:
    """The plan's row is void, the money stands in one of its own, and the next call counts from the start."""
    house = make_house("1")
    await ended(house, "api")
    planned, paid = await house.rows()
    assert (planned.state, planned.cost, planned.entry.billing) == ("voided", 0, "plan")
    assert (paid.state, paid.cost, paid.entry.billing, paid.caps) == ("posted", COST, "api", ("daily",))
    assert await house.standing() == (COST, 0)
    assert house.lines[-1].billing == "api"
    live = await house.admitted(PLANNED)
    assert live.entry.billing == "api"
    await live.finish(told("api"), "complete", 200)
    assert await house.standing() == (2 * COST, 0)
    assert len(await house.rows()) == 3


async def test_the_head_of_an_answer_tells_before_its_end(make_house: MakeHouse) -> None:
    """Calls that come while the first answer beyond a plan still runs count as paid; an older answer changes nothing."""
    house = make_house("1")
    older, live = await house.admitted(PLANNED), await house.admitted(PLANNED)
    house.gate.note_billing(older.call, "plan")
    house.gate.note_billing(live.call, "api")
    await older.finish(told("plan"), "complete", 200)
    assert (await house.admitted(PLANNED)).entry.billing == "api"


async def test_a_plan_counts_again_once_an_answer_says_so_or_time_has_passed(make_house: MakeHouse) -> None:
    """Plans are refilled."""
    house = make_house("1")
    await ended(house, "api")
    await ended(house, "plan")
    assert (await house.admitted(PLANNED)).entry.billing == "plan"
    await ended(house, "api")
    assert (await house.admitted(PLANNED)).entry.billing == "api"
    house.runtime.advance(HOUR_MS / 1000)
    assert (await house.admitted(PLANNED)).entry.billing == "plan"


# ── what runs when a plan turns out to be used up ──

PLANNED_STREAM = replace(STREAM, billing="plan", max_output_tokens=16_000)


async def beyond(house: House, call: Call) -> LiveCall:
    """Admit a plan's call whose answer's head says that it is paid by the token."""
    live = await house.admitted(call)
    live.billing_told = "api"
    return live


async def test_a_call_that_runs_is_covered_at_once(make_house: MakeHouse) -> None:
    """What it may cost is set aside in a row of its own, grows with the stream, and is settled by its end."""
    house = make_house("1")
    live = await beyond(house, PLANNED_STREAM)
    first = live.reserved
    assert await house.standing() == (0, 0)
    assert await house.gate.cover(live) is None
    assert await house.standing() == (0, first)
    reading = Reading(counted_output_tokens=1_000)
    live.observe(reading)
    assert await house.gate.extend(live, reading) is Step.PASS
    assert await house.standing() == (0, live.reserved)
    assert live.reserved > first
    assert [(row.entry.billing, row.reserved) for row in await house.rows()] == [
        ("plan", live.reserved),
        ("api", live.reserved),
    ]
    await live.finish(told("api"), "complete", 200)
    planned, paid = await house.rows()
    assert (planned.state, paid.state, paid.cost, paid.marks) == ("voided", "posted", COST, frozenset())
    assert await house.standing() == (COST, 0)


async def test_what_grew_while_it_was_covered_is_covered_too(make_house: MakeHouse) -> None:
    """An extension under the plan may be under way at that moment."""
    house = make_house("1")
    live = await beyond(house, PLANNED_STREAM)
    reading = Reading(counted_output_tokens=1_000)
    live.observe(reading)
    await asyncio.gather(house.gate.cover(live), house.gate.extend(live, reading))
    assert await house.standing() == (0, live.reserved)


async def test_a_stream_that_does_not_fit_is_cut(make_house: MakeHouse) -> None:
    """The cap has no room for it; the words are a cut's, and nothing is left reserved for it."""
    house = make_house("0.000001")
    live = await beyond(house, PLANNED_STREAM)
    refusal = await house.gate.cover(live)
    assert refusal is not None
    assert "stream cut" in refusal.message
    assert refusal.cap == "daily"
    assert await house.standing() == (0, 0)


async def test_a_stream_that_outgrows_the_cap_is_cut(make_house: MakeHouse) -> None:
    """Its extensions count under the caps of what is paid by the token."""
    house = make_house("0.03")
    live = await beyond(house, PLANNED_STREAM)
    assert await house.gate.cover(live) is None
    reading = Reading(counted_output_tokens=4_000)
    live.observe(reading)
    assert await house.gate.extend(live, reading) is Step.CUT
    assert live.refusal is not None
    assert live.refusal.cap == "daily"


async def test_what_cant_be_cut_goes_on_above_the_cap(make_house: MakeHouse) -> None:
    """It will be billed: it stands in the ledger at once, marked, and is not lost with its process."""
    house = make_house("0.000001")
    live = await beyond(house, PLANNED)
    assert await house.gate.cover(live) is None
    assert await house.standing() == (0, live.reserved)
    await live.finish(told("api"), "complete", 200)
    assert await house.standing() == (COST, 0)
    assert "overrun" in (await house.rows())[1].marks


async def test_a_process_that_dies_loses_nothing(make_house: MakeHouse, tmp_path: Path) -> None:
    """Its reservation under the caps is posted in full."""
    house = make_house("1")
    live = await beyond(house, PLANNED)
    await house.gate.cover(live)
    await house.store.close()
    store = open_store(f"sqlite://{tmp_path}/ledger0.sqlite", house.runtime.now_ms)
    rows = await store.rows()
    await store.close()
    assert [(row.state, row.entry.billing, row.cost) for row in rows] == [
        ("posted", "plan", live.reserved),
        ("posted", "api", live.reserved),
    ]


async def test_a_call_that_ends_meanwhile_is_posted_once(make_house: MakeHouse) -> None:
    """Whichever of the two comes first."""
    for early in (True, False):
        house = make_house("1")
        live = await beyond(house, PLANNED)
        ending = live.finish(told("api"), "complete", 200)
        covering = house.gate.cover(live)
        await asyncio.gather(*((ending, covering) if early else (covering, ending)))
        assert await house.standing() == (COST, 0)
        assert house.troubles == []
    live = await beyond(house, PLANNED)
    await live.finish(told("api"), "complete", 200)
    live.ended = False
    assert await house.gate.cover(live) is None
    assert await house.standing() == (2 * COST, 0)


async def test_a_failing_store_leaves_it_to_the_end(make_house: MakeHouse, tmp_path: Path) -> None:
    """Nothing is raised into the stream, and the cost is posted as before."""
    house = make_house("1")
    live = await beyond(house, PLANNED_STREAM)
    ledger = tmp_path / "ledger0.sqlite"
    ledger.rename(ledger.with_suffix(".moved"))
    assert await house.gate.cover(live) is None
    ledger.with_suffix(".moved").rename(ledger)
    assert house.troubles
    await live.finish(told("api"), "complete", 200)
    await house.gate.retry_unwritten()
    assert await house.standing() == (COST, 0)
