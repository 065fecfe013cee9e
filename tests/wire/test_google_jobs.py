"""Google's interactions in the background: what a look at one tells."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.google_jobs import INTERACTION_JOBS
from llmcap_addon.wire.jobs import Outcome

DONE = {
    "id": "i",
    "status": "completed",
    "usage": {"total_input_tokens": 10, "total_output_tokens": 5, "total_tokens": 15},
}


def look(
    answer: Any, query: dict[str, str] | None = None, headers: dict[str, str] | None = None
) -> tuple[Outcome, ...]:
    request = Request("GET", "generativelanguage.googleapis.com", "/v1beta/interactions/i", query or {}, headers or {})
    watch = INTERACTION_JOBS.watch(request, Target("google"), "")
    watch.begin(ResponseHead(200, "application/json"))
    watch.feed(json.dumps(answer).encode())
    return watch.end()


def test_one_that_has_ended_tells_its_bill() -> None:
    """Its usage is the last word."""
    [outcome] = look(DONE, {"fields": "*"})
    assert (outcome.job, outcome.reading.usage) == ("i", Usage(10, 5, input_audio_tokens=10))


@pytest.mark.parametrize("status", ["in_progress", "queued", "", None, 7])
def test_one_that_has_not_ended_tells_nothing(status: Any) -> None:
    """A status that is missing may have been taken out with more."""
    assert look({**DONE, "status": status}) == ()


@pytest.mark.parametrize(
    ("query", "headers"),
    [({"fields": "usage"}, {}), ({"$fields": "status,usage.total_output_tokens"}, {}), ({}, {"x-goog-fieldmask": "usage"})],
)  # fmt: skip
def test_what_a_mask_leaves_is_no_bill(query: dict[str, str], headers: dict[str, str]) -> None:
    """The tokens that it takes out are billed all the same."""
    assert look(DONE, query, headers) == ()
