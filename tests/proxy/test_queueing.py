"""A connection's events reach its layers one after the other, whatever happens to who brings them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from mitmproxy.options import Options
from mitmproxy.proxy import commands, events, layer, server, server_hooks
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.mode_specs import ProxyMode

from llmcap_addon.proxy import queueing
from llmcap_addon.proxy.queueing import EventQueue, queue_events


@dataclass
class Look(events.Event):
    """Comes from outside, as our nudges do."""


class Notes(layer.Layer):
    """Notes what it hears. A `Look` starts hooks, and the client leaves while they are told."""

    def __init__(self, context: Context, handler: server.ConnectionHandler) -> None:
        super().__init__(context)
        self.heard: list[str] = []
        self._handler = handler

    def handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        self.heard.append(type(event).__name__)
        if isinstance(event, Look):
            for _ in range(5):
                yield server_hooks.ServerConnectHook(  # any hook that is waited for
                    server_hooks.ServerConnectionHookData(self.context.server, self.context.client)
                )
            reader = self._handler.transports[self.context.client].reader
            assert isinstance(reader, asyncio.StreamReader)
            reader.feed_eof()
        if isinstance(event, events.ConnectionClosed):
            yield commands.CloseConnection(event.connection)

    _handle_event = handle_event


class Handler(server.LiveConnectionHandler):
    """mitmproxy's own, whose hooks are done at once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer, Options(), ProxyMode.parse("regular"))
        self.layer = self.notes = Notes(Context(self.client, Options()), self)
        self.done = asyncio.Event()

    async def handle_hook(self, hook: commands.StartHook) -> None:
        pass


@pytest.fixture
async def handler() -> AsyncIterator[Handler]:
    """The handler of a client that is connected; hooks run in eager tasks, as under mitmproxy."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    made: asyncio.Queue[Handler] = asyncio.Queue()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        handler = Handler(reader, writer)
        made.put_nowait(handler)
        await handler.handle_client()
        handler.done.set()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    _, ours = await asyncio.open_connection(*listening.sockets[0].getsockname())
    yield await made.get()
    listening.close()
    for writer in (ours, *writers):  # one whose end was not heard of is still open
        writer.close()


@pytest.mark.parametrize("queued", [False, True], ids=["mitmproxy's lock", "our queue"])
async def test_a_client_that_leaves_is_heard_of(handler: Handler, queued: bool) -> None:
    """The task that brings the news is cancelled, as when a write to this client failed; a lock then loses the news."""
    if queued:
        queue_events(handler)
    task = handler.transports[handler.client].handler
    assert task is not None
    await handler.server_event(Look())
    await asyncio.sleep(0)
    task.cancel("Error sending data")
    await handler.done.wait()
    assert ("ConnectionClosed" in handler.notes.heard) is queued


async def test_events_keep_their_order() -> None:
    """What comes while an event is handled is handled after it, and nobody waits for it."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    heard: list[str] = []

    async def handle(event: events.Event) -> None:
        heard.append(f"{type(event).__name__} begins")
        if isinstance(event, Look):
            bringing = [asyncio.create_task(queue(one)) for one in (events.Start(), events.Start())]
            assert all(one.done() for one in bringing)
        heard.append(f"{type(event).__name__} ends")

    queue = EventQueue(handle)
    await queue(Look())
    assert heard == ["Look begins", "Look ends", *["Start begins", "Start ends"] * 2]


async def test_what_is_for_later_comes_after_the_event_that_is_handled() -> None:
    """A layer may hand itself an event while it handles another, and only then."""
    heard: list[events.Event] = []

    async def handle(event: events.Event) -> None:
        heard.append(event)
        if isinstance(event, Look):
            queue.later(events.Start())
            assert len(heard) == 1

    queue = EventQueue(handle)
    await queue(Look())
    assert [type(event) for event in heard] == [Look, events.Start]
    with pytest.raises(AssertionError, match="nothing is being handled"):
        queue.later(Look())


class Slow:
    """A layer that brings itself so many events, and takes long for each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        monkeypatch.setattr(queueing, "SLICE_S", 0.0)
        self.queue = EventQueue(self._handle)
        self.heard: list[events.Event] = []
        self._count = count

    async def _handle(self, event: events.Event) -> None:
        self.heard.append(event)
        time.sleep(0.000_1)  # noqa: ASYNC251  # work
        if len(self.heard) < self._count:
            self.queue.later(events.Start())


async def test_many_events_of_one_connection_give_way_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop goes on meanwhile; who brings more to this connection waits until it is handled."""
    slow = Slow(monkeypatch, 20)
    handling = asyncio.create_task(slow.queue(events.Start()))
    await asyncio.sleep(0)
    assert len(slow.heard) == 1
    bringing = asyncio.create_task(slow.queue(Look()))
    turns = 0
    while not bringing.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 19
    assert sum(isinstance(event, Look) for event in slow.heard) == 1
    assert len(slow.heard) == 21
    await handling


@pytest.mark.parametrize("who", ["handles", "brings"])
async def test_a_cancel_is_heard_when_all_is_handled(monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    """Whether of the task that handles the events or of one that waits behind it: nothing is lost, nor is the cancel."""
    slow = Slow(monkeypatch, 10)
    went_on: list[str] = []

    async def bring(name: str, event: events.Event) -> None:
        await slow.queue(event)
        went_on.append(name)
        await asyncio.sleep(0)
        went_on.append(f"{name}, to its end")

    tasks = {"handles": asyncio.create_task(bring("handles", events.Start()))}
    await asyncio.sleep(0)
    tasks["brings"] = asyncio.create_task(bring("brings", Look()))
    await asyncio.sleep(0)
    tasks.pop(who).cancel("gone")
    [other] = tasks
    await tasks[other]
    assert len(slow.heard) == 11
    assert sorted(went_on) == sorted(["handles", "brings", f"{other}, to its end"])


async def test_a_layer_that_panics_holds_nothing_up() -> None:
    """What is no Exception ends the task that brought the event; the events behind it are handled with the next."""
    heard: list[events.Event] = []

    async def handle(event: events.Event) -> None:
        heard.append(event)
        if isinstance(event, Look):
            await queue(events.Start())
            raise KeyboardInterrupt

    queue = EventQueue(handle)
    with pytest.raises(KeyboardInterrupt):
        await queue(Look())
    await queue(events.Start())
    assert [type(event) for event in heard] == [Look, events.Start, events.Start]
