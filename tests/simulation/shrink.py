"""Making a failing episode shorter: whatever can be left out while it still fails the same way is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llmcap_addon.pricing.prices import Prices
from tests.simulation.check import Tally
from tests.simulation.episode import play
from tests.simulation.plan import Plan

MAX_TRIES = 600
"""Plays while shrinking: a minute or so, and most plans are down to two or three items by then."""


def failure(plan: Plan, prices: Prices) -> Exception | None:
    """Play a plan; gives how it failed."""
    try:
        play(plan, prices, Tally())
    except Exception as error:
        return error
    return None


def shrink(plan: Plan, error: Exception, prices: Prices) -> tuple[Plan, Exception]:
    """Leave out items and caps, in halves, then one by one, as long as the same kind of failure is left."""
    tries = 0
    shorter = True
    while shorter:
        shorter = False
        for smaller in _smaller(plan):
            tries += 1
            if tries > MAX_TRIES:
                return plan, error
            found = failure(smaller, prices)
            if found is not None and type(found) is type(error) and _kind(found) == _kind(error):
                plan, error, shorter = smaller, found, True
                break
    return plan, error


def _kind(error: Exception) -> str:
    """A failure's message without its names and numbers."""
    return " ".join(word for word in str(error).split() if word.isalpha())[:40]


def _smaller(plan: Plan) -> Iterator[Plan]:
    count = len(plan.items)
    size = count // 2
    while size:
        for start in range(0, count, size):
            yield replace(plan, items=plan.items[:start] + plan.items[start + size :])
        size //= 2
    for number in range(len(plan.caps)):
        yield replace(plan, caps=plan.caps[:number] + plan.caps[number + 1 :])
