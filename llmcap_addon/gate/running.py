"""RunningCost: the most that a call has been billed while its answer comes, as far as its reading shows."""

from __future__ import annotations

from dataclasses import replace

from llmcap_addon.call import Call
from llmcap_addon.gate.admission import Granted
from llmcap_addon.money import Nanousd
from llmcap_addon.pricing.cost import COUNTS
from llmcap_addon.pricing.quote import Priced, Pricing, Quote
from llmcap_addon.usage import NO_TERMS, Reading, Terms, Usage
from llmcap_addon.wire.openrouter import ROUTERS


class RunningCost:
    """Prices one call's readings from above; cheap enough for every chunk."""

    def __init__(self, call: Call, granted: Granted, pricing: Pricing) -> None:
        self._call = call
        self._quote = quote = granted.quote
        self._pricing = pricing
        self._output_limit = granted.output_limit
        self._started_at_ms = granted.entry.started_at_ms
        self._terms = NO_TERMS
        """What the response has named so far."""
        self._rates: Quote = quote
        """Prices what has come so far: the quote, until the response says which tier was really applied."""
        self._shows_pieces = _shows_pieces(call)
        self._input: tuple[tuple[Usage | None, int, bool], Nanousd] = ((None, 0, False), quote.amount(0))

    def tokens(self, reading: Reading) -> int:
        """Give the visible output so far.

        A count of ours may be several times the truth, and a provider stops at the limit: what is beyond it is believed
        only where the count, taken from below, shows that this provider did not.
        """
        reported = reading.usage.output_tokens if reading.usage is not None else 0
        counted = reading.counted_output_tokens - (reading.counted_at_usage or 0)
        known = reported if reading.counted_at_usage is not None else 0
        if known + self._quote.least_tokens(counted) > self._output_limit:
            return max(reported, known + counted)
        return max(reported, min(known + counted, self._output_limit))

    def within_limit(self, tokens: int, further: int) -> int:
        """Give so many further tokens, but no more than the provider generates at all."""
        return min(tokens + further, max(tokens, self._output_limit))

    def hidden_tokens(self, reading: Reading) -> int:
        """Give what may have been billed without being seen; nothing where the usage so far tells it."""
        return self._quote.hidden_output_tokens if reading.counted_at_usage is None else 0

    def amount(self, reading: Reading, output_tokens: int | None = None) -> Nanousd:
        """Price what has come, or so much visible output; hidden reasoning on top, within the limit."""
        usage = reading.usage
        if self._terms != reading.terms:
            self._follow(reading.terms)
        known, searches, was_final = self._input[0]
        if known is not usage or searches != reading.counted_web_search_requests or was_final != reading.final:
            key = (usage, reading.counted_web_search_requests, reading.final)
            self._input = (key, self._input_amount(reading))
        visible = self.tokens(reading) if output_tokens is None else output_tokens
        return self._input[1] + self._output_amount(usage, self.within_limit(visible, self.hidden_tokens(reading)))

    def priced(self, reading: Reading, usage: Usage) -> Priced:
        """Price what the provider reported, at what the response named, as of the moment the call began."""
        return self._pricing.cost(
            self._call, usage, reading.terms, reading.model, shares=reading.shares, at_ms=self._started_at_ms
        )

    def amount_of(self, reading: Reading, usage: Usage) -> Nanousd:
        """Price a usage that was put together from a reading, hidden reasoning included."""
        if self._terms != reading.terms:
            self._follow(reading.terms)
        if not reading.usage or not reading.usage.input_tokens:
            return self._rates.amount(usage.output_tokens, usage.input_tokens)
        return self._input_amount(reading) + self._output_amount(usage, usage.output_tokens)

    def _follow(self, named: Terms) -> None:
        asked = self._call.terms
        terms = Terms(
            named.service_tier or asked.service_tier, named.speed or asked.speed, named.geography or asked.geography
        )
        self._terms = named
        self._rates = self._pricing.quote(replace(self._call, terms=terms))
        self._input = ((None, 0, False), self._rates.amount(0, self._quote.input_tokens))

    def _output_amount(self, usage: Usage | None, tokens: int) -> Nanousd:
        """What so much output costs at most, at the rates that this much input brings about."""
        inputs = max(usage.input_tokens, 1) if usage is not None else self._quote.input_tokens
        return self._rates.amount(tokens, inputs) - self._rates.amount(0, inputs) + 1  # both are rounded up

    def _input_amount(self, reading: Reading) -> Nanousd:
        if reading.usage is None or not reading.usage.input_tokens:
            return self._rates.amount(0, self._quote.input_tokens)
        told = reading.usage
        if not reading.final and not self._shows_pieces:
            told = _with_untold(told, self._call)
        asked = replace(
            told,
            web_search_requests=max(told.web_search_requests, reading.counted_web_search_requests),
            output_tokens=0,
            reasoning_tokens=0,
            output_audio_tokens=0,
            output_image_tokens=0,
        )
        return self.priced(replace(reading, shares=()), asked).amount


_PIECES_BUT_SEARCHES = tuple(count for count in COUNTS if count != "web_search_requests")


def _shows_pieces(call: Call) -> bool:
    """True where a stream shows each search and each code run when it happens: Anthropic's, not what routers make of
    other models' answers in its shape."""
    return call.dialect.startswith("anthropic.") and call.provider not in ROUTERS


def _with_untold(usage: Usage, call: Call) -> Usage:
    """Raise what is billed by the piece to its bound: a usage that comes early tells it in the end, or not at all."""
    most = {name: max(getattr(usage, name), getattr(call.unit_bound, name)) for name in _PIECES_BUT_SEARCHES}
    return replace(usage, web_search_requests=max(usage.web_search_requests, call.content.web_searches), **most)
