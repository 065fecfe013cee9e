"""Values that the tests of this room share."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from typing import Any

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.ledger import Charge, Entry, Settlement, Store
from llmcap_addon.usage import Usage

NOON_MS = 1_763_899_200_000
"""2025-11-23 12:00 UTC, a Sunday."""
RUN = "run-1"

_numbers = itertools.count(1)


class Clock:
    """Unix time in milliseconds that only moves when told to."""

    def __init__(self, now_ms: int = NOON_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def entry(entry_id: str = "", **fields: Any) -> Entry:
    """A call to gpt-4o by codex at noon, but for what is told."""
    values: dict[str, Any] = {
        "id": entry_id or f"call-{next(_numbers)}",
        "started_at_ms": NOON_MS,
        "host": "api.openai.com",
        "provider": "openai",
        "model": "gpt-4o",
        "client": "codex",
        "dialect": "openai.chat",
        "streamed": True,
        "run": RUN,
    }
    return Entry(**(values | fields))


def labels(call: Entry) -> dict[str, str]:
    return {
        "host": call.host,
        "provider": call.provider,
        "model": call.model,
        "client": call.client,
        "billing": call.billing,
    }


def charges(caps: Iterable[Cap], call: Entry) -> list[Charge]:
    """What a call is charged to, in UTC."""
    found = (cap.charge(labels(call), call.started_at_ms, "UTC", call.run) for cap in caps)
    return [charge for charge in found if charge is not None]


def settlement(cost: int, **fields: Any) -> Settlement:
    values: dict[str, Any] = {"cost": cost, "usage": Usage(10, 5), "settled_at_ms": NOON_MS + 1, "status": 200}
    return Settlement(**(values | fields))


def busy(store: Store) -> threading.Event:
    """Keep a SQLite ledger's writing thread in a transaction until the event is set."""
    begun, go_on = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        begun.set()
        go_on.wait(10)

    store._writer.submit(wait)  # type: ignore[attr-defined]
    begun.wait(10)
    return go_on
