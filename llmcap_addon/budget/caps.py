"""Cap: how much may be spent, by which calls, in which time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from llmcap_addon.budget.ledger import Charge
from llmcap_addon.budget.matching import RUN, Match, literal, matches
from llmcap_addon.budget.windows import Per, period
from llmcap_addon.money import Nanousd


@dataclass(frozen=True, slots=True)
class Cap:
    """One entry of `caps:`."""

    name: str
    limit: Nanousd
    """0 refuses every call that matches."""
    per: Per
    match: Match = ()
    """Which calls it counts; all when empty."""
    each: tuple[str, ...] = ()
    """Labels whose values are counted apart, each with the whole limit."""
    key: str = field(init=False)
    """Its identity in the ledger: name and a digest of what it counts. A changed limit is the same cap; a changed
    match counts anew (from the rows that match)."""

    def __post_init__(self) -> None:
        counted = json.dumps([self.per, sorted(self.match), sorted(self.each)])
        object.__setattr__(self, "key", f"{self.name}:{sha256(counted.encode()).hexdigest()[:12]}")

    def charge(self, labels: Mapping[str, str], now_ms: int, timezone: str, run_id: str) -> Charge | None:
        """Name the balance that a call with these labels counts against now; None when the cap does not count it."""
        if not matches(self.match, labels):
            return None
        values = [labels.get(label, "") for label in self.each]
        scope = "" if not values else values[0] if len(values) == 1 else json.dumps(values, ensure_ascii=False)
        # The scope's own value has passed the globs of its label, so it takes their place.
        match = (
            *(pair for pair in self.match if pair[0] not in self.each),
            *((label, literal(value)) for label, value in zip(self.each, values, strict=True)),
        )
        return self._charge(scope, match, now_ms, timezone, run_id)

    def whole(self, now_ms: int, timezone: str, run_id: str) -> Charge:
        """Name the balance of a cap without `each`, whatever calls it counts."""
        return self._charge("", self.match, now_ms, timezone, run_id)

    def _charge(self, scope: str, match: Match, now_ms: int, timezone: str, run_id: str) -> Charge:
        span = period(self.per, now_ms, timezone, run_id)
        if self.per == "run":
            match = (*match, (RUN, literal(run_id)))
        return Charge(
            cap=self.name,
            key=self.key,
            scope=scope,
            period=span.key,
            starts_at_ms=span.starts_at_ms,
            resets_at_ms=span.resets_at_ms,
            limit=self.limit,
            match=match,
        )
