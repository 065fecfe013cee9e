"""Price cards: what `llmcap prices` prints for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from rich.cells import cell_len
from rich.text import Text

from llmcap_addon.pricing.hours import EVERY_DAY, Hours
from llmcap_addon.pricing.listing import Listed, Provider
from llmcap_addon.pricing.table import Card, Levels
from llmcap_addon.view.grid import GAP, Cell, Column, lay_out
from llmcap_addon.view.report import HEADING
from llmcap_addon.view.text import UNICODE, Glyphs, clean, wrap

_TOKENS = (
    ("input", "INPUT"), ("cached_input", "CACHED"), ("cache_write", "WRITE"), ("cache_write_1h", "WRITE 1H"),
    ("output", "OUTPUT"), ("reasoning", "REASONING"), ("audio_input", "AUDIO IN"), ("cached_audio", "AUDIO CACHED"),
    ("audio_output", "AUDIO OUT"), ("image_input", "IMAGE IN"), ("cached_image", "IMAGE CACHED"),
    ("video_input", "VIDEO IN"), ("image_output", "IMAGE OUT"),
)  # fmt: skip
"""Prices of a million tokens, and what heads their column."""
_FEES = (("web_search", "web searches"), ("file_search", "file searches"), ("maps", "maps searches"),
         ("code_session", "code containers"))  # fmt: skip
_PIECES = (
    ("per_image", "picture"), ("per_character", "character"), ("per_second_in", "second of audio in"),
    ("per_second_out", "second of audio out"), ("per_page", "page"), ("per_query", "search unit"),
)  # fmt: skip
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MOST_LINES = 6
"""Of one sentence that has to be broken."""
_LABEL_CELLS = 30
LONG_LIST = 6
"""More cards than this are shown as one line each."""


@dataclass(frozen=True, slots=True)
class Source:
    """Which table is in force."""

    made: str
    sources: Sequence[str]
    path: str
    fetched: bool
    """True for a table of the user's, from `llmcap prices update`."""


def render_overview(source: Source, providers: Sequence[Provider], own: Mapping[str, int], width: int,
                    glyphs: Glyphs = UNICODE) -> Text:  # fmt: skip
    """Draw the providers that have prices, with counts, and which table it is; `own` is host → prices of the user's."""
    rows = [
        [Cell(provider.name), Cell(f"{provider.names:,}"), Cell(f"{provider.cards:,}"), Cell(_fees(provider.fees))]
        for provider in providers
    ]
    columns = (
        Column("PROVIDER", least=8, most=20, keep=9),
        Column("NAMES", least=5, most=7, align="right", keep=8),
        Column("CARDS", least=5, most=7, align="right", keep=7),
        Column("WHATEVER THE MODEL, A THOUSAND", least=20, most=80, keep=1, fit="end"),
    )
    lines = [*_table_words(source, width, glyphs), Text()]
    lines += lay_out(columns, rows, width, glyphs, heading=HEADING)
    total = sum(provider.names for provider in providers)
    lines.append(Text(f"{total:,} names at {len(providers)} providers"))
    lines += [Text(f"caps.yaml has {count} of its own for {host}") for host, count in own.items()]
    return _joined(lines, width)


def render_cards(listed: Sequence[Listed], source: Source, today: date, width: int, glyphs: Glyphs = UNICODE) -> Text:
    """Draw each card whole, or one line each when there are many; dollars, and no line wider than `width` cells."""
    lines: list[Text] = []
    if len(listed) > LONG_LIST:
        lines += _list(listed, width, glyphs)
    else:
        for number, one in enumerate(listed):
            lines += [Text()] if number else []
            lines += _card(one, source, today, width, glyphs)
    return _joined(lines, width)


# -- One card


def _card(one: Listed, source: Source, today: date, width: int, glyphs: Glyphs) -> list[Text]:
    head = Text(clean(one.model, glyphs), "bold")
    head.append(f" at {clean(one.host or one.provider, glyphs)}", "default")
    if one.host and one.provider:
        head.append(f" ({one.provider})", "dim")
    lines = [head]
    for words, style in _origin(one, source, today):
        lines += [Text(line, style) for line in wrap(clean(words, glyphs), width, _MOST_LINES, glyphs)]
    lines += _prices(one.card, one.fees, width, glyphs)
    for day, card in one.coming:
        lines += [Text(), Text(f"from {day.isoformat()}:", "cyan"), *_prices(card, one.fees, width, glyphs)]
    return lines


def _origin(one: Listed, source: Source, today: date) -> Iterator[tuple[str, str]]:
    """Yield sentences on where a price comes from and what else is known of the model, each with its style."""
    if one.origin == "own":
        yield f"your own price: `prices:` of caps.yaml, for {one.host}", "cyan"
    if one.why:
        yield f"assumed: {one.why}", "yellow"
    entry = one.entry
    if entry is None:
        return
    begun = [card for card in entry.raw["prices"] if card["from"] <= today.isoformat()]
    written = max(begun, key=lambda card: str(card["from"]))
    if one.origin != "own":
        by = " and ".join(written["by"]) or "no source any more"
        table = "the table you fetched" if source.fetched else "the shipped table"
        since = f", in force since {written['from']}" if written["from"] else ""
        yield f"{table} of {source.made}: from {by}, seen {written['seen']}{since}", ""
    if entry.name != one.model.lower() and one.origin == "table":
        yield f"the same card as {entry.name}", ""
    facts = [entry.kind]
    if entry.context_tokens:
        facts.append(f"up to {entry.context_tokens:,} tokens of context")
    if entry.max_output_tokens:
        facts.append(f"answers of up to {entry.max_output_tokens:,}")
    yield ", ".join(facts), "dim"
    if "retired" in entry.raw:
        gone = entry.retired(today)
        when = "was switched off on" if gone else "is to be switched off on"
        yield f"{when} {entry.raw['retired']}, as the sources say", "yellow" if gone else "dim"


def _prices(card: Card, fees: Mapping[str, Decimal], width: int, glyphs: Glyphs) -> list[Text]:
    groups = _grouped(card.off_peak)
    names = ["off-peak"] if len(groups) == 1 else [f"off-peak {number}" for number in range(1, len(groups) + 1)]
    rows = list(_rows(card.levels))
    for name, (_, levels) in zip(names, groups, strict=True):
        rows += [(name if label == "standard" else f"{name}, {label}", row) for label, row in _rows(levels)]
    lines = _token_tables(rows, width, glyphs)
    standard = card.levels[0][1].get("standard", {})
    bills_tokens = "input" in standard or "output" in standard
    words: list[str] = []
    if asked := _fees({**fees, **standard} if bills_tokens else standard):
        words.append(f"$ a thousand: {asked}")
    if pieces := _named(standard, _PIECES):
        words.append(f"$ each: {pieces}")
    words += [
        f"$ each, {tier}: {pieces}" for tier, row in card.levels[0][1].items()
        if tier != "standard" and (pieces := _named(row, _PIECES))
    ]  # fmt: skip
    if card.geography and bills_tokens:
        factors: dict[Decimal, list[str]] = {}
        for place, factor in card.geography.items():
            factors.setdefault(factor, []).append(place)
        places = ", ".join(f"{factor} times as much in {' and '.join(where)}" for factor, where in factors.items())
        words.append(f"tokens cost {places}")
    words += [f"{name} (UTC): {_hours(hours)}" for name, (hours, _) in zip(names, groups, strict=True)]
    for sentence in words:
        lines += [Text(line) for line in wrap(sentence, width, _MOST_LINES, glyphs)]
    return lines


def _rows(levels: Levels) -> Iterator[tuple[str, Mapping[str, Decimal]]]:
    for above, tiers in levels:
        for tier in sorted(tiers, key=lambda tier: (tier != "standard", tier)):
            yield (f"{tier}, prompt > {above:,}" if above else tier), tiers[tier]


def _grouped(off_peak: Sequence[tuple[Hours, Levels]]) -> list[tuple[list[Hours], Levels]]:
    """Put windows with the same prices together."""
    found: list[tuple[list[Hours], Levels]] = []
    for hours, levels in off_peak:
        same = next((group for group in found if group[1] == levels), None)
        if same:
            same[0].append(hours)
        else:
            found.append(([hours], levels))
    return found


def _hours(windows: Sequence[Hours]) -> str:
    by_days: dict[frozenset[int], list[str]] = {}
    for window in windows:
        span = f"{_clock(window.start_minute)}-{_clock(window.end_minute)}"
        by_days.setdefault(window.weekdays, []).append(span)
    return "; ".join(f"{_weekdays(days)} {', '.join(spans)}" for days, spans in by_days.items())


def _weekdays(days: frozenset[int]) -> str:
    if days == EVERY_DAY:
        return "every day"
    ordered = sorted(days)
    if len(ordered) > 1 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{_DAYS[ordered[0] - 1]}-{_DAYS[ordered[-1] - 1]}"
    return " ".join(_DAYS[day - 1] for day in ordered)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


# -- Tables


def _token_tables(rows: Sequence[tuple[str, Mapping[str, Decimal]]], width: int, glyphs: Glyphs) -> list[Text]:
    """Draw prices of tokens; in several tables when one is too wide, for half a card misleads."""
    shown = [(field, title) for field, title in _TOKENS if any(field in row for _, row in rows)]
    label = min(_LABEL_CELLS, max((cell_len(name) for name, _ in rows), default=0))
    label = max(label, len("$ A MILLION TOKENS"))
    lines: list[Text] = []
    while shown:
        taken: list[tuple[str, str, int]] = []
        used = label
        for field, title in shown:
            cells = max(len(title), *(len(money(row[field])) for _, row in rows if field in row))
            if taken and used + GAP + cells > width:
                break
            taken.append((field, title, cells))
            used += GAP + cells
        shown = shown[len(taken) :]
        columns = (
            Column("$ A MILLION TOKENS", least=min(label, width), most=label, keep=99, fit="end"),
            *(Column(title, least=cells, most=cells, align="right", keep=50) for _, title, cells in taken),
        )
        fields = {field for field, _, _ in taken}
        drawn = [
            [Cell(name), *(Cell(money(row[field]) if field in row else glyphs.none) for field, _, _ in taken)]
            for name, row in rows
            if fields & row.keys()
        ]
        lines += lay_out(columns, drawn, width, glyphs, heading=HEADING)
    return lines


def _list(listed: Sequence[Listed], width: int, glyphs: Glyphs) -> list[Text]:
    rows = []
    for one in listed:
        row = one.card.levels[0][1].get("standard", {})
        more = [word for word, has in (
            ("own", one.origin == "own"), ("assumed", one.origin == "assumed"), ("steps", len(one.card.levels) > 1),
            ("tiers", len(one.card.listed) > 1), ("hours", bool(one.card.off_peak)), ("changes", bool(one.coming)),
        ) if has]  # fmt: skip
        if pieces := _named(row, _PIECES):
            more.insert(0, f"each: {pieces}")
        fields = ("input", "cached_input", "output")
        prices = [Cell(money(row[field]) if field in row else glyphs.none) for field in fields]
        rows.append([Cell(one.host or one.provider), Cell(clean(one.model, glyphs)), *prices, Cell(", ".join(more))])
    columns = (
        Column("PROVIDER" if not listed[0].host else "HOST", least=14, most=30, keep=6),
        Column("MODEL", least=20, most=70, keep=9),
        Column("INPUT", least=6, most=12, align="right", keep=8),
        Column("CACHED", least=6, most=12, align="right", keep=5),
        Column("OUTPUT", least=6, most=12, align="right", keep=7),
        Column("MORE", least=6, most=50, keep=4, fit="end"),
    )
    lines = lay_out(columns, rows, width, glyphs, heading=HEADING)
    words = f"{len(listed):,} names, $ a million tokens at the standard tier; name one to see its card whole"
    return [*lines, Text(words, "dim")]


# -- Words


def money(amount: Decimal) -> str:
    """Write dollars with at least two places and no needless zeros: 2.50, 0.0375, 0.000015."""
    text = f"{amount:f}"
    whole, _, rest = text.partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def _table_words(source: Source, width: int, glyphs: Glyphs) -> list[Text]:
    kind = "fetched" if source.fetched else "shipped"
    words = f"prices of {source.made} ({kind}), from {' and '.join(source.sources)}: {source.path}"
    return [Text(line) for line in wrap(clean(words, glyphs), width, _MOST_LINES, glyphs)]


def _fees(row: Mapping[str, Decimal]) -> str:
    return _named(row, _FEES)


def _named(row: Mapping[str, Decimal], names: Sequence[tuple[str, str]]) -> str:
    return ", ".join(f"{words} {money(row[field])}" for field, words in names if field in row)


def _joined(lines: Sequence[Text], width: int) -> Text:
    for line in lines:
        line.truncate(width)
        line.rstrip()
    return Text("\n", no_wrap=True).join(lines)
