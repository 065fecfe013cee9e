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


_MAY_HAVE_BEGUN = frozenset({502, 504, *range(520, 525)})
"""Statuses with which a gateway says that it got no answer, not that nothing happened; 520–524 are Cloudflare's
(developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors)."""


def may_have_begun(status: int, *, by_gateway: bool) -> bool:
    """Tell whether a provider may have begun work in spite of an error answer; its own 500 says that it failed."""
    return status in _MAY_HAVE_BEGUN or (status == 500 and by_gateway)


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
