from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from llmcap_addon.call import Call, Content
from llmcap_addon.gate import gate as gate_module
from llmcap_addon.gate import jobs as jobs_module
from llmcap_addon.gate.notes import Stored
from llmcap_addon.pricing.overrides import OwnRows, PriceOverride, own_card
from llmcap_addon.pricing.prices import Overrides, Prices, UnknownPrice
from llmcap_addon.usage import BATCH_PART, Reading, Share, Terms, Usage
from llmcap_addon.wire.jobs import Outcome
from tests.gate.house import GPT_4O, MakeHouse

BATCH = Terms(service_tier=BATCH_PART)
PART = replace(GPT_4O, model="gpt-4o-mini", max_output_tokens=1000, terms=BATCH)


def batch(requests: int) -> Call:
    return replace(
        PART, dialect="openai.batches", content=Content(), parts=(PART,) * requests, bills_after_disconnect=True,
        editable=False,
    )  # fmt: skip


@pytest.mark.parametrize("many", [10_000, 2])
async def test_a_batch_is_reserved_and_billed_request_by_request(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """The sum of its requests' bounds until its results are seen, then the sum of their costs, rounded up once; whether
    that is worked out in a thread or not."""
    monkeypatch.setattr(gate_module, "MANY_REQUESTS", many)
    monkeypatch.setattr(jobs_module, "MANY_SHARES", many)
    house = make_house("1")
    call = batch(5)
    live = await house.admitted(call)
    each = house.gate.pricing.quote(PART)
    assert live.reserved == 5 * each.amount(1000)
    await live.finish(Reading(job="batch_1"), "complete", 200)
    assert await house.standing() == (0, live.reserved)
    shares = tuple(Share(Usage(101, 7), "gpt-4o-mini-2024-07-18", BATCH) for _ in range(3))
    reading = Reading(usage=Usage(303, 21), final=True, shares=shares, model="gpt-4o-mini-2024-07-18", terms=BATCH)
    await house.gate.jobs.settle("api.openai.com", Outcome("batch_1", Reading(), ("file-out",)))
    assert await house.standing() == (0, live.reserved)
    await house.gate.jobs.settle("api.openai.com", Outcome("file-out", reading))
    assert await house.standing() == (303 * 75 + 21 * 300, 0)
    [row] = await house.rows()
    assert row.usage == Usage(303, 21)


@pytest.mark.parametrize("name", ["batch_1", "file-out"])
async def test_results_cut_short_settle_nothing(make_house: MakeHouse, name: str) -> None:
    """A list of fewer results than the batch has requests ended too early, however cleanly."""
    house = make_house("1")
    live = await house.admitted(batch(3))
    await live.finish(Reading(job="batch_1"), "complete", 200)
    await house.gate.jobs.settle("api.openai.com", Outcome("batch_1", Reading(), ("file-out",), also_requests=3))
    reading = Reading(usage=Usage(10, 1), final=True, model="gpt-4o-mini", terms=BATCH)
    for short in (reading, Reading(failed=True, final=True)):
        await house.gate.jobs.settle("api.openai.com", Outcome(name, short, requests=2))
        assert await house.standing() == (0, live.reserved)
    await house.gate.jobs.settle("api.openai.com", Outcome(name, reading, requests=3))
    assert await house.standing() == (10 * 75 + 300, 0)


async def test_a_batch_that_does_not_fit_is_refused_whole(make_house: MakeHouse) -> None:
    """It is never shortened: what it may cost is what its requests say."""
    house = make_house("0.002", wait_ms=0)
    await house.admitted(batch(3))
    refusal = await house.refused(batch(4))
    assert refusal.kind in ("spent", "reserved")


async def test_a_file_that_nobody_can_bound_is_refused_with_its_reason(make_house: MakeHouse) -> None:
    """And one that did not pass, with advice."""
    house = make_house("1")
    call = replace(PART, dialect="openai.batches", model="", stored="file-1", editable=False)
    assert "did not pass this proxy" in (await house.refused(call)).message
    house.gate.jobs.note_stored("api.openai.com", "file-1", Stored(why_not="line 3 of the file: model is missing"))
    assert "line 3 of the file: model is missing" in (await house.refused(call)).message
    stored = await house.gate.jobs.bound_of(lambda: iter([PART]))
    assert stored is not None
    house.gate.jobs.note_stored("api.openai.com", "file-1", replace(stored, bound=12_345))
    live = await house.admitted(call)
    assert live.reserved == 12_345
    assert live.entry.model == "gpt-4o-mini"


def priced(**rates: str) -> Mapping[str, Mapping[str, PriceOverride]]:
    """Give a price of the user's own, in dollars per million tokens."""
    row = {name: Decimal(rate) for name, rate in rates.items()}
    return {"api.openai.com": {"gpt-4o-*": PriceOverride(((date.min, own_card(OwnRows(row, {}, {}))),))}}


@pytest.mark.parametrize(
    ("prices", "unknown", "model", "refused"),
    [
        ({}, "highest", "gpt-4o-mini", ""),
        (priced(input="0.01", output="0.01"), "highest", "gpt-4o-mini", ""),
        (priced(input="0.01", output="99"), "highest", "gpt-4o-mini", "prices have changed"),
        (priced(input="99", output="0.01"), "highest", "gpt-4o-mini", "prices have changed"),
        ({}, "refuse", "gpt-4o-mini", ""),
        ({}, "highest", "nobodys", ""),
        ({}, "refuse", "nobodys", "no known price"),
    ],
)
async def test_a_files_bound_holds_as_long_as_prices_do(
    make_house: MakeHouse, prices: Overrides, unknown: UnknownPrice, model: str, refused: str
) -> None:
    """It was priced when it passed, weeks ago perhaps; a price that has gone up since makes it no bound any more."""
    house = make_house("100")
    part = replace(PART, model=model)
    stored = await house.gate.jobs.bound_of(lambda: iter([part, part]))
    assert stored is not None
    house.gate.jobs.note_stored("api.openai.com", "file-1", stored)
    house.gate.pricing = Prices.load(prices, unknown, now_ms=house.runtime.now_ms)
    call = replace(PART, dialect="openai.batches", model="", stored="file-1", editable=False)
    if refused:
        assert refused in (await house.refused(call)).message
    else:
        assert (await house.admitted(call)).reserved == stored.bound
