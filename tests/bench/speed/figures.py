"""Figures: what was measured in several rounds, held against its target, and the table of them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COLUMNS = ("figure", "median", "min – max", "target", "")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: a ratio or an amount, once a round."""

    name: str
    rounds: tuple[float, ...]
    """Empty when it was not measured."""
    target: float | None = None
    """None for what is told beside the others, and promises nothing."""
    at_least: bool = False
    """True when more is better."""
    unit: str = ""
    """Empty for ratios."""
    note: str = ""

    @property
    def median(self) -> float:
        """The figure itself."""
        return statistics.median(self.rounds)

    @property
    def is_met(self) -> bool | None:
        """True or false; None when there is no target, or nothing was measured."""
        if self.target is None or not self.rounds:
            return None
        return self.median >= self.target if self.at_least else self.median <= self.target

    def verdict(self) -> str:
        """Say whether the target is met, or by how much it is missed."""
        if not self.rounds:
            return "not measured"
        if self.is_met is None or self.target is None:
            return ""
        if self.is_met:
            return "met"
        missed = self.target - self.median if self.at_least else self.median - self.target
        share = f" ({missed / self.target:.0%})" if self.target else ""
        return f"missed by {_number(missed)}{self._unit}{share}"

    def as_json(self) -> dict[str, Any]:
        """The figure as a JSON object."""
        return {
            "name": self.name,
            "median": self.median if self.rounds else None,
            "rounds": list(self.rounds),
            "target": self.target,
            "better": "more" if self.at_least else "less",
            "unit": self.unit or "ratio",
            "met": self.is_met,
            "note": self.note,
        }

    def cells(self) -> tuple[str, ...]:
        """The figure's row of the table."""
        target = "" if self.target is None else f"{'≥' if self.at_least else '≤'} {self.target:g}{self._unit}"
        if not self.rounds:
            return self.name, "–", "", target, self.verdict()
        span = f"{_number(min(self.rounds))} – {_number(max(self.rounds))}" if len(self.rounds) > 1 else ""
        return self.name, _number(self.median) + self._unit, span, target, self.verdict()

    @property
    def _unit(self) -> str:
        return f" {self.unit}" if self.unit else ""


def table(figures: Sequence[Figure]) -> str:
    """Lay figures out for a terminal, and what is to be said about them below."""
    rows = [COLUMNS, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:4], widths[1:4], strict=True)]
        lines.append("  ".join([*cells, row[4]]).rstrip())
    lines.insert(1, "─" * (sum(widths[:4]) + 6))
    notes = dict.fromkeys(f"{figure.name}: {figure.note}" for figure in figures if figure.note)
    return "\n".join([*lines, *(["", *notes] if notes else [])])


def markdown(figures: Sequence[Figure]) -> str:
    """Lay the figures that have a target out as README shows them."""
    lines = ["| | measured | of rounds | target | |", "| --- | ---: | ---: | ---: | --- |"]
    lines += [f"| {' | '.join(figure.cells())} |" for figure in figures if figure.target is not None]
    return "\n".join(lines)


def percentile(times: Sequence[int], share: float) -> float:
    """Give the value that so large a share of all is not above."""
    ordered = sorted(times)
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * share))])


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
