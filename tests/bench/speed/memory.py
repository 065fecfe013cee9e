"""The figure of memory: what ten thousand calls and a long stream leave behind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import sleep

from tests.bench.speed import talk
from tests.bench.speed.contenders import Contender, Stand
from tests.bench.speed.figures import Figure
from tests.bench.speed.load import Load

WARM_UP = 2_000
CALLS = 10_000
CONNECTIONS = 4
LONG = talk.Stream(events=30_000, text_bytes=760)
"""30 MB with what stands around the text."""
WARM_STREAM = talk.Stream(events=1_000, text_bytes=760)
LOOK_S = 0.1
"""How often memory is looked at while the stream runs."""


def measure(rounds: int) -> list[Figure]:
    """Look at a proxy's memory after warming up, after the calls and after the stream; once, whatever `rounds` says."""
    del rounds
    with Stand() as stand:
        ours = stand.llmcap()
        _run(ours, ours.load(WARM_UP, connections=CONNECTIONS))
        _run(ours, ours.load(1, stream=WARM_STREAM.header(), warm_up=1))
        warm = _held(ours)
        _run(ours, ours.load(CALLS, connections=CONNECTIONS))
        called = _held(ours)
        peak = _run(ours, _long(ours))
        streamed = _held(ours)
        bare = stand.mitmdump()
        _run(bare, bare.load(100))
        bare_warm = _held(bare)
        _run(bare, _long(bare))
        bare_streamed = _held(bare)
    return [
        Figure("llmcap proxy, memory after 10,000 calls and a 30 MB stream", (streamed - warm,), 10, unit="MB"),
        Figure("  llmcap proxy, of that after the calls", (called - warm,), unit="MB"),
        Figure("  llmcap proxy, most while the stream ran", (peak - warm,), unit="MB"),
        Figure("  llmcap proxy, resident after warming up", (warm,), unit="MB"),
        Figure("  mitmdump -q, after the stream alone", (bare_streamed - bare_warm,), unit="MB"),
    ]


def _long(contender: Contender) -> Load:
    return contender.load(1, stream=LONG.header(), warm_stream=talk.Stream(events=5).header(), warm_up=1)


def _run(contender: Contender, load: Load) -> float:
    """Run a load; gives the most memory that was seen meanwhile, in megabytes."""
    peak = 0.0
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(contender.measure, load)
        while not running.done():
            peak = max(peak, _held(contender))
            sleep(LOOK_S)
        running.result()
    return peak


def _held(contender: Contender) -> float:
    assert contender.process is not None
    return contender.process.resident_bytes() / 1e6
