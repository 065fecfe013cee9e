"""Jobs: calls whose bill comes with a later answer, through this process or the next."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import MAX_NOTE_BYTES, Entry
from llmcap_addon.budget.stores import open_store
from llmcap_addon.call import Alternative, Call, Content, Media
from llmcap_addon.errors import StoreError, UnreadableRequest
from llmcap_addon.gate.admission import Policy
from llmcap_addon.gate.endings import Ending
from llmcap_addon.gate.jobs import KEPT_MS
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.gate.notes import Note, Stored, Traits, read_note, read_stored, traits_of
from llmcap_addon.money import nanousd
from llmcap_addon.report import make_report
from llmcap_addon.usage import BATCH_PART, Reading, Share, Terms, Usage
from llmcap_addon.wire.jobs import Outcome
from tests.gate.house import GPT_4O, House, MakeHouse, final

HOST = "api.openai.com"
JOB = replace(GPT_4O, bills_after_disconnect=True, begins_job=True)
BATCH = replace(GPT_4O, dialect="openai.batches", model="", stored="file-1", content=Content(), editable=False)
USED = Usage(input_tokens=100, output_tokens=50)
COST = 100 * 2_500 + 50 * 10_000


def begun(job: str = "resp_1") -> Reading:
    return Reading(job=job, model="gpt-4o")


async def begin(house: House, job: str = "resp_1", ending: Ending = "complete", call: Call = JOB) -> int:
    """Begin a job, and give what is reserved for it."""
    live = await house.admitted(call)
    await live.finish(begun(job), ending, 200)
    return live.reserved


def told(job: str = "resp_1", reading: Reading | None = None, *also: str) -> Outcome:
    return Outcome(job, reading or final(USED), also)


@pytest.fixture
async def successor(tmp_path: Path) -> AsyncIterator[House]:
    """Make a second process over the first house's ledger."""
    house = House(
        open_store(f"sqlite://{tmp_path}/ledger0.sqlite", lambda: 0), [Cap("daily", nanousd("1"), "day")], Policy()
    )
    yield house
    await house.store.close()


@contextlib.contextmanager
def gone(tmp_path: Path) -> Iterator[None]:
    """Take the ledger away for a while."""
    ledger = tmp_path / "ledger0.sqlite"
    moved = ledger.with_suffix(".moved")
    ledger.rename(moved)
    yield
    moved.rename(ledger)


# ── from its beginning to its bill ──


async def test_a_job_stays_reserved_until_its_bill_comes(make_house: MakeHouse) -> None:
    """Its row is pending and marked, the console says so; the bill is exact, and comes once."""
    house = make_house("1")
    reserved = await begin(house)
    assert await house.standing() == (0, reserved)
    [row] = await house.rows()
    assert (row.state, row.reserved, row.marks) == ("pending", reserved, frozenset({"deferred"}))
    assert (house.lines[-1].state, house.lines[-1].reserved) == ("deferred", reserved)
    assert house.lines[-1].ended()
    assert make_report([row], ()).totals.deferred == 1
    for _ in range(2):
        await house.gate.jobs.settle(HOST, told())
        assert await house.standing() == (COST, 0)
    [row] = await house.rows()
    assert (row.state, row.cost, row.usage, row.marks, row.status) == ("posted", COST, USED, frozenset(), 200)
    assert (house.lines[-1].state, house.lines[-1].cost, house.lines[-1].id) == ("done", COST, row.entry.id)
    assert [line.state for line in house.lines].count("done") == 1
    assert house.troubles == []


@pytest.mark.parametrize("ending", ["complete", "client_gone", "upstream_gone", "cut", "shutdown"])
async def test_however_its_answer_ended_its_id_is_enough(make_house: MakeHouse, ending: Ending) -> None:
    """A stream that broke off goes on at the provider; a later look at it tells the bill."""
    house = make_house("1")
    await begin(house, ending=ending, call=replace(JOB, streamed=True))
    await house.gate.jobs.settle(HOST, told())
    assert await house.standing() == (COST, 0)


async def test_an_answer_that_broke_off_before_it_named_the_job_is_posted_in_full(make_house: MakeHouse) -> None:
    """Nobody could ever tell what it cost."""
    house = make_house("1")
    live = await house.admitted(JOB)
    await live.finish(Reading(), "upstream_gone", 200)
    [row] = await house.rows()
    assert row.state == "posted"
    assert row.cost >= house.gate.pricing.quote(JOB, "counted").amount(1_000)
    assert "estimated" in row.marks


async def test_the_next_process_settles_it(make_house: MakeHouse, successor: House) -> None:
    """The note is in the ledger, not in memory."""
    house = make_house("1")
    await begin(house)
    await successor.gate.jobs.settle(HOST, told())
    assert await house.standing() == (COST, 0)
    assert successor.lines[-1].cost == COST


async def test_what_is_no_bill_changes_nothing(make_house: MakeHouse) -> None:
    """A job nobody began, another host's, one that runs, an answer that could not be read."""
    house = make_house("1")
    reserved = await begin(house)
    for host, outcome in (
        (HOST, told("resp_2")),
        ("eu.api.openai.com", told()),
        (HOST, told(reading=Reading(usage=USED))),
        (HOST, told(reading=Reading())),
        (HOST, told(reading=Reading(usage=USED, final=True, unreadable="not JSON"))),
    ):
        await house.gate.jobs.settle(host, outcome)
    assert await house.standing() == (0, reserved)
    assert house.troubles == []


async def test_a_job_that_was_not_billed_is_voided(make_house: MakeHouse) -> None:
    """Failed without any usage, by the provider's word: nothing of it was billed."""
    house = make_house("1")
    await begin(house)
    await house.gate.jobs.settle(HOST, told(reading=Reading(failed=True, final=True)))
    [row] = await house.rows()
    assert (row.state, row.cost, await house.standing()) == ("voided", 0, (0, 0))
    assert house.lines[-1].marks == frozenset({"failed"})


async def test_further_ids_lead_to_the_same_job(make_house: MakeHouse, successor: House) -> None:
    """A batch names the file of its results, and its bill comes with that file."""
    house = make_house("1")
    await begin(house, "batch_1")
    await house.gate.jobs.settle(HOST, told("batch_1", Reading(), "file-out"))
    await successor.gate.jobs.settle(HOST, told("file-out"))
    await house.gate.jobs.settle(HOST, told("batch_1"))
    assert await house.standing() == (COST, 0)


async def test_each_request_of_a_batch_is_billed_by_itself(make_house: MakeHouse) -> None:
    """Shares at batch prices are summed up, and what the provider billed itself is believed."""
    house = make_house("1")
    await begin(house)
    reading = final(USED.plus(USED))
    reading.shares = (Share(USED, "gpt-4o", Terms("batch")), Share(USED, "gpt-4o", Terms("batch")))
    await house.gate.jobs.settle(HOST, told(reading=reading))
    assert await house.standing() == (COST, 0)  # twice the half
    await begin(house, "resp_2")
    reading = final(USED)
    reading.billed = 7
    await house.gate.jobs.settle(HOST, told("resp_2", reading))
    assert (await house.rows())[-1].marks == frozenset({"billed"})
    assert await house.standing() == (COST + 7, 0)


async def test_a_job_that_is_never_heard_of_is_posted_in_full(make_house: MakeHouse) -> None:
    """Its time is longer than providers keep what it made; a bill that comes even later corrects upwards only."""
    house = make_house("1")
    reserved = await begin(house)
    house.runtime.advance(KEPT_MS / 1000 - 1)
    await house.budget.heartbeat()
    assert (await house.rows())[0].state == "pending"
    house.runtime.advance(2)
    await house.budget.heartbeat()
    [row] = await house.rows()
    assert (row.state, row.cost) == ("posted", reserved)
    assert "expired" in row.marks
    assert make_report([row], ()).totals.deferred == 0


# ── what fails ──


@pytest.mark.parametrize(
    ("status", "by_gateway", "runs"),
    [
        (502, False, True),
        (502, True, True),
        (504, False, True),
        (520, True, True),
        (524, True, True),
        (500, True, True),
        (500, False, False),
        (503, True, False),
        (529, False, False),
        (525, True, False),
        (400, False, False),
        (429, True, False),
    ],
)
async def test_an_error_behind_which_it_may_have_begun_is_posted_in_full(
    make_house: MakeHouse, status: int, *, by_gateway: bool, runs: bool
) -> None:
    """A gateway's word says nothing of the provider, and no answer will ever name that job; its own refusal is void."""
    house = make_house("1")
    live = await house.admitted(JOB)
    live.by_gateway = by_gateway
    await live.finish(Reading(failed=True), "complete", status)
    assert await house.standing() == ((live.reserved if runs else 0), 0)
    [row] = await house.rows()
    assert (row.state, row.status) == ("posted" if runs else "voided", status)
    assert ("may have begun" in row.note) == runs
    other = await house.admitted(replace(JOB, begins_job=False))
    await other.finish(Reading(failed=True), "complete", status)
    assert (await house.standing())[1] == 0
    assert (await house.rows())[-1].state == "voided"


async def test_without_a_reservation_it_is_posted_in_full(make_house: MakeHouse) -> None:
    """`on_error: allow` let it out while the store was gone: no row waits for its bill."""
    house = make_house("1", on_error="allow")
    live = house.gate._allow_unbacked(JOB, house.gate._entry(JOB))
    assert not isinstance(live, str)
    await live.finish(begun(), "complete", 200)  # type: ignore[union-attr]
    [row] = await house.rows()
    assert row.cost == house.gate.pricing.quote(JOB).amount(1_000)
    assert row.marks >= {"estimated", "unreserved"}


async def test_a_plans_job_that_is_paid_by_the_token_is_posted_in_full(make_house: MakeHouse) -> None:
    """Its row is the plan's, which spends nothing, so its bill could not be held by it."""
    house = make_house("1")
    live = await house.admitted(replace(JOB, billing="plan"))
    reading = begun()
    reading.billing = "api"
    await live.finish(reading, "complete", 200)
    assert await house.standing() == (live.reserved, 0)


async def test_a_failing_store_gets_job_and_bill_later(make_house: MakeHouse, tmp_path: Path) -> None:
    """Neither the end of the answer nor the bill waits for it, and nothing is lost or billed twice."""
    house = make_house("1")
    live = await house.admitted(JOB)
    with gone(tmp_path):
        await live.finish(begun(), "complete", 200)
        await house.gate.jobs.settle(HOST, told())
        assert house.gate.unwritten == 3
        with pytest.raises(StoreError):
            await house.gate.retry_unwritten()
    await house.gate.retry_unwritten()
    assert house.gate.unwritten == 0
    assert await house.standing() == (COST, 0)
    assert (await house.rows())[0].marks == frozenset()


async def test_a_bill_that_overtakes_the_note_is_not_lost(make_house: MakeHouse) -> None:
    """The client has its answer while the note is being written, and may ask at once."""
    house = make_house("1")
    live = await house.admitted(JOB)
    house.gate.jobs.note_job(live.entry, live.call, "resp_1")
    await house.gate.jobs.settle(HOST, told())
    await live.finish(begun(), "complete", 200)
    assert await house.standing() == (COST, 0)
    [row] = await house.rows()
    assert (row.state, row.marks) == ("posted", frozenset())


async def test_a_bill_that_comes_before_another_processs_note_waits_for_it(
    make_house: MakeHouse, successor: House
) -> None:
    """Two workers share a ledger: one has the answer that names the job, the other sees the one that bills it."""
    house = make_house("1")
    await successor.gate.jobs.settle(HOST, told())
    reserved = await begin(house)
    assert await house.standing() == (0, reserved)
    await successor.gate.retry_unwritten()
    assert await house.standing() == (COST, 0)
    await successor.gate.jobs.settle(HOST, told("resp_2"))
    await successor.gate.retry_unwritten()
    await begin(house, "resp_2")
    await successor.gate.retry_unwritten()  # it was looked for once more, and no longer
    assert (await house.standing())[1] > 0


async def test_a_bill_makes_room_at_once(make_house: MakeHouse) -> None:
    """Whoever waits for what the job holds is let out when it is billed."""
    house = make_house("0.02", wait_ms=20_000)
    await begin(house)
    waiting = asyncio.create_task(house.gate.admit(JOB))
    await house.advance(lambda: house.lines[-1].state == "waiting")
    await house.gate.jobs.settle(HOST, told())
    for _ in range(1_000):
        await asyncio.sleep(0.001)  # the ledger's thread is real
        if waiting.done():
            break
    assert isinstance(await waiting, LiveCall)


async def test_a_note_of_another_kind_is_ignored(make_house: MakeHouse) -> None:
    """Whatever stands in the ledger, nothing is raised and nothing is settled."""
    house = make_house("1")
    reserved = await begin(house)
    await house.budget.remember(f"job|{HOST}|resp_1", "[1]", house.runtime.now_ms() + 1_000)
    await house.gate.jobs.settle(HOST, told())
    assert await house.standing() == (0, reserved)
    assert house.troubles == []


# ── files ──


def requests(*calls: Call) -> Iterator[Call]:
    yield from calls


async def test_a_batch_is_bounded_by_the_file_it_runs(make_house: MakeHouse, successor: House) -> None:
    """What its requests may cost was summed up when the file passed, and is reserved, whoever asks."""
    house = make_house("1")
    halved = replace(GPT_4O, terms=Terms(BATCH_PART))
    stored = await house.gate.jobs.bound_of(lambda: requests(halved, halved))
    assert stored is not None
    one = house.gate.pricing.quote(halved, "counted").amount(1_000)
    assert (stored.bound, stored.requests, stored.model) == (2 * one, 2, "gpt-4o")
    house.gate.jobs.note_stored(HOST, "file-1", stored)
    live = await house.admitted(BATCH)
    assert (live.reserved, live.entry.model) == (2 * one, "gpt-4o")
    await house.gate.jobs.write_notes()
    assert (await successor.admitted(BATCH)).reserved == 2 * one
    assert await house.gate.jobs.bound_of(requests) is None


async def test_a_file_that_nobody_saw_is_refused(make_house: MakeHouse) -> None:
    """Its batch may cost anything; the reason and what to do stand in the refusal."""
    house = make_house("1")
    refusal = await house.refused(BATCH)
    assert refusal.kind == "unreadable"
    assert "'file-1' did not pass this proxy" in refusal.message
    assert "Upload it once more" in refusal.message


async def test_a_file_that_cant_be_bounded_is_refused_with_its_reason(make_house: MakeHouse) -> None:
    """The upload passed all the same: it costs nothing."""
    house = make_house("1")

    def unread() -> Iterator[Call]:
        yield GPT_4O
        raise UnreadableRequest("line 2 is not JSON")

    stored = await house.gate.jobs.bound_of(unread)
    assert stored is not None
    house.gate.jobs.note_stored(HOST, "file-1", replace(stored, why_not=stored.why_not + "x" * 10_000))
    await house.gate.jobs.write_notes()
    assert "line 2 is not JSON" in (await house.refused(BATCH)).message


# ── notes ──

_NAMES = st.text(max_size=300)


@given(
    names=st.lists(_NAMES, min_size=6, max_size=6),
    kinds=st.lists(st.sampled_from(["image", "audio", "video"])),
    instead=st.lists(_NAMES),
)
def test_a_note_is_read_as_it_was_written(names: list[str], kinds: list[str], instead: list[str]) -> None:
    """Whatever names come from requests, it fits into the ledger, and a later version may add to it."""
    host, provider, model, client, dialect, tier = names
    call = replace(
        GPT_4O,
        content=Content(media=tuple(Media(kind, 1) for kind in kinds)),  # type: ignore[arg-type]
        terms=Terms(tier),
        instead=tuple(instead),
    )
    entry = Entry("id", 1, host, provider, model, client, dialect, streamed=True, marks=frozenset({"assumed"}))
    note = Note.of(entry, call)
    assert read_note(note.text()) == note
    assert read_note(json.dumps({**json.loads(note.text()), "later": 1})) == note
    assert len(note.text().encode()) < MAX_NOTE_BYTES
    assert {part.kind for part in note.call().content.media} == set(kinds)
    assert note.call().instead in (call.instead, ("",))
    assert replace(note, instead=()) == Note.of(entry, replace(call, instead=()))


@given(st.text() | st.from_type(dict).map(str) | st.sampled_from(["null", "{}", "[]", '{"traits": 1}', "1"]))
def test_what_is_no_note_is_none(text: str) -> None:
    """Nothing is raised for it."""
    assert read_note(text) is None
    assert read_stored(text) is None


@pytest.mark.parametrize(
    ("content", "heard"),
    [
        (Content(), False),
        (Content(media=(Media("image", 1),)), False),
        (Content(media=(Media("audio", 1),)), True),
        (Content(media=(Media("video", 1),)), True),
        (Content(opaque=True), True),
    ],
)
def test_sound_is_billed_only_where_some_may_have_been_sent(content: Content, *, heard: bool) -> None:
    """Who reads a later answer has not seen the request, and counts input from above."""
    entry = Entry("id", 1, HOST, "google", "gemini-2.5-flash", "", "google.interactions", streamed=False)
    note = Note.of(entry, replace(GPT_4O, content=content))
    told = Usage(input_tokens=9, input_audio_tokens=9, cache_read_tokens=3, cache_read_audio_tokens=3)
    assert note.used(told) == (told if heard else Usage(input_tokens=9, cache_read_tokens=3))


def test_traits_are_taken_from_above() -> None:
    """What one of many requests brings may make any of them dearer; one that counts no pictures spoils it for all."""
    pictured = replace(GPT_4O, content=Content(media=(Media("image", 1),)), tells_images=True)
    other = replace(GPT_4O, model="gpt-4o-mini", content=Content(opaque=True))
    assert traits_of((pictured,)) == Traits(("image",), tells_images=True)
    assert traits_of((pictured, other)) == Traits(("image",), opaque=True, mixed=True)
    assert traits_of((replace(GPT_4O, alternatives=(Alternative("o3"),)),)).mixed
    stored = Stored(5, "gpt-4o", 2, traits=traits_of((pictured, other)))
    assert read_stored(stored.text()) == stored
    assert stored.given_to(BATCH).alternatives == (Alternative(""),)
