"""Activity: what calls do right now, as the gate tells it and the console shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llmcap_addon.money import Nanousd

type CallState = Literal["waiting", "running", "streaming", "done", "refused", "cut"]


@dataclass(frozen=True, slots=True)
class CallLine:
    """One call as a person sees it; the newest line of an id replaces the one before."""

    id: str
    at_ms: int
    """When the call began, Unix time in milliseconds."""
    client: str
    host: str
    provider: str
    model: str
    state: CallState
    input_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    cost: Nanousd = 0
    """So far, or in the end."""
    reserved: Nanousd = 0
    marks: frozenset[str] = frozenset()
    """As in the ledger: "estimated", "assumed", "overrun", "shortened", "failed" …"""
    message: str = ""
    """What a refused or cut call was told; empty otherwise."""
