"""Addons are told of a stream's events at once, and as mitmproxy's own manager would tell them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mitmproxy import connection, exceptions, http
from mitmproxy.addons import proxyserver
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.http._hooks import HttpRequestHook, HttpResponseHook
from mitmproxy.test import tflow

from llmcap_addon.proxy import cutting
from llmcap_addon.proxy.queueing import EventQueue
from llmcap_addon.proxy.telling import Teller, Telling

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


async def test_an_addon_that_cannot_be_asked_keeps_no_other_from_hearing(
    master: Master, flow: http.HTTPFlow, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether one before it waited or not, and what mitmproxy takes for the end of everything is told as well."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    heard: list[str] = []

    class Broken:
        name = "broken"

        @property
        def request(self) -> None:
            if heard:  # not when it is added
                raise ValueError("no such thing")

    def refuse(_: http.HTTPFlow) -> None:
        raise exceptions.OptionsError("no such option")

    master.addons.add(Notes("one", heard, wait), Broken(), Notes("two", heard, refuse), Notes("three", heard))
    rest = Teller(master.addons).tell(HttpRequestHook(flow), flow)
    assert rest is not None
    await rest
    assert heard == ["one", "two", "three"]
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == [
        "Addon error: no such thing",
        "Addon error: no such option",
    ]


async def test_what_is_no_exception_is_never_over(master: Master, flow: http.HTTPFlow) -> None:
    """A panic in an addon must not let the request go out past those behind it, nor break its neighbours' connection."""

    class Panic(BaseException):
        """Like that of a library in Rust."""

    def panic(_: http.HTTPFlow) -> None:
        raise Panic

    heard: list[str] = []
    master.addons.add(Notes("one", heard, panic), Notes("two", heard))
    rest = Teller(master.addons).tell(HttpRequestHook(flow), flow)
    assert rest is not None
    with pytest.raises(Panic):
        await rest
    assert heard == ["one"]


async def test_an_addon_may_wait_with_what_was_changed(master: Master, flow: http.HTTPFlow) -> None:
    """The event that tells of changes is waited for as any other."""
    heard: list[str] = []

    class Slow:
        name = "slow"

        async def update(self, flows: list[http.HTTPFlow]) -> None:
            await asyncio.sleep(0)
            heard.append(f"{len(flows)} updated")

    master.addons.add(Slow())
    rest = Teller(master.addons).tell(HttpRequestHook(flow), flow)
    assert rest is not None
    await rest
    assert heard == ["1 updated"]


class Counts:
    """Hears of all events of a request, and lets answers stream."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.until: asyncio.Event | None = None

    async def request(self, flow: http.HTTPFlow) -> None:
        if self.until is not None:
            await self.until.wait()
        self.heard.append(f"request {flow.request.path}")
        if flow.request.path == "/local":
            flow.response = http.Response.make(402)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        assert flow.response is not None
        flow.response.stream = True

    async def response(self, flow: http.HTTPFlow) -> None:
        self.heard.append(f"response {flow.request.path}")

    async def error(self, flow: http.HTTPFlow) -> None:
        self.heard.append(f"error {flow.request.path}")


class Wire:
    """A connection of HTTP/1.1 through a layer of ours, without a socket."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self.counts = Counts()
        master.addons.add(proxyserver.Proxyserver(), self.counts)
        self.client = connection.Client(
            peername=("127.0.0.1", 1),
            sockname=("127.0.0.1", 2),
            timestamp_start=0,
            state=connection.ConnectionState.OPEN,
        )
        self.server: connection.Connection | None = None
        self.to_client = self.to_server = b""
        self._layer = cutting.CuttableHttpLayer(Context(self.client, master.options), HTTPMode.regular)
        self.closed: list[connection.Connection] = []
        self._queue = EventQueue(self._handle)
        self._hooks: set[asyncio.Task[None]] = set()

    def tell_at_once(self, *, everything: bool) -> None:
        self._layer.telling = Telling(Teller(self._master.addons).tell, self._queue if everything else None)

    async def feed(self, event: events.Event) -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        await self._queue(event)

    async def _handle(self, event: events.Event) -> None:
        for command in self._layer.handle_event(event):
            if isinstance(command, commands.SendData):
                if command.connection is self.client:
                    self.to_client += command.data
                else:
                    self.to_server += command.data
            elif isinstance(command, commands.CloseConnection):
                self.closed.append(command.connection)
            elif isinstance(command, commands.StartHook):
                self._hooks.add(asyncio.create_task(self._run(command)))
            elif isinstance(command, commands.OpenConnection):
                self.server = command.connection
                self.server.state = connection.ConnectionState.OPEN
                self._queue.later(events.OpenConnectionCompleted(command, None))

    async def _run(self, hook: commands.StartHook) -> None:
        await self._master.addons.handle_lifecycle(hook)
        await self._queue(events.HookCompleted(hook))


@pytest.fixture(params=["mitmproxy's way", "some at once", "all at once"])
def wire(request: pytest.FixtureRequest, master: Master) -> Wire:
    """Make a connection whose events are told of in each of the ways."""
    wire = Wire(master)
    if request.param != "mitmproxy's way":
        wire.tell_at_once(everything=request.param == "all at once")
    return wire


async def test_pipelined_requests_are_answered_one_after_the_other(wire: Wire) -> None:
    """The second is in the proxy before the first is answered, and takes the same connection to the server."""
    await wire.feed(events.Start())
    for path in ("1", "2"):
        head = f"GET http://h.invalid/{path} HTTP/1.1\r\nhost: h\r\n\r\n"
        await wire.feed(events.DataReceived(wire.client, head.encode()))
    answers = [f"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{word}".encode() for word in ("hello", "world")]
    for answer in answers:
        assert wire.server is not None
        await wire.feed(events.DataReceived(wire.server, answer))
    assert wire.to_client == b"".join(answers)
    assert wire.to_server.count(b"GET ") == 2
    assert wire.counts.heard == ["request /1", "response /1", "request /2", "response /2"]


async def test_hundreds_of_pipelined_requests_are_refused_each(wire: Wire) -> None:
    """Those that we answer ourselves don't pile up in Python's stack."""
    await wire.feed(events.Start())
    await wire.feed(events.DataReceived(wire.client, 400 * b"GET http://h.invalid/local HTTP/1.1\r\nhost: h\r\n\r\n"))
    assert wire.to_client.count(b"HTTP/1.1 402 ") == 400
    assert wire.to_server == b""
    assert len(wire.counts.heard) == 800


async def test_a_client_that_leaves_ends_its_call(wire: Wire) -> None:
    """In the middle of an answer: its end is told once, and the server's side is closed."""
    await wire.feed(events.Start())
    await wire.feed(events.DataReceived(wire.client, b"GET http://h.invalid/1 HTTP/1.1\r\nhost: h\r\n\r\n"))
    assert wire.server is not None
    await wire.feed(events.DataReceived(wire.server, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel"))
    wire.client.state = connection.ConnectionState.CLOSED
    await wire.feed(events.ConnectionClosed(wire.client))
    assert wire.counts.heard == ["request /1", "error /1"]
    assert wire.closed == [wire.server]


async def test_a_slow_addon_is_waited_for_though_nobody_answers_the_event_of_waiting(wire: Wire) -> None:
    """Our own addon was taken out, or one before it lets none behind it hear: the request goes on all the same."""
    go_on = asyncio.Event()
    wire.counts.until = go_on
    await wire.feed(events.Start())
    feeding = asyncio.create_task(
        wire.feed(events.DataReceived(wire.client, b"GET http://h.invalid/local HTTP/1.1\r\nhost: h\r\n\r\n"))
    )
    assert wire.to_client == b""
    go_on.set()
    for _ in range(10):
        await asyncio.sleep(0)
    await feeding
    assert wire.to_client.startswith(b"HTTP/1.1 402 ")
    assert wire.counts.heard == ["request /local", "response /local"]
