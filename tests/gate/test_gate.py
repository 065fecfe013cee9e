"""The gate over the real budget, ledger and prices, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from llmcap_addon.budget.caps import Cap
from llmcap_addon.call import Call, Content
from llmcap_addon.errors import StoreError
from llmcap_addon.gate.admission import Policy
from llmcap_addon.gate.live import LiveCall, Step
from llmcap_addon.money import nanousd
from llmcap_addon.usage import Reading, Terms, Usage
from llmcap_addon.wire.dialect import Refusal
from tests.gate.house import GPT_4O, STREAM, MakeHouse, final


async def test_reported_usage_is_posted_exactly_and_the_rest_released(make_house: MakeHouse) -> None:
    """A settled call leaves its exact price posted, nothing pending, and one row."""
    house = make_house("1")
    live = await house.admitted(GPT_4O)
    posted, pending = await house.standing()
    assert posted == 0
    assert pending == live.reserved >= 1000 * 10_000
    await live.finish(final(Usage(input_tokens=100, output_tokens=50, cache_read_tokens=40)), "complete", 200)
    cost = 60 * 2_500 + 40 * 1_250 + 50 * 10_000
    assert await house.standing() == (cost, 0)
    (row,) = await house.rows()
    assert (row.state, row.cost, row.marks, row.usage.output_tokens) == ("posted", cost, frozenset(), 50)
    assert house.gate.live == {}


async def test_a_cap_of_zero_spends_nothing(make_house: MakeHouse) -> None:
    """With a limit of 0 the cheapest call is refused, and its row holds no money."""
    house = make_house("0")
    refusal = await house.refused(replace(GPT_4O, max_output_tokens=1))
    assert refusal.kind == "spent"
    assert refusal.message.startswith("LLMCap:")
    assert "daily" in refusal.message
    (row,) = await house.rows()
    assert (row.state, row.cost, row.caps) == ("refused", 0, ("daily",))


async def test_a_reported_zero_stays_zero(make_house: MakeHouse) -> None:
    """A provider that reports no tokens at all is believed."""
    house = make_house("1")
    live = await house.admitted(GPT_4O)
    await live.finish(final(Usage()), "complete", 200)
    assert await house.standing() == (0, 0)


async def test_an_error_answer_without_usage_is_void(make_house: MakeHouse) -> None:
    """A 4xx or 5xx without usage, and a request that never left, cost nothing."""
    house = make_house("1")
    for ending, status in (("complete", 500), ("never_sent", 0)):
        live = await house.admitted(GPT_4O)
        await live.finish(Reading(failed=True), ending, status)  # type: ignore[arg-type]
    assert await house.standing() == (0, 0)
    assert [row.state for row in await house.rows()] == ["voided", "voided"]


async def test_an_unstreamed_call_without_usage_is_posted_in_full(make_house: MakeHouse) -> None:
    """When the client goes away before an unstreamed answer, the bound is posted and marked estimated."""
    house = make_house("1")
    live = await house.admitted(GPT_4O)
    await live.finish(Reading(), "client_gone", 0)
    (row,) = await house.rows()
    assert row.cost >= 1000 * 10_000
    assert "estimated" in row.marks
    assert "client went away" in row.note


async def test_a_settled_call_settles_once(make_house: MakeHouse) -> None:
    """Only the first end of a call counts."""
    house = make_house("1")
    live = await house.admitted(GPT_4O)
    await live.finish(final(Usage(input_tokens=10, output_tokens=10)), "complete", 200)
    before = await house.standing()
    assert await live.finish(Reading(), "client_gone") is None
    assert await house.standing() == before


async def test_what_others_reserve_is_waited_for_in_turn(make_house: MakeHouse) -> None:
    """A call that others' reservations keep out goes ahead when they end; those that came first go first."""
    house = make_house("0.02")  # holds one call of $0.0114
    first = await house.admitted(GPT_4O)
    order: list[str] = []

    async def wait_for(name: str) -> LiveCall:
        live = await house.admitted(GPT_4O)
        order.append(name)
        return live

    second = asyncio.create_task(wait_for("second"))
    await house.advance(lambda: any(line.state == "waiting" for line in house.lines), step_s=0.0)
    third = asyncio.create_task(wait_for("third"))
    await asyncio.sleep(0)
    await first.finish(final(Usage(input_tokens=10, output_tokens=10)), "complete", 200)
    await (await second).finish(final(Usage(input_tokens=10, output_tokens=10)), "complete", 200)
    await (await third).finish(final(Usage(input_tokens=10, output_tokens=10)), "complete", 200)
    assert order == ["second", "third"]


async def test_waiting_ends_in_a_refusal_that_says_reserved(make_house: MakeHouse) -> None:
    """After `wait:` a call is refused as reserved, not as spent."""
    house = make_house("0.02", wait_ms=5_000)
    await house.admitted(GPT_4O)
    waiting = asyncio.create_task(house.refused(GPT_4O))
    await house.advance(waiting.done, step_s=0.2)
    refusal = waiting.result()
    assert refusal.kind == "reserved"
    assert "once they end" in refusal.message


async def test_a_client_that_leaves_while_waiting_reserves_nothing(make_house: MakeHouse) -> None:
    """Nobody pays for a call whose client left the queue."""
    house = make_house("0.02")
    await house.admitted(GPT_4O)
    gone = False
    waiting = asyncio.create_task(house.gate.admit(GPT_4O, lambda: gone))
    await house.advance(lambda: any(line.state == "waiting" for line in house.lines), step_s=0.0)
    gone = True
    await house.advance(waiting.done)
    assert isinstance(waiting.result(), Refusal)
    assert len(house.gate.live) == 1


async def test_an_answer_nobody_limited_is_shortened_to_what_fits(make_house: MakeHouse) -> None:
    """Without max_tokens a call goes out with a limit that fits, if 1,024 tokens do; with one it is refused."""
    house = make_house("0.05")  # gpt-4o's longest answer, 16,384 tokens, costs $0.16
    live = await house.admitted(replace(GPT_4O, max_output_tokens=None))
    assert live.max_output_tokens is not None
    assert 1_024 <= live.max_output_tokens <= 5_000
    assert live.reserved <= nanousd("0.05")
    await live.finish(final(Usage(input_tokens=10, output_tokens=10)), "complete", 200)
    assert "shortened" in (await house.rows())[0].marks
    assert (await house.refused(replace(GPT_4O, max_output_tokens=16_000))).kind == "spent"


@pytest.mark.parametrize(
    ("policy", "call"),
    [({"shorten": "never"}, GPT_4O), ({"shorten": "auto"}, replace(GPT_4O, editable=False))],
)
async def test_what_must_not_be_shortened_is_refused(make_house: MakeHouse, policy: dict[str, str], call: Call) -> None:
    """`shorten: never` and a signed body keep the request as it came."""
    house = make_house("0.05", **policy)
    assert (await house.refused(replace(call, max_output_tokens=None))).kind == "spent"


async def test_shorten_always_lowers_a_stated_limit(make_house: MakeHouse) -> None:
    """`shorten: always` lowers even what the client asked for."""
    house = make_house("0.05", shorten="always")
    live = await house.admitted(replace(GPT_4O, max_output_tokens=16_000))
    assert live.max_output_tokens is not None
    assert live.max_output_tokens < 16_000


async def test_a_large_prompt_climbs_to_the_tokenizers_count(make_house: MakeHouse) -> None:
    """A prompt whose bytes do not fit but whose tokens do is admitted."""
    text = "The quick brown fox jumps over the lazy dog. " * 1_000
    call = replace(GPT_4O, content=Content(texts=(text,), text_bytes=len(text), messages=1), max_output_tokens=16)
    house = make_house("0.06")  # 45,000 bytes as tokens would be $0.11; it is about 10,000 tokens
    live = await house.admitted(call)
    assert live.reserved < nanousd("0.06")


async def test_a_stream_reserves_slices_and_is_cut_when_there_is_no_more(make_house: MakeHouse) -> None:
    """A stream takes little at first, extends as it runs, and is cut before its cost passes the limit."""
    house = make_house("0.04")
    live = await house.admitted(replace(STREAM, max_output_tokens=16_000))
    assert live.reserved < nanousd("0.02")
    reading = Reading(terms=Terms(service_tier="default"))
    tokens = 0
    while True:
        tokens += 10
        reading.counted_output_tokens = tokens
        house.runtime.seconds += 0.1  # 100 tokens a second
        step = live.observe(reading)
        if live.wants_extension or step is Step.HOLD:
            step = await house.gate.extend(live, reading)
        posted, pending = await house.standing()
        assert posted + pending <= nanousd("0.04")
        if step is Step.CUT:
            break
        assert tokens < 5_000
    assert live.refusal is not None
    assert "daily" in live.refusal.message
    await live.finish(reading, "cut", 200)
    posted, pending = await house.standing()
    assert pending == 0
    assert posted <= nanousd("0.04")
    assert tokens * 10_000 > nanousd("0.036")  # nine tenths of a small cap were usable by one stream
    (row,) = await house.rows()
    assert {"cut", "estimated"} <= row.marks


async def test_after_a_cut_the_next_call_of_the_scope_is_refused(make_house: MakeHouse) -> None:
    """Clients re-send at once after a cut; the little that is left must not let them in, until the limit is raised."""
    house = make_house("0.01")
    live = await house.admitted(replace(STREAM, max_output_tokens=16_000))
    reading = Reading(counted_output_tokens=990)
    assert live.observe(reading) is Step.HOLD
    assert await house.gate.extend(live, reading) is Step.CUT
    await live.finish(Reading(usage=Usage(input_tokens=1, output_tokens=1), final=True), "cut", 200)
    assert (await house.refused(replace(GPT_4O, max_output_tokens=1))).kind == "spent"
    house.budget.replace_caps([Cap("daily", nanousd("0.02"), "day")], "UTC")
    await house.admitted(replace(GPT_4O, max_output_tokens=1))


async def test_an_aborted_stream_is_not_below_what_was_counted(make_house: MakeHouse) -> None:
    """A stream that ends without usage is posted with what was counted and a margin, from above."""
    house = make_house("1")
    live = await house.admitted(replace(STREAM, max_output_tokens=16_000))
    reading = Reading(counted_output_tokens=200)
    live.observe(reading)
    await live.finish(reading, "client_gone", 200)
    (row,) = await house.rows()
    assert row.usage.output_tokens >= 200
    assert row.cost >= 200 * 10_000
    assert "estimated" in row.marks


async def test_a_streams_first_usage_is_not_its_last(make_house: MakeHouse) -> None:
    """An aborted Anthropic stream is counted from its deltas, not from message_start's output count."""
    house = make_house("1")
    call = replace(
        STREAM, dialect="anthropic.messages", provider="anthropic", host="api.anthropic.com", model="claude-sonnet-4-5"
    )
    live = await house.admitted(call)
    reading = Reading(usage=Usage(input_tokens=1_000, output_tokens=1), counted_output_tokens=150)
    await live.finish(reading, "upstream_gone", 200)
    (row,) = await house.rows()
    assert row.usage.input_tokens == 1_000
    assert row.usage.output_tokens >= 150


async def test_hidden_reasoning_reserves_the_whole_bound(make_house: MakeHouse) -> None:
    """What a stream may bill without showing it is reserved before it begins, and posted when nobody tells."""
    house = make_house("10")
    live = await house.admitted(replace(STREAM, hidden_output_tokens=None))
    assert live.reserved >= 1000 * 10_000
    assert not live.sliced
    await live.finish(Reading(counted_output_tokens=5), "client_gone", 200)
    assert (await house.rows())[0].usage.output_tokens == 1000


async def test_what_an_aborted_stream_thought_unseen_is_bounded_by_its_time(make_house: MakeHouse) -> None:
    """Pressing Esc after ten seconds does not post 64,000 tokens of reasoning; a fast provider's abort still does."""
    house = make_house("100")
    for provider, most in (("openai", 15_000), ("cerebras", 64_000)):
        call = replace(STREAM, provider=provider, hidden_output_tokens=None, max_output_tokens=64_000, model="gpt-5")
        live = await house.admitted(call)
        house.runtime.seconds += 10
        await live.finish(Reading(counted_output_tokens=5), "client_gone", 200)
        assert 10 * 500 < (await house.rows())[-1].usage.output_tokens <= most


async def test_a_makers_model_is_as_fast_in_a_cloud(make_house: MakeHouse) -> None:
    """A stream of Claude's that AWS ends by an exception does not post 64,000 tokens of thinking; an unknown one's does."""
    house = make_house("100")
    for model, most in (("us.anthropic.claude-opus-5-5", 15_000), ("application-inference-profile/x", 64_000)):
        call = replace(STREAM, provider="bedrock", hidden_output_tokens=None, max_output_tokens=64_000, model=model)
        live = await house.admitted(replace(call, bills_after_disconnect=True))
        house.runtime.seconds += 10
        await live.finish(Reading(counted_output_tokens=5, failed=True), "complete", 200)
        assert 10 * 500 < (await house.rows())[-1].usage.output_tokens <= most


async def test_a_clients_constant_is_no_choice(make_house: MakeHouse) -> None:
    """A coding agent's 64,000 tokens are lowered to what fits; a limit that somebody chose is not."""
    house = make_house("0.5", wait_ms=0)
    agent = replace(STREAM, hidden_output_tokens=None, max_output_tokens=64_000, model="gpt-5")
    live = await house.admitted(agent)
    assert live.max_output_tokens is not None
    assert live.max_output_tokens < 64_000
    assert (await house.refused(replace(agent, max_output_tokens=16_000))).kind in ("spent", "reserved")


async def test_an_unreadable_stream_is_cut_and_posted_as_its_bound(make_house: MakeHouse) -> None:
    """A stream that can't be counted does not run on."""
    house = make_house("10")
    live = await house.admitted(STREAM)
    reading = Reading(unreadable="gibberish")
    assert live.observe(reading) is Step.CUT
    await live.finish(reading, "cut", 200)
    assert (await house.rows())[0].usage.output_tokens == 1000


async def test_without_caps_everything_is_only_audited(make_house: MakeHouse) -> None:
    """`caps: []` admits all and still writes a row a call."""
    house = make_house(None)
    live = await house.admitted(replace(STREAM, max_output_tokens=None))
    await live.finish(final(Usage(input_tokens=10, output_tokens=10)), "complete", 200)
    assert (await house.rows())[0].cost == 10 * 2_500 + 10 * 10_000


async def test_an_unknown_model_is_priced_and_marked_as_assumed(make_house: MakeHouse) -> None:
    """A model without a price is never $0."""
    house = make_house("1000")
    live = await house.admitted(replace(GPT_4O, model="gpt-from-the-future"))
    await live.finish(
        Reading(usage=Usage(input_tokens=10, output_tokens=10), final=True, model="gpt-from-the-future"), "complete"
    )
    (row,) = await house.rows()
    assert row.cost > 0
    assert "assumed" in row.marks


async def test_a_store_that_is_gone_refuses_by_default_and_lets_through_by_choice(make_house: MakeHouse) -> None:
    """Nothing is forwarded without a ledger, unless `on_error: allow` was chosen."""
    house = make_house("1")
    await house.store.close()
    refusal = await house.refused(GPT_4O)
    assert refusal.kind == "store"
    assert house.troubles
    house.gate.policy = Policy(on_error="allow")
    live = await house.admitted(STREAM)
    assert not live.backed
    assert "unreserved" in live.entry.marks
    assert live.observe(Reading(counted_output_tokens=10_000)) is Step.PASS


async def test_a_settlement_the_store_did_not_take_is_written_later(make_house: MakeHouse, tmp_path: Path) -> None:
    """What a failing store did not take is kept and written when it is back; until then it stays reserved."""
    house = make_house("1")
    live = await house.admitted(GPT_4O)
    ledger = tmp_path / "ledger0.sqlite"
    moved = ledger.with_suffix(".moved")
    ledger.rename(moved)
    await live.finish(final(Usage(input_tokens=10, output_tokens=10)), "complete", 200)
    assert house.troubles
    moved.rename(ledger)
    try:
        await house.gate.retry_unwritten()
    except StoreError as error:
        pytest.fail(str(error))
    assert await house.standing() == (10 * 2_500 + 10 * 10_000, 0)


async def test_the_row_of_a_call_refused_without_a_store_is_written_later(
    make_house: MakeHouse, tmp_path: Path
) -> None:
    """The answer does not wait for a second failure, and the refusal is in the ledger when it is back."""
    house = make_house("1")
    ledger = tmp_path / "ledger0.sqlite"
    moved = ledger.with_suffix(".moved")
    ledger.rename(moved)
    assert (await house.refused(GPT_4O)).kind == "store"
    assert len(house.troubles) == 1
    assert house.lines[-1].state == "refused"
    with pytest.raises(StoreError):
        await house.gate.retry_unwritten()
    moved.rename(ledger)
    await house.gate.retry_unwritten()
    await house.gate.retry_unwritten()
    assert [(row.state, row.note) for row in await house.rows()] == [("refused", "store")]
    assert await house.standing() == (0, 0)


async def test_an_extension_the_store_fails_in_is_marked_by_choice(make_house: MakeHouse) -> None:
    """With `on_error: allow` a stream goes on without its next slice, its row says so, and the trouble is the store's."""
    house = make_house("1")
    of_store: list[str] = []
    house.gate._on_store_trouble = of_store.append
    house.gate.policy = Policy(on_error="allow")
    live = await house.admitted(STREAM)
    await house.store.close()
    assert await house.gate.extend(live, Reading(counted_output_tokens=10)) is Step.PASS
    assert live.observe(Reading(counted_output_tokens=100_000)) is Step.PASS
    assert "unreserved" in live.entry.marks
    assert len(of_store) == 1
    assert house.troubles == []


async def test_a_hundred_at_once_never_pass_the_limit(make_house: MakeHouse) -> None:
    """Of 100 calls at once on a cap that holds 8, exactly 8 are admitted when nobody waits."""
    house = make_house("0.1", wait_ms=0)
    each = house.gate.pricing.quote(GPT_4O).amount(1000)
    house.budget.replace_caps([Cap("daily", 8 * each + each // 2, "day")], "UTC")
    outcomes = await asyncio.gather(*(house.gate.admit(GPT_4O) for _ in range(100)))
    assert sum(isinstance(outcome, LiveCall) for outcome in outcomes) == 8


async def test_a_host_that_answers_streams_in_one_piece_is_reserved_whole(make_house: MakeHouse) -> None:
    """Once such an answer was seen, its next stream does not begin on a slice."""
    house = make_house("10")
    call = replace(STREAM, host="llm.example.net", max_output_tokens=16_000)
    assert (await house.admitted(call)).sliced
    house.gate.note_whole(call)
    live = await house.admitted(call)
    assert not live.sliced
    assert live.reserved >= live.quote.amount(16_000)
    assert (await house.admitted(replace(call, host="api.openai.com"))).sliced


async def test_what_a_provider_began_by_itself_is_posted_though_nothing_was_reserved(make_house: MakeHouse) -> None:
    """Beyond the cap too: it is billed; marked, so that the row says why."""
    house = make_house("0")
    live = house.gate.unasked(replace(STREAM, model="gpt-4o"))
    assert await house.standing() == (0, 0)
    live.refuse(Refusal("unmetered", "LLMCap: stream cut", "", 0, 0, 0, None))
    await live.finish(Reading(counted_output_tokens=10, model="gpt-4o"), "cut", 200)
    [row] = await house.rows()
    assert row.state == "posted"
    assert {"unreserved", "cut", "estimated"} <= row.marks
    assert row.cost >= 10 * 10_000
    assert await house.standing() == (row.cost, 0)
