"""Reading the numbers a provider reports: a count that is none must never become money."""

from __future__ import annotations

from collections.abc import Mapping

from llmcap_addon.wire.text import MAX_COUNT, JsonObject

MAX_WORD_CHARS = 200
"""A model's or a tier's name in an answer; longer is no name."""


def reported_count(usage: Mapping[str, object], key: str, unsaid: int = 0) -> int:
    """Read a reported token count; `unsaid` when absent or null; raises ValueError for anything but a count."""
    value = usage.get(key)
    if value is None:
        return unsaid
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"{key} is no token count")
    return value


def reported_part(usage: Mapping[str, object], key: str) -> JsonObject:
    """Read an object inside a usage; empty when absent or null; raises ValueError for anything but an object."""
    value = usage.get(key)
    return {} if value is None else json_object(value, key)


def json_object(value: object, what: str) -> JsonObject:
    """Give the object; raises ValueError, naming `what` it should have been, for anything else."""
    if isinstance(value, dict):
        return value
    raise ValueError(f"{what} is no object")


def name(answer: Mapping[str, object], key: str) -> str:
    """Read the name of a model, a tier or a place; empty when absent or no name."""
    value = answer.get(key)
    return value if isinstance(value, str) and len(value) <= MAX_WORD_CHARS else ""


def word(answer: Mapping[str, object], key: str) -> str:
    """Read a name in lower case, as `Terms` holds it."""
    return name(answer, key).lower()
