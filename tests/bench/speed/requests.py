"""Figures of whole requests: processor time of one, and what a proxy adds to it."""

from __future__ import annotations

from tests.bench.speed.contenders import Contender, Measured, Stand
from tests.bench.speed.figures import Figure, percentile

WARM_UP = 300
"""Calls until nothing becomes faster any more: caches are filled, the tokenizer is loaded."""
CALLS = 400
PEER_CALLS = 100
"""LiteLLM takes several times as long."""
OURS = "llmcap proxy ÷ mitmdump -q, CPU a request"
ADDON = "mitmdump -s addon.py ÷ mitmdump -q, CPU a request"


def measure(rounds: int, calls: int = CALLS, *, warm_up: int = WARM_UP, with_peer: bool = True) -> list[Figure]:
    """Send the same calls through each contender in turn, again and again."""
    with Stand() as stand:
        contenders = [stand.direct(), stand.mitmdump(), stand.llmcap(), stand.addon(), stand.lean()]
        missing = ""
        if with_peer:
            try:
                contenders.append(stand.litellm())
            except (RuntimeError, TimeoutError) as error:
                missing = str(error).splitlines()[0]
        for contender in contenders:
            _run(contender, warm_up if contender.name != "litellm" else PEER_CALLS)
        found: dict[str, list[Measured]] = {contender.name: [] for contender in contenders}
        for _ in range(rounds):
            for contender in contenders:
                found[contender.name].append(_run(contender, PEER_CALLS if contender.name == "litellm" else calls))
    return _figures(found, with_peer=with_peer, missing=missing)


def _run(contender: Contender, calls: int) -> Measured:
    return contender.measure(contender.load(calls, warm_up=10))


def _figures(found: dict[str, list[Measured]], *, with_peer: bool, missing: str) -> list[Figure]:
    direct, bare, ours, addon, lean = (
        found[name] for name in ("direct", "mitmdump -q", "llmcap proxy", "mitmdump -s addon.py", "lean mitmproxy")
    )

    def cpu(of: list[Measured], to: list[Measured]) -> tuple[float, ...]:
        return tuple(one.cpu_a_call_ns / other.cpu_a_call_ns for one, other in zip(of, to, strict=True))

    def added(share: float, of: list[Measured]) -> list[float]:
        return [
            percentile(one.result.latencies, share) - percentile(other.result.latencies, share)
            for one, other in zip(of, direct, strict=True)
        ]

    def latency(share: float) -> tuple[float, ...]:
        return tuple(one / other for one, other in zip(added(share, ours), added(share, bare), strict=True))

    figures = [
        Figure(OURS, cpu(ours, bare), 0.75),
        Figure("  of that without LLMCap: lean mitmproxy ÷ mitmdump -q", cpu(lean, bare)),
        Figure("llmcap proxy ÷ mitmdump -q, added p50", latency(0.5), 0.8),
        Figure("llmcap proxy ÷ mitmdump -q, added p99", latency(0.99), 1.0),
        Figure(ADDON, cpu(addon, bare), 1.1),
    ]
    if with_peer:
        peer = found.get("litellm")
        ratios = () if peer is None else cpu(peer, ours)
        note = missing or "plain HTTP to it, a provider budget (its max_budget takes a database), one worker"
        figures.append(Figure("litellm ÷ llmcap proxy, CPU a request", ratios, 8, at_least=True, note=note))
    for name, ones in found.items():
        if name != "direct":
            cpus = tuple(one.cpu_a_call_ns / 1e6 for one in ones)
            figures.append(Figure(f"  {name}, CPU a request", cpus, unit="ms"))
            for share, word in ((0.5, "p50"), (0.99, "p99")):
                figures.append(Figure(f"  {name}, added {word}", tuple(x / 1e6 for x in added(share, ones)), unit="ms"))
    p50 = tuple(percentile(one.result.latencies, 0.5) / 1e6 for one in direct)
    return [*figures, Figure("  direct, p50", p50, unit="ms")]
