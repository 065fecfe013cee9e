"""The truth of the bill: a small price table written by hand, with arithmetic that shares nothing with llmcap_addon.

Prices are the providers' public list prices in November 2026; whole pico-dollars (10⁻¹² $) per token, so that every
sum is exact: $1 per million tokens is 1,000,000 pico-dollars a token.
"""

from __future__ import annotations

from dataclasses import dataclass

_PICO_USD_PER_NANO_USD = 1000


@dataclass(frozen=True, slots=True)
class Price:
    """What one model costs, in pico-dollars a token."""

    input: int
    cache_read: int
    output: int
    cache_write: int = 0
    """0: writing to the cache is billed as plain input."""
    cache_write_1h: int = 0


@dataclass(frozen=True, slots=True)
class Bill:
    """What a stand-in bills for one request; `input_tokens` includes the cached ones, `output_tokens` the hidden."""

    model: str
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    """Written for any lifetime."""
    cache_write_1h_tokens: int = 0
    """The part of `cache_write_tokens` that is kept for an hour."""
    output_tokens: int = 0
    service_tier: str = ""


PRICES = {
    "gpt-4o-mini": Price(input=150_000, cache_read=75_000, output=600_000),
    "gpt-4o": Price(input=2_500_000, cache_read=1_250_000, output=10_000_000),
    "o4-mini": Price(input=1_100_000, cache_read=275_000, output=4_400_000),
    "gpt-realtime": Price(input=32_000_000, cache_read=400_000, output=64_000_000),  # of sound
    "gpt-realtime@text": Price(input=4_000_000, cache_read=400_000, output=16_000_000),
    "gpt-3.5-turbo-instruct": Price(input=1_500_000, cache_read=1_500_000, output=2_000_000),
    "gpt-5.1-codex": Price(input=1_250_000, cache_read=125_000, output=10_000_000),
    "gpt-4o-transcribe": Price(input=6_000_000, cache_read=6_000_000, output=10_000_000),  # of audio
    "gpt-image-1.5": Price(input=5_000_000, cache_read=1_250_000, output=32_000_000),  # text in, pictures out
    "whisper-1": Price(input=100_000, cache_read=100_000, output=0),  # a millisecond: $0.006 a minute
    "tts-1": Price(input=15_000_000, cache_read=15_000_000, output=0),  # a character
    "text-embedding-3-small": Price(input=20_000, cache_read=20_000, output=0),
    "claude-sonnet-4-5": Price(
        input=3_000_000, cache_read=300_000, output=15_000_000, cache_write=3_750_000, cache_write_1h=6_000_000
    ),
    "claude-haiku-4-5": Price(
        input=1_000_000, cache_read=100_000, output=5_000_000, cache_write=1_250_000, cache_write_1h=2_000_000
    ),
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0": Price(  # at Bedrock, through a profile of the US
        input=3_300_000, cache_read=330_000, output=16_500_000, cache_write=4_125_000, cache_write_1h=6_600_000
    ),
    "openai.gpt-oss-120b-1:0": Price(input=150_000, cache_read=150_000, output=600_000),
    "anthropic.claude-haiku-4-5": Price(  # at Bedrock, in Anthropic's shape
        input=1_000_000, cache_read=100_000, output=5_000_000, cache_write=1_250_000, cache_write_1h=2_000_000
    ),
    "gemini-2.5-flash": Price(input=300_000, cache_read=30_000, output=2_500_000),
    "text-embedding-005": Price(input=100_000, cache_read=100_000, output=0),
    "gemini-embedding-001": Price(input=150_000, cache_read=150_000, output=0),
    # On Vertex, in a region.
    "gemini-3.6-flash@regional": Price(input=825_000, cache_read=82_500, output=4_125_000),
    "claude-haiku-4-5@regional": Price(
        input=1_100_000, cache_read=110_000, output=5_500_000, cache_write=1_375_000, cache_write_1h=2_200_000
    ),
    "command-a-03-2025": Price(input=2_500_000, cache_read=2_500_000, output=10_000_000),
    "embed-v4.0": Price(input=120_000, cache_read=120_000, output=0),
    "rerank-v3.5": Price(input=2_000_000_000, cache_read=0, output=0),  # a search unit
    "mistral-large-2512": Price(input=500_000, cache_read=50_000, output=1_500_000),
    "openai/gpt-5-mini": Price(input=262_500, cache_read=26_250, output=2_100_000),  # an upstream dearer than listed
    "sonar": Price(input=1_000_000, cache_read=1_000_000, output=1_000_000),
    # Live: text in, sound out.
    "gemini-3.8-live": Price(input=750_000, cache_read=750_000, output=12_000_000),
    "gemini-live-2.5-flash-native-audio": Price(input=500_000, cache_read=500_000, output=12_000_000),
    "gemini-2.5-flash-native-audio-latest": Price(input=500_000, cache_read=500_000, output=12_000_000),
    "gemini-2.0-flash": Price(input=100_000, cache_read=25_000, output=400_000),
}

PRIORITY_PRICES = {
    "gpt-4o-mini": Price(input=250_000, cache_read=125_000, output=1_000_000),
    "gpt-4o": Price(input=4_250_000, cache_read=2_125_000, output=17_000_000),
}
"""What OpenAI bills when the response says `service_tier: priority`."""


def cost_nanousd(bill: Bill) -> int:
    """Price a bill in nano-dollars, rounded up once; KeyError for a model that is not in the table."""
    price = (PRIORITY_PRICES if bill.service_tier == "priority" else PRICES)[bill.model]
    written = bill.cache_write_tokens
    written_5m = written - bill.cache_write_1h_tokens
    plain = bill.input_tokens - bill.cache_read_tokens - written
    if min(plain, written_5m) < 0:
        raise ValueError(f"the parts of the input exceed the whole: {bill}")
    pico_usd = (
        plain * price.input
        + bill.cache_read_tokens * price.cache_read
        + written_5m * (price.cache_write or price.input)
        + bill.cache_write_1h_tokens * (price.cache_write_1h or price.cache_write or price.input)
        + bill.output_tokens * price.output
    )
    parts = 2 if bill.service_tier == "batch" else 1  # every provider asks half for a batch
    return -(-pico_usd // (_PICO_USD_PER_NANO_USD * parts))
