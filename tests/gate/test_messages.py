"""What a refused or cut call is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC

import pytest

from llmcap_addon.budget.ledger import Balance, Charge
from llmcap_addon.gate import messages
from llmcap_addon.money import nanousd
from tests.gate.clock import START_MS

HOUR_MS = 3_600_000


def balance(*, resets_at_ms: int | None = START_MS + HOUR_MS, scope: str = "") -> Balance:
    charge = Charge("daily", "daily-1", scope, "day:0", 0, resets_at_ms, nanousd("5"))
    return Balance(charge, nanousd("4.2"), nanousd("0.3"))


def test_a_refusal_says_all_that_the_user_needs() -> None:
    """Cap, limit, spent, reserved, what was asked for, when it resets, how to go on; and the same as values."""
    refusal = messages.spent(balance(), nanousd("0.9"), START_MS, UTC, messages.IN_CAPS_YAML)
    for words in ('"daily"', "$5.00", "$4.20 spent", "$0.30", "$0.90", "2025-11-23 13:13:20 UTC", "1h 0m", "caps.yaml"):
        assert words in refusal.message
    assert refusal.message.startswith("LLMCap: refused")
    assert (refusal.kind, refusal.cap, refusal.limit) == ("spent", "daily", nanousd("5"))
    assert (refusal.posted, refusal.pending, refusal.resets_at_ms) == (
        nanousd("4.2"),
        nanousd("0.3"),
        START_MS + HOUR_MS,
    )


def test_spent_and_reserved_are_told_apart() -> None:
    """What others only hold comes back: try again; what is spent does not: raise the limit."""
    spent = messages.spent(balance(), 1, START_MS, UTC, messages.IN_CAPS_YAML)
    reserved = messages.reserved(balance(), 1, START_MS, UTC)
    assert (spent.kind, reserved.kind) == ("spent", "reserved")
    assert "once they end" in reserved.message
    assert "raise the limit" not in reserved.message
    assert "raise the limit" in spent.message


def test_a_cut_says_what_the_stream_has_cost() -> None:
    """The user sees what was lost."""
    cut = messages.cut(balance(), nanousd("0.42"), START_MS, UTC, messages.IN_CAPS_YAML)
    assert cut.message.startswith("LLMCap: stream cut")
    assert "about $0.42" in cut.message
    assert cut.kind == "spent"


@pytest.mark.parametrize(
    ("ahead_ms", "words"),
    [
        (0, "(in 0s)"),
        (-5_000, "(in 0s)"),
        (59_999, "(in 59s)"),
        (61_000, "(in 1m 1s)"),
        (HOUR_MS + 120_000, "(in 1h 2m)"),
        (26 * HOUR_MS, "(in 1d 2h)"),
        (None, "does not reset by itself"),
    ],
)
def test_when_it_resets(ahead_ms: int | None, words: str) -> None:
    """In the two largest units; a cap `per: ever` says that it never does."""
    resets_at_ms = None if ahead_ms is None else START_MS + ahead_ms
    standing = balance(resets_at_ms=resets_at_ms)
    assert words in messages.reserved(standing, 1, START_MS, UTC).message


@pytest.mark.parametrize("advice", [messages.IN_CAPS_YAML, messages.WITHOUT_CAPS_YAML, messages.ON_COMMAND_LINE])
def test_a_caps_name_of_braces_breaks_no_message(advice: str) -> None:
    """Names come from caps.yaml and are shown as they are."""
    odd = replace(balance(), charge=replace(balance().charge, cap="{cap} {0}"))
    message = messages.spent(odd, 1, START_MS, UTC, advice).message
    assert '"{cap} {0}"' in message


def test_a_scope_is_named() -> None:
    """A cap that counts apart says for whom it is full."""
    assert 'cap "daily" for exp-a of $5.00' in messages.reserved(balance(scope="exp-a"), 1, START_MS, UTC).message
