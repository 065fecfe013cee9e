"""CallQuote: the worst case of one call, priced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from llmcap_addon.call import Call
from llmcap_addon.money import Nanousd, ceil_div
from llmcap_addon.pricing.cost import cost_by_piece
from llmcap_addon.pricing.family import Factor
from llmcap_addon.pricing.rates import FEMTOUSD_PER_NANOUSD, RateCard, Rates, dearest
from llmcap_addon.usage import Usage

MAX_KNOWN = 16
"""Lengths of input whose worst cost is remembered; nearly all calls have one or two."""


def one_of(call: Call) -> tuple[str, ...]:
    """Name the models of which one will answer."""
    return (call.model, *call.instead)


def any_of(quotes: Sequence[CallQuote]) -> CallQuote:
    """Give what bounds each of some quotes: of models one of which will answer."""
    first = quotes[0]
    if len(quotes) == 1:
        return first
    return replace(
        first,
        input_tokens=max(quote.input_tokens for quote in quotes),
        output_tokens=max(quote.output_tokens for quote in quotes),
        hidden_output_tokens=max(quote.hidden_output_tokens for quote in quotes),
        assumed=any(quote.assumed for quote in quotes),
        card=dearest(quote.card for quote in quotes),
        has_audio=any(quote.has_audio for quote in quotes),
        family=max((quote.family for quote in quotes), key=Factor.size),
        beside=max(quote.beside for quote in quotes),
    )


@dataclass(frozen=True, slots=True)
class CallQuote:
    """The worst case of one call, as `quote.Quote` tells it."""

    input_tokens: int
    output_tokens: int
    hidden_output_tokens: int
    assumed: bool
    limited: bool
    card: RateCard
    """The highest price of every tier, place and hour that could apply."""
    pieces: Usage
    """The most that is billed by the piece, searches included; its tokens are not read."""
    has_audio: bool
    cache_write: Literal["none", "short", "long"]
    family: Factor
    """How the model's tokenizer compares with the one we count with."""
    beside: int = 0
    """What further models that the request allows may cost on top, in femto-dollars."""
    _known: dict[int, tuple[int, int]] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What `_worst` has said already: each chunk of a stream asks several times, for one or two lengths of input."""

    def least_tokens(self, counted: int) -> int:
        """Undo the factor that `count_output` put on top of its count."""
        return counted * self.family.denominator // self.family.numerator

    def amount(self, output_tokens: int, input_tokens: int | None = None) -> Nanousd:
        """Price so much output on top of the input bound (or so much input) at the worst it could cost."""
        fixed, each = self._worst(input_tokens)
        return ceil_div(fixed + output_tokens * each, FEMTOUSD_PER_NANOUSD)

    def affordable_output_tokens(self, amount: Nanousd) -> int:
        """Give the most output tokens whose `amount` is not above this; all of them where output is free."""
        fixed, each = self._worst(None)
        left = amount * FEMTOUSD_PER_NANOUSD - fixed
        if left < 0:
            return 0
        return left // each if each else self.output_tokens

    def _worst(self, input_tokens: int | None) -> tuple[int, int]:
        """Give what input, tools and pieces cost, and what each output token does, in femto-dollars."""
        tokens = self.input_tokens if input_tokens is None else input_tokens
        known = self._known.get(tokens)
        if known is None:
            rates = self.card.at(tokens)
            fixed = tokens * self._worst_input(rates) + cost_by_piece(rates, self.pieces) + self.beside
            known = fixed, max(rates.output, rates.reasoning, rates.audio_output, rates.image_output)
            if len(self._known) < MAX_KNOWN:
                self._known[tokens] = known
        return known

    def _worst_input(self, rates: Rates) -> int:
        worst = max(rates.input, rates.cached_input)
        if self.cache_write != "none":
            worst = max(worst, rates.cache_write)
        if self.cache_write == "long":
            worst = max(worst, rates.cache_write_1h)
        if self.has_audio:
            worst = max(worst, rates.audio_input, rates.cached_audio)
        return worst
