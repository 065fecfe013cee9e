"""The addon within mitmproxy's own addon manager, over a real service; a conftest.py imports the fixtures."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mitmproxy.addons.next_layer import NextLayer
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.hooks import Hook
from mitmproxy.options import Options
from mitmproxy.test import taddons

from llmcap_addon.budget.ledger import Row
from llmcap_addon.proxy.hooks import Hooks
from llmcap_addon.proxy.service import Settings
from tests.proxy.stream import Driver

CAPS = "caps: [{name: daily, limit: 5, per: day}]\nhosts: {llm.example.net: {api: openai}}\nwait: 0s\n"


class Proxy:
    """The addon within mitmproxy's own addon manager."""

    def __init__(self, folder: Path, context: taddons.context, hooks: Hooks) -> None:
        self.caps = folder / "caps.yaml"
        self.context = context
        self.hooks = hooks

    def driver(self, host: str = "api.openai.com") -> Driver:
        """Drive a stream whose hooks are ours."""
        return Driver(self.context.options, self._run, host=host)

    async def _run(self, hook: Hook) -> None:
        await self.context.master.addons.invoke_addon(self.hooks, hook)

    async def rows(self) -> tuple[Row, ...]:
        assert self.hooks.service is not None
        return await self.hooks.service.store.rows()

    async def pending(self) -> int:
        assert self.hooks.service is not None
        return sum(balance.pending for balance in await self.hooks.service.gate.budget.balances())

    @property
    def options(self) -> Options:
        options: Options = self.context.options
        return options


@pytest.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[Proxy]:
    """Load the addon, and do not start it yet."""
    (tmp_path / "caps.yaml").write_text(CAPS)
    settings = Settings(config=str(tmp_path / "caps.yaml"), store=f"sqlite://{tmp_path}/ledger.sqlite", view="off")
    hooks = Hooks(settings)
    with taddons.context(Proxyserver(), NextLayer(), hooks) as context:
        yield Proxy(tmp_path, context, hooks)
        await hooks.done()


@pytest.fixture
async def proxy(waiting: Proxy) -> Proxy:
    """Load the addon and start it."""
    await waiting.hooks.running()
    return waiting
