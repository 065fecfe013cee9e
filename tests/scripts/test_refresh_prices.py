from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "refresh_prices"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_it_says_how_it_is_used() -> None:
    """`--help` works and names the options."""
    done = run("--help")
    assert done.returncode == 0
    assert "--wheels" in done.stdout


def test_a_folder_without_the_wheels_is_told(tmp_path: Path) -> None:
    """What is missing is named, and nothing is written."""
    done = run("--wheels", str(tmp_path), "--check")
    assert done.returncode == 1
    assert done.stderr == f"no wheel of genai-prices in {tmp_path}\n"


def test_a_package_that_has_changed_its_form_is_told_without_a_traceback(tmp_path: Path) -> None:
    """Data that holds anything but literals and constructors stops the script, with a message."""
    with zipfile.ZipFile(tmp_path / "genai_prices-9.0-py3-none-any.whl", "w") as archive:
        archive.writestr("genai_prices/data.py", "providers: list = [f'{1}']")
    with zipfile.ZipFile(tmp_path / "litellm-9.0-py3-none-any.whl", "w") as archive:
        archive.writestr("litellm/model_prices_and_context_window_backup.json", "{}")
    done = run("--wheels", str(tmp_path), "--check")
    assert done.returncode == 1
    assert "changed its form" in done.stderr
    assert "Traceback" not in done.stderr
