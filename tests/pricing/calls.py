"""Calls and prices for the tests of this room."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from llmcap_addon.call import Call, Content

HOSTS = {
    "openai": ("api.openai.com", "openai.chat"),
    "anthropic": ("api.anthropic.com", "anthropic.messages"),
    "google": ("generativelanguage.googleapis.com", "google.generate"),
    "openrouter": ("openrouter.ai", "openai.chat"),
    "deepseek": ("api.deepseek.com", "openai.chat"),
    "groq": ("api.groq.com", "openai.chat"),
    "xai": ("api.x.ai", "openai.chat"),
}


def at(year: int, month: int, day: int) -> Callable[[], int]:
    """A clock that stands still at a day's beginning."""
    moment = dt.datetime(year, month, day, tzinfo=dt.UTC)
    return lambda: int(moment.timestamp() * 1000)


TODAY = at(2026, 11, 23)


def call(provider: str, model: str, content: Content | None = None, **fields: Any) -> Call:
    """A call to a provider's own host."""
    host, dialect = HOSTS.get(provider, ("llm.internal.example", "openai.chat"))
    values: dict[str, Any] = {"host": host, "dialect": dialect, "streamed": False, "max_output_tokens": 1000}
    values |= fields
    return Call(provider=provider, model=model, content=content or Content(), **values)
