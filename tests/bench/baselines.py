"""The two usual policies over the same load, in virtual time: clients, lengths, speeds, latencies and prices are those
of the run on the wire, the policy is a few lines of arithmetic."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.load import Call

RETRY_S = 1.0
"""A client whose call was refused sends it again after so long; the same on the wire."""


@dataclass(slots=True)
class Outcome:
    """What a policy let happen; money in nano-dollars."""

    bill: int = 0
    """What the providers generated."""
    posted: int = 0
    streams: int = 0
    """Admitted."""
    cut: int = 0
    refused: int = 0
    """Answers that were refusals, to calls sent again too."""
    bill_at_first_refusal: int | None = None
    """What had been generated when the first call was refused."""


def count_afterwards(call: Call, limit: int, posted: int, _pending: int) -> int | None:
    """Post-hoc counting: forward until what has been posted passes the limit."""
    return 0 if posted < limit else None


def reserve_maximum(call: Call, limit: int, posted: int, pending: int) -> int | None:
    """Reserve what the call costs at most; refuse what does not fit, extend nothing, wait for nobody."""
    most = call.cost(call.max_tokens)
    return most if posted + pending + most <= limit else None


def play(
    decide: Callable[[Call, int, int, int], int | None], draw: Callable[[int], Call], streams: int, limit: int
) -> Outcome:
    """Play a policy until each client has been refused since the last stream ended: it gives what to reserve, or
    None to refuse."""
    outcome, pending, taken, order = Outcome(), 0, 0, streams
    refused: set[int] = set()
    live: dict[int, tuple[float, Call]] = {}
    events: list[tuple[float, int, int, Call | None, Call | None, int]] = []
    """(when, order, client, the call to try (None: a new one), the call that ended, what it held)"""
    for client in range(streams):
        heapq.heappush(events, (0.0, client, client, None, None, 0))
    while len(refused) < streams:
        now_s, _, client, call, ended, held = heapq.heappop(events)
        if ended is not None:
            pending -= held
            del live[client]
            outcome.posted += ended.cost()
            refused.clear()
        if call is None:
            call = draw(taken)
            taken += 1
        amount = decide(call, limit, outcome.posted, pending)
        order += 1
        if amount is None:
            outcome.refused += 1
            if outcome.bill_at_first_refusal is None:
                outcome.bill_at_first_refusal = outcome.posted + sum(_so_far(now_s, *one) for one in live.values())
            if not live:
                refused.add(client)
            heapq.heappush(events, (now_s + RETRY_S, order, client, call, None, 0))
        else:
            refused.clear()
            pending += amount
            live[client] = (now_s, call)
            outcome.streams += 1
            outcome.bill += call.cost()
            heapq.heappush(events, (now_s + call.seconds, order, client, None, call, amount))
    return outcome


def _so_far(now_s: float, begun_s: float, call: Call) -> int:
    """What a stream that runs has been billed by now."""
    tokens = int((now_s - begun_s - call.rtt_s) * call.tokens_per_second)
    return call.cost(max(0, min(call.output_tokens, tokens)))
