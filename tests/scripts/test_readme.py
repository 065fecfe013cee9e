from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_readme_shows_the_endpoints_that_are_metered() -> None:
    """The table of endpoints is the code's own."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "refresh_readme"), "--check"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
