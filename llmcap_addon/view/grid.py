"""Grid: rows of cells laid out in an exact number of columns, so that a live screen never wraps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.text import Text

from llmcap_addon.view.text import Glyphs, clip, shorten

GAP = 2
"""Blanks between columns, and between blocks that stand side by side."""


@dataclass(frozen=True, slots=True)
class Column:
    """How wide a column may be and what becomes of it when the line is too short for all."""

    title: str
    least: int
    most: int
    """It is as wide as its widest cell, between these two."""
    align: Literal["left", "right"] = "left"
    """Numbers stand right; they get their width before texts do, since half a number misleads."""
    keep: int = 0
    """Columns with the lowest number are left out first when even the least widths do not fit."""
    fit: Literal["middle", "end"] = "middle"
    """Where a text that is too long loses characters; numbers always lose them at the end."""
    grow: bool = False
    """Takes the blanks that are left over, up to `most`."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A clean text with one style, or what draws itself into the column's width."""

    text: str = ""
    style: str = ""
    draw: Callable[[int], Text] | None = None
    span: int = 1
    """Columns it takes; the cells it covers are not drawn, and it makes no column wider when it covers some."""


def lay_out(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    width: int,
    glyphs: Glyphs,
    *,
    heading: str,
    gap: int = GAP,
) -> list[Text]:
    """Give a heading in the style `heading` and the rows, each a line of exactly `width` cells."""
    widths = _widths(columns, rows, width, gap)

    def line(cells: Sequence[Cell]) -> Text:
        return fitted(_line(columns, cells, widths, " " * gap, glyphs), width)

    head = line([Cell(column.title) for column in columns])
    head.stylize(heading)
    return [head, *map(line, rows)]


def beside(blocks: Sequence[tuple[list[Text], int]], height: int) -> list[Text]:
    """Put blocks of (lines, width) side by side, `GAP` blanks apart; lines above `height` are left out."""
    lines: list[Text] = []
    for index in range(min(height, max(len(block) for block, _ in blocks))):
        line = Text(no_wrap=True, end="")
        for number, (block, width) in enumerate(blocks):
            if number:
                line.append(" " * GAP)
            line.append_text(block[index] if index < len(block) else Text(" " * width))
        lines.append(line)
    return lines


def fitted(text: Text, width: int) -> Text:
    """Crop or pad one line to exactly so many cells."""
    line = text.copy()
    line.no_wrap, line.end = True, ""
    line.truncate(max(0, width), overflow="crop", pad=True)
    return line


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int, gap: int) -> list[int]:
    shown = sorted(range(len(columns)), key=lambda index: -columns[index].keep)
    while shown and sum(columns[index].least for index in shown) + gap * (len(shown) - 1) > width:
        shown.pop()
    given = {index: columns[index].least for index in shown}
    spare = width - sum(given.values()) - gap * max(0, len(shown) - 1)

    def widen(index: int, wanted: int) -> None:
        nonlocal spare
        more = min(spare, max(0, min(wanted, columns[index].most) - given[index]))
        given[index] += more
        spare -= more

    for index in sorted(shown, key=lambda index: columns[index].align == "left"):
        longest = max((cell_len(row[index].text) for row in rows if row[index].span == 1), default=0)
        widen(index, max(longest, len(columns[index].title)))
    for index in shown:
        if columns[index].grow:
            widen(index, columns[index].most)
    return [given.get(index, 0) for index in range(len(columns))]


def _line(columns: Sequence[Column], cells: Sequence[Cell], widths: Sequence[int], gap: str, glyphs: Glyphs) -> Text:
    line = Text()
    after = 0
    for index, (column, cell) in enumerate(zip(columns, cells, strict=True)):
        covered = [room for room in widths[index : index + cell.span] if room]
        if index < after or not covered:
            continue
        after = index + cell.span
        room = sum(covered) + len(gap) * (len(covered) - 1)
        if line:
            line.append(gap)
        if cell.draw is not None:
            line.append_text(fitted(cell.draw(room), room))
            continue
        right = column.align == "right" and cell.span == 1
        fit = clip if column.fit == "end" or column.align == "right" else shorten
        text = fit(cell.text, room, glyphs)
        blanks = " " * (room - cell_len(text))
        line.append(blanks + text if right else text + blanks, cell.style)
    return line
