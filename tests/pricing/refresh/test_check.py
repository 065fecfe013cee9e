from __future__ import annotations

import copy
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.pricing.refresh.check import MAX_PROBLEMS, Move, moves, problems
from tests.pricing.refresh.sources import TODAY, entry

GOOD: dict[str, Any] = {
    "format": 1,
    "header": {"made": "2026-11-23"},
    "providers": {
        "openai": {
            "models": {"m": entry("1"), "alias": "m"},
            "rules": [["m", ["starts_with", "m-"]]],
            "fees": {"web_search": "10"},
        }
    },
}


def spoil(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    table = copy.deepcopy(GOOD)
    change(table)
    return table


def card(table: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = table["providers"]["openai"]["models"]["m"]["prices"][0]
    return found


def test_a_good_table_has_no_problems() -> None:
    """Hours, places, steps and prices by the piece are part of the form."""
    assert problems(GOOD) == []
    whole = spoil(lambda table: card(table).update(
        geography={"us": "1.1"}, steps=[{"above": 9, "rows": {"standard": {"input": "2"}}}],
        off_peak=[{"utc": ["16:30-00:30"], "weekdays": [1], "rows": {"standard": {"input": "0.5", "per_page": "0.01"}}}],
    ))  # fmt: skip
    assert problems(whole) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.update(format=9), "format is 9"),
        (lambda table: table.pop("header"), "KeyError"),
        (lambda table: table["header"].update(made="yesterday"), "ValueError"),
        (lambda table: table["providers"].update(x={"models": {}, "rules": []}), "x has no models"),
        (lambda table: table["providers"]["openai"]["models"].update(alias="nobody"), "stands for nobody"),
        (lambda table: table["providers"]["openai"]["rules"].append(["gone", ["equals", "x"]]), "rule for gone"),
        (lambda table: table["providers"]["openai"]["rules"].append(["m", ["regex", "("]]), "rror"),
        (
            lambda table: table["providers"]["openai"]["rules"].append(["m", ["regex", "a" * 999]]),
            "a rule that is none",
        ),
        (lambda table: table["providers"]["openai"]["rules"].append(["m", ["or", ["sounds_like", "x"]]]), "is none"),
        (lambda table: table["providers"]["openai"]["fees"].update(web_search="many"), "is no price"),
        (lambda table: card(table)["rows"]["standard"].update(input="-1"), "'-1' is no price"),
        (lambda table: card(table)["rows"]["standard"].update(input="1e3"), "is no price"),
        (lambda table: card(table)["rows"]["standard"].update(input=1.5), "TypeError"),
        (lambda table: card(table)["rows"]["standard"].update(input="3200"), "out of proportion"),
        (lambda table: card(table)["rows"]["standard"].update(magic="1"), "unknown kind, 'magic'"),
        (lambda table: card(table).update(rows={"flex": {"input": "1"}}), "no standard price"),
        (lambda table: card(table).update({"from": "2026-01-01"}), "order of time"),
        (lambda table: card(table).update(geography={"us": "11"}), "multiplies"),
        (lambda table: card(table).update(off_peak=[{"utc": "25:00-26:00", "rows": {"standard": {}}}]), "ValueError"),
        (lambda table: card(table).update(steps=[{"above": 0, "rows": {}}]), "no length"),
        (lambda table: table["providers"]["openai"]["models"]["m"].update(kind="song"), "unknown kind, 'song'"),
        (lambda table: table["providers"]["openai"]["models"]["m"].update(context=True), "no number of tokens"),
        (lambda table: table["providers"]["openai"]["models"]["m"].update(max_output=-1), "no number of tokens"),
        (lambda table: table["providers"]["openai"]["models"]["m"].update(retired="soon"), "ValueError"),
    ],
)
def test_what_is_wrong_is_told(change: Callable[[dict[str, Any]], Any], words: str) -> None:
    """Each fault of form is found before a table is written."""
    found = problems(spoil(change))
    assert found
    assert words in found[0]


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
       | st.dictionaries(st.sampled_from(["format", "header", "providers", "models", "rules", "prices"]), inner)))  # fmt: skip
def test_anything_else_is_a_problem_and_no_exception(anything: Any) -> None:
    """Whatever JSON holds, the answer is a list of problems, of bounded length."""
    for found in (problems(anything), problems({**GOOD, "providers": {"p": anything}})):
        assert 0 < len(found) <= MAX_PROBLEMS


def test_prices_that_moved_are_told_with_their_place() -> None:
    """Old and new, by tier and length of prompt; new and vanished models are none of it."""
    after = spoil(lambda table: (
        card(table).update(rows={"standard": {"input": "10"}, "flex": {"input": "5"}}),
        table["providers"]["openai"]["models"].update(fresh=entry("7")),
    ))  # fmt: skip
    assert moves(GOOD, after, TODAY) == [
        Move("openai", "alias", "standard input", Decimal(1), Decimal(10)),
        Move("openai", "m", "standard input", Decimal(1), Decimal(10)),
    ]
    assert moves(GOOD, GOOD, TODAY) == []


@pytest.mark.parametrize(
    ("before", "after", "wild"),
    [("1", "9.9", False), ("1", "10", True), ("10", "1", True), ("1", "0", True), ("0", "1", True), ("2", "3", False)],
)
def test_tenfold_is_out_of_proportion(before: str, after: str, wild: bool) -> None:
    """Up or down, and anything that becomes free or stops being it."""
    assert Move("p", "m", "standard input", Decimal(before), Decimal(after)).out_of_proportion is wild
