"""LiveCall: an admitted call from its first byte to its settlement.

A stream is paid for in slices. While it runs, `observe` compares what has been counted, plus what may be on its way,
with what is reserved. Past half a slice more is asked for (`extend`, a coroutine that the caller runs beside the
stream); a chunk that outruns the reservation is held until the answer is there; and a stream that gets no more is cut.
Calls whose output the stream does not show (not streamed, hidden reasoning) were reserved whole and only settle.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from enum import Enum
from functools import partial

from llmcap_addon.activity import CallLine, CallState
from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.ledger import Entry, Settlement
from llmcap_addon.budget.matching import API, BILLING, PLAN
from llmcap_addon.call import Call
from llmcap_addon.gate import messages
from llmcap_addon.gate.admission import Granted
from llmcap_addon.gate.endings import WHY_ESTIMATED, Defer, Ending, Void, may_have_begun
from llmcap_addon.gate.pace import CLOUDS, Pace, hidden_tokens
from llmcap_addon.gate.running import RunningCost
from llmcap_addon.gate.runtime import Runtime
from llmcap_addon.money import Nanousd
from llmcap_addon.pricing.family import vendor
from llmcap_addon.pricing.quote import Pricing, Rung
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import Refusal

_RUNGS: tuple[Rung, ...] = ("bytes", "counted")
ASK_AGAIN_S = 0.1
"""After a refused extension the store is asked again at most so often."""


class Step(Enum):
    """What to do with the bytes just metered."""

    PASS = "pass"  # noqa: S105  no password, a word
    HOLD = "hold"
    CUT = "cut"


class LiveCall:
    """One admitted call. Not thread-safe; everything happens on one event loop."""

    def __init__(
        self,
        *,
        call: Call,
        granted: Granted,
        backed: bool,
        budget: Budget,
        pricing: Pricing,
        runtime: Runtime,
        on_change: Callable[[CallLine], None],
        on_end: Callable[[LiveCall, Settlement | Void | Defer], Awaitable[None]],
    ) -> None:
        self.entry = granted.entry
        self.call = call
        self.quote = granted.quote
        self.reserved = granted.reserved
        self.output_limit = granted.output_limit
        """Upper bound on the answer's tokens, all choices together, after any shortening."""
        self.shortened = "shortened" in granted.entry.marks
        self.sliced = granted.sliced
        """True when only a slice is reserved and `observe` must be obeyed."""
        self.backed = backed
        """False when the store could not be reached and the user chose `on_error: allow`."""
        self.extending = False
        """True while `extend` runs; set by whoever runs it."""
        self.ended = False
        self.refusal: Refusal | None = None
        """Why it was cut; None while it was not."""
        self.billing_told = ""
        """How the response says that it is paid; empty while it does not say."""
        self.by_gateway = False
        """True when the answer is an error in no provider's words."""
        self.twin: Entry | None = None
        """Its row under the caps of what is paid by the token, once its plan turned out to be used up."""
        self._budget = budget
        self._pricing = pricing
        self._running = RunningCost(call, granted, pricing)
        self._runtime = runtime
        self._on_change = on_change
        self._on_end = on_end
        self._pace = Pace()
        self._held_margin = self._pace.margin
        """What the reservation held for tokens on their way when it last covered them."""
        self._begun_s = runtime.monotonic_s()
        self._wants = False
        self._failed_at: int | None = None
        """Output tokens when the provider's error came; output behind it shows that it was not the end."""
        self._refused_at_s: float | None = None
        self._cut_words: Callable[[], Refusal] | None = None
        self._shown_at_s = 0.0

    @property
    def max_output_tokens(self) -> int | None:
        """The limit to send with the request, per choice; None when it goes out as it came."""
        return self.output_limit // self.call.choices if self.shortened else None

    # ── while it runs ──

    def observe(self, reading: Reading) -> Step:
        """Say what to do with bytes that brought the reading to where it stands; cheap, never waits."""
        if self.refusal is not None:
            return Step.CUT
        self._show(reading)
        tokens = self._running.tokens(reading)
        pace = self._pace
        now_s = self._runtime.monotonic_s()
        pace.see(tokens, now_s)
        if not self.sliced or not self.backed:
            return Step.PASS
        if reading.unreadable:
            self.refuse(messages.failure("unreadable", f"stream cut, it can't be counted: {reading.unreadable}"))
            return Step.CUT
        if reading.failed and self._failed_at is None:
            self._failed_at = tokens
        if reading.final or tokens == self._failed_at:
            return Step.PASS  # all there is has been billed; cutting now saves nothing
        ahead = self._running.within_limit(tokens, pace.ahead)
        if self._running.amount(reading, ahead) <= self.reserved:
            self._held_margin = pace.margin
            soon = self._running.within_limit(tokens, pace.ahead + pace.slice // 2)
            self._wants = self._running.amount(reading, soon) > self.reserved and self._may_ask(now_s)
            return Step.PASS
        if self._cut_words is not None and not self.extending:
            self.refuse(self._cut_words())  # the ledger has said already that there is no more
            return Step.CUT
        self._wants = True
        outrun = self._running.amount(reading, tokens) > self.reserved or not self._may_ask(now_s)
        return Step.HOLD if outrun else Step.PASS

    @property
    def wants_extension(self) -> bool:
        """True when `extend` should be run now."""
        return self._wants and not self.extending and self.refusal is None and not self.ended

    async def extend(self, reading: Reading) -> Step:
        """Ask for the next slice; PASS when the stream may go on (release what is held), CUT when it may not.

        Raises StoreError. Run it beside the stream, one at a time.
        """
        self._wants = False
        tokens = self._running.tokens(reading)
        ahead = self._running.within_limit(tokens, self._pace.ahead)
        if not self._may_ask(self._runtime.monotonic_s()):
            return Step.PASS if self._running.amount(reading, ahead) <= self.reserved else Step.CUT
        at_least = max(1, self._running.amount(reading, ahead) - self.reserved)
        wanted = self._running.amount(reading, self._running.within_limit(ahead, self._pace.slice)) - self.reserved
        amount = max(at_least, wanted)
        granted = await self._more(amount, at_least)
        self._refused_at_s = self._runtime.monotonic_s() if granted < amount else None
        self._cut_words = None
        if self.ended or self.refusal is not None:
            return Step.CUT
        # The stream went on while the store was asked: judge by where it stands now.
        tokens = self._running.tokens(reading)
        ahead = self._running.within_limit(tokens, self._pace.ahead)
        if reading.final or self._running.amount(reading, ahead) <= self.reserved:
            return Step.PASS
        if not granted:
            return Step.CUT
        self._wants = True
        return Step.PASS if self._running.amount(reading, tokens) <= self.reserved else Step.HOLD

    async def _more(self, amount: Nanousd, at_least: Nanousd) -> Nanousd:
        started_at_ms = self.entry.started_at_ms
        granted = await self._budget.extend(self.entry.id, self.call.labels(), started_at_ms, amount, at_least)
        if granted and self.twin is not None:
            least = min(granted, at_least)
            granted = await self._budget.extend(self.twin.id, self.labels(), started_at_ms, granted, least)
        self.reserved += granted
        return granted

    async def widen(self, call: Call) -> Nanousd:
        """Set as much more aside as the call may cost now that it has grown; 0, or what it may cost if there is not so
        much.

        For what is reserved whole, before what makes it dearer is sent. Raises StoreError and PriceError.
        """
        most = 0
        for rung in _RUNGS:
            quote = await self._runtime.in_thread(partial(self._pricing.quote, call, rung))
            most = quote.amount(quote.output_tokens)
            lacking = most - self.reserved if self.backed else 0
            if lacking > 0:
                lacking -= await self._more(lacking, lacking)
            if lacking <= 0 or self.ended:
                self.call, self.quote, self.output_limit = call, quote, quote.output_tokens
                whole = Granted(self.entry, quote, self.reserved, self.output_limit, sliced=False)
                self._running = RunningCost(call, whole, self._pricing)
                return 0
        return most

    def refuse(self, refusal: Refusal) -> None:
        """Remember why this stream is cut; the first reason stays."""
        if self.refusal is None:
            self.refusal = refusal

    @property
    def is_short(self) -> bool:
        """True when the ledger's last answer was that there is not as much as was wanted."""
        return self._refused_at_s is not None

    def prepare_cut(self, words: Callable[[], Refusal]) -> None:
        """Have ready what this stream is told when its reservation runs out, so that it is cut at that very chunk.

        Asking once more would take a store's round trip, in which the provider goes on generating.
        """
        self._cut_words = words

    def _may_ask(self, now_s: float) -> bool:
        return self._refused_at_s is None or now_s - self._refused_at_s >= ASK_AGAIN_S

    def cost_so_far(self, reading: Reading) -> Nanousd:
        """The most that has been billed by now, as far as the reading shows."""
        return self._running.amount(reading)

    # ── the end ──

    async def finish(self, reading: Reading, ending: Ending, status: int = 0, note: str = "") -> CallLine | None:
        """Settle: post what it cost, release the rest, write its row. Only the first call does anything.

        Gives the call's last line for the console.
        """
        if self.ended:
            return None
        self.ended = True
        self.billing_told = reading.billing
        if ending == "never_sent" or (status >= 300 and reading.usage is None):
            if self.call.begins_job and may_have_begun(status, by_gateway=self.by_gateway):
                return await self._end(self.in_full(status, "the provider may have begun it, and nothing names it"))
            return await self._void(status, note or ("the provider answered with an error" if status else ""))
        if reading.job and not reading.final:
            await self._on_end(self, Defer(reading.job, status))
            return self._last_line("deferred", reading.usage or Usage(), 0, self.entry.marks)
        return await self._end(await self._settlement(reading, ending, status, note))

    async def _end(self, settlement: Settlement) -> CallLine:
        await self._on_end(self, settlement)
        marks = self.entry.marks | settlement.marks
        return self._last_line("cut" if "cut" in marks else "done", settlement.usage, settlement.cost, marks)

    @property
    def is_beyond_plan(self) -> bool:
        """True when a plan's call turned out to be paid by the token, for the plan is used up."""
        return self.entry.billing == PLAN and self.billing_told == API

    def paid_entry(self) -> Entry:
        """Give the row of its own in which a plan's call is paid by the token."""
        return replace(self.entry, id=f"{self.entry.id}-paid", billing=API)

    def labels(self) -> Mapping[str, str]:
        """What caps match on, as far as it is known how it is paid."""
        return {**self.call.labels(), BILLING: API} if self.is_beyond_plan else self.call.labels()

    async def _void(self, status: int, note: str) -> CallLine:
        await self._on_end(self, Void(self._runtime.now_ms(), status, note))
        return self._last_line("done", Usage(), 0, self.entry.marks | {"failed"})

    def _last_line(self, state: CallState, usage: Usage, cost: Nanousd, marks: frozenset[str]) -> CallLine:
        line = self.line(state, usage, cost, marks)
        self._on_change(line)
        return line

    async def _settlement(self, reading: Reading, ending: Ending, status: int, note: str) -> Settlement:
        try:
            return await self._worked_out(reading, ending, status, note)
        except Exception as error:  # whatever failed, the money that was set aside is posted, never lost
            why = f"posted as reserved, its cost could not be worked out: {type(error).__name__}"
            return self._as(self.reserved, status, why)

    def in_full(self, status: int, note: str) -> Settlement:
        """Post all that it may have cost."""
        return self._as(max(self.reserved, self.quote.amount(self.output_limit)), status, note)

    def _as(self, cost: Nanousd, status: int, note: str) -> Settlement:
        marks = self.entry.marks | {"estimated"}
        return Settlement(cost, Usage(), self._runtime.now_ms(), marks, status, note=note)

    async def _worked_out(self, reading: Reading, ending: Ending, status: int, note: str) -> Settlement:
        marks = set(self.entry.marks)
        if ending == "cut":
            marks.add("cut")
        if reading.failed or status >= 400:
            marks.add("failed")
        usage = reading.usage
        if usage is not None and reading.final and not reading.unreadable:
            priced = self._running.priced(reading, usage)
            cost, assumed = priced.amount, priced.assumed
            if reading.billed is not None and not priced.own:
                cost, assumed = reading.billed, False
                marks.add("billed")
        else:
            marks.add("estimated")
            held_tokens = self._held_margin + self._pace.ready(self._runtime.monotonic_s())
            usage, cost = await self._estimate(reading, ending)
            held = self.sliced and not reading.unreadable and self.cost_so_far(reading) <= self.reserved
            if held and (self._pace.is_young or self._is_spent):
                # The reservation held the margin when the stream was last judged; a pace that has changed since, or
                # that nobody knows yet, does not make what is on its way any more.
                further = 0 if ending == "complete" else held_tokens
                tokens = self._running.within_limit(self._running.tokens(reading), further)
                cost = min(cost, max(self.reserved, self._running.amount(reading, tokens)))
            assumed = self.quote.assumed
            note = note or reading.unreadable or WHY_ESTIMATED[ending]
        if assumed:
            marks.add("assumed")
        return Settlement(
            cost=cost,
            usage=usage,
            settled_at_ms=self._runtime.now_ms(),
            marks=frozenset(marks),
            status=status,
            model=reading.model if reading.model != self.call.model else "",
            note=note,
        )

    async def _estimate(self, reading: Reading, ending: Ending) -> tuple[Usage, Nanousd]:
        """Say from above what a call cost whose final usage nobody reported."""
        reported = reading.usage or Usage()
        if self._bills_in_full(ending) or (not self.call.streamed and (reading.unreadable or ending != "complete")):
            output = max(self.output_limit, self._running.tokens(reading))
        else:
            now_s = self._runtime.monotonic_s()
            unseen = 0 if ending == "complete" else self._pace.unseen(now_s)
            # What can't be read is as good as hidden: so much can have come in the time.
            bound = self.output_limit if reading.unreadable else self._running.hidden_tokens(reading)
            provider = self.call.provider
            maker = vendor(provider, self.call.model)[0] if provider in CLOUDS else provider
            hidden = hidden_tokens(maker, now_s - self._begun_s, bound)
            output = self._running.within_limit(self._running.tokens(reading), unseen + hidden)
        if not self.call.has_output:
            output = 0
        if reported.input_tokens:
            usage = replace(reported, output_tokens=max(output, reported.output_tokens))
        else:
            counted = await self._runtime.in_thread(lambda: self._pricing.quote(self.call, "counted"))
            inputs = min(self.quote.input_tokens, counted.input_tokens)
            usage = Usage(input_tokens=inputs, output_tokens=output)
        return usage, self._running.amount_of(reading, usage)

    @property
    def _is_spent(self) -> bool:
        return self.refusal is not None and self.refusal.kind == "spent"

    def _bills_in_full(self, ending: Ending) -> bool:
        return self.call.bills_after_disconnect and ending != "complete"

    # ── for the console ──

    def line(self, state: CallState, usage: Usage, cost: Nanousd, marks: frozenset[str]) -> CallLine:
        """This call as a person sees it."""
        return CallLine(
            id=self.entry.id,
            at_ms=self.entry.started_at_ms,
            client=self.entry.client,
            host=self.entry.host,
            provider=self.entry.provider,
            model=self.entry.model,
            state=state,
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            output_tokens=usage.output_tokens,
            cost=cost,
            reserved=0 if self.ended and state != "deferred" else self.reserved,
            marks=marks,
            message=self.refusal.message if self.refusal is not None else "",
            billing=API if self.is_beyond_plan else self.entry.billing,
        )

    def _show(self, reading: Reading) -> None:
        """Tell the console how a stream goes, at most ten times a second."""
        now_s = self._runtime.monotonic_s()
        if not self.call.streamed or now_s - self._shown_at_s < SHOW_EVERY_S:
            return
        self._shown_at_s = now_s
        tokens = self._running.tokens(reading)
        usage = replace(reading.usage or Usage(input_tokens=self.quote.input_tokens), output_tokens=tokens)
        cost = self._running.amount(reading, tokens)
        self._on_change(self.line("streaming", usage, cost, self.entry.marks))


SHOW_EVERY_S = 0.1
"""A person reads no faster."""
