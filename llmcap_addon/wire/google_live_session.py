"""The turns of one Live session: which message is about which, and what must be set aside before a client's goes on.

A turn's prompt is the whole session, so each bill tells how much that is, and what a client adds is bounded as it
comes: a turn that waits grows with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from llmcap_addon.call import Call
from llmcap_addon.wire.google_live_meter import TurnReader, is_empty
from llmcap_addon.wire.google_live_request import STEP_TOKENS, Setup, asks, is_heard, updated_tools, with_tools
from llmcap_addon.wire.socket import Asks, CountOutput, Free, Stands, Told
from llmcap_addon.wire.text import JsonObject, mapping

MAX_WAITING = 16
"""Turns that were asked for and have not begun; a client that asks for more has them wait in one."""
UNTOLD = 1 << 40
"""Tokens of a session of which nobody can say how much it holds."""


@dataclass(slots=True)
class Turn:
    """One answer of the model, from what asks for it to its bill; a turn that is billed twice is two of them."""

    number: int
    read: TurnReader
    frame: bytes = field(default=b"", repr=False)
    """What is sent once it is admitted; kept no longer."""
    tokens: int = 0
    """Of the session, as of the model's last run."""
    runs: int = 1
    """How often the model may run in it: once more after each result of a function."""
    reserved: tuple[int, int] = (0, 0)
    """`tokens` and `runs` that are set aside."""
    wanted: tuple[int, int] = (0, 0)
    """The same, as last asked for."""
    has_called: bool = False
    """True while it waits for a function's result."""
    is_over: bool = False
    """True when the service said that it is through, and nothing came since."""
    call: Call | None = field(default=None, repr=False)
    """What bounds it, when it began before that was set aside."""

    def told(self, *, ended: bool = False, unused: str = "") -> Told:
        """Tell how it stands."""
        return Told(self.number, self.read.reading, ended, unused=unused, call=self.call)


class Session:
    """One session, once it is set up."""

    def __init__(self, setup: Setup, last_number: int, count: CountOutput) -> None:
        self.last_number = last_number
        self._setup = setup
        self._count = count
        self._tokens = UNTOLD if setup.tokens is None else setup.tokens
        """The most that it holds."""
        self._added = 0
        """What the client has added since the last bill."""
        self._takes_history = setup.takes_history
        self._listens = False
        """True once the service may begin a turn that nobody asks for."""
        self._asked: Turn | None = None
        """Neither admitted nor refused yet."""
        self._waiting: deque[Turn] = deque()
        """Asked for, admitted and not begun, oldest first."""
        self._standing: Turn | None = None
        """For what the service may begin by itself."""
        self._current: Turn | None = None
        self._unpaid: list[Turn] = []
        """Begun and ended before anything was set aside for them."""
        self._is_quiet = True
        """True while the client has said nothing since the current turn began."""

    # ── from the client ──

    def from_client(self, event: JsonObject, tokens: int | None, frame: bytes) -> Free | Asks:
        """Take a message that adds so many tokens (None: nobody knows how many)."""
        self._setup = with_tools(self._setup, updated_tools(event))
        self._is_quiet = False
        added = UNTOLD if tokens is None else tokens
        self._added, self._tokens = min(UNTOLD, self._added + added), min(UNTOLD, self._tokens + added)
        self._listens = self._listens or (self._setup.listens and is_heard(event))
        current = self._current
        if current is not None and current.has_called and event.get("toolResponse") is not None:
            current.has_called = False  # the turn goes on
            current.tokens, current.runs = self._tokens, current.runs + 1
            return Free()
        if not asks(event) or len(self._waiting) >= MAX_WAITING:
            return Free()
        if self._takes_history and event.get("clientContent") is not None:
            self._takes_history = False  # it ends what the conversation begins with
            return Free()
        turn = self._asked = self._turn(frame)
        return Asks(turn.number, self._call(turn))

    def stand(self) -> Stands | None:
        """Say what must be set aside: what waits or runs and has grown, and what the service may begin by itself."""
        for turn in self._known():
            if any(needed > has for needed, has in zip(self._needed(turn), turn.reserved, strict=True)):
                return Stands(turn.number, self._call(turn))
        if self._listens and self._standing is None:
            self._standing = self._turn()
            return Stands(self._standing.number, self._call(self._standing))
        return None

    def admit(self, number: int) -> bytes:
        """Take note that a turn is paid for, as it was last asked for; gives the message to send."""
        asked, self._asked = self._asked, None
        if asked is not None and asked.number == number:
            self._waiting.append(asked)
        else:
            self._asked = asked
        for turn in self._known():
            if turn.number == number:
                turn.reserved = turn.wanted
                frame, turn.frame = turn.frame, b""
                self._unpaid = [one for one in self._unpaid if one is not turn]
                return frame
        return b""

    def refuse(self, number: int) -> None:
        """Take note that nothing, or nothing more, is set aside for a turn: it is not asked for again."""
        if self._asked is not None and self._asked.number == number:
            self._asked = None
        else:
            self.admit(number)

    def _known(self) -> Iterator[Turn]:
        yield from tuple(self._unpaid)
        yield from (turn for turn in (self._current, *self._waiting, self._standing) if turn is not None)

    def _turn(self, frame: bytes = b"") -> Turn:
        self.last_number += 1
        call = self._setup.turn(None, 1)
        return Turn(self.last_number, TurnReader(call, lambda text: self._count(call, text)), frame)

    def _call(self, turn: Turn) -> Call:
        turn.wanted = self._needed(turn)
        return self._bounded(*turn.wanted)

    def _bounded(self, tokens: int, runs: int) -> Call:
        return self._setup.turn(None if tokens >= UNTOLD else tokens, runs)

    def _needed(self, turn: Turn) -> tuple[int, int]:
        tokens = turn.tokens or self._tokens
        if self._setup.is_open:
            tokens = UNTOLD
        if self._setup.window is not None:
            tokens = min(tokens, self._setup.window)
        return min(UNTOLD, -(-tokens // STEP_TOKENS) * STEP_TOKENS), turn.runs

    # ── from the service ──

    def unread(self, frame: bytes) -> tuple[Told, ...]:
        """Take a message that can't be read: it may have been of a turn, and its bill."""
        turn = self._current or self._begin()
        turn.read.take_unread(frame)
        return (turn.told(),)

    def from_server(self, message: JsonObject) -> tuple[Told, ...]:
        """Take a message of the service."""
        content = mapping(message.get("serverContent"))
        speaks = bool(content.get("modelTurn") or message.get("toolCall"))
        bill = message.get("usageMetadata")
        told: list[Told] = []
        current = self._current
        if speaks and current is not None and self._has_ended(current):
            told.append(self._end(current))
            current = None
        if is_empty(bill) and not (speaks if current is None else not current.read.is_billed):
            bill = None
        if current is None:
            if not speaks and bill is None:
                return ()  # a transcript, the end of playing, a warning …
            current = self._begin()
            current.is_over = not speaks
        elif speaks:
            current.is_over = False
        current.has_called = current.has_called or bool(message.get("toolCall"))
        current.read.take_content(message)
        if bill is not None:
            is_whole = current.read.take_usage(bill)
            self._tokens, self._added = min(UNTOLD, current.read.total + self._added) if is_whole else UNTOLD, 0
        current.is_over = current.is_over or bool(content.get("turnComplete") or content.get("interrupted"))
        self._listens = self._listens or content.get("interactionStatus") == "IN_PROGRESS"
        if not (current.read.is_billed and (current.is_over or current.has_called)):
            return (*told, current.told())
        told.append(self._end(current))
        if current.is_over and self._is_quiet:
            told += [turn.told(ended=True, unused="no answer came of it") for turn in self._waiting]
            self._waiting.clear()
        return tuple(told)

    def _has_ended(self, turn: Turn) -> bool:
        """Tell whether what is answered now is another turn's: behind a bill, or if something was said since."""
        return turn.read.is_billed or (turn.is_over and bool(self._waiting or self._standing))

    def _begin(self) -> Turn:
        """Find what was set aside for a turn that begins; if the service was faster than the ledger, it will be."""
        if self._waiting:
            turn = self._waiting.popleft()
        elif self._standing is not None:
            turn, self._standing = self._standing, None
        else:
            turn = self._turn()
        self._current = turn
        turn.tokens = self._tokens
        turn.call = self._bounded(*self._needed(turn)) if turn.reserved == (0, 0) else None
        self._is_quiet = True
        return turn

    def _end(self, turn: Turn) -> Told:
        turn.read.end()
        self._current = None
        if not turn.read.is_billed:
            self._tokens = UNTOLD  # until the next bill
        if turn.reserved == (0, 0):
            self._unpaid.append(turn)
        return turn.told(ended=True)
