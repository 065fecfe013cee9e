"""Which balances there are, remembered by one connection, so that an operation reads only amounts.

What a balance counts never changes, and ids only grow in the order of commits (AUTOINCREMENT, one writer at a time).
So what other processes have added since is found by one look above the highest id known; and nothing is remembered
before it is committed, for it is read only when a transaction begins.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from llmcap_addon.budget.ledger import Charge
from llmcap_addon.budget.matching import LABELS, RUN, Match, matches
from llmcap_addon.budget.stores.text import text

ROW_LABELS = (*LABELS, RUN)
"""The columns of `ledger` that caps match on."""

type Labels = tuple[str, ...]
"""A call's values of `ROW_LABELS`, in their order."""

_OVER_MS = 600_000
"""How long a balance is remembered after its period: most streams that began in it have ended by then. For the others
the table is read once more."""
_MIN_GROWN = 256
"""Fewer balances than this more are not worth forgetting."""
_MAX_KINDS = 256
"""Labels come from requests; so many kinds of calls are remembered with the balances that count them."""

_COLUMNS = "SELECT id, key, scope, period, run, starts_at_ms, resets_at_ms, match FROM balance"


class NotNow(Exception):
    """It would take longer than an event loop may stand still."""


@dataclass(slots=True)
class _Kind:
    """Calls with the same labels: which balances count them, among the first so many that are known."""

    looked_at: int = 0
    counting: list[tuple[int, int, int]] = field(default_factory=list)
    """Id, start and reset."""


class Live:
    """The balances of one run, and of all runs, whose period is not long over. Methods raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.is_hurried = False
        """True while an event loop waits: what takes long raises NotNow."""
        self._sql = connection.execute
        self._run: str | None = None
        self._since_ms = 0
        self._highest = 0
        self._enough = 0
        self._ids: dict[tuple[str, str, str], int] = {}
        self._known: list[tuple[int, int, int, Match]] = []
        self._kinds: dict[Labels, _Kind] = {}

    def refresh(self, run: str, started_at_ms: int) -> None:
        """Learn of balances that others have made; to be called before anything is written in a transaction."""
        is_known = run == self._run and started_at_ms >= self._since_ms and len(self._known) < self._enough
        if self.is_hurried and not is_known:
            raise NotNow
        if run != self._run or started_at_ms < self._since_ms:
            self._read(run, started_at_ms)
        elif len(self._known) >= self._enough:
            self._read(run, started_at_ms - _OVER_MS)
        else:
            self._learn(self._sql(f"{_COLUMNS} WHERE id > ? ORDER BY id", (self._highest,)))

    def id_of(self, charge: Charge) -> int | None:
        """Which balance is a charge's; None when it is not remembered, though it may be there."""
        return self._ids.get((charge.key, charge.scope, charge.period))

    def counting(self, labels: Labels, started_at_ms: int) -> list[int]:
        """Ids of all balances that count a call."""
        kind = self._kinds.get(labels)
        if kind is None:
            if len(self._kinds) >= _MAX_KINDS:
                self._kinds.clear()
            kind = self._kinds[labels] = _Kind()
        if kind.looked_at < len(self._known):
            by_name = dict(zip(ROW_LABELS, labels, strict=True))
            for number, starts_at_ms, resets_at_ms, match in self._known[kind.looked_at :]:
                if matches(match, by_name):
                    kind.counting.append((number, starts_at_ms, resets_at_ms))
            kind.looked_at = len(self._known)
        return [number for number, starts, resets in kind.counting if starts <= started_at_ms < resets]

    def _read(self, run: str, since_ms: int) -> None:
        self._run, self._since_ms, self._highest = run, since_ms, 0
        self._ids.clear()
        self._known.clear()
        self._kinds.clear()
        self._learn(
            self._sql(f"{_COLUMNS} WHERE run IN ('', ?) AND resets_at_ms > ? ORDER BY id", (text(run), since_ms))
        )
        self._highest = self._sql("SELECT coalesce(max(id), 0) FROM balance").fetchone()[0]
        self._enough = 2 * len(self._known) + _MIN_GROWN

    def _learn(self, rows: Iterable[tuple[int, str, str, str, str, int, int, str]]) -> None:
        runs = {"", text(self._run or "")}
        for number, key, scope, period, run, starts_at_ms, resets_at_ms, match in rows:
            self._highest = number
            if run in runs and resets_at_ms > self._since_ms:
                self._ids[key, scope, period] = number
                self._known.append((number, starts_at_ms, resets_at_ms, read_match(match)))


@lru_cache(maxsize=1_024)
def read_match(stored: str) -> Match:
    """Read the column `match` of a balance."""
    return tuple((label, glob) for label, glob in json.loads(stored))
