"""Rows keep to the width, numbers before names."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from llmcap_addon.view.grid import Cell, Column, beside, fitted, lay_out
from llmcap_addon.view.text import UNICODE, clean
from tests.view.test_text import ODD

COLUMNS = (
    Column("NAME", least=4, most=20, keep=2),
    Column("BAR", least=4, most=30, keep=1, grow=True),
    Column("COST", least=5, most=12, align="right", keep=3),
)


def row(name: str, cost: str) -> list[Cell]:
    """A row with a bar that fills its column."""
    return [Cell(name), Cell(draw=lambda width: Text("=" * width)), Cell(cost)]


def drawn(width: int, *rows: list[Cell], gap: int = 2) -> list[str]:
    """The grid's lines."""
    return [line.plain for line in lay_out(COLUMNS, rows, width, UNICODE, heading="bold", gap=gap)]


def test_growing_column_takes_what_is_left() -> None:
    """Names and numbers are as wide as they need, the bar gets the rest."""
    assert drawn(24, row("daily", "$1.00"), row("x", "$10.00")) == [
        "NAME   BAR          COST",
        "daily  =========   $1.00",
        "x      =========  $10.00",
    ]


def test_numbers_get_their_width_before_names() -> None:
    """Half a number misleads, half a name does not."""
    assert drawn(22, row("experiment", "$123456.78"))[1] == "ex…t  ====  $123456.78"


def test_least_wanted_columns_are_left_out() -> None:
    """What does not fit goes whole, the least wanted first."""
    assert drawn(11, row("daily", "$1.00")) == ["NAME   COST", "da…y  $1.00"]
    assert drawn(6, row("daily", "$1.00")) == [" COST ", "$1.00 "]
    assert drawn(3, row("daily", "$1.00")) == ["   ", "   "]


def test_spanning_cell_covers_its_neighbours() -> None:
    """A reason may stand where numbers have nothing to say."""
    wide = [Cell("x"), Cell("a reason that is long", span=2), Cell("not drawn")]
    assert drawn(24, wide)[1] == "x     a reason … is long"


def test_blocks_side_by_side() -> None:
    """A shorter block is filled up with blanks, and no line is above the height."""
    left, right = [Text("aa"), Text("bb"), Text("cc")], [Text("xxx")]
    assert [line.plain for line in beside([(left, 2), (right, 3)], 2)] == ["aa  xxx", "bb     "]
    assert fitted(Text("界界"), 3).cell_len == 3


@given(st.lists(st.tuples(ODD, ODD), max_size=4), st.integers(0, 60), st.integers(1, 2))
def test_every_line_is_as_wide_as_asked(names: list[tuple[str, str]], width: int, gap: int) -> None:
    """Whatever is in the cells."""
    rows = [row(clean(name), clean(cost)) for name, cost in names]
    lines = lay_out(COLUMNS, rows, width, UNICODE, heading="bold", gap=gap)
    assert len(lines) == len(names) + 1
    assert {line.cell_len for line in lines} == {width}
