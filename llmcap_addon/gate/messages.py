"""What a refused or cut call is told, in words: cap, limit, spent, reserved, when it resets, how to raise it."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

from llmcap_addon.budget.ledger import Balance
from llmcap_addon.money import Nanousd, format_usd
from llmcap_addon.wire.dialect import Refusal, RefusalKind


def _when(resets_at_ms: int | None, now_ms: int, zone: tzinfo | None) -> str:
    if resets_at_ms is None:
        return "It does not reset by itself."
    at = datetime.fromtimestamp(resets_at_ms / 1000, UTC).astimezone(zone)
    minutes, seconds = divmod(max(0, resets_at_ms - now_ms) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        left = f"{days}d {hours}h"
    elif hours:
        left = f"{hours}h {minutes}m"
    elif minutes:
        left = f"{minutes}m {seconds}s"
    else:
        left = f"{seconds}s"
    return f"It resets at {at:%Y-%m-%d %H:%M:%S %Z} (in {left})."


def _standing(balance: Balance) -> str:
    charge = balance.charge
    scope = f" for {charge.scope}" if charge.scope else ""
    return (
        f'cap "{charge.cap}"{scope} of {format_usd(charge.limit)}: {format_usd(balance.posted)} spent, '
        f"{format_usd(balance.pending)} reserved by calls in flight"
    )


def _of(kind: RefusalKind, message: str, balance: Balance) -> Refusal:
    charge = balance.charge
    return Refusal(
        kind=kind,
        message=message,
        cap=charge.cap,
        limit=charge.limit,
        posted=balance.posted,
        pending=balance.pending,
        resets_at_ms=charge.resets_at_ms,
    )


IN_CAPS_YAML = 'raise the limit of "{cap}" in caps.yaml (no restart needed)'
"""How to go on after a refusal; `{cap}` stands for the cap's name."""
WITHOUT_CAPS_YAML = 'write a caps.yaml with a higher limit than that of "{cap}", which is built in'
ON_COMMAND_LINE = "start it again with a higher --cap"


def spent(balance: Balance, needed: Nanousd, now_ms: int, zone: tzinfo | None, advice: str) -> Refusal:
    """The cap itself is used up, as far as this call is concerned."""
    message = (
        f"LLMCap: refused, {_standing(balance)}; this call may cost up to {format_usd(needed)}. "
        f"{_when(balance.charge.resets_at_ms, now_ms, zone)} "
        f"To go on, {advice.format(cap=balance.charge.cap)}."
    )
    return _of("spent", message, balance)


def reserved(balance: Balance, needed: Nanousd, now_ms: int, zone: tzinfo | None) -> Refusal:
    """The money is there, but calls in flight hold it."""
    message = (
        f"LLMCap: refused for now, {_standing(balance)}; this call may cost up to {format_usd(needed)} and would fit "
        f"once they end. Try again shortly, or run fewer calls at once. "
        f"{_when(balance.charge.resets_at_ms, now_ms, zone)}"
    )
    return _of("reserved", message, balance)


def cut(balance: Balance, cost: Nanousd, now_ms: int, zone: tzinfo | None, advice: str) -> Refusal:
    """A live stream ran out of its cap."""
    message = (
        f"LLMCap: stream cut, {_standing(balance)}; this call had cost about {format_usd(cost)}. "
        f"{_when(balance.charge.resets_at_ms, now_ms, zone)} "
        f"To go on, {advice.format(cap=balance.charge.cap)}."
    )
    return _of("spent", message, balance)


def failure(kind: RefusalKind, reason: str) -> Refusal:
    """A call is refused or cut for a reason that is no cap; `reason` says why and what to do."""
    return Refusal(kind=kind, message=f"LLMCap: {reason}")
