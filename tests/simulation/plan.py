"""What happens in one episode, drawn from a seed before it begins, so that a failing one can be made shorter."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Literal, get_args

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.windows import PERIODS
from llmcap_addon.gate.admission import Policy
from tests.simulation.store import Weather

type End = Literal["complete", "client_gone", "upstream_gone", "never_sent", "error", "failed", "unreadable"]
type Reports = Literal["final", "start", "running", "none"]
"""When usage comes: at the end; input at the start too; all so far in every chunk; never."""
type Rude = Literal["", "input", "output", "burst"]
"""What a provider does that none is assumed to do: bill more input than the bound, more output than the limit, or
send at a wildly changing pace."""
type Job = Literal["", "billed", "free"]
"""Whether the answer only names a job, whose bill, or that there is none, is told to whoever looks once it is done."""

ENDS: tuple[End, ...] = get_args(End.__value__)
MAX_ROUND_TRIP_S = 0.25
"""What the gate allows for, from the provider's generating to its hearing that we went (pace.LATENCY_ALLOWANCE_S)."""


@dataclass(frozen=True, slots=True)
class Seller:
    """Where calls go, and how it behaves."""

    provider: str
    host: str
    dialect: str
    model: str
    tiers: tuple[str, ...] = ("",)
    """What a request may ask for."""
    applied: tuple[str, ...] = ("",)
    """What a response may name; the first is the ordinary one."""
    reports: tuple[Reports, ...] = ("final", "none")
    hidden: tuple[int | None, ...] = (0,)
    has_output: bool = True
    bills_after_disconnect: bool = False


SELLERS = (
    Seller("openai", "api.openai.com", "openai.chat", "gpt-4o", ("", "default", "priority"), ("default", "priority")),
    Seller("openai", "api.openai.com", "openai.responses", "gpt-5", ("", "flex", "priority"),
           ("default", "flex", "priority"), hidden=(None, 0)),
    Seller("anthropic", "api.anthropic.com", "anthropic.messages", "claude-sonnet-4-5",
           reports=("start",), hidden=(0, 0, 1024)),
    Seller("google", "generativelanguage.googleapis.com", "google.generate", "gemini-2.5-pro",
           reports=("running",), hidden=(0, 512, None)),
    Seller("openai", "api.openai.com", "openai.embeddings", "text-embedding-3-small", has_output=False),
    Seller("groq", "api.groq.com", "openai.chat", "llama-3.3-70b-versatile", bills_after_disconnect=True),
    Seller("internal", "llm.internal.example", "openai.chat", "my-tuned-model"),
    Seller("openai", "api.openai.com", "openai.chat", "gpt-from-the-future"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Look:
    """Somebody asks what became of a job: so long after its call was forwarded, through some process."""

    after_s: float
    process: int


@dataclass(frozen=True, slots=True)
class CallPlan:
    """One call, from the client's wish to the provider's last word. Times count from the arrival or the sending."""

    at_s: float
    process: int
    seller: Seller
    client: str
    streamed: bool
    text_bytes: int
    max_output: int | None
    hidden_bound: int | None
    choices: int
    asked: str
    applied: str
    named: Literal["first", "last", "never"]
    reports: Reports
    end: End
    end_after_s: float
    leaves_after_s: float | None
    """When the client leaves the queue, if it still stands there."""
    input_share: float
    cached_share: float
    visible: int
    hidden: int
    rate: float
    hidden_rate: float
    think_s: float
    chunk: int
    down_s: float
    up_s: float
    counted_percent: int
    """What we count of a token, from above."""
    rude: Rude = ""
    job: Job = ""
    looks: tuple[Look, ...] = ()


@dataclass(frozen=True, slots=True)
class Reload:
    """caps.yaml has changed."""

    at_s: float
    process: int
    caps: tuple[Cap, ...]
    policy: Policy


@dataclass(frozen=True, slots=True)
class Crash:
    """A process is killed, and started again."""

    at_s: float
    process: int
    back_after_s: float


@dataclass(frozen=True, slots=True)
class Storm:
    """The store does badly for one process."""

    at_s: float
    process: int
    weather: Weather
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Jump:
    """A wall clock is set."""

    at_s: float
    process: int
    by_ms: int


type Item = CallPlan | Reload | Crash | Storm | Jump


@dataclass(frozen=True, slots=True)
class Plan:
    """One episode."""

    seed: int
    processes: int
    timezone: str
    starts_ms: int
    """Added to the clockwork's start, so that a period's end comes at another moment each time."""
    caps: tuple[Cap, ...]
    policy: Policy
    real_store: bool
    items: tuple[Item, ...]


def draw(seed: int) -> Plan:
    """Draw an episode; the same from the same seed."""
    random = Random(seed)
    processes = random.choice((1, 1, 2, 3))
    span_s = random.choice((5.0, 20.0, 60.0))
    caps, policy = _caps(random), _policy(random)
    rude = random.random() < 0.2
    items: list[Item] = [_call(random, span_s, processes, rude=rude) for _ in range(random.choice((3, 10, 25, 50)))]
    if random.random() < 0.25:
        changed = tuple(replace(cap, limit=_limit(random)) for cap in caps if random.random() < 0.8)
        for process in range(processes):
            later = changed + (_caps(random) if random.random() < 0.3 else ())
            items.append(Reload(random.uniform(0, span_s), process, _unique(later), _policy(random)))
    if random.random() < 0.25:
        items += [
            Crash(random.uniform(0, span_s), random.randrange(processes), random.choice((0.01, 1.0, 40.0)))
            for _ in range(random.randint(1, 6))
        ]
    if random.random() < 0.35:
        items += [_storm(random, span_s, processes) for _ in range(random.randint(1, 4))]
    if random.random() < 0.15:
        by_ms = random.choice((-3_600_000, -60_000, -500, 500, 60_000, 3_600_000))
        items.append(Jump(random.uniform(0, span_s), random.randrange(processes), by_ms))
    items.sort(key=lambda item: item.at_s)
    return Plan(
        seed=seed,
        processes=processes,
        timezone=random.choice(("UTC", "America/New_York", "Asia/Kathmandu")),
        # New York's clocks go back at 06:00 UTC; all months begin at most 14 hours from where the clockwork starts.
        starts_ms=random.choice((0, 4 * 3_600_000, 5 * 3_600_000, 6 * 3_600_000)) - random.randrange(60_000),
        caps=caps,
        policy=policy,
        real_store=seed % 25 == 0,
        items=tuple(items),
    )


def _limit(random: Random) -> int:
    return 0 if random.random() < 0.04 else int(10 ** random.uniform(6.5, 9.5))  # $0.003 to $3


def _caps(random: Random) -> tuple[Cap, ...]:
    globs = {
        "model": ("gpt-*", "claude-*", "*", "gpt-4o"),
        "provider": ("openai", "anthropic", "[!o]*"),
        "client": ("codex", "c*"),
        "host": ("api.openai.com", "*.com"),
    }
    caps = []
    for number in range(random.choice((0, 1, 1, 2, 3, 5))):
        labels = random.sample(sorted(globs), random.choice((0, 0, 0, 1, 2)))
        match = tuple((label, random.choice(globs[label])) for label in labels)
        each = tuple(random.sample(("model", "client", "provider", "host"), random.choice((0, 0, 0, 1, 2))))
        caps.append(Cap(f"cap-{number}", _limit(random), random.choice(PERIODS), match, each))
    return tuple(caps)


def _unique(caps: tuple[Cap, ...]) -> tuple[Cap, ...]:
    return tuple({cap.name: cap for cap in caps}.values())


def _policy(random: Random) -> Policy:
    return Policy(
        shorten=random.choice(("auto", "auto", "always", "never")),
        wait_ms=random.choice((0, 400, 3_000, 20_000)),
        on_error="allow" if random.random() < 0.05 else "refuse",
    )


def _storm(random: Random, span_s: float, processes: int) -> Storm:
    kind = random.randrange(4)
    weather = Weather(
        slow=random.choice((0.2, 1.0)) if kind == 0 else 0.0,
        fails=random.choice((0.2, 1.0)) if kind in (1, 3) else 0.0,
        hangs=random.choice((0.2, 1.0)) if kind == 2 else 0.0,
        after=random.choice((0.0, 0.5, 1.0)),
    )
    return Storm(random.uniform(0, span_s), random.randrange(processes), weather, random.choice((0.1, 2.0, 15.0)))


def _call(random: Random, span_s: float, processes: int, *, rude: bool) -> CallPlan:
    seller = random.choice(SELLERS)
    asked = random.choice(seller.tiers)
    named: Literal["first", "last", "never"] = random.choice(("first", "last", "never"))
    applied = random.choice((seller.applied[0], *seller.applied))
    if named == "never" and asked == "":
        applied = seller.applied[0]  # an absent word on both sides means the ordinary price
    if asked in ("default", "flex") and applied == "priority":
        applied = "default"  # nobody is moved to a dearer tier than was asked for
    visible = int(10 ** random.uniform(0, 3.7))
    hidden_bound = random.choice(seller.hidden)
    most_hidden = 3_000 if hidden_bound is None else hidden_bound
    round_trip_s = random.uniform(0.01, MAX_ROUND_TRIP_S)
    down_s = round_trip_s * random.random()
    plain = CallPlan(
        at_s=random.choice((0.0, random.uniform(0, span_s), random.uniform(0, span_s))),
        process=random.randrange(processes),
        seller=seller,
        client=random.choice(("codex", "claude-code", "")),
        streamed=seller.has_output and random.random() < 0.75,
        text_bytes=int(10 ** random.uniform(0, 5.9)) if random.random() < 0.3 else random.randrange(4_000),
        max_output=random.choice((None, 16, 1_000, 8_000, 32_000)) if seller.has_output else None,
        hidden_bound=hidden_bound,
        choices=random.choice((1, 1, 1, 1, 3)) if seller.provider == "openai" and seller.has_output else 1,
        asked=asked,
        applied=applied,
        named=named,
        reports=random.choice(seller.reports),
        end="complete" if random.random() < 0.6 else random.choice(ENDS),
        end_after_s=random.choice((0.0, random.uniform(0, 1.0), random.uniform(0, 10.0))),
        leaves_after_s=random.uniform(0, 5) if random.random() < 0.1 else None,
        input_share=random.choice((0.0, random.random(), 1.0)),
        cached_share=random.choice((0.0, random.random(), 1.0)),
        visible=visible,
        hidden=random.randint(0, most_hidden) if most_hidden else 0,
        rate=10 ** random.uniform(1.7, 3),  # 50 to 1,000 tokens a second
        hidden_rate=random.uniform(50, 500),
        think_s=random.choice((0.01, 0.5, 3.0)),
        chunk=random.choice((1, 4, 16, max(1, visible // 8))),
        down_s=down_s,
        up_s=round_trip_s - down_s,
        counted_percent=random.choice((100, 100, 115, 150)),
        rude=random.choice(("", "input", "output", "burst")) if rude else "",
    )
    return _as_job(random, plain, span_s, processes) if seller.has_output and random.random() < 0.15 else plain


def _as_job(random: Random, plain: CallPlan, span_s: float, processes: int) -> CallPlan:
    """The same as a background response: its answer is there at once, its bill later, or never."""
    looks = tuple(
        Look(random.choice((random.uniform(0, 1), random.uniform(0, span_s))), random.randrange(processes))
        for _ in range(random.choice((0, 1, 2, 5)))
    )
    ends: tuple[End, ...] = ("complete", "complete", "complete", "client_gone", "never_sent", "error")
    kind: Job = random.choice(("billed", "billed", "free"))
    named: Literal["last"] = "last"  # a bill says what it bills
    return replace(plain, streamed=False, end=random.choice(ends), named=named, job=kind, looks=looks, rude="")
