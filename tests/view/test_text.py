"""Text from outside is harmless and fits."""

from __future__ import annotations

import unicodedata
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmcap_addon.view.text import ASCII, UNICODE, Glyphs, clean, clip, clock, duration, shorten, tokens, wrap

ODD = st.text(st.characters() | st.sampled_from("\x1b\x9b[]\x07\u202e\u200d\u0301界é🦊\ud800"), max_size=60)


@given(ODD, st.sampled_from([UNICODE, ASCII]))
def test_clean_text_has_nothing_that_a_terminal_obeys(text: str, glyphs: Glyphs) -> None:
    """No control, direction, invisible or surrogate character is left, nothing outside ASCII where ASCII is asked."""
    cleaned = clean(text, glyphs)
    assert all(unicodedata.category(character)[0] != "C" for character in cleaned)
    assert "\n" not in cleaned
    cleaned.encode("ascii" if glyphs.ascii_only else "utf-8")


def test_escape_sequences_go_whole() -> None:
    """Colours, cursor movements, titles and links leave nothing behind; markup stays as it was typed."""
    assert clean("\x1b[31mred\x1b[0m \x1b]0;title\x07x\x1b]8;;http://e\x1b\\y \x9b2Jz") == "red xy z"
    assert clean("[bold red]gpt[/]") == "[bold red]gpt[/]"
    assert clean("a\nb\tc") == "a b c"
    assert clean("mode\u202ele\u0301") == "modelé"


@given(ODD.map(clean), st.integers(0, 30), st.sampled_from([UNICODE, ASCII]))
def test_shortened_text_fits(text: str, width: int, glyphs: Glyphs) -> None:
    """Both ways to shorten keep to the width, and leave alone what fits."""
    for fit in (shorten, clip):
        short = fit(text, width, glyphs)
        assert cell_len(short) <= width
        assert short == text or cell_len(text) > width


@given(st.text("ab 界", max_size=60).map(clean), st.integers(2, 20), st.integers(1, 4))
def test_wrapped_text_fits(text: str, width: int, most: int) -> None:
    """Every line keeps to the width, and there are no more lines than asked."""
    lines = wrap(text, width, most)
    assert 1 <= len(lines) <= most
    assert all(cell_len(part) <= width for part in lines)


def test_shortening_keeps_family_and_date() -> None:
    """A model's two ends tell which it is."""
    assert shorten("claude-sonnet-4-5-20250929", 17) == "claude-s…20250929"
    assert shorten("claude-sonnet-4-5-20250929", 17, ASCII) == "claude-s..0250929"
    assert clip("a sentence that is long", 11) == "a sentence…"
    assert wrap("caps.yaml line 7 is wrong", 14, 2) == ["caps.yaml line", "7 is wrong"]


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (-5, "0s"),
        (59_999, "59s"),
        (525_000, "8m 45s"),
        (7_800_000, "2h 10m"),
        (273_600_000, "3d 4h"),
        (400 * 86_400_000, "400d"),
        (10**16, ">100y"),
    ],
)
def test_durations(milliseconds: int, words: str) -> None:
    """Two units say enough."""
    assert duration(milliseconds) == words


@pytest.mark.parametrize(
    ("count", "width", "words"),
    [(1_234, 6, "1,234"), (12_345, 6, "12,345"), (123_456, 6, "123k"), (12_345, 5, "12.3k"), (1_234_567, 6, "1.2M")],
)
def test_token_counts(count: int, width: int, words: str) -> None:
    """In full where it fits."""
    assert tokens(count, width) == words


@given(st.integers(0, 10**15), st.integers(5, 9))
def test_token_counts_fit(count: int, width: int) -> None:
    """No count is wider than its column."""
    assert len(tokens(count, width)) <= width


def test_clock_takes_any_number() -> None:
    """A time that no calendar has is no crash."""
    assert clock(1_763_899_421_000, UTC) == "12:03:41"
    assert clock(10**20, UTC) == "--:--:--"
