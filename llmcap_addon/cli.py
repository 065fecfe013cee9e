"""The command line: `llmcap run | proxy | report | prices | check | path | demo`.

Commands import what they need when they are called, so that `llmcap run` starts its child quickly.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Never, cast

import click

from llmcap_addon import __version__
from llmcap_addon.errors import ConfigError, LLMCapError
from llmcap_addon.money import format_usd

if TYPE_CHECKING:
    from llmcap_addon.config import Config
    from llmcap_addon.report import GroupBy, Report

EXIT_FAILED = 2
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: something is wrong in caps.yaml."""

MAX_WORKERS = 64
"""More processes than that gain nothing from one ledger, and a mistyped number must not start thousands."""

_SPANS_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}

_config_option = click.option(
    "--config", metavar="PATH", help="caps.yaml to use (else ./caps.yaml, then the user's, then $5 per day)."
)
_store_option = click.option("--store", metavar="URL", help="Ledger: sqlite, sqlite:///absolute/path or redis://….")
_ca_dir_option = click.option(
    "--ca-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the proxy's certificate authority (else the user's state folder).",
)


def main() -> None:
    """Run the command line; a failure that can be explained ends in its message, never in a traceback."""
    try:
        cli(prog_name="llmcap")
    except LLMCapError as error:
        _fail(error)
    except BrokenPipeError:  # `llmcap report | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


class _Commands(click.Group):
    """All commands; `prices` stands in a module of its own, which is loaded when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all commands."""
        return sorted([*super().list_commands(ctx), "prices"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Give a command by its name."""
        if cmd_name == "prices":
            from llmcap_addon.cli_prices import prices

            return prices
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="llmcap")
def cli() -> None:
    """LLMCap: a fuse for LLM spend. Caps, in dollars, for tools that can't be modified."""


@cli.command(context_settings={"ignore_unknown_options": True})
@click.option("--cap", "cap_usd", metavar="USD", help="Cap this run at so many dollars; caps.yaml is not read.")
@_config_option
@_store_option
@_ca_dir_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    cap_usd: str | None, config: str | None, store: str | None, ca_dir: Path | None, command: tuple[str, ...]
) -> None:
    """Run COMMAND behind a proxy of its own, capped.

    llmcap run --cap 2 -- COMMAND ARGS…

    Its output, its signals and its exit code stay its own; one line on standard error tells at the end what it cost.
    """
    from llmcap_addon import cli_run

    if cap_usd is not None and config is not None:
        raise click.UsageError("--cap takes the place of caps.yaml: give --cap or --config, not both")
    program, code = cli_run.find_program(command[0], os.environ)
    if program is None:
        _say(f"{command[0]}: {'not executable' if code == cli_run.NOT_EXECUTABLE else 'command not found'}")
        sys.exit(code)
    if cap_usd is None:
        _config(config)  # a mistake in it ends here, before anything is started
    sys.exit(cli_run.run_capped(program, command, cap_usd, config, store, ca_dir))


@cli.command()
@click.option("--listen", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", help="Where to listen.")
@_config_option
@_store_option
@click.option(
    "--view",
    type=click.Choice(["auto", "off"]),
    default="auto",
    show_default=True,
    help="The live console, or one line a call without a terminal; or nothing.",
)
@_ca_dir_option
@click.option(
    "--workers",
    default="1",
    show_default=True,
    metavar="N|auto",
    callback=lambda _context, _option, value: _workers(value),
    help="Processes that share the port and the ledger; auto: one for each core.",
)
@click.option("--worker", is_flag=True, hidden=True)
def proxy(
    listen: str,
    config: str | None,
    store: str | None,
    view: str,
    ca_dir: Path | None,
    workers: int,
    worker: bool,
) -> None:
    """Run the capped proxy until it is stopped."""
    from llmcap_addon import cli_run

    ca_dir = ca_dir or cli_run.ca_folder()
    if worker:
        from llmcap_addon.proxy.seat import read_seat
        from llmcap_addon.proxy.worker import serve_seat

        sys.exit(serve_seat(read_seat(), ca_dir, config))
    host, port = _address(listen)
    _config(config)  # a mistake in it ends here, before anything is started

    def ready(at_host: str, at_port: int, ca_file: Path) -> None:
        bundle = cli_run.write_bundle(ca_file, ca_file.parent, os.environ)
        shown = f"[{at_host}]" if ":" in at_host else at_host
        _say(f"listening on {shown}:{at_port}. To lead a tool through it:")
        click.echo(
            f"  export HTTPS_PROXY=http://{shown}:{at_port} SSL_CERT_FILE={bundle} NODE_EXTRA_CA_CERTS={ca_file}",
            err=True,
        )

    if workers > 1:
        from llmcap_addon.proxy.supervisor import Wanted, serve_workers
        from llmcap_addon.report import summary_line

        summary = serve_workers(
            Wanted(
                count=workers,
                ca_dir=ca_dir,
                command=(sys.executable, *sys.orig_argv[1:], "--worker"),
                listen_host=host,
                listen_port=port,
                config=config,
                store=store,
                view="off" if view == "off" else "auto",
                ready=ready,
            )
        )
        click.echo(summary_line(summary.spent, summary.counts, summary.balances), err=True)
        return
    from llmcap_addon.proxy.master import ProxyOptions, serve

    options = ProxyOptions(
        listen_host=host,
        listen_port=port,
        config=config,
        store=store,
        view="off" if view == "off" else "auto",
        ca_dir=ca_dir,
        ready=ready,
    )
    sys.exit(serve(options))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document; README documents its keys as stable.")
@click.option(
    "--since", metavar="TIME", help="Only calls begun since then: 2026-11-01, 2026-11-01T09:30, 7d, 24h, 30m."
)
@click.option(
    "--by", type=click.Choice(["model", "client", "host", "cap", "billing"]), help="Also tell them apart by this."
)
@_config_option
@_store_option
def report(as_json: bool, since: str | None, by: str | None, config: str | None, store: str | None) -> None:
    """Tell what was spent, also while a proxy runs."""
    from llmcap_addon.report import report_json

    in_force = _config(config)
    now_ms = _now_ms()
    since_ms = None if since is None else _since(since, now_ms)
    result = asyncio.run(_read(in_force, store, since_ms, cast("GroupBy | None", by)))
    if as_json:
        click.echo(json.dumps(report_json(result), indent=2, ensure_ascii=False))
        return
    from rich.console import Console

    from llmcap_addon.budget.windows import zone
    from llmcap_addon.view.pick import glyphs
    from llmcap_addon.view.report import render_report

    out = Console()
    shown = render_report(result, now_ms, out.width, zone(in_force.timezone), glyphs(sys.stdout, os.environ))
    out.print(shown, soft_wrap=True)


@cli.command()
@_config_option
def check(config: str | None) -> None:
    """Check caps.yaml and tell what is in force."""
    in_force = _config(config)
    click.echo(f"{in_force.source or 'no caps.yaml, the built-in cap'}: all right. In force:")
    for cap in in_force.caps:
        match = " and ".join(f"{label} {glob}" for label, glob in cap.match) or "every call"
        click.echo(f"  {cap.name}: {format_usd(cap.limit)} per {cap.per}, for {match}")
    if not in_force.caps:
        click.echo("  no caps: calls are counted and never refused for their cost")
    for host, its in in_force.hosts.items():
        click.echo(f"  host {host}: speaks {its.api}")
    for host, models in in_force.prices.items():
        click.echo(f"  prices for {host}: {', '.join(models)}")
    click.echo(f"  store: {in_force.store}, timezone: {in_force.timezone}, wait: {in_force.wait_ms / 1000:g} s")
    click.echo(
        f"  unmetered: {in_force.unmetered}, unknown_price: {in_force.unknown_price}, "
        f"shorten: {in_force.shorten}, on_error: {in_force.on_error}"
    )


@cli.command()
def path() -> None:
    """Print the path of the addon, for mitmdump -s "$(llmcap path)"."""
    click.echo(Path(__file__).with_name("addon.py"))


@cli.command()
@click.option("--fast", is_flag=True, help="Ten times as fast.")
@click.option("--view", type=click.Choice(["auto", "off"]), default="auto", show_default=True, help="As for proxy.")
def demo(fast: bool, view: str) -> None:
    """Show the whole thing, with stand-in providers: no key, no network, about 20 seconds."""
    from llmcap_addon.demo.script import run_demo

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that its folder is removed
    sys.exit(run_demo(view="off" if view == "off" else "auto", fast=fast))


async def _read(config: Config, store_url: str | None, since_ms: int | None, by: GroupBy | None) -> Report:
    from llmcap_addon.budget.budget import Budget
    from llmcap_addon.budget.stores import open_store, state_file
    from llmcap_addon.report import read_report
    from llmcap_addon.unclaimed import file_beside, read_unclaimed

    url = store_url or config.store
    ledger = open_store(url, _now_ms)
    try:
        read = await read_report(Budget(config.caps, ledger, _now_ms, config.timezone, run_id=""), since_ms, by)
    finally:
        await ledger.close()
    try:
        return replace(read, unclaimed=read_unclaimed(file_beside(state_file(url)), since_ms or 0))
    except OSError as error:
        raise LLMCapError(f"the list of unmetered paths can't be read: {error}") from error


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _config(path: str | None) -> Config:
    from llmcap_addon import config

    found = config.find(path, Path.cwd())
    return config.load(found) if found is not None else config.builtin()


def _address(text: str) -> tuple[str, int]:
    """Read HOST:PORT, [IPV6]:PORT or PORT; raises BadParameter."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise click.BadParameter(f"{text!r} is not HOST:PORT with a port from 0 to 65535", param_hint="--listen")
    return host, int(port)


def _workers(text: str) -> int:
    """Read a number of processes; raises BadParameter."""
    if text == "auto":
        # What this process may use; a container's or taskset's share of the machine.
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else (os.cpu_count() or 1)
        return min(MAX_WORKERS, cores)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_WORKERS:
        raise click.BadParameter(f"{text!r} is neither auto nor a number from 1 to {MAX_WORKERS}")
    return int(text)


def _since(text: str, now_ms: int) -> int:
    """Read a span before now (7d, 24h, 30m, 2w) or an ISO 8601 date or time, local unless it says otherwise."""
    if span := re.fullmatch(r"(\d{1,6})([mhdw])", text):
        return now_ms - int(span[1]) * _SPANS_MS[span[2]]
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(
            f"{text!r} is neither a date (2026-11-01, 2026-11-01T09:30) nor a span (30m, 24h, 7d, 2w)",
            param_hint="--since",
        ) from error


def _say(message: str) -> None:
    click.echo(f"llmcap: {message}", err=True)


def _fail(error: LLMCapError) -> Never:
    _say(str(error).removeprefix("llmcap: "))
    sys.exit(EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED)
