from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.activity import Counts
from llmcap_addon.budget.ledger import Balance, Charge, Entry, Row
from llmcap_addon.report import make_report, report_json, summary_line
from llmcap_addon.usage import Usage

USD = 1_000_000_000


def entry(identity: str = "1", model: str = "gpt-4o", client: str = "codex") -> Entry:
    return Entry(
        id=identity,
        started_at_ms=1_000,
        host="api.openai.com",
        provider="openai",
        model=model,
        client=client,
        dialect="openai.chat",
        streamed=False,
    )


def balance(
    cap: str = "daily", limit: int = 5 * USD, posted: int = 0, period: str = "day:0", pending: int = 0
) -> Balance:
    charge = Charge(
        cap=cap, key=cap, scope="", period=period, starts_at_ms=0, resets_at_ms=1_763_942_400_000, limit=limit
    )
    return Balance(charge, posted=posted, pending=pending)


def test_sums_tell_spent_reserved_and_refused_apart() -> None:
    """Posted, pending, refused, cut and estimated each count the rows they say, and refused ones are no calls."""
    rows = [
        Row(entry("1"), "posted", reserved=0, cost=7, usage=Usage(input_tokens=3, output_tokens=2)),
        Row(entry("2"), "pending", reserved=11, cost=0, marks=frozenset({"deferred"})),
        Row(entry("3"), "posted", reserved=0, cost=13, marks=frozenset({"cut", "estimated"})),
        Row(entry("4"), "refused", reserved=0, cost=0, caps=("daily",)),
        Row(entry("5"), "voided", reserved=0, cost=0),
    ]
    totals = make_report(rows, ()).totals
    assert (totals.posted, totals.pending, totals.calls) == (20, 11, 4)
    assert (totals.refused, totals.cut, totals.estimated, totals.deferred) == (1, 1, 1, 1)
    assert (totals.input_tokens, totals.output_tokens) == (3, 2)


@given(st.lists(st.tuples(st.sampled_from(["a", "b", ""]), st.integers(0, 10**12))))
def test_groups_add_up_to_the_whole(costs: list[tuple[str, int]]) -> None:
    """Whatever the rows, the groups by model sum to the totals, dearest first."""
    rows = [
        Row(entry(str(index), model=model), "posted", reserved=0, cost=cost)
        for index, (model, cost) in enumerate(costs)
    ]
    report = make_report(rows, (), by="model")
    assert sum(totals.posted for _, totals in report.groups) == report.totals.posted
    assert sum(totals.calls for _, totals in report.groups) == len(rows)
    assert [totals.posted for _, totals in report.groups] == sorted(
        (totals.posted for _, totals in report.groups), reverse=True
    )


def test_a_row_counts_for_each_of_its_caps() -> None:
    """By cap, a call stands under every cap it was charged to, and under "(none)" without any."""
    rows = [
        Row(entry("1"), "posted", reserved=0, cost=5, caps=("daily", "fuse")),
        Row(entry("2"), "posted", reserved=0, cost=1),
    ]
    groups = {name: totals.posted for name, totals in make_report(rows, (), by="cap").groups}
    assert groups == {"daily": 5, "fuse": 5, "(none)": 1}


def test_json_has_the_documented_keys() -> None:
    """The stable keys are there, amounts are exact decimal strings, and times are ISO 8601."""
    rows = [Row(entry(), "posted", reserved=0, cost=12_300_001)]
    report = make_report(rows, [balance(posted=12_300_001)], since_ms=1_763_856_000_000, by="host")
    document = json.loads(json.dumps(report_json(report)))
    assert document["posted_usd"] == "0.012300001"
    assert document["pending_usd"] == "0"
    assert document["since"] == "2025-11-23T00:00:00Z"
    assert {"calls", "refused", "cut", "estimated", "deferred"} <= document.keys()
    assert document["caps"] == [
        {
            "name": "daily",
            "limit": "5",
            "posted": "0.012300001",
            "pending": "0",
            "resets_at": "2025-11-24T00:00:00Z",
        }
    ]
    assert document["by"][0]["host"] == "api.openai.com"
    assert document["by"][0]["posted_usd"] == "0.012300001"


def test_last_line_of_a_run() -> None:
    """The line names the fullest cap in its period's words, and leaves out what did not happen."""
    daily = balance(posted=420_000_000)
    assert (
        summary_line(420_000_000, Counts(calls=12, refused=1), [daily])
        == "llmcap: $0.42 of $5.00 today · 12 calls · 1 refused"
    )
    fuse = balance("fuse", limit=2 * USD, posted=USD, period="minute:0")
    assert summary_line(USD, Counts(calls=1), [daily, fuse]) == "llmcap: $1.00 of $2.00 this minute (fuse) · 1 call"
    assert summary_line(420_000_000, Counts(calls=12), []) == "llmcap: $0.42 · 12 calls"


def test_a_cap_of_nothing_is_full() -> None:
    """A limit of 0 is the fullest of all, without dividing by it."""
    line = summary_line(0, Counts(calls=0, refused=3), [balance("zero", limit=0), balance()])
    assert line == "llmcap: $0.00 of $0.00 today (zero) · 0 calls · 3 refused"
