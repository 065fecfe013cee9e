"""Sockets that several processes take connections from."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

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
    close(*sockets)
    number = addresses[0][1]
    assert addresses == [("::1", number), ("127.0.0.1", number)]
    assert port.modes(()) == ()


def test_an_address_that_is_not_here_is_left_out_when_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without IPv6 may name ::1 all the same; an address of TEST-NET-1 (RFC 5737) is nobody's."""
    standing_for(monkeypatch, "192.0.2.1", "127.0.0.1")
    sockets = port.listen("localhost", 0)
    assert [port.address_of(one)[0] for one in sockets] == ["127.0.0.1"]
    close(*sockets)
    standing_for(monkeypatch, "192.0.2.1")
    with pytest.raises(LLMCapError, match=r"can't listen at elsewhere:0"):
        port.listen("elsewhere", 0)


def test_two_loops_serve_at_one_socket_and_one_may_go() -> None:
    """Each has the socket from its number; what is queued is left for the other when one ends."""
    [held] = port.listen("127.0.0.1", 0)
    host, number = port.address_of(held)
    answers: list[bytes] = []

    async def serve_one(name: bytes, connect: bool) -> None:
        done = asyncio.Event()

        async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(name)
            writer.close()
            done.set()

        server = await asyncio.start_server(answer, host, number)
        if connect:
            await asyncio.wait_for(done.wait(), 10)
        server.close()

    def run(name: bytes, connect: bool) -> None:
        inherited = port.inherit([os.dup(held.fileno())])
        assert port.modes(inherited) == (f"regular@127.0.0.1:{number}",)
        with asyncio.Runner(loop_factory=lambda: port.PortLoop(inherited)) as runner:
            runner.run(serve_one(name, connect))

    run(b"first", connect=False)
    with socket.create_connection((host, number), timeout=10) as client:
        run(b"second", connect=True)
        answers.append(client.recv(100))
    close(held)
    assert answers == [b"second"]


def test_a_loop_opens_other_ports_as_ever() -> None:
    """Only what was inherited is served at; the loop is an ordinary one else."""

    async def serve() -> int:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            return int(server.sockets[0].getsockname()[1])

    with asyncio.Runner(loop_factory=lambda: port.PortLoop(())) as runner:
        assert runner.run(serve()) > 0
