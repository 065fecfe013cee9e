"""What Python imports by itself at its start: leads a contender to the upstream, and lets it trust its authority.

So every process of a contender is led there, also those that it starts itself, and no contender carries an addon for it.
"""

from __future__ import annotations

import os
import runpy
from pathlib import Path

if "LLMCAP_TEST_ROUTES" in os.environ:
    runpy.run_path(str(Path(__file__).resolve().parents[3] / "fakes" / "route.py"))
    import certifi

    certifi.where = lambda: os.environ["LLMCAP_TEST_CA"]
