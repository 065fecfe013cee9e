"""What `llmcap report` prints for people."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from llmcap_addon.money import nanousd
from llmcap_addon.report import Report, Totals
from llmcap_addon.view.report import render_report
from llmcap_addon.view.text import ASCII, UNICODE, Glyphs
from tests.view.scenes import BUSY, HOUR_MS, NOW_MS
from tests.view.test_text import ODD

REPORT = Report(
    totals=Totals(
        posted=nanousd("4.2134"),
        pending=nanousd("0.31"),
        calls=1_066,
        refused=3,
        cut=1,
        estimated=2,
        input_tokens=1_234_567,
        cache_read_tokens=1_000_000,
        output_tokens=54_321,
    ),
    balances=BUSY.balances,
    since_ms=NOW_MS - HOUR_MS,
    by="model",
    groups=(
        ("claude-opus-4-1-20250805", Totals(posted=nanousd("4"), calls=1_000, input_tokens=1_234_567, cut=1)),
        ("[red]x[/]\x1b[31m", Totals(posted=nanousd("0.2134"), calls=66, refused=3, output_tokens=54_321)),
    ),
)


def printed(report: Report, width: int, glyphs: Glyphs = UNICODE) -> list[str]:
    """The report's lines as a console of that width prints them, with single blanks."""
    out = io.StringIO()
    Console(file=out, width=width, legacy_windows=False).print(render_report(report, NOW_MS, width, UTC, glyphs))
    assert all(len(line) <= width for line in out.getvalue().splitlines())
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_report_at_80_columns_holds_every_fact() -> None:
    """Sums, caps and groups, none wrapped, no number shortened."""
    assert printed(REPORT, 80) == [
        "$4.21 spent, $0.31 reserved since 2025-11-23 11:03",
        "1,066 calls, 3 refused, 1 cut, 2 estimated",
        "",
        "CAP SPENT RESERVED LIMIT RESETS IN",
        "daily ████████▒·········· 42% $4.21 $0.31 $10.00 5h 0m",
        "fuse ███████████████████ 100% $2.00 – $2.00 19s",
        "opus ████████████████▒·· 87% $2.61 $0.12 $3.00 9h 0m",
        "experiment █·················· <1% $0.0042 – $20.00 never",
        "",
        "MODEL SPENT CALLS REFUSED CUT IN CACHED OUT",
        "claude-opus-4-1-20250805 $4.00 1,000 – 1 1.2M – –",
        "[red]x[/] $0.21 66 3 – – – 54,321",
    ]


def test_report_without_caps_or_groups_is_two_lines() -> None:
    """Nothing is said of what is not there."""
    assert printed(Report(totals=Totals(), balances=()), 80) == ["$0.00 spent", "0 calls"]


def test_report_without_unicode() -> None:
    """Bars and blanks of ASCII."""
    text = "\n".join(printed(REPORT, 120, ASCII))
    text.encode("ascii")
    assert "daily ########+..." in text


@given(st.integers(1, 250), ODD, st.integers(0, 10**18))
def test_report_fits_any_width(width: int, name: str, posted: int) -> None:
    """Whatever a model is called and whatever it cost."""
    totals = Totals(posted=posted, calls=posted, input_tokens=posted)
    report = replace(REPORT, groups=((name, totals),))
    lines = render_report(report, NOW_MS, width, UTC).plain.split("\n")
    assert all(cell_len(line) <= width for line in lines)
