"""Endings: how calls end, in the world and in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

type Ending = Literal["complete", "never_sent", "client_gone", "upstream_gone", "cut", "shutdown"]
"""How a call ended: the response arrived whole; the request never left; the client or the provider went away in
the middle; we cut it; or the proxy stops."""

WHY_ESTIMATED: dict[Ending, str] = {
    "complete": "the provider reported no usage",
    "client_gone": "the client went away before the provider reported usage",
    "upstream_gone": "the provider went away before it reported usage",
    "cut": "cut before the provider reported usage",
    "shutdown": "the proxy stopped before the provider reported usage",
    "never_sent": "",
}
"""What stands beside a cost that had to be counted."""


@dataclass(frozen=True, slots=True)
class Void:
    """Nothing was billed: release all."""

    settled_at_ms: int
    status: int
    note: str


@dataclass(frozen=True, slots=True)
class Defer:
    """The answer was not the bill: the reservation stays until a later one tells it."""

    job: str
    """Its id at the provider."""
    status: int
