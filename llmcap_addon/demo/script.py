"""The demo's script: providers, proxy, clients, the cap that trips, and the bill."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Literal

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from llmcap_addon import config as configs
from llmcap_addon.budget.budget import Budget
from llmcap_addon.budget.stores import open_store
from llmcap_addon.demo.clients import Client, Network, Role, cast
from llmcap_addon.demo.providers import Providers
from llmcap_addon.proxy.master import ProxyOptions, RunningProxy
from llmcap_addon.report import Report, read_report
from llmcap_addon.view.report import render_report

CAPS = """\
caps:
  - {name: daily, limit: 5, per: day}
  - {name: fuse, limit: 0.50, per: run}
  - {name: opus, limit: 0.06, per: run, match: {model: "claude-opus-*"}}
wait: 2s
"""

PACE_S = 0.03
"""Between two events of an answer, as a large model has."""
FAST = 0.1
"""Times are multiplied by it for `fast`: answers still come at a speed that a provider can have."""
FIRST_LOOK_S = 2.5
"""How long the caps stay on the screen before the console takes it."""
LAST_LOOK_S = 3.0
"""How long the console stays after the last culprit was stopped, so that the end can be read."""
LONGEST_S = 40.0
"""The show takes about 20 s; if the caps have not tripped by then, something is wrong and it ends all the same."""

LAST_CALL_S = 5.0
"""How long a client may take to end the call it is in; the demo's answers take up to 5 s."""

RUN_ID = "demo"


def run_demo(view: Literal["auto", "off"], *, fast: bool, console: Console | None = None) -> int:
    """Show the whole thing, offline; gives the exit code, 0 when the caps tripped and none was exceeded.

    Everything it writes goes to a temporary folder that is removed. `fast` takes two seconds instead of twenty.
    """
    out = console or Console()
    out.print("LLMCap demo: stand-in providers on this machine, no key, no network. caps.yaml holds:\n")
    out.print(Text(CAPS), style="dim")
    speed = FAST if fast else 1.0
    time.sleep(FIRST_LOOK_S * speed)
    roles = cast()
    with tempfile.TemporaryDirectory(prefix="llmcap-demo-") as name:
        folder = Path(name)
        (folder / "caps.yaml").write_text(CAPS)
        store = f"sqlite://{folder}/ledger.sqlite"
        with Providers(folder / "providers", PACE_S * speed) as providers:
            options = ProxyOptions(
                listen_port=0,
                config=str(folder / "caps.yaml"),
                store=store,
                view=view,
                ca_dir=folder / "ca",
                run_id=RUN_ID,
                extra_addons=(providers.route(),),
                trusted_upstream_ca=providers.ca_file,
            )
            with RunningProxy(options) as proxy:
                _play(roles, Network(proxy.address, proxy.ca_file), speed)
        report = asyncio.run(_read(configs.load(folder / "caps.yaml"), store))
    _tell(out, [role.client for role in roles], report)
    exceeded = any(balance.posted > balance.charge.limit for balance in report.balances)
    return 0 if report.totals.cut and report.totals.refused and not exceeded else 1


def _play(roles: Sequence[Role], network: Network, speed: float) -> None:
    """Let the clients run until each culprit was stopped by a cap, but not for ever."""
    stop = Event()
    threads = [
        (role, Thread(target=role.play, args=(network, speed, stop), name=role.client.name, daemon=True))
        for role in roles
    ]
    deadline_s = time.monotonic() + LONGEST_S
    for _, thread in threads:
        thread.start()
    for role, thread in threads:
        if role.is_culprit:
            thread.join(max(0.0, deadline_s - time.monotonic()))
    time.sleep(LAST_LOOK_S * speed)
    stop.set()
    for _, thread in threads:
        thread.join(LAST_CALL_S)


async def _read(config: configs.Config, store_url: str) -> Report:
    def now_ms() -> int:
        return time.time_ns() // 1_000_000

    store = open_store(store_url, now_ms)
    try:
        return await read_report(Budget(config.caps, store, now_ms, config.timezone, RUN_ID), by="client")
    finally:
        await store.close()


def _tell(out: Console, clients: Sequence[Client], report: Report) -> None:
    out.print("\nWhat the clients were told:", style="bold")
    for client in clients:
        out.print(Text(f"  {client.name}, at its call {client.calls}:"))
        out.print(
            Padding(Text(client.told or "all went well", "red" if client.told else "green"), (0, 0, 0, 4), expand=False)
        )
    out.print("\nThe bill (llmcap report --by client):", style="bold")
    out.print(render_report(report, time.time_ns() // 1_000_000, out.width), soft_wrap=True)
    out.print("\nYour own tools, capped the same way: llmcap run --cap 2 -- COMMAND")
