"""What a review found in the gate: a view that fails, a row that can't be written, an error that is not the end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmcap_addon.activity import CallLine
from llmcap_addon.budget.ledger import Settlement
from llmcap_addon.errors import StoreError
from llmcap_addon.gate.live import Step
from llmcap_addon.usage import Reading, Usage
from tests.gate.house import GPT_4O, STREAM, MakeHouse, final


async def test_an_error_in_the_middle_of_a_stream_does_not_end_its_metering(make_house: MakeHouse) -> None:
    """Output that goes on behind an error event is extended for, or cut, like any other."""
    house = make_house("0.01")
    live = await house.admitted(replace(STREAM, max_output_tokens=16_000))
    reading = Reading(failed=True)
    step = Step.PASS
    while step is not Step.CUT and reading.counted_output_tokens < 16_000:
        reading.counted_output_tokens += 20
        house.runtime.advance(0.2)
        step = live.observe(reading)
        if live.wants_extension and step is not Step.CUT:
            step = await house.gate.extend(live, reading)
    assert step is Step.CUT
    assert sum(await house.standing()) <= 10_000_000


async def test_a_view_that_fails_leaves_no_reservation_behind(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls are admitted and settled though nobody can see them."""
    house = make_house("1")

    def fail(_: CallLine) -> None:
        raise RuntimeError("no console")

    monkeypatch.setattr(house.gate, "_on_change", fail)
    live = await house.admitted(GPT_4O)
    await live.finish(final(Usage(input_tokens=10, output_tokens=10)), "complete", 200)
    await house.refused(replace(GPT_4O, max_output_tokens=1_000_000, editable=False, model="o1-pro"))
    assert await house.standing() == (10 * 2_500 + 10 * 10_000, 0)
    assert any("could not be shown" in trouble for trouble in house.troubles)


async def test_a_row_that_cannot_be_written_keeps_no_other_waiting(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two settlements that a failing store did not take, the second is written though the first never can be."""
    house = make_house("1")
    spoilt, sound = await house.admitted(GPT_4O), await house.admitted(GPT_4O)
    settle = house.store.settle

    async def unreachable(entry_id: str, settlement: Settlement) -> bool:
        raise StoreError("locked")

    async def picky(entry_id: str, settlement: Settlement) -> bool:
        if entry_id == spoilt.entry.id:
            raise ValueError("no such row")
        return await settle(entry_id, settlement)

    monkeypatch.setattr(house.store, "settle", unreachable)
    for live in (spoilt, sound):
        await live.finish(final(Usage(input_tokens=10, output_tokens=10)), "complete", 200)
    monkeypatch.setattr(house.store, "settle", picky)
    await house.gate.retry_unwritten()
    states = {row.entry.id: row.state for row in await house.rows()}
    assert states == {spoilt.entry.id: "pending", sound.entry.id: "posted"}
