"""Pace: how fast a stream's tokens come, and so how much to keep reserved ahead of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

LATENCY_ALLOWANCE_S = 0.25
"""How long a provider goes on generating after a cut: a round trip around the world, and its own buffers."""
MIN_MARGIN_TOKENS = 16
"""The least that is thought to be on its way: a few packets of a slow stream."""
FIRST_SLICE_TOKENS = 256
"""Reserved before a stream's speed is known: 1–5 s of most models."""
SLICE_S = 2.0
"""A slice lasts about so long, so that an extension (a store's round trip) is asked for well ahead of need."""
MAX_SLICE_TOKENS = 4_096
"""Fast models must not hold much more of a cap than they are about to use."""
RATE_FLOOR_S = 0.1
"""Bursts shorter than this say nothing about a stream's speed."""

HIDDEN_RATE = 500
"""Reasoning tokens a second that no model of OpenAI, Anthropic or Google exceeds: their fastest were measured at about
300. Bounds what a stream that broke off may have thought unseen; elsewhere (Cerebras and Groq pass 2,000) the whole
answer's bound is posted."""
HIDDEN_RATE_PROVIDERS = frozenset({"openai", "anthropic", "google"})
HIDDEN_START_TOKENS = 4_096
"""On top of the rate, for a burst at the beginning and a clock that started late."""


def hidden_tokens(provider: str, elapsed_s: float, bound: int) -> int:
    """Give the most that a stream can have reasoned unseen in a time; never more than `bound`."""
    if provider not in HIDDEN_RATE_PROVIDERS:
        return bound
    return min(bound, HIDDEN_START_TOKENS + ceil(max(0.0, elapsed_s) * HIDDEN_RATE))


@dataclass(slots=True)
class Pace:
    """The speed of one stream."""

    rate: float = 0.0
    """Tokens a second, since the first one."""
    _started_s: float | None = None
    _tokens: int = 0
    _seen_s: float = 0.0
    _largest_chunk: int = 0

    def see(self, tokens: int, now_s: float) -> None:
        """Take note that so many tokens have come by now."""
        if self._started_s is None:
            if not tokens:
                return
            self._started_s = now_s
        self._largest_chunk = max(self._largest_chunk, tokens - self._tokens)
        self._tokens = tokens
        self._seen_s = now_s
        self.rate = tokens / max(now_s - self._started_s, RATE_FLOOR_S)

    @property
    def is_young(self) -> bool:
        """True until the speed can be told."""
        return self._started_s is None or self._seen_s - self._started_s < RATE_FLOOR_S

    @property
    def margin(self) -> int:
        """Tokens that may be on their way, and are billed even if the stream is cut now."""
        margin = max(MIN_MARGIN_TOKENS, ceil(self.rate * LATENCY_ALLOWANCE_S))
        # One large first chunk is no speed: a first slice is what 1,000 tokens a second send in the time allowed.
        return min(margin, FIRST_SLICE_TOKENS) if self.is_young else margin

    def unseen(self, now_s: float) -> int:
        """Tokens that may have been generated, unseen, by the end of a stream that breaks off now.

        Those on their way, and what was ready of the next chunk; while the speed is unknown, a whole first slice.
        """
        if self.is_young:
            return FIRST_SLICE_TOKENS
        ready = ceil(self.rate * max(0.0, now_s - self._seen_s))
        return self.margin + min(ready, self._largest_chunk)

    @property
    def ahead(self) -> int:
        """Tokens to stay ahead by: the margin, and a chunk like the largest before it can be judged."""
        return self.margin + self._largest_chunk

    @property
    def slice(self) -> int:
        """Tokens to reserve at a time."""
        return min(MAX_SLICE_TOKENS, max(FIRST_SLICE_TOKENS, ceil(self.rate * SLICE_S)))
