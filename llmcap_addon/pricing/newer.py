"""Newer: which price table is in force, the shipped one or one that the user has fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import platformdirs

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing.table import SHIPPED, PriceTable


@dataclass(frozen=True, slots=True)
class InForce:
    """The table to use, and what the user should know about the choice."""

    table: PriceTable
    path: Path
    warning: str = ""
    """Why a fetched table is not used although it is there; empty when there is nothing to say."""


def fetched_path() -> Path:
    """Give the place of the table that `llmcap prices update` writes."""
    return platformdirs.user_state_path("llmcap") / "prices.json.gz"


def previous_of(path: Path) -> Path:
    """Give the place where `prices update` keeps the table that was there before."""
    return path.with_name(path.name + ".previous")


def choose(shipped: Path = SHIPPED, fetched: Path | None = None) -> InForce:
    """Read the fetched table when it is there, whole, and not older than the shipped one; else the shipped one.

    Raises PriceError when the shipped one can't be read.
    """
    fetched = fetched_path() if fetched is None else fetched
    ours = PriceTable.read(shipped)
    try:
        if not fetched.exists():
            return InForce(ours, shipped)
        theirs = PriceTable.read(fetched)
        newer = str(theirs.header["made"]) >= str(ours.header["made"])
    except (PriceError, OSError, KeyError) as error:
        why = str(error).replace("; reinstall llmcap-addon", "")
        made = ours.header["made"]
        return InForce(
            ours, shipped, f"{why}; the shipped prices of {made} are used, `llmcap prices update` fetches new ones"
        )
    return InForce(theirs, fetched) if newer else InForce(ours, shipped)
