"""Text: what every store can hold, and what all of them say."""

from __future__ import annotations

from dataclasses import fields
from operator import attrgetter

from llmcap_addon.budget.ledger import MAX_NOTE_BYTES
from llmcap_addon.errors import StoreError
from llmcap_addon.usage import Usage

_COUNTS = tuple(field.name for field in fields(Usage))
_values = attrgetter(*_COUNTS)

GOES_ON = "the ledger goes on by itself"
"""Said where a running LLMCap needs nothing more than that the cause is removed."""


def text(value: str) -> str:
    """Without lone surrogates, which no UTF-8 can hold: a call must not stay unsettled for a strange name."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def counts(usage: Usage) -> str:
    """Write the counts that are not 0 as JSON."""
    found = zip(_COUNTS, _values(usage), strict=True)
    return "{" + ", ".join([f'"{name}": {count}' for name, count in found if count]) + "}"


def check_note(key: str, value: str) -> None:
    """Raise ValueError for a note that is too large."""
    size = len(text(key).encode()) + len(text(value).encode())
    if size > MAX_NOTE_BYTES:
        raise ValueError(f"a note of {size} bytes is larger than {MAX_NOTE_BYTES}")


def at_the_start(error: StoreError) -> StoreError:
    """Word a failure for a LLMCap that ends by it."""
    return StoreError(str(error).replace(GOES_ON, "then start LLMCap again"))
