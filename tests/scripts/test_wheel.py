from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_the_wheel_holds_every_file_of_the_package(tmp_path: Path) -> None:
    """What is installed elsewhere has the price table, the vocabulary and the schema beside the modules."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("llmcap_addon-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("llmcap_addon/")}
        entry_points = archive.read(next(name for name in archive.namelist() if name.endswith("entry_points.txt")))
    files = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "llmcap_addon").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert packed == files
    assert {"llmcap_addon/py.typed", "llmcap_addon/addon.py"} <= packed
    assert any(name.endswith(".sql") for name in packed)
    assert any(name.startswith("llmcap_addon/pricing/data/") for name in packed)
    assert b"llmcap = llmcap_addon.cli:main" in entry_points
