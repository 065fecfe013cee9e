"""Figures of streams: processor time of an event, delays, first bytes, and what a long prompt does to others."""

from __future__ import annotations

import time

from tests.bench.speed import talk
from tests.bench.speed.contenders import Contender, Measured, Stand
from tests.bench.speed.figures import Figure, percentile
from tests.bench.speed.load import Result

EVENTS = 2_000
PACED = talk.Stream(events=EVENTS, gap_us=2_000)
STREAMS = 2
"""At once: together a thousand events a second, which leaves a proxy room to be on time."""
SHORT = talk.Stream(events=20)
"""For warming up."""

EVENT = "llmcap proxy ÷ a callable that does nothing, CPU an event"
MERGED = "llmcap proxy, events that came merged"

FIRST_CALLS = 400

OTHERS = 20
OTHER = talk.Stream(events=100, gap_us=20_000)
"""Each of the streams beside a long prompt: fifty tokens a second, as a large model gives."""
PROMPT_BYTES = 1_000_000
PROMPTS = 2
PROMPT_AT_S = 0.4
COUNTED_CAPS = "caps: [{name: fuse, limit: 1.5, per: ever}]"
"""The prompt's bytes, at two dollars a million tokens, don't fit under it: its tokens must be counted."""


def measure_streams(rounds: int, paced: talk.Stream = PACED) -> list[Figure]:
    """Send the same streams through a callable that does nothing and through LLMCap, in turn."""
    with Stand() as stand:
        contenders = [stand.direct(), stand.mitmdump("pass-through", stream="callable"), stand.llmcap()]
        found: dict[str, list[Measured]] = {contender.name: [] for contender in contenders}
        for _ in range(rounds):
            for contender in contenders:
                load = contender.load(
                    STREAMS, connections=STREAMS, stream=paced.header(), warm_stream=SHORT.header(), warm_up=20
                )
                measured = contender.measure(load)
                if len(measured.result.delays) != STREAMS * paced.events:
                    raise RuntimeError(f"{contender.name}: {len(measured.result.delays)} events came")
                found[contender.name].append(measured)
    direct, bare, ours = found.values()
    figures = [
        Figure(EVENT, _ratios(ours, bare), 1.5),
        Figure(
            "llmcap proxy, p99 delay of an event, added to that callable's",
            tuple(
                (_delay(one.result, 0.99) - _delay(other.result, 0.99)) / 1e6
                for one, other in zip(ours, bare, strict=True)
            ),
            1,
            unit="ms",
        ),
        Figure(MERGED, tuple(float(one.result.merged) for one in ours), 0),
    ]
    for name, ones in (("pass-through", bare), ("llmcap proxy", ours)):
        figures.append(Figure(f"  {name}, CPU an event", tuple(_cpu(one) / 1e3 for one in ones), unit="µs"))
    for name, ones in (("direct", direct), ("pass-through", bare), ("llmcap proxy", ours)):
        for share, word in ((0.5, "p50"), (0.99, "p99")):
            delays = tuple(_delay(one.result, share) / 1e6 for one in ones)
            figures.append(Figure(f"  {name}, {word} delay of an event", delays, unit="ms"))
    return figures


def measure_first_byte(rounds: int) -> list[Figure]:
    """Begin short streams, one after the other, and wait for the first event of each."""
    with Stand() as stand:
        contenders = [stand.direct(), stand.mitmdump("mitmdump -q, streaming", stream="plainly"), stand.llmcap()]
        found: dict[str, list[Measured]] = {contender.name: [] for contender in contenders}
        for number in range(-1, rounds):
            for contender in contenders:
                measured = contender.measure(contender.load(FIRST_CALLS, stream=talk.Stream(events=5).header()))
                if number >= 0:  # the first round warms up
                    found[contender.name].append(measured)
    _, bare, ours = found.values()

    def first(measured: Measured, share: float) -> float:
        return percentile(measured.result.first_bytes, share) / 1e6

    figures = []
    for share, word, target in ((0.99, "p99", 1.0), (0.5, "p50", None)):
        added = tuple(first(one, share) - first(other, share) for one, other in zip(ours, bare, strict=True))
        name = f"llmcap proxy, {word} time to the first byte, added to mitmdump's"
        figures.append(Figure(name, added, target, unit="ms"))
    for name, ones in found.items():
        for share, word in ((0.5, "p50"), (0.99, "p99")):
            figures.append(
                Figure(f"  {name}, {word} to the first byte", tuple(first(one, share) for one in ones), unit="ms")
            )
    return figures


def measure_stall(rounds: int) -> list[Figure]:
    """Run twenty streams, alone and beside prompts of a megabyte, and look for the longest that an event was late."""
    with Stand() as stand:
        contenders = [stand.mitmdump("pass-through", stream="callable"), stand.llmcap(COUNTED_CAPS)]
        alone: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        beside: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        for _ in range(rounds):
            for contender in contenders:
                alone[contender.name].append(_longest(contender, prompts=0))
                beside[contender.name].append(_longest(contender, prompts=PROMPTS))
    figures = [
        Figure(
            "llmcap proxy, longest stall of 20 streams beside a 1 MB prompt",
            tuple(beside["llmcap proxy"]),
            20,
            unit="ms",
            note="the prompt's tokens are counted, since its bytes don't fit under the cap",
        ),
        Figure("  llmcap proxy, without the prompt", tuple(alone["llmcap proxy"]), unit="ms"),
    ]
    figures.append(Figure("  pass-through, beside the prompt", tuple(beside["pass-through"]), unit="ms"))
    return [*figures, Figure("  pass-through, without the prompt", tuple(alone["pass-through"]), unit="ms")]


def _longest(contender: Contender, prompts: int) -> float:
    """Give how late the latest event of the streams was, in milliseconds."""
    streams = contender.load(
        OTHERS, connections=OTHERS, stream=OTHER.header(), warm_stream=SHORT.header(), warm_up=OTHERS
    )
    with contender.loader(streams) as loader:
        if not prompts:
            loader.begin()
            return max(loader.result().delays) / 1e6
        long = contender.load(prompts, prompt_bytes=PROMPT_BYTES, model=talk.LARGE_MODEL, warm_up=1)
        with contender.loader(long) as prompter:
            loader.begin()
            time.sleep(PROMPT_AT_S)
            prompter.begin()
            prompter.result()
            return max(loader.result().delays) / 1e6


def _ratios(ours: list[Measured], bare: list[Measured]) -> tuple[float, ...]:
    return tuple(_cpu(one) / _cpu(other) for one, other in zip(ours, bare, strict=True))


def _cpu(measured: Measured) -> float:
    """Processor time of an event, in nanoseconds."""
    return measured.cpu_ns / len(measured.result.delays)


def _delay(result: Result, share: float) -> float:
    return percentile(result.delays, share)
