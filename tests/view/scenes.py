"""Scenes: console states that tests draw."""

from __future__ import annotations

from datetime import UTC

from llmcap_addon.activity import CallLine, CallState, Counts
from llmcap_addon.budget.ledger import Balance, Charge
from llmcap_addon.money import nanousd
from llmcap_addon.view.console import ConsoleState, Notice

NOW_MS = 1_763_899_421_000
"""12:03:41 UTC."""
HOUR_MS = 3_600_000


def balance(cap: str, limit: str, posted: str, pending: str = "0", resets_in_ms: int | None = 5 * HOUR_MS) -> Balance:
    """A balance in dollars."""
    charge = Charge(
        cap=cap,
        key=cap,
        scope="",
        period="day:0",
        starts_at_ms=0,
        resets_at_ms=None if resets_in_ms is None else NOW_MS + resets_in_ms,
        limit=nanousd(limit),
    )
    return Balance(charge, nanousd(posted), nanousd(pending))


def call(
    number: int,
    client: str = "claude-code",
    model: str = "claude-sonnet-4-5-20250929",
    state: CallState = "done",
    cost: str = "0.0123",
    *,
    marks: frozenset[str] = frozenset(),
    message: str = "",
) -> CallLine:
    """The number-th call of a scene; later numbers began later."""
    return CallLine(
        id=f"call-{number}",
        at_ms=NOW_MS - 60_000 + number * 1_000,
        client=client,
        host="api.anthropic.com",
        provider="anthropic",
        model=model,
        state=state,
        input_tokens=12_345,
        cache_read_tokens=10_000,
        output_tokens=1_234,
        cost=nanousd(cost),
        reserved=nanousd("0.25") if state in ("streaming", "running") else 0,
        marks=marks,
        message=message,
    )


ESTIMATED = frozenset({"estimated"})
REFUSED = (
    'LLMCap: refused, cap "fuse" of $2.00: $2.00 spent, $0.00 reserved by calls in flight; '
    "this call may cost up to $0.12. It resets at 2025-11-23 12:04:00 UTC (in 19s)."
)

BUSY = ConsoleState(
    now_ms=NOW_MS,
    listening="127.0.0.1:8080",
    balances=(
        balance("daily", "10", "4.2134", "0.31"),
        balance("fuse", "2", "2.0001", resets_in_ms=19_000),
        balance("opus", "3", "2.61", "0.12", resets_in_ms=9 * HOUR_MS),
        balance("experiment", "20", "0.0042", resets_in_ms=None),
    ),
    burn=nanousd("2.67"),
    lines=(
        *(call(number) for number in range(12)),
        call(12, "codex", "gpt-5.1-codex", cost="0.084", marks=frozenset({"shortened"})),
        call(13, "gemini-cli", "gemini-2.5-pro", cost="0.0031", marks=ESTIMATED),
        call(14, "openai-python", "my-tuned-model", cost="1.204", marks=frozenset({"assumed"})),
        call(15, "aider", "gpt-4o-mini", cost="0.000123", marks=frozenset({"failed"})),
        call(16, "openai-python", "gpt-4o", "cut", "0.41", marks=ESTIMATED, message="LLMCap: stream cut, cap daily"),
        call(17, "runaway-loop", "gpt-4o", "refused", "0", message=REFUSED),
        call(18, "codex", "gpt-5.1-codex", "waiting", "0"),
        call(19, "claude-code", "claude-opus-4-1-20250805", "streaming", "0.0714"),
    ),
    models=(
        ("claude-opus-4-1-20250805", nanousd("2.61"), 12),
        ("claude-sonnet-4-5-20250929", nanousd("1.2042"), 41),
        ("gpt-5.1-codex", nanousd("0.314"), 7),
        ("gemini-2.5-pro", nanousd("0.0813"), 3),
        ("gpt-4o-mini", nanousd("0.000123"), 1),
    ),
    clients=(
        ("claude-code", nanousd("3.81"), 53),
        ("codex", nanousd("0.314"), 7),
        ("gemini-cli", nanousd("0.0813"), 3),
        ("aider", nanousd("0.000123"), 1),
    ),
    counts=Counts(calls=66, refused=1, cut=1, estimated=2),
    notices=(Notice("caps.yaml line 7: caps[1].limit: found 'ten', expected dollars; the old caps hold", "error"),),
    logs=(
        "12:03:01 HTTP(S) proxy listening at 127.0.0.1:8080.",
        "127.0.0.1:51234: POST https://api.anthropic.com/v1/messages?beta=true HTTP/2.0",
        "     << HTTP/2.0 200 OK 4.2k",
    ),
    zone=UTC,
)
