"""One line a call, for logs and for mitmweb."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC

from hypothesis import given

from llmcap_addon.activity import Activity
from llmcap_addon.money import nanousd
from llmcap_addon.view.lines import LinePrinter, call_line, flow_comment
from llmcap_addon.view.text import ASCII
from tests.view.scenes import NOW_MS, REFUSED, call
from tests.view.test_text import ODD

DONE = replace(call(1, model="claude-sonnet-4-5", marks=frozenset({"estimated"})), at_ms=NOW_MS)


def test_call_line_holds_every_fact() -> None:
    """Time, client, model, tokens, cached tokens, cost, state, marks."""
    assert call_line(DONE, UTC) == (
        "12:03:41 claude-code claude-sonnet-4-5 12,345→1,234 (cached 10,000) $0.0123 done estimated"
    )
    assert "12,345->1,234" in call_line(DONE, UTC, ASCII)
    assert call_line(replace(DONE, marks=frozenset({"assumed"})), UTC).endswith("done assumed price")


def test_refused_call_says_why() -> None:
    """A refusal has no tokens and no cost, but a reason."""
    refused = call(17, "runaway-loop", "gpt-4o", "refused", "0", message=REFUSED)
    assert call_line(refused, UTC) == f"12:02:58 runaway-loop gpt-4o refused {REFUSED}"


def test_a_deferred_call_says_what_it_may_cost() -> None:
    """Its bill is still to come; until then it is reserved, and a second line tells the bill."""
    deferred = replace(DONE, state="deferred", cost=0, reserved=nanousd("0.02"), marks=frozenset())
    assert call_line(deferred, UTC) == "12:03:41 claude-code claude-sonnet-4-5 up to $0.0200 deferred"
    assert flow_comment(deferred) == "deferred claude-sonnet-4-5"
    out = io.StringIO()
    activity = Activity(lambda: NOW_MS)
    activity.subscribe(LinePrinter(out, UTC))
    for line in (replace(deferred, state="running"), deferred, DONE):
        activity.update(line)
    assert out.getvalue() == f"{call_line(deferred, UTC)}\n{call_line(DONE, UTC)}\n"
    assert activity.counts().calls == 1


def test_flow_comment() -> None:
    """Short enough for mitmweb's column."""
    assert flow_comment(replace(DONE, cache_read_tokens=0, marks=frozenset())) == (
        "$0.0123 claude-sonnet-4-5 12,345→1,234"
    )
    assert flow_comment(replace(DONE, state="cut")) == "$0.0123 claude-sonnet-4-5 12,345→1,234 cut estimated"
    assert flow_comment(replace(DONE, state="refused")) == "refused claude-sonnet-4-5"


@given(ODD, ODD)
def test_a_line_stays_one_harmless_line(model: str, message: str) -> None:
    """Names and messages with line ends, escapes or a megabyte of text give one short line."""
    odd = replace(DONE, model=model * 50, client=model, message=message * 50, state="refused")
    for text in (call_line(odd, UTC), flow_comment(odd)):
        assert text.isprintable()
        assert len(text) < 2_500
    call_line(odd, UTC, ASCII).encode("ascii")


def test_printer_prints_calls_that_end() -> None:
    """A streaming call's many updates give one line, when it is over."""
    out = io.StringIO()
    activity = Activity(lambda: NOW_MS)
    activity.subscribe(LinePrinter(out, UTC))
    for state in ("waiting", "running", "streaming", "streaming", "done"):
        activity.update(replace(DONE, state=state))
    assert out.getvalue() == call_line(DONE, UTC) + "\n"
