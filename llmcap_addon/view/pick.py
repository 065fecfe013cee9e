"""Pick: which view a run gets, and which characters its terminal can show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Literal

from llmcap_addon.view.text import ASCII, UNICODE, Glyphs

type View = Literal["console", "lines", "off"]


def choose(view: Literal["auto", "off"], stdout: IO[str], environ: Mapping[str, str]) -> View:
    """Give the live console on a terminal that can move its cursor, else a line a call; nothing when it is off."""
    if view == "off":
        return "off"
    try:
        terminal = stdout.isatty()
    except ValueError:  # closed, as it may be in a daemon
        return "off"
    return "console" if terminal and environ.get("TERM", "").lower() not in ("", "dumb", "unknown") else "lines"


def glyphs(stdout: IO[str], environ: Mapping[str, str]) -> Glyphs:
    """Give Unicode characters when both the stream and the locale take them, else ASCII.

    Python's UTF-8 mode and locale coercion (PEP 538, PEP 540) make the stream UTF-8 under LANG=C, where the terminal
    may not be: so a locale that says C, POSIX or another charset counts as well. No locale at all is a container's
    usual state and says nothing.
    """
    encoding = (getattr(stdout, "encoding", None) or "").lower().replace("-", "").replace("_", "")
    if encoding not in ("utf8", "utf8sig"):
        return ASCII
    ctype = environ.get("LC_CTYPE", "")
    coerced = ctype in ("C.UTF-8", "C.utf8", "UTF-8")  # as PEP 538 sets it
    locale = environ.get("LC_ALL") or (ctype if not coerced else "") or environ.get("LANG") or ctype
    charset = locale.partition("@")[0].partition(".")[2].lower().replace("-", "")
    if locale in ("", "UTF-8") or charset == "utf8":
        return UNICODE
    # "de_DE" without a charset may stand for ISO 8859-1.
    return ASCII
