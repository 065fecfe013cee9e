from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from llmcap_addon import cli
from llmcap_addon.errors import ConfigError

ROOT = Path(__file__).parent.parent


class User:
    """Somebody with a home of their own, who starts `llmcap` in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.folder = folder / "work"
        self.temporary = folder / "tmp"
        for made in (self.home, self.folder, self.temporary):
            made.mkdir()
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
        }

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "llmcap_addon", *arguments],
            env={**self.environment, **environment},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def llmcap(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=90)
        assert "Traceback" not in err, err
        return process.returncode, out, err

    def caps(self, text: str) -> None:
        (self.folder / "caps.yaml").write_text(text)


@pytest.fixture
def user(tmp_path: Path) -> User:
    return User(tmp_path)


def test_path_names_the_addon(user: User) -> None:
    """`mitmdump -s "$(llmcap path)"` gets a file that is there."""
    code, out, _ = user.llmcap("path")
    assert code == 0
    assert Path(out.strip()) == ROOT / "llmcap_addon" / "addon.py"


def test_check_tells_what_is_in_force(user: User) -> None:
    """A good caps.yaml is told back; without one the built-in cap is."""
    code, out, _ = user.llmcap("check")
    assert code == 0
    assert "$5.00 per day" in out
    user.caps("caps: [{name: opus, limit: 3, per: hour, match: {model: 'claude-opus-*'}}]\nunmetered: allow\n")
    code, out, _ = user.llmcap("check")
    assert code == 0
    assert "opus: $3.00 per hour, for model claude-opus-*" in out
    assert "unmetered: allow" in out


@pytest.mark.parametrize(
    "command", [["check"], ["report"], ["run", "--", "true"], ["proxy", "--listen", "127.0.0.1:0"]]
)
def test_a_wrong_caps_yaml_stops_the_start(user: User, command: list[str]) -> None:
    """Every command says where the mistake is and starts nothing; the exit code is EX_CONFIG."""
    user.caps("caps:\n  - {name: daily, limit: five, per: day}\n")
    code, out, err = user.llmcap(*command)
    assert code == 78, err
    assert out == ""
    assert "caps.yaml:2" in err
    assert "five" in err


def test_an_empty_ledger_gives_a_whole_report(user: User) -> None:
    """Before the first call every documented key is there."""
    code, out, _ = user.llmcap("report", "--json", "--by", "model")
    assert code == 0
    document = json.loads(out)
    assert document["posted_usd"] == document["pending_usd"] == "0"
    assert document["calls"] == document["refused"] == document["cut"] == document["estimated"] == 0
    assert document["by"] == []
    assert [cap["name"] for cap in document["caps"]] == ["daily"]
    assert document["caps"][0].keys() == {"name", "limit", "posted", "pending", "resets_at"}
    assert user.llmcap("report", "--by", "cap")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["report", "--since", "yesterday"], "--since"),
        (["proxy", "--listen", "here"], "--listen"),
        (["proxy", "--listen", "127.0.0.1:70000"], "--listen"),
        (["proxy", "--workers", "many"], "--workers"),
        (["proxy", "--workers", "0"], "from 1 to 64"),
        (["proxy", "--workers", "65"], "from 1 to 64"),
        (["proxy", "--worker"], "--workers N"),
        (["run", "--cap", "1", "--config", "x", "--", "true"], "--cap"),
        (["run", "--cap", "lots", "--", "true"], "lots"),
        (["report", "--store", "redis://127.0.0.1:1"], "it can't be reached"),
        (["report", "--store", "redis://:secret@h:x"], "redis://…"),
        (["report", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["report", "--store", "sqlite:///proc/none/ledger.sqlite"], "/proc/none"),
    ],
)
def test_wrong_words_are_explained(user: User, arguments: list[str], told: str) -> None:
    """A mistake in the arguments is named, in a line or two, and never as a traceback."""
    code, _, err = user.llmcap(*arguments)
    assert code in (cli.EXIT_FAILED, cli.EXIT_CONFIG)
    assert told in err


def test_run_leaves_the_childs_streams_and_exit_code_alone(user: User) -> None:
    """Standard output holds what the child wrote and nothing else; the last line of standard error is ours."""
    code, out, err = user.llmcap("run", "--cap", "2", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (code, out) == (7, "out\n")
    assert err.splitlines() == ["err", "llmcap: $0.00 of $2.00 in this run · 0 calls"]


def test_run_hands_the_child_a_proxy_and_its_certificates(user: User) -> None:
    """What the variables name is there, on loopback, and the key is readable by its owner only."""
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    _, out, _ = user.llmcap("run", "--", sys.executable, "-c", program, NO_PROXY="intern.example,.openai.com")
    child = json.loads(out)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", child["HTTPS_PROXY"])
    assert Path(child["SSL_CERT_FILE"]).read_text().count("BEGIN CERTIFICATE") > 50
    assert Path(child["NODE_EXTRA_CA_CERTS"]).read_text().count("BEGIN CERTIFICATE") == 1
    assert child["NO_PROXY"] == "intern.example,localhost,127.0.0.1,::1"
    folder = Path(child["NODE_EXTRA_CA_CERTS"]).parent
    assert folder.is_relative_to(user.home)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for file in user.home.rglob("*"):
        if file.is_file() and "PRIVATE KEY" in file.read_text(errors="replace"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_goes_around_the_cap_is_said(user: User) -> None:
    """A NO_PROXY entry that is left out, and a proxy that is not used, are told in a line each."""
    _, _, err = user.llmcap("run", "--", "true", NO_PROXY="*", https_proxy="http://me:secret@proxy.example:3128")
    assert "NO_PROXY=*" in err
    assert "proxy.example:3128" in err
    assert "secret" not in err


def test_run_of_a_command_that_is_not_there(user: User) -> None:
    """One line and a shell's exit code; no proxy is started for it."""
    code, out, err = user.llmcap("run", "--", "no-such-command")
    assert (code, out, err) == (127, "", "llmcap: no-such-command: command not found\n")


def test_proxy_says_how_to_use_it_and_stops_when_told(user: User) -> None:
    """Once it listens, standard error holds the variables to set; SIGTERM ends it with 0."""
    process = user.start("proxy", "--listen", "127.0.0.1:0", "--view", "off")
    assert process.stderr is not None
    lines = iter(process.stderr.readline, "")
    line = next(line for line in lines if "export" in line)
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    found = re.search(r"HTTPS_PROXY=http://127\.0\.0\.1:\d+ SSL_CERT_FILE=(\S+) NODE_EXTRA_CA_CERTS=(\S+)", line)
    assert found is not None
    assert all(Path(name).is_file() for name in found.groups())


def test_the_demo_trips_its_caps_and_leaves_nothing_behind(user: User) -> None:
    """Offline, without its pauses: a call is refused, a stream is cut, the clients show why, and no file stays."""
    code, out, err = user.llmcap("demo", "--fast", "--view", "off")
    assert code == 0, out + err
    assert "LLMCap: refused" in out
    assert "LLMCap: stream cut" in out
    assert "1 cut" in out
    assert list(user.temporary.iterdir()) == []
    assert [file for file in user.home.rglob("*") if file.is_file()] == []


@pytest.mark.parametrize(
    ("text", "before_now_ms"), [("30m", 1_800_000), ("24h", 86_400_000), ("7d", 604_800_000), ("2w", 1_209_600_000)]
)
def test_spans(text: str, before_now_ms: int) -> None:
    """A span counts back from now."""
    assert cli._since(text, 10**13) == 10**13 - before_now_ms


def test_dates() -> None:
    """A time with an offset is that moment; a date alone is local midnight."""
    assert cli._since("1970-01-02T00:00:00+00:00", 0) == 86_400_000
    assert cli._since("2026-11-01", 0) % 1000 == 0


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("[::1]:0", ("::1", 0)),
        ("9", ("127.0.0.1", 9)),
        (":9", ("127.0.0.1", 9)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    """Host and port, IPv6 in brackets; a port alone listens on loopback."""
    assert cli._address(text) == address


def test_workers() -> None:
    """A number, or as many as this process has cores."""
    assert [cli._workers(text) for text in ("1", "8")] == [1, 8]
    assert 1 <= cli._workers("auto") <= (os.cpu_count() or 1)


def test_readmes_caps_yaml_is_right(user: User) -> None:
    """The examples in README pass the check that they describe; those of one key alone, beside no caps."""
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    whole = [block for block in blocks if "caps" in yaml.safe_load(block)]
    assert whole
    for block in blocks:
        user.caps(block if block in whole else "caps: []\n" + block)
        code, out, err = user.llmcap("check")
        assert code == 0, err
        assert ("opus" in out) == ("opus" in block)


def test_a_config_error_has_its_own_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts can tell a wrong caps.yaml from other failures."""
    with pytest.raises(SystemExit) as ended:
        cli._fail(ConfigError("caps.yaml:1: caps: found nothing"))
    assert ended.value.code == 78
    assert capsys.readouterr().err == "llmcap: caps.yaml:1: caps: found nothing\n"
