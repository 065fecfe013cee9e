from __future__ import annotations

import datetime as dt
from dataclasses import replace
from decimal import Decimal

import pytest
from rich.cells import cell_len

from llmcap_addon.pricing.hours import Hours
from llmcap_addon.pricing.listing import Listed, Provider
from llmcap_addon.pricing.table import Card, Entry
from llmcap_addon.view.prices import LONG_LIST, Source, money, render_cards, render_overview
from llmcap_addon.view.text import ASCII, UNICODE, Glyphs

TODAY = dt.date(2026, 11, 23)
SOURCE = Source("2026-11-23", ("genai-prices 9.0", "litellm 9.1"), "/somewhere/prices.json.gz", fetched=False)
ROW = {name: Decimal("1.25") for name in (
    "input", "cached_input", "cache_write", "cache_write_1h", "output", "reasoning", "audio_input", "cached_audio",
    "audio_output", "image_input", "cached_image", "video_input", "image_output", "web_search", "maps",
)}  # fmt: skip
LEVELS = ((0, {"standard": ROW, "flex": {"input": Decimal("0.625")}}), (272_000, {"standard": {"input": Decimal(20)}}))
LOW = ((0, {"standard": {"input": Decimal("0.5"), "output": Decimal(1)}}),)
CARD = Card(
    LEVELS, {"us": Decimal("1.1"), "eu": Decimal("1.1")}, frozenset({"standard", "flex"}),
    ((Hours(0, 60, frozenset({1, 2, 3, 4, 5})), LOW), (Hours(0, 1440, frozenset({6, 7})), LOW)),
)  # fmt: skip
RAW = {
    "kind": "chat", "context": 128_000, "max_output": 16_384, "retired": "2027-01-20",
    "prices": [{"from": "", "seen": "2026-11-01", "by": ["genai-prices", "litellm"], "rows": {}}],
}  # fmt: skip
WHOLE = Listed(
    "deepseek", "api.deepseek.com", "model-alias", "assumed", CARD, Entry("deepseek", "model", RAW), "nobody lists it",
    ((dt.date(2026, 12, 1), Card(LOW, {}, frozenset({"standard"}))),), {"code_session": Decimal(30)},
)  # fmt: skip


def lines(*listed: Listed, width: int = 80, glyphs: Glyphs = UNICODE, source: Source = SOURCE) -> list[str]:
    return render_cards(listed, source, TODAY, width, glyphs).plain.split("\n")


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
def test_every_price_is_there_at_any_width(width: int, glyphs: Glyphs) -> None:
    """No line is too wide, and no kind of price is left out where the terminal is narrow."""
    shown = lines(WHOLE, width=width, glyphs=glyphs)
    assert all(cell_len(line) <= width for line in shown)
    text = " ".join(shown)
    for title in ("INPUT", "CACHED", "WRITE", "WRITE 1H", "OUTPUT", "REASONING", "AUDIO IN", "AUDIO OUT", "IMAGE OUT",
                  "VIDEO IN"):  # fmt: skip
        assert title in text
    assert text.count("1.25") >= 13
    assert glyphs is UNICODE or text.isascii()


def test_a_card_tells_all_that_decides_a_bill() -> None:
    """Tiers, long prompts, hours, places, fees, days to come, where it is from and why it is only assumed."""
    text = "\n".join(lines(WHOLE, width=200))
    for words in (
        "model-alias at api.deepseek.com (deepseek)",
        "assumed: nobody lists it",
        "the shipped table of 2026-11-23: from genai-prices and litellm, seen 2026-11-01",
        "chat, up to 128,000 tokens of context, answers of up to 16,384",
        "is to be switched off on 2027-01-20",
        "standard, prompt > 272,000",
        "flex",
        "$ a thousand: web searches 1.25, maps searches 1.25, code containers 30.00",
        "tokens cost 1.1 times as much in us and eu",
        "off-peak (UTC): Mon-Fri 00:00-01:00; Sat-Sun 00:00-24:00",
        "from 2026-12-01:",
    ):
        assert words in text


def test_a_price_of_ones_own_says_so() -> None:
    """It comes from caps.yaml, and the table's date has nothing to do with it."""
    text = "\n".join(lines(replace(WHOLE, origin="own", why="", coming=(), entry=None)))
    assert "your own price: `prices:` of caps.yaml, for api.deepseek.com" in text
    assert "shipped" not in text
    fetched = lines(replace(WHOLE, origin="table", why=""), source=replace(SOURCE, fetched=True))
    assert "the table you fetched of 2026-11-23: from genai-prices and litellm, seen" in fetched[1]


def test_prices_by_the_piece_are_told_in_words() -> None:
    """A model that bills no tokens has no table of them, and no factor on them."""
    levels = ((0, {"standard": {"per_page": Decimal("0.004")}, "batch": {"per_page": Decimal("0.002")}}),)
    card = Card(levels, {"us": Decimal("1.1")}, frozenset({"standard", "batch"}))
    text = "\n".join(lines(replace(WHOLE, card=card, coming=())))
    assert "$ each: page 0.004" in text
    assert "$ each, batch: page 0.002" in text
    assert "INPUT" not in text
    assert "1.1" not in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_many_cards_are_a_line_each(width: int) -> None:
    """With the prices that matter most, and what else a card has."""
    shown = lines(*[WHOLE] * (LONG_LIST + 1), width=width)
    assert len(shown) == LONG_LIST + 3
    assert all(cell_len(line) <= width for line in shown)
    assert "1.25" in shown[1]
    assert "names" in shown[-1]
    if width == 200:
        assert shown[1].endswith("assumed, steps, tiers, hours, changes")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_overview_counts_providers(width: int) -> None:
    """The table's date and sources, each provider's names and cards, and one's own prices."""
    providers = [Provider("openai", 1_234, 56, {"web_search": Decimal(10)}), Provider("xai", 7, 5, {})]
    text = render_overview(SOURCE, providers, {"api.openai.com": 2}, width)
    shown = text.plain.split("\n")
    assert all(cell_len(line) <= width for line in shown)
    assert "prices of 2026-11-23 (shipped)" in shown[0]
    assert any("openai" in line and "1,234" in line for line in shown)
    assert "1,241 names at 2 providers" in shown
    assert any("caps.yaml" in line for line in shown)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [("2.5", "2.50"), ("0", "0.00"), ("0.0375", "0.0375"), ("150", "150.00"), ("0.000015", "0.000015")],
)
def test_money_keeps_every_digit(amount: str, shown: str) -> None:
    """At least cents, and no needless zeros."""
    assert money(Decimal(amount)) == shown
