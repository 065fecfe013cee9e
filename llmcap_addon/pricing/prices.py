"""Prices: what a call costs, before and after; the Pricing that the gate is handed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from functools import partial, reduce
from pathlib import Path
from typing import Literal

from llmcap_addon.call import Alternative, Call
from llmcap_addon.errors import PriceError
from llmcap_addon.pricing import terms as billing
from llmcap_addon.pricing.alternatives import alternative_call, alternative_input
from llmcap_addon.pricing.batch_quote import BatchQuote, batch_quote
from llmcap_addon.pricing.bounds import UNKNOWN_LIMITS, Limits, input_bound, output_bound
from llmcap_addon.pricing.call_quote import CallQuote, any_of, one_of
from llmcap_addon.pricing.cost import exact_cost, has_pieces, pieces_of, rests_on_a_guess, rounded
from llmcap_addon.pricing.family import Factor, factor
from llmcap_addon.pricing.fees import assumed_fees, audio_prices, provider_fees
from llmcap_addon.pricing.lookup import MAX_REMEMBERED, NO_OVERRIDES, Found, Lookup, Overrides, remember
from llmcap_addon.pricing.names import CLOUDS
from llmcap_addon.pricing.overrides import filled
from llmcap_addon.pricing.quote import Priced, Rung
from llmcap_addon.pricing.rates import (
    BY_PIECE,
    FEMTOUSD_PER_NANOUSD,
    PIECES,
    Fees,
    RateCard,
    Row,
    compile_card,
    dearest,
    highest,
)
from llmcap_addon.pricing.table import SHIPPED, Card, Levels, PriceTable
from llmcap_addon.pricing.tokens import SHARED, Tokenizer, utf8_bytes
from llmcap_addon.usage import NO_TERMS, Share, Terms, Usage

__all__ = ["MAX_REMEMBERED", "NO_OVERRIDES", "Overrides", "Prices", "UnknownPrice"]

type UnknownPrice = Literal["highest", "refuse"]

_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()
_LONG_WRITE_CLAUDE, _LONG_WRITE = Decimal(2), Decimal("2.5")
"""An hour in Anthropic's cache costs twice the input, twelve in OpenAI's two and a half times."""

_SPEAKING = ("audio", "realtime", "voxtral", "omni", "voice")
"""Words in the names of models that take or give audio."""


class Prices:
    """Prices of one configuration; may be asked from several threads at once."""

    def __init__(
        self, table: PriceTable, overrides: Overrides, unknown_price: UnknownPrice, now_ms: Callable[[], int],
        tokenizer: Tokenizer,
    ) -> None:  # fmt: skip
        self._table = table
        self._lookup = Lookup(table, overrides)
        self._unknown_price = unknown_price
        self._now_ms = now_ms
        self._tokenizer = tokenizer
        self._cards: dict[tuple[object, ...], RateCard] = {}

    @classmethod
    def load(
        cls,
        overrides: Overrides = NO_OVERRIDES,
        unknown_price: UnknownPrice = "highest",
        *,
        now_ms: Callable[[], int],
        path: Path = SHIPPED,
        tokenizer: Tokenizer = SHARED,
    ) -> Prices:
        """Read the table; raises PriceError when that is impossible. `now_ms` tells which dated price applies."""
        return cls(PriceTable.read(path), overrides, unknown_price, now_ms, tokenizer)

    @property
    def table(self) -> PriceTable:
        """The prices as shipped, for `llmcap prices`."""
        return self._table

    @property
    def ready(self) -> bool:
        """True once the tokenizer is loaded."""
        return self._tokenizer.ready

    def load_tokenizer(self) -> None:
        """Load the tokenizer; raises PriceError when its vocabulary can't be read."""
        self._tokenizer.load()

    def warm(self) -> None:
        """Load the tokenizer in a thread; until it is there, output is counted in bytes."""
        self._tokenizer.warm()

    # -- Pricing

    def quote(self, call: Call, rung: Rung = "bytes") -> CallQuote | BatchQuote:
        """Bound a call; raises PriceError when the model has no price and unknown prices are to be refused.

        A batch takes a second for some 40,000 requests: quote a large one in a thread.
        """
        return batch_quote(call, rung, self._one_quote) if call.parts or call.stored else self._one_quote(call, rung)

    def _one_quote(self, call: Call, rung: Rung) -> CallQuote:
        if not call.instead:
            return self._quote(call, rung)
        return any_of([self._quote(replace(call, model=model, instead=()), rung) for model in one_of(call)])

    def _quote(self, call: Call, rung: Rung) -> CallQuote:
        day = self._day(self._now_ms())
        found = self._find_or_assume(call, day)
        beside = sum(self._beside(call, alternative, found, rung, day) for alternative in call.alternatives)
        return self._bound(call, found, rung, day, beside)

    def _beside(self, call: Call, alternative: Alternative, asked: Found, rung: Rung, day: date) -> int:
        one = alternative_call(call, alternative)
        found = self._find_or_assume(one, day) if one.model else self._assume(one, day)
        if found.entry is not None:
            one = replace(one, model=one.model or found.entry.name)
        quote = self._bound(one, found, rung, day)
        read = alternative_input(call, quote.input_tokens, output_bound(call, asked.limits), found.limits)
        return alternative.passes * quote.amount(quote.output_tokens, read) * FEMTOUSD_PER_NANOUSD

    def _bound(self, call: Call, found: Found, rung: Rung, day: date, beside: int = 0) -> CallQuote:
        content = call.content
        card = self._highest(call, found, day)
        if card.tokenless and not has_pieces(call.unit_bound):
            # A model that is billed by the piece, called where something else is billed: what it costs is unknown.
            found = self._assume(call, day, by_tokens=True)
            card = self._highest(call, found, day)
        output = output_bound(call, found.limits)
        hidden = call.hidden_output_tokens
        pieces = pieces_of(call.unit_bound, content.web_searches)
        return CallQuote(
            input_tokens=input_bound(call, found.limits, rung, self._tokenizer),
            output_tokens=output,
            hidden_output_tokens=output if hidden is None else min(output, hidden * max(1, call.choices)),
            assumed=found.assumed or rests_on_a_guess(card, pieces) or "audio_input" in card.guessed,
            limited=call.max_output_tokens is not None or not call.has_output,
            card=card,
            pieces=pieces,
            has_audio=content.opaque or _is_heard(call, found) or any(part.kind == "video" for part in content.media),
            cache_write=call.cache_write,
            family=factor(call.provider, call.model),
            beside=beside,
        )

    def cost(
        self, call: Call, usage: Usage, terms: Terms, model: str = "", *, shares: Sequence[Share] = (),
        at_ms: int | None = None,
    ) -> Priced:  # fmt: skip
        """Price a usage at the terms the response named; never raises for a call that was quoted.

        A price of the user's own for the model asked for comes first; then the response's model, when it has a price;
        then the model asked for. A dated price is that of the moment the call began; where the hour matters, the dearer
        of that moment's and now's, as providers don't say which end of a call decides.
        """
        now_ms = self._now_ms()
        moments = (now_ms,) if at_ms is None else (at_ms, now_ms)
        day = self._day(moments[0])
        total, assumed, own = 0, False, False
        for share in shares or (Share(usage),):
            named = share.terms if share.terms != NO_TERMS else terms
            further = self._find_share(call, share.model, day)
            possible = (further,) if further else self._find_billed(call, share.model or model, day)
            # Where nobody says which model answered, the one that asks the most for just this.
            part = max(self._part(call, found, named, moments, share.usage) for found in possible)
            total, assumed, own = total + part[0], assumed or part[1], own or part[2]
        return Priced(rounded(total), assumed, own)

    def _part(
        self, call: Call, found: Found, named: Terms, moments: Sequence[int], used: Usage
    ) -> tuple[int, bool, bool]:
        """Price one share in femto-dollars; whether that is assumed, and whether by a price of the user's own."""
        card = self._billed(call, found, named, moments, used)
        assumed = False
        if card.tokenless and (used.input_tokens or used.output_tokens) and not has_pieces(used):
            # Billed by the piece, and told in tokens: all that was possible, or as the dearest that bills tokens.
            assumed = True
            if has_pieces(call.unit_bound):
                used = used.plus(pieces_of(call.unit_bound, 0))
            else:
                found = self._assume(call, self._day(moments[0]), by_tokens=True)
                card = self._billed(call, found, named, moments, used)
        assumed = assumed or found.assumed or rests_on_a_guess(card, used) or self._is_unheard_of(found, used)
        return exact_cost(card, used), assumed, found.override is not None

    def _find_share(self, call: Call, model: str, day: date) -> Found | None:
        """Find the price of a further model's work: never the asked-for model's, which may be cheaper."""
        if not call.alternatives or model in ("", call.model):
            return None
        return self._find(call, model, day) or self._assume(call, day)

    def _find_billed(self, call: Call, model: str, day: date) -> Sequence[Found]:
        """Find the price that is billed, or each that may be."""
        if call.instead:
            answered = self._find(call, model, day) if model else None
            if answered is None:
                return [self._find(call, each, day) or self._assume(call, day) for each in one_of(call)]
            return (answered,)
        found = self._find(call, call.model, day)
        if model and (found is None or found.override is None) and not _same_variant(model, call.model):
            found = self._find(call, model, day) or found
        return (found if found is not None else self._assume(call, day),)

    def count_output(self, call: Call, text: str) -> int:
        """Count the tokens of one piece of output, from above.

        At most its bytes; once the tokenizer is loaded, at most o200k's count times the family's factor. OpenAI's own
        o200k models are billed by that count itself, so there the factor is rounded down, not up: a stream sends a
        token a piece, and a token must not count as two.
        """
        if not text:
            return 0
        most = utf8_bytes(text)
        if most == 1 or not self._tokenizer.ready:
            return most
        count = self._tokenizer.count(text)
        times = factor(call.provider, call.model)
        if call.instead:
            times = max((times, *(factor(call.provider, model) for model in call.instead)), key=Factor.size)
        scaled = count * times.numerator // times.denominator if times.is_own else times.times(count)
        return min(most, scaled)

    # -- What else is asked of prices

    def limits(self, provider: str, host: str, model: str) -> Limits:
        """Give a model's limits as far as they are known."""
        found = self._lookup.find(provider, host, model, self._day(self._now_ms()))
        return found.limits if found else UNKNOWN_LIMITS

    def has_price(self, provider: str, host: str, model: str) -> bool:
        """True when the model's price is known, not assumed."""
        found = self._lookup.find(provider, host, model, self._day(self._now_ms()))
        return found is not None and not found.assumed

    # -- Finding

    def _find_or_assume(self, call: Call, day: date) -> Found:
        found = self._find(call, call.model, day)
        if found is not None and not (found.assumed and self._unknown_price == "refuse"):
            return found
        if self._unknown_price == "refuse":
            raise PriceError(_no_price(call))
        return self._assume(call, day)

    def _find(self, call: Call, model: str, day: date) -> Found | None:
        return self._lookup.find(call.provider, call.host, model, day)

    def _assume(self, call: Call, day: date, *, by_tokens: bool = False) -> Found:
        return self._lookup.assume(call, day, by_tokens=by_tokens)

    # -- Cards

    def _highest(self, call: Call, found: Found, day: date) -> RateCard:
        """Give the highest prices that could apply to a call: every tier, place and hour."""
        visual = call.content.opaque or any(part.kind != "audio" for part in call.content.media)
        is_heard = _is_heard(call, found)
        key = (found, day, call.host, call.terms, visual, is_heard, _is_anthropic(call), call.provider)
        card = self._cards.get(key)
        if card is None:
            dated = _card_of(found, day)
            levels = (dated.levels, *(part for _, part in dated.off_peak))
            make = partial(self._compile, call, found, None, dated, visual=visual, video=True, with_audio=is_heard)
            card = dearest(make(part) for part in levels).ascending()
            remember(self._cards, key, card)
        return card

    def _billed(self, call: Call, found: Found, named: Terms, moments: Sequence[int], usage: Usage) -> RateCard:
        """Give the prices of a call that was answered at the terms named."""
        day = self._day(moments[0])
        dated = _card_of(found, day)
        content = call.content
        is_seen = content.opaque or any(part.kind != "audio" for part in content.media)
        # Where the answer counts image tokens, what it leaves is text.
        visual = is_seen and not (call.tells_images or usage.input_image_tokens)
        video = content.opaque or any(part.kind == "video" for part in content.media)
        with_audio = _counts_audio(usage) and _is_heard(call, found)
        windows = frozenset(dated.window_at(moment) for moment in moments)
        key = (
            found, day, windows, call.host, call.terms, named, visual, video, with_audio, _is_anthropic(call),
            call.provider,
        )  # fmt: skip
        card = self._cards.get(key)
        if card is None:
            make = partial(
                self._compile, call, found, named, dated, visual=visual, video=video, with_audio=with_audio
            )  # fmt: skip
            card = dearest(make(dated.levels_in(window)) for window in sorted(windows))
            remember(self._cards, key, card)
        return card

    def _compile(
        self, call: Call, found: Found, named: Terms | None, dated: Card, levels: Levels, *, visual: bool, video: bool,
        with_audio: bool,
    ) -> RateCard:  # fmt: skip
        """Compile one hour's prices, as the response named its terms, or with None the highest that could apply."""
        home = self._table.provider(call.provider) or call.provider.lower()
        provider = found.entry.provider if found.entry is not None else call.provider
        if provider != home and home in CLOUDS and not found.is_other:
            # The maker's price of a model that a cloud sells: the cloud's own tiers, and the dearest of the places.
            tiers = (
                billing.tiers_possible(home, call.terms, dated.listed)
                if named is None
                else billing.tiers_billed(home, call.terms, named, dated.listed)
            )
            times = max((Decimal(1), *dated.geography.values()))
        elif named is None:
            tiers = billing.tiers_possible(provider, call.terms, dated.listed)
            times = billing.factor_possible(provider, call.host, call.terms, dated.geography)
        else:
            tiers = billing.tiers_billed(provider, call.terms, named, dated.listed)
            times = billing.factor_billed(provider, call.host, call.terms, named, dated.geography)
        is_own = found.override is not None
        if is_own:  # a price of the user's own holds at any tier it doesn't name
            tiers = tuple(dict.fromkeys(tier if tier in dated.listed else "standard" for tier in tiers))
        return compile_card(
            levels,
            tiers,
            kind=found.entry.kind if found.entry is not None else "chat",
            long_cache_factor=_LONG_WRITE_CLAUDE if found.entry and "claude" in found.entry.name else _LONG_WRITE,
            fees=self._fees(call, found, with_audio=with_audio),
            visual=visual,
            video=video,
            factor=times,
            fill=partial(filled, anthropic=_is_anthropic(call)) if is_own else None,
        )

    def _fees(self, call: Call, found: Found, *, with_audio: bool) -> Fees:
        """Give prices for what the model's row leaves out."""
        entry = found.entry
        provider = entry.provider if entry is not None else self._table.provider(call.provider)
        fees = assumed_fees(self._table, provider) if found.is_other else provider_fees(self._table, provider)
        if found.is_other and (home := self._table.provider(call.provider)):
            # What the call's own provider asks for a piece, whatever the model.
            stated = {name: price for name, price in self._table.fees(home).items() if name in PIECES}
            fees = Fees({**fees.prices, **stated}, fees.guessed - stated.keys(), fees.first)
        if entry is None:
            return fees
        if found.override is not None:
            # What the user leaves out is the table's, where it has the model.
            rows: list[Row] = [
                {name: Decimal(price) for name, price in row.items() if name in BY_PIECE} for row in entry.rows()
            ]
            listed = reduce(highest, rows)
            return Fees({**fees.prices, **listed}, fees.guessed - listed.keys())
        audio = audio_prices(self._table, entry) if with_audio else {}
        return Fees({**fees.prices, **audio}, fees.guessed | audio.keys(), fees.first)

    def _is_unheard_of(self, found: Found, usage: Usage) -> bool:
        """True when audio was used whose price the table does not name."""
        if found.override is not None or found.entry is None or not _counts_audio(usage):
            return False
        return bool(audio_prices(self._table, found.entry))

    def _day(self, at_ms: int) -> date:
        return date.fromordinal(_EPOCH + at_ms // _DAY_MS)


def _card_of(found: Found, day: date) -> Card:
    own = found.override.card(day) if found.override is not None else None
    if own is not None:
        return own
    assert found.entry is not None  # noqa: S101  (a Found has an entry or an override that holds on the day)
    return found.entry.card(day)


def _is_heard(call: Call, found: Found) -> bool:
    """True when a call may take or give audio: it brings some, or its model is made for that."""
    names = (call.model.lower(), found.entry.name if found.entry is not None else "")
    return any(part.kind == "audio" for part in call.content.media) or any(
        word in name for name in names for word in _SPEAKING
    )


def _counts_audio(usage: Usage) -> bool:
    return bool(usage.input_audio_tokens or usage.output_audio_tokens)


def _is_anthropic(call: Call) -> bool:
    return call.dialect.startswith("anthropic.")


def _same_variant(named: str, asked: str) -> bool:
    """True when a response merely drops the ":free" or ":nitro" that the request's model name ended in."""
    return asked.lower().rpartition(":")[0] == named.lower() != ""


def _no_price(call: Call) -> str:
    return (
        f"{call.host} has no known price for the model {call.model!r}, and unknown_price is refuse. "
        "Add its price to caps.yaml, in dollars per million tokens:\n"
        f'prices:\n  {call.host}:\n    "{call.model}": {{input: 0.00, cached_input: 0.00, output: 0.00}}'
    )
