"""A call that grows before it begins: what it may cost then is set aside before what makes it dearer goes out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmcap_addon.call import Call, Content
from llmcap_addon.errors import PriceError, StoreError
from llmcap_addon.usage import Reading, Terms, Usage
from tests.gate.house import GPT_4O, MakeHouse, final

WHOLE = replace(GPT_4O, streamed=True, hidden_output_tokens=None, editable=False, terms=Terms(service_tier="default"))


def grown(known_tokens: int, call: Call = WHOLE) -> Call:
    return replace(call, content=replace(call.content, known_tokens=known_tokens))


async def test_a_call_that_has_grown_holds_more(make_house: MakeHouse) -> None:
    """Under the same row; what it settles at is its cost, and a smaller one gives nothing back before that."""
    house = make_house("1")
    live = await house.admitted(WHOLE)
    before = live.reserved
    assert await house.gate.widen(live, grown(10_000)) is None
    assert live.reserved == before + 10_000 * 2_500
    assert (live.call.content.known_tokens, live.quote.input_tokens > 10_000) == (10_000, True)
    assert await house.gate.widen(live, grown(5)) is None
    assert (await house.standing())[1] == live.reserved == before + 10_000 * 2_500
    await live.finish(final(Usage(input_tokens=10, output_tokens=1)), "complete", 200)
    assert await house.standing() == (10 * 2_500 + 10_000, 0)
    assert len(await house.rows()) == 1


async def test_what_is_not_there_is_refused_and_what_stands_stays(make_house: MakeHouse) -> None:
    """The refusal names the cap, has a row of its own, and the call is as it was."""
    house = make_house("0.02")
    live = await house.admitted(WHOLE)
    before = live.reserved
    refusal = await house.gate.widen(live, grown(100_000))
    assert refusal is not None
    assert (refusal.kind, refusal.cap) == ("spent", "daily")
    assert (live.reserved, live.call) == (before, WHOLE)
    assert sorted(row.state for row in await house.rows()) == ["pending", "refused"]
    await live.finish(Reading(), "never_sent")
    assert await house.standing() == (0, 0)


async def test_a_text_is_counted_before_it_is_refused(make_house: MakeHouse) -> None:
    """Bytes bound it at once; where they don't fit, its tokens may."""
    house = make_house("0.02")
    live = await house.admitted(WHOLE)
    text = "the quick brown fox " * 400
    long = replace(WHOLE, content=Content(texts=(text,), text_bytes=len(text), messages=1))
    assert await house.gate.widen(live, long) is None
    assert live.quote.input_tokens < len(text)


@pytest.mark.parametrize("on_error", ["refuse", "allow"])
async def test_a_ledger_that_fails_refuses_unless_it_may_not(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch, on_error: str
) -> None:
    """With `on_error: allow` it goes on, marked."""
    house = make_house("1", on_error=on_error)
    live = await house.admitted(WHOLE)

    async def broken(*_: object, **__: object) -> int:
        raise StoreError("gone")

    monkeypatch.setattr(house.budget.store, "extend", broken)
    refusal = await house.gate.widen(live, grown(10_000))
    assert ("unreserved" in live.entry.marks) is (on_error == "allow")
    assert (refusal.kind if refusal else "") == ("store" if on_error == "refuse" else "")
    assert house.troubles == ["gone"]


async def test_what_can_not_be_priced_is_refused(make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fails ends in a refusal."""
    house = make_house("1")
    live = await house.admitted(WHOLE)

    def unknown(*_: object) -> None:
        raise PriceError("no price")

    monkeypatch.setattr(house.gate.pricing, "quote", unknown)
    refusal = await house.gate.widen(live, grown(10_000))
    assert refusal is not None
    assert "no price" in refusal.message


async def test_what_has_ended_meanwhile_is_left_alone(make_house: MakeHouse) -> None:
    """A response may begin and end while the ledger is asked."""
    house = make_house("1")
    live = await house.admitted(WHOLE)
    await live.finish(final(Usage(input_tokens=10, output_tokens=1)), "complete", 200)
    assert await house.gate.widen(live, grown(10_000)) is None
    assert await house.standing() == (10 * 2_500 + 10_000, 0)
