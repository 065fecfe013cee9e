"""Service: everything behind the hooks, put together at the start, kept up to date while it runs, closed at the end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import Literal

from llmcap_addon import config as configs
from llmcap_addon.activity import Activity, Counts
from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.ledger import HEARTBEAT_MS, Balance, Store
from llmcap_addon.budget.stores import open_store, state_file
from llmcap_addon.budget.windows import zone
from llmcap_addon.config import Config, ConfigWatch
from llmcap_addon.errors import ConfigError, LLMCapError, StoreError
from llmcap_addon.gate import messages
from llmcap_addon.gate.admission import Policy
from llmcap_addon.gate.gate import Gate
from llmcap_addon.gate.runtime import AsyncioRuntime
from llmcap_addon.money import Nanousd
from llmcap_addon.pricing.newer import choose
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.pricing.tokens import SHARED
from llmcap_addon.proxy.bulletin import Bulletin
from llmcap_addon.unclaimed import Unclaimed, file_beside
from llmcap_addon.view.console import NO_CALLS
from llmcap_addon.wire.clients import client_name
from llmcap_addon.wire.dialect import Request
from llmcap_addon.wire.hosts import Place

TICK_S = 1.0
"""How often caps.yaml is looked at."""
HEARTBEAT_TICKS = HEARTBEAT_MS // 1000
"""The ledger's lease is renewed every so many ticks: several times before it would be over. While the store fails it is
tried at every tick, so that what it has not taken is written within a second of its return."""
WARM_AFTER_S = 0.25
"""The tokenizer, which takes a third of a second of a core, is loaded when the tool is on its way, so that neither
waits for the other; a stream that comes before loads it itself."""
log = logging.getLogger("llmcap")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user asked for when starting the proxy."""

    config: str | None = None
    """Path of caps.yaml; None looks in the usual places."""
    config_value: Config | None = None
    """A configuration made by hand (`llmcap run --cap 2`); then no file is read or watched."""
    store: str | None = None
    """Overrides the configuration's `store:`."""
    view: Literal["auto", "off"] = "auto"
    client_hint: str = ""
    """The program that `llmcap run` started: names the client where its user agent names only an SDK."""
    run_id: str = field(default_factory=lambda: secrets.token_hex(8))
    """Identifies this run for caps that count `per: run`."""
    is_audience: bool = False
    """True where other processes take the calls: this one shows them and sums up, and needs no tokenizer."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run of the proxy came to."""

    balances: tuple[Balance, ...] = ()
    counts: Counts = NO_CALLS
    spent: Nanousd = 0
    """By this run's calls, whatever cap they count against."""


class Service:
    """The gate with its budget, prices and ledger, as the configuration of the moment says."""

    def __init__(
        self,
        settings: Settings,
        config: Config,
        watch: ConfigWatch | None,
        store: Store,
        gate: Gate,
        activity: Activity,
        bulletin: Bulletin,
        unclaimed: Unclaimed,
    ) -> None:
        self.settings = settings
        self.config = config
        self.store = store
        self.gate = gate
        self.activity = activity
        self.bulletin = bulletin
        self.unclaimed = unclaimed
        self.hosts = _hosts(config)
        self._runtime = AsyncioRuntime()
        self._watch = watch
        self._ticker: asyncio.Task[None] | None = None
        self._warming: asyncio.TimerHandle | None = None

    @classmethod
    async def start(cls, settings: Settings) -> Service:
        """Read the configuration and open the ledger; raises LLMCapError with what is wrong and what to do."""
        path = configs.find(settings.config, Path.cwd()) if settings.config_value is None else None
        # Made before the file is read, so that no edit in between is missed.
        watch = ConfigWatch(path) if path is not None else None
        config = settings.config_value or (configs.load(path) if path is not None else configs.builtin())
        runtime = AsyncioRuntime()
        activity = Activity(runtime.now_ms)
        bulletin = Bulletin(runtime.monotonic_s)
        url = settings.store or config.store
        unclaimed = Unclaimed(file_beside(state_file(url)), runtime.now_ms)
        store = open_store(url, runtime.now_ms)
        try:
            pricing, warning = await asyncio.to_thread(_pricing, config)
            budget = Budget(config.caps, store, runtime.now_ms, config.timezone, settings.run_id)
            await budget.heartbeat()
            gate = Gate(
                budget=budget,
                pricing=pricing,
                policy=_policy(config, settings),
                runtime=runtime,
                new_id=lambda: secrets.token_hex(12),
                on_change=activity.update,
                on_trouble=bulletin.trouble,
                on_store_trouble=bulletin.store_trouble,
            )
        except BaseException:
            await store.close()
            raise
        service = cls(settings, config, watch, store, gate, activity, bulletin, unclaimed)
        await service._on_file(unclaimed.compact)
        service._ticker = asyncio.create_task(service._tick_for_ever())
        if path is None and settings.config_value is None:
            bulletin.notice("no caps.yaml found: the built-in cap of $5 per day is in force")
        if warning:
            bulletin.notice(warning)
        if not settings.is_audience:
            service._warming = asyncio.get_running_loop().call_later(WARM_AFTER_S, gate.pricing.warm)
        return service

    async def close(self) -> Summary:
        """Write down what is left, sum up, and let the ledger go."""
        if self._warming is not None:
            self._warming.cancel()
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait([self._ticker])  # it may be writing down what is left, as is done below
        await self.write_unclaimed()
        balances: tuple[Balance, ...] = ()
        try:
            try:
                await self.gate.retry_unwritten()
                balances = await self.gate.budget.balances()
            finally:
                await self.store.close()
        except StoreError as error:
            log.error("llmcap: the ledger is not closed in order, calls not written down stay reserved: %s", error)
        spent = sum(cost for _, cost, _ in self.activity.spent_by("model"))
        return Summary(balances, self.activity.counts(), spent)

    # ── for hooks ──

    def client_of(self, request: Request) -> str:
        """Name the program behind a request."""
        return client_name(request.headers, self.settings.client_hint)

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return self._runtime.now_ms()

    # ── while it runs ──

    async def _tick_for_ever(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(TICK_S)
            ticks += 1
            try:
                await self.look_at_config()
                if self.unclaimed.is_urgent or ticks % HEARTBEAT_TICKS == 0:
                    await self.write_unclaimed()
                if ticks % HEARTBEAT_TICKS == 0 or self.bulletin.is_store_failing():
                    await self.look_at_store()
            except Exception as error:
                self.bulletin.trouble(
                    str(error) if isinstance(error, LLMCapError) else f"{type(error).__name__}: {error}"
                )

    async def write_unclaimed(self) -> None:
        """Write down which unclaimed paths were asked for; what the disk does not take is kept for the next time."""
        taken = self.unclaimed.take_unwritten()
        if taken and not await self._on_file(lambda: self.unclaimed.write(taken)):
            self.unclaimed.put_back(taken)

    async def _on_file(self, work: Callable[[], None]) -> bool:
        try:
            await asyncio.to_thread(work)
        except OSError as error:
            self.bulletin.trouble(f"the list of unmetered paths can't be written: {error}")
            return False
        return True

    async def look_at_store(self) -> None:
        """Renew the ledger's lease, and write down what it did not take while it failed."""
        try:
            await self.gate.budget.heartbeat()
            await self.gate.retry_unwritten()
        except StoreError as error:
            self.bulletin.store_trouble(str(error))
        else:
            self.bulletin.store_works()

    async def look_at_config(self) -> None:
        """Take over a change of caps.yaml; a broken edit keeps the old caps and says so."""
        if self._watch is None:
            return
        changed = await asyncio.to_thread(self._watch.poll)
        if isinstance(changed, Config):
            try:
                pricing, _ = await asyncio.to_thread(_pricing, changed)
                policy = _policy(changed, self.settings)
            except LLMCapError as error:
                self._keep_old(error)
                return
            self.gate.budget.replace_caps(changed.caps, changed.timezone)
            self.gate.pricing = pricing
            self.gate.policy = policy
            if changed.store != self.config.store and self.settings.store is None:
                self.bulletin.notice("`store:` has changed: that takes a restart, the old store stays in use")
            self.config = changed
            self.hosts = _hosts(changed)
            self.bulletin.standing("")
            log.warning("llmcap: caps.yaml has changed, the new caps are in force: %s", _names(changed))
        elif isinstance(changed, ConfigError):
            self._keep_old(changed)

    def _keep_old(self, error: LLMCapError) -> None:
        self.bulletin.standing(f"caps.yaml can't be used, the old caps stay in force: {error}")


def _pricing(config: Config) -> tuple[Prices, str]:
    """Give the prices in force, and what the user should know about the choice of the table; reads files."""
    in_force = choose()
    prices = Prices(in_force.table, config.prices, config.unknown_price, AsyncioRuntime().now_ms, SHARED)
    return prices, in_force.warning


def _policy(config: Config, settings: Settings) -> Policy:
    local: tzinfo | None = zone(config.timezone)
    if settings.config_value is not None:
        advice = messages.ON_COMMAND_LINE
    else:
        advice = messages.IN_CAPS_YAML if config.source is not None else messages.WITHOUT_CAPS_YAML
    return Policy(config.shorten, config.wait_ms, config.on_error, advice, local)


def _hosts(config: Config) -> Mapping[str, Place]:
    return {
        name: Place(host.api, host.provider, custom=True, models=host.deployments, zone=host.zone)
        for name, host in config.hosts.items()
    }


def _names(config: Config) -> str:
    return ", ".join(cap.name for cap in config.caps) or "none, auditing only"
