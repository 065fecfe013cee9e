"""Cost: a usage times a card, rounded up once."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter

from llmcap_addon.money import Nanousd, ceil_div
from llmcap_addon.pricing.rates import FEMTOUSD_PER_NANOUSD, RateCard, Rates
from llmcap_addon.usage import NO_USAGE, Usage

_BY_PIECE = (
    ("web_search_requests", "web_search", 1),
    ("file_search_requests", "file_search", 1),
    ("maps_requests", "maps", 1),
    ("code_sessions", "code_session", 1),
    ("output_images", "per_image", 1),
    ("input_characters", "per_character", 1),
    ("input_audio_ms", "per_second_in", 3_600_000),
    ("output_audio_ms", "per_second_out", 3_600_000),
    ("pages", "per_page", 1),
    ("search_units", "per_query", 1),
)
"""(what a usage counts, the rate of it, how many of the first make one of the second)."""
COUNTS = tuple(count for count, _, _ in _BY_PIECE)
"""What a usage counts by the piece, its provider's tools included."""
_MODEL_PIECES = attrgetter(*(count for count, rate, _ in _BY_PIECE if rate.startswith("per_")))
_PIECES = attrgetter(*COUNTS)
_GUESSABLE = (
    *((count, rate) for count, rate, _ in _BY_PIECE),
    ("input_audio_tokens", "audio_input"),
    ("cache_read_audio_tokens", "cached_audio"),
    ("output_audio_tokens", "audio_output"),
)
_GUESSABLE_COUNTS = attrgetter(*(count for count, _ in _GUESSABLE))


def cost(card: RateCard, usage: Usage) -> Nanousd:
    """Price a usage to the nano-dollar."""
    return rounded(exact_cost(card, usage))


def rounded(femtousd: int) -> Nanousd:
    """Round a sum of exact costs up to whole nano-dollars; once for each call."""
    return ceil_div(femtousd, FEMTOUSD_PER_NANOUSD)


def exact_cost(card: RateCard, usage: Usage) -> int:
    """Price a usage in femto-dollars.

    Cached, written, audio and image tokens are parts of `input_tokens`, reasoning, audio and image tokens parts of
    `output_tokens`: each is taken out of its whole and priced at its own rate. A prompt (cached tokens included) longer
    than a step of the card reprices the whole call.
    """
    rates = card.at(usage.input_tokens)
    return _input(rates, usage) + _output(rates, usage) + cost_by_piece(rates, usage)


def cost_by_piece(rates: Rates, usage: Usage) -> int:
    """Price what is not billed by tokens: tools, pictures, characters, time, pages; in femto-dollars."""
    counts = _PIECES(usage)
    if not any(counts):
        return 0
    return sum(
        ceil_div(count * getattr(rates, rate), size)
        for count, (_, rate, size) in zip(counts, _BY_PIECE, strict=True)
        if count
    )


def has_pieces(usage: Usage) -> bool:
    """True when a usage counts something that a model (not its tools) is billed for by the piece."""
    return any(_MODEL_PIECES(usage))


def rests_on_a_guess(card: RateCard, usage: Usage) -> bool:
    """True when a usage counts something whose price no list names."""
    if not card.guessed or not any(counts := _GUESSABLE_COUNTS(usage)):
        return False
    return any(count and rate in card.guessed for count, (_, rate) in zip(counts, _GUESSABLE, strict=True))


def _input(rates: Rates, usage: Usage) -> int:
    plain = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
    if not (usage.input_audio_tokens or usage.input_image_tokens):
        written = usage.cache_write_tokens - usage.cache_write_1h_tokens
        return (
            plain * rates.input
            + written * rates.cache_write
            + usage.cache_write_1h_tokens * rates.cache_write_1h
            + usage.cache_read_tokens * rates.cached_input
        )
    return _input_of_kinds(rates, usage, plain)


def _input_of_kinds(rates: Rates, usage: Usage, plain: int) -> int:
    read_text = usage.cache_read_tokens - usage.cache_read_audio_tokens - usage.cache_read_image_tokens
    total = usage.cache_read_audio_tokens * rates.cached_audio + usage.cache_read_image_tokens * rates.cached_image
    # Providers don't say how much audio or how many images were written to the cache: they are taken from what was not
    # written, then from what was, and only what does not fit there from text that was read.
    left = [
        (plain, rates.input),
        (usage.cache_write_tokens - usage.cache_write_1h_tokens, rates.cache_write),
        (usage.cache_write_1h_tokens, rates.cache_write_1h),
        (read_text, rates.cached_input),
    ]
    fresh_audio = max(0, usage.input_audio_tokens - usage.cache_read_audio_tokens)
    fresh_image = max(0, usage.input_image_tokens - usage.cache_read_image_tokens)
    kinds = ((fresh_audio, rates.audio_input), (fresh_image, rates.image_input))
    for tokens, rate in sorted(kinds, key=lambda kind: kind[1], reverse=True):
        wanted = tokens
        for number, (room, base) in enumerate(left):
            taken = min(wanted, room)
            total += taken * (max(rate, base) if number else rate)
            left[number] = (room - taken, base)
            wanted -= taken
    return total + sum(room * base for room, base in left)


def _output(rates: Rates, usage: Usage) -> int:
    shown = usage.output_tokens - usage.output_audio_tokens - usage.output_image_tokens
    reasoning = min(usage.reasoning_tokens, shown)
    return (
        (shown - reasoning) * rates.output
        + reasoning * rates.reasoning
        + usage.output_audio_tokens * rates.audio_output
        + usage.output_image_tokens * rates.image_output
    )


def pieces_of(usage: Usage, web_searches: int) -> Usage:
    """Keep what is billed by the piece, with so many further searches."""
    if usage == NO_USAGE and not web_searches:
        return NO_USAGE
    counts = {count: getattr(usage, count) for count in COUNTS}
    counts["web_search_requests"] += web_searches
    return replace(NO_USAGE, **counts)
