"""Cost: a usage times a card, rounded up once."""

from __future__ import annotations

from llmcap_addon.money import Nanousd, ceil_div
from llmcap_addon.pricing.rates import FEMTOUSD_PER_NANOUSD, RateCard, Rates
from llmcap_addon.usage import Usage


def cost(card: RateCard, usage: Usage) -> Nanousd:
    """Price a usage to the nano-dollar."""
    return rounded(exact_cost(card, usage))


def rounded(femtousd: int) -> Nanousd:
    """Round a sum of exact costs up to whole nano-dollars; once for each call."""
    return ceil_div(femtousd, FEMTOUSD_PER_NANOUSD)


def exact_cost(card: RateCard, usage: Usage) -> int:
    """Price a usage in femto-dollars.

    Cached, written and audio tokens are parts of `input_tokens`, audio and image tokens parts of `output_tokens`: each
    is taken out of its whole and priced at its own rate. A prompt (cached tokens included) longer than a step of the
    card reprices the whole call.
    """
    rates = card.at(usage.input_tokens)
    return _input(rates, usage) + _output(rates, usage) + usage.web_search_requests * rates.web_search


def _input(rates: Rates, usage: Usage) -> int:
    short_writes = usage.cache_write_tokens - usage.cache_write_1h_tokens
    plain = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
    # Providers don't say how much audio was written to the cache: fresh audio is taken from what was not written,
    # and only what does not fit there was written.
    fresh_audio = max(0, usage.input_audio_tokens - usage.cache_read_audio_tokens)
    plain_audio = min(fresh_audio, plain)
    return (
        (plain - plain_audio) * rates.input
        + plain_audio * rates.audio_input
        + (fresh_audio - plain_audio) * max(0, rates.audio_input - rates.cache_write)
        + (usage.cache_read_tokens - usage.cache_read_audio_tokens) * rates.cached_input
        + usage.cache_read_audio_tokens * rates.cached_audio
        + short_writes * rates.cache_write
        + usage.cache_write_1h_tokens * rates.cache_write_1h
    )


def _output(rates: Rates, usage: Usage) -> int:
    text = max(0, usage.output_tokens - usage.output_audio_tokens - usage.output_image_tokens)
    return (
        text * rates.output
        + usage.output_audio_tokens * rates.audio_output
        + usage.output_image_tokens * rates.image_output
    )
