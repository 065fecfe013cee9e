"""A real proxy process between real SDKs and the stand-ins, and what it wrote down."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import httpx2

from llmcap_addon.budget.ledger import Row
from llmcap_addon.budget.stores import open_store
from tests.fakes.lean import CA_VARIABLE
from tests.fakes.route import ROUTES_VARIABLE
from tests.fakes.sdks import TIMEOUT_SECONDS, SDKs, make_sdks, proxied_async_client, proxied_client
from tests.fakes.server import OPENAI_HOST, StandIn

ROOT = Path(__file__).resolve().parents[2]
ADDON = ROOT / "llmcap_addon" / "addon.py"
ROUTE = ROOT / "tests" / "fakes" / "route.py"
LEAN = ROOT / "tests" / "fakes" / "lean.py"

START_SECONDS = 60.0
"""A start takes 2 s; a machine under load is given more before the test fails."""
WAIT_SECONDS = 20.0
POLL_SECONDS = 0.02
"""The ledger belongs to another process and signals nothing: it is looked at so often."""

_LISTENING = re.compile(r"listening (?:at|on) (?:https?://)?\[?[\w.:*]*?\]?:(\d+)\b")

AUDIT = "caps: []\n"


@dataclass(frozen=True, slots=True)
class Totals:
    """Money of one cap, summed over its periods, in nano-dollars."""

    posted: int
    pending: int


class Proxy:
    """One proxy process; start it with `with`, or with `start` and `stop`."""

    def __init__(
        self,
        folder: Path,
        stand_in: StandIn,
        caps: str,
        *,
        flavor: Literal["mitmdump", "lean"] = "mitmdump",
        store_url: str = "",
        scripts: Sequence[Path] = (),
        arguments: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.confdir = folder / "ca"
        self.ca_path = self.confdir / "mitmproxy-ca-cert.pem"
        self.config_path = folder / "caps.yaml"
        self.store_path = folder / "state" / "ledger.sqlite"
        self.store_url = store_url or f"sqlite://{self.store_path}"
        """The ledger as `llmcap_store` names it; a file of the proxy's own unless told."""
        self.home = folder / "home"
        self.port = 0
        self.log = ""
        """Everything the process has printed, over all its starts."""
        self._stand_in = stand_in
        self._flavor = flavor
        self._view = "off"
        self._scripts = scripts
        self._arguments = arguments
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._printed = threading.Condition()
        self._reader: threading.Thread | None = None
        self._over = False
        self._clients: list[SDKs] = []
        self.write_caps(caps)

    # ── life ──

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is not None:
            sys.stderr.write(f"\n── the proxy's log ({self.folder}) ──\n{self.log}\n")

    def write_caps(self, caps: str) -> None:
        """Write caps.yaml; a running proxy picks the change up."""
        self.config_path.write_text(textwrap.dedent(caps), encoding="utf-8")

    def start(self) -> None:
        """Start the process and wait until it serves."""
        self.home.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            ROUTES_VARIABLE: json.dumps(self._stand_in.routes),
            CA_VARIABLE: str(self._stand_in.authority.ca_path),
            **self._environment,
        }
        before = len(self.log)
        self._over = False
        self._process = self._spawn(environment)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait_log(lambda log: _LISTENING.search(log[before:]) or self._over, "the proxy to listen", START_SECONDS)
        found = _LISTENING.search(self.log[before:])
        if found is None:
            raise RuntimeError(f"the proxy did not start:\n{self.log}")
        self.port = int(found[1])
        self._wait_serving()

    def _spawn(self, environment: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command(),
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def _command(self) -> list[str]:
        if self._flavor == "lean":
            paths = ["--config", str(self.config_path), "--store", self.store_url, "--ca-dir", str(self.confdir)]
            return [sys.executable, str(LEAN), "proxy", "--listen", "127.0.0.1:0", *paths, *self._arguments]
        options = {
            "confdir": self.confdir,
            "llmcap_config": self.config_path,
            "llmcap_store": self.store_url,
            "llmcap_view": self._view,
            "ssl_verify_upstream_trusted_ca": self._stand_in.authority.ca_path,
        }
        command = [str(Path(sys.executable).with_name("mitmdump")), "--listen-host", "127.0.0.1", "-p", "0"]
        for script in (ROUTE, *self._scripts, ADDON):
            command += ["-s", str(script)]
        for name, value in options.items():
            command += ["--set", f"{name}={value}"]
        return command

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._take(line.decode(errors="replace"))
        self._end_log()

    def _take(self, printed: str) -> None:
        with self._printed:
            self.log += printed
            self._printed.notify_all()

    def _end_log(self) -> None:
        with self._printed:
            self._over = True
            self._printed.notify_all()

    def _wait_serving(self) -> None:
        """Ask for something free until the answer is the provider's: the ledger is opened after the port."""

        def serves() -> bool:
            if self._over:
                raise RuntimeError(f"the proxy ended while it started:\n{self.log}")
            try:
                with proxied_client(self.port, self.ca_path, http2=False) as client:
                    return client.get(f"https://{OPENAI_HOST}/v1/models").status_code == 200
            except httpx2.TransportError:
                return False

        poll(serves, "the addon to serve", lambda: self.log, START_SECONDS)

    def stop(self) -> None:
        """End it as a user does, with SIGTERM, and wait."""
        for sdks in self._clients:
            sdks.close()
        self._clients.clear()
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as the kernel does, with SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, with_signal: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(with_signal)
        try:
            process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            if self._reader is not None:
                self._reader.join(WAIT_SECONDS)

    # ── clients ──

    def client(self, *, http2: bool = False, user: str = "") -> httpx2.Client:
        """Make an HTTP client that goes through the proxy."""
        return proxied_client(self.port, self.ca_path, http2=http2, user=user)

    def async_client(self, *, http2: bool = False) -> httpx2.AsyncClient:
        """Make an asyncio HTTP client that goes through the proxy."""
        return proxied_async_client(self.port, self.ca_path, http2=http2)

    def sdks(self, *, http2: bool = False, max_retries: int = 2, timeout_s: float = TIMEOUT_SECONDS) -> SDKs:
        """Make the SDKs, going through the proxy; they are closed with it."""
        sdks = make_sdks(self.client(http2=http2), max_retries=max_retries, timeout_s=timeout_s)
        self._clients.append(sdks)
        return sdks

    # ── what it says and writes ──

    def wait_log(self, condition: Callable[[str], object], what: str, timeout_s: float = WAIT_SECONDS) -> None:
        """Wait until the log satisfies a condition; raises TimeoutError."""
        with self._printed:
            if not self._printed.wait_for(lambda: condition(self.log), timeout_s):
                raise TimeoutError(f"waited {timeout_s} s for {what}; the log:\n{self.log}")

    def rows(self) -> tuple[Row, ...]:
        """Read the ledger as it stands, oldest call first."""
        return ledger(self.store_url)

    def settled(self, count: int, seen: Sequence[Row] = ()) -> list[Row]:
        """Wait until `count` calls beyond those `seen` have ended, none is pending, and give their rows."""
        known = {row.entry.id for row in seen}
        found: list[Row] = []

        def there() -> bool:
            found[:] = [row for row in self.rows() if row.entry.id not in known]
            return len(found) >= count and not any(row.state == "pending" for row in found)

        poll(there, f"{count} settled rows", lambda: found)
        assert len(found) == count, f"more rows than calls: {found}"
        return found

    def quiet(self, seen: Sequence[Row] = ()) -> list[Row]:
        """Wait until no call beyond those `seen` is pending, and give their rows."""
        known = {row.entry.id for row in seen}

        def new() -> list[Row]:
            return [row for row in self.rows() if row.entry.id not in known]

        poll(lambda: all(row.state != "pending" for row in new()), "no call to be pending", new)
        return new()

    def totals(self, cap: str) -> Totals:
        """Read what a cap's balances hold."""
        with sqlite3.connect(f"file:{self.store_path}?mode=ro", uri=True) as database:
            posted, pending = database.execute(
                "SELECT coalesce(sum(posted), 0), coalesce(sum(pending), 0) FROM balance JOIN amount USING (id) WHERE cap = ?",
                (cap,),
            ).fetchone()
        database.close()
        return Totals(posted, pending)

    def assert_sound(self) -> None:
        """Nothing has crashed: mitmproxy and we log every failure of ours with one of these words."""
        for word in ("Traceback", "has crashed", "Addon error", "internal error", "exception was never retrieved"):
            assert word not in self.log, f"{word!r} in the proxy's log:\n{self.log}"


def ledger(url: str) -> tuple[Row, ...]:
    """Read a ledger's rows, also while its proxy runs."""

    async def read() -> tuple[Row, ...]:
        store = open_store(url, lambda: time.time_ns() // 1_000_000)
        try:
            return await store.rows()
        finally:
            await store.close()

    return asyncio.run(read())


def poll(
    condition: Callable[[], object],
    what: str,
    state: Callable[[], object] = lambda: "",
    timeout_s: float = WAIT_SECONDS,
) -> None:
    """Look at another process's state until a condition holds; raises TimeoutError."""
    until = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {timeout_s} s for {what}: {state()}")
        time.sleep(POLL_SECONDS)
