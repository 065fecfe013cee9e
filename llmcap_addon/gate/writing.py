"""Writing: how calls ended, and what was refused, on their way into the ledger; kept while a store fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.ledger import Entry, Settlement
from llmcap_addon.errors import StoreError
from llmcap_addon.gate.endings import Defer, Void
from llmcap_addon.gate.jobs import KEPT_MS, Jobs
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.gate.runtime import Runtime
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Refusal

MAX_UNWRITTEN = 10_000
"""Settlements kept for a store that fails; past it their reservations stay pending until they expire, in full."""


class Writing:
    """Writes rows; what the store does not take is written when it is back."""

    def __init__(
        self,
        *,
        budget: Budget,
        jobs: Jobs,
        runtime: Runtime,
        wake: Callable[[], None],
        on_trouble: Callable[[str], None],
        on_store_trouble: Callable[[str], None],
    ) -> None:
        """`wake` is told when money may have been given back."""
        self._budget = budget
        self._jobs = jobs
        self._runtime = runtime
        self._wake = wake
        self._on_trouble = on_trouble
        self._on_store_trouble = on_store_trouble
        self._unwritten: deque[tuple[LiveCall, Settlement | Void | Defer]] = deque()
        self._unsure: deque[tuple[Entry, Refusal]] = deque(maxlen=MAX_UNWRITTEN)
        """Refused calls whose reservation may have been made all the same (a store can fail after it did), and whose
        rows may not have been written."""

    @property
    def unwritten(self) -> int:
        """How many rows the store has not taken yet, or may have taken unheard."""
        return len(self._unwritten) + len(self._unsure)

    async def write_down(self, live: LiveCall, ended: Settlement | Void | Defer) -> None:
        """Write how a call ended; never raises."""
        if isinstance(ended, Defer):
            if live.backed and not live.is_beyond_plan:
                self._jobs.note_job(live.entry, live.call, ended.job)  # at once: its bill may come while we write
            else:
                ended = live.in_full(ended.status, "billed with a later answer, but nothing was reserved for it")
        try:
            await self._write(live, ended)
        except Exception as error:
            if isinstance(error, StoreError):
                self._on_store_trouble(str(error))
            else:
                self._on_trouble(f"internal error: a call could not be written down: {type(error).__name__}: {error}")
            if len(self._unwritten) < MAX_UNWRITTEN:
                self._unwritten.append((live, ended))
        finally:
            self._wake()

    async def _write(self, live: LiveCall, ended: Settlement | Void | Defer) -> None:
        if isinstance(ended, Defer):
            await self._jobs.write_notes()
            await self._budget.defer(live.entry.id, self._runtime.now_ms() + KEPT_MS)
            return
        if live.is_beyond_plan and isinstance(ended, Settlement):
            # Paid by the token after all: it counts for every cap, in a row of its own. Both may be tried again.
            await self._budget.post_unreserved(live.paid_entry(), live.labels(), ended)
            ended = Void(ended.settled_at_ms, ended.status, "paid by the token, its plan is used up: see its other row")
        if not live.backed:
            if isinstance(ended, Void):
                # A row all the same; and a reservation that was made before the store failed is released by it.
                ended = Settlement(0, Usage(), ended.settled_at_ms, frozenset({"failed"}), ended.status, "", ended.note)
            await self._budget.post_unreserved(live.entry, live.call.labels(), ended)
        elif isinstance(ended, Void):
            await self._budget.void(live.entry.id, ended.settled_at_ms, ended.status, ended.note)
        else:
            await self._budget.settle(live.entry.id, ended)

    async def write_refusal(self, entry: Entry, refusal: Refusal) -> None:
        """Write a refusal's row; a store that fails gets it later, no money was moved. Never raises."""
        try:
            await self._write_refusal(entry, refusal)
        except StoreError as error:
            self._on_store_trouble(str(error))
            self.owe(entry, refusal)
        except Exception as error:  # what was refused stays refused, whatever `on_error` says
            self._on_trouble(f"internal error: a refusal could not be written down: {type(error).__name__}: {error}")

    def owe(self, entry: Entry, refusal: Refusal) -> None:
        """Write a refusal's row when the store is back, and void what it may have reserved."""
        self._unsure.append((entry, refusal))

    async def _write_refusal(self, entry: Entry, refusal: Refusal) -> None:
        await self._budget.record_refusal(entry, (refusal.cap,) if refusal.cap else (), refusal.kind)

    async def retry(self) -> None:
        """Write down what a failing store did not take; raises StoreError."""
        while self._unwritten:
            live, ended = self._unwritten[0]
            try:
                await self._write(live, ended)
            except StoreError:
                raise
            except Exception as error:  # it must not keep the others waiting
                self._on_trouble(f"internal error: a call could not be written down: {type(error).__name__}: {error}")
                await self._write_bare(live, ended)
            if self._unwritten and self._unwritten[0][0] is live:
                self._unwritten.popleft()
            self._wake()
        await self._jobs.retry()
        while self._unsure:
            entry, refusal = self._unsure[0]
            note = "refused, the ledger did not answer"
            if await self._budget.void(entry.id, self._runtime.now_ms(), 0, note):
                self._wake()
            else:
                await self._write_refusal(entry, refusal)
            if self._unsure and self._unsure[0][0] is entry:  # else it was pushed out meanwhile
                self._unsure.popleft()

    async def _write_bare(self, live: LiveCall, ended: Settlement | Void | Defer) -> None:
        """Post what a call's row could not be written with, without its details: nothing but its money."""
        if isinstance(ended, Settlement):
            bare = Settlement(
                cost=max(ended.cost, live.reserved),
                usage=Usage(),
                settled_at_ms=ended.settled_at_ms,
                marks=frozenset({"estimated"}),
                note="its details could not be written down",
            )
            try:
                await self._write(live, bare)
            except StoreError:
                raise
            except Exception as error:
                self._on_trouble(f"internal error: a cost could not be written down: {type(error).__name__}: {error}")
