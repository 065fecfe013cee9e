"""Test-only mitmproxy addon: makes any function of LLMCap raise, to see that a failure of ours forwards nothing."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any, Never

VARIABLE = "LLMCAP_TEST_SABOTAGE"
"""Names a file that holds "package.module:attribute" or "package.module:Class.method": that function fails, as long as
the file says so."""

TARGETS_VARIABLE = "LLMCAP_TEST_SABOTAGE_TARGETS"
"""Every function that may be named, with blanks between."""

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


class SabotageError(Exception):
    """What the sabotaged function raises: nothing that any code of ours expects."""


def _sabotage(target: str, orders: Path) -> None:
    module_name, _, path = target.partition(":")
    holder: Any = importlib.import_module(module_name)
    *classes, name = path.split(".")
    for part in classes:
        holder = getattr(holder, part)
    original = getattr(holder, name)

    def raising(*arguments: Any, **options: Any) -> Any:
        if orders.exists() and orders.read_text() == target:
            fail()
        return original(*arguments, **options)

    setattr(holder, name, raising)


def fail() -> Never:
    """Fail as no code expects."""
    raise SabotageError("sabotaged by a test")


for _target in os.environ.get(TARGETS_VARIABLE, "").split():
    _sabotage(_target, Path(os.environ[VARIABLE]))
