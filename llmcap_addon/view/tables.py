"""Tables: the console's sections (caps, spend, calls, log), each as lines of an exact width."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo

from rich.text import Text

from llmcap_addon.activity import CallLine
from llmcap_addon.budget.ledger import Balance
from llmcap_addon.money import Nanousd, format_usd
from llmcap_addon.view.grid import GAP, Cell, Column, fitted, lay_out
from llmcap_addon.view.text import Glyphs, amount, clean, clip, clock, duration, tokens

HEADING = "bold reverse"
"""Of section headings; shows without colours too."""
WIDE = 140
"""From this width on there is room for every column and for sections side by side."""
ALMOST_PERCENT = 80
"""From here on a cap's bar warns."""
PERCENT_CELLS = 5
_STATE_STYLES = {
    "waiting": "yellow",
    "running": "cyan",
    "streaming": "bold cyan",
    "done": "green",
    "deferred": "yellow",
    "refused": "bold red",
    "cut": "bold red",
    "failed": "magenta",
}
MARK_WORDS = {"assumed": "assumed price"}
"""Marks that are said otherwise than the ledger spells them."""


def caps_table(
    caps: Sequence[tuple[Balance, Nanousd]], rows: int, now_ms: int, width: int, glyphs: Glyphs
) -> list[Text]:
    """Show each balance with its burn rate (nano-dollars an hour) in at most so many rows below the heading.

    When they do not all fit, those nearest to their limit are shown and the last row says how many are not.
    """
    if not caps:
        return _message("CAPS", "no caps: spend is only counted", rows, width, glyphs)
    shown = list(caps)
    if len(shown) > rows:
        nearest = sorted(shown, key=lambda pair: -_used_percent(pair[0]))[: max(0, rows - 1)]
        shown = [pair for pair in shown if any(pair is near for near in nearest)]
    lines = lay_out(
        (
            Column("CAP", least=6, most=26 if width >= 60 else 12, keep=9),
            Column("", least=8, most=60, keep=2, grow=True),
            Column("SPENT", least=7, most=14, align="right", keep=8),
            Column("RESERVED", least=8, most=14, align="right", keep=4),
            Column("LIMIT", least=7, most=14, align="right", keep=7),
            Column("RESETS IN", least=9, most=9, align="right", keep=5),
            Column("AT THIS RATE", least=12, most=12, align="right", keep=6),
        ),
        [_cap_cells(balance, burn, now_ms, glyphs) for balance, burn in shown],
        width,
        glyphs,
        heading=HEADING,
    )
    hidden = len(caps) - len(shown)
    if hidden and rows > 0:
        lines.append(fitted(Text(f"{hidden} more, less used", "dim"), width))
    return lines


def bar(balance: Balance, width: int, glyphs: Glyphs) -> Text:
    """Draw what is spent, what is reserved and what is free; a full bar means that nothing is left."""
    labelled = width >= PERCENT_CELLS + 8
    cells = width - PERCENT_CELLS if labelled else width
    limit, posted, pending = balance.charge.limit, balance.posted, balance.pending
    spent = cells if posted >= limit else min(cells - 1, max(posted * cells // limit, 1 if posted else 0))
    if posted >= limit:
        reserved = 0
    elif posted + pending >= limit:
        reserved = cells - spent
    else:
        wanted = max(pending * cells // limit, 1 if pending else 0)
        reserved = max(0, min(wanted, cells - 1 - spent))
    style = used_style(balance)
    line = Text()
    line.append(glyphs.spent * spent, style)
    line.append(glyphs.reserved * reserved, "cyan")
    line.append(glyphs.free * (cells - spent - reserved), "dim")
    if labelled:
        percent = _used_percent(balance)
        line.append(f"{'<1' if posted > 0 and not percent else percent}%".rjust(PERCENT_CELLS), style)
    return line


def used_style(balance: Balance) -> str:
    """Green, yellow from `ALMOST_PERCENT` on, red when the cap is spent."""
    percent = _used_percent(balance)
    return "bold red" if percent >= 100 else "yellow" if percent >= ALMOST_PERCENT else "green"


def cap_name(balance: Balance, glyphs: Glyphs) -> str:
    """A cap's name with the scope it counts apart, clean."""
    return clean(f"{balance.charge.cap} {balance.charge.scope}", glyphs)


def reached_in(balance: Balance, burn: Nanousd, now_ms: int) -> tuple[str, str]:
    """Say when a cap would be spent at a burn rate (nano-dollars an hour), and the style to say it in."""
    left = balance.charge.limit - balance.posted
    if left <= 0:
        return "spent", "bold red"
    if balance.remaining == 0:
        return "all reserved", "yellow"
    if burn <= 0:
        return "", ""
    reached_ms = left * 3_600_000 // burn
    resets_at_ms = balance.charge.resets_at_ms
    if resets_at_ms is not None and now_ms + reached_ms >= resets_at_ms:
        return "resets first", "dim"
    return f"in {duration(reached_ms)}", "yellow"


def spend_table(
    title: str, spends: Sequence[tuple[str, Nanousd, int]], rows: int, width: int, glyphs: Glyphs
) -> list[Text]:
    """Show (name, cost, calls), dearest first, in at most so many rows below the heading."""
    if not spends:
        return _message(title, "no calls yet", rows, width, glyphs)
    shown, rest = spends[:rows], spends[rows:]
    if rest and rows > 0:
        shown, rest = spends[: rows - 1], spends[rows - 1 :]
        others = (f"({len(rest)} others)", sum(cost for _, cost, _ in rest), sum(calls for _, _, calls in rest))
        shown = (*shown, others)
    return lay_out(
        (
            Column(title, least=8, most=60, keep=3, grow=True),
            Column("SPENT", least=7, most=14, align="right", keep=2),
            Column("CALLS", least=5, most=9, align="right", keep=1),
        ),
        [
            (Cell(clean(name, glyphs) or "unknown"), Cell(format_usd(cost)), Cell(f"{calls:,}", "dim"))
            for name, cost, calls in shown
        ],
        width,
        glyphs,
        heading=HEADING,
    )


def calls_table(calls: Sequence[CallLine], rows: int, zone: tzinfo | None, width: int, glyphs: Glyphs) -> list[Text]:
    """Show the newest calls that fit, the newest last; always so many rows, so that what is below stays put."""
    if not calls:
        lines = _message("CALLS", "waiting for the first call", rows, width, glyphs)
    else:
        wide = width >= WIDE
        number = 9 if wide else 6
        lines = lay_out(
            (
                Column("TIME", least=8, most=8, keep=5),
                Column("CLIENT", least=8, most=24 if wide else 11, keep=9),
                Column("MODEL", least=8, most=48 if wide else 32, keep=8, grow=not wide),
                Column("IN", least=6, most=number, align="right", keep=6),
                Column("CACHED", least=6, most=number, align="right", keep=4),
                Column("OUT", least=6, most=number, align="right", keep=7),
                Column("COST", least=7, most=14, align="right", keep=11),
                *((Column("RESERVED", least=8, most=14, align="right", keep=3),) if wide else ()),
                Column("STATE", least=9, most=28 if wide else 10, keep=10, fit="end"),
                *((Column("", least=10, most=width, keep=2, fit="end", grow=True),) if wide else ()),
            ),
            [_call_cells(call, zone, wide, glyphs) for call in calls[-rows:]] if rows > 0 else [],
            width,
            glyphs,
            heading=HEADING,
            gap=GAP if wide else 1,
        )
    return lines + [Text(" " * width, no_wrap=True, end="")] * (rows + 1 - len(lines))


def log_table(logs: Sequence[str], rows: int, width: int, glyphs: Glyphs) -> list[Text]:
    """Show the last log lines."""
    newest = logs[-rows:] if rows > 0 else ()
    lines = [fitted(Text(clip(clean(log, glyphs), width, glyphs), "dim"), width) for log in newest]
    return [_heading("LOG", width), *lines]


def state_word(line: CallLine) -> str:
    """The one word for a call that there is room for in a narrow table."""
    if line.state != "done":
        return line.state
    for mark in ("failed", "unreserved", "assumed", "estimated"):
        if mark in line.marks:
            return "est. price" if mark == "assumed" else mark
    return "done"


def state_words(line: CallLine) -> str:
    """How a call stands, with all its marks: "done, estimated, assumed price"."""
    marks = sorted(mark for mark in line.marks if mark != line.state)
    return ", ".join((line.state, *(MARK_WORDS.get(mark, mark) for mark in marks)))


def _cap_cells(balance: Balance, burn: Nanousd, now_ms: int, glyphs: Glyphs) -> list[Cell]:
    resets_at_ms = balance.charge.resets_at_ms
    reached, style = reached_in(balance, burn, now_ms)
    return [
        Cell(cap_name(balance, glyphs), "bold"),
        Cell(draw=lambda width: bar(balance, width, glyphs)),
        Cell(format_usd(balance.posted), used_style(balance)),
        Cell(format_usd(balance.pending) if balance.pending else glyphs.none, "cyan" if balance.pending else "dim"),
        Cell(format_usd(balance.charge.limit)),
        Cell("never" if resets_at_ms is None else duration(resets_at_ms - now_ms), "dim"),
        Cell(reached or glyphs.none, style or "dim"),
    ]


def _call_cells(line: CallLine, zone: tzinfo | None, wide: bool, glyphs: Glyphs) -> list[Cell]:
    def count(value: int, style: str = "") -> Cell:
        return Cell(tokens(value, 9 if wide else 6), style) if value else Cell(glyphs.none, "dim")

    style = _STATE_STYLES["failed" if "failed" in line.marks and line.state == "done" else line.state]
    known = line.state not in ("waiting", "refused", "deferred")
    cost = Cell(amount(line.cost, estimated="estimated" in line.marks)) if known else Cell(glyphs.none, "dim")
    reserved = Cell(format_usd(line.reserved), "cyan") if line.reserved else Cell(glyphs.none, "dim")
    numbers = [count(line.input_tokens), count(line.cache_read_tokens, "dim"), count(line.output_tokens), cost]
    if line.state == "refused" and not wide:
        # There is no column for the reason, and nothing to say in those of the numbers.
        numbers = [Cell(_reason(line, glyphs), "red", span=len(numbers)), *numbers[1:]]
    return [
        Cell(clock(line.at_ms, zone), "dim"),
        Cell(clean(line.client, glyphs) or "unknown"),
        Cell(clean(line.model, glyphs) or "unknown", "bold"),
        *numbers,
        *((reserved,) if wide else ()),
        Cell(state_words(line) if wide else state_word(line), style),
        *((Cell(clean(line.message, glyphs), "dim"),) if wide else ()),
    ]


def _reason(line: CallLine, glyphs: Glyphs) -> str:
    reason = clean(line.message, glyphs)
    for opening in ("LLMCap: ", "refused, ", "refused for now, "):
        reason = reason.removeprefix(opening)
    return reason


def _used_percent(balance: Balance) -> int:
    limit = balance.charge.limit
    return 100 if balance.posted >= limit else max(0, balance.posted) * 100 // limit


def _message(title: str, text: str, rows: int, width: int, glyphs: Glyphs) -> list[Text]:
    line = fitted(Text(clip(text, width, glyphs), "dim italic"), width)
    return [_heading(title, width), *([line] if rows > 0 else [])]


def _heading(title: str, width: int) -> Text:
    heading = fitted(Text(title), width)
    heading.stylize(HEADING)
    return heading
