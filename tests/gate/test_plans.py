"""Calls under a subscription: notional, unless the answer says that the subscription is used up."""

from __future__ import annotations

from dataclasses import replace

from llmcap_addon.activity import Activity
from llmcap_addon.budget.caps import Cap
from llmcap_addon.report import make_report, report_json
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.view.console import render, snapshot
from llmcap_addon.view.report import render_report
from tests.gate.house import GPT_4O, House, MakeHouse, final

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
