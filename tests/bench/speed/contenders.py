"""Who is measured: nobody in between, bare mitmdump, LLMCap in its two forms, and LiteLLM's proxy, on one upstream."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench.speed import talk
from tests.bench.speed.load import Load, Result, Way
from tests.bench.speed.processes import ROOT, Loader, Process, free_port, wait_port
from tests.fakes.authority import Authority
from tests.fakes.lean import CA_VARIABLE
from tests.fakes.route import ROUTES_VARIABLE

HERE = Path(__file__).parent
FULL_CAPS = (HERE / "caps.yaml").read_text(encoding="utf-8")
ADDON = ROOT / "llmcap_addon" / "addon.py"
PASSTHROUGH = HERE / "passthrough.py"
PEERS = ROOT / ".bench"
"""Where the peers are installed, each in an environment of its own; git ignores it."""
START_S = 60.0
"""A start takes 2 s, LiteLLM's 15 s; a busy machine is given more."""
INSTALL_S = 600.0
LITELLM_KEY = "sk-bench-litellm"
LITELLM_CONFIG = """\
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: "https://localhost:{port}/v1", api_key: {key}}}
litellm_settings: {{telemetry: false, max_budget: 5000, budget_duration: 30d}}
router_settings: {{provider_budget_config: {{openai: {{budget_limit: 5000, time_period: 1d}}}}}}
general_settings: {{master_key: {master_key}}}
"""
"""A budget that it enforces without a database: its provider budget; `max_budget` is enforced with one only."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a load saw of a contender, and what that took of the contender's processor."""

    result: Result
    cpu_ns: int

    @property
    def cpu_a_call_ns(self) -> float:
        """Processor time of a call."""
        return self.cpu_ns / self.result.calls


@dataclass(frozen=True, slots=True)
class Contender:
    """One way for calls to go."""

    name: str
    way: Way
    port: int
    ca: Path
    folder: Path
    process: Process | None = None
    """None where nobody is in between."""
    key: str = talk.KEY

    def load(self, calls: int, **more: Any) -> Load:
        """Make a load of so many calls; `more` are further fields of it."""
        return Load(way=self.way, port=self.port, ca=str(self.ca), calls=calls, key=self.key, **more)

    def loader(self, load: Load) -> Loader:
        """Start a load, which warms up; it waits to begin."""
        return Loader(load, self.folder / "load.log")

    def cpu_ns(self) -> int:
        """Processor time so far."""
        return 0 if self.process is None else self.process.cpu_ns()

    def measure(self, load: Load) -> Measured:
        """Run a load; raises RuntimeError with what the contender has printed when a call fails."""
        try:
            with self.loader(load) as loader:
                before_ns = self.cpu_ns()
                loader.begin()
                result = loader.result()
                return Measured(result, self.cpu_ns() - before_ns)
        except RuntimeError as error:
            raise RuntimeError(f"{self.name}: {error}\n{self.said()}") from error

    def said(self) -> str:
        """What it has printed."""
        return "" if self.process is None else self.process.said()


class Stand:
    """The upstream and the contenders, in a folder that is removed at the end with all that was started."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._names = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmcap-bench-")))
            self.authority = Authority(self.folder / "authority", [talk.HOST, "localhost"])
            command = [sys.executable, "-m", "tests.bench.speed.upstream", str(self.authority.server_path)]
            self.upstream = stack.enter_context(Process(command, self.folder / "upstream.log", piped=True))
            self.upstream_port = int(self.upstream.read_line())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # ── the contenders ──

    def direct(self) -> Contender:
        """Nobody in between."""
        return Contender("direct", "direct", self.upstream_port, self.authority.ca_path, self.new_folder())

    def mitmdump(self, name: str = "mitmdump -q", *options: str, stream: str = "") -> Contender:
        """Bare mitmdump, which shows nothing; with `stream` it streams, through a "callable" or "plainly"."""
        folder, port = self.new_folder(), free_port()
        command = [*self.mitmdump_command(folder, port), *options]
        if stream:
            command += ["-s", str(PASSTHROUGH)]
        return self._proxy(name, command, folder, folder / "ca", port, {"BENCH_STREAM": stream})

    def mitmdump_command(self, folder: Path, port: int) -> list[str]:
        """Give the command of bare mitmdump."""
        program = Path(sys.executable).with_name("mitmdump")
        at = ["--listen-host", "127.0.0.1", "-p", str(port)]
        return [str(program), "-q", *at, "--set", f"confdir={folder / 'ca'}"]

    def lean(self) -> Contender:
        """Just mitmproxy, with the addons that `llmcap proxy` has, and nothing of LLMCap: what can't be gone below."""
        folder, port = self.new_folder(), free_port()
        command = [sys.executable, "-m", "tests.bench.speed.lean", str(port), str(folder / "ca")]
        return self._proxy("lean mitmproxy", command, folder, folder / "ca", port)

    def addon(self, caps: str = FULL_CAPS) -> Contender:
        """LLMCap as an addon of mitmdump, with a ledger in SQLite."""
        folder, port = self.new_folder(), free_port()
        command = [*self.mitmdump_command(folder, port), "-s", str(ADDON)]
        settings = {"llmcap_config": _caps(folder, caps), "llmcap_store": _ledger(folder), "llmcap_view": "off"}
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        return self._proxy("mitmdump -s addon.py", command, folder, folder / "ca", port)

    def llmcap(self, caps: str = FULL_CAPS, *options: str) -> Contender:
        """`llmcap proxy` with a ledger in SQLite, its view off."""
        folder, port = self.new_folder(), free_port()
        command = [sys.executable, "-m", "llmcap_addon", "proxy", "--listen", f"127.0.0.1:{port}", "--view", "off"]
        command += [
            "--config",
            _caps(folder, caps),
            "--store",
            _ledger(folder),
            "--ca-dir",
            str(folder / "ca"),
            *options,
        ]
        return self._proxy("llmcap proxy", command, folder, folder / "ca", port)

    def litellm(self) -> Contender:
        """LiteLLM's proxy with a budget, one worker; raises RuntimeError when it can't be installed or started."""
        program = _install("litellm", "litellm[proxy]")
        folder, port = self.new_folder(), free_port()
        config = folder / "config.yaml"
        config.write_text(
            LITELLM_CONFIG.format(model=talk.MODEL, port=self.upstream_port, key=talk.KEY, master_key=LITELLM_KEY),
            encoding="utf-8",
        )
        command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        environment = {
            "HOME": str(folder),
            "SSL_CERT_FILE": str(self.authority.ca_path),
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it fetches one
            "LITELLM_LOG": "ERROR",
            "PYTHONPATH": "",
            "PYTHONWARNINGS": "ignore",
        }
        process = self._stack.enter_context(
            Process([*command, "--num_workers", "1"], folder / "log", environment=environment)
        )
        wait_port(process, port, START_S)
        return Contender("litellm", "plain", port, self.authority.ca_path, folder, process, LITELLM_KEY)

    # ── inside ──

    def environment(self, folder: Path) -> dict[str, str]:
        """Give what leads a proxy to the upstream, and keeps its files in a folder."""
        return {
            "HOME": str(folder / "home"),
            "XDG_STATE_HOME": str(folder / "home" / "state"),
            "XDG_CONFIG_HOME": str(folder / "home" / "config"),
            "PYTHONPATH": os.pathsep.join([str(HERE / "site"), str(ROOT)]),
            ROUTES_VARIABLE: json.dumps({talk.HOST: self.upstream_port}),
            CA_VARIABLE: str(self.authority.ca_path),
        }

    def _proxy(
        self, name: str, command: list[str], folder: Path, ca: Path, port: int, more: dict[str, str] | None = None
    ) -> Contender:
        environment = self.environment(folder) | (more or {})
        process = self._stack.enter_context(Process(command, folder / "log", environment=environment))
        wait_port(process, port, START_S)
        return Contender(name, "connect", port, ca / "mitmproxy-ca-cert.pem", folder, process)

    def new_folder(self) -> Path:
        """Make a folder of its own."""
        self._names += 1
        folder = self.folder / str(self._names)
        (folder / "home").mkdir(parents=True)
        return folder


def _caps(folder: Path, caps: str) -> str:
    path = folder / "caps.yaml"
    path.write_text(caps, encoding="utf-8")
    return str(path)


def _ledger(folder: Path) -> str:
    return f"sqlite://{folder / 'ledger.sqlite'}"


def _install(name: str, requirement: str) -> Path:
    """Install the latest version of a peer, once; gives its program."""
    folder = PEERS / name
    program = folder / "bin" / name
    if program.exists():
        return program
    print(f"installing {requirement} into {folder} (once; takes some minutes)", file=sys.stderr)
    try:
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement],
        ):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_S)
    except (OSError, subprocess.SubprocessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        told = (getattr(error, "stderr", "") or str(error)).strip().splitlines() or [str(error)]
        raise RuntimeError(f"{requirement} can't be installed: {told[-1]}") from error
    return program
