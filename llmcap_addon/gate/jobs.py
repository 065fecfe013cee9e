"""Jobs: calls whose bill comes with the answer to a later request, perhaps after this process has ended.

What it takes to price such a bill is kept in the ledger as a note, under the job's id at its provider; so are the
bounds of files whose requests a batch will run. A note is known from the moment its answer has ended, and written down
as soon as the store takes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from llmcap_addon.activity import CallLine
from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.ledger import Entry, Settlement
from llmcap_addon.call import Call
from llmcap_addon.errors import LLMCapError, PriceError, StoreError, UnreadableRequest
from llmcap_addon.gate import messages
from llmcap_addon.gate.notes import (
    MAX_NAME_CHARS,
    Note,
    Stored,
    bounded,
    file_key,
    job_key,
    rates_of,
    read_note,
    read_stored,
)
from llmcap_addon.gate.runtime import Runtime
from llmcap_addon.pricing.quote import Priced, Pricing
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Refusal
from llmcap_addon.wire.jobs import Outcome

KEPT_MS = 31 * 86_400_000
"""A job stays reserved for so long, and a file's bound is known: providers keep results for 29 or 30 days, and what is
reserved counts as what is posted does. What was never heard of by then is posted in full."""
MAX_UNSETTLED = 1_000
"""Outcomes kept for a store that fails, a batch's with thousands of shares each; past it a later answer tells again, or
the job expires, in full."""
MANY_SHARES = 500
"""Requests of a batch that are priced at once, in some 10 ms; more of them in a thread."""
MAX_UNHEARD_OF = 100
"""Kept for a moment: most are of responses that were no jobs, and are looked at again."""
MAX_UNREMEMBERED = 10_000
"""Notes kept for a store that fails; past it the oldest is lost, and its job is posted in full in the end."""


class Jobs:
    """The jobs of all processes that share a ledger."""

    def __init__(
        self,
        *,
        budget: Budget,
        pricing: Callable[[], Pricing],
        runtime: Runtime,
        wake: Callable[[], None],
        on_change: Callable[[CallLine], None],
        on_trouble: Callable[[str], None],
        on_store_trouble: Callable[[str], None],
    ) -> None:
        """`wake` is told when money was given back."""
        self._budget = budget
        self._pricing = pricing
        self._runtime = runtime
        self._wake = wake
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._on_store_trouble = on_store_trouble
        self._notes: dict[str, tuple[str, int]] = {}
        """Key → value and time, of notes that are not written yet."""
        self._unsettled: deque[tuple[str, Outcome]] = deque(maxlen=MAX_UNSETTLED)
        self._unheard_of: deque[tuple[str, Outcome]] = deque(maxlen=MAX_UNHEARD_OF)
        """Outcomes of jobs that nobody knew. Another process may have been about to write one's note."""

    @property
    def unwritten(self) -> int:
        """How much the store has not taken yet."""
        return len(self._notes) + len(self._unsettled)

    # ── files whose requests a batch will run ──

    async def bound_of(self, calls: Callable[[], Iterator[Call]]) -> Stored | None:
        """Bound the requests of a file, in a thread; None when there are none. Never raises."""

        def walk() -> Stored | None:
            try:
                return bounded(calls(), self._pricing())
            except (UnreadableRequest, PriceError) as error:
                return Stored(why_not=str(error))

        return await self._runtime.in_thread(walk)

    def note_stored(self, host: str, file: str, stored: Stored) -> None:
        """Take note of a file that was uploaded; `write_notes` writes it down."""
        self._note(file_key(host, file), stored.text())

    async def look_up(self, call: Call) -> Stored | Refusal:
        """Find what the file that a batch runs may cost, or say why nobody knows. Raises StoreError and PriceError."""
        advice = "Upload it once more through this proxy, or send its requests one by one"
        found = await self._recall(file_key(call.host, call.stored))
        stored = read_stored(found) if found is not None else None
        if stored is None:
            why = "did not pass this proxy in the last 31 days, so nobody knows what its requests may cost"
            return messages.failure("unreadable", f"refused, the file {call.stored[:MAX_NAME_CHARS]!r} {why}. {advice}")
        if stored.why_not:
            why = f"refused, what the requests of the file {call.stored[:MAX_NAME_CHARS]!r} may cost is not known"
            return messages.failure("unreadable", f"{why}: {stored.why_not}")
        if not stored.holds(rates_of(call.provider, call.host, stored.model, stored.traits, self._pricing())):
            why = f"refused, prices have changed since the file {call.stored[:MAX_NAME_CHARS]!r} passed"
            return messages.failure("unreadable", f"{why}. {advice}")
        return stored

    # ── jobs ──

    def note_job(self, entry: Entry, call: Call, job: str) -> None:
        """Take note of a job that goes on behind its answer; `write_notes` writes it down."""
        self._note(job_key(entry.host, job), Note.of(entry, call).text())

    async def write_notes(self) -> None:
        """Write down the notes that are not written yet; raises StoreError."""
        while self._notes:
            key, (value, until_ms) = next(iter(self._notes.items()))
            try:
                await self._budget.remember(key, value, until_ms)
            except ValueError as error:
                self._on_trouble(f"internal error: a note of a job could not be kept: {error}")
            if self._notes.get(key) == (value, until_ms):
                del self._notes[key]

    async def settle(self, host: str, outcome: Outcome) -> None:
        """Post what a job cost, or release it, as an answer of the provider's tells; one that nobody began is left.

        Never raises; a store that fails gets it later.
        """
        try:
            if not await self._settle(host, outcome):
                self._unheard_of.append((host, outcome))
        except StoreError as error:
            self._on_store_trouble(str(error))
            self._unsettled.append((host, outcome))
        except Exception as error:
            what = str(error) if isinstance(error, LLMCapError) else f"{type(error).__name__}: {error}"
            self._on_trouble(f"internal error: a job could not be settled, it stays reserved: {what}")

    async def retry(self) -> None:
        """Do what a failing store did not take, and look once more for jobs that nobody knew; raises StoreError."""
        await self.write_notes()
        for _ in range(len(self._unheard_of)):
            self._unsettled.append(self._unheard_of.popleft())
        while self._unsettled:
            host, outcome = self._unsettled[0]
            try:
                await self._settle(host, outcome)
            except StoreError:
                raise
            except Exception as error:  # it must not keep the others waiting
                self._on_trouble(f"internal error: a job could not be settled, it stays reserved: {error!r}")
            if self._unsettled and self._unsettled[0][1] is outcome:  # else it was pushed out meanwhile
                self._unsettled.popleft()

    async def _settle(self, host: str, outcome: Outcome) -> bool:
        """Settle a job; False when nobody knows it."""
        found = await self._recall(job_key(host, outcome.job))
        note = read_note(found) if found is not None else None
        if note is None:
            return False
        for name in outcome.also:
            self._note(job_key(host, name), replace(note, requests=outcome.also_requests or 0).text())
        await self.write_notes()
        if outcome.requests is not None and outcome.requests < note.requests:
            return True  # the list ended early, however cleanly
        reading, now_ms = outcome.reading, self._runtime.now_ms()
        usage = reading.usage
        if usage is None and reading.failed:
            if await self._budget.void(note.entry, now_ms, 200, "the provider billed nothing of it"):
                self._on_change(note.line(Usage(), 0, frozenset({"failed"})))
                self._wake()
            return True
        if usage is None or not reading.final or reading.unreadable:
            return True
        call, usage = note.call(), note.used(usage)

        def work_out() -> Priced:
            return self._pricing().cost(
                call, usage, reading.terms, reading.model, shares=reading.shares, at_ms=note.started_at_ms
            )

        priced = work_out() if len(reading.shares) <= MANY_SHARES else await self._runtime.in_thread(work_out)
        cost, assumed, marks = priced.amount, priced.assumed, {"failed"} if reading.failed else set()
        if reading.billed is not None and not priced.own:
            cost, assumed = reading.billed, False
            marks.add("billed")
        if assumed:
            marks.add("assumed")
        settlement = Settlement(
            cost=cost,
            usage=usage,
            settled_at_ms=now_ms,
            marks=frozenset(marks),
            status=200,
            model=reading.model if reading.model != note.model else "",
        )
        if await self._budget.settle(note.entry, settlement):
            self._on_change(note.line(usage, cost, settlement.marks))
            self._wake()
        return True

    # ── notes ──

    def _note(self, key: str, value: str) -> None:
        self._notes[key] = value, self._runtime.now_ms() + KEPT_MS
        if len(self._notes) > MAX_UNREMEMBERED:
            del self._notes[next(iter(self._notes))]

    async def _recall(self, key: str) -> str | None:
        known = self._notes.get(key)
        return known[0] if known is not None else await self._budget.recall(key, self._runtime.now_ms())
