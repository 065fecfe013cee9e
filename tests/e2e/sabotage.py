"""Test-only mitmproxy addon: makes one function of LLMCap raise, to see that a failure of ours forwards nothing."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any, Never

VARIABLE = "LLMCAP_TEST_SABOTAGE"
"""Names the function: "package.module:attribute", "package.module:Class.method"; empty for none."""

FLAG_VARIABLE = "LLMCAP_TEST_SABOTAGE_FLAG"
"""A file; the function raises only while it exists, so that the proxy can start whole."""

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


class SabotageError(Exception):
    """What the sabotaged function raises: nothing that any code of ours expects."""


def _sabotage(target: str, flag: Path) -> None:
    module_name, _, path = target.partition(":")
    holder: Any = importlib.import_module(module_name)
    *classes, name = path.split(".")
    for part in classes:
        holder = getattr(holder, part)
    original = getattr(holder, name)

    def raising(*arguments: Any, **options: Any) -> Any:
        if flag.exists():
            fail()
        return original(*arguments, **options)

    setattr(holder, name, raising)


def fail() -> Never:
    """Fail as no code expects."""
    raise SabotageError("sabotaged by a test")


_target = os.environ.get(VARIABLE, "")
if _target:
    _sabotage(_target, Path(os.environ[FLAG_VARIABLE]))
