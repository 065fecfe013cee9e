from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.pricing.refresh.levels import Levels, filled, merged, plain, priced, row_at, scaled, written
from tests.pricing.refresh.sources import dollars

AMOUNTS = st.decimals(min_value=0, max_value=1000, places=6)
LEVELS = st.dictionaries(
    st.sampled_from([0, 200_000, 272_000]),
    st.dictionaries(
        st.sampled_from(["standard", "flex"]),
        st.dictionaries(st.sampled_from(["input", "output"]), AMOUNTS, min_size=1),
    ),
)


def test_the_higher_of_two_sources_is_kept() -> None:
    """Field by field, tier by tier, at every length of prompt."""
    one: Levels = {0: {"standard": dollars(input="1", output="9")}}
    two: Levels = {
        0: {"standard": dollars(input="2", output="8"), "flex": dollars(input="1")},
        200_000: {"standard": dollars(input="4")},
    }
    assert merged([one, two]) == {
        0: {"standard": dollars(input="2", output="9"), "flex": dollars(input="1")},
        200_000: {"standard": dollars(input="4", output="9")},
    }


@given(LEVELS, LEVELS, st.integers(min_value=0, max_value=300_000))
def test_no_source_is_ever_above_what_is_kept(one: Levels, two: Levels, length: int) -> None:
    """At no length of prompt does a source ask more than the merged standard price."""
    both = row_at(merged([one, two]), length, "standard")
    for source in (one, two):
        for field, amount in row_at(source, length, "standard").items():
            assert both[field] >= amount


def test_prices_are_written_plainly_and_rounded_up() -> None:
    """No exponent, no needless zero, at most twelve places."""
    assert plain(Decimal("1E+1")) == "10"
    assert plain(Decimal("7.50")) == "7.5"
    assert plain(Decimal(1) / 3) == "0.333333333334"
    assert plain(Decimal("1.0000000000000001e-07") * 1_000_000) == "0.1"


def test_only_missing_fields_are_filled() -> None:
    """A sibling's price never replaces one of the model's own, and brings no tier that it has not."""
    own: Levels = {0: {"standard": dollars(input="1")}}
    other: Levels = {0: {"standard": dollars(input="9", audio_input="40"), "batch": dollars(audio_input="20")}}
    assert filled(own, other, frozenset({"input", "audio_input"})) == {
        0: {"standard": dollars(input="1", audio_input="40")}
    }


def test_what_a_dated_source_does_not_tell_grows_with_what_it_tells() -> None:
    """A tier that litellm alone lists doubles on the day on which genai-prices doubles the standard price."""
    now: Levels = {0: {"standard": dollars(input="1")}}
    then: Levels = {0: {"standard": dollars(input="2")}}
    today: Levels = {0: {"standard": dollars(input="1"), "flex": dollars(input="0.5")}}
    assert scaled(today, now, then) == {0: {"standard": dollars(input="2"), "flex": dollars(input="1.0")}}


def test_free_is_only_what_says_so() -> None:
    """A price of 0 means "not priced by the token"."""
    nothing: Levels = {0: {"standard": dollars(input="0")}}
    assert not priced(nothing, "model")
    assert priced(nothing, "model:free")
    assert priced({0: {"standard": dollars(per_page="0.004")}}, "ocr")


def test_levels_become_rows_and_steps() -> None:
    """As the table's README tells."""
    assert written({0: {"standard": dollars(input="1")}, 9: {"standard": dollars(input="2.0")}}) == {
        "rows": {"standard": {"input": "1"}},
        "steps": [{"above": 9, "rows": {"standard": {"input": "2"}}}],
    }
