"""Lines: one line a call, for outputs that are not a terminal, and the comment on a flow."""

from __future__ import annotations

from datetime import tzinfo
from typing import IO

from llmcap_addon.activity import CallLine
from llmcap_addon.money import format_usd
from llmcap_addon.view.tables import MARK_WORDS
from llmcap_addon.view.text import UNICODE, Glyphs, clean, clock, shorten

NAME_CELLS = 80
"""A longer model or client name is shortened: its line must stay a line."""


def call_line(line: CallLine, zone: tzinfo | None = None, glyphs: Glyphs = UNICODE) -> str:
    """Write a call on one line.

    "12:03:41 claude-code claude-sonnet-4-5 12,345→1,234 (cached 10,000) $0.0123 done estimated"; a refused or cut
    call ends with what it was told; a deferred one says what it may cost at most, and has another line when it is
    billed. `zone` None is the local time.
    """
    words = [clock(line.at_ms, zone), _name(line.client, glyphs), _name(line.model, glyphs)]
    if line.state == "deferred":
        words.append(f"up to {format_usd(line.reserved)}")
    elif line.state not in ("refused", "waiting"):
        words.append(_tokens(line, glyphs))
        if line.cache_read_tokens:
            words.append(f"(cached {line.cache_read_tokens:,})")
        words.append(format_usd(line.cost))
    words.append(line.state)
    words += [MARK_WORDS.get(mark, mark) for mark in sorted(line.marks) if mark != line.state]
    if line.message:
        words.append(clean(line.message, glyphs))
    return " ".join(words)


def flow_comment(line: CallLine) -> str:
    """Write what mitmproxy and mitmweb show beside a flow: "$0.0123 gpt-4o 1,234→567 estimated", "refused gpt-4o"."""
    model = _name(line.model, UNICODE)
    if line.state in ("refused", "waiting", "deferred"):
        return f"{line.state} {model}"
    words = [format_usd(line.cost), model, _tokens(line, UNICODE)]
    if line.state != "done":
        words.append(line.state)
    words += [MARK_WORDS.get(mark, mark) for mark in sorted(line.marks) if mark != line.state]
    return " ".join(words)


def refused_comment(model: str = "") -> str:
    """Write what stands beside a flow that we answered ourselves; a model is known only where its body was read."""
    return f"refused {_name(model, UNICODE)}" if model else "refused"


class LinePrinter:
    """Prints a line for each call that ends; hand it to `Activity.subscribe`."""

    def __init__(self, out: IO[str], zone: tzinfo | None = None, glyphs: Glyphs = UNICODE) -> None:
        self._out = out
        self._zone = zone
        self._glyphs = glyphs

    def __call__(self, line: CallLine) -> None:
        """Print an ended call at once, so that a pipe's reader sees it; raises OSError when nobody reads any more."""
        if line.ended():
            print(call_line(line, self._zone, self._glyphs), file=self._out, flush=True)


def _name(name: str, glyphs: Glyphs) -> str:
    return shorten(clean(name, glyphs), NAME_CELLS, glyphs) or "unknown"


def _tokens(line: CallLine, glyphs: Glyphs) -> str:
    return f"{line.input_tokens:,}{glyphs.arrow}{line.output_tokens:,}"
