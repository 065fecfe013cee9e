"""The simulator's command line."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time

from tests.simulation.check import Tally
from tests.simulation.episode import make_prices, play
from tests.simulation.plan import Plan, draw
from tests.simulation.shrink import shrink

_DESCRIPTION = """Play random episodes of calls, faults and clocks over the real gate, budget and prices, in virtual
time, and check after every step that no cap is exceeded and nothing is lost. A step is one turn of a coroutine or one
timed event (a chunk, a store's answer, a crash)."""


def tell(plan: Plan, error: Exception) -> str:
    """A failure for people: the seed, what failed, and what it takes."""
    lines = [f"seed {plan.seed}: {type(error).__name__}: {error}", "the shortest plan that still fails so:"]
    lines += [f"  {plan.processes} processes, {plan.timezone}, starts_ms={plan.starts_ms}", f"  {plan.policy}"]
    lines += [f"  {cap}" for cap in plan.caps]
    lines += [f"  {item}" for item in plan.items]
    return "\n".join(lines)


def run(seed: int, steps: int, *, keep_going: bool) -> tuple[int, int, Tally, list[str]]:
    """Play episodes from a seed on until so many steps are done; gives steps, the next seed, counts, failures."""
    prices, tally, failures, done = make_prices(), Tally(), [], 0
    while done < steps:
        plan = draw(seed)
        seed += 1
        try:
            done += play(plan, prices, tally)
        except Exception as error:
            done += 1
            failures.append(tell(*shrink(plan, error, prices)))
            if not keep_going:
                break
    return done, seed, tally, failures


def _job(job: tuple[int, int, bool]) -> tuple[int, int, Tally, list[str]]:
    return run(job[0], job[1], keep_going=job[2])


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=_DESCRIPTION)
    parser.add_argument("--seed", type=int, default=1, help="of the first episode; the next has the next (default: 1)")
    parser.add_argument("--steps", type=int, default=1_000_000, help="how many steps in all (default: 1,000,000)")
    parser.add_argument("--jobs", type=int, default=1, help="processes; each has seeds 1,000,000 apart (default: 1)")
    parser.add_argument("--keep-going", action="store_true", help="go on after a failure")
    options = parser.parse_args()
    begun_s = time.perf_counter()
    jobs = [
        (options.seed + number * 1_000_000, options.steps // options.jobs, options.keep_going)
        for number in range(options.jobs)
    ]
    if options.jobs == 1:
        results = [_job(jobs[0])]
    else:
        with multiprocessing.Pool(options.jobs) as pool:
            results = pool.map(_job, jobs)
    whole, steps, episodes = Tally(), 0, 0
    failures: list[str] = []
    for (first, _, _), (done, following, tally, failed) in zip(jobs, results, strict=True):
        steps, failures, episodes = steps + done, failures + failed, episodes + following - first
        whole.add(tally)
    took_s = time.perf_counter() - begun_s
    for what, count in sorted(whole.counts.items()):
        amount, largest = whole.amounts[what], whole.largest[what]
        money = f"  ${amount / 1e9:.6f} in all, at most ${largest / 1e9:.6f}" if amount else ""
        print(f"{count:>9,}  {what}{money}")
    print(f"{steps:,} steps in {episodes:,} episodes, {took_s:.1f} s: {steps / took_s * 60:,.0f} steps a minute")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
