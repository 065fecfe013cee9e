"""Background responses through a real proxy with the official SDK: reserved at once, billed by a later answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from llmcap_addon.budget.ledger import Row
from tests.e2e.harness import ROOT, Proxy, poll
from tests.fakes import directory
from tests.fakes.answer import Answer, Piece
from tests.fakes.openai_background import JOBS, Job
from tests.fakes.script import Record, Script
from tests.fakes.sdks import KEY
from tests.fakes.server import GOOGLE_HOST, StandIn

DATA = ROOT / "tests" / "data" / "google"
PROMPT = "Say something, please. " * 20
ASKED: Any = {"model": "o4-mini", "input": PROMPT, "background": True, "max_output_tokens": 1_000}
CAP = "{wait: 0s, caps: [{name: all, limit: 1, per: ever}]}"
TIGHT = "{wait: 0s, caps: [{name: tight, limit: 0.012, per: ever}]}"
"""Dollars; holds one of these calls at its bound, some $0.0085, and not two."""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Run a stand-in."""
    with StandIn(tmp_path_factory.mktemp("background")) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def proxy(provider: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Run a proxy under a cap that nothing here reaches."""
    with Proxy(tmp_path_factory.mktemp("background-proxy"), provider, CAP) as running:
        yield running
    running.assert_sound()


@pytest.fixture(autouse=True)
def _fresh(provider: StandIn) -> None:
    provider.wait_idle()
    provider.reset()
    provider.default = Script(output_tokens=37, reasoning_tokens=64)


def sdk(http: httpx2.Client) -> openai.OpenAI:
    return openai.OpenAI(api_key=KEY, http_client=http, max_retries=0, _strict_response_validation=True)


def newest_job() -> Job:
    return next(reversed(JOBS.values()))


def deferred(proxy: Proxy, seen: Sequence[Row]) -> Row:
    """Wait until the one call beyond those seen is deferred, and give its row."""
    known = {row.entry.id for row in seen}
    found: list[Row] = []

    def there() -> bool:
        found[:] = [row for row in proxy.rows() if row.entry.id not in known]
        return bool(found) and all("deferred" in row.marks for row in found)

    poll(there, "a deferred row", lambda: found)
    [row] = found
    assert row.state == "pending"
    assert row.reserved > 0
    return row


def test_a_job_is_billed_once_by_the_answer_that_tells(proxy: Proxy) -> None:
    """It is reserved until a look at it shows its usage; every later look, streamed too, changes nothing."""
    seen = proxy.rows()
    with proxy.client() as http:
        client = sdk(http)
        begun = client.responses.create(**ASKED)
        assert (begun.status, begun.usage) == ("queued", None)
        pending = deferred(proxy, seen)
        assert client.responses.retrieve(begun.id).status == "queued"
        assert proxy.totals("all").pending == pending.reserved
        newest_job().end()
        ended = client.responses.retrieve(begun.id)
        assert (ended.status, ended.output_text) == ("completed", " token" * 37)
        [row] = proxy.settled(1, seen)
        again = client.responses.retrieve(begun.id, stream=True)
        assert [event.type for event in again][-1] == "response.completed"
        assert client.responses.retrieve(begun.id).usage is not None
    truth = newest_job().record.cost_nanousd
    assert row.cost == truth > 0
    assert (row.marks, row.reserved, row.usage.reasoning_tokens) == (frozenset(), 0, 64)
    assert proxy.settled(1, seen)[0].cost == truth
    assert proxy.totals("all").pending == 0


def test_a_job_survives_its_proxy(provider: StandIn, tmp_path: Path) -> None:
    """Killed with SIGKILL while the job runs, its successor bills it to the nano-dollar; one never asked for stays."""
    with Proxy(tmp_path / "killed", provider, CAP) as proxy:
        with proxy.client() as http:
            begun = sdk(http).responses.create(**ASKED)
            deferred(proxy, ())
            seen = proxy.rows()
            sdk(http).responses.create(**ASKED)
            never = deferred(proxy, seen)
        proxy.kill()
        proxy.start()
        JOBS[begun.id].end()
        with proxy.client() as http:
            assert sdk(http).responses.retrieve(begun.id).status == "completed"
        poll(lambda: proxy.rows()[0].state == "posted", "the job to be billed", proxy.rows)
        first, second = proxy.rows()
        assert first.cost == JOBS[begun.id].record.cost_nanousd > 0
        assert first.marks == frozenset()
        proxy.stop()
        assert proxy.rows()[1].reserved == never.reserved == second.reserved
        assert proxy.rows()[1].state == "pending"


def test_a_cancelled_job_costs_what_was_made(proxy: Proxy) -> None:
    """The answer to the cancellation tells the usage."""
    seen = proxy.rows()
    with proxy.client() as http:
        client = sdk(http)
        begun = client.responses.create(**ASKED)
        deferred(proxy, seen)
        assert client.responses.cancel(begun.id).status == "cancelled"
    [row] = proxy.settled(1, seen)
    assert row.usage.output_tokens == 64 + 5
    assert row.cost == newest_job().record.cost_nanousd > 0


def test_a_stream_that_broke_off_is_billed_when_it_is_resumed(proxy: Proxy, provider: StandIn) -> None:
    """Its usage comes with the rest of the events; a stream that ends by itself needs no second look."""
    seen = proxy.rows()
    provider.enqueue(Script(output_tokens=37, ending="close", ending_after_tokens=9))
    with proxy.client() as http:
        client = sdk(http)
        numbers: list[int] = []
        with pytest.raises((httpx2.RemoteProtocolError, openai.APIError)):
            numbers.extend(event.sequence_number for event in client.responses.create(**ASKED, stream=True))
        last = numbers[-1]
        deferred(proxy, seen)
        job = newest_job()
        job.end()
        rest = list(client.responses.retrieve(job.name, stream=True, starting_after=last))
        assert rest[0].sequence_number == last + 1
        [row] = proxy.settled(1, seen)
        assert row.cost == job.record.cost_nanousd > 0
        seen = proxy.rows()
        assert [event.type for event in client.responses.create(**ASKED, stream=True)][-1] == "response.completed"
        [row] = proxy.settled(1, seen)
    assert row.cost == newest_job().record.cost_nanousd > 0
    assert row.marks == frozenset()


def test_googles_interactions(proxy: Proxy) -> None:
    """Begun in the background through google-genai, one is billed by the look that shows its usage."""
    seen = proxy.rows()

    def answer(name: str) -> Answer:
        return Answer(200, "application/json", [Piece((DATA / name).read_bytes())])

    def find(record: Record) -> directory.Endpoint | None:
        if record.host != GOOGLE_HOST:
            return None
        name = "interaction_running.json" if record.method == "POST" else "interaction.json"
        return directory.Endpoint("recorded", lambda *_: answer(name), billable=False)

    directory.FINDERS.insert(0, find)
    try:
        google = proxy.sdks().google
        begun = google.interactions.create(model="gemini-2.5-flash", input="hi", background=True)
        assert begun.status == "in_progress"
        deferred(proxy, seen)
        assert google.interactions.get(begun.id or "").status == "completed"
    finally:
        directory.FINDERS.remove(find)
    [row] = proxy.settled(1, seen)
    assert (row.cost, row.marks) == (373_000, frozenset())  # worked out by hand in tests/data/google/watched.json


def test_caps_count_a_job_that_is_not_billed_yet(provider: StandIn, tmp_path: Path) -> None:
    """While one holds its bound a second does not fit, and the SDK shows why; billed, it makes room."""
    with Proxy(tmp_path / "tight", provider, TIGHT) as proxy:
        with proxy.client() as http:
            client = sdk(http)
            begun = client.responses.create(**ASKED)
            deferred(proxy, ())
            with pytest.raises(openai.APIStatusError, match=r"LLMCap: refused for now, cap .tight."):
                client.responses.create(**ASKED)
            JOBS[begun.id].end()
            client.responses.retrieve(begun.id)
            poll(lambda: proxy.totals("tight").pending == 0, "the job to be billed", proxy.rows)
            assert client.responses.create(**ASKED).status == "queued"
        assert [row.state for row in proxy.rows()] == ["posted", "refused", "pending"]
        proxy.assert_sound()
