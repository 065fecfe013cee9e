"""`llmcap prices`: what a model costs and where that is known from; `prices update` fetches a newer table."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llmcap_addon import config as configs
from llmcap_addon.call import Call, Content
from llmcap_addon.errors import PriceError
from llmcap_addon.pricing import table_file
from llmcap_addon.pricing.listing import Listed, anywhere, at_host, is_glob, near, providers
from llmcap_addon.pricing.lookup import Lookup
from llmcap_addon.pricing.newer import InForce, choose, fetched_path, previous_of
from llmcap_addon.wire.hosts import Place, known_hosts, normal_host, place_of

if TYPE_CHECKING:
    from rich.text import Text

    from llmcap_addon.config import Config
    from llmcap_addon.pricing.refresh.check import Move
    from llmcap_addon.view.prices import Source

MAX_MOVES = 30
"""Changes that are told one by one; the rest as a number."""


class ShowByDefault(click.Group):
    """A group whose first word may be a model's name: what is no command is an argument of `show`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `show` before what begins with no command's name."""
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=ShowByDefault,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="[MODEL] [--host HOST] [--config PATH] | update [OPTIONS]",
)
def prices() -> None:
    r"""Show what a model costs, and where that is known from.

    \b
    llmcap prices                        providers that have prices, and the table's date
    llmcap prices gpt-5                  its card at each provider
    llmcap prices 'claude-*' --host H    what applies at a host, with your own prices
    llmcap prices update                 fetch a newer table; --undo takes it back
    """


@prices.command(short_help="The card of MODEL, a name or a glob; without it, the providers.")
@click.argument("model", required=False)
@click.option("--host", metavar="HOST", help="What applies at this host, your own prices under `prices:` included.")
@click.option("--config", metavar="PATH", help="caps.yaml to use (else ./caps.yaml, then the user's).")
def show(model: str | None, host: str | None, config: str | None) -> None:
    """Show the card of MODEL, a name or a glob; without it, the providers that have prices."""
    from rich.console import Console

    from llmcap_addon.view.pick import glyphs
    from llmcap_addon.view.prices import render_cards, render_overview

    in_force = choose()
    if in_force.warning:
        click.echo(f"llmcap: {in_force.warning}", err=True)
    settings = _config(config)
    out = Console(highlight=False)
    signs = glyphs(sys.stdout, os.environ)
    today = _today()
    if model is None and host is None:
        own = {name: len(models) for name, models in settings.prices.items()}
        drawn: Text = render_overview(_source(in_force), providers(in_force.table), own, out.width, signs)
    else:
        listed = _listed(in_force, settings, model or "*", host, today)
        drawn = render_cards(listed, _source(in_force), today, out.width, signs)
    out.print(drawn, soft_wrap=True)


@prices.command()
@click.option("--from", "places", multiple=True, metavar="URL|FILE",
              help="Read a source from there; may be given for both.")  # fmt: skip
@click.option("--force", is_flag=True, help="Accept prices that rise or fall tenfold, and a source that has shrunk.")
@click.option("--dry-run", is_flag=True, help="Only tell what would change.")
@click.option("--undo", is_flag=True, help="Put back the table from before the last update.")
def update(places: Sequence[str], force: bool, dry_run: bool, undo: bool) -> None:
    """Fetch newer prices from genai-prices and litellm, check them, and use them from the next start on.

    Only their public JSON is read, over https; none of their code is run. The table in use before is kept.
    """
    from llmcap_addon.pricing.refresh import install

    path = fetched_path()
    if undo:
        if places or force or dry_run:
            raise click.UsageError("--undo goes with no other option")
        _undo(path)
        return
    from llmcap_addon.pricing.refresh.build import build_table
    from llmcap_addon.pricing.refresh.check import moves, problems, shrunk
    from llmcap_addon.pricing.refresh.fetch import fetch_sources

    today = _today()
    in_force = choose()
    made = str(in_force.table.header["made"])
    if today.isoformat() < made:
        raise PriceError(f"the prices in use are of {made}, but this machine's clock says {today}: set it right first")
    before = table_file.decode(in_force.path.read_bytes())
    sources, fetched = fetch_sources(places)
    for one in fetched:
        click.echo(f"{one.kind}: {one.size:,} bytes from {one.place}")
    table, _ = build_table(sources, before, today)
    if found := problems(table):
        raise PriceError("what was fetched makes no price table:\n  " + "\n  ".join(found))
    changed = moves(before, table, today)
    _tell(before, table, changed)
    if (fewer := shrunk(before, table)) and not force:
        raise PriceError(f"{'; '.join(fewer)}; nothing was changed. If that is right, add --force")
    wild = [move for move in changed if move.out_of_proportion]
    if wild and not force:
        raise PriceError(
            f"{len(wild)} {_plural(wild, 'price')} of known models would rise or fall tenfold or more; nothing was "
            f"changed. If that is right, add --force:\n" + "\n".join(_line(move) for move in wild[:MAX_MOVES])
        )
    if dry_run:
        click.echo("nothing was written: --dry-run")
        return
    install.install(table_file.encode(table), path)
    click.echo(f"written: {path}; proxies use it from their next start, `llmcap prices update --undo` takes it back")


def _undo(path: Path) -> None:
    from llmcap_addon.pricing.refresh import install

    had_previous = previous_of(path).exists()
    if not install.undo(path):
        raise PriceError(f"there is nothing to undo: {path} is not there, the shipped prices are in use")
    made = choose().table.header["made"]
    what = "the table from before" if had_previous else "the shipped table"
    click.echo(f"{what} is back: prices of {made}")


def _tell(before: Mapping[str, object], after: Mapping[str, object], changed: Sequence[Move]) -> None:
    from llmcap_addon.pricing.refresh.check import counts

    old, new = counts(before), counts(after)
    fresh = sum(new.values()) - sum(old.values())
    click.echo(f"{sum(new.values()):,} names at {len(new)} providers, {fresh:,} of them new")
    click.echo(f"{len(changed):,} {_plural(changed, 'price')} changed{':' if changed else ''}")
    for move in changed[:MAX_MOVES]:
        click.echo(_line(move))
    if len(changed) > MAX_MOVES:
        click.echo(f"  … and {len(changed) - MAX_MOVES:,} more")


def _line(move: Move) -> str:
    return f"  {move.provider} {move.model}: {move.price} {move.before} -> {move.after}"


def _plural(many: Sequence[object], word: str) -> str:
    return word if len(many) == 1 else f"{word}s"


# -- Finding


def _listed(in_force: InForce, settings: Config, model: str, host: str | None, today: date) -> list[Listed]:
    places = {
        name: Place(own.api, own.provider, custom=True, models=own.deployments) for name, own in settings.hosts.items()
    }
    lookup = Lookup(in_force.table, settings.prices)
    if host is not None:
        name = normal_host(host)
        place = place_of(name, places)
        if place is None and name not in settings.prices:
            raise PriceError(_unknown_host(name, places))
        provider = place.provider if place else ""
        deployed = place.models.get(model.lower(), model) if place else model
        found = _own_and_listed(lookup, settings, provider, name, deployed, today)
        if not found:
            raise PriceError(_unknown_model(in_force, settings, model, name, provider))
        return found
    own: list[Listed] = []
    for name in settings.prices:
        place = place_of(name, places)
        found = _own_and_listed(lookup, settings, place.provider if place else "", name, model, today)
        own += [one for one in found if one.origin == "own"]
    found = own + anywhere(in_force.table, model, today)
    if not found:
        raise PriceError(_unknown_model(in_force, settings, model, "", ""))
    return found


def _own_and_listed(
    lookup: Lookup, settings: Config, provider: str, host: str, model: str, today: date
) -> list[Listed]:
    """Give what applies at a host; a glob also fits names that only caps.yaml has."""
    found = at_host(lookup, provider, host, model, today)
    told = {one.model for one in found}
    names = settings.prices.get(host, {}) if is_glob(model) else ()
    fitting = [name for name in names if not is_glob(name) and fnmatchcase(name.lower(), model.lower())]
    return [
        *(one for name in fitting if name not in told for one in at_host(lookup, provider, host, name, today)),
        *found,
    ]


def _unknown_host(host: str, places: Mapping[str, Place]) -> str:
    return (
        f"{host} is no LLM host known here; known are {', '.join(sorted(known_hosts(places)))}. "
        f"A host of your own is named in caps.yaml:\nhosts:\n  {host}: {{api: openai}}"
    )


def _unknown_model(in_force: InForce, settings: Config, model: str, host: str, provider: str) -> str:
    table = in_force.table
    known = table.provider(provider) if provider else None
    where = f"at {host}" if host else "at any provider"
    if is_glob(model):
        return f"no name fits {model!r} {where} in the prices of {table.header['made']}"
    lines = [f"no price is known for the model {model!r} {where} (prices of {table.header['made']})."]
    if alike := near(table, model, known or ""):
        lines += ["Names like it:", *(f"  {name}" for name in alike)]
    if host:
        lines.append(f"Until it has one, {_until_then(in_force, settings, model, host, provider)}")
    lines += [
        "Its price belongs into caps.yaml, in dollars per million tokens:",
        "prices:",
        f"  {host or 'api.example.com'}:",
        f'    "{model}": {{input: 0.00, cached_input: 0.00, output: 0.00}}',
    ]
    return "\n".join(lines)


def _until_then(in_force: InForce, settings: Config, model: str, host: str, provider: str) -> str:
    if settings.unknown_price == "refuse":
        return "such calls are refused (unknown_price: refuse)."
    call = Call("openai.chat", provider, host, model, streamed=False, content=Content())
    day = _today()
    dearest = Lookup(in_force.table, settings.prices).assume(call, day).entry
    if dearest is None:
        return "such calls are priced as the dearest model there is, and marked assumed."
    row = dearest.card(day).levels[0][1]["standard"]
    costs = " and ".join(f"${row[field]} {field}" for field in ("input", "output") if field in row)
    return (
        f"such calls are priced as {dearest.provider}'s dearest, {dearest.name} ({costs} a million tokens), and marked "
        "assumed."
    )


def _source(in_force: InForce) -> Source:
    from llmcap_addon.view.prices import Source

    header = in_force.table.header
    sources = [f"{source['name']} {source['version']}" for source in header["sources"]]
    return Source(str(header["made"]), sources, str(in_force.path), in_force.path == fetched_path())


def _config(path: str | None) -> Config:
    found = configs.find(path, Path.cwd())
    return configs.builtin() if found is None else configs.load(found)


def _today() -> date:
    return datetime.fromtimestamp(time.time(), UTC).date()
