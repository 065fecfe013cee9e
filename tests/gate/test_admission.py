"""The queue before the budget, over the real ledger, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from llmcap_addon.budget.caps import Cap
from llmcap_addon.gate import admission
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.gate.pace import FIRST_SLICE_TOKENS
from llmcap_addon.money import nanousd
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Refusal
from tests.gate.house import GPT_4O, STREAM, House, MakeHouse, final

SMALL = Usage(input_tokens=10, output_tokens=10)
OTHER = replace(GPT_4O, model="gpt-4o-mini")


async def waiting(house: House, number: int = 1) -> None:
    """Return when so many calls wait."""
    await house.advance(lambda: len({line.id for line in house.lines if line.state == "waiting"}) >= number, step_s=0.0)


async def test_who_shares_no_cap_does_not_wait_behind(make_house: MakeHouse) -> None:
    """A full cap of one model holds up nobody who calls another."""
    house = make_house("0.02")
    house.budget.replace_caps(
        [
            Cap("4o", nanousd("0.02"), "day", match=(("model", "gpt-4o"),)),
            Cap("mini", nanousd("0.02"), "day", match=(("model", "gpt-4o-mini"),)),
        ],
        "UTC",
    )
    await house.admitted(GPT_4O)
    second = asyncio.create_task(house.gate.admit(GPT_4O))
    await waiting(house)
    await house.admitted(OTHER)
    assert not second.done()
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_a_caller_that_is_cancelled_leaves_the_queue(make_house: MakeHouse) -> None:
    """Whoever stood behind it is next; nothing of it stays reserved."""
    house = make_house("0.02")
    first = await house.admitted(GPT_4O)
    second = asyncio.create_task(house.gate.admit(GPT_4O))
    await waiting(house)
    third = asyncio.create_task(house.admitted(GPT_4O))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await first.finish(final(SMALL), "complete", 200)
    live = await asyncio.wait_for(third, 10)
    assert (await house.standing())[1] == live.reserved


async def test_what_another_process_gives_back_is_seen(make_house: MakeHouse) -> None:
    """Nobody signals it: a call that waits looks again now and then."""
    house = make_house("0.02")
    first = await house.admitted(GPT_4O)
    second = asyncio.create_task(house.admitted(GPT_4O))
    await waiting(house)
    await house.budget.void(first.entry.id, house.runtime.now_ms(), 0, "")  # past this gate, as another process does
    await house.advance(second.done)
    assert isinstance(second.result(), LiveCall)


async def test_a_call_that_waited_counts_in_the_period_it_begins_in(make_house: MakeHouse) -> None:
    """Past midnight the new day's balance takes it, and the old day's reservations hold it up no more."""
    house = make_house("0.02", wait_ms=200_000_000)
    await house.admitted(GPT_4O)
    second = asyncio.create_task(house.admitted(GPT_4O))
    await waiting(house)
    house.runtime.advance(86_400)
    await house.advance(second.done)
    assert (await house.standing()) == (0, second.result().reserved)
    assert second.result().entry.started_at_ms >= house.runtime.now_ms() - 10_000


async def test_the_queue_is_bounded(make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call that waits keeps its request in memory."""
    monkeypatch.setattr(admission, "MAX_WAITING", 1)
    house = make_house("0.02")
    await house.admitted(GPT_4O)
    second = asyncio.create_task(house.gate.admit(GPT_4O))
    await waiting(house)
    refusal = await house.refused(GPT_4O)
    assert refusal.kind == "reserved"
    assert "waiting already" in refusal.message
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_a_call_that_will_never_fit_does_not_wait(make_house: MakeHouse) -> None:
    """What is dearer than all that is left without the others is refused at once, as spent."""
    house = make_house("0.02")
    await house.admitted(GPT_4O)
    refusal = await asyncio.wait_for(house.refused(replace(GPT_4O, max_output_tokens=16_000)), 10)
    assert refusal.kind == "spent"


async def test_all_caps_must_admit(make_house: MakeHouse) -> None:
    """The tightest decides and is named; what the others would have taken is not held."""
    house = make_house("5")
    house.budget.replace_caps([Cap("large", nanousd("5"), "day"), Cap("small", nanousd("0.001"), "minute")], "UTC")
    refusal = await house.refused(GPT_4O)
    assert refusal.cap == "small"
    assert [(one.posted, one.pending) for one in await house.budget.balances()] == [(0, 0), (0, 0)]


async def test_several_answers_are_shortened_alike(make_house: MakeHouse) -> None:
    """A limit counts for each choice, so what is reserved is a multiple of them."""
    house = make_house("0.08", wait_ms=0)
    live = await house.admitted(replace(GPT_4O, max_output_tokens=None, choices=3))
    assert live.max_output_tokens is not None
    assert live.output_limit == 3 * live.max_output_tokens
    assert live.max_output_tokens >= admission.MIN_SHORTENED_TOKENS


@pytest.mark.parametrize("limit", ["0.0105", "0.012"])
async def test_an_answer_is_not_shortened_to_nothing(make_house: MakeHouse, limit: str) -> None:
    """Where not even 1,024 tokens fit, a refusal is more use than a stump."""
    house = make_house(limit, wait_ms=0)
    outcome = await house.gate.admit(replace(GPT_4O, max_output_tokens=None))
    if isinstance(outcome, Refusal):
        assert outcome.kind == "spent"
    else:
        assert (outcome.max_output_tokens or 0) >= admission.MIN_SHORTENED_TOKENS


async def test_a_stream_waits_for_a_first_slice_that_others_only_hold(make_house: MakeHouse) -> None:
    """Begun on less it would most likely be cut; and when its wait is over it begins on what there is."""
    call = replace(STREAM, max_output_tokens=16_000)
    house = make_house("1")
    slices = house.gate.pricing.quote(call, "counted")
    room = slices.amount(FIRST_SLICE_TOKENS) + slices.amount(admission.MIN_SLICE_TOKENS) + 1_000_000  # "small" fits
    house.budget.replace_caps([Cap("daily", room, "day")], "UTC")
    first = await house.admitted(call)
    second = asyncio.create_task(house.admitted(call))
    await waiting(house)
    assert not second.done()
    third = asyncio.create_task(house.admitted(call))
    await first.finish(final(SMALL), "complete", 200)
    assert (await asyncio.wait_for(second, 10)).reserved >= slices.amount(FIRST_SLICE_TOKENS)
    await house.advance(third.done)
    assert third.result().reserved < slices.amount(FIRST_SLICE_TOKENS)


async def test_a_stream_begins_with_what_is_left(make_house: MakeHouse) -> None:
    """Less than a first slice will do, where half of it is there; below that nothing begins."""
    house = make_house("1", wait_ms=0)
    quote = house.gate.pricing.quote(STREAM)
    for tokens, fits in ((admission.MIN_SLICE_TOKENS, True), (admission.MIN_SLICE_TOKENS - 1, False)):
        counted = house.gate.pricing.quote(STREAM, "counted")
        room = min(quote.amount(tokens), counted.amount(tokens))
        house.budget.replace_caps([Cap(f"room-{tokens}", room, "day")], "UTC")
        outcome = await house.gate.admit(STREAM)
        assert isinstance(outcome, LiveCall) is fits
        if isinstance(outcome, LiveCall):
            assert outcome.reserved <= room
            await outcome.finish(final(Usage()), "complete", 200)
