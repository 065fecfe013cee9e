from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TOOLS = ("sh", "dirname", "cat", "cmp", "mkdir", "rm", "mv", "cp", "chmod", "sleep", "uname", "touch")

STAND_IN = """\
#!/bin/sh
# Behaves like a Python {version}, as far as scripts/run uses one; writes down what it was asked to install.
case "$*" in
    *'version_info[:2]'*) echo python{version} ;;
    *version_info*) exit {too_old} ;;
    *ensurepip*) exit {no_ensurepip} ;;
    *get_path*) mkdir -p "$(dirname "$0")/../lib" && echo "$(dirname "$0")/../lib" ;;
    '-m venv '*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo "made by $0" >>"$LOG" ;;
    '-m pip install'*) echo install >>"$LOG"; sleep "${{PIP_TAKES:-0}}"; exit "${{PIP_EXIT:-0}}" ;;
    '-P -m llmcap_addon'*) shift 3; echo "llmcap $*" ;;
esac
"""


class Machine:
    """A checkout on a machine that has only what a test put there."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "check out"
        self.programs = folder / "bin"
        self.home = folder / "home"
        self.log = folder / "log"
        for made in (self.checkout / "scripts", self.programs, self.home):
            made.mkdir(parents=True)
        for name in ("run", "_venv.sh"):
            shutil.copy(ROOT / "scripts" / name, self.checkout / "scripts" / name)
        (self.checkout / "requirements.lock").write_text("# nothing\n")
        for tool in TOOLS:
            where = shutil.which(tool)
            assert where is not None
            (self.programs / tool).symlink_to(where)

    def add(self, path: Path, *, version: str = "3.13", too_old: int = 0, no_ensurepip: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STAND_IN.format(version=version, too_old=too_old, no_ensurepip=no_ensurepip))
        path.chmod(0o755)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.checkout / "scripts" / "run"), *arguments],
            env={"PATH": str(self.programs), "HOME": str(self.home), "LOG": str(self.log), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def installs(self) -> int:
        return self.log.read_text().count("install\n") if self.log.exists() else 0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], "llmcap proxy"),
        (["--listen", "127.0.0.1:9"], "llmcap proxy --listen 127.0.0.1:9"),
        (["--", "echo", "a b"], "llmcap run -- echo a b"),
        (["--cap", "2", "--", "echo"], "llmcap run --cap 2 -- echo"),
        (["report", "--json"], "llmcap report --json"),
        (["demo"], "llmcap demo"),
        (["--help"], "llmcap --help"),
    ],
)
def test_words_become_commands(machine: Machine, arguments: list[str], command: str) -> None:
    """No word starts the proxy, `--` runs one tool, every other word is llmcap's own."""
    machine.add(machine.programs / "python3.13")
    assert machine.run(*arguments)[:2] == (0, command + "\n")


def test_the_second_start_installs_nothing_and_says_nothing(machine: Machine) -> None:
    """What is installed is remembered; only a changed lock is installed again."""
    machine.add(machine.programs / "python3.13")
    assert "installing" in machine.run()[2]
    assert machine.run() == (0, "llmcap proxy\n", "")
    assert machine.installs() == 1
    (machine.checkout / "requirements.lock").write_text("# something else\n")
    machine.run()
    assert machine.installs() == 2


def test_a_program_that_does_not_run_is_passed_over(machine: Machine) -> None:
    """A shim that refuses, and a Python that is too old, are tried and left; the one behind them is used."""
    shim = machine.programs / "python3.14"
    shim.write_text("#!/bin/sh\necho 'pyenv: version 3.14 is not installed' >&2\nexit 127\n")
    shim.chmod(0o755)
    machine.add(machine.programs / "python3", version="3.11", too_old=1)
    machine.add(machine.programs / "python3.12", version="3.12")
    assert machine.run()[0] == 0
    assert f"made by {machine.programs}/python3.12" in machine.log.read_text()


@pytest.mark.parametrize("root", ["home/.pyenv", "elsewhere"])
def test_pyenvs_folders_are_looked_into(machine: Machine, root: str) -> None:
    """A Python that only pyenv has is found, in its usual place and where PYENV_ROOT says."""
    folder = machine.home.parent / root
    machine.add(folder / "versions/3.12.7/bin/python", version="3.12")
    assert machine.run(PYENV_ROOT=str(folder) if root == "elsewhere" else "")[0] == 0


def test_without_a_python_one_line_says_what_to_install(machine: Machine) -> None:
    """Only a Python 3.11 is there: one line, nothing made."""
    machine.add(machine.programs / "python3", version="3.11", too_old=1)
    code, out, err = machine.run()
    assert (code, out) == (1, "")
    assert "no Python 3.12 or newer" in err.splitlines()[-1]
    assert "install" in err.splitlines()[-1]
    assert not (machine.checkout / ".venv").exists()


def test_debians_python_without_venv_is_named(machine: Machine) -> None:
    """A Python that can't make an environment is not used, and the package that it lacks is named."""
    machine.add(machine.programs / "python3.12", version="3.12", no_ensurepip=1)
    code, _, err = machine.run()
    assert code == 1
    assert "sudo apt install python3.12-venv" in err


def test_a_python_with_venv_is_preferred_to_a_newer_one_without(machine: Machine) -> None:
    """Lacking ensurepip is a reason to look further."""
    machine.add(machine.programs / "python3.14", version="3.14", no_ensurepip=1)
    machine.add(machine.programs / "python3.12", version="3.12")
    assert machine.run()[0] == 0
    assert "python3.12" in machine.log.read_text()


def test_an_install_that_failed_is_told_and_done_again(machine: Machine) -> None:
    """A failed install leaves no mark of success and no lock behind."""
    machine.add(machine.programs / "python3.13")
    code, out, err = machine.run(PIP_EXIT="1")
    assert (code, out) == (1, "")
    assert "the install failed" in err
    assert machine.run()[:2] == (0, "llmcap proxy\n")


def test_a_moved_checkout_makes_its_environment_anew(machine: Machine) -> None:
    """Programs in an environment name the place it was made at, so a moved one is not used."""
    machine.add(machine.programs / "python3.13")
    machine.run()
    moved = machine.checkout.with_name("moved")
    machine.checkout.rename(moved)
    machine.checkout = moved
    assert machine.run()[:2] == (0, "llmcap proxy\n")
    assert machine.log.read_text().count("made by") == 2


def test_an_environment_whose_python_is_gone_is_made_anew(machine: Machine) -> None:
    """After an upgrade of the system's Python the old environment's link leads nowhere."""
    machine.add(machine.programs / "python3.13")
    machine.run()
    (machine.checkout / ".venv/bin/python").unlink()
    assert machine.run()[:2] == (0, "llmcap proxy\n")
    assert machine.log.read_text().count("made by") == 2


def test_two_starts_at_once_install_once(machine: Machine) -> None:
    """The second start waits for the first one's install and uses it."""
    machine.add(machine.programs / "python3.13")
    starts = [machine.start(PIP_TAKES="1") for _ in range(3)]
    results = [(start.communicate(timeout=60)[0], start.returncode) for start in starts]
    assert results == [("llmcap proxy\n", 0)] * 3
    assert machine.installs() == 1


def test_the_lock_of_a_killed_install_is_taken_over(machine: Machine) -> None:
    """A lock whose owner is dead holds nobody up."""
    machine.add(machine.programs / "python3.13")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (machine.checkout / ".venv.lock").mkdir()
    (machine.checkout / ".venv.lock/pid").write_text(f"{dead.pid}\n")
    assert machine.run()[0] == 0


def test_uv_is_used_where_it_is(machine: Machine) -> None:
    """With uv no Python needs to be on PATH; where uv fails, pip is used."""
    uv = machine.programs / "uv"
    uv.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f'    venv*) for last; do :; done; mkdir -p "$last/bin"; cp "{machine.home}/python" "$last/bin/python" ;;\n'
        '    pip*) echo "uv install" >>"$LOG" ;;\n'
        "esac\n"
    )
    uv.chmod(0o755)
    machine.add(machine.home / "python")
    assert machine.run()[:2] == (0, "llmcap proxy\n")
    assert machine.log.read_text() == "uv install\n"

    uv.write_text("#!/bin/sh\nexit 2\n")
    shutil.rmtree(machine.checkout / ".venv")
    machine.add(machine.programs / "python3.12", version="3.12")
    assert machine.run()[:2] == (0, "llmcap proxy\n")


def test_a_real_environment_starts_the_checkout(machine: Machine) -> None:
    """With this very Python: the environment is made, the package is on its path, the folder started in is not."""
    pytest.importorskip("ensurepip", reason="this Python can't make environments with pip")
    real = machine.programs / "python3.13"
    real.symlink_to(Path(sys.executable).resolve())
    package = machine.checkout / "llmcap_addon"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import sys; print('started', sys.argv[1:])\n")
    process = subprocess.run(
        [str(machine.checkout / "scripts/run"), "report"],
        env={**os.environ, "PATH": f"{machine.programs}:/usr/bin:/bin", "HOME": str(machine.home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert process.stdout == "started ['report']\n", process.stderr
