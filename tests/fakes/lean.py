"""Test-only start of `llmcap`: with `route.py` under it, and the stand-ins' authority in place of the public ones."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import certifi

CA_VARIABLE = "LLMCAP_TEST_CA"

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).with_name("route.py")))
    certifi.where = lambda: os.environ[CA_VARIABLE]
    from llmcap_addon.cli import main

    main()
