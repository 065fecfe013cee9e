"""Activity: what calls do right now, as the gate tells it and the console shows it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from llmcap_addon.money import Nanousd, ceil_div

logger = logging.getLogger(__name__)

BURN_WINDOW_MS = 5 * 60_000
"""How far back the burn rate looks: short enough to show a runaway loop, long enough to span an agent's pauses."""
BURN_STEP_MS = 5_000
"""Costs are added up in steps of this length, so that the window is at most 61 steps whatever the traffic."""
BURN_FLOOR_MS = 10_000
"""The least time a rate is taken over: the first call's first second, times 3600, says nothing."""
KEPT_ENDED = 500
"""Ended calls remembered: more than the tallest terminal shows."""
KEPT_LIVE = 2_000
"""Live calls remembered: above what one proxy process can have in flight; the oldest is forgotten beyond it."""
KEPT_LABELS = 200
"""Models and clients told apart. Their names come from requests, so a client may invent them without end; what comes
after so many is added up as `OTHERS`."""
KEPT_LABEL_CHARS = 200
"""Longer names are cut: the longest real model id, an AWS inference profile's ARN, stays below."""
OTHERS = "(others)"

type CallState = Literal["waiting", "running", "streaming", "done", "refused", "cut", "deferred"]
"""Of a deferred call the answer has ended; its bill comes with the answer to a later request."""


@dataclass(frozen=True, slots=True)
class CallLine:
    """One call as a person sees it; the newest line of an id replaces the one before."""

    id: str
    at_ms: int
    """When the call began, Unix time in milliseconds."""
    client: str
    host: str
    provider: str
    model: str
    state: CallState
    input_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    cost: Nanousd = 0
    """So far, or in the end."""
    reserved: Nanousd = 0
    marks: frozenset[str] = frozenset()
    """As in the ledger: "estimated", "assumed", "overrun", "shortened", "failed" …"""
    message: str = ""
    """What a refused or cut call was told; empty otherwise."""
    billing: str = "api"
    """"plan" for a subscription's call, whose cost is notional and in no sum of what was spent."""

    def ended(self) -> bool:
        """Whether the call is over, though its bill may still be to come."""
        return self.state in ("done", "refused", "cut", "deferred")


@dataclass(frozen=True, slots=True)
class Counts:
    """How many calls this run of the proxy has seen."""

    calls: int = 0
    """Those waiting, running and ended; refused ones are not among them."""
    refused: int = 0
    cut: int = 0
    estimated: int = 0


type Labels = tuple[str, str, str, str, str]
"""Host, provider, model, client, billing, as caps match them."""
_LABEL_NAMES = ("host", "provider", "model", "client", "billing")
_OTHER_LABELS: Labels = (OTHERS, OTHERS, OTHERS, OTHERS, OTHERS)


class Activity:
    """The calls of this run of the proxy, in bounded memory; every update is a few dictionary operations.

    Lives on the event loop and is not safe for use by several threads. `now_ms` is the wall clock, Unix time in
    milliseconds: costs count towards the burn rate at the time they are told.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._started_at_ms = now_ms()
        self._live: dict[str, CallLine] = {}
        self._ended: dict[str, CallLine] = {}
        self._counts = [0, 0, 0, 0]
        self._spent: dict[str, dict[str, list[int]]] = {"model": {}, "client": {}}
        self._plans = [0, 0]
        self._steps: deque[tuple[int, dict[Labels, Nanousd]]] = deque()
        self._listeners: list[Callable[[CallLine], None]] = []

    def update(self, line: CallLine) -> None:
        """Take a call's newest line in place of the one before it; never raises."""
        before = self._live.pop(line.id, None) or self._ended.pop(line.id, None)
        if before is not None:
            self._add(before, -1)
        self._add(line, +1)
        kept, most = (self._ended, KEPT_ENDED) if line.ended() else (self._live, KEPT_LIVE)
        kept[line.id] = line
        if len(kept) > most:
            del kept[next(iter(kept))]
        self._burn(line, line.cost - (before.cost if before else 0))
        for listener in tuple(self._listeners):
            try:
                listener(line)
            except Exception as error:  # noqa: BLE001  a closed pipe or full disk must not reach the call being counted
                self._listeners.remove(listener)
                logger.error(  # noqa: TRY400  the user sees no traceback
                    "LLMCap: an output of calls was dropped: %s: %s", type(error).__name__, error
                )

    def subscribe(self, listener: Callable[[CallLine], None]) -> None:
        """Have `listener` called with every line; one that raises is dropped and the log says so."""
        self._listeners.append(listener)

    def live(self) -> tuple[CallLine, ...]:
        """Calls that have not ended, the newest last."""
        return tuple(sorted(self._live.values(), key=_begun))

    def recent(self, most: int) -> tuple[CallLine, ...]:
        """At most so many calls, the newest last: those that are live first of all, then those that ended last."""
        if most <= 0:
            return ()
        live = self.live()[-most:]
        ended = list(self._ended.values())[len(self._ended) - min(most - len(live), len(self._ended)) :]
        return tuple(sorted((*ended, *live), key=_begun))

    def spent_by(self, label: Literal["model", "client"]) -> list[tuple[str, Nanousd, int]]:
        """What this run spent by model or by client, as (name, cost, calls that were not refused), dearest first."""
        rows = [(name, cost, calls) for name, (cost, calls) in self._spent[label].items() if calls]
        return sorted(rows, key=lambda row: (-row[1], -row[2], row[0]))

    def plans(self) -> tuple[Nanousd, int]:
        """What this run's calls under a subscription would have cost by the token, and how many there were."""
        return self._plans[0], self._plans[1]

    def counts(self) -> Counts:
        """How many calls there were."""
        return Counts(*self._counts)

    def burn_rate(self, now_ms: int, counted: Callable[[Mapping[str, str]], bool] | None = None) -> Nanousd:
        """Nano-dollars an hour at the pace of the last `BURN_WINDOW_MS`, or since the start when that is shorter.

        `counted` says by host, provider, model, client and billing which calls to count (without it all that are paid
        by the token). Those added up as
        `OTHERS` always are, so that the rate is rather too high than too low.
        """
        since_ms = now_ms - BURN_WINDOW_MS
        spent = sum(
            cost
            for at_ms, costs in self._steps
            if at_ms + BURN_STEP_MS > since_ms
            for labels, cost in costs.items()
            if labels == _OTHER_LABELS
            or (labels[-1] != "plan" if counted is None else counted(dict(zip(_LABEL_NAMES, labels, strict=True))))
        )
        elapsed_ms = min(max(now_ms - self._started_at_ms, BURN_FLOOR_MS), BURN_WINDOW_MS)
        return ceil_div(max(0, spent) * 3_600_000, elapsed_ms)

    def _add(self, line: CallLine, sign: int) -> None:
        flags = (line.state != "refused", line.state == "refused", line.state == "cut", "estimated" in line.marks)
        for index, flag in enumerate(flags):
            self._counts[index] += sign * flag
        if line.state == "refused":
            return
        if line.billing == "plan":
            self._plans[0] += sign * line.cost
            self._plans[1] += sign
            return
        for spent, name in ((self._spent["model"], line.model), (self._spent["client"], line.client)):
            label = name[:KEPT_LABEL_CHARS]
            total = spent.setdefault(label if label in spent or len(spent) < KEPT_LABELS else OTHERS, [0, 0])
            total[0] += sign * line.cost
            total[1] += sign

    def _burn(self, line: CallLine, cost: Nanousd) -> None:
        now_ms = self._now_ms()
        while self._steps and self._steps[0][0] + BURN_STEP_MS <= now_ms - BURN_WINDOW_MS:
            self._steps.popleft()
        if cost == 0:
            return
        step_ms = now_ms - now_ms % BURN_STEP_MS
        if self._steps and step_ms + BURN_STEP_MS < self._steps[-1][0]:
            # The wall clock was set back. Steps of the future would be counted until it has caught up: start anew.
            self._steps.clear()
            self._started_at_ms = min(self._started_at_ms, now_ms)
        if not self._steps or self._steps[-1][0] < step_ms:
            self._steps.append((step_ms, {}))
        costs = self._steps[-1][1]
        cut = KEPT_LABEL_CHARS
        labels: Labels = (line.host[:cut], line.provider[:cut], line.model[:cut], line.client[:cut], line.billing)
        if labels not in costs and len(costs) >= KEPT_LABELS:
            labels = _OTHER_LABELS
        costs[labels] = costs.get(labels, 0) + cost


def _begun(line: CallLine) -> tuple[int, str]:
    return line.at_ms, line.id
