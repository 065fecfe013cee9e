"""The load of the speed benchmarks: calls on kept-alive connections, through CONNECT and TLS, as little work as possible.

`python -m tests.bench.speed.load` reads a `Load` as one line of JSON, warms up, prints "ready", waits for a line, runs,
and prints a `Result` as one line of JSON. One thread, blocking only while a request is written.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal

from tests.bench.speed import talk

READ_BYTES = 65_536
TIMEOUT_S = 30.0
"""The longest that nothing may happen: then what is measured hangs."""

type Way = Literal["direct", "connect", "plain"]
"""TLS to the upstream itself, TLS through a proxy's CONNECT, or HTTP without TLS to a gateway."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to send, and where."""

    way: Way
    port: int
    ca: str
    """File of the authority that the client trusts."""
    calls: int
    """Over all connections; with `seconds`, at most so many."""
    connections: int = 1
    warm_up: int = 20
    """Calls before the measured ones, over all connections."""
    stream: str = ""
    """`talk.Stream.header`; empty: answers in one piece."""
    warm_stream: str = ""
    """The same for the calls that warm up; empty: as the others."""
    prompt_bytes: int = 600
    model: str = talk.MODEL
    key: str = talk.KEY
    seconds: float = 0.0
    """When it is over, no further call is begun; 0: when all calls are made."""


@dataclass(slots=True)
class Result:
    """What the client saw; times in nanoseconds."""

    calls: int = 0
    failed: int = 0
    """Answers other than 200."""
    failure: str = ""
    """The first of them."""
    elapsed_ns: int = 0
    cpu_ns: int = 0
    """This process's own."""
    latencies: list[int] = field(default_factory=list)
    """From a request's first byte to the end of its answer."""
    first_bytes: list[int] = field(default_factory=list)
    """From a request's first byte to the first event of its stream."""
    delays: list[int] = field(default_factory=list)
    """Of each event, from when it was sent upstream until it was here."""
    merged: int = 0
    """Events that came in one chunk of HTTP with the one before."""
    received_bytes: int = 0


class Connection:
    """One connection and the call on it."""

    def __init__(self, load: Load, seed: int) -> None:
        self.socket = _connect(load)
        self._load = load
        self._seed = seed
        self._request = bytearray()
        self._number_at = 0
        self._calls = 0
        self._buffer = bytearray()
        self._begun_ns = 0
        self._left: int | None = None
        """Bytes of the answer that have not come; None while its head has not come, -1 in chunks."""
        self._has_event = False

    def prepare(self, stream: str) -> None:
        """Make the request of the calls that follow."""
        paced = talk.Stream.read(stream.encode()) if stream else None
        load = self._load
        self._request[:] = talk.request(paced, load.prompt_bytes, model=load.model, seed=self._seed, key=load.key)
        self._number_at = self._request.index(talk.CALL_MARK) + len(talk.CALL_MARK) - talk.CALL_DIGITS

    def send(self) -> None:
        """Begin a call."""
        self._buffer.clear()
        self._left = None
        self._has_event = False
        self._calls += 1
        self._request[self._number_at : self._number_at + talk.CALL_DIGITS] = b"%0*d" % (talk.CALL_DIGITS, self._calls)
        self._begun_ns = time.monotonic_ns()
        self.socket.setblocking(True)
        self.socket.sendall(self._request)
        self.socket.setblocking(False)

    def read(self, result: Result) -> bool:
        """Take what has come; True when the answer is whole."""
        while True:
            try:
                data = self.socket.recv(READ_BYTES)
            except (ssl.SSLWantReadError, BlockingIOError):
                return False
            if not data:
                raise ConnectionError("closed in the middle of an answer")
            result.received_bytes += len(data)
            self._buffer += data
            if self._take(result, time.monotonic_ns()):
                result.calls += 1
                result.latencies.append(time.monotonic_ns() - self._begun_ns)
                return True

    def _take(self, result: Result, now_ns: int) -> bool:
        if self._left is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(self._buffer[:end]).lower()
            del self._buffer[: end + 4]
            if not head.startswith(b"http/1.1 200"):
                result.failed += 1
                result.failure = result.failure or (head + b"\n" + bytes(self._buffer)).decode(errors="replace")
            self._left = -1 if b"transfer-encoding: chunked" in head else _length(head)
        if self._left >= 0:
            return len(self._buffer) >= self._left
        for piece in self._chunks():
            if not piece:
                return True
            stamps = talk.stamps(piece)
            if not stamps:
                continue
            if not self._has_event:
                self._has_event = True
                result.first_bytes.append(now_ns - self._begun_ns)
            result.delays += [now_ns - stamp for stamp in stamps]
            result.merged += len(stamps) - 1
        return False

    def _chunks(self) -> Iterator[bytes]:
        """Give the chunks that are whole; the last one of an answer is empty."""
        at = 0
        try:
            while True:
                line = self._buffer.find(b"\r\n", at)
                if line < 0:
                    return
                size = int(self._buffer[at:line], 16)
                end = line + 2 + size + 2
                if len(self._buffer) < end:
                    return
                at = end
                yield bytes(self._buffer[line + 2 : end - 2])
        finally:
            del self._buffer[:at]


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return int(value)
    raise ConnectionError("an answer without a length")


def _connect(load: Load) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", load.port), timeout=TIMEOUT_S)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if load.way == "plain":
        return plain
    if load.way == "connect":
        plain.sendall(f"CONNECT {talk.HOST}:443 HTTP/1.1\r\nHost: {talk.HOST}:443\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            data = plain.recv(READ_BYTES)
            if not data:
                raise ConnectionError("closed on CONNECT")
            answer += data
        if not answer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"CONNECT: {answer.decode(errors='replace')}")
    context = ssl.create_default_context(cafile=load.ca)
    context.set_alpn_protocols(["http/1.1"])
    return context.wrap_socket(plain, server_hostname=talk.HOST)


def drive(connections: list[Connection], calls: int, seconds: float) -> Result:
    """Keep every connection busy until so many calls are made, or so many seconds are over."""
    result = Result()
    begun_ns, cpu_ns = time.monotonic_ns(), time.process_time_ns()
    until_ns = begun_ns + round(seconds * 1e9)
    with selectors.DefaultSelector() as selector:
        started = 0
        for connection in connections[:calls]:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send()
            started += 1
        while selector.get_map():
            ready = selector.select(TIMEOUT_S)
            if not ready:
                raise TimeoutError(f"nothing came for {TIMEOUT_S:g} s")
            for key, _ in ready:
                one: Connection = key.data
                if not one.read(result):
                    continue
                if started < calls and (not seconds or time.monotonic_ns() < until_ns):
                    started += 1
                    one.send()
                else:
                    selector.unregister(one.socket)
    result.elapsed_ns = time.monotonic_ns() - begun_ns
    result.cpu_ns = time.process_time_ns() - cpu_ns
    return result


def main() -> None:
    """Run the load that standard input describes."""
    load = Load(**json.loads(sys.stdin.readline()))
    connections = [Connection(load, seed) for seed in range(load.connections)]
    for connection in connections:
        connection.prepare(load.warm_stream or load.stream)
    warm = drive(connections, load.warm_up, 0.0)
    if warm.failed:
        raise SystemExit(f"a call failed while warming up:\n{warm.failure}")
    for connection in connections:
        connection.prepare(load.stream)
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    print(json.dumps(asdict(drive(connections, load.calls, load.seconds))), flush=True)


if __name__ == "__main__":
    main()
