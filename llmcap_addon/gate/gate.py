"""The gate: one call's whole life, admit → meter → settle.

No I/O and no mitmproxy here: time, ids, the store and the prices are handed in, so that it can be driven without a
socket. `admit` climbs the ladder before it refuses: the cheap bound, the counted bound, what others hold (wait), what
nobody limited (shorten). Everything that fails ends in a refusal, unless the user chose `on_error: allow`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from llmcap_addon.activity import CallLine
from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.ledger import Entry, Settlement
from llmcap_addon.call import Call
from llmcap_addon.errors import PriceError, StoreError
from llmcap_addon.gate import messages
from llmcap_addon.gate.admission import Admission, Granted, Policy, is_sliced
from llmcap_addon.gate.endings import Defer, Void
from llmcap_addon.gate.jobs import Jobs
from llmcap_addon.gate.live import LiveCall, Step
from llmcap_addon.gate.plans import Plans
from llmcap_addon.gate.runtime import Runtime
from llmcap_addon.gate.writing import Writing
from llmcap_addon.money import Nanousd
from llmcap_addon.pricing.quote import Pricing, Quote
from llmcap_addon.usage import NO_USAGE, Reading
from llmcap_addon.wire.dialect import Refusal

MANY_REQUESTS = 500
"""Requests of a batch that are bounded at once, in some 10 ms; more of them in a thread."""
MAX_WHOLE = 1_000
"""Hosts remembered to answer in one piece; more than anyone names under `hosts:`."""


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
        on_store_trouble: Callable[[str], None] | None = None,
    ) -> None:
        """`on_trouble` is told what fails; failures of the store go to `on_store_trouble`, where there is one."""
        self.budget = budget
        self.pricing = pricing
        self.policy = policy
        self.live: dict[str, LiveCall] = {}
        self._runtime = runtime
        self._new_id = new_id
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._on_store_trouble = on_store_trouble or on_trouble
        self._admission = Admission(budget, runtime, lambda entry: self._tell(_waiting_line(entry)))
        self._tripped: dict[tuple[str, str, str], Nanousd] = {}
        self.jobs = Jobs(
            budget=budget,
            pricing=lambda: self.pricing,
            runtime=runtime,
            wake=self._admission.wake,
            on_change=self._tell,
            on_trouble=on_trouble,
            on_store_trouble=self._on_store_trouble,
        )
        self._writing = Writing(
            budget=budget,
            jobs=self.jobs,
            runtime=runtime,
            wake=self._admission.wake,
            on_trouble=on_trouble,
            on_store_trouble=self._on_store_trouble,
        )
        self._whole: set[tuple[str, str]] = set()
        self._plans = Plans(budget, runtime, lambda: self.policy)

    # ── admission ──

    async def admit(self, call: Call, is_gone: Callable[[], bool] = lambda: False) -> LiveCall | Refusal:
        """Set aside what a call may cost and give it life, or say why not; never raises.

        `is_gone` tells, while the call waits, that its client has left.
        """
        call = self._plans.paid_as_told(call)
        entry = self._entry(call)
        try:
            outcome = await self._admit(call, entry, is_gone)
        except PriceError as error:
            outcome = messages.failure("unpriced", str(error))
        except StoreError as error:
            self._on_store_trouble(str(error))
            if self.policy.on_error == "allow":
                return self._allow_unbacked(call, entry)
            outcome = messages.failure("store", f"refused, the ledger can't be used: {error}")
            # Its row is written when the store is back: to try now would hold the answer up once more for as long.
            self._writing.owe(entry, outcome)
            self._tell(_refused_line(entry, outcome))
            return outcome
        except Exception as error:
            self._on_trouble(f"internal error while admitting a call: {type(error).__name__}: {error}")
            if self.policy.on_error == "allow":
                return self._allow_unbacked(call, entry)
            outcome = messages.failure(
                "internal", f"refused after an internal error ({type(error).__name__}); nothing was sent or spent"
            )
            self._writing.owe(entry, outcome)
        if isinstance(outcome, Refusal):
            await self.record_refusal(entry, outcome)
        return outcome

    def _entry(self, call: Call) -> Entry:
        return Entry(
            id=self._new_id(),
            started_at_ms=self._runtime.now_ms(),
            host=call.host,
            provider=call.provider,
            model=call.model,
            client=call.client,
            dialect=call.dialect,
            streamed=call.streamed,
            billing=call.billing,
        )

    def unasked(self, call: Call) -> LiveCall:
        """Take in a response that a provider began by itself: nothing is reserved for it, but it is billed and posted.

        Raises PriceError. It is to be cut at once.
        """
        quote = self.pricing.quote(call)
        entry = self._entry(call)
        entry = replace(entry, marks=frozenset({"unreserved", "assumed"} if quote.assumed else {"unreserved"}))
        return self._begin(call, Granted(entry, quote, 0, quote.output_tokens, is_sliced(call, quote)), backed=False)

    async def _admit(self, call: Call, entry: Entry, is_gone: Callable[[], bool]) -> LiveCall | Refusal:
        if call.streamed and not self.pricing.ready:
            # In its first half second the proxy would count output in bytes, and cut at a quarter of what is allowed.
            await self._runtime.in_thread(self.pricing.load_tokenizer)
        if call.stored and call.stored_bound is None:
            stored = await self.jobs.look_up(call)
            if isinstance(stored, Refusal):
                return stored
            call = stored.given_to(call)
            marks = entry.marks | {"assumed"} if stored.assumed else entry.marks
            entry = replace(entry, model=call.model, marks=marks)
        if (call.host, call.dialect) in self._whole:
            call = replace(call, bills_after_disconnect=True)
        if len(call.parts) > MANY_REQUESTS:
            quote = await self._runtime.in_thread(lambda: self.pricing.quote(call))
        else:
            quote = self.pricing.quote(call)
        if quote.assumed:
            entry = replace(entry, marks=entry.marks | {"assumed"})
        tripped = await self._is_tripped(call, entry, quote)
        if tripped is not None:
            return tripped
        granted = await self._admission.climb(call, entry, quote, self.pricing, self.policy, is_gone)
        return granted if isinstance(granted, Refusal) else self._begin(call, granted, backed=True)

    def _allow_unbacked(self, call: Call, entry: Entry) -> LiveCall | Refusal:
        """The user chose to go on without a ledger: nothing is reserved, and the cost is posted when it is back."""
        try:
            quote = self.pricing.quote(call)
        except Exception as error:
            return messages.failure("internal", f"refused, this call can't be priced: {error}")
        entry = replace(entry, marks=entry.marks | {"unreserved"})
        return self._begin(call, Granted(entry, quote, 0, quote.output_tokens, is_sliced(call, quote)), backed=False)

    def _begin(self, call: Call, granted: Granted, *, backed: bool) -> LiveCall:
        live = LiveCall(
            call=call,
            granted=granted,
            backed=backed,
            budget=self.budget,
            pricing=self.pricing,
            runtime=self._runtime,
            on_change=self._tell,
            on_end=self._write_down,
        )
        self.live[live.entry.id] = live
        self._tell(live.line("running", NO_USAGE, 0, live.entry.marks))
        return live

    async def widen(self, live: LiveCall, call: Call) -> Refusal | None:
        """Set more aside for a call that has grown before it was begun; says why that can't be. Never raises."""
        try:
            needed = await live.widen(call)
            if not needed:
                return None
            balances = await self.budget.standing(self.budget.charges(call.labels(), live.entry.started_at_ms))
            tightest = min(balances, key=lambda balance: balance.remaining)
            refusal = messages.spent(tightest, needed, self._runtime.now_ms(), self.policy.zone, self.policy.advice)
        except Exception as error:
            refusal = messages.failure("internal", f"refused, a call that grew can't be paid for: {error}")
            if isinstance(error, StoreError):
                self._on_store_trouble(str(error))
                refusal = messages.failure("store", f"refused, the ledger can't be used: {error}")
                if self.policy.on_error == "allow":
                    live.entry = replace(live.entry, marks=live.entry.marks | {"unreserved"})
                    return None
        await self.record_refusal(self._entry(call), refusal)
        return refusal

    # ── refusals and cuts ──

    async def _is_tripped(self, call: Call, entry: Entry, quote: Quote) -> Refusal | None:
        """After a cut its scope takes no further call until the period or the limit changes: clients re-send at once,
        and what is left is the margin of the stream that was cut."""
        if not self._tripped:
            return None
        for charge in self.budget.charges(call.labels(), entry.started_at_ms):
            if self._tripped.get((charge.key, charge.scope, charge.period)) == charge.limit:
                balance = (await self.budget.standing([charge]))[0]
                return messages.spent(
                    balance, quote.amount(0), self._runtime.now_ms(), self.policy.zone, self.policy.advice
                )
        return None

    def note_whole(self, call: Call) -> None:
        """Remember that a host answers requests for streams in one piece: from now on they are reserved whole.

        Nothing of such an answer is seen before all of it has been billed.
        """
        if len(self._whole) < MAX_WHOLE:
            self._whole.add((call.host, call.dialect))

    async def extend(self, live: LiveCall, reading: Reading) -> Step:
        """Ask for a stream's next slice; on CUT its `refusal` says why. Never raises; run it beside the stream."""
        live.extending = True
        try:
            step = await live.extend(reading)
            if live.is_short and live.refusal is None and not live.ended:
                words = await self._cut_words(live, reading)
                if step is Step.CUT:
                    live.refuse(words())
                else:
                    live.prepare_cut(words)
            return step
        except Exception as error:
            if isinstance(error, StoreError):
                self._on_store_trouble(str(error))
            else:
                self._on_trouble(f"internal error: {error!r}")
            if self.policy.on_error == "allow":
                live.sliced = False
                live.entry = replace(live.entry, marks=live.entry.marks | {"unreserved"})
                return Step.PASS
            live.refuse(messages.failure("store", f"stream cut, its reservation could not be extended: {error}"))
            return Step.CUT
        finally:
            live.extending = False

    async def _cut_words(self, live: LiveCall, reading: Reading) -> Callable[[], Refusal]:
        """Make what tells a stream why it is cut; telling it trips the cap when nobody else's call gives any back."""
        charges = self.budget.charges(live.labels(), live.entry.started_at_ms)
        balances = await self.budget.standing(charges)
        if not balances:  # the caps that limited it were removed while it ran
            return lambda: messages.failure("internal", "stream cut, its reservation could not be extended")
        tightest = min(balances, key=lambda balance: balance.remaining)

        def words() -> Refusal:
            charge = tightest.charge
            if tightest.pending <= live.reserved:
                for key in [key for key in self._tripped if key[:2] == (charge.key, charge.scope)]:
                    del self._tripped[key]
                self._tripped[charge.key, charge.scope, charge.period] = charge.limit
            cost, now_ms = live.cost_so_far(reading), self._runtime.now_ms()
            return messages.cut(tightest, cost, now_ms, self.policy.zone, self.policy.advice)

        return words

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
        """Show a refusal and write its row; a store that fails gets the row later, no money was moved."""
        self._tell(_refused_line(entry, refusal))
        await self._writing.write_refusal(entry, refusal)

    # ── the end ──

    async def _write_down(self, live: LiveCall, ended: Settlement | Void | Defer) -> None:
        self.live.pop(live.entry.id, None)
        await self._writing.write_down(live, ended)

    @property
    def unwritten(self) -> int:
        """How much the store has not taken yet, or may have taken unheard."""
        return self._writing.unwritten + self.jobs.unwritten

    async def retry_unwritten(self) -> None:
        """Write down what a failing store did not take; call it now and then, and at the end. Raises StoreError."""
        await self._writing.retry()

    def note_billing(self, call: Call, told: str) -> None:
        """Note, from an answer's head, how a plan's calls are paid: the next ones are counted so from the start."""
        self._plans.note(call, told)

    async def cover(self, live: LiveCall) -> Refusal | None:
        """Set aside what a plan's running call may cost that is paid by the token; why it is to be cut, where it is.

        Never raises: its cost is posted at its end in any case.
        """
        try:
            return await self._plans.cover(live)
        except StoreError as error:
            self._on_store_trouble(str(error))
        except ValueError as error:  # its row has ended meanwhile
            if not live.ended:
                self._on_trouble(f"internal error: {error!r}")
        return None

    def _tell(self, line: CallLine) -> None:
        """Show a call; what fails in showing it is no reason to forget what it holds."""
        try:
            self._on_change(line)
        except Exception as error:
            self._on_trouble(f"internal error: a call could not be shown: {type(error).__name__}: {error}")


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
        billing=entry.billing,
    )


def _refused_line(entry: Entry, refusal: Refusal) -> CallLine:
    return replace(_waiting_line(entry), state="refused", message=refusal.message)
