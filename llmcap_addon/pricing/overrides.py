"""PriceOverride: prices of the user's own, from `prices:` in caps.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from llmcap_addon.pricing.hours import Hours
from llmcap_addon.pricing.rates import Row, completed
from llmcap_addon.pricing.table import Card, Levels

_NOTHING: Mapping[str, Decimal] = {}
type _Amount = Decimal | int | str
_WRITE_CLAUDE, _LONG_WRITE_CLAUDE = Decimal("1.25"), Decimal(2)
"""https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing"""


@dataclass(frozen=True, slots=True)
class OwnRows:
    """What one level of a user's price states: its row, tiers that differ, and what holds above so many tokens."""

    row: Row
    tiers: Mapping[str, Row]
    above: Mapping[int, OwnRows]

    def levels(self) -> Levels:
        """Give them in the table's form; what a tier or a step leaves out is the standard row's, raised with input.

        A tier that a step leaves out is what it was before the step, raised as the standard row is.
        """
        named = {*self.tiers, *(tier for step in self.above.values() for tier in step.tiers)}
        tiers = {tier: completed(self.tiers.get(tier, self.row), self.row) for tier in sorted(named)}
        levels: list[tuple[int, Mapping[str, Row]]] = [(0, {"standard": self.row, **tiers})]
        before = self.row
        for above in sorted(self.above):
            step = self.above[above]
            standard = completed(step.row, before)
            times = _times(standard, before)
            raised = {tier: {name: price * times for name, price in row.items()} for tier, row in tiers.items()}
            tiers = raised | {tier: completed(row, standard) for tier, row in step.tiers.items()}
            levels.append((above, {"standard": standard, **tiers}))
            before = standard
        return tuple(levels)


def _times(row: Row, before: Row) -> Decimal:
    ratios = (row[name] / before[name] for name in ("input", "output") if row.get(name) and before.get(name))
    return max((Decimal(1), *ratios))


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """A model's prices as the user states them; what they don't name is the same at any tier, place and hour."""

    cards: tuple[tuple[date, Card], ...]
    """(first day, prices), in the order of time."""

    def __hash__(self) -> int:
        # A card holds mappings; the days are enough to keep overrides apart in a dictionary.
        return hash(tuple(day for day, _ in self.cards))

    @classmethod
    def flat(cls, input: _Amount, output: _Amount, **others: _Amount) -> PriceOverride:  # noqa: A002 (the field's name)
        """Make one that is a single row: fields of the table's rows, dollars."""
        row = {"input": Decimal(input), "output": Decimal(output)}
        row |= {name: Decimal(price) for name, price in others.items()}
        return cls(((date.min, own_card(OwnRows(row, _NO_TIERS, {}))),))

    def card(self, day: date) -> Card | None:
        """Give the prices that apply on a day; None before the first."""
        return next((card for first, card in reversed(self.cards) if first <= day), None)


_NO_TIERS: Mapping[str, Row] = {}


def own_card(
    rows: OwnRows, geography: Mapping[str, Decimal] = _NOTHING, off_peak: Sequence[tuple[Hours, OwnRows]] = ()
) -> Card:
    """Make the card of a user's price; inside hours, what is left out is as outside them, and never dearer for that."""
    levels = rows.levels()
    return Card(
        levels,
        geography,
        frozenset(levels[0][1]),
        tuple((hours, _inside(part, rows).levels()) for hours, part in off_peak),
    )


def _inside(part: OwnRows, outside: OwnRows) -> OwnRows:
    return OwnRows({**outside.row, **part.row}, part.tiers or outside.tiers, part.above or outside.above)


def filled(row: Row, *, anthropic: bool) -> Row:
    """Complete a row of a user's: what it leaves out costs as the nearest thing that it names.

    Tokens that no price was named for cost nothing only where the row names none at all, but prices by the piece.
    Writes to Anthropic's cache cost 1.25 times the input, for an hour twice, unless the row says otherwise.
    """
    if "input" not in row and "output" not in row:
        return row
    nothing = Decimal(0)
    text, output = row.get("input", nothing), row.get("output", nothing)
    cached = row.get("cached_input", text)
    write = row.get("cache_write", text * _WRITE_CLAUDE if anthropic else text)
    audio, image = row.get("audio_input", text), row.get("image_input", text)
    return {
        "input": text,
        "cached_input": cached,
        "cache_write": write,
        "cache_write_1h": max(write, text * _LONG_WRITE_CLAUDE) if anthropic else write,
        "output": output,
        "reasoning": output,
        "audio_input": audio,
        "cached_audio": audio if "audio_input" in row else cached,
        "audio_output": output,
        "image_input": image,
        "cached_image": image if "image_input" in row else cached,
        "image_output": output,
        **row,
    }
