"""What a dialect over a websocket offers: frames → calls and readings, refusals and cuts → frames.

Over one connection run many responses, one after the other or several at a time. A `SocketTalk` knows which frame is
about which of them and gives each a number of its own; whether one may begin, and for how long it may go on, is decided
elsewhere. Pure, as all of wire/: no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from llmcap_addon.call import Call
from llmcap_addon.usage import Reading
from llmcap_addon.wire.dialect import Refusal, RefusalKind, Request, Target
from llmcap_addon.wire.text import JsonObject

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""The largest message that is read: above a whole context window with its images."""

type CountOutput = Callable[[Call, str], int]
"""Counts the tokens of one piece of a call's output, from above; handed in, so that wire/ knows no tokenizer."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a client's frame says by itself, whatever came before it."""

    data: bytes = field(repr=False)
    event: JsonObject = field(default_factory=dict, repr=False)
    call: Call | None = None
    """Of the response that it asks for."""
    why_not: str = ""
    """Why it can't be understood."""
    close_code: int = 0


@dataclass(frozen=True, slots=True)
class Free:
    """A client's frame that asks for nothing: it goes on as it came."""

    number: int = 0
    """Of what stands, when it is begun by this."""


@dataclass(frozen=True, slots=True)
class Asks:
    """A client's frame that makes the provider begin a response: it goes on once `call` is admitted."""

    number: int
    call: Call


@dataclass(frozen=True, slots=True)
class Denied:
    """A client's frame that can't be bounded, so it does not go on."""

    number: int
    kind: RefusalKind
    reason: str
    close_code: int = 0
    """With which the connection ends too (RFC 6455, 7.4.1); 0 lets it go on."""


@dataclass(frozen=True, slots=True)
class Stands:
    """What the provider may begin by itself, with no frame that asks for it: what it may cost is set aside before."""

    number: int
    call: Call
    """Of a number that was admitted before: as it has grown."""
    billed_at_once: bool = False
    """True when what goes out is billed from then on, whether the provider says that it has begun or not."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a server's frame says about one response."""

    number: int
    """May be that of what `SocketTalk.stand` gives only next, when the provider was faster than the ledger."""
    reading: Reading
    """Grows with the response: always the same object."""
    ended: bool = False
    status: int = 200
    """An HTTP status from 400 when the provider refused to begin."""
    unused: str = ""
    """Why what was asked for will never begin; then nothing was billed."""
    unasked: Call | None = None
    """Set when the provider began by itself a response that nobody was admitted for."""
    call: Call | None = field(default=None, compare=False, repr=False)
    """What bounds it, where it may have begun before it was set aside."""


class SocketTalk(Protocol):
    """One connection's frames, in the order in which they pass; never raises for what either side sends."""

    def read(self, frame: bytes, *, is_text: bool) -> Said:
        """Read a client's frame. Changes nothing, so that a long one can be read in a thread."""
        ...

    def from_client(self, said: Said) -> Free | Asks | Denied:
        """Take a client's frame in its turn; what it asks for is known by its number until `admit` or `refuse`."""
        ...

    def stand(self) -> Stands | None:
        """Say what must be set aside before a client's frame goes on, because the provider may begin it by itself.

        Asked whenever a client's frame was taken, and when a response began or ended; again until it gives None. The
        answer is `admit` or `refuse`, also for one that has grown; when refused the connection ends with what runs.
        """
        ...

    def quiet(self) -> bytes:
        """Give the frame, in the client's name, that keeps the provider from beginning anything; empty without one."""
        ...

    def admit(self, number: int, output_limit: int, max_output_tokens: int | None) -> bytes:
        """Give the frame to send for an admitted call; limited to `max_output_tokens` when that is not None.

        `output_limit` is the most that the answer can have, in tokens. For what stands it is empty, or what limits it.
        """
        ...

    def refuse(self, number: int, refusal: Refusal, status: int) -> bytes:
        """Give the frame that tells the client why its own does not go on."""
        ...

    def from_server(self, frame: bytes, *, is_text: bool) -> tuple[Told, ...]:
        """Read a server's frame: what it says, and about which responses; nothing when it is about none."""
        ...

    def cut(self, number: int, refusal: Refusal) -> bytes:
        """Give the client's last frame of a response that is cut."""
        ...


class SocketDialect(Protocol):
    """One protocol over a websocket."""

    name: str

    def open(self, request: Request, target: Target, client: str, count: CountOutput) -> SocketTalk:
        """Begin a connection; `request` is its opening handshake. Raises UnreadableRequest."""
        ...
