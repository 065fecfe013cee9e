"""Report: what the ledger's rows and the caps' balances add up to, for `llmcap report` and a run's last line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from llmcap_addon.activity import Counts
from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.ledger import Balance, Row
from llmcap_addon.budget.matching import PLAN
from llmcap_addon.money import Nanousd, decimal_usd, format_usd
from llmcap_addon.unclaimed import UnclaimedPath

type GroupBy = Literal["model", "client", "host", "cap", "billing"]

UNNAMED = "(none)"
"""Stands where a row has no such label: a call without a model, or one that no cap counted."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over some rows of the ledger; tokens as the rows have them (input includes cached)."""

    posted: Nanousd = 0
    pending: Nanousd = 0
    calls: int = 0
    """Forwarded calls, those still running too; refused ones are not among them."""
    refused: int = 0
    cut: int = 0
    estimated: int = 0
    deferred: int = 0
    """Those whose bill is still to come, with the answer to a later request; until then they are reserved."""
    input_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0

    def plus(self, row: Row) -> Totals:
        """Add one row."""
        if row.state == "refused":
            return replace(self, refused=self.refused + 1)
        return Totals(
            posted=self.posted + row.cost,
            pending=self.pending + row.reserved,
            calls=self.calls + 1,
            refused=self.refused,
            cut=self.cut + ("cut" in row.marks),
            estimated=self.estimated + ("estimated" in row.marks),
            deferred=self.deferred + (row.state == "pending" and "deferred" in row.marks),
            input_tokens=self.input_tokens + row.usage.input_tokens,
            cache_read_tokens=self.cache_read_tokens + row.usage.cache_read_tokens,
            output_tokens=self.output_tokens + row.usage.output_tokens,
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What was spent since a time, how the caps stand now, and the same apart by one label."""

    totals: Totals
    balances: tuple[Balance, ...]
    """Every cap in force, as it stands in its current period, whatever `since_ms` is."""
    since_ms: int | None = None
    """Unix time in milliseconds; None for all that the ledger holds."""
    by: GroupBy | None = None
    groups: tuple[tuple[str, Totals], ...] = ()
    """Name and sums, dearest first; empty without `by`. With "cap", a row counts for each cap it was charged to."""
    plans: Totals = Totals()
    """Calls under a subscription, in no other sum but those of caps and of `billing`: what they cost is notional."""
    unclaimed: tuple[UnclaimedPath, ...] = ()
    """Paths of LLM hosts that nothing meters, the most recent first."""


def make_report(
    rows: Iterable[Row], balances: Sequence[Balance], since_ms: int | None = None, by: GroupBy | None = None
) -> Report:
    """Add up rows; they are taken to be those since `since_ms` already."""
    totals = plans = Totals()
    groups: dict[str, Totals] = {}
    names = _NAMES[by] if by else None
    for row in rows:
        if row.entry.billing == PLAN:
            plans = plans.plus(row)
            if by not in ("cap", "billing"):
                continue
        else:
            totals = totals.plus(row)
        for name in names(row) if names else ():
            groups[name or UNNAMED] = groups.get(name or UNNAMED, Totals()).plus(row)
    ordered = sorted(groups.items(), key=lambda item: (-item[1].posted - item[1].pending, -item[1].calls, item[0]))
    return Report(totals, tuple(balances), since_ms, by, tuple(ordered), plans)


async def read_report(budget: Budget, since_ms: int | None = None, by: GroupBy | None = None) -> Report:
    """Make a report from the ledger; also while other processes write to it. Raises StoreError.

    A cap per run is shown as it stands for the run that began a call last, since a report is no run of its own.
    """
    newest = await budget.rows(limit=1)
    if newest:
        budget.run_id = newest[-1].entry.run
    return make_report(await budget.rows(since_ms or 0), await budget.balances(), since_ms, by)


_NAMES: Mapping[GroupBy, Callable[[Row], Sequence[str]]] = {
    "model": lambda row: (row.entry.model,),
    "client": lambda row: (row.entry.client,),
    "host": lambda row: (row.entry.host,),
    "cap": lambda row: row.caps or (UNNAMED,),
    "billing": lambda row: (row.entry.billing,),
}


def report_json(report: Report) -> dict[str, Any]:
    """Give the report as `llmcap report --json` prints it; README documents these keys as stable.

    Amounts are decimal strings of dollars, exact to the nano-dollar; times are ISO 8601 in UTC.
    """
    document: dict[str, Any] = {
        "since": _iso(report.since_ms),
        **_totals_json(report.totals),
        "caps": [
            {
                "name": balance.charge.cap,
                "limit": decimal_usd(balance.charge.limit),
                "posted": decimal_usd(balance.posted),
                "pending": decimal_usd(balance.pending),
                "resets_at": _iso(balance.charge.resets_at_ms),
            }
            for balance in report.balances
        ],
    }
    document["plans"] = _totals_json(report.plans)
    if report.by is not None:
        document["by"] = [{report.by: name, **_totals_json(totals)} for name, totals in report.groups]
    document["unmetered"] = [
        {
            "host": one.host,
            "method": one.method,
            "path": one.path,
            "count": one.count,
            "forwarded": one.forwarded,
            "first": _iso(one.first_ms),
            "last": _iso(one.last_ms),
        }
        for one in report.unclaimed
    ]
    return document


def _totals_json(totals: Totals) -> dict[str, Any]:
    return {
        "posted_usd": decimal_usd(totals.posted),
        "pending_usd": decimal_usd(totals.pending),
        "calls": totals.calls,
        "refused": totals.refused,
        "cut": totals.cut,
        "estimated": totals.estimated,
        "deferred": totals.deferred,
        "input_tokens": totals.input_tokens,
        "cache_read_tokens": totals.cache_read_tokens,
        "output_tokens": totals.output_tokens,
    }


def _iso(at_ms: int | None) -> str | None:
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


_PERIOD_WORDS = {
    "minute": "this minute",
    "hour": "this hour",
    "day": "today",
    "week": "this week",
    "month": "this month",
    "run": "in this run",
    "ever": "in all",
}


def summary_line(spent: Nanousd, counts: Counts, balances: Sequence[Balance]) -> str:
    """Write a run's last line: "llmcap: $0.42 of $5.00 today · 12 calls · 1 refused".

    `balances` are those of every cap in force; of several, the fullest is told. Without caps it is what the run spent.
    """
    money = format_usd(spent)
    if balances:
        fullest = max(balances, key=_fullness)
        words = _PERIOD_WORDS.get(fullest.charge.period.partition(":")[0], "")
        money = f"{format_usd(fullest.posted)} of {format_usd(fullest.charge.limit)} {words}".rstrip()
        if len(balances) > 1:
            money += f" ({fullest.charge.cap})"
    parts = [money, f"{counts.calls} {'call' if counts.calls == 1 else 'calls'}"]
    parts += [f"{count} {word}" for count, word in ((counts.refused, "refused"), (counts.cut, "cut")) if count]
    return "llmcap: " + " · ".join(parts)


def _fullness(balance: Balance) -> tuple[int, int]:
    """How much of the limit is gone, in parts per billion; of equals, the smaller limit."""
    limit = balance.charge.limit
    return ((balance.posted + balance.pending) * 10**9 // limit if limit else 10**9, -limit)
