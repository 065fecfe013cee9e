"""Events of the lean proxy reach the addons that listen, as mitmproxy's own manager would lead them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from mitmproxy import exceptions, hooks
from mitmproxy.addonmanager import AddonManager
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook
from mitmproxy.test import tflow

from llmcap_addon.proxy.addons import LeanAddons


class Hears:
    """Writes down what it hears, and fails or stops the others when told."""

    def __init__(self, name: str, heard: list[str], error: Exception | None = None, inside: Any = ()) -> None:
        self.name = name
        self.addons = list(inside)
        self._heard = heard
        self._error = error

    async def request(self, flow: object) -> None:
        """Hear of a request."""
        self._heard.append(self.name)
        if self._error is not None:
            raise self._error

    def done(self) -> None:
        """Hear of the end."""
        self._heard.append(f"{self.name} done")


class Deaf:
    """Wants to hear of nothing."""

    name = "deaf"


async def told(*addons: Any) -> AddonManager:
    """A manager with these addons, to whom a request was told."""
    manager: AddonManager = LeanAddons(Master(Options()))
    manager.add(*addons)
    await manager.trigger_event(HttpRequestHook(tflow.tflow()))
    return manager


async def test_those_that_listen_are_told_in_order() -> None:
    """In the order in which they were added, those inside others too; whoever has no hook is passed over."""
    heard: list[str] = []
    manager = await told(Hears("a", heard, inside=[Hears("inner", heard)]), Deaf(), Hears("b", heard))
    assert heard == ["a", "inner", "b"]
    manager.trigger(hooks.DoneHook())
    assert heard[3:] == ["a done", "inner done", "b done"]


async def test_an_addon_that_comes_or_goes_later_is_noticed() -> None:
    """One added after the first event hears the next, one taken out does not."""
    heard: list[str] = []
    first, second = Hears("a", heard), Hears("b", heard)
    manager = await told(first)
    manager.add(second)
    await manager.trigger_event(HttpRequestHook(tflow.tflow()))
    manager.remove(second)
    await manager.trigger_event(HttpRequestHook(tflow.tflow()))
    assert heard == ["a", "a", "b", "b done", "a"]


async def test_a_failing_hook_is_logged_and_a_halt_stops_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """As with mitmproxy's own: an error does not keep the rest from hearing, AddonHalt does."""
    heard: list[str] = []
    with caplog.at_level(logging.ERROR):
        await told(Hears("a", heard, ValueError("oops")), Hears("b", heard))
    assert heard == ["a", "b"]
    assert "oops" in caplog.text
    await told(Hears("c", heard, exceptions.AddonHalt()), Hears("d", heard))
    assert heard == ["a", "b", "c"]
