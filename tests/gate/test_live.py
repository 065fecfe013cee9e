"""An admitted call from its first byte to its settlement, over the real ledger and prices."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmcap_addon.budget.caps import Cap
from llmcap_addon.call import Call
from llmcap_addon.gate import messages
from llmcap_addon.gate.live import Step
from llmcap_addon.gate.pace import HIDDEN_START_TOKENS
from llmcap_addon.money import nanousd
from llmcap_addon.pricing.quote import Priced
from llmcap_addon.usage import Reading, Terms, Usage
from tests.gate.house import GPT_4O, STREAM, MakeHouse, final

LONG = replace(STREAM, max_output_tokens=16_000)
DEFAULT = Terms(service_tier="default")


async def test_the_first_reason_for_a_cut_stays(make_house: MakeHouse) -> None:
    """What the user reads is what came first."""
    house = make_house("1")
    live = await house.admitted(LONG)
    for reason in ("first", "second"):
        live.refuse(messages.failure("internal", reason))
    assert live.observe(Reading()) is Step.CUT
    assert live.refusal is not None
    assert live.refusal.message == "LLMCap: first"


async def test_more_is_asked_for_ahead_of_need(make_house: MakeHouse) -> None:
    """At half a slice, while the stream still passes; so that no chunk waits for the store."""
    house = make_house("1")
    live = await house.admitted(LONG)
    reading = Reading(terms=DEFAULT)
    while not live.wants_extension:
        house.runtime.seconds += 0.1
        reading.counted_output_tokens += 5
        assert live.observe(reading) is Step.PASS
    assert reading.counted_output_tokens * 10_000 < live.reserved
    before = live.reserved
    assert await house.gate.extend(live, reading) is Step.PASS
    assert live.reserved > before
    assert (await house.standing())[1] == live.reserved


async def test_what_is_billed_already_is_never_cut(make_house: MakeHouse) -> None:
    """The provider's last word, or its error, is the end: cutting there saves nothing."""
    house = make_house("0.01")
    live = await house.admitted(LONG)
    for reading in (
        Reading(final=True, counted_output_tokens=9_000),
        Reading(failed=True, counted_output_tokens=9_000),
    ):
        assert live.observe(reading) is Step.PASS
        assert not live.wants_extension


async def test_the_tier_that_the_response_names_is_what_it_costs(make_house: MakeHouse) -> None:
    """Until it is named the dearest that could apply is reserved; then the slices follow."""
    house = make_house("1")
    live = await house.admitted(LONG)
    unnamed = live.cost_so_far(Reading(counted_output_tokens=1_000))
    named = live.cost_so_far(Reading(counted_output_tokens=1_000, terms=DEFAULT))
    assert named < unnamed
    assert named >= 1_000 * 10_000


async def test_input_that_was_reported_replaces_the_bound(make_house: MakeHouse) -> None:
    """A stream's first event may say what its input was; from then on no more than that is kept for it."""
    house = make_house("1")
    call = replace(
        LONG, dialect="anthropic.messages", provider="anthropic", host="api.anthropic.com", model="claude-sonnet-4-5"
    )
    live = await house.admitted(call)
    before = live.cost_so_far(Reading())
    after = live.cost_so_far(Reading(usage=Usage(input_tokens=2, output_tokens=1)))
    assert after < before


class Breaks:
    """Prices that fail when a call is settled."""

    def __call__(self, *_: object, **__: object) -> Priced:
        raise RuntimeError("no card")


ROUTED = replace(
    LONG,
    dialect="anthropic.messages",
    provider="openrouter",
    host="openrouter.ai",
    model="anthropic/claude-sonnet-4.5",
    content=replace(LONG.content, web_searches=8),
    unit_bound=Usage(pages=1000),
)
EARLY = Usage(input_tokens=2, output_tokens=1)


async def test_pieces_that_nobody_has_told_stay_in_the_cost(make_house: MakeHouse) -> None:
    """An early usage tells tokens only: pages and searches may still be billed, until the last word leaves them out."""
    house = make_house("10")
    live = await house.admitted(ROUTED)
    early = live.cost_so_far(Reading(usage=EARLY))
    assert early > 1000 * 2_000_000 + 8 * 5_000_000
    assert live.cost_so_far(Reading(usage=EARLY, final=True)) < nanousd("0.01")
    line = await live.finish(Reading(usage=EARLY), "client_gone")
    assert line is not None
    assert line.cost >= early


async def test_searches_that_a_stream_shows_count_as_they_come(make_house: MakeHouse) -> None:
    """Anthropic's own stream has a block for each, so that none is reserved for longer than it takes."""
    house = make_house("10")
    live = await house.admitted(replace(ROUTED, provider="anthropic", host="api.anthropic.com", unit_bound=Usage()))
    reading = Reading(usage=EARLY)
    none = live.cost_so_far(reading)
    assert none < nanousd("0.001")
    reading.counted_web_search_requests = 2
    assert live.cost_so_far(reading) == none + 2 * 10_000_000


async def test_a_cost_that_cannot_be_worked_out_is_what_was_reserved(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails in settling, the money that was set aside is posted, never lost."""
    house = make_house("1")
    live = await house.admitted(GPT_4O)
    monkeypatch.setattr(type(house.gate.pricing), "cost", Breaks())
    await live.finish(final(Usage(input_tokens=10, output_tokens=10)), "complete", 200)
    [row] = await house.rows()
    assert (row.cost, await house.standing()) == (live.reserved, (live.reserved, 0))
    assert "estimated" in row.marks
    assert "RuntimeError" in row.note


async def test_a_cost_above_the_reservation_is_posted_and_marked(make_house: MakeHouse) -> None:
    """A provider that bills more than its limit is believed: nothing is lost, and the cap is over by its doing."""
    house = make_house("0.02")
    live = await house.admitted(GPT_4O)
    await live.finish(final(Usage(input_tokens=10, output_tokens=50_000)), "complete", 200)
    [row] = await house.rows()
    assert row.cost == 10 * 2_500 + 50_000 * 10_000
    assert row.marks == {"overrun"}
    assert (await house.refused(replace(GPT_4O, max_output_tokens=1))).kind == "spent"


@pytest.mark.parametrize(
    "call",
    [replace(LONG, bills_after_disconnect=True), replace(LONG, hidden_output_tokens=None)],
    ids=["bills on", "hides"],
)
async def test_what_a_stream_does_not_show_is_never_sliced(make_house: MakeHouse, call: Call) -> None:
    """The whole bound is set aside at the start, and `observe` has nothing to cut for."""
    house = make_house("1")
    live = await house.admitted(call)
    assert not live.sliced
    assert live.reserved >= 16_000 * 10_000
    assert live.observe(Reading(counted_output_tokens=15_000)) is Step.PASS


async def test_a_provider_that_bills_on_is_posted_in_full(make_house: MakeHouse) -> None:
    """A client that leaves saves nothing there."""
    house = make_house("1")
    live = await house.admitted(replace(LONG, bills_after_disconnect=True))
    await live.finish(Reading(counted_output_tokens=5), "client_gone", 200)
    assert (await house.rows())[0].usage.output_tokens == 16_000


@pytest.mark.parametrize(
    ("provider", "least", "most"), [("openai", 5 + HIDDEN_START_TOKENS, 5_000), ("api.example.com", 16_000, 16_000)]
)
async def test_an_unreadable_cut_is_posted_from_above(
    make_house: MakeHouse, provider: str, least: int, most: int
) -> None:
    """What a stream said that could not be read is bounded by the time, where the speed is; else by the limit."""
    house = make_house("1")
    live = await house.admitted(replace(LONG, provider=provider))
    reading = Reading(unreadable="gibberish", counted_output_tokens=5)
    assert live.observe(reading) is Step.CUT
    await live.finish(reading, "cut", 200)
    [row] = await house.rows()
    assert least <= row.usage.output_tokens <= most


INPUT_TOLD = Usage(input_tokens=5, output_tokens=1)
CLAUDE = replace(
    STREAM, dialect="anthropic.messages", provider="anthropic", host="api.anthropic.com", model="claude-sonnet-4-5"
)


async def test_a_count_from_above_ends_at_the_stated_limit(make_house: MakeHouse) -> None:
    """Our count may be twice Claude's; at its limit the provider stops, so such a stream isn't cut for our doubt."""
    house = make_house("1")
    live = await house.admitted(replace(CLAUDE, max_output_tokens=600))
    house.budget.replace_caps([Cap("daily", live.reserved, "day")], "UTC")
    house.runtime.seconds += 5
    for counted in (400, 800, 1_200):
        assert live.observe(Reading(counted_output_tokens=counted, usage=INPUT_TOLD)) is Step.PASS
        assert not live.wants_extension
    reading = Reading(counted_output_tokens=1_200, usage=INPUT_TOLD)
    assert live.cost_so_far(reading) <= live.reserved
    await live.finish(reading, "upstream_gone", 200)
    assert (await house.rows())[0].usage.output_tokens == 600


async def test_a_provider_that_passes_the_limit_is_counted_on(make_house: MakeHouse) -> None:
    """When even the count from below is above the stated limit, this provider did not keep to it."""
    house = make_house("1")
    live = await house.admitted(replace(CLAUDE, max_output_tokens=600))
    house.budget.replace_caps([Cap("daily", live.reserved, "day")], "UTC")
    house.runtime.seconds += 5
    reading = Reading(counted_output_tokens=1_202)
    assert live.cost_so_far(reading) > live.reserved
    assert live.observe(reading) is Step.HOLD
    assert await house.gate.extend(live, reading) is Step.CUT


async def test_a_complete_stream_without_usage_has_no_margin(make_house: MakeHouse) -> None:
    """When a stream has ended by itself, nothing is on its way any more."""
    house = make_house("1")
    live = await house.admitted(LONG)
    await live.finish(Reading(counted_output_tokens=200, terms=DEFAULT), "complete", 200)
    [row] = await house.rows()
    assert row.usage.output_tokens == 200
    assert row.marks == {"estimated"}


async def test_an_extension_is_granted_in_part(make_house: MakeHouse) -> None:
    """The last of a cap goes to the stream that asks for it, and no more than is there."""
    house = make_house("1")
    live = await house.admitted(LONG)
    room = live.reserved + nanousd("0.002")
    house.budget.replace_caps([Cap("daily", room, "day")], "UTC")
    reading = Reading(counted_output_tokens=100, terms=DEFAULT)
    for _ in range(20):
        house.runtime.seconds += 1
        reading.counted_output_tokens += 20
        if live.observe(reading) is Step.CUT or await house.gate.extend(live, reading) is Step.CUT:
            break
        posted, pending = await house.standing()
        assert posted + pending <= room
    assert live.reserved == room


async def test_an_ended_call_asks_for_nothing(make_house: MakeHouse) -> None:
    """An extension that comes after the settlement reserves nothing for ever."""
    house = make_house("1")
    live = await house.admitted(LONG)
    reading = Reading(counted_output_tokens=9_000, terms=DEFAULT)
    assert live.observe(reading) is Step.HOLD
    await live.finish(reading, "client_gone", 200)
    assert not live.wants_extension
    assert await house.gate.extend(live, reading) is Step.CUT
    assert (await house.standing())[1] == 0


async def test_a_stream_is_shown_now_and_then(make_house: MakeHouse) -> None:
    """However fast its chunks come, a person reads ten lines a second at most."""
    house = make_house("1")
    live = await house.admitted(LONG)
    house.runtime.seconds += 1
    for _ in range(100):
        live.observe(Reading(counted_output_tokens=1))
    assert [line.state for line in house.lines].count("streaming") == 1
