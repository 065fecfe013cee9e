"""Usage: what a call used, in tokens, as the provider reported it or as we counted it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from operator import add, attrgetter

from llmcap_addon.money import Nanousd


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one call; totals include their subsets, which stand beside them.

    Names follow OpenTelemetry's `gen_ai.usage.*` (`input_tokens` includes cached, `output_tokens` includes reasoning).
    Raises ValueError when a subset is larger than its total or a count is negative.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    """Part of `input_tokens`: read from the provider's cache."""
    cache_write_tokens: int = 0
    """Part of `input_tokens`: written to the provider's cache, for any lifetime."""
    cache_write_1h_tokens: int = 0
    """Part of `cache_write_tokens`: kept for an hour (Anthropic) or 12 hours (OpenAI)."""
    reasoning_tokens: int = 0
    """Part of `output_tokens`: thinking."""
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    cache_read_audio_tokens: int = 0
    """Part of `cache_read_tokens` and of `input_audio_tokens`."""
    output_image_tokens: int = 0
    web_search_requests: int = 0
    """Searches the provider ran and bills one by one."""
    input_image_tokens: int = 0
    """Part of `input_tokens`: images and video, where the provider counts them apart."""
    cache_read_image_tokens: int = 0
    """Part of `cache_read_tokens` and of `input_image_tokens`."""
    file_search_requests: int = 0
    """Searches in stored files or collections, billed one by one."""
    maps_requests: int = 0
    """Answers grounded in maps, billed one by one."""
    code_sessions: int = 0
    """Containers in which the provider ran code, billed one by one."""
    output_images: int = 0
    """Pictures billed by the piece, not by tokens."""
    input_characters: int = 0
    """Text billed by the character (speech)."""
    input_audio_ms: int = 0
    """Audio billed by time (transcription), in milliseconds."""
    output_audio_ms: int = 0
    pages: int = 0
    """Pages of documents, billed one by one (OCR)."""
    search_units: int = 0
    """Cohere's unit of a rerank: one query over up to 100 documents."""

    def __post_init__(self) -> None:
        counts = _COUNTS(self)  # all at once: several usages are made per call
        if min(counts) < 0:
            name = next(name for name, count in zip(_NAMES, counts, strict=True) if count < 0)
            raise ValueError(f"{name} ({getattr(self, name)}) is negative")
        for part, whole in _SUBSETS:
            if counts[part] > counts[whole]:
                raise ValueError(f"{_NAMES[part]} ({counts[part]}) exceeds {_NAMES[whole]} ({counts[whole]})")
        for one, two, whole in _DISJOINT:
            if counts[one] + counts[two] > counts[whole]:
                raise ValueError(f"{_NAMES[one]} and {_NAMES[two]} together exceed {_NAMES[whole]}")

    def plus(self, other: Usage) -> Usage:
        """Add two usages, count by count."""
        return Usage(*map(add, _COUNTS(self), _COUNTS(other)))


_NAMES = tuple(field.name for field in fields(Usage))
_COUNTS = attrgetter(*_NAMES)
_AT = {name: place for place, name in enumerate(_NAMES)}
_SUBSETS = (
    (_AT["cache_read_tokens"], _AT["input_tokens"]),
    (_AT["cache_write_tokens"], _AT["input_tokens"]),
    (_AT["cache_write_1h_tokens"], _AT["cache_write_tokens"]),
    (_AT["input_audio_tokens"], _AT["input_tokens"]),
    (_AT["cache_read_audio_tokens"], _AT["cache_read_tokens"]),
    (_AT["reasoning_tokens"], _AT["output_tokens"]),
    (_AT["input_image_tokens"], _AT["input_tokens"]),
    (_AT["cache_read_image_tokens"], _AT["cache_read_tokens"]),
    (_AT["output_audio_tokens"], _AT["output_tokens"]),
    (_AT["output_image_tokens"], _AT["output_tokens"]),
)
_DISJOINT = (
    (_AT["cache_read_tokens"], _AT["cache_write_tokens"], _AT["input_tokens"]),
    (_AT["input_audio_tokens"], _AT["input_image_tokens"], _AT["input_tokens"]),
    (_AT["cache_read_audio_tokens"], _AT["cache_read_image_tokens"], _AT["cache_read_tokens"]),
    (_AT["output_audio_tokens"], _AT["output_image_tokens"], _AT["output_tokens"]),
)

NO_USAGE = Usage()
"""Nothing was used."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The conditions a provider prices a call under; an empty string where nothing was said.

    In a request they are what was asked for, in a response what was applied, and the response's are what is billed.
    """

    service_tier: str = ""
    """"default", "standard", "flex", "priority", "batch", "auto" … as the provider spells it, in lower case."""
    speed: str = ""
    """Anthropic's "standard" or "fast", Bedrock's "optimized" (its performanceConfig.latency)."""
    geography: str = ""
    """Anthropic's `inference_geo`, or the region a host name stands for ("us", "eu")."""


NO_TERMS = Terms()
"""Nothing was said."""

BATCH_PART = "BATCH"
"""The service tier of a request that is sent as a part of a batch. No request can claim it of itself, for what a body
says is taken in lower case; only an answer's "batch" is believed."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a call that is billed by itself: a pass of its own, or the work of another model."""

    usage: Usage
    model: str = ""
    """Empty for the call's own."""
    terms: Terms = NO_TERMS


@dataclass(slots=True)
class Reading:
    """What a meter has understood of a response so far; grows while the response arrives."""

    usage: Usage | None = None
    """As the provider reported it, newest last; None while it has said nothing. A reported 0 stays 0."""
    final: bool = False
    """True once the provider has said its last word on usage."""
    counted_output_tokens: int = 0
    """Output seen in the body and counted by us, from above."""
    counted_web_search_requests: int = 0
    """Searches seen in the body; they are in `usage` too once that is there."""
    counted_at_usage: int | None = None
    """`counted_output_tokens` when `usage` last told all output so far, hidden reasoning too (Gemini does so in every
    chunk); None where usage comes at the end only."""
    shares: tuple[Share, ...] = ()
    """The parts that `usage` is the sum of, where they are billed apart; empty when it is billed as one."""
    billed: Nanousd | None = None
    """What the provider itself says the call cost; None where it does not. It is believed once the reading is final."""
    model: str = ""
    """The model the response names; empty while unknown."""
    terms: Terms = NO_TERMS
    failed: bool = False
    """True when the response is, or ended with, the provider's own error."""
    billing: str = ""
    """How the response says it is paid ("api", "plan"); empty where it does not say."""
    job: str = ""
    """The provider's id of work that goes on after this answer (a background response, a batch); its bill comes with
    the answer to a later request. Empty for a call whose own answer is its bill."""
    unreadable: str = ""
    """Why the body could not be understood; empty while it could. Such a call is never settled below its bound."""
