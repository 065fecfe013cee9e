"""The figure of the start: from spawning `llmcap run` to the first byte that its tool gets through the proxy."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.bench.speed import talk
from tests.bench.speed.contenders import FULL_CAPS, HERE, START_S, Stand
from tests.bench.speed.figures import Figure
from tests.bench.speed.processes import Process, free_port, wait_port


def measure(rounds: int) -> list[Figure]:
    """Start each in turn, with an authority that was made before."""
    with Stand() as stand:
        folder = stand.new_folder()
        (folder / "request").write_bytes(talk.request())
        (folder / "caps.yaml").write_text(FULL_CAPS, encoding="utf-8")
        tool = [sys.executable, "-I", "-S", str(HERE / "first_byte.py"), talk.HOST, str(folder / "request")]
        bare, ours = [], []
        for number in range(-1, rounds):
            bare_s, ours_s = _start_mitmdump(stand, folder, tool), _start_llmcap(stand, folder, tool)
            if number >= 0:  # the first start makes the authority, and fills the disk's cache
                bare.append(bare_s)
                ours.append(ours_s)
    ratios = tuple(one / other for one, other in zip(ours, bare, strict=True))
    return [
        Figure("llmcap run ÷ mitmdump -q, start to the first proxied byte", ratios, 1.5),
        Figure("  llmcap run, start to the first proxied byte", tuple(ours), unit="s"),
        Figure("  mitmdump -q, start to the first proxied byte", tuple(bare), unit="s"),
    ]


def _start_llmcap(stand: Stand, folder: Path, tool: list[str]) -> float:
    options = ["--config", str(folder / "caps.yaml"), "--store", f"sqlite://{folder / 'ledger.sqlite'}"]
    command = [
        sys.executable,
        "-m",
        "llmcap_addon",
        "run",
        *options,
        "--ca-dir",
        str(folder / "ca-llmcap"),
        "--",
        *tool,
    ]
    begun_ns = time.monotonic_ns()
    with Process(command, folder / "llmcap.log", environment=stand.environment(folder), piped=True) as process:
        seconds = (int(process.read_line()) - begun_ns) / 1e9
        process.wait(START_S)
        return seconds


def _start_mitmdump(stand: Stand, folder: Path, tool: list[str]) -> float:
    """As someone's script does it: start the proxy, wait for its port, start the tool."""
    port = free_port()
    environment = {
        "HTTPS_PROXY": f"http://127.0.0.1:{port}",
        "SSL_CERT_FILE": str(folder / "ca" / "mitmproxy-ca-cert.pem"),
    }
    begun_ns = time.monotonic_ns()
    command = stand.mitmdump_command(folder, port)
    with Process(command, folder / "mitmdump.log", environment=stand.environment(folder)) as proxy:
        wait_port(proxy, port, START_S)
        with Process(tool, folder / "tool.log", environment=environment, piped=True) as process:
            return (int(process.read_line()) - begun_ns) / 1e9
