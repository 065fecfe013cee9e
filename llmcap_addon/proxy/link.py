"""Link: what a worker tells its supervisor, as JSON lines through a pipe.

A call's newest line takes the place of those before it, so what is sent grows with the calls and not with the chunks of
their streams. The worker never waits for the supervisor: what it does not take is kept, up to a bound, and the caps
don't rest on it, for the ledger is written by the worker itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from llmcap_addon.activity import KEPT_LABEL_CHARS, CallLine
from llmcap_addon.unclaimed import UnclaimedPath
from llmcap_addon.view.console import Notice

FLUSH_S = 0.1
"""How often calls are told of: a person follows no faster."""
LOOK_FLUSHES = 5
"""Notices and unmetered paths are looked at every so many flushes."""
MAX_UNTOLD_CALLS = 20_000
"""Calls kept for a supervisor that does not read (stopped with Ctrl-Z, say); the oldest are forgotten beyond it."""
MAX_BUFFER_BYTES = 256 << 10
"""What is made ready to be written at once, and a pipe holds 64 KB."""
MAX_LINE_BYTES = 1 << 20
"""The longest line there can be is the list of 500 unmetered paths: 200 KB."""
MAX_MESSAGE_CHARS = 2_000
"""A refusal's message has about 300."""
LAST_WORDS_S = 2.0
"""How long the end of a worker waits for its supervisor to take what is left."""


@dataclass(frozen=True, slots=True)
class Up:
    """The worker takes connections."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The worker could not start."""

    message: str
    of_config: bool
    """True when caps.yaml is wrong."""


@dataclass(frozen=True, slots=True)
class Lost:
    """So many calls were not told of."""

    calls: int


@dataclass(frozen=True, slots=True)
class Notices:
    """What stands on top of the console, as this worker sees it."""

    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class Paths:
    """What nothing meters, of all that this worker has seen."""

    paths: tuple[UnclaimedPath, ...]


type Told = CallLine | Notices | Paths | Up | Failed | Lost

_LINE_NAMES = tuple(field.name for field in fields(CallLine) if field.name != "marks")
_PATH_NAMES = tuple(field.name for field in fields(UnclaimedPath))


def _call(line: CallLine) -> bytes:
    values = {name: getattr(line, name) for name in _LINE_NAMES}
    return _encoded("call", {**values, "marks": sorted(line.marks)})


def _encoded(kind: str, value: object) -> bytes:
    return json.dumps({kind: value}, separators=(",", ":")).encode() + b"\n"


_DECODERS: dict[str, Callable[[Any], Told]] = {
    "call": lambda value: CallLine(**{**value, "marks": frozenset(value["marks"])}),
    "notices": lambda value: Notices(tuple(Notice(text, level) for text, level in value)),
    "paths": lambda value: Paths(tuple(UnclaimedPath(**one) for one in value)),
    "up": lambda _: Up(),
    "failed": lambda value: Failed(*value),
    "lost": Lost,
}


def decode(line: bytes) -> Told | None:
    """Read one line of a worker; None for one that was torn by the worker's death."""
    try:
        [(kind, value)] = json.loads(line).items()
        return _DECODERS[kind](value)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


class Link:
    """The worker's end: keeps what is to be told, and writes it to a pipe without ever waiting."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)
        self._calls: dict[str, CallLine] = {}
        self._lost = 0
        self._buffer = bytearray()
        self._notices: tuple[Notice, ...] = ()
        self._paths: tuple[UnclaimedPath, ...] = ()
        self._is_broken = False

    def call(self, line: CallLine) -> None:
        """Tell of a call; hand it to `Activity.subscribe`."""
        cut = KEPT_LABEL_CHARS
        self._calls.pop(line.id, None)
        self._calls[line.id] = replace(
            line,
            client=line.client[:cut],
            host=line.host[:cut],
            provider=line.provider[:cut],
            model=line.model[:cut],
            message=line.message[:MAX_MESSAGE_CHARS],
        )
        if len(self._calls) > MAX_UNTOLD_CALLS:
            del self._calls[next(iter(self._calls))]
            self._lost += 1

    def notices(self, notices: tuple[Notice, ...]) -> None:
        """Tell what stands on top of the console, if that has changed."""
        if notices != self._notices:
            self._notices = notices
            self._buffer += _encoded("notices", [(one.text[:MAX_MESSAGE_CHARS], one.level) for one in notices])

    def paths(self, paths: tuple[UnclaimedPath, ...]) -> None:
        """Tell which paths nothing meters, if that has changed."""
        if paths != self._paths:
            self._paths = paths
            self._buffer += _encoded("paths", [{name: getattr(one, name) for name in _PATH_NAMES} for one in paths])

    def up(self) -> None:
        """Tell that connections are taken."""
        self._buffer += _encoded("up", None)
        self.flush()

    def failed(self, message: str, *, of_config: bool) -> None:
        """Tell why it could not start."""
        self._buffer += _encoded("failed", [message[:MAX_MESSAGE_CHARS], of_config])

    async def tell_for_ever(
        self, notices: Callable[[], tuple[Notice, ...]], paths: Callable[[], tuple[UnclaimedPath, ...]]
    ) -> None:
        """Tell now and then how things stand."""
        flushes = 0
        while True:
            await asyncio.sleep(FLUSH_S)
            flushes += 1
            if flushes % LOOK_FLUSHES == 0 and len(self._buffer) < MAX_BUFFER_BYTES:
                self.notices(notices())
                self.paths(paths())
            self.flush()

    def flush(self) -> bool:
        """Write what the pipe takes; gives whether that was all."""
        while not self._is_broken:
            self._fill()
            if not self._buffer:
                return True
            try:
                del self._buffer[: os.write(self._descriptor, self._buffer)]
            except BlockingIOError:
                return False
            except OSError:  # the supervisor is gone, and this worker will soon follow
                self._is_broken = True
        self._calls.clear()
        self._buffer.clear()
        return True

    def close(self) -> None:
        """Write all that is left, waiting a moment for it to be taken."""
        while not self.flush():
            if not select.select([], [self._descriptor], [], LAST_WORDS_S)[1]:
                return

    def _fill(self) -> None:
        if self._lost and len(self._buffer) < MAX_BUFFER_BYTES:
            self._buffer += _encoded("lost", self._lost)
            self._lost = 0
        while self._calls and len(self._buffer) < MAX_BUFFER_BYTES:
            self._buffer += _call(self._calls.pop(next(iter(self._calls))))


async def lines_of(stream: asyncio.StreamReader, take: Callable[[bytes], None]) -> None:
    """Hand on every line of a worker's output until it ends; of one that is too long only its end."""
    rest = b""
    while data := await stream.read(MAX_BUFFER_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            take(line)
        rest = rest[-MAX_LINE_BYTES:]
    if rest:
        take(rest)
