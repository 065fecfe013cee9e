"""The ledger: what a store must do, and every transition a reservation can make.

A call's money moves in two phases. `reserve` sets its bound aside (pending) or refuses; `extend` sets more aside while
a stream runs; then exactly one of `settle` (post what it cost, release the rest), `void` (nothing was billed) or
`expire` (nobody will settle it any more: post all that was reserved) ends it. The reserve step may refuse, the settle
step never. Where the bill comes with the answer to a later request, perhaps through another process, `defer` takes the
reservation from its process first, and what is needed to settle it then is kept by `remember`.

    state     reserve   extend    settle   void     defer     expire   post
    –         pending   0         no-op    no-op    no-op     –        posted
    pending   as it is  pending   posted   voided   deferred  posted   posted (as settle)
    deferred  as it is  deferred  posted   voided   deferred  posted   posted (as settle)
    posted    error     0         no-op    no-op    no-op     no-op    no-op
    voided    error     0         no-op    no-op    no-op     no-op    no-op
    expired   error     0         posted   no-op    no-op     no-op    posted (as settle)
    refused   (a row of its own, written by `record_refusal`; it never held money)

"pending" expires with its process, "deferred" at the time that was set, whoever lives or dies. "deferred" is read back
as pending, "expired" as posted; a settlement that comes after all corrects it upwards, never downwards.

What must hold after every operation, in every store: for each balance `posted + pending ≤ limit` at each admission and
extension that was asked with its charge, and posted and pending equal the sums over all the ledger's rows that match it
and began in its period. *All*: a process with other caps (or with none) adds to the balances it does not know of,
unchecked, so that a cap that is taken out and put back, or is kept by another process, has missed nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from llmcap_addon.money import Nanousd
from llmcap_addon.usage import Usage

LEASE_MS = 30_000
"""How long a process may be silent before its reservations are posted in full, where its death can't be seen at once:
long enough for a stalled event loop, short enough that a crash does not hold a cap for long."""
HEARTBEAT_MS = 10_000
"""How often to call `heartbeat`: two may be missed."""
MAX_AMOUNT = 2**53 - 1
"""The most one amount may be, $9 million: what every store (Redis' Lua has doubles) counts exactly."""
MAX_NOTE_BYTES = 4_096
"""The most one note may be, its key included: it names a call and what it costs, in about 500 bytes."""
MAX_NOTES = 50_000
"""Notes kept, at each heartbeat; beyond these the ones that end soonest are dropped. Both bounds together are 200 MB at
the very most, in practice 25. Who has lost its note stays reserved until it expires: too much is counted, not too
little."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One balance that a call counts against: a cap, for one scope, in one period, with the limit of the moment."""

    cap: str
    """The cap's name, for people."""
    key: str
    """The cap's identity: its name and a digest of what it counts (match, each, per), not of its limit."""
    scope: str
    """The labels' values that the cap counts apart: one value as it is, several as a JSON list; empty when it counts
    all together."""
    period: str
    """The period's identity: its kind and its start ("day:1763852400000", "ever:0", "run:…")."""
    starts_at_ms: int
    """Unix time in milliseconds; calls begun before it are not of this period."""
    resets_at_ms: int | None
    limit: Nanousd
    match: tuple[tuple[str, str], ...] = ()
    """What it counts, as (label, glob), the scope's own labels included: to find the rows of a new balance.

    A row matches when for each label that occurs here one of that label's globs matches its value, case-sensitively.
    The labels are host, provider, model, client, billing and, for caps per run, run. A match that says nothing of
    billing counts what is paid by the token only (`matching.by_label`).
    """


@dataclass(frozen=True, slots=True)
class Balance:
    """What a cap holds for one scope and period."""

    charge: Charge
    posted: Nanousd
    pending: Nanousd

    @property
    def remaining(self) -> Nanousd:
        """Limit minus posted and pending; never below 0."""
        return max(0, self.charge.limit - self.posted - self.pending)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a ledger row says of a call when it begins. Holds no prompt, no completion, no key."""

    id: str
    started_at_ms: int
    host: str
    provider: str
    model: str
    client: str
    dialect: str
    streamed: bool
    marks: frozenset[str] = frozenset()
    """Of `MARKS`."""
    run: str = ""
    """The run of the proxy it belongs to; `Budget` fills it in."""
    billing: str = "api"
    """"api" for what is paid by the token, "plan" for a subscription's traffic, whose cost is notional."""


MARKS = ("estimated", "cut", "overrun", "assumed", "shortened", "expired", "failed", "unreserved", "billed", "deferred")
"""What a row may be marked with: counted by us from above, cut at the cap, cost more than was reserved, priced with
an assumed card, sent with a lowered answer limit, posted in full because nobody could settle it any more, ended in the
provider's error, sent or carried on without a reservation because the store failed and `on_error: allow` is set, priced
by the provider itself, which said what it billed, or still to be billed, with the answer to a later request."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a call ended."""

    cost: Nanousd
    usage: Usage
    settled_at_ms: int
    marks: frozenset[str] = frozenset()
    """Added to the entry's; `overrun` is added by the store when cost exceeds what was reserved."""
    status: int = 0
    """The response's HTTP status; 0 when there was none."""
    model: str = ""
    """The model the response named, when it differs."""
    note: str = ""
    """One line for people: why it was estimated, what the provider's error was called."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """The money is set aside."""

    balances: tuple[Balance, ...]


@dataclass(frozen=True, slots=True)
class Short:
    """The money does not fit; nothing was changed."""

    balances: tuple[Balance, ...]
    """Every balance the call counts against, as they stand."""
    lacking: tuple[Balance, ...]
    """Those of them it does not fit in; at least one."""


@dataclass(frozen=True, slots=True)
class Row:
    """One ledger row, read back."""

    entry: Entry
    state: str
    """"pending", "posted", "voided" or "refused"."""
    reserved: Nanousd
    """Set aside now; 0 once it has ended."""
    cost: Nanousd
    """Posted; 0 while pending."""
    usage: Usage = field(default_factory=Usage)
    marks: frozenset[str] = frozenset()
    status: int = 0
    settled_at_ms: int | None = None
    note: str = ""
    caps: tuple[str, ...] = ()
    """Names of the caps it was charged to (for a refused call: that refused it)."""


class Store(Protocol):
    """Where balances and rows live. Every method is one atomic operation; all raise StoreError when it can't be done.

    Methods are coroutines because a store may be a network away; none blocks the event loop.
    """

    async def reserve(self, entry: Entry, charges: Sequence[Charge], amount: Nanousd) -> Reserved | Short:
        """Set `amount` (1 … `MAX_AMOUNT`) aside in every charge's balance and write the pending row, or change nothing.

        A balance seen for the first time is first made from the rows of its period that match it, pending ones too,
        so that a cap that is new, renamed or changed counts what was already spent. No charges: always Reserved.
        An id that is pending already is answered again; one that has ended raises ValueError. A caller cancelled
        while it waits leaves nothing reserved.
        """
        ...

    async def extend(self, entry_id: str, charges: Sequence[Charge], amount: Nanousd, at_least: Nanousd) -> Nanousd:
        """Set up to `amount` more aside in all the balances of a pending call; gives what was granted.

        All of `amount` if it fits under every one of `charges` (the caps of this moment, for the call's own start),
        else what fits if that is at least `at_least` (> 0), else 0 and nothing changes. A charge that the row does not
        have yet (a cap added since) is first made as in `reserve`. 0 for a call that is not pending.
        """
        ...

    async def settle(self, entry_id: str, settlement: Settlement) -> bool:
        """Post the cost and release the rest, whatever the limits are; False if it had ended before (nothing changes).

        A row that expired meanwhile is corrected upwards when the cost is higher, never downwards. A cost above
        `MAX_AMOUNT` is posted as that.
        """
        ...

    async def post(self, entry: Entry, charges: Sequence[Charge], settlement: Settlement) -> bool:
        """Write the row of a call that went out without a reservation, whatever the limits are; else as `settle`.

        For `on_error: allow`, once the store is back.
        """
        ...

    async def void(self, entry_id: str, settled_at_ms: int, status: int, note: str) -> bool:
        """Release all: nothing was billed. False if it had ended before."""
        ...

    async def defer(self, entry_id: str, until_ms: int) -> bool:
        """Keep a pending call reserved until a time, whatever becomes of its process; False if it is not pending.

        Its row is marked "deferred" until it is settled or voided, which any process may do. At its time it expires.
        """
        ...

    async def remember(self, key: str, value: str, until_ms: int) -> None:
        """Keep a note until a time, for all processes; one of that key is replaced. No prompt, no completion, no key.

        Raises ValueError above `MAX_NOTE_BYTES`. There are `MAX_NOTES` at most: a note may be gone before its time.
        """
        ...

    async def recall(self, key: str, now_ms: int) -> str | None:
        """Read a note; None when there is none, or its time has passed."""
        ...

    async def record_refusal(self, entry: Entry, caps: Sequence[str], note: str) -> None:
        """Write the row of a call that was not forwarded; nothing changes when there is a row of that id."""
        ...

    async def balances(self, charges: Sequence[Charge]) -> tuple[Balance, ...]:
        """Read how these balances stand; one never seen is worked out from the rows, and nothing is written."""
        ...

    async def seen(self, key: str, period: str) -> tuple[Balance, ...]:
        """Read the balances of every scope that a cap has seen in a period; their charges' limit is 0."""
        ...

    async def rows(self, since_ms: int = 0, limit: int | None = None) -> tuple[Row, ...]:
        """Read rows begun at or after a time, oldest first; with `limit`, the newest so many."""
        ...

    async def heartbeat(self, now_ms: int) -> int:
        """Renew this process's lease, and expire what dead processes hold and what was deferred until now.

        Gives how many reservations expired. Dead is whose lease is over, or at once where the store can see it. Notes
        whose time has passed are dropped.
        """
        ...

    async def close(self) -> None:
        """Give up the lease and all handles; what is pending expires, for nobody can settle it now, unless deferred."""
        ...
