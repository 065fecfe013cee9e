"""The gate: one call's whole life, admit → meter → settle.

No I/O and no mitmproxy here: time, ids, the store and the prices are handed in, so that it can be driven without a
socket. `admit` climbs the ladder before it refuses: the cheap bound, the counted bound, what others hold (wait), what
nobody limited (shorten). Everything that fails ends in a refusal, unless the user chose `on_error: allow`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from typing import Literal

from llmcap_addon import messages
from llmcap_addon.activity import CallLine
from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.ledger import Balance, Charge, Entry, Reserved, Settlement, Short
from llmcap_addon.call import Call
from llmcap_addon.errors import PriceError, StoreError
from llmcap_addon.live import FIRST_SLICE_TOKENS, MIN_MARGIN_TOKENS, LiveCall, Step, Void
from llmcap_addon.money import Nanousd
from llmcap_addon.pricing.quote import Pricing, Quote
from llmcap_addon.runtime import Runtime, Signal
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import Refusal

MIN_SHORTENED_TOKENS = 1_024
"""An answer shortened below this is of no use to anyone: refuse instead."""
MIN_SLICE_TOKENS = 4 * MIN_MARGIN_TOKENS
"""A stream is not begun for less: its margin alone would cut it."""
POLL_S = 0.25
"""Releases by other processes are not signalled to us: a waiting call looks again so often."""
MAX_WAITING = 1_000
"""Calls that may wait at once; each keeps its request in memory."""
MAX_UNWRITTEN = 10_000
"""Settlements kept for a store that fails; past it their reservations stay pending until they expire, in full."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user chose for calls that do not simply fit."""

    shorten: Literal["auto", "always", "never"] = "auto"
    wait_ms: int = 20_000
    on_error: Literal["refuse", "allow"] = "refuse"
    zone: tzinfo | None = None
    """For the times in messages; None is the machine's own."""


@dataclass(eq=False, slots=True)
class _Waiter:
    """A call in the queue; those ahead that share a cap with it go first."""

    keys: frozenset[tuple[str, str]]
    signal: Signal


@dataclass(slots=True)
class _Ask:
    """What one admission wants, and what it would be content with."""

    quote: Quote
    wanted_tokens: int
    """Output tokens to reserve for."""
    least_tokens: int
    """Output tokens below which it is not worth beginning; equal to `wanted_tokens` when it is all or nothing."""
    sliced: bool
    counted: bool = False
    keys: frozenset[tuple[str, str]] = field(default_factory=frozenset)

    @property
    def amount(self) -> Nanousd:
        return self.quote.amount(self.wanted_tokens)


class Gate:
    """Admits calls, keeps those in flight, and writes down how they ended."""

    def __init__(
        self,
        *,
        budget: Budget,
        pricing: Pricing,
        policy: Policy,
        runtime: Runtime,
        new_id: Callable[[], str],
        on_change: Callable[[CallLine], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self.budget = budget
        self.pricing = pricing
        self.policy = policy
        self.live: dict[str, LiveCall] = {}
        self._runtime = runtime
        self._new_id = new_id
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._queue: deque[_Waiter] = deque()
        self._tripped: dict[tuple[str, str, str], Nanousd] = {}
        self._unwritten: deque[tuple[LiveCall, Settlement | Void]] = deque()

    # ── admission ──

    async def admit(self, call: Call, is_gone: Callable[[], bool] = lambda: False) -> LiveCall | Refusal:
        """Set aside what a call may cost and give it life, or say why not; never raises.

        `is_gone` tells, while the call waits, that its client has left.
        """
        entry = Entry(
            id=self._new_id(),
            started_at_ms=self._runtime.now_ms(),
            host=call.host,
            provider=call.provider,
            model=call.model,
            client=call.client,
            dialect=call.dialect,
            streamed=call.streamed,
        )
        try:
            outcome = await self._admit(call, entry, is_gone)
        except PriceError as error:
            outcome = messages.failure("unpriced", str(error))
        except StoreError as error:
            self._on_trouble(str(error))
            if self.policy.on_error == "allow":
                return self._allow_unbacked(call, entry)
            outcome = messages.failure("store", f"refused, the ledger can't be reached: {error}")
        except Exception as error:
            self._on_trouble(f"internal error while admitting a call: {type(error).__name__}: {error}")
            if self.policy.on_error == "allow":
                return self._allow_unbacked(call, entry)
            outcome = messages.failure(
                "internal", f"refused after an internal error ({type(error).__name__}); nothing was sent or spent"
            )
        if isinstance(outcome, Refusal):
            await self.record_refusal(entry, outcome)
        return outcome

    async def _admit(self, call: Call, entry: Entry, is_gone: Callable[[], bool]) -> LiveCall | Refusal:
        quote = self.pricing.quote(call)
        if quote.assumed:
            entry = replace(entry, marks=entry.marks | {"assumed"})
        ask = self._ask(call, quote)
        charges = self.budget.charges(call.labels(), entry.started_at_ms)
        tripped = await self._is_tripped(charges, ask)
        if tripped is not None:
            return tripped
        ask.keys = frozenset((charge.key, charge.scope) for charge in charges)
        waiter = _Waiter(ask.keys, self._runtime.signal())
        if len(self._queue) >= MAX_WAITING:
            return messages.failure("reserved", f"refused for now, {MAX_WAITING} calls are waiting already")
        self._queue.append(waiter)
        try:
            return await self._climb(call, entry, ask, waiter, is_gone)
        finally:
            self._queue.remove(waiter)
            self._wake()

    async def _climb(
        self, call: Call, entry: Entry, ask: _Ask, waiter: _Waiter, is_gone: Callable[[], bool]
    ) -> LiveCall | Refusal:
        deadline_s = self._runtime.monotonic_s() + self.policy.wait_ms / 1000
        while True:
            if is_gone():
                return messages.failure("internal", "the client left while its call was waiting")
            left_s = deadline_s - self._runtime.monotonic_s()
            if not self._is_first(waiter) and left_s > 0:
                await self._pause(waiter, left_s)
                continue
            short = await self._try(call, entry, ask, ask.wanted_tokens)
            if isinstance(short, LiveCall):
                return short
            spent = _spent(short, ask.amount)
            if not ask.counted and not any(balance.posted >= balance.charge.limit for balance in short.lacking):
                await self._count(call, ask)
                continue
            if (spent or ask.sliced or left_s <= 0) and (smaller := await self._try_smaller(call, entry, ask, short)):
                return smaller
            if _spent(short, ask.quote.amount(ask.least_tokens)):
                return messages.spent(
                    _spent(short, ask.amount) or short.lacking[0],
                    ask.amount,
                    self._runtime.now_ms(),
                    self.policy.zone,
                )
            if left_s <= 0:
                return messages.reserved(short.lacking[0], ask.amount, self._runtime.now_ms(), self.policy.zone)
            self._on_change(_waiting_line(entry))
            await self._pause(waiter, left_s)

    def _ask(self, call: Call, quote: Quote) -> _Ask:
        """What to reserve: a slice of a stream whose output can be seen and stopped, else the whole bound."""
        hidden = quote.hidden_output_tokens
        whole = quote.output_tokens
        sliced = call.streamed and not call.bills_after_disconnect and hidden < whole
        if sliced:
            wanted = min(whole, hidden + FIRST_SLICE_TOKENS)
            return _Ask(quote, wanted, min(wanted, hidden + MIN_SLICE_TOKENS), sliced)
        least = whole
        may_shorten = self.policy.shorten == "always" or (self.policy.shorten == "auto" and not quote.limited)
        if may_shorten and call.editable and call.has_output:
            least = min(whole, MIN_SHORTENED_TOKENS * call.choices)
        return _Ask(quote, whole, least, sliced)

    async def _count(self, call: Call, ask: _Ask) -> None:
        """Climb from the cheap bound to the tokenizer's, in a thread."""
        ask.counted = True
        counted = await self._runtime.in_thread(lambda: self.pricing.quote(call, "counted"))
        if counted.amount(0) < ask.quote.amount(0):
            ask.quote = counted

    async def _try_smaller(self, call: Call, entry: Entry, ask: _Ask, short: Short) -> LiveCall | None:
        """Begin with what is left, if that is enough to be of use."""
        room = min(balance.remaining for balance in short.lacking)
        tokens = min(ask.quote.affordable_output_tokens(room), ask.wanted_tokens)
        if tokens < ask.least_tokens or ask.least_tokens == ask.wanted_tokens:
            return None
        if not ask.sliced:
            tokens -= tokens % call.choices
        outcome = await self._try(call, entry, ask, tokens)
        return outcome if isinstance(outcome, LiveCall) else None

    async def _try(self, call: Call, entry: Entry, ask: _Ask, tokens: int) -> LiveCall | Short:
        amount = ask.quote.amount(tokens)
        entry = replace(entry, started_at_ms=self._runtime.now_ms())  # a call that waited counts in today's period
        shortened = not ask.sliced and tokens < ask.wanted_tokens
        if shortened:
            entry = replace(entry, marks=entry.marks | {"shortened"})
        outcome = await self.budget.reserve(entry, call.labels(), max(1, amount))
        if isinstance(outcome, Reserved):
            return self._begin(call, entry, ask, max(1, amount), tokens if shortened else ask.quote.output_tokens)
        return outcome

    def _begin(self, call: Call, entry: Entry, ask: _Ask, amount: Nanousd, limit: int, backed: bool = True) -> LiveCall:
        live = LiveCall(
            entry=entry,
            call=call,
            quote=ask.quote,
            reserved=amount,
            output_limit=limit,
            shortened="shortened" in entry.marks,
            sliced=ask.sliced,
            backed=backed,
            budget=self.budget,
            pricing=self.pricing,
            runtime=self._runtime,
            on_change=self._on_change,
            on_end=self._write_down,
        )
        self.live[entry.id] = live
        self._on_change(live.line("running", Usage(), 0, entry.marks))
        return live

    def _allow_unbacked(self, call: Call, entry: Entry) -> LiveCall | Refusal:
        """The user chose to go on without a ledger: nothing is reserved, and the cost is posted when it is back."""
        try:
            ask = self._ask(call, self.pricing.quote(call))
        except Exception as error:
            return messages.failure("internal", f"refused, this call can't be priced: {error}")
        return self._begin(call, entry, ask, 0, ask.quote.output_tokens, backed=False)

    # ── waiting ──

    def _is_first(self, waiter: _Waiter) -> bool:
        for other in self._queue:
            if other is waiter:
                return True
            if other.keys & waiter.keys:
                return False
        return True

    async def _pause(self, waiter: _Waiter, left_s: float) -> None:
        waiter.signal.clear()
        await waiter.signal.wait(min(left_s, POLL_S))

    def _wake(self) -> None:
        for waiter in self._queue:
            waiter.signal.set()

    # ── refusals and cuts ──

    async def _is_tripped(self, charges: Sequence[Charge], ask: _Ask) -> Refusal | None:
        """After a cut its scope takes no further call until the period or the limit changes: clients re-send at once,
        and what is left is the margin of the stream that was cut."""
        for charge in charges:
            if self._tripped.get((charge.key, charge.scope, charge.period)) == charge.limit:
                balance = (await self.budget.standing([charge]))[0]
                return messages.spent(balance, ask.amount, self._runtime.now_ms(), self.policy.zone)
        return None

    async def extend(self, live: LiveCall, reading: Reading) -> Step:
        """Ask for a stream's next slice; on CUT its `refusal` says why. Never raises; run it beside the stream."""
        live.extending = True
        try:
            step = await live.extend(reading)
            if step is Step.CUT and live.refusal is None:
                live.refuse(await self._why_cut(live, reading))
            return step
        except Exception as error:
            self._on_trouble(str(error) if isinstance(error, StoreError) else f"internal error: {error!r}")
            if self.policy.on_error == "allow":
                live.sliced = False
                return Step.PASS
            live.refuse(messages.failure("store", f"stream cut, its reservation could not be extended: {error}"))
            return Step.CUT
        finally:
            live.extending = False

    async def _why_cut(self, live: LiveCall, reading: Reading) -> Refusal:
        """What a stream that got no more is told; trips the cap when nobody else's call will give anything back."""
        charges = self.budget.charges(live.call.labels(), live.entry.started_at_ms)
        balances = await self.budget.standing(charges)
        if not balances:  # the caps that limited it were removed while it ran
            return messages.failure("internal", "stream cut, its reservation could not be extended")
        tightest = min(balances, key=lambda balance: balance.remaining)
        charge = tightest.charge
        if tightest.pending <= live.reserved:
            for key in [key for key in self._tripped if key[:2] == (charge.key, charge.scope)]:
                del self._tripped[key]
            self._tripped[charge.key, charge.scope, charge.period] = charge.limit
        return messages.cut(tightest, live.cost_so_far(reading), self._runtime.now_ms(), self.policy.zone)

    async def note_refusal(self, dialect: str, host: str, provider: str, client: str, refusal: Refusal) -> None:
        """Show and write down a request that was refused before it could be understood."""
        entry = Entry(
            id=self._new_id(),
            started_at_ms=self._runtime.now_ms(),
            host=host,
            provider=provider,
            model="",
            client=client,
            dialect=dialect,
            streamed=False,
        )
        await self.record_refusal(entry, refusal)

    async def record_refusal(self, entry: Entry, refusal: Refusal) -> None:
        """Show a refusal and write its row; a store that fails loses only the row, no money was moved."""
        self._on_change(_refused_line(entry, refusal))
        try:
            caps = (refusal.cap,) if refusal.cap else ()
            await self.budget.record_refusal(entry, caps, refusal.kind)
        except StoreError as error:
            self._on_trouble(str(error))

    # ── the end ──

    async def _write_down(self, live: LiveCall, ended: Settlement | Void) -> None:
        self.live.pop(live.entry.id, None)
        try:
            await self._write(live, ended)
        except StoreError as error:
            self._on_trouble(str(error))
            if len(self._unwritten) < MAX_UNWRITTEN:
                self._unwritten.append((live, ended))
        finally:
            self._wake()

    async def _write(self, live: LiveCall, ended: Settlement | Void) -> None:
        if not live.backed:
            if isinstance(ended, Settlement):
                await self.budget.post_unreserved(live.entry, live.call.labels(), ended)
        elif isinstance(ended, Void):
            await self.budget.void(live.entry.id, ended.settled_at_ms, ended.status, ended.note)
        else:
            await self.budget.settle(live.entry.id, ended)

    async def retry_unwritten(self) -> None:
        """Write down what a failing store did not take; call it now and then, and at the end."""
        while self._unwritten:
            live, ended = self._unwritten[0]
            await self._write(live, ended)
            self._unwritten.popleft()
            self._wake()


def _spent(short: Short, amount: Nanousd) -> Balance | None:
    """The balance that would not take the amount even if nobody else held a reservation, if there is one."""
    for balance in short.lacking:
        if balance.posted + amount > balance.charge.limit:
            return balance
    return None


def _waiting_line(entry: Entry) -> CallLine:
    return CallLine(
        id=entry.id,
        at_ms=entry.started_at_ms,
        client=entry.client,
        host=entry.host,
        provider=entry.provider,
        model=entry.model,
        state="waiting",
        marks=entry.marks,
    )


def _refused_line(entry: Entry, refusal: Refusal) -> CallLine:
    return replace(_waiting_line(entry), state="refused", message=refusal.message)
