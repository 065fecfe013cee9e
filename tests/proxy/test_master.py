"""The lean proxy: its start, its failures to start, its end."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from mitmproxy import http

from llmcap_addon.errors import ConfigError, LLMCapError, StoreError
from llmcap_addon.proxy import master as master_module
from llmcap_addon.proxy.master import ProxyOptions, RunningProxy, spare_checks
from tests.e2e.harness import ROOT

POST_INIT = "__post_init__"
CAPS = "caps: [{name: fuse, limit: 0, per: day}]\n"
REQUEST = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module")
def ca_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder for the authority: its key is made once, which takes a while."""
    return tmp_path_factory.mktemp("authority") / "state" / "ca"


@pytest.fixture
def wanted(tmp_path: Path, ca_dir: Path) -> ProxyOptions:
    caps = tmp_path / "caps.yaml"
    caps.write_text(CAPS)
    return ProxyOptions(
        ca_dir=ca_dir, listen_port=0, config=str(caps), store=f"sqlite://{tmp_path}/ledger.sqlite", view="off"
    )


def call(proxy: RunningProxy) -> httpx2.Response:
    """Make a call in plain HTTP, so that no server has to be reached before it is judged."""
    with httpx2.Client(proxy=f"http://{proxy.address}", trust_env=False) as client:
        return client.post("http://api.openai.com/v1/chat/completions", json=REQUEST)


def test_it_starts_on_a_free_port_and_sums_up_at_the_end(wanted: ProxyOptions) -> None:
    """It caps while the block lasts; then nobody listens any more, and the summary is whole."""
    told: list[tuple[str, int, Path]] = []
    with RunningProxy(replace(wanted, ready=lambda *words: told.append(words))) as proxy:
        assert proxy.address.startswith("127.0.0.1:")
        port = int(proxy.address.rpartition(":")[2])
        assert told == [("127.0.0.1", port, proxy.ca_file)]
        answer = call(proxy)
    assert answer.status_code == 429
    assert "fuse" in answer.json()["error"]["message"]
    summary = proxy.summary()
    assert (summary.counts.refused, summary.counts.calls, summary.spent) == (1, 0, 0)
    [balance] = summary.balances
    assert (balance.charge.cap, balance.posted, balance.pending) == ("fuse", 0, 0)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_the_authority_is_kept_from_others(wanted: ProxyOptions) -> None:
    """Who has its key can read all of the user's traffic."""
    mask = os.umask(0)
    try:
        with RunningProxy(wanted) as proxy:
            folder = proxy.ca_file.parent
            assert proxy.ca_file.is_file()
    finally:
        os.umask(mask)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    keys = [path for path in folder.iterdir() if b"PRIVATE KEY" in path.read_bytes() or path.suffix == ".p12"]
    assert keys
    for path in keys:
        if "cert" not in path.name:
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_an_open_folder_is_closed(wanted: ProxyOptions, ca_dir: Path) -> None:
    """A folder that others could read is not left so."""
    with RunningProxy(wanted):
        pass
    ca_dir.chmod(0o755)
    with RunningProxy(wanted):
        assert stat.S_IMODE(ca_dir.stat().st_mode) == 0o700


def test_a_wrong_file_is_told_where_it_is_started(wanted: ProxyOptions) -> None:
    """With the error's own kind and words, once the thread has ended."""
    assert wanted.config is not None
    Path(wanted.config).write_text("caps: [{name: fuse, limit: lots, per: day}]")
    proxy = RunningProxy(wanted)
    with pytest.raises(ConfigError, match=r"caps\[0\]\.limit"), proxy:
        pytest.fail("it must not start")
    assert not proxy._thread.is_alive()


def test_a_missing_file_is_told(wanted: ProxyOptions, tmp_path: Path) -> None:
    """A name that is not there is a mistake, not a wish for the built-in cap."""
    missing = replace(wanted, config=str(tmp_path / "cups.yaml"))
    with pytest.raises(ConfigError, match=r"cups\.yaml"), RunningProxy(missing):
        pytest.fail("it must not start")


def test_a_ledger_that_is_none_is_told(wanted: ProxyOptions, tmp_path: Path) -> None:
    """Without a ledger it does not run."""
    (tmp_path / "ledger.sqlite").write_bytes(b"no ledger" * 1_000)
    with pytest.raises(StoreError, match="ledger"), RunningProxy(wanted):
        pytest.fail("it must not start")


def test_a_port_in_use_is_told_in_one_line(wanted: ProxyOptions) -> None:
    """The message names the port, and holds no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(LLMCapError, match=str(port)) as raised,
            RunningProxy(replace(wanted, listen_port=port)),
        ):
            pytest.fail("it must not start")
    assert type(raised.value) is LLMCapError
    assert "Traceback" not in str(raised.value)


def test_a_folder_that_cannot_be_made_is_told(wanted: ProxyOptions, tmp_path: Path) -> None:
    """A file stands where the authority's folder should."""
    (tmp_path / "taken").write_text("")
    with (
        pytest.raises(LLMCapError, match="taken"),
        RunningProxy(replace(wanted, ca_dir=tmp_path / "taken")),
    ):
        pytest.fail("it must not start")


def test_a_start_that_does_not_end_is_given_up(wanted: ProxyOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user gets a message, and the child is not started without its proxy."""
    monkeypatch.setattr(master_module, "START_TIMEOUT_S", 0.0)
    proxy = RunningProxy(wanted)
    with pytest.raises(LLMCapError, match="did not start"), proxy:
        pytest.fail("it must not start")
    proxy._thread.join(20)
    assert not proxy._thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_in_order_on_a_signal(wanted: ProxyOptions, number: signal.Signals) -> None:
    """`llmcap proxy` takes a signal for what it is: the end, and no failure."""
    assert wanted.config is not None
    assert wanted.store is not None
    paths = ["--config", wanted.config, "--store", wanted.store, "--ca-dir", str(wanted.ca_dir)]
    with subprocess.Popen(
        [sys.executable, "-m", "llmcap_addon", "proxy", "--listen", "127.0.0.1:0", *paths],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        printed = ""
        try:
            while "listening" not in printed:
                line = process.stdout.readline()
                assert line, printed
                printed += line
            process.send_signal(number)
            printed += process.stdout.read()
            assert process.wait(20) == 0, printed
        finally:
            process.kill()
    assert "Traceback" not in printed


def test_a_run_counts_by_itself() -> None:
    """Caps per run are those of one start: each has an id of its own."""
    options = [ProxyOptions(ca_dir=Path("ca")) for _ in range(2)]
    assert options[0].run_id != options[1].run_id


def test_only_the_check_of_types_is_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of mitmproxy goes; what prepares a message, in some later version, stays, and nothing to spare is no error."""

    def prepares(self: http.MessageData) -> None:
        self.trailers = None

    monkeypatch.setattr(http.MessageData, POST_INIT, prepares, raising=False)
    spare_checks()
    assert getattr(http.MessageData, POST_INIT) is prepares
    monkeypatch.delattr(http.MessageData, POST_INIT)
    spare_checks()
    assert not hasattr(http.MessageData, POST_INIT)


def test_messages_are_made_without_the_check() -> None:
    """The installed mitmproxy's check is one that is known to check only."""
    code = (
        "from mitmproxy import http; from llmcap_addon.proxy.master import spare_checks; spare_checks();"
        "http.Request.make('GET', 'http://a/').data.__class__.__post_init__(None); print('spared')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "spared\n", done.stderr
