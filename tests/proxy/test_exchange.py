"""One call's response on its way through the proxy, over the real gate and the real dialect."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from llmcap_addon.budget.caps import Cap
from llmcap_addon.call import Call
from llmcap_addon.gate.endings import Ending
from llmcap_addon.money import nanousd
from llmcap_addon.proxy.valve import MAX_HELD_BYTES
from llmcap_addon.wire.dialect import CountTokens, Dialect, Meter, Refusal, ResponseHead
from llmcap_addon.wire.openai_chat import CHAT, ChatDialect
from tests.gate.house import GPT_4O, STREAM, MakeHouse
from tests.proxy.chat import DONE, Driven, price, tokens, usage

type Drive = Callable[..., Awaitable[Driven]]

LONG = replace(STREAM, max_output_tokens=16_000)
OUTRUNS = 2_400
"""Tokens; more than a first slice holds."""


@pytest.fixture
async def drive(make_house: MakeHouse) -> AsyncIterator[Drive]:
    """Admit a call, and give its exchange."""
    driven: list[Driven] = []

    async def make(call: Call = LONG, limit: str = "1", dialect: Dialect = CHAT) -> Driven:
        house = make_house(limit)
        driven.append(Driven(house, await house.admitted(call), dialect))
        return driven[-1]

    yield make
    for one in driven:
        one.drop_tasks()


def error_of(tail: bytes | None) -> str:
    """Read a cut's last event as the SDK does."""
    assert tail is not None
    assert tail.startswith(b"data: ")
    assert tail.endswith(b"\n\n")
    message = json.loads(tail[6:])["error"]["message"]
    assert isinstance(message, str)
    return message


async def test_whole_events_pass_at_once(drive: Drive) -> None:
    """An event goes out with its last byte, as it came; its first half does not, and is no empty chunk either."""
    driven = await drive()
    assert driven.begin() is False
    event = tokens(3)
    assert driven.feed(event) == event
    assert driven.exchange(event[:20]) == []
    assert driven.feed(event[20:]) == event
    assert driven.exchange.take_held() == b""
    assert driven.exchange.take_tail() is None


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
async def test_the_client_gets_the_providers_bytes_however_they_are_split(drive: Drive, size: int) -> None:
    """Joined, the chunks are the stream without the usage event that we asked for, and the cost is exact."""
    driven = await drive()
    driven.begin()
    stream = tokens(3) + b": ping\n\n" + tokens(2) + usage(10, 5) + DONE
    shown = b"".join(driven.feed(bytes(piece)) for piece in itertools.batched(stream, size)) + driven.feed(b"")
    assert shown == stream.replace(usage(10, 5), b"")
    await driven.exchange.finish("complete")
    row = await driven.row()
    assert (row.cost, row.marks) == (price(10, 5), frozenset())


async def test_a_second_end_waits_for_the_first(drive: Drive) -> None:
    """The end of the proxy finds a call that is being settled: it must not close the ledger before it stands there."""
    driven = await drive()
    driven.begin()
    driven.feed(tokens(3) + usage(10, 5) + DONE)
    first = asyncio.create_task(driven.exchange.finish("complete"))
    await asyncio.sleep(0)
    assert await driven.exchange.finish("shutdown") is None
    assert (await driven.row()).cost == price(10, 5)
    assert await first is not None


async def test_what_outruns_its_reservation_is_held_and_released_in_order(drive: Drive) -> None:
    """A held chunk goes out after its extension; one that comes later never overtakes it."""
    driven = await drive()
    driven.begin()
    first, second, third = tokens(OUTRUNS), tokens(2), tokens(3)
    assert driven.feed(first) == b""
    assert driven.feed(second) == b""
    assert driven.exchange.take_held() == b""
    await driven.extend()
    assert driven.nudges == 1
    assert driven.exchange.take_held() == first + second
    assert driven.exchange.take_held() == b""
    assert driven.feed(third) == third


async def test_a_chunk_that_comes_before_the_nudge_takes_the_held_ones_along(drive: Drive) -> None:
    """When the extension is granted and the next chunk arrives first, the held ones go out before it."""
    driven = await drive()
    driven.begin()
    first, second = tokens(OUTRUNS), tokens(2)
    assert driven.feed(first) == b""
    await driven.extend()
    assert driven.feed(second) == first + second
    assert driven.exchange.take_held() == b""


async def test_several_chunks_at_once_ask_for_one_extension(drive: Drive) -> None:
    """Chunks of one network read, which leave the task no turn in between, reserve one slice and not one each."""
    driven = await drive()
    driven.begin()
    driven.feed(tokens(OUTRUNS))
    for _ in range(10):
        driven.feed(tokens(1))
    assert len(driven.tasks) == 1
    before = driven.live.reserved
    await driven.extend()
    assert driven.live.reserved > before
    driven.feed(tokens(1))
    assert driven.tasks == []


async def test_the_end_of_the_body_releases_what_is_held(drive: Drive) -> None:
    """A body that ends while its extension is asked for is given whole: it is billed, cutting it saves nothing."""
    driven = await drive()
    driven.begin()
    first, half = tokens(OUTRUNS), tokens(2)[:-1]
    assert driven.feed(first) == b""
    assert driven.feed(half) == b""
    assert driven.feed(b"") == first + half
    line = await driven.exchange.finish("complete")
    assert line is not None
    assert line.state == "done"
    assert (await driven.row()).cost >= price(0, OUTRUNS + 2)


async def test_an_extension_that_is_refused_after_the_end_cuts_nothing(drive: Drive) -> None:
    """A stream that has ended while the store was asked is no cut, and trips no cap."""
    driven = await drive(limit="0.012")
    driven.begin()
    driven.feed(tokens(OUTRUNS))
    running = asyncio.create_task(driven.extend())
    await asyncio.sleep(0)
    assert driven.feed(b"") != b""
    await running
    assert driven.exchange.take_tail() is None
    line = await driven.exchange.finish("complete")
    assert line is not None
    assert line.state == "done"


async def test_a_refused_extension_cuts_once_and_forwards_nothing_held(drive: Drive) -> None:
    """What the cap does not pay for is never seen; the last bytes are the dialect's error, given once."""
    driven = await drive(limit="0.012")
    driven.begin()
    paid = tokens(5)
    assert driven.feed(paid) == paid
    assert driven.feed(tokens(OUTRUNS)) == b""
    await driven.extend()
    assert driven.nudges == 1
    assert driven.exchange.take_held() == b""
    message = error_of(driven.exchange.take_tail())
    assert message.startswith("LLMCap:")
    assert "daily" in message
    assert driven.exchange.take_tail() is None
    assert not driven.exchange.aborts
    assert driven.exchange(tokens(1)) == []
    line = await driven.exchange.finish("complete")
    assert line is not None
    assert line.state == "cut"
    assert {"cut", "estimated"} <= (await driven.row()).marks


async def test_a_body_that_ends_before_the_cut_is_noticed_still_says_why(drive: Drive) -> None:
    """Between the refusal and the nudge the provider may end by itself: the client must not take that for the end."""
    driven = await drive(limit="0.012")
    driven.begin()
    driven.feed(tokens(OUTRUNS))
    await driven.extend()
    assert "daily" in error_of(driven.feed(b""))
    assert driven.exchange.take_tail() is None


async def test_what_is_held_is_bounded(drive: Drive) -> None:
    """A provider that floods while the store is silent is cut, and what was held is let go."""
    driven = await drive()
    driven.begin()
    driven.feed(tokens(OUTRUNS))
    comment = b": " + b"x" * 65_000 + b"\n\n"
    for _ in range(MAX_HELD_BYTES // len(comment) + 1):
        assert driven.feed(comment) == b""
    assert "not extended in time" in error_of(driven.exchange.take_tail())
    await driven.extend()
    assert driven.exchange.take_held() == b""
    await driven.exchange.finish("complete")
    assert "cut" in (await driven.row()).marks


@pytest.mark.parametrize("encoding", ["gzip", "rot13", "gzip, gzip, gzip, gzip"])
async def test_a_stream_that_cannot_be_decoded_is_cut_and_posted_as_its_bound(drive: Drive, encoding: str) -> None:
    """Bytes that nobody can count do not reach the client, and cost what the call may cost at most."""
    driven = await drive(STREAM)
    assert driven.begin(encoding=encoding) is True
    assert driven.feed(tokens(3)) == b""
    assert "decoded" in error_of(driven.exchange.take_tail())
    line = await driven.exchange.finish("complete")
    assert line is not None
    assert line.state == "cut"
    row = await driven.row()
    assert row.usage.output_tokens == 1_000
    assert row.cost >= price(1, 1_000)


async def test_a_body_that_cannot_be_decoded_passes_and_is_posted_as_its_bound(drive: Drive) -> None:
    """An unstreamed answer is paid for when it comes: the client gets it as it is, the ledger takes the bound."""
    driven = await drive(GPT_4O)
    assert driven.begin("application/json", "gzip") is False
    assert driven.feed(b"junk") == b"junk"
    assert driven.feed(b"more") == b"more"
    assert driven.feed(b"") == b""
    line = await driven.exchange.finish("complete")
    assert line is not None
    assert line.state == "done"
    row = await driven.row()
    assert row.usage.output_tokens == 1_000
    assert row.cost >= price(1, 1_000)
    assert row.marks == {"estimated"}


async def test_an_encoded_stream_is_given_decoded(drive: Drive) -> None:
    """Each flush of the provider's encoder reaches the client at once."""
    driven = await drive()
    assert driven.begin(encoding="gzip") is True
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    for event in (tokens(3), tokens(2)):
        assert driven.feed(packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)) == event
    assert driven.feed(packer.compress(usage(10, 5) + DONE) + packer.flush()) == DONE
    assert driven.feed(b"") == b""
    await driven.exchange.finish("complete")
    assert (await driven.row()).cost == price(10, 5)


async def test_a_broken_trailer_takes_nothing_from_the_last_word(drive: Drive) -> None:
    """Garbage after the final usage leaves the cost exact, and never reaches a client that was promised plain text."""
    driven = await drive()
    driven.begin(encoding="gzip")
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    stream = tokens(5) + usage(10, 5) + DONE
    assert driven.feed(packer.compress(stream) + packer.flush(zlib.Z_SYNC_FLUSH)) == tokens(5) + DONE
    for garbage in (b"\xff" * 20, b"\xfe" * 20):
        assert driven.feed(garbage) == b""
    assert driven.feed(b"") == b""
    assert driven.exchange.take_tail() is None
    await driven.exchange.finish("complete")
    row = await driven.row()
    assert (row.cost, row.marks) == (price(10, 5), frozenset())


async def test_an_encoded_body_that_breaks_off_is_not_taken_as_whole(drive: Drive) -> None:
    """A gzip body without its end costs its bound, though the connection ended cleanly."""
    driven = await drive(GPT_4O)
    driven.begin("application/json", "gzip")
    body = gzip.compress(b'{"model": "gpt-4o", "choices": []}')[:-4]
    assert driven.feed(body) == body
    driven.feed(b"")
    await driven.exchange.finish("complete")
    assert (await driven.row()).usage.output_tokens == 1_000


class Panic(BaseException):
    """As tiktoken's Rust code raises it: no Exception."""


class Faulty(ChatDialect):
    """A dialect with a fault of ours in it."""

    def __init__(self, fails_in: str, error: BaseException) -> None:
        self._fails_in = fails_in
        self._error = error

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        if self._fails_in == "meter":
            raise self._error
        meter = super().meter(call, body, head, count)
        if self._fails_in in ("feed", "end"):
            setattr(meter, self._fails_in, self._fail)
        return meter

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        if self._fails_in == "cut":
            raise self._error
        return super().cut(call, refusal, meter)

    def _fail(self, *_: bytes) -> bytes:
        raise self._error


@pytest.mark.parametrize("error", [ValueError("oops"), Panic("oops")], ids=["Exception", "BaseException"])
async def test_a_fault_of_ours_is_a_cut_and_posts_the_bound(drive: Drive, error: BaseException) -> None:
    """A chunk that we fail on is not forwarded; what it held is unknown, so the call costs its bound."""
    driven = await drive(STREAM, dialect=Faulty("feed", error))
    driven.begin()
    assert driven.exchange(tokens(900)) == []
    assert "internal error" in error_of(driven.exchange.take_tail())
    assert driven.exchange(tokens(1)) == []
    [trouble] = driven.troubles
    assert "oops" in trouble
    await driven.exchange.finish("complete")
    row = await driven.row()
    assert row.cost >= price(1, 1_000)
    assert {"cut", "estimated"} <= row.marks


async def test_a_fault_at_the_end_of_a_stream_says_so(drive: Drive) -> None:
    """Past the end our stream is not asked any more: the error event goes out with the end."""
    driven = await drive(STREAM, dialect=Faulty("end", ValueError("oops")))
    driven.begin()
    driven.feed(tokens(3))
    assert "internal error" in error_of(driven.feed(b""))
    await driven.exchange.finish("complete")
    assert (await driven.row()).cost >= price(1, 1_000)


async def test_a_fault_while_settling_leaves_nothing_reserved(drive: Drive) -> None:
    """A response without a body never runs through the exchange: its meter is ended, and may fail, in `finish`."""
    driven = await drive(STREAM, dialect=Faulty("end", Panic("oops")))
    driven.begin()
    await driven.exchange.finish("complete")
    assert (await driven.row()).cost >= price(1, 1_000)


async def test_a_fault_before_there_is_a_meter_breaks_the_response_off(drive: Drive) -> None:
    """Without a meter nobody knows how a last event would have to look."""
    driven = await drive(STREAM, dialect=Faulty("meter", ValueError("oops")))
    with pytest.raises(ValueError, match="oops") as raised:
        driven.begin()
    driven.exchange.fail(raised.value)
    assert driven.exchange.take_tail() == b""
    assert driven.exchange.aborts
    assert driven.exchange(tokens(1)) == []
    await driven.exchange.finish("upstream_gone")
    assert (await driven.row()).cost >= price(1, 1_000)


async def test_a_cut_that_cannot_be_worded_breaks_the_stream_off(drive: Drive) -> None:
    """A truncated stream must not look like a whole one."""
    driven = await drive(limit="0.012", dialect=Faulty("cut", ValueError("oops")))
    driven.begin()
    driven.feed(tokens(OUTRUNS))
    await driven.extend()
    assert driven.nudges == 1
    assert driven.exchange.take_tail() == b""
    assert driven.exchange.aborts
    assert driven.troubles


async def test_an_error_answer_passes_as_it_is_and_is_void(drive: Drive) -> None:
    """A stream that the provider refuses to begin is handed on byte by byte, and costs nothing."""
    driven = await drive()
    assert driven.begin("application/json", "gzip", status=429) is False
    body = gzip.compress(b'{"error": {"message": "slow down"}}')
    assert driven.feed(body[:9]) + driven.feed(body[9:]) + driven.feed(b"") == body
    await driven.exchange.finish("complete")
    row = await driven.row()
    assert (row.state, row.cost, row.status) == ("voided", 0, 429)


async def test_it_settles_once(drive: Drive) -> None:
    """Only the first end counts, whoever comes second."""
    driven = await drive()
    driven.begin()
    driven.feed(tokens(5) + usage(10, 5) + DONE)
    assert await driven.exchange.finish("complete") is not None
    assert await driven.exchange.finish("client_gone") is None
    assert (await driven.row()).cost == price(10, 5)


@pytest.mark.parametrize(
    ("ending", "least", "most"),
    [
        ("never_sent", 0, 0),
        ("client_gone", price(1, 200), price(600, 300)),
        ("upstream_gone", price(1, 200), price(600, 300)),
    ],
)
async def test_how_it_ended_decides_what_is_posted(drive: Drive, ending: Ending, least: int, most: int) -> None:
    """What never left costs nothing; what broke off costs what was counted and what was on its way."""
    driven = await drive(replace(STREAM, max_output_tokens=1_000))
    if ending != "never_sent":
        driven.begin()
        for _ in range(20):
            driven.feed(tokens(10))
            driven.house.runtime.seconds += 0.1
    driven.drop_tasks()
    await driven.exchange.finish(ending, "gone")
    row = await driven.row()
    assert least <= row.cost <= most
    assert (row.state, row.note) == ("voided" if ending == "never_sent" else "posted", "gone")


async def test_a_stream_goes_on_to_the_end_of_its_cap(drive: Drive) -> None:
    """Event after event, what the client sees is always paid for, and the cap is nearly used when the cut comes."""
    driven = await drive(limit="0.02")
    driven.begin()
    shown = 0
    while driven.exchange.take_tail() is None:
        driven.house.runtime.seconds += 0.1
        shown += len(driven.feed(tokens(10)) + driven.exchange.take_held()) // len(tokens(10)) * 10
        await driven.extend()
        shown += len(driven.exchange.take_held()) // len(tokens(10)) * 10
        assert driven.live.reserved >= price(0, shown)
        assert shown < 5_000
    await driven.exchange.finish("complete")
    assert price(0, shown) > nanousd(
        "0.015"
    )  # counted a tenth too high, and the input's bound is above a tool's "hello"
    assert (await driven.house.standing())[0] <= nanousd("0.02")


async def test_a_raised_limit_lets_a_live_stream_go_on(drive: Drive) -> None:
    """An edit of caps.yaml counts from the next extension on."""
    driven = await drive(limit="0.012")
    driven.begin()
    assert driven.feed(tokens(OUTRUNS)) == b""
    driven.house.budget.replace_caps([Cap("daily", nanousd("1"), "day")], "UTC")
    await driven.extend()
    assert driven.exchange.take_held() == tokens(OUTRUNS)


async def test_an_answer_in_one_piece_is_remembered(drive: Drive) -> None:
    """A host that answers a request for a stream with one body has its next one reserved whole; an error says nothing."""
    driven = await drive()
    driven.begin("application/json", status=500)
    assert (await driven.house.admitted(LONG)).sliced
    driven.begin("application/json")
    assert not (await driven.house.admitted(LONG)).sliced


CLAUDE_PLAN = replace(LONG, host="api.anthropic.com", billing="plan")
OVERAGE = {"anthropic-ratelimit-unified-overage-in-use": "true"}


async def test_a_plans_stream_that_is_paid_by_the_token_counts_at_once(drive: Drive) -> None:
    """The answer's head says that the plan is used up: what may be billed is set aside before anything is."""
    driven = await drive(CLAUDE_PLAN)
    driven.exchange.begin(ResponseHead(200, "text/event-stream", OVERAGE))
    await driven.extend()
    assert await driven.house.standing() == (0, driven.live.reserved)
    assert driven.feed(tokens(3)) == tokens(3)
    driven.feed(usage(10, 5) + DONE + b"")
    await driven.exchange.finish("complete")
    assert await driven.house.standing() == (price(10, 5), 0)


async def test_a_plans_stream_is_cut_when_no_cap_has_room_for_it(drive: Drive) -> None:
    """It was let out because it would cost nothing."""
    driven = await drive(CLAUDE_PLAN, "0.000001")
    driven.exchange.begin(ResponseHead(200, "text/event-stream", OVERAGE))
    await driven.extend()
    assert driven.nudges == 1
    assert "LLMCap: stream cut" in error_of(driven.exchange.take_tail())
    assert driven.feed(tokens(3)) == b""


async def test_an_error_beyond_the_plan_sets_nothing_aside(drive: Drive) -> None:
    """Nothing is billed for it."""
    driven = await drive(CLAUDE_PLAN)
    driven.exchange.begin(ResponseHead(529, "application/json", OVERAGE))
    assert driven.tasks == []
    await driven.exchange.finish("complete")
    assert await driven.house.standing() == (0, 0)
