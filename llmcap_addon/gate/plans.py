"""Plans: what to do when a subscription is used up, and its calls are billed by the token after all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.ledger import Short
from llmcap_addon.budget.matching import API, PLAN
from llmcap_addon.call import Call
from llmcap_addon.gate import messages
from llmcap_addon.gate.admission import Policy
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.gate.runtime import Runtime
from llmcap_addon.wire.dialect import Refusal

BEYOND_PLAN_MS = 3_600_000
"""For so long after an answer that was billed beyond its plan the next calls count as paid by the token from the start:
plans are refilled every few hours. An answer that says otherwise ends it."""


class Plans:
    """Which hosts' plans are used up, by the word of their answers."""

    def __init__(self, budget: Budget, runtime: Runtime, policy: Callable[[], Policy]) -> None:
        self._budget = budget
        self._runtime = runtime
        self._policy = policy
        self._used_up_until_ms: dict[str, int] = {}
        """Only hosts whose answers say so."""

    def note(self, call: Call, told: str) -> None:
        """Note, from an answer's head, how a plan's calls are paid."""
        if told:
            self._used_up_until_ms[call.host] = self._runtime.now_ms() + BEYOND_PLAN_MS if told == API else 0

    def paid_as_told(self, call: Call) -> Call:
        """Give a call that comes now, under its plan only if that is not used up."""
        is_used_up = self._used_up_until_ms.get(call.host, 0) > self._runtime.now_ms()
        return replace(call, billing=API) if is_used_up and call.billing == PLAN else call

    async def cover(self, live: LiveCall) -> Refusal | None:
        """Set aside, in a row of its own, what a running call may cost that turned out to be paid by the token.

        Gives why its stream is to be cut where that does not fit. What can't be cut is set aside above the caps, for it
        will be billed. Raises StoreError.
        """
        if not live.is_beyond_plan or not live.backed or live.ended:
            return None
        paid, labels, amount = live.paid_entry(), live.labels(), max(1, live.reserved)
        outcome = await self._budget.reserve(paid, labels, amount)
        if isinstance(outcome, Short):
            if live.sliced:
                return self._cut(outcome)
            await self._budget.reserve_anyway(replace(paid, marks=paid.marks | {"overrun"}), amount)
        live.twin = paid
        grown = live.reserved - amount
        if grown > 0 and not await self._budget.extend(paid.id, labels, paid.started_at_ms, grown, grown):
            balances = await self._budget.standing(self._budget.charges(labels, paid.started_at_ms))
            return self._cut(Short(balances, (min(balances, key=lambda balance: balance.remaining),)))
        return None

    def _cut(self, short: Short) -> Refusal:
        policy = self._policy()
        return messages.cut(short.lacking[0], 0, self._runtime.now_ms(), policy.zone, policy.advice)
