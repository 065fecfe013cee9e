"""Addons are told of a stream's events at once, and as mitmproxy's own manager would tell them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mitmproxy import exceptions, http
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy import commands
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook, HttpResponseHook
from mitmproxy.test import tflow

from llmcap_addon.proxy.telling import Teller

type Way = Callable[[commands.StartHook], Awaitable[None]]


class Notes:
    """Notes what it is told of; what it then does is the test's."""

    def __init__(self, name: str, heard: list[str], act: Callable[[http.HTTPFlow], Any] = lambda _: None) -> None:
        self.name = name
        self._heard = heard
        self._act = act

    def request(self, flow: http.HTTPFlow) -> Any:
        self._heard.append(self.name)
        return self._act(flow)


class Updates:
    """Hears of what other addons may have changed."""

    name = "updates"

    def __init__(self, heard: list[str]) -> None:
        self._heard = heard

    def update(self, flows: list[http.HTTPFlow]) -> None:
        self._heard.append(f"{len(flows)} updated")


@pytest.fixture
async def master() -> Master:
    return Master(Options())


@pytest.fixture
def flow() -> http.HTTPFlow:
    return tflow.tflow()


def both_ways(master: Master, flow: http.HTTPFlow) -> tuple[Way, Way]:
    """Mitmproxy's way to tell, and ours."""
    teller = Teller(master.addons)

    async def ours(event: commands.StartHook) -> None:
        rest = teller.tell(event, flow)
        if rest is not None:
            await rest

    return master.addons.handle_lifecycle, ours


def halt(_: http.HTTPFlow) -> None:
    raise exceptions.AddonHalt


def fail(_: http.HTTPFlow) -> None:
    raise ValueError("of an addon")


async def wait(_: http.HTTPFlow) -> None:
    await asyncio.sleep(0)


async def halt_later(flow: http.HTTPFlow) -> None:
    await wait(flow)
    halt(flow)


async def fail_later(flow: http.HTTPFlow) -> None:
    await wait(flow)
    fail(flow)


async def at_once(_: http.HTTPFlow) -> None:
    """A coroutine that waits for nothing."""


ACTS = (lambda _: None, lambda _: "a value", at_once, wait, halt, fail, halt_later, fail_later)


@pytest.mark.parametrize("second", ACTS)
@pytest.mark.parametrize("first", ACTS)
async def test_the_same_addons_hear_in_the_same_order(
    master: Master, flow: http.HTTPFlow, first: Any, second: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever they do: return, wait, fail or stop the others from hearing; and as much is logged."""
    heard: list[str] = []
    master.addons.add(Notes("one", heard, first), Notes("two", heard, second), Updates(heard), Notes("three", heard))
    told: list[tuple[list[str], list[str]]] = []
    for way in both_ways(master, flow):
        heard.clear()
        caplog.clear()
        await way(HttpRequestHook(flow))
        errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        told.append((heard.copy(), errors))
    assert told[0] == told[1]
    assert told[0][0][0] == "one"


async def test_nothing_is_left_to_wait_for_when_nobody_waits(master: Master, flow: http.HTTPFlow) -> None:
    """A coroutine that gives nothing back to the loop counts as done; an event that nobody hears is over."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    heard: list[str] = []
    master.addons.add(Notes("one", heard), Notes("two", heard, at_once), Notes("three", heard))
    teller = Teller(master.addons)
    assert teller.tell(HttpRequestHook(flow), flow) is None
    assert heard == ["one", "two", "three"]
    assert teller.tell(HttpResponseHook(flow), flow) is None


async def test_nothing_goes_on_when_the_telling_was_cancelled(master: Master, flow: http.HTTPFlow) -> None:
    """The addons behind may be the ones that count: a request that they never heard of must not go out."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    heard: list[str] = []

    async def give_up(_: http.HTTPFlow) -> None:
        raise asyncio.CancelledError

    master.addons.add(Notes("one", heard, give_up), Notes("two", heard))
    rest = Teller(master.addons).tell(HttpRequestHook(flow), flow)
    assert rest is not None
    with pytest.raises(asyncio.CancelledError):
        await rest
    assert heard == ["one"]


async def test_a_flow_that_is_intercepted_waits(master: Master, flow: http.HTTPFlow) -> None:
    """Until somebody lets it go on."""
    master.addons.add(Notes("one", [], lambda flow: flow.intercept()))
    rest = Teller(master.addons).tell(HttpRequestHook(flow), flow)
    assert rest is not None
    await asyncio.sleep(0)
    assert not rest.done()
    flow.resume()
    await rest


async def test_addons_that_come_go_or_grow_are_heeded(master: Master, flow: http.HTTPFlow) -> None:
    """One that is added, one taken away, and what a script has when it is loaded again."""
    heard: list[str] = []

    class Script:
        name = "script"
        addons: list[Any] = []  # noqa: RUF012  # as mitmproxy's loader of scripts has them

    teller = Teller(master.addons)
    teller.tell(HttpRequestHook(flow), flow)
    one, script = Notes("one", heard), Script()
    master.addons.add(one, script)
    teller.tell(HttpRequestHook(flow), flow)
    script.addons = [Notes("inside", heard)]
    teller.tell(HttpRequestHook(flow), flow)
    master.addons.remove(one)
    teller.tell(HttpRequestHook(flow), flow)
    assert heard == ["one", "one", "inside", "inside"]
