"""What stands behind the hooks: started over a real file and a real ledger, kept up to date, closed."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from llmcap_addon import config as configs
from llmcap_addon.errors import ConfigError, StoreError
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.pricing import table_file
from llmcap_addon.pricing.newer import fetched_path
from llmcap_addon.pricing.refresh.install import install
from llmcap_addon.pricing.table import SHIPPED
from llmcap_addon.proxy.service import Service, Settings, Summary
from llmcap_addon.usage import Usage
from llmcap_addon.wire import hosts
from llmcap_addon.wire.dialect import Refusal, Request
from tests.gate.house import GPT_4O, final

CAPS = "caps: [{name: daily, limit: 5, per: day}]\n"

type Start = Callable[..., Awaitable[Service]]


class Place:
    """A folder with a caps.yaml and a ledger."""

    def __init__(self, folder: Path) -> None:
        self.caps = folder / "caps.yaml"
        self.ledger = folder / "ledger.sqlite"
        self.edits = 0

    @property
    def store(self) -> str:
        return f"sqlite://{self.ledger}"

    def files(self) -> list[Path]:
        return sorted(self.caps.parent.iterdir())

    def write(self, text: str) -> None:
        """Edit the file; on a file system with coarse times too, an edit is seen."""
        self.edits += 1
        self.caps.write_text(text)
        os.utime(self.caps, ns=(self.edits, self.edits))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.write(CAPS)
    return place


@pytest.fixture
async def start(place: Place) -> AsyncIterator[Start]:
    running: list[Service] = []

    async def begin(**settings: object) -> Service:
        given = Settings(config=str(place.caps), store=place.store)
        running.append(await Service.start(replace(given, **settings)))  # type: ignore[arg-type]
        return running[-1]

    yield begin
    for service in running:
        await service.close()


async def test_it_sums_up_what_a_run_came_to(start: Start) -> None:
    """What was spent, how many calls, and how the caps stand, once the ledger is closed."""
    service = await start()
    live = await service.gate.admit(GPT_4O)
    assert isinstance(live, LiveCall)
    await live.finish(final(Usage(input_tokens=100, output_tokens=10)), "complete", 200)
    summary = await service.close()
    assert summary.spent == 100 * 2_500 + 10 * 10_000
    assert summary.counts.calls == 1
    [balance] = summary.balances
    assert (balance.charge.cap, balance.posted, balance.pending) == ("daily", summary.spent, 0)


async def test_a_restart_finds_what_was_spent(start: Start) -> None:
    """The ledger outlives the process, and a call that nobody settled is posted in full."""
    service = await start()
    live = await service.gate.admit(GPT_4O)
    assert isinstance(live, LiveCall)
    await service.close()
    [balance] = await (await start()).gate.budget.balances()
    assert (balance.posted, balance.pending) == (live.reserved, 0)


async def test_an_edit_is_taken_over_whole(start: Start, place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Caps, prices, hosts and policy are those of the new file, at once and together."""
    caplog.set_level(logging.INFO, "llmcap")
    service = await start()
    await service.look_at_config()
    assert not caplog.messages
    place.write(
        """
        caps: [{name: weekly, limit: 7, per: week}]
        timezone: Asia/Tokyo
        prices: {api.openai.com: {gpt-4o: {input: 1, output: 2}}}
        hosts: {LLM.example.net: {api: openai, provider: mine}}
        wait: 3s
        shorten: never
        on_error: allow
        unmetered: allow
        refuse_with: 402
        """
    )
    await service.look_at_config()
    assert [cap.name for cap in service.gate.budget.caps] == ["weekly"]
    assert service.gate.budget.timezone == "Asia/Tokyo"
    assert service.gate.pricing.cost(GPT_4O, Usage(1_000_000, 1_000_000), GPT_4O.terms).amount == 3 * 10**9
    assert service.hosts == {"llm.example.net": hosts.Place("openai", "mine", custom=True)}
    policy = service.gate.policy
    assert (policy.wait_ms, policy.shorten, policy.on_error) == (3_000, "never", "allow")
    assert str(policy.zone) == "Asia/Tokyo"
    assert (service.config.unmetered, service.config.refuse_with) == ("allow", 402)
    [message] = caplog.messages
    assert "weekly" in message
    assert service.bulletin.notices() == ()


@pytest.mark.parametrize(
    "broken",
    [
        "caps: [",
        "caps: [{name: daily, limit: lots, per: day}]",
        "caps: []\ncolour: red",
        "",
        'caps: []\nprices: {api.openai.com: {"gpt-4o": {input: 1}}}',
    ],
)
async def test_a_broken_edit_keeps_the_old_caps_until_it_is_mended(start: Start, place: Place, broken: str) -> None:
    """The console says what is wrong as long as it is."""
    service = await start()
    before = service.gate.pricing
    place.write(broken)
    await service.look_at_config()
    await service.look_at_config()
    [notice] = service.bulletin.notices()
    assert notice.level == "error"
    assert "old caps stay in force" in notice.text
    assert "caps.yaml" in notice.text
    assert [cap.name for cap in service.gate.budget.caps] == ["daily"]
    assert service.gate.pricing is before
    assert isinstance(await service.gate.admit(GPT_4O), LiveCall)
    place.write(CAPS)
    await service.look_at_config()
    assert service.bulletin.notices() == ()


async def test_a_file_that_is_gone_keeps_its_caps(start: Start, place: Place) -> None:
    """Deleting caps.yaml lifts no cap."""
    service = await start()
    place.caps.unlink()
    await service.look_at_config()
    assert [cap.name for cap in service.gate.budget.caps] == ["daily"]
    assert "gone" in service.bulletin.notices()[0].text


async def test_a_changed_store_takes_a_restart(start: Start, place: Place) -> None:
    """A ledger is not changed under calls in flight; that is said once, and not at all when an option chose it."""
    other = f"{CAPS}store: sqlite://{place.ledger}.other\n"
    place.write(f"{CAPS}store: {place.store}\n")
    following, told = await start(store=None), await start()
    place.write(other)
    for service in (following, told):
        await service.look_at_config()
        await service.look_at_config()
    [notice] = following.bulletin.notices()
    assert "restart" in notice.text
    assert told.bulletin.notices() == ()
    assert [path.name for path in place.files() if "other" in path.name] == []


async def test_without_a_file_the_built_in_cap_holds_and_says_so(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$5 per day, a line about it, and nothing to look at later."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(empty))
    monkeypatch.setenv("HOME", str(empty))
    service = await start(config=None)
    assert [(cap.name, cap.limit) for cap in service.gate.budget.caps] == [("daily", 5 * 10**9)]
    assert "built-in" in service.bulletin.notices()[0].text
    await service.look_at_config()


async def test_a_configuration_made_by_hand_is_told_of_on_the_command_line(start: Start) -> None:
    """`llmcap run --cap` reads no file, and its refusal names what there is to raise."""
    service = await start(config=None, config_value=configs.for_cap("0"))
    assert service.bulletin.notices() == ()
    refusal = await service.gate.admit(GPT_4O)
    assert isinstance(refusal, Refusal)
    assert "--cap" in refusal.message
    assert "caps.yaml" not in refusal.message


async def test_a_wrong_file_stops_the_start(start: Start, place: Place) -> None:
    """The proxy does not run under caps that nobody wrote."""
    place.write("caps: [{name: daily}]")
    with pytest.raises(ConfigError, match=r"caps\.yaml:1"):
        await start()
    assert not place.ledger.exists()


async def test_a_ledger_that_is_none_stops_the_start(start: Start, place: Place) -> None:
    """And leaves the file as it is."""
    place.ledger.write_bytes(b"no ledger" * 1_000)
    with pytest.raises(StoreError, match="ledger"):
        await start()
    assert place.ledger.read_bytes() == b"no ledger" * 1_000


async def test_what_a_locked_ledger_did_not_take_is_written_at_the_end(start: Start, place: Place) -> None:
    """A settlement that failed is tried again before the ledger is let go."""
    service = await start()
    live = await service.gate.admit(GPT_4O)
    assert isinstance(live, LiveCall)
    moved = place.ledger.with_suffix(".moved")
    place.ledger.rename(moved)
    await live.finish(final(Usage(input_tokens=100, output_tokens=10)), "complete", 200)
    assert service.bulletin.notices()
    moved.rename(place.ledger)
    summary = await service.close()
    assert [(balance.posted, balance.pending) for balance in summary.balances] == [(350_000, 0)]


async def test_a_ledger_that_is_back_is_written_to_and_told_of(
    start: Start, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Looking at the store writes what is owed, and ends its trouble; as long as it fails, the trouble stays."""
    caplog.set_level(logging.INFO, "llmcap")
    service = await start()
    moved = place.ledger.with_suffix(".moved")
    place.ledger.rename(moved)
    assert isinstance(await service.gate.admit(GPT_4O), Refusal)
    await service.look_at_store()
    assert service.bulletin.is_store_failing()
    moved.rename(place.ledger)
    await service.look_at_store()
    assert not service.bulletin.is_store_failing()
    assert caplog.messages[-1] == "llmcap: the ledger works again"
    assert [row.state for row in await service.store.rows()] == ["refused"]


async def test_a_ledger_that_is_lost_at_the_end_is_told(
    start: Start, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """The end is not stopped by it, nor does it raise; the run's own figures are still there."""
    service = await start()
    live = await service.gate.admit(GPT_4O)
    assert isinstance(live, LiveCall)
    place.ledger.rename(place.ledger.with_suffix(".moved"))
    await live.finish(final(Usage(input_tokens=100, output_tokens=10)), "complete", 200)
    summary = await service.close()
    assert isinstance(summary, Summary)
    assert summary.spent == 350_000
    assert "stay reserved" in caplog.text


async def test_it_names_clients(start: Start) -> None:
    """By the user agent, or by the command where that is only a library's."""
    service = await start(client_hint="my-agent")
    for agent, name in (("OpenAI/Python 2.0", "my-agent"), ("claude-cli/2.1 (external)", "claude-code")):
        assert service.client_of(Request("POST", "api.openai.com", "/", headers={"user-agent": agent})) == name


async def test_the_ledger_is_closed_to_others(start: Start, place: Place) -> None:
    """Nobody else may read what was called when."""
    await start()
    with sqlite3.connect(place.ledger) as database:
        assert database.execute("SELECT count(*) FROM ledger").fetchone() == (0,)
    database.close()
    assert all(path.stat().st_mode & 0o077 == 0 for path in place.ledger.parent.glob("ledger.sqlite*"))


async def test_prices_that_were_fetched_are_used(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer table in the state folder prices the calls, without a word."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    table = table_file.decode(SHIPPED.read_bytes())
    providers = json.loads(json.dumps({name: dict(told) for name, told in table["providers"].items()}))
    providers["openai"]["models"]["gpt-4o"]["prices"][0]["rows"]["standard"] |= {"input": "5", "output": "20"}
    install(table_file.encode(table | {"providers": providers}), fetched_path())
    service = await start()
    live = await service.gate.admit(GPT_4O)
    assert isinstance(live, LiveCall)
    await live.finish(final(Usage(input_tokens=100, output_tokens=10)), "complete", 200)
    assert service.bulletin.notices() == ()
    assert (await service.close()).spent == 100 * 5_000 + 10 * 20_000


async def test_fetched_prices_that_are_damaged_are_told(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy starts with the shipped ones and says so on the console."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    fetched_path().parent.mkdir(parents=True)
    fetched_path().write_bytes(b"junk")
    service = await start()
    (notice,) = service.bulletin.notices()
    assert "the shipped prices of" in notice.text
