from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import certifi
import pytest

from llmcap_addon import cli_run

CERTIFICATE = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
ROOT = Path(__file__).parent.parent


def pem(folder: Path, name: str, *bodies: str) -> Path:
    file = folder / name
    file.write_text("# a comment\n" + "".join(CERTIFICATE.format(body) for body in bodies))
    return file


def test_the_child_is_led_through_the_proxy_and_trusts_it(tmp_path: Path) -> None:
    """Every variable that a known client reads is set; the rest of the environment is the user's."""
    ca_file, bundle = tmp_path / "ca.pem", tmp_path / "bundle.pem"
    child = cli_run.child_environment({"LANG": "C"}, "http://127.0.0.1:9", ca_file, bundle)
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        assert child[name] == "http://127.0.0.1:9"
    for name in (
        "SSL_CERT_FILE",
        "CODEX_CA_CERTIFICATE",
        "AWS_CA_BUNDLE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
    ):
        assert child[name] == str(bundle)
    assert child["NODE_EXTRA_CA_CERTS"] == str(ca_file)
    assert child["NODE_USE_ENV_PROXY"] == "1"
    assert child["NO_PROXY"] == child["no_proxy"] == "localhost,127.0.0.1,::1"
    assert child["LANG"] == "C"


def test_authorities_a_user_gave_node_are_kept(tmp_path: Path) -> None:
    """NODE_EXTRA_CA_CERTS holds one file: with one of the user's own, it becomes the bundle that holds both."""
    environment = {"NODE_EXTRA_CA_CERTS": "/company.pem"}
    child = cli_run.child_environment(environment, "http://127.0.0.1:9", tmp_path / "ca.pem", tmp_path / "bundle.pem")
    assert child["NODE_EXTRA_CA_CERTS"] == str(tmp_path / "bundle.pem")


@pytest.mark.parametrize(
    ("no_proxy", "kept", "dropped"),
    [
        ("", [], []),
        ("intern.example, 10.0.0.0/8,::1", ["intern.example", "10.0.0.0/8", "::1"], []),
        ("*", [], ["*"]),
        ("openai.com,intern.example", ["intern.example"], ["openai.com"]),
        (".OpenAI.com", [], [".OpenAI.com"]),
        ("*.openai.com", [], ["*.openai.com"]),
        ("api.openai.com:443", [], ["api.openai.com:443"]),
        ("notopenai.com", ["notopenai.com"], []),
    ],
)
def test_no_proxy_does_not_lead_around_the_cap(no_proxy: str, kept: list[str], dropped: list[str]) -> None:
    """The user's NO_PROXY is kept, but for entries that would take an LLM host off the proxy."""
    assert cli_run.split_no_proxy({"NO_PROXY": no_proxy}, ["api.openai.com"]) == (kept, dropped)


def test_the_bundle_holds_all_that_was_trusted_before(tmp_path: Path) -> None:
    """Ours, the user's own file and the public authorities each stand once in the bundle."""
    ca_file = pem(tmp_path, "ca.pem", "OURS")
    company = pem(tmp_path, "company.pem", "COMPANY", "OURS")
    bundle = cli_run.write_bundle(ca_file, tmp_path, {"SSL_CERT_FILE": str(company), "CURL_CA_BUNDLE": "/gone.pem"})
    text = bundle.read_text()
    assert text.count("OURS") == text.count("COMPANY") == 1
    public = Path(certifi.where()).read_text()
    some = public[public.index("-----BEGIN") : public.index("-----END")]
    assert some in text
    assert cli_run.write_bundle(ca_file, tmp_path, {"SSL_CERT_FILE": str(company)}) == bundle
    assert not list(tmp_path.glob(".bundle-*"))


def test_the_replaced_proxy_is_told_without_its_password() -> None:
    """A company's proxy is named by host and port only."""
    assert cli_run.replaced_proxy({"https_proxy": "http://me:secret@proxy.example:3128"}) == "proxy.example:3128"
    assert cli_run.replaced_proxy({"HTTPS_PROXY": "proxy.example"}) == "proxy.example"
    assert cli_run.replaced_proxy({}) is None


def run_child(*command: str) -> int:
    return cli_run.run_child(command[0], command, os.environ)


@pytest.mark.parametrize("code", [0, 1, 77])
def test_the_exit_code_is_the_childs(code: int) -> None:
    """Whatever the child says goes through."""
    assert run_child(sys.executable, "-c", f"raise SystemExit({code})") == code


def test_a_child_ended_by_a_signal_gives_128_and_its_number() -> None:
    """As a shell does."""
    assert run_child("/bin/sh", "-c", "kill -TERM $$") == 128 + signal.SIGTERM


def test_a_command_that_is_not_there() -> None:
    """127 for a name that is nowhere on PATH, 126 for a file that can't be executed."""
    assert cli_run.find_program("no-such-command", {"PATH": "/usr/bin:/bin"}) == (None, 127)
    assert cli_run.find_program(__file__, {"PATH": "/usr/bin:/bin"}) == (None, 126)
    assert cli_run.find_program("sh", {"PATH": "/usr/bin:/bin"})[1] == 0


CHILD = "trap 'echo got TERM; exit 5' TERM; trap 'echo got INT; exit 6' INT; echo ready; while :; do sleep 0.02; done"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 5), (signal.SIGINT, 6)])
def test_signals_reach_the_child(number: int, code: int) -> None:
    """A signal sent to us alone is handed on, and the child decides how it ends."""
    program = (
        "import os, sys\nfrom llmcap_addon import cli_run\n"
        f"sys.exit(cli_run.run_child('/bin/sh', ['/bin/sh', '-c', {CHILD!r}], os.environ))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    began_s = time.monotonic()
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == code, out
    assert time.monotonic() - began_s < 20
