"""Text that every store can hold."""

from __future__ import annotations


def text(value: str) -> str:
    """Without lone surrogates, which no UTF-8 can hold: a call must not stay unsettled for a strange name."""
    return value.encode("utf-8", "replace").decode()
