"""`scripts/bench bounds`: how far above its cost a call's reservation is, over the corpus."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Any

from tests.corpus.case import CASES, PRICES


def measure() -> dict[str, Any]:
    """Give, for each dialect, the medians of bound ÷ what was billed: input tokens by bytes and by count, and money."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for case in CASES:
        if case.raw.get("shortened"):
            continue
        usage, row = case.usage, found[case.route.dialect_name]
        for rung, name in (("bytes", "input, by bytes"), ("counted", "input, counted")):
            quote = PRICES.quote(case.call, "bytes" if rung == "bytes" else "counted")
            if usage.input_tokens:
                row[name].append(quote.input_tokens / usage.input_tokens)
            if case.raw["cost"]:
                row[f"money, {rung}"].append(quote.amount(quote.output_tokens) / case.raw["cost"])
        row["cases"].append(1)
    return {
        name: {key: len(values) if key == "cases" else round(median(values), 2) for key, values in row.items()}
        for name, row in sorted(found.items())
    }


def tell(figures: dict[str, Any]) -> str:
    """The figures as a table."""
    columns = ("input, by bytes", "input, counted", "money, bytes", "money, counted")
    lines = ["median of bound ÷ what was billed, over the corpus (tests/data/*/cases.json)", ""]
    lines.append(f"{'':<24}{'cases':>6}" + "".join(f"{column:>17}" for column in columns))
    for name, row in figures.items():
        cells = "".join(f"{row[column]:>17.2f}" if column in row else f"{'–':>17}" for column in columns)
        lines.append(f"{name:<24}{row['cases']:>6}{cells}")
    return "\n".join(lines)
