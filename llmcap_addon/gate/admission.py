"""Admission: the ladder that a call climbs before it is refused.

The cheap bound; the counted bound; with less than wanted, where less is of use (a smaller slice of a stream, a shorter
answer where nobody limited it); and waiting, first in first out, for what others only hold.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import tzinfo
from typing import Literal

from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.ledger import Balance, Entry, Reserved, Short
from llmcap_addon.call import Call
from llmcap_addon.gate import messages
from llmcap_addon.gate.pace import FIRST_SLICE_TOKENS
from llmcap_addon.gate.runtime import Runtime, Signal
from llmcap_addon.money import Nanousd
from llmcap_addon.pricing.quote import Pricing, Quote
from llmcap_addon.wire.dialect import Refusal

MIN_SHORTENED_TOKENS = 1_024
"""An answer shortened below this is of no use to anyone: refuse instead."""
MIN_SLICE_TOKENS = FIRST_SLICE_TOKENS // 2
"""A stream is not begun for less, not even with the last of a cap: more than half of all answers are shorter, so that
most of those begun end by themselves. Each cut is posted from above, and costs somebody an answer: measured as below,
the last $2 were usable to 99.4 % with a least slice of 64 tokens, 99.5–99.9 % with 256, 99.99 % with this."""
LARGE_LIMIT_TOKENS = 16_384
"""A stated limit above this is a client's constant, not somebody's choice: coding agents state 32,000 to 64,000 for
every call. Where it does not fit it is lowered, or such a tool could never use the last dollars of a cap."""
POLL_S = 0.25
"""Releases by other processes are not signalled to us: a waiting call looks again so often."""
MAX_WAITING = 1_000
"""Calls that may wait at once; each keeps its request in memory."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user chose for calls that do not simply fit."""

    shorten: Literal["auto", "always", "never"] = "auto"
    wait_ms: int = 20_000
    on_error: Literal["refuse", "allow"] = "refuse"
    advice: str = messages.IN_CAPS_YAML
    """How to go on, for the end of a refusal's message."""
    zone: tzinfo | None = None
    """For the times in messages; None is the machine's own."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What was set aside for a call."""

    entry: Entry
    quote: Quote
    reserved: Nanousd
    output_limit: int
    """Upper bound on the answer's tokens, all choices together."""
    sliced: bool
    """True when only a slice of a stream is reserved."""


@dataclass(eq=False, slots=True)
class Waiter:
    """A call's place in the queue; those ahead that share a cap with it go first."""

    keys: frozenset[tuple[str, str]]
    """(cap key, scope) of every balance it counts against."""
    signal: Signal


@dataclass(slots=True)
class _Ask:
    """What one call wants, and what it would be content with."""

    call: Call
    entry: Entry
    quote: Quote
    wanted_tokens: int
    """Output tokens to reserve for."""
    least_tokens: int
    """Output tokens below which it is not worth beginning; equal to `wanted_tokens` when it is all or nothing."""
    sliced: bool
    counted: bool = False

    @property
    def amount(self) -> Nanousd:
        return self.quote.amount(self.wanted_tokens)


class Admission:
    """The queue before the budget, and the ladder each call climbs when its turn has come."""

    def __init__(self, budget: Budget, runtime: Runtime, on_wait: Callable[[Entry], None]) -> None:
        self._budget = budget
        self._runtime = runtime
        self._on_wait = on_wait
        self._queue: deque[Waiter] = deque()

    def wake(self) -> None:
        """Money was given back: let those who wait look again."""
        for waiter in self._queue:
            waiter.signal.set()

    async def climb(
        self, call: Call, entry: Entry, quote: Quote, pricing: Pricing, policy: Policy, is_gone: Callable[[], bool]
    ) -> Granted | Refusal:
        """Set aside what the call may cost, or say why not; raises StoreError."""
        if len(self._queue) >= MAX_WAITING:
            return messages.failure("reserved", f"refused for now, {MAX_WAITING} calls are waiting already")
        charges = self._budget.charges(call.labels(), entry.started_at_ms)
        waiter = Waiter(frozenset((charge.key, charge.scope) for charge in charges), self._runtime.signal())
        self._queue.append(waiter)
        try:
            return await self._climb(_ask(call, entry, quote, policy), pricing, policy, waiter, is_gone)
        finally:
            self._queue.remove(waiter)
            self.wake()

    async def _climb(
        self, ask: _Ask, pricing: Pricing, policy: Policy, waiter: Waiter, is_gone: Callable[[], bool]
    ) -> Granted | Refusal:
        deadline_s = self._runtime.monotonic_s() + policy.wait_ms / 1000
        while True:
            waiter.signal.clear()
            if is_gone():
                return messages.failure("internal", "the client left while its call was waiting")
            left_s = deadline_s - self._runtime.monotonic_s()
            if not self._is_first(waiter) and left_s > 0:
                await waiter.signal.wait(min(left_s, POLL_S))
                continue
            short = await self._try(ask, ask.wanted_tokens)
            if isinstance(short, Granted):
                return short
            if not ask.counted and not any(balance.posted >= balance.charge.limit for balance in short.lacking):
                await self._count(ask, pricing)
                continue
            spent = _spent(short, ask.amount)
            if spent or left_s <= 0:
                smaller = await self._try_smaller(ask, short)
                if smaller is not None:
                    return smaller
            if _spent(short, ask.quote.amount(ask.least_tokens)):
                balance = spent or short.lacking[0]
                return messages.spent(balance, ask.amount, self._runtime.now_ms(), policy.zone, policy.advice)
            if left_s <= 0:
                return messages.reserved(short.lacking[0], ask.amount, self._runtime.now_ms(), policy.zone)
            self._on_wait(ask.entry)
            await waiter.signal.wait(min(left_s, POLL_S))

    def _is_first(self, waiter: Waiter) -> bool:
        for other in self._queue:
            if other is waiter:
                return True
            if other.keys & waiter.keys:
                return False
        return True

    async def _count(self, ask: _Ask, pricing: Pricing) -> None:
        """Climb from the cheap bound to the tokenizer's, in a thread."""
        ask.counted = True
        counted = await self._runtime.in_thread(lambda: pricing.quote(ask.call, "counted"))
        if counted.amount(0) < ask.quote.amount(0):
            ask.quote = counted

    async def _try_smaller(self, ask: _Ask, short: Short) -> Granted | None:
        """Begin with what is left, if that is enough to be of use."""
        room = min(balance.remaining for balance in short.lacking)
        tokens = min(ask.quote.affordable_output_tokens(room), ask.wanted_tokens)
        if tokens < ask.least_tokens or ask.least_tokens == ask.wanted_tokens:
            return None
        if not ask.sliced:
            tokens -= tokens % ask.call.choices
        outcome = await self._try(ask, tokens)
        return outcome if isinstance(outcome, Granted) else None

    async def _try(self, ask: _Ask, tokens: int) -> Granted | Short:
        shortened = not ask.sliced and tokens < ask.wanted_tokens
        marks = ask.entry.marks | {"shortened"} if shortened else ask.entry.marks
        entry, now_ms = ask.entry, self._runtime.now_ms()
        if entry.started_at_ms != now_ms or shortened:
            # A call that waited counts in the period in which it is admitted.
            entry = replace(entry, started_at_ms=now_ms, marks=marks)
        amount = max(1, ask.quote.amount(tokens))
        outcome = await self._budget.reserve(entry, ask.call.labels(), amount)
        if isinstance(outcome, Reserved):
            limit = tokens if shortened else ask.quote.output_tokens
            return Granted(entry, ask.quote, amount, limit, ask.sliced)
        return outcome


def is_sliced(call: Call, quote: Quote) -> bool:
    """True when a call's output can be seen and stopped while it comes, so that it need not be reserved whole."""
    return call.streamed and not call.bills_after_disconnect and quote.hidden_output_tokens < quote.output_tokens


def _ask(call: Call, entry: Entry, quote: Quote, policy: Policy) -> _Ask:
    hidden, whole = quote.hidden_output_tokens, quote.output_tokens
    if is_sliced(call, quote):
        wanted = min(whole, hidden + FIRST_SLICE_TOKENS)
        return _Ask(call, entry, quote, wanted, min(wanted, hidden + MIN_SLICE_TOKENS), sliced=True)
    least = whole
    chosen = call.max_output_tokens is not None and call.max_output_tokens <= LARGE_LIMIT_TOKENS
    may_shorten = policy.shorten == "always" or (policy.shorten == "auto" and not chosen)
    if may_shorten and call.editable and call.has_output:
        least = min(whole, MIN_SHORTENED_TOKENS * call.choices)
    return _Ask(call, entry, quote, whole, least, sliced=False)


def _spent(short: Short, amount: Nanousd) -> Balance | None:
    """The balance that would not take the amount even if nobody else held a reservation, if there is one."""
    for balance in short.lacking:
        if balance.posted + amount > balance.charge.limit:
            return balance
    return None
