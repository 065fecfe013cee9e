"""Text: names, amounts, times and counts as the terminal shows them, whatever a request put into them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from rich.cells import cell_len

from llmcap_addon.money import Nanousd, format_usd

CLEAN_CHARS = 2_000
"""Of longer texts only the start is looked at: more than the widest line shows, and a name may be megabytes long."""
_ESCAPES = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?")
"""Control sequences (colours, cursor) and operating system commands (titles, links), ECMA-48 5.4 and 5.6."""


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters a terminal can show; `ascii_only` also replaces every other character by "?"."""

    spent: str
    reserved: str
    free: str
    rule: str
    ellipsis: str
    arrow: str
    dot: str
    none: str
    ascii_only: bool = False


UNICODE = Glyphs(spent="█", reserved="▒", free="·", rule="─", ellipsis="…", arrow="→", dot="·", none="–")
ASCII = Glyphs(
    spent="#", reserved="+", free=".", rule="-", ellipsis="..", arrow="->", dot="|", none="-", ascii_only=True
)


def clean(text: str, glyphs: Glyphs = UNICODE) -> str:
    """Make text from outside harmless on one line.

    Escape sequences and control characters are taken out, line ends become blanks; direction overrides, invisible and
    unassigned characters and marks that pile up on others are taken out, so that a cell of the terminal is a cell here.
    """
    kept: list[str] = []
    for character in unicodedata.normalize("NFC", _ESCAPES.sub("", text[:CLEAN_CHARS])):
        category = unicodedata.category(character)
        if character in "\t\n\r" or category[0] == "Z":
            kept.append(" ")
        elif category[0] == "C" or category in ("Mn", "Me"):
            continue
        elif glyphs.ascii_only and not character.isascii():
            kept.append("?")
        else:
            kept.append(character)
    return "".join(kept).strip()


def shorten(text: str, width: int, glyphs: Glyphs = UNICODE) -> str:
    """Fit clean text into so many cells by leaving out its middle: a model's family and its date both tell."""
    if cell_len(text) <= width:
        return text
    if width < 4:
        return _start(text, width)
    room = width - cell_len(glyphs.ellipsis)
    tail = _start(text[::-1], room // 2)[::-1]
    return _start(text, room - cell_len(tail)) + glyphs.ellipsis + tail


def clip(text: str, width: int, glyphs: Glyphs = UNICODE) -> str:
    """Fit clean text into so many cells by leaving out its end, as sentences are read."""
    if cell_len(text) <= width:
        return text
    mark = cell_len(glyphs.ellipsis)
    return _start(text, width - mark) + glyphs.ellipsis if width > mark else _start(text, width)


def wrap(text: str, width: int, most: int, glyphs: Glyphs = UNICODE) -> list[str]:
    """Break clean text at blanks into at most so many lines of so many cells; the last is clipped."""
    lines: list[str] = []
    while len(lines) < most - 1 and cell_len(text) > width:
        head = _start(text, width)
        cut = head.rfind(" ") if text[len(head)] != " " else len(head)
        cut = cut if cut > 0 else max(1, len(head))
        lines.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*lines, clip(text, width, glyphs)]


def _start(text: str, width: int) -> str:
    used = 0
    for index, character in enumerate(text):
        used += cell_len(character)
        if used > width:
            return text[:index]
    return text


def duration(milliseconds: int) -> str:
    """Write a span for people, in its two largest units: "2h 10m", "59s", "3d 4h", "400d"."""
    seconds = max(0, milliseconds) // 1000
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if days >= 100:
        return f"{days}d" if days < 36_500 else ">100y"
    if days:
        return f"{days}d {hours % 24}h"
    if hours:
        return f"{hours}h {minutes % 60}m"
    if minutes:
        return f"{minutes}m {seconds % 60}s"
    return f"{seconds}s"


def clock(at_ms: int, zone: tzinfo | None = None) -> str:
    """Write a time of day, local unless a zone is given: "12:03:41"."""
    try:
        return f"{datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(zone):%H:%M:%S}"
    except (OverflowError, OSError, ValueError):
        return "--:--:--"


def tokens(count: int, width: int = 7) -> str:
    """Write a count of tokens, in full while it fits ("12,345"), else "123k", "12.3M"."""
    full = f"{count:,}"
    if len(full) <= width:
        return full
    for unit, size in (("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)):
        if count < 999.5 * size:
            return f"{count / size:.1f}{unit}" if count < 99.95 * size else f"{count / size:.0f}{unit}"
    return ">1T"


def amount(cost: Nanousd, *, estimated: bool = False) -> str:
    """Write an amount of dollars, "~" before one that is estimated."""
    return ("~" if estimated else "") + format_usd(cost)
