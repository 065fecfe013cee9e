"""What the ledger's rows add up to for a charge: whole days from the table `spent`, the rest from the rows."""
# ruff: noqa: S608 - what is put into the statements are names of columns, ours and constant

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from typing import Any

from llmcap_addon.budget.ledger import Charge
from llmcap_addon.budget.matching import any_matches, by_label, is_literal
from llmcap_addon.budget.stores.sqlite_live import ROW_LABELS
from llmcap_addon.budget.stores.text import text
from llmcap_addon.money import Nanousd

DAY_MS = 86_400_000
NEVER = 2**63 - 1
"""`resets_at_ms` of a balance that never resets: SQLite's largest integer."""
ROWS_A_MS = 2**20
"""Numbers of rows for one millisecond, in which SQLite writes a dozen at most. They last until the year 2248."""

_DAYS = (
    f"SELECT {', '.join(ROW_LABELS)}, sum(cost) FROM spent WHERE day >= ? AND day < ? GROUP BY {', '.join(ROW_LABELS)}"
)
_ADD = (
    f"INSERT INTO spent SELECT started_at_ms / {DAY_MS}, {', '.join(ROW_LABELS)}, ? FROM ledger WHERE seq = ?"
    " ON CONFLICT DO UPDATE SET cost = cost + excluded.cost"
)

type _Group = tuple[dict[str, str], Nanousd]


class Sums:
    """Sums for the new balances of one transaction, in which no cost has changed yet. Methods raise sqlite3.Error."""

    def __init__(self, sql: Callable[..., sqlite3.Cursor]) -> None:
        self._sql = sql
        self._days: dict[tuple[int, int], list[_Group]] = {}

    def of(self, charge: Charge) -> tuple[Nanousd, Nanousd, str]:
        """What a charge's rows have posted and pending, and which are pending or expired (a JSON list).

        Raises ValueError for a charge that matches on no label of rows.
        """
        where, values = _condition(charge)
        starts = charge.starts_at_ms
        resets = NEVER if charge.resets_at_ms is None else charge.resets_at_ms
        first, last = -(-starts // DAY_MS), resets // DAY_MS
        posted, parts = 0, [(starts, resets)]
        if first < last:
            posted, parts = self._of_days(charge, first, last), [(starts, first * DAY_MS), (last * DAY_MS, resets)]
        for begins, ends in parts:
            if begins < ends:
                posted += self._sql(
                    f"SELECT coalesce(sum(cost), 0) FROM ledger WHERE seq >= ? AND seq < ? AND {where}",
                    (first_seq(begins), first_seq(ends), *values),
                ).fetchone()[0]
        pending, rows = self._sql(
            "SELECT coalesce(sum(reserved), 0), json_group_array(seq) FROM ledger INDEXED BY ledger_open"
            f" WHERE state IN ('pending', 'expired') AND seq >= ? AND seq < ? AND {where}",
            (first_seq(starts), first_seq(resets), *values),
        ).fetchone()
        return posted, pending, rows

    def _of_days(self, charge: Charge, first: int, last: int) -> Nanousd:
        groups = self._days.get((first, last))
        if groups is None:
            found = self._sql(_DAYS, (first, last))
            groups = [(dict(zip(ROW_LABELS, labels, strict=True)), cost) for *labels, cost in found]
            self._days[first, last] = groups
        globs = by_label(charge.match)
        return sum(cost for labels, cost in groups if all(_fits(globs[name], labels[name]) for name in globs))


def first_seq(started_at_ms: int) -> int:
    """Give the number of the first row of a millisecond; `ROWS_A_MS` further is the next one's."""
    return min(max(0, started_at_ms) * ROWS_A_MS, NEVER)


def add_spent(sql: Callable[..., sqlite3.Cursor], seq: int, cost: Nanousd) -> None:
    """Add to the sums what a row has posted more than before. Raises sqlite3.Error."""
    if cost:
        sql(_ADD, (cost, seq))


def _fits(globs: list[str], value: str) -> bool:
    return value == text(globs[0]) if _is_one(globs) else any_matches(globs, value)


def _is_one(globs: list[str]) -> bool:
    return len(globs) == 1 and is_literal(globs[0])


def _condition(charge: Charge) -> tuple[str, list[Any]]:
    """What is true for the rows that a charge counts, but for their time."""
    terms, values = ["true"], []
    for label, globs in by_label(charge.match).items():
        if label not in ROW_LABELS:
            raise ValueError(f"cap {charge.cap} matches on {label!r}, which rows do not have")
        one = _is_one(globs)
        terms.append(f"{label} = ?" if one else f"any_matches(?, {label})")
        values.append(text(globs[0]) if one else json.dumps(globs))
    return " AND ".join(terms), values
