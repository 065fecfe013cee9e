"""Sockets that several processes take connections from."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from typing import IO, Any

import pytest

from llmcap_addon.errors import LLMCapError
from llmcap_addon.proxy import port


def standing_for(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Let every name stand for these addresses."""

    def addresses(_host: str, number: int, **_: Any) -> list[Any]:
        six = (socket.AF_INET6, socket.SOCK_STREAM, 0, "")
        four = (socket.AF_INET, socket.SOCK_STREAM, 0, "")
        return [(*six, (one, number, 0, 0)) if ":" in one else (*four, (one, number)) for one in hosts]

    monkeypatch.setattr(socket, "getaddrinfo", addresses)


def close(*sockets: socket.socket) -> None:
    for one in sockets:
        one.close()


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_a_free_port_is_taken_and_held() -> None:
    """Port 0 takes one, and while it is held the next one is told so, in one line."""
    [held] = port.listen("127.0.0.1", 0)
    host, number = port.address_of(held)
    assert host == "127.0.0.1"
    assert number > 0
    with pytest.raises(LLMCapError) as raised:
        port.listen(host, number)
    close(held)
    assert str(raised.value) == f"127.0.0.1:{number} is in use by another program; choose another with --listen"


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_a_name_with_two_families_has_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhost` may mean ::1 and 127.0.0.1, and a client may choose either."""
    standing_for(monkeypatch, "::1", "127.0.0.1")
    sockets = port.listen("localhost", 0)
    addresses = [port.address_of(one) for one in sockets]
    modes = port.modes(sockets)
    close(*sockets)
    number = addresses[0][1]
    assert addresses == [("::1", number), ("127.0.0.1", number)]
    assert modes == (f"regular@::1:{number}", f"regular@127.0.0.1:{number}")


def test_an_address_that_is_not_here_is_left_out_when_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without IPv6 may name ::1 all the same; an address of TEST-NET-1 (RFC 5737) is nobody's."""
    standing_for(monkeypatch, "192.0.2.1", "127.0.0.1")
    sockets = port.listen("localhost", 0)
    assert [port.address_of(one)[0] for one in sockets] == ["127.0.0.1"]
    close(*sockets)
    standing_for(monkeypatch, "192.0.2.1")
    with pytest.raises(LLMCapError, match=r"can't listen at elsewhere:0"):
        port.listen("elsewhere", 0)


@pytest.fixture
def shares() -> Iterator[tuple[port.Shares, port.Shares, IO[bytes]]]:
    """Give two workers' counts, and the file that they share."""
    with port.shares_file(2) as file:
        yield port.Shares(file.fileno(), 1), port.Shares(file.fileno(), 2), file


def test_who_has_more_lets_the_other_go_first(shares: tuple[port.Shares, port.Shares, IO[bytes]]) -> None:
    """Only workers that take connections count, and only those with fewer."""
    one, two, file = shares
    one.sync(5)
    assert not one.is_busier(), "the other has not started"
    two.sync(0)
    assert one.is_busier()
    assert not two.is_busier()
    for _ in range(5):
        two.accepted()
    assert not one.is_busier()
    assert not two.is_busier()
    two.sync(2)
    assert one.is_busier()
    port.leave(file, 2)
    assert not one.is_busier(), "the other has ended"


class Worker:
    """A loop that serves at an inherited socket, and tells each client its name."""

    def __init__(self, name: bytes, held: socket.socket, shares: port.Shares) -> None:
        self.served = 0
        self._name = name
        self._has_served = asyncio.Event()
        self._address = port.address_of(held)
        self.loop = port.PortLoop([socket.socket(fileno=os.dup(held.fileno()))], shares)
        self.server = self.loop.run_until_complete(self._start())

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(self._answer, *self._address)

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._name)
        writer.close()
        self.served += 1
        self._has_served.set()

    def serve(self, until: int) -> None:
        """Run until so many were served."""

        async def wait() -> None:
            while self.served < until:
                self._has_served.clear()
                await self._has_served.wait()

        self.loop.run_until_complete(asyncio.wait_for(wait(), 10))

    def stop(self) -> None:
        """Serve no more."""
        self.server.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


@pytest.fixture
def held() -> Iterator[socket.socket]:
    """Listen as the supervisor does."""
    [held] = port.listen("127.0.0.1", 0)
    with held:
        yield held


def test_one_may_go_and_the_other_takes_what_waits(
    held: socket.socket, shares: tuple[port.Shares, port.Shares, IO[bytes]]
) -> None:
    """The queue is the socket's: no connection is lost with a worker."""
    one, two = Worker(b"one", held, shares[0]), Worker(b"two", held, shares[1])
    with socket.create_connection(port.address_of(held), timeout=10) as client:
        one.stop()
        two.serve(1)
        assert client.recv(100) == b"two"
    two.stop()


def test_who_has_more_takes_it_after_all_when_nobody_else_does(
    held: socket.socket, shares: tuple[port.Shares, port.Shares, IO[bytes]]
) -> None:
    """The worker with fewer connections may hang; the next one is left to it again."""
    shares[0].sync(3)
    shares[1].sync(0)
    one, two = Worker(b"one", held, shares[0]), Worker(b"two", held, shares[1])
    for served in (1, 2):
        with socket.create_connection(port.address_of(held), timeout=10) as client:
            one.serve(served)
            assert client.recv(100) == b"one"
    with socket.create_connection(port.address_of(held), timeout=10) as client:
        one.loop.run_until_complete(asyncio.sleep(0))
        two.serve(1)
        assert client.recv(100) == b"two"
    assert one.served == 2
    one.stop()
    two.stop()


def test_no_more_files_is_told_and_passes(
    held: socket.socket,
    shares: tuple[port.Shares, port.Shares, IO[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who has too many open tries again when some have ended, and keeps no core busy until then."""
    monkeypatch.setattr(port, "RETRY_S", 0.01)
    worker = Worker(b"one", held, shares[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_connection(port.address_of(held), timeout=10) as client:
        taken = [os.dup(0)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 1, hard))
        try:
            worker.loop.run_until_complete(asyncio.sleep(0.005))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            os.close(taken[0])
        assert worker.served == 0
        worker.serve(1)
        assert client.recv(100) == b"one"
    worker.stop()
    assert "no connection can be taken" in caplog.text


def test_a_loop_opens_other_ports_as_ever(shares: tuple[port.Shares, port.Shares, IO[bytes]]) -> None:
    """Only what was inherited is served at; the loop is an ordinary one else."""

    async def serve() -> int:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            return int(server.sockets[0].getsockname()[1])

    with asyncio.Runner(loop_factory=lambda: port.PortLoop((), shares[0])) as runner:
        assert runner.run(serve()) > 0
