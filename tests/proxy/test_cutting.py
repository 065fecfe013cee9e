"""The stream that can be cut, on mitmproxy's real classes without a socket."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from mitmproxy import connection
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.hooks import Hook
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode, HttpStream
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import HttpResponseHeadersHook
from mitmproxy.test import taddons, tflow

from llmcap_addon.proxy import cutting
from llmcap_addon.proxy.cutting import CuttableHttpLayer, CuttableHttpStream, Nudge
from tests.proxy.stream import STREAM_ID, Driver, streamed


class Shears:
    """Cuts when the test says so."""

    def __init__(self, *, aborts: bool = False) -> None:
        self.aborts = aborts
        self.reads_on = False
        self.sent = False
        self.asked = 0
        self.held = b""
        self.tail: bytes | None = None

    def may_leave(self) -> bool:
        self.sent = True
        return True

    def take_held(self) -> bytes:
        self.asked += 1
        held, self.held = self.held, b""
        return held

    def take_tail(self) -> bytes | None:
        tail, self.tail = self.tail, None
        return tail


@pytest.fixture
async def opts() -> Options:
    """Give the options that a running proxy has."""
    with taddons.context(Proxyserver()) as context:
        options: Options = context.options
        return options


def watched(opts: Options, shears: Shears) -> Driver:
    """Drive a stream whose response is streamed and watched."""

    def on_hook(hook: Hook) -> None:
        if hook.name == "request":
            cutting.watch(driver.flow, shears)
        elif hook.name == "responseheaders":
            assert driver.flow.response is not None
            driver.flow.response.stream = True

    driver = Driver(opts, on_hook)
    return driver


async def test_the_installed_mitmproxy_passes_the_self_test(opts: Options) -> None:
    """Under a running proxy's options, a stream can be held, released and cut."""
    assert cutting.self_test(opts) == ""


def swallow(*_: Any) -> Iterator[Any]:
    return iter(())


def never_connects(*_: Any) -> Generator[Any, Any, bool]:
    yield from ()
    return False


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("state_stream_response_body", None),
        ("state_errored", None),
        ("state_wait_for_request_headers", swallow),
        ("start_response_stream", swallow),
        ("make_server_connection", never_connects),
        ("make_server_connection", swallow),
    ],
)
async def test_a_mitmproxy_that_cannot_be_relied_on_is_told(
    opts: Options, monkeypatch: pytest.MonkeyPatch, name: str, instead: Callable[..., Any] | None
) -> None:
    """When mitmproxy's private classes are not what they were, the self-test says so and raises nothing."""
    if instead is None:
        monkeypatch.delattr(HttpStream, name)
    else:
        monkeypatch.setattr(HttpStream, name, instead)
    assert cutting.self_test(opts)


async def test_a_cut_closes_the_server_side_and_ends_the_client_side(opts: Options) -> None:
    """The server's side is closed first, the client gets the tail and a clean end, and the response hook runs once."""
    shears = Shears()
    driver = watched(opts, shears)
    await driver.request(b"{}")
    assert shears.sent
    await driver.respond(streamed(), b"one", ends=False)
    shears.tail = b"tail"
    await driver.feed(ResponseData(STREAM_ID, b"two"))
    assert driver.shown() == b"onetwotail"
    assert isinstance(driver.to_client()[-1], ResponseEndOfMessage)
    assert isinstance(driver.to_server()[-1], RequestProtocolError)
    for late in (ResponseData(STREAM_ID, b"late"), ResponseEndOfMessage(STREAM_ID), Nudge(driver.flow, None)):
        await driver.feed(late)
    assert driver.shown() == b"onetwotail"
    assert driver.hooks.count("response") == 1
    assert "error" not in driver.hooks
    assert not driver.flow.live


async def test_a_cut_without_last_bytes_breaks_the_response_off(opts: Options) -> None:
    """Half a JSON body must not look like a whole one."""
    shears = Shears(aborts=True)
    driver = watched(opts, shears)
    await driver.request(b"{}")
    await driver.respond(streamed(), b"one", ends=False)
    shears.tail = b""
    await driver.feed(Nudge(driver.flow, None))
    assert driver.shown() == b"one"
    assert isinstance(driver.to_client()[-1], ResponseProtocolError)
    assert not any(isinstance(event, ResponseEndOfMessage) for event in driver.to_client())
    assert driver.hooks.count("response") == 1


async def test_an_answer_is_read_on_when_its_client_has_left(opts: Options) -> None:
    """Nothing more is sent to the client, nothing is closed at the server, and the end is the response hook's."""
    shears = Shears()
    driver = watched(opts, shears)
    await driver.request(b"{}")
    await driver.respond(streamed(), b"one", ends=False)
    shears.reads_on = True
    await driver.feed(RequestProtocolError(STREAM_ID, "Client disconnected.", ErrorCode.CLIENT_DISCONNECTED))
    await driver.feed(ResponseData(STREAM_ID, b"two"))
    await driver.feed(ResponseEndOfMessage(STREAM_ID))
    assert driver.shown() == b"one"
    assert not any(isinstance(event, RequestProtocolError) for event in driver.to_server())
    assert driver.hooks.count("response") == 1
    assert "error" not in driver.hooks


async def test_a_cut_right_after_the_head_needs_no_chunk(opts: Options) -> None:
    """A failure in the responseheaders hook ends the response before its first byte."""
    shears = Shears()
    shears.tail = b"tail"
    driver = watched(opts, shears)
    await driver.request(b"{}")
    await driver.respond(streamed(), ends=False)
    assert driver.shown() == b"tail"
    assert isinstance(driver.to_client()[-1], ResponseEndOfMessage)


async def test_a_nudge_releases_what_was_held(opts: Options) -> None:
    """Held bytes go out with a nudge; a nudge with nothing to do does nothing."""
    shears = Shears()
    driver = watched(opts, shears)
    await driver.request(b"{}")
    await driver.respond(streamed(), b"one", ends=False)
    shears.held = b"held"
    for _ in range(2):
        await driver.feed(Nudge(driver.flow, None))
    assert driver.shown() == b"oneheld"


async def test_an_empty_chunk_is_not_passed_on(opts: Options) -> None:
    """An empty HTTP/2 frame would be the end of the body in HTTP/1.1's chunked coding."""
    driver = watched(opts, Shears())
    await driver.request(b"{}")
    await driver.respond(streamed(), b"", b"one", b"", ends=False)
    assert [event.data for event in driver.to_client() if isinstance(event, ResponseData)] == [b"one"]


async def test_a_request_that_finds_no_server_was_never_sent(opts: Options) -> None:
    """What could not be delivered can't be billed."""
    shears = Shears()
    driver = watched(opts, shears)
    driver.reachable = False
    await driver.request(b"{}")
    assert not shears.sent
    assert "error" in driver.hooks


async def test_a_stream_that_nobody_watches_runs_on(opts: Options) -> None:
    """Flows that are none of ours are left alone, nudged or not."""
    driver = Driver(opts)
    await driver.request(b"{}")
    await driver.respond(streamed(), b"one", ends=False)
    await driver.feed(Nudge(driver.flow, None))
    await driver.feed(ResponseEndOfMessage(STREAM_ID))
    assert driver.shown() == b"one"
    assert isinstance(driver.to_client()[-1], ResponseEndOfMessage)


@pytest.mark.parametrize("whole", [True, False])
async def test_a_large_request_waits_for_its_verdict(opts: Options, whole: bool) -> None:
    """With `stream_large_bodies` mitmproxy would forward a request before it is judged; not one that is kept whole."""

    def on_hook(hook: Hook) -> None:
        if hook.name == "requestheaders" and whole:
            cutting.keep_whole(driver.flow)
        elif hook.name == "request":
            left.append(len(driver.to_server()))

    left: list[int] = []
    opts.stream_large_bodies = "10"
    driver = Driver(opts, on_hook)
    await driver.request(b"x" * 100, headers={"content-length": "100"})
    assert left == [0] if whole else left[0] > 0
    assert b"".join(event.data for event in driver.to_server() if isinstance(event, RequestData)) == b"x" * 100


async def test_a_request_that_is_kept_whole_still_obeys_the_size_limit(opts: Options) -> None:
    """`body_size_limit` holds for every request."""

    def on_hook(hook: Hook) -> None:
        if hook.name == "requestheaders":
            cutting.keep_whole(driver.flow)

    opts.body_size_limit = "50"
    driver = Driver(opts, on_hook)
    await driver.request(b"x" * 100)
    assert driver.to_server() == []
    assert isinstance(driver.to_client()[0], ResponseProtocolError)
    assert "request" not in driver.hooks


async def test_only_mitmproxys_own_layer_is_swapped(opts: Options) -> None:
    """Every HTTP layer of a stack becomes ours, whatever lies above it, and once."""
    driver = Driver(opts)
    outer, inner = HttpLayer(driver.layer.context, HTTPMode.regular), HttpLayer(driver.layer.context, HTTPMode.regular)
    outer.child_layer = inner  # type: ignore[attr-defined]
    for _ in range(2):
        cutting.make_cuttable(outer)
    assert type(outer) is type(inner) is CuttableHttpLayer
    cutting.make_cuttable(None)


async def test_a_nudge_finds_its_own_stream(opts: Options) -> None:
    """Of several streams of one connection only the flow's own looks again."""
    mine, other = Shears(), Shears()
    driver = watched(opts, mine)
    sibling = watched(opts, other)
    for each in (driver, sibling):
        await each.request(b"{}")
        await each.respond(streamed(), b"one", ends=False)
    driver.layer.streams = {1: driver.stream, 3: sibling.stream}
    before = mine.asked, other.asked
    for event in (events.Start(), Nudge(driver.flow, None)):
        assert list(driver.layer.handle_event(event)) == []
    assert (mine.asked, other.asked) == (before[0] + 1, before[1])


async def test_a_flow_is_known_to_be_cuttable_as_soon_as_it_exists(opts: Options) -> None:
    """A flow on our stream can be cut, one on any other can't: such a call must not go out."""
    driver = Driver(opts)
    await driver.request(b"{}")
    assert cutting.is_cuttable(driver.flow)
    assert not cutting.is_cuttable(tflow.tflow())
    assert isinstance(driver.stream, CuttableHttpStream)


async def test_nudging_a_client_that_is_gone_does_nothing() -> None:
    """The connection may have gone while the ledger was asked."""
    with taddons.context(Proxyserver()):
        cutting.nudge(tflow.tflow())


async def test_a_head_and_its_body_are_written_at_once(opts: Options) -> None:
    """What goes to one connection in a row is one write, in its order; nothing moves from one connection to another."""
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0)
    client.state = connection.ConnectionState.OPEN
    context = Context(client, opts)
    context.server.address = ("api.openai.com", 80)
    layer = CuttableHttpLayer(context, HTTPMode.transparent)
    written: list[tuple[connection.Connection, bytes]] = []

    def feed(event: events.Event) -> None:
        pending: list[events.Event] = [event]
        while pending:
            for command in layer.handle_event(pending.pop(0)):
                if isinstance(command, commands.SendData):
                    written.append((command.connection, command.data))
                elif isinstance(command, commands.OpenConnection):
                    command.connection.state = connection.ConnectionState.OPEN
                    pending.append(events.OpenConnectionCompleted(command, None))
                elif isinstance(command, commands.StartHook):
                    if isinstance(command, HttpResponseHeadersHook):
                        assert command.flow.response is not None
                        command.flow.response.stream = True
                    pending.append(events.HookCompleted(command, None))

    feed(events.Start())
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: api.openai.com\r\ncontent-length: 5\r\n\r\n"
    feed(events.DataReceived(client, head + b"hello"))
    [(server, sent)] = written
    assert server is not client
    assert sent.endswith(b"\r\n\r\nhello")
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc"
    feed(events.DataReceived(server, answer))
    feed(events.DataReceived(server, b"def"))
    assert written[1:] == [(client, answer), (client, b"def")]
