"""The few exceptions that cross a room's door; decisions are values, exceptions are for failures."""

from __future__ import annotations


class LLMCapError(Exception):
    """A failure whose message can be shown to the user as it stands."""


class ConfigError(LLMCapError):
    """caps.yaml, or an option, is wrong; the message holds the key's path and line, what was found, what is allowed."""


class UnreadableRequest(LLMCapError):
    """A request to a billable endpoint can't be understood, so its cost is unknown."""


class PriceError(LLMCapError):
    """A model has no price and `unknown_price: refuse` is set, or the price table can't be read."""


class StoreError(LLMCapError):
    """The ledger can't be read or written; the message says what to do."""
