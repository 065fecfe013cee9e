"""The benchmarks' command line."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tests.bench import bounds, crash, ledger, overshoot
from tests.bench.load import MAX_TOKENS
from tests.bench.speed import run as speed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Measure the promise on the wire, on loopback.")
    commands = parser.add_subparsers(dest="command", required=True)
    over = commands.add_parser(
        "overshoot",
        help="how far over a cap, and how much of it is usable",
        description="Many paced streams of several models on one cap that runs out, through several proxies; beside "
        "it the same load under two other policies. Exit code 1 when the bill or the ledger passes the limit.",
    )
    over.add_argument("--streams", type=int, default=128, help="at once (default: 128)")
    over.add_argument("--proxies", type=int, default=3, help="processes on one ledger (default: 3)")
    over.add_argument("--store", choices=["sqlite", "redis"], default="sqlite", help="the ledger (default: sqlite)")
    over.add_argument("--seconds", type=float, default=100, help="the longest the load runs (default: 100)")
    over.add_argument("--limit", type=float, default=2.0, metavar="USD", help="the cap (default: 2)")
    over.add_argument("--wait", type=float, default=20, metavar="S", help="`wait:` of caps.yaml (default: 20)")
    over.add_argument("--max-tokens", type=int, default=MAX_TOKENS, help=f"what a call states (default: {MAX_TOKENS})")
    broken = commands.add_parser(
        "crash",
        help="kill -9 under load, and compare the ledger with the bill",
        description="Kills the proxy at random moments and starts it again. Exit code 1 when the ledger is below the "
        "bill, a cap is exceeded, or money stays reserved for a dead process.",
    )
    broken.add_argument("--kills", type=int, default=50, help="how many (default: 50)")
    grown = commands.add_parser(
        "ledger",
        help="how long a reservation takes as the ledger grows",
        description="Times reservations, settlements and extensions in ledgers of so many rows, in the writing thread "
        "and as the event loop sees them.",
    )
    grown.add_argument(
        "--rows",
        type=lambda text: [int(size) for size in text.split(",")],
        default=[1_000, 10_000, 100_000, 1_000_000],
        metavar="N,N,…",
        help="sizes of the ledgers (default: 1000,10000,100000,1000000)",
    )
    grown.add_argument("--caps", type=int, default=100, help="how many (default: 100)")
    grown.add_argument("--store", choices=["sqlite"], default="sqlite", help="the ledger (default: sqlite)")
    grown.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    above = commands.add_parser(
        "bounds",
        help="how far above its cost a call's reservation is",
        description="Compares what is reserved for the requests of the corpus with what they cost.",
    )
    above.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    every = commands.add_parser(
        "speed",
        help="what LLMCap takes, side by side with bare mitmproxy and others: all of the following",
        description="Measures all figures of speed, in rounds that take turns, and prints one table. It takes minutes.",
    )
    every.add_argument("--short", action="store_true", help="only ratios, in seconds; fails on gross regressions")
    alone = [commands.add_parser(name, help=words, description=words) for name, (words, _) in speed.KINDS.items()]
    for command in (every, *alone):
        command.add_argument("--rounds", type=int, default=speed.ROUNDS, help=f"(default: {speed.ROUNDS})")
        command.add_argument("--markdown", action="store_true", help="print the table as README has it")
        command.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    for command in (over, broken):
        command.add_argument("--seed", type=int, default=1, help="of the load and the moments (default: 1)")
        command.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


def main() -> int:
    """Run one benchmark; gives the exit code."""
    options = _parser().parse_args(sys.argv[1:] or ["speed"])
    figures: dict[str, Any]
    if options.command == "ledger":
        ledgers = ledger.run(options.rows, options.caps)
        figures, text, held = ledger.as_json(ledgers), ledger.tell(ledgers), True
    elif options.command == "speed" or options.command in speed.KINDS:
        names = list(speed.KINDS) if options.command == "speed" else [options.command]
        is_short = options.command == "speed" and options.short
        figures, text, held = speed.run(names, options.rounds, is_short=is_short, is_markdown=options.markdown)
    elif options.command == "bounds":
        figures, held = bounds.measure(), True
        text = bounds.tell(figures)
    elif options.command == "crash":
        result = crash.crash(options.kills, options.seed)
        figures, text, held = crash.as_json(result), crash.tell(result, options.seed), not result.violations
    else:
        figures = overshoot.measure(
            overshoot.Options(
                streams=options.streams,
                proxies=options.proxies,
                store=options.store,
                seconds=options.seconds,
                limit=round(options.limit * 1e9),
                seed=options.seed,
                wait_s=options.wait,
                max_tokens=options.max_tokens,
            )
        )
        text, held = overshoot.tell(figures), overshoot.is_held(figures)
    print(text)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
