"""Endpoint: one kind of request that a provider's API takes, as the lists of what is metered name it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Endpoint:
    """One kind of request that is metered or watched."""

    api: str
    """Of the places that have it."""
    path: str
    """A pattern for what stands behind a place's prefix; its group "model" names the model, where the path does."""
    dialect: str
    follows: str
    """The SDK's type of its answer."""
    only: tuple[str, ...] = ()
    """The providers that have it; empty for all of the API."""
    but: tuple[str, ...] = ()
    """The providers that don't."""
    shown: str = ""
    """What people call the path, where its pattern does not read well."""
    methods: tuple[str, ...] = ("POST",)

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The path's pattern, compiled."""
        return re.compile(self.path)

    @cached_property
    def behind_anything(self) -> re.Pattern[str]:
        """The same behind any prefix."""
        return re.compile(f".*?(?:{self.path})")
