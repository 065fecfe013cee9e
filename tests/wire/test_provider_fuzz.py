"""Anthropic's and Google's answers and requests, spoiled: nothing raises, nothing becomes money that is none."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.dialect import Target
from tests.corpus.test_fuzz import broken
from tests.wire.corpus import feed_all, split_at
from tests.wire.provider_corpus import Case, cases, prices

EACH = pytest.mark.parametrize(
    "case", [*cases("anthropic"), *cases("google"), *cases("vertex")], ids=lambda case: case.name
)


@EACH
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_answer_raises_or_costs_less_than_nothing(case: Case, data: st.DataObject) -> None:
    """Whatever a provider sends, there is a reading that can be priced, shares and all."""
    body = data.draw(broken(case.data))
    meter = case.meter()
    feed_all(meter, split_at(body, [data.draw(st.integers(0, len(body)))]))
    reading = meter.reading
    assert reading.counted_output_tokens >= 0
    assert not (reading.final and reading.unreadable)
    if reading.usage is not None:
        priced = prices().cost(case.call, reading.usage, reading.terms, reading.model, shares=reading.shares)
        assert priced.amount >= 0


@EACH
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_no_request_raises_anything_but_that_it_is_unreadable(case: Case, data: st.DataObject) -> None:
    """Whatever a client sends is understood and bounded, or refused with a reason."""
    request = replace(case.request, body=data.draw(broken(case.request.body)))
    asked = case.expected["request"]
    with suppress(UnreadableRequest):
        call = case.dialect.parse(request, Target(asked["provider"], asked.get("model", "")), "")
        quote = prices().quote(call)
        assert quote.amount(quote.output_tokens) >= 0
        case.dialect.amend(call, request.body, 1_024)
