"""The house's plan, held: imports point down, each foreign library stays in its room, no module holds two ideas."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmcap_addon import __version__

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "llmcap_addon"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS = (
    ("cli", "cli_run", "cli_prices", "__main__"),
    ("demo",),
    ("addon",),
    ("proxy",),
    ("view",),
    ("gate",),
    ("report",),
    ("config",),
    ("budget",),
    ("pricing",),
    ("wire",),
    ("unclaimed",),
    ("keep", "activity", "call", "usage", "money", "errors", "__init__"),
)
"""From the roof to the ground; a module imports from its own floor or from those below."""

ONLY_IN = {
    "mitmproxy": ("proxy", "addon", "demo"),
    "rich": ("view", "cli", "demo"),
    "sqlite3": ("budget/stores",),
    "redis": ("budget/stores",),
    "click": ("cli", "cli_run"),
    "yaml": ("config",),
    "tiktoken": ("pricing",),
}
"""Where a library may be imported: a change of it, or of our mind about it, then touches that room alone."""

MAX_LINES = 400


def name_of(module: Path) -> str:
    return module.relative_to(PACKAGE).with_suffix("").as_posix()


def room_of(name: str) -> str:
    head = name.partition("/")[0]
    return "config" if head.startswith("config") else head


def imports_of(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import fails when mitmproxy loads a file by its path"
            yield node.module or ""
            if node.module == "llmcap_addon":
                yield from (f"llmcap_addon.{alias.name}" for alias in node.names)


def floor_of(room: str) -> int:
    for height, rooms in enumerate(FLOORS):
        if room in rooms:
            return height
    pytest.fail(f"{room} stands on no floor: add it to FLOORS")


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_imports_point_down(module: Path) -> None:
    """No module imports from a floor above its own."""
    own = floor_of(room_of(name_of(module)))
    for imported in imports_of(module):
        if imported.startswith("llmcap_addon."):
            target = imported.split(".")[1]
            if (PACKAGE / target).is_dir() or (PACKAGE / f"{target}.py").is_file():
                assert floor_of(room_of(target)) >= own, f"{name_of(module)} imports {imported}, which stands above it"


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_libraries_stay_in_their_rooms(module: Path) -> None:
    """mitmproxy, rich, sqlite3 and the like are imported in the rooms named for them, and nowhere else."""
    name = name_of(module)
    for imported in imports_of(module):
        rooms = ONLY_IN.get(imported.partition(".")[0])
        if rooms is not None:
            assert any(name == room or name.startswith((f"{room}/", f"{room}_")) for room in rooms), imported


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_no_module_holds_two_ideas(module: Path) -> None:
    """A module of more than 400 lines is to be split."""
    assert len(module.read_text().splitlines()) <= MAX_LINES


def test_the_locks_hold_what_the_project_asks_for() -> None:
    """Every dependency is pinned with hashes, and no registry's address and no path stands in a lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runtime = (ROOT / "requirements.lock").read_text()
    dev = (ROOT / "requirements-dev.lock").read_text()
    asked = {"runtime": (project["dependencies"] + project["optional-dependencies"]["redis"], runtime)}
    asked["dev"] = (project["dependencies"] + project["optional-dependencies"]["dev"], dev)
    for requirements, lock in asked.values():
        pinned = set(re.findall(r"^([a-z0-9._-]+)==\S+", lock, re.MULTILINE))
        for requirement in requirements:
            name = re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement)[0].lower())
            assert name in pinned, f"{name} is not in the lock: run scripts/lock"
        assert "://" not in lock
        assert "@ " not in lock
        for block in re.split(r"^(?=[a-z])", lock, flags=re.MULTILINE)[1:]:
            assert "--hash=sha256:" in block


def test_both_locks_agree() -> None:
    """What is tested is what runs: no package has another version in the development lock."""
    pins = [
        set(re.findall(r"^([a-z0-9._-]+==\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.lock", "requirements-dev.lock")
    ]
    names = {pin.partition("==")[0] for pin in pins[0]}
    tested = {pin for pin in pins[1] if pin.partition("==")[0] in names}
    assert pins[0] <= tested
    assert {pin.partition("==")[0] for pin in tested - pins[0]} <= {"typing-extensions"}


def test_version_stands_once() -> None:
    """`llmcap --version` and the distribution say the same."""
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == __version__
