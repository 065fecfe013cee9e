"""RateCard: a model's prices as integers, for the terms of one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from decimal import ROUND_CEILING, Decimal

FEMTOUSD_PER_NANOUSD = 1_000_000
"""Rates are kept in femto-dollars (10⁻¹⁵ $): a price of $0.000001 per million tokens is still a whole number."""

FEMTOUSD_PER_USD = 10**15
FEMTOUSD_PER_USD_PER_MILLION = 10**9
FEMTOUSD_PER_USD_PER_THOUSAND = 10**12

FEES = ("web_search", "file_search", "maps", "code_session")
"""Fields of a row in dollars per thousand: what a provider's tools cost, at any tier and place."""
PIECES = ("per_image", "per_character", "per_second_in", "per_second_out", "per_page", "per_query")
"""Fields of a row in dollars for one."""
BY_PIECE = frozenset((*FEES, *PIECES))
TOKENS = (
    "input", "cached_input", "cache_write", "cache_write_1h", "output", "reasoning", "audio_input", "cached_audio",
    "audio_output", "image_input", "cached_image", "video_input", "image_output",
)  # fmt: skip
"""Fields of a row in dollars per million tokens."""

UNLISTED_TIER_FACTORS = {
    "priority": Decimal(4),
    "ultrafast": Decimal(6),
    "fast": Decimal(6),
    "optimized": Decimal("1.25"),
    "annotated": Decimal(4),
}
"""What a dearer tier is taken to cost when the table has no row for it: no tier of any model in the table has a higher
factor (a test holds it). Anthropic's listed fast rows are at 2; older models' fast prices are not listed, so 6 is a
guess from above. Bedrock's latency-optimized models are listed a quarter above their standard price
(https://aws.amazon.com/bedrock/pricing). Pages that Mistral annotates are listed at two and a half times the others."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices in femto-dollars, named as the table's fields: of one token, tool call or piece.

    `per_second_in` and `per_second_out` are those of an hour: providers publish them so, or by the minute.
    """

    input: int
    cached_input: int
    cache_write: int
    cache_write_1h: int
    """Kept for an hour (Anthropic) or twelve (OpenAI)."""
    output: int
    reasoning: int
    audio_input: int
    cached_audio: int
    audio_output: int
    image_input: int
    cached_image: int
    image_output: int
    web_search: int
    file_search: int
    maps: int
    code_session: int
    per_image: int
    per_character: int
    per_second_in: int
    per_second_out: int
    per_page: int
    per_query: int

    def highest(self, other: Rates) -> Rates:
        """Give the dearer of the two for each price."""
        return Rates(*(max(getattr(self, field.name), getattr(other, field.name)) for field in fields(Rates)))


@dataclass(frozen=True, slots=True)
class RateCard:
    """A model's prices at one set of terms."""

    rates: Rates
    steps: tuple[tuple[int, Rates], ...] = ()
    """(input tokens, rates): a call with more input than that is priced at these rates as a whole; ascending."""
    guessed: frozenset[str] = frozenset()
    """The fields of `rates` that no list names for this model: taken from above."""
    tokenless: bool = False
    """True when the model is billed by the piece alone: its tokens cost nothing."""

    def at(self, input_tokens: int) -> Rates:
        """Give the rates of a call with so much input, cached input included."""
        found = self.rates
        for above, rates in self.steps:
            if input_tokens <= above:
                break
            found = rates
        return found

    def ascending(self) -> RateCard:
        """Make a longer prompt never cheaper than a shorter one, so that a bound on its length bounds its price."""
        steps, before = [], self.rates
        for above, rates in self.steps:
            before = before.highest(rates)
            steps.append((above, before))
        return RateCard(self.rates, tuple(steps), self.guessed, self.tokenless)


def dearest(cards: Iterable[RateCard]) -> RateCard:
    """Give the card that asks, for each price at each length of prompt, the most that any of some cards does."""
    first, *others = cards
    for card in others:
        if card == first:
            continue
        above = sorted({step for step, _ in (*first.steps, *card.steps)})
        first = RateCard(
            first.rates.highest(card.rates),
            tuple((step, first.at(step + 1).highest(card.at(step + 1))) for step in above),
            first.guessed | card.guessed,
            first.tokenless and card.tokenless,
        )
    return first


def femtousd(price: Decimal, per: int = FEMTOUSD_PER_USD_PER_MILLION) -> int:
    """Convert a price in dollars; exact down to nine decimals, beyond them rounded up."""
    return int((price * per).to_integral_value(rounding=ROUND_CEILING))


type Row = Mapping[str, Decimal]
"""A row of the table: field → price."""


@dataclass(frozen=True, slots=True)
class Fees:
    """Prices for what a model's row leaves out: tools and pieces, and audio where it is taken from another model."""

    prices: Row = field(default_factory=dict)
    guessed: frozenset[str] = frozenset()
    """The fields among them that are another model's or the dearest known, not the provider's own word."""
    first: bool = False
    """True when they count even where the row names a price, if they are dearer: the row is another model's."""


def compile_card(
    levels: Iterable[tuple[int, Mapping[str, Row]]],
    tiers: Iterable[str],
    *,
    kind: str,
    long_cache_factor: Decimal,
    fees: Fees,
    visual: bool = False,
    video: bool = False,
    factor: Decimal = Decimal(1),
    fill: Callable[[Row], Row] | None = None,
) -> RateCard:
    """Make the card of a model; with several tiers it holds the highest price of them.

    `levels` are (prompt length above which it applies, tier → row), ascending, the first at 0. `factor` is what the
    place adds to the model's own prices, fees excepted. `visual`: images may be among the input tokens without being
    counted apart, so where they are dearer all input is priced as such; `video`: what counts as images may be video.
    `long_cache_factor` times `input` is what a long-lived cache write costs where writes cost more than input and the
    table names no price for long ones. `fill` completes a row of the user's own, which is then taken at its word.
    """
    steps: list[tuple[int, Rates]] = []
    asked = tuple(tiers)
    base: Mapping[str, Row] = {}
    first: dict[str, Row] = {}
    guessed: set[str] = set()
    tokenless = False
    for above, rows in levels:
        base = base or rows
        found: Rates | None = None
        for tier in asked:
            row = _tier_row(tier, rows, base)
            # Tools and pieces cost the same after a long prompt, unless the step says otherwise.
            by_piece = {name: price for name, price in first.setdefault(tier, row).items() if name in BY_PIECE}
            row = _with_fees({**by_piece, **row}, fees, guessed)
            row = fill(row) if fill is not None else row
            tokenless = not steps and "input" not in row and "output" not in row
            rates = _rates(
                row, kind=kind, long_cache_factor=long_cache_factor, visual=visual, video=video, factor=factor,
                stated=fill is not None,
            )  # fmt: skip
            found = rates if found is None else found.highest(rates)
        if found is not None:
            steps.append((above, found))
    return RateCard(steps[0][1], tuple(steps[1:]), frozenset(guessed), tokenless)


def _with_fees(row: Row, fees: Fees, guessed: set[str]) -> Row:
    """Add the prices that a row leaves out; what is guessed is noted."""
    added = {
        name: price for name, price in fees.prices.items() if name not in row or (fees.first and price > row[name])
    }
    guessed.update(fees.guessed & added.keys())
    return {**row, **added}


def _tier_row(tier: str, rows: Mapping[str, Row], base: Mapping[str, Row]) -> Row:
    """Give the prices of a tier; what its row leaves out is the standard row's, raised as the tier raises input."""
    standard = rows.get("standard") or base["standard"]
    if tier == "standard":
        return standard
    if tier in rows:
        return completed(rows[tier], standard)
    if tier not in UNLISTED_TIER_FACTORS:
        return standard
    if rows is base or tier not in base:
        return _scaled(standard, UNLISTED_TIER_FACTORS[tier])
    return highest(standard, _tier_row(tier, base, base))


def completed(row: Row, standard: Row) -> Row:
    """Add what a row leaves out from the standard one, raised as input is raised.

    What costs as much as plain text in the standard row does so in the other too.
    """
    times = row["input"] / standard["input"] if "input" in row and standard.get("input") else Decimal(1)
    as_text = {name for name, text in _AS_TEXT.items() if text in row and standard.get(name) == standard.get(text)}
    rest = {name: price for name, price in standard.items() if name not in as_text}
    return {**_scaled(rest, max(Decimal(1), times)), **row}


_AS_TEXT = {
    "reasoning": "output", "audio_input": "input", "image_input": "input", "audio_output": "output",
    "image_output": "output",
}  # fmt: skip
"""What is priced like text where a row does not name it."""


def _scaled(row: Row, factor: Decimal) -> Row:
    return {field: price if field in FEES else price * factor for field, price in row.items()}


def highest(one: Row, two: Row) -> Row:
    """Give the dearer of two rows for each field."""
    return {field: max(one.get(field, Decimal(0)), two.get(field, Decimal(0))) for field in {*one, *two}}


def _rates(
    row: Row, *, kind: str, long_cache_factor: Decimal, visual: bool, video: bool, factor: Decimal, stated: bool
) -> Rates:
    """Fill what a row leaves out, always from above, and convert it."""
    nothing = Decimal(0)
    output = row.get("output", row.get("reasoning", nothing))
    text_input = row.get("input", output)
    if "output" not in row and kind not in _SILENT and "input" in row:
        output = max(output, text_input)  # a chat model with no price for output: unknown is never free
    cached = row.get("cached_input", text_input)
    write = row.get("cache_write", nothing)
    if not stated and write < text_input:
        # A write price below the input price is the storage that comes on top of it (OpenRouter's Gemini models).
        write += text_input
    long_write = row.get("cache_write_1h", text_input * long_cache_factor if write > text_input else write)
    audio = row.get("audio_input", text_input)
    cached_audio = row.get("cached_audio", audio if "audio_input" in row else cached)
    image = max(row.get("image_input", text_input), row.get("video_input", nothing) if video else nothing)
    cached_image = row.get("cached_image", image if image > text_input else cached)
    if visual:
        text_input, write = max(text_input, image), max(write, image)
        cached = max(cached, row.get("cached_image", nothing))
    tokens = {
        "input": text_input,
        "cached_input": cached,
        "cache_write": write,
        "cache_write_1h": long_write if stated else max(write, long_write),
        "output": output,
        "reasoning": row.get("reasoning", output),
        "audio_input": audio,
        "cached_audio": cached_audio,
        "audio_output": row.get("audio_output", output),
        "image_input": image,
        "cached_image": cached_image,
        "image_output": row.get("image_output", output),
    }
    return Rates(
        **{name: femtousd(price * factor) for name, price in tokens.items()},
        **{name: femtousd(row.get(name, nothing), FEMTOUSD_PER_USD_PER_THOUSAND) for name in FEES},
        **{name: femtousd(_one(name, row.get(name, nothing)) * factor, FEMTOUSD_PER_USD) for name in PIECES},
    )


def _one(name: str, price: Decimal) -> Decimal:
    """Give what one piece costs; of audio, an hour, without what the table's rounding to twelve decimals added."""
    if not name.startswith("per_second"):
        return price
    hour = price * 3600
    published = round(hour, 6)
    return published if abs(hour - published) <= 3600 * Decimal("1e-12") else hour


_SILENT = frozenset({"embedding", "rerank", "transcription", "ocr", "image", "speech", "search"})
"""Kinds of models that may be billed for input alone, or for output by the piece."""
