"""Console: the live screen, drawn from one frozen value by a pure function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Literal

from rich.text import Text

from llmcap_addon.activity import Activity, CallLine, Counts
from llmcap_addon.budget.ledger import Balance
from llmcap_addon.budget.matching import LABELS, Match, matches
from llmcap_addon.money import Nanousd, format_usd
from llmcap_addon.unclaimed import UnclaimedPath
from llmcap_addon.view.grid import GAP, beside, fitted
from llmcap_addon.view.tables import WIDE, calls_table, caps_table, log_table, spend_table
from llmcap_addon.view.text import UNICODE, Glyphs, clean, clock, wrap

SMALL_HEIGHT = 20
"""Below this height an error has one line only."""
ROOMY_HEIGHT = 34
"""From this height on sections are set apart by a blank line."""
SHOWN_NOTICES = 3
"""More notices than these would push the caps off a small screen."""
SHOWN_PATHS = 2
"""More unmetered paths than these don't fit into a line."""
SHOWN_CALLS = 200
"""More calls than the tallest terminal has rows."""
CAPS_LEAST_WIDTH = 76
"""What the caps table needs to show every column, a readable name and a bar."""

NO_CALLS = Counts()


@dataclass(frozen=True, slots=True)
class Notice:
    """One line that the person must see, for as long as it holds."""

    text: str
    level: Literal["error", "warning", "info"] = "info"
    """"error" for an unreachable store or a broken caps.yaml, "info" for the built-in cap."""


@dataclass(frozen=True, slots=True)
class ConsoleState:
    """Everything the screen shows, at one moment."""

    now_ms: int
    listening: str
    """Where the proxy listens ("127.0.0.1:8080")."""
    balances: tuple[Balance, ...] = ()
    burns: tuple[Nanousd, ...] = ()
    """Nano-dollars an hour of the calls that each balance counts, in the order of `balances`."""
    burn: Nanousd = 0
    """Nano-dollars an hour of all calls."""
    lines: tuple[CallLine, ...] = ()
    """The newest last."""
    models: tuple[tuple[str, Nanousd, int], ...] = ()
    """(name, cost, calls), dearest first."""
    clients: tuple[tuple[str, Nanousd, int], ...] = ()
    counts: Counts = NO_CALLS
    plans: tuple[Nanousd, int] = (0, 0)
    """What calls under subscriptions would have cost by the token, and how many there were."""
    notices: tuple[Notice, ...] = ()
    logs: tuple[str, ...] = ()
    """What the proxy and mitmproxy logged, newest last; LiveConsole adds its own."""
    zone: tzinfo | None = None
    """For times of day; None is the local zone."""


def unclaimed_notice(paths: Sequence[UnclaimedPath]) -> tuple[Notice, ...]:
    """Say in one line which paths of LLM hosts nothing meters; none when there were none."""
    if not paths:
        return ()
    shown = ", ".join(f"{one.method} {one.host}{one.path} ({one.count:,})" for one in paths[:SHOWN_PATHS])
    more = f", {len(paths) - SHOWN_PATHS} more in llmcap report" if len(paths) > SHOWN_PATHS else ""
    through = sum(one.forwarded for one in paths)
    what = f"not metered, {through:,} let through uncounted" if through else "not metered, refused"
    return (Notice(f"{what}: {shown}{more}", "warning" if through else "info"),)


def snapshot(
    activity: Activity,
    balances: Sequence[Balance],
    now_ms: int,
    listening: str,
    *,
    notices: Sequence[Notice] = (),
    zone: tzinfo | None = None,
) -> ConsoleState:
    """Take what the screen shows out of the activity; on the event loop, like every use of Activity."""
    return ConsoleState(
        now_ms=now_ms,
        listening=listening,
        balances=tuple(balances),
        burns=tuple(activity.burn_rate(now_ms, _counted(balance.charge.match)) for balance in balances),
        burn=activity.burn_rate(now_ms),
        lines=activity.recent(SHOWN_CALLS),
        models=tuple(activity.spent_by("model")),
        clients=tuple(activity.spent_by("client")),
        counts=activity.counts(),
        plans=activity.plans(),
        notices=tuple(notices),
        zone=zone,
    )


def _counted(match: Match) -> Callable[[Mapping[str, str]], bool]:
    """Whether a cap counts calls with such labels; a label that lines do not have (run) is taken to match."""
    known = tuple(pair for pair in match if pair[0] in LABELS)
    return lambda labels: matches(known, labels)


def render(state: ConsoleState, width: int, height: int, glyphs: Glyphs = UNICODE) -> Text:
    """Draw the screen: at most `height` lines, each exactly `width` cells."""
    lines = _head(state, width, height, glyphs)
    gap = [fitted(Text(), width)] if height >= ROOMY_HEIGHT else []
    room = max(0, height - len(lines))
    draw = _wide if width >= WIDE else _narrow
    for section in draw(state, width, room, glyphs, len(gap)):
        lines += gap + section
    return Text("\n", no_wrap=True, end="").join(lines[:height])


def _head(state: ConsoleState, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    counts = state.counts
    now = clock(state.now_ms, state.zone)
    title = Text()
    title.append("LLMCap", "bold green")
    title.append(f"  {clean(state.listening, glyphs)}", "dim")
    if width - title.cell_len - len(now) >= GAP:
        title.append(now.rjust(width - title.cell_len), "dim")
    facts = Text()
    for text, style in (
        (f"burn {format_usd(state.burn)}/h", "bold yellow" if state.burn else "dim"),
        (f"spent {format_usd(sum(cost for _, cost, _ in state.models))} this run", "bold"),
        (f"plans {format_usd(state.plans[0])} notional" if state.plans[1] else "", "dim"),
        (f"{counts.calls:,} {'call' if counts.calls == 1 else 'calls'}", ""),
        (f"{counts.refused:,} refused" if counts.refused else "", "bold red"),
        (f"{counts.cut:,} cut" if counts.cut else "", "bold red"),
        (f"{counts.estimated:,} estimated" if counts.estimated else "", "yellow"),
    ):
        if text and facts.cell_len + GAP + len(text) <= width:
            facts.append(" " * GAP if facts else "")
            facts.append(text, style)
    lines = [fitted(title, width), fitted(facts, width)]
    styles = {"error": "bold red", "warning": "yellow", "info": "cyan"}
    order = sorted(state.notices, key=lambda notice: list(styles).index(notice.level))
    for notice in order[:SHOWN_NOTICES]:
        text = ("! " if notice.level == "error" else "") + clean(notice.text, glyphs)
        most = 2 if notice.level == "error" and height >= SMALL_HEIGHT else 1
        lines += [fitted(Text(part, styles[notice.level]), width) for part in wrap(text, width, most, glyphs)]
    return lines[:height]


def _pairs(state: ConsoleState) -> list[tuple[Balance, Nanousd]]:
    burns = state.burns if len(state.burns) == len(state.balances) else (state.burn,) * len(state.balances)
    return list(zip(state.balances, burns, strict=True))


@dataclass(frozen=True, slots=True)
class _Rows:
    """How many rows below its heading each section has; -1 for a section that is left out."""

    top: int
    spend: int
    calls: int
    log: int


def _share(room: int, gap: int, state: ConsoleState, *, stacked: bool) -> _Rows:
    """Share the rows out: first the caps, then some calls, spend and log, then the rest of each, the calls last.

    Side by side (not `stacked`) the spend costs no rows of its own.
    """
    caps, logs, spends = len(state.balances), len(state.logs), max(len(state.models), len(state.clients))
    left = room
    wanted = max(1, caps if stacked else max(caps, min(spends, 4)))
    top = min(wanted, max(1, left // 3), left - 1)
    left -= top + 1 + gap
    calls = -1
    if left >= 2:
        calls = min(3, left - 1 - gap)
        left -= calls + 1 + gap
    spend = -1
    if stacked and left >= 2 + gap:
        spend = min(3, max(1, spends), left - 1 - gap)
        left -= spend + 1 + gap
    log = -1
    if logs and left >= 2 + gap:
        log = min(2, logs, left - 1 - gap)
        left -= log + 1 + gap
        more = min(logs - log, max(0, room // 4 - log), max(0, left - 5))
        log, left = log + more, left - more
    if calls >= 0:
        more = min(wanted - top, max(0, room // 2 - top), max(0, left))
        top, left = top + more, left - more
        if spend >= 0:
            more = min(max(0, spends - spend), max(0, room // 6 - spend), max(0, left - 5))
            spend, left = spend + more, left - more
        calls += max(0, left)
    else:
        top += max(0, left)
    return _Rows(top=max(-1, top), spend=spend, calls=calls, log=log)


def _narrow(state: ConsoleState, width: int, room: int, glyphs: Glyphs, gap: int) -> list[list[Text]]:
    rows = _share(room, gap, state, stacked=True)
    sections = [caps_table(_pairs(state), rows.top, state.now_ms, width, glyphs)]
    if rows.spend >= 0:
        models = max(0, width - GAP) * 5 // 9
        clients = max(0, width - GAP - models)
        blocks = [
            (spend_table("MODEL", state.models, rows.spend, models, glyphs), models),
            (spend_table("CLIENT", state.clients, rows.spend, clients, glyphs), clients),
        ]
        sections.append([fitted(line, width) for line in beside(blocks, rows.spend + 1)])
    return sections + _below(state, rows, width, glyphs)


def _wide(state: ConsoleState, width: int, room: int, glyphs: Glyphs, gap: int) -> list[list[Text]]:
    rows = _share(room, gap, state, stacked=False)
    caps = max(CAPS_LEAST_WIDTH, width // 2)
    models = (width - caps - 2 * GAP) * 5 // 9
    clients = width - caps - models - 2 * GAP
    blocks = [
        (caps_table(_pairs(state), rows.top, state.now_ms, caps, glyphs), caps),
        (spend_table("MODEL", state.models, rows.top, models, glyphs), models),
        (spend_table("CLIENT", state.clients, rows.top, clients, glyphs), clients),
    ]
    return [beside(blocks, rows.top + 1), *_below(state, rows, width, glyphs)]


def _below(state: ConsoleState, rows: _Rows, width: int, glyphs: Glyphs) -> list[list[Text]]:
    sections = []
    if rows.calls >= 0:
        sections.append(calls_table(state.lines, rows.calls, state.zone, width, glyphs))
    if rows.log >= 0:
        sections.append(log_table(state.logs, rows.log, width, glyphs))
    return sections
