"""Text: what every store can hold, and what all of them say."""

from __future__ import annotations

from llmcap_addon.budget.ledger import MAX_NOTE_BYTES
from llmcap_addon.errors import StoreError

GOES_ON = "the ledger goes on by itself"
"""Said where a running LLMCap needs nothing more than that the cause is removed."""


def text(value: str) -> str:
    """Without lone surrogates, which no UTF-8 can hold: a call must not stay unsettled for a strange name."""
    return value.encode("utf-8", "replace").decode()


def check_note(key: str, value: str) -> None:
    """Raise ValueError for a note that is too large."""
    size = len(text(key).encode()) + len(text(value).encode())
    if size > MAX_NOTE_BYTES:
        raise ValueError(f"a note of {size} bytes is larger than {MAX_NOTE_BYTES}")


def at_the_start(error: StoreError) -> StoreError:
    """Word a failure for a LLMCap that ends by it."""
    return StoreError(str(error).replace(GOES_ON, "then start LLMCap again"))
