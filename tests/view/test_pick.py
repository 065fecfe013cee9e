"""Which view, and which characters."""

from __future__ import annotations

import io

import pytest

from llmcap_addon.view.pick import choose, glyphs
from llmcap_addon.view.text import ASCII, UNICODE, Glyphs


class Terminal(io.StringIO):
    """A text file that says it is a terminal."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """What Python writes to it."""
        return self._encoding

    def isatty(self) -> bool:
        """True."""
        return True


def test_console_on_a_terminal_lines_elsewhere() -> None:
    """A pipe, a file, and a terminal that can't move its cursor get lines."""
    assert choose("auto", Terminal(), {"TERM": "xterm-256color"}) == "console"
    assert choose("auto", Terminal(), {"TERM": "dumb"}) == "lines"
    assert choose("auto", Terminal(), {}) == "lines"
    assert choose("auto", io.StringIO(), {"TERM": "xterm"}) == "lines"
    assert choose("off", Terminal(), {"TERM": "xterm"}) == "off"


def test_closed_output_gets_nothing() -> None:
    """A daemon without stdout is no error."""
    out = io.StringIO()
    out.close()
    assert choose("auto", out, {"TERM": "xterm"}) == "off"


@pytest.mark.parametrize(
    ("encoding", "environ", "expected"),
    [
        ("utf-8", {}, UNICODE),
        ("utf-8", {"LANG": "en_US.UTF-8"}, UNICODE),
        ("utf-8", {"LANG": "de_DE.utf8@euro"}, UNICODE),
        ("utf-8", {"LC_CTYPE": "C.UTF-8"}, UNICODE),
        ("utf-8", {"LC_CTYPE": "UTF-8"}, UNICODE),
        ("utf-8", {"LC_CTYPE": "C.UTF-8", "LANG": "C"}, ASCII),
        ("utf-8", {"LC_ALL": "C", "LANG": "en_US.UTF-8"}, ASCII),
        ("utf-8", {"LC_ALL": "POSIX"}, ASCII),
        ("utf-8", {"LANG": "en_US.ISO-8859-1"}, ASCII),
        ("ascii", {"LANG": "en_US.UTF-8"}, ASCII),
        ("latin-1", {}, ASCII),
    ],
)
def test_characters_follow_stream_and_locale(encoding: str, environ: dict[str, str], expected: Glyphs) -> None:
    """Also where Python itself made the stream UTF-8 because the locale was C."""
    assert glyphs(Terminal(encoding), environ) is expected
