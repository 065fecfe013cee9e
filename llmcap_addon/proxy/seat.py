"""Seat: what a supervisor hands to a worker when it starts it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Literal

from llmcap_addon.errors import LLMCapError

MAX_ORDER_BYTES = 64 << 10
"""A pipe holds it whole, so that one read gets it."""
STDIN = 0


@dataclass(frozen=True, slots=True)
class Seat:
    """What the supervisor hands to a worker, as a JSON line on its standard input (a store's URL may hold a password,
    and arguments can be seen by others)."""

    number: int
    """From 1 on."""
    run_id: str
    """All workers of a run count together for caps `per: run`."""
    store: str
    """The ledger that all share, whatever caps.yaml says by now."""
    descriptors: list[int]
    """The listening sockets."""
    shares: int
    """The file that `port.Shares` stand in."""
    verbosity: Literal["error", "info"]
    """What is logged."""

    def encode(self) -> bytes:
        """Write it as a line."""
        return json.dumps(asdict(self)).encode() + b"\n"


def read_seat(descriptor: int = STDIN) -> Seat:
    """Read what the supervisor has written. Raises LLMCapError."""
    try:
        return Seat(**json.loads(os.read(descriptor, MAX_ORDER_BYTES)))
    except (OSError, ValueError, TypeError) as error:
        raise LLMCapError("--worker is for `llmcap proxy --workers N` to start its workers with") from error
