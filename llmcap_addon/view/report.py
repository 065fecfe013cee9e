"""Report tables: what `llmcap report` prints for people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from rich.text import Text

from llmcap_addon.budget.ledger import Balance
from llmcap_addon.money import format_usd
from llmcap_addon.report import Report, Totals
from llmcap_addon.unclaimed import UnclaimedPath
from llmcap_addon.view.grid import Cell, Column, lay_out
from llmcap_addon.view.tables import bar, cap_name, used_style
from llmcap_addon.view.text import UNICODE, Glyphs, clean, duration, tokens

HEADING = "bold underline"
MOST_CELLS = 140
"""Wider tables are harder to read along."""
COUNT_CELLS = 7
"""A count in full up to 999,999; above that "1.2M"."""


def render_report(
    report: Report, now_ms: int, width: int, zone: tzinfo | None = None, glyphs: Glyphs = UNICODE
) -> Text:
    """Draw the sums, the caps as they stand, and the groups and unmetered paths if the report has any.

    No line is longer than `width` cells; `now_ms` is for when caps reset, `zone` None is the local one.
    """
    lines = _sums(report, zone)
    room = min(width, MOST_CELLS)
    if report.balances:
        lines += [Text(), *_caps(report.balances, now_ms, room, glyphs)]
    if report.by is not None:
        lines += [Text(), *_groups(report.by, report.groups, room, glyphs)]
    if report.unclaimed:
        lines += [Text(), *_unclaimed(report.unclaimed, room, zone, glyphs)]
    for line in lines:
        line.truncate(width)
        line.rstrip()
    return Text("\n", no_wrap=True).join(lines)


def _sums(report: Report, zone: tzinfo | None) -> list[Text]:
    totals = report.totals
    money = Text()
    money.append(f"{format_usd(totals.posted)} spent", "bold")
    if totals.pending:
        money.append(f", {format_usd(totals.pending)} reserved", "cyan")
    if report.since_ms is not None:
        at = datetime.fromtimestamp(report.since_ms / 1000, UTC).astimezone(zone)
        money.append(f" since {at:%Y-%m-%d %H:%M}")
    counts = Text(f"{totals.calls:,} {'call' if totals.calls == 1 else 'calls'}")
    for number, word, style in (
        (totals.refused, "refused", "red"),
        (totals.cut, "cut", "red"),
        (totals.estimated, "estimated", "yellow"),
        (totals.deferred, "deferred", "cyan"),
    ):
        if number:
            counts.append(", ")
            counts.append(f"{number:,} {word}", style)
    plans = report.plans
    if not plans.calls and not plans.refused:
        return [money, counts]
    words = f"under plans, not paid by the token: {plans.calls:,} {'call' if plans.calls == 1 else 'calls'}"
    notional = Text(f"{words} that would have cost {format_usd(plans.posted + plans.pending)}", "dim")
    if plans.refused:
        notional.append(f", {plans.refused:,} refused")
    return [money, counts, notional]


def _caps(balances: Sequence[Balance], now_ms: int, width: int, glyphs: Glyphs) -> list[Text]:
    def cells(balance: Balance) -> list[Cell]:
        resets_at_ms = balance.charge.resets_at_ms
        return [
            Cell(cap_name(balance, glyphs)),
            Cell(draw=lambda room: bar(balance, room, glyphs)),
            Cell(format_usd(balance.posted), used_style(balance)),
            Cell(format_usd(balance.pending) if balance.pending else glyphs.none),
            Cell(format_usd(balance.charge.limit)),
            Cell("never" if resets_at_ms is None else duration(resets_at_ms - now_ms)),
        ]

    columns = (
        Column("CAP", least=6, most=40, keep=9),
        Column("", least=8, most=24, keep=2, grow=True),
        Column("SPENT", least=7, most=14, align="right", keep=8),
        Column("RESERVED", least=8, most=14, align="right", keep=4),
        Column("LIMIT", least=7, most=14, align="right", keep=7),
        Column("RESETS IN", least=9, most=9, align="right", keep=5),
    )
    return lay_out(columns, [cells(balance) for balance in balances], width, glyphs, heading=HEADING)


def _unclaimed(paths: Sequence[UnclaimedPath], width: int, zone: tzinfo | None, glyphs: Glyphs) -> list[Text]:
    def cells(one: UnclaimedPath) -> list[Cell]:
        last = datetime.fromtimestamp(one.last_ms / 1000, UTC).astimezone(zone)
        return [
            Cell(clean(f"{one.method} {one.host}{one.path}", glyphs)),
            Cell(tokens(one.count, COUNT_CELLS)),
            Cell(tokens(one.forwarded, COUNT_CELLS) if one.forwarded else glyphs.none, "yellow"),
            Cell(f"{last:%Y-%m-%d %H:%M}"),
        ]

    columns = (
        Column("NOT METERED", least=12, most=100, keep=9),
        Column("TIMES", least=5, most=COUNT_CELLS, align="right", keep=7),
        Column("LET THROUGH", least=11, most=11, align="right", keep=6),
        Column("LAST", least=16, most=16, keep=5),
    )
    return lay_out(columns, [cells(one) for one in paths], width, glyphs, heading=HEADING)


def _groups(by: str, groups: Sequence[tuple[str, Totals]], width: int, glyphs: Glyphs) -> list[Text]:
    def count(number: int) -> Cell:
        return Cell(tokens(number, COUNT_CELLS) if number else glyphs.none)

    columns = (
        Column(by.upper(), least=8, most=60, keep=9),
        Column("SPENT", least=7, most=14, align="right", keep=8),
        Column("CALLS", least=5, most=COUNT_CELLS, align="right", keep=7),
        Column("REFUSED", least=7, most=COUNT_CELLS, align="right", keep=6),
        Column("CUT", least=3, most=COUNT_CELLS, align="right", keep=5),
        Column("IN", least=6, most=COUNT_CELLS, align="right", keep=4),
        Column("CACHED", least=6, most=COUNT_CELLS, align="right", keep=2),
        Column("OUT", least=6, most=COUNT_CELLS, align="right", keep=3),
    )
    rows = [
        [
            Cell(clean(name, glyphs)),
            Cell(format_usd(totals.posted), "bold"),
            count(totals.calls),
            count(totals.refused),
            count(totals.cut),
            count(totals.input_tokens),
            count(totals.cache_read_tokens),
            count(totals.output_tokens),
        ]
        for name, totals in groups
    ]
    return lay_out(columns, rows, width, glyphs, heading=HEADING)
