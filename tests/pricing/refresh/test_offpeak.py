from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.pricing.hours import Hours
from llmcap_addon.pricing.refresh.offpeak import DAY_MINUTES, OffPeak, as_json, between, joined, window
from tests.pricing.refresh.sources import dollars

SPANS = st.lists(
    st.tuples(st.integers(0, DAY_MINUTES - 1), st.integers(1, DAY_MINUTES)).map(
        lambda span: (min(span), max(span) + 1)
    ),
    max_size=4,
)
WEEK = frozenset({1, 2, 3, 4, 5})
LOW = {0: {"standard": dollars(input="1")}}


@given(SPANS, st.integers(0, DAY_MINUTES - 1))
def test_a_minute_is_in_a_dear_span_or_in_a_cheap_window(spans: list[tuple[int, int]], minute: int) -> None:
    """The windows between spans and the spans themselves make up the day, each minute once."""
    spans = [(start, min(end, DAY_MINUTES)) for start, end in spans]
    dear = any(start <= minute < end for start, end in spans)
    cheap = sum(hours.start_minute <= minute < hours.end_minute for hours in between(spans))
    assert cheap == (0 if dear else 1)


def test_the_source_that_knows_weekends_is_believed_where_the_other_agrees() -> None:
    """DeepSeek: one source has hours alone and calls its weekends an upper bound, the other has weekdays too."""
    hours_only = OffPeak((window("00:00-01:00", None),), LOW, knows_weekdays=False)
    whole = OffPeak((window("00:00-01:00", WEEK), window("00:00-00:00", {6, 7})), LOW, knows_weekdays=True)
    both = joined(hours_only, whole)
    assert both is not None
    assert both.windows == whole.windows
    assert joined(whole, hours_only) == both


def test_sources_that_contradict_each_other_leave_the_peak() -> None:
    """Hours that only one source calls cheap are never billed as such."""
    night = OffPeak((window("16:30-00:30", None),), LOW, knows_weekdays=False)
    other = OffPeak((window("00:00-01:00", None),), LOW, knows_weekdays=True)
    assert joined(night, other) is None
    assert joined(night, None) is None
    assert joined(None, None) is None


def test_the_higher_low_price_is_kept() -> None:
    """Where sources agree on the hours and not on the price."""
    one = OffPeak((Hours(0, 60),), {0: {"standard": dollars(input="1")}}, knows_weekdays=True)
    two = OffPeak((Hours(0, 60),), {0: {"standard": dollars(input="1.5")}}, knows_weekdays=True)
    both = joined(one, two)
    assert both is not None
    assert both.levels == {0: {"standard": dollars(input="1.5")}}


def test_what_is_not_told_falls_as_input_does_and_never_above_the_peak() -> None:
    """Windows of the same days stand together; every field and step of the peak has its price inside them."""
    peak = {0: {"standard": dollars(input="2", output="6", web_search="10")}, 9: {"standard": dollars(input="4")}}
    low = OffPeak(
        (window("00:00-01:00", WEEK), window("10:00-00:00", WEEK), window("00:00-00:00", {6, 7})),
        {0: {"standard": dollars(input="1", output="9")}},
        knows_weekdays=True,
    )
    first, second = as_json(low, peak)
    assert first["utc"] == ["00:00-01:00", "10:00-24:00"]
    assert first["weekdays"] == [1, 2, 3, 4, 5]
    assert second["utc"] == ["00:00-24:00"]
    assert first["rows"] == second["rows"] == {"standard": {"input": "1", "output": "6", "web_search": "5"}}
    assert first["steps"] == [{"above": 9, "rows": {"standard": {"input": "1"}}}]
