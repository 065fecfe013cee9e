"""Which balance a call counts against."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.matching import literal, matches
from tests.budget.samples import NOON_MS, RUN

LABELS = {"host": "api.openai.com", "provider": "openai", "model": "gpt-4o", "client": "codex"}


@pytest.mark.parametrize(
    ("match", "counted"),
    [
        ((), True),
        ((("model", "gpt-*"),), True),
        ((("model", "GPT-*"),), False),
        ((("model", "gpt-4"),), False),
        ((("model", "o?"), ("model", "gpt-4[op]")), True),
        ((("model", "gpt-*"), ("client", "claude*")), False),
        ((("model", "gpt-*"), ("client", "claude*"), ("client", "codex")), True),
        ((("host", "*.openai.com"), ("provider", "openai")), True),
    ],
)
def test_charge_when_it_matches(match: tuple[tuple[str, str], ...], counted: bool) -> None:
    """Globs of one label are alternatives, labels must all match, and upper and lower case differ."""
    charge = Cap("cap", 5, "day", match).charge(LABELS, NOON_MS, "UTC", RUN)
    assert (charge is not None) == counted
    if charge is not None:
        assert (charge.cap, charge.limit, charge.scope, charge.match) == ("cap", 5, "", match)
        assert charge.period == f"day:{NOON_MS - 12 * 3_600_000}"
        assert charge.resets_at_ms == NOON_MS + 12 * 3_600_000


def test_each_counts_values_apart() -> None:
    """The scope is what is counted apart, and the charge matches its own scope's calls only."""
    cap = Cap("cap", 5, "ever", (("model", "*[*"), ("model", "gpt-*"), ("host", "api.*")), each=("model",))
    odd = LABELS | {"model": "a[*]"}
    charge = cap.charge(odd, NOON_MS, "UTC", RUN)
    assert charge is not None
    assert charge.scope == "a[*]"
    assert matches(charge.match, odd)
    assert not matches(charge.match, LABELS)
    assert not matches(charge.match, odd | {"host": "elsewhere"})


def test_scopes_of_several_labels_never_fall_together() -> None:
    """No two pairs of values make the same scope."""
    cap = Cap("cap", 5, "ever", each=("model", "client"))
    pairs = [("a", "b"), ('a", "b', ""), ("", 'a", "b'), ("a, b", ""), ("b", "a")]
    charges = [cap.charge(LABELS | {"model": model, "client": client}, 0, "UTC", RUN) for model, client in pairs]
    assert len({charge.scope for charge in charges if charge is not None}) == len(pairs)


def test_run_caps_match_their_run() -> None:
    """The run's id is part of what a cap per run matches, also when it looks like a glob."""
    charge = Cap("cap", 5, "run").charge(LABELS, NOON_MS, "UTC", "r*")
    assert charge is not None
    assert (charge.period, charge.resets_at_ms) == ("run:r*", None)
    assert matches(charge.match, LABELS | {"run": "r*"})
    assert not matches(charge.match, LABELS | {"run": "r2"})


def test_key_is_what_is_counted_not_how_much() -> None:
    """Another limit is the same cap; another name, period, match or scope is another."""
    cap = Cap("cap", 5, "day", (("model", "a"), ("model", "b")), ("host", "model"))
    assert Cap("cap", 9, "day", (("model", "b"), ("model", "a")), ("model", "host")).key == cap.key
    others = (
        Cap("cap2", 5, "day", cap.match, cap.each),
        Cap("cap", 5, "week", cap.match, cap.each),
        Cap("cap", 5, "day", (), cap.each),
        Cap("cap", 5, "day", cap.match, ()),
    )
    assert len({cap.key, *(other.key for other in others)}) == 5
    assert cap == replace(cap)


@pytest.mark.parametrize("value", ["gpt-4o", "*", "a[b]c?", "[!x]", "]", "", "[[]"])
def test_literal_matches_itself_alone(value: str) -> None:
    """A value written as a glob matches that value."""
    pairs = (("model", literal(value)),)
    assert matches(pairs, {"model": value})
    assert not matches(pairs, {"model": value + "x"})
    assert not matches(pairs, {"model": "x" + value})
