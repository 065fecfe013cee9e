"""RateCard: a model's prices as integers, for the terms of one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from decimal import ROUND_CEILING, Decimal

FEMTOUSD_PER_NANOUSD = 1_000_000
"""Rates are kept in femto-dollars (10⁻¹⁵ $): a price of $0.000001 per million tokens is still a whole number."""

FEMTOUSD_PER_USD_PER_MILLION = 10**9
FEMTOUSD_PER_USD_PER_THOUSAND = 10**12

FALLBACK_WEB_SEARCH = Decimal(35)
"""Dollars per thousand searches where no price is known; the dearest that a provider here asks (Google, Gemini 2)."""

UNLISTED_TIER_FACTORS = {"priority": Decimal(4), "ultrafast": Decimal(6), "fast": Decimal(6)}
"""What a dearer tier is taken to cost when the table has no row for it: no tier of any model in the table has a higher
factor (a test holds it). Anthropic's listed fast rows are at 2; older models' fast prices are not listed, so 6 is a
guess from above."""


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """A price of the user's own, from `prices:` in caps.yaml, in dollars per million tokens; the same at any terms."""

    input: Decimal
    output: Decimal
    """0 for embeddings."""
    cached_input: Decimal | None = None
    """None: as `input`."""
    cache_write: Decimal | None = None
    """None: 1.25 times `input` (2 times for an hour) on Anthropic's API, else as `input`."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices in femto-dollars: per token, and per search for `web_search`."""

    input: int
    cached_input: int
    cache_write: int
    cache_write_1h: int
    """Kept for an hour (Anthropic) or twelve (OpenAI)."""
    output: int
    audio_input: int
    cached_audio: int
    audio_output: int
    image_output: int
    web_search: int

    def highest(self, other: Rates) -> Rates:
        """Give the dearer of the two for each price."""
        return Rates(*(max(getattr(self, field.name), getattr(other, field.name)) for field in fields(Rates)))


@dataclass(frozen=True, slots=True)
class RateCard:
    """A model's prices at one set of terms."""

    rates: Rates
    steps: tuple[tuple[int, Rates], ...] = ()
    """(input tokens, rates): a call with more input than that is priced at these rates as a whole; ascending."""

    def at(self, input_tokens: int) -> Rates:
        """Give the rates of a call with so much input, cached input included."""
        found = self.rates
        for above, rates in self.steps:
            if input_tokens <= above:
                break
            found = rates
        return found


def femtousd(price: Decimal, per: int = FEMTOUSD_PER_USD_PER_MILLION) -> int:
    """Convert a price in dollars; exact down to nine decimals, beyond them rounded up."""
    return int((price * per).to_integral_value(rounding=ROUND_CEILING))


type Row = Mapping[str, Decimal]
"""A row of the table: field → price."""


def compile_card(
    levels: Iterable[tuple[int, Mapping[str, Row]]],
    tiers: Iterable[str],
    *,
    kind: str,
    long_cache_factor: Decimal,
    visual: bool = False,
    factor: Decimal = Decimal(1),
    web_search: Decimal = FALLBACK_WEB_SEARCH,
) -> RateCard:
    """Make the card of a model; with several tiers it holds the highest price of them.

    `levels` are (prompt length above which it applies, tier → row), ascending, the first at 0. `factor` is what the
    place adds to token prices. `visual`: images or video may be among the input tokens, which no provider here counts
    apart from text, so where they are dearer all input is priced as such. `long_cache_factor` times `input` is what a
    long-lived cache write costs where writes cost more than input and the table names no price for long ones.
    """
    steps: list[tuple[int, Rates]] = []
    asked = tuple(tiers)
    base: Mapping[str, Row] = {}
    for above, rows in levels:
        base = base or rows
        found: Rates | None = None
        for tier in asked:
            row = _tier_row(tier, rows, base)
            rates = _rates(
                row, kind=kind, long_cache_factor=long_cache_factor, visual=visual, factor=factor, web_search=web_search
            )
            found = rates if found is None else found.highest(rates)
        if found is not None:
            steps.append((above, found))
    return RateCard(steps[0][1], tuple(steps[1:]))


def _tier_row(tier: str, rows: Mapping[str, Row], base: Mapping[str, Row]) -> Row:
    """Give the prices of a tier; what its row leaves out is the standard row's, raised as the tier raises input."""
    standard = rows.get("standard") or base["standard"]
    if tier == "standard":
        return standard
    if tier in rows:
        row = rows[tier]
        times = row["input"] / standard["input"] if "input" in row and standard.get("input") else Decimal(1)
        return {**_scaled(standard, max(Decimal(1), times)), **row}
    if tier not in UNLISTED_TIER_FACTORS:
        return standard
    if rows is base or tier not in base:
        return _scaled(standard, UNLISTED_TIER_FACTORS[tier])
    return _highest(standard, _tier_row(tier, base, base))


def _scaled(row: Row, factor: Decimal) -> Row:
    return {field: price if field == "web_search" else price * factor for field, price in row.items()}


def _highest(one: Row, two: Row) -> Row:
    return {field: max(one.get(field, Decimal(0)), two.get(field, Decimal(0))) for field in {*one, *two}}


def _rates(
    row: Row, *, kind: str, long_cache_factor: Decimal, visual: bool, factor: Decimal, web_search: Decimal
) -> Rates:
    """Fill what a row leaves out, always from above, and convert it."""
    output = max(row.get("output", Decimal(0)), row.get("reasoning", Decimal(0)))
    text_input = row.get("input", output)
    if "output" not in row and kind != "embedding":
        output = max(output, text_input)  # a chat model with no price for output: unknown is never free
    cached = row.get("cached_input", text_input)
    # A write price below the input price is the storage that comes on top of it (OpenRouter's Gemini models).
    write = row.get("cache_write", Decimal(0))
    write = write if write >= text_input else text_input + write
    long_write = row.get("cache_write_1h", text_input * long_cache_factor if write > text_input else write)
    audio = row.get("audio_input", text_input)
    cached_audio = row.get("cached_audio", audio if "audio_input" in row else cached)
    if visual:
        text_input = max(text_input, row.get("image_input", Decimal(0)), row.get("video_input", Decimal(0)))
        cached = max(cached, row.get("cached_image", Decimal(0)))
    return Rates(
        input=femtousd(text_input * factor),
        cached_input=femtousd(cached * factor),
        cache_write=femtousd(max(write, text_input) * factor),
        cache_write_1h=femtousd(max(write, long_write, text_input) * factor),
        output=femtousd(output * factor),
        audio_input=femtousd(audio * factor),
        cached_audio=femtousd(cached_audio * factor),
        audio_output=femtousd(row.get("audio_output", output) * factor),
        image_output=femtousd(row.get("image_output", output) * factor),
        web_search=femtousd(row.get("web_search", web_search), FEMTOUSD_PER_USD_PER_THOUSAND),
    )


def override_card(price: PriceOverride, *, anthropic: bool, web_search: Decimal = FALLBACK_WEB_SEARCH) -> RateCard:
    """Make the card of a user's own price: the same for every tier, place and length of prompt."""
    cached = price.input if price.cached_input is None else price.cached_input
    if price.cache_write is None:
        write = price.input * Decimal("1.25") if anthropic else price.input
    else:
        write = price.cache_write
    long_write = max(write, 2 * price.input) if anthropic else write
    rate_input, rate_output = femtousd(price.input), femtousd(price.output)
    return RateCard(
        Rates(
            input=rate_input,
            cached_input=femtousd(cached),
            cache_write=femtousd(write),
            cache_write_1h=femtousd(long_write),
            output=rate_output,
            audio_input=rate_input,
            cached_audio=femtousd(cached),
            audio_output=rate_output,
            image_output=rate_output,
            web_search=femtousd(web_search, FEMTOUSD_PER_USD_PER_THOUSAND),
        )
    )
