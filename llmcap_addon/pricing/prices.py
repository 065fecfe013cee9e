"""Prices: what a call costs, before and after; the Pricing that the gate is handed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from llmcap_addon.call import Alternative, Call
from llmcap_addon.errors import PriceError
from llmcap_addon.money import Nanousd, ceil_div
from llmcap_addon.pricing import terms as billing
from llmcap_addon.pricing.alternatives import alternative_call, alternative_input
from llmcap_addon.pricing.bounds import UNKNOWN_LIMITS, Limits, input_bound, output_bound
from llmcap_addon.pricing.cost import exact_cost, rounded
from llmcap_addon.pricing.family import Factor, factor
from llmcap_addon.pricing.quote import Priced, Rung
from llmcap_addon.pricing.rates import (
    FALLBACK_WEB_SEARCH,
    FEMTOUSD_PER_NANOUSD,
    PriceOverride,
    RateCard,
    Rates,
    compile_card,
    override_card,
)
from llmcap_addon.pricing.table import SHIPPED, Entry, PriceTable
from llmcap_addon.pricing.tokens import SHARED, Tokenizer, utf8_bytes
from llmcap_addon.usage import NO_TERMS, Share, Terms, Usage

type UnknownPrice = Literal["highest", "refuse"]
type Overrides = Mapping[str, Mapping[str, PriceOverride]]
"""Host → glob over model names → price."""

NO_OVERRIDES: Overrides = MappingProxyType({})

MAX_REMEMBERED = 4096
"""Names and cards kept compiled; far more than one person's tools use, and few enough to hold in a megabyte or two."""

_NOT_LOOKED_UP = ""
_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)
_LONG_WRITE_CLAUDE, _LONG_WRITE = Decimal(2), Decimal("2.5")
"""An hour in Anthropic's cache costs twice the input, twelve in OpenAI's two and a half times."""


@dataclass(frozen=True, slots=True)
class Found:
    """Where a model's price comes from: a user's own, or the table."""

    entry: Entry | None
    """None when only an override knows the model."""
    override: PriceOverride | None = None
    assumed: bool = False
    limits: Limits = UNKNOWN_LIMITS


@dataclass(frozen=True, slots=True)
class CallQuote:
    """The worst case of one call, as `quote.Quote` tells it."""

    input_tokens: int
    output_tokens: int
    hidden_output_tokens: int
    assumed: bool
    limited: bool
    card: RateCard
    """The highest price of every tier and place that could apply."""
    web_searches: int
    has_audio: bool
    cache_write: Literal["none", "short", "long"]
    family: Factor
    """How the model's tokenizer compares with the one we count with."""
    beside: int = 0
    """What further models that the request allows may cost on top, in femto-dollars."""

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
        """Give what input and searches cost, and what each output token does, in femto-dollars."""
        tokens = self.input_tokens if input_tokens is None else input_tokens
        rates = self.card.at(tokens)
        fixed = tokens * self._worst_input(rates) + self.web_searches * rates.web_search + self.beside
        return fixed, max(rates.output, rates.audio_output, rates.image_output)

    def _worst_input(self, rates: Rates) -> int:
        worst = max(rates.input, rates.cached_input)
        if self.cache_write != "none":
            worst = max(worst, rates.cache_write)
        if self.cache_write == "long":
            worst = max(worst, rates.cache_write_1h)
        if self.has_audio:
            worst = max(worst, rates.audio_input, rates.cached_audio)
        return worst


class Prices:
    """Prices of one configuration; may be asked from several threads at once."""

    def __init__(
        self, table: PriceTable, overrides: Overrides, unknown_price: UnknownPrice, now_ms: Callable[[], int],
        tokenizer: Tokenizer,
    ) -> None:  # fmt: skip
        self._table = table
        self._overrides = {
            host.lower(): {glob.lower(): price for glob, price in models.items()} for host, models in overrides.items()
        }
        self._unknown_price = unknown_price
        self._now_ms = now_ms
        self._tokenizer = tokenizer
        self._found: dict[tuple[str, str, str], Found | None] = {}
        self._cards: dict[tuple[object, ...], RateCard] = {}
        self._dearest: dict[tuple[object, ...], Entry] = {}

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

    def quote(self, call: Call, rung: Rung = "bytes") -> CallQuote:
        """Bound a call; raises PriceError when the model has no price and unknown prices are to be refused."""
        found = self._find_or_assume(call)
        beside = sum(self._beside(call, alternative, found, rung) for alternative in call.alternatives)
        return self._bound(call, found, rung, beside)

    def _beside(self, call: Call, alternative: Alternative, asked: Found, rung: Rung) -> int:
        one = alternative_call(call, alternative)
        found = self._find_or_assume(one) if one.model else self._assume(one)
        if found.entry is not None:
            one = replace(one, model=one.model or found.entry.name)
        quote = self._bound(one, found, rung)
        read = alternative_input(call, quote.input_tokens, output_bound(call, asked.limits), found.limits)
        return alternative.passes * quote.amount(quote.output_tokens, read) * FEMTOUSD_PER_NANOUSD

    def _bound(self, call: Call, found: Found, rung: Rung, beside: int = 0) -> CallQuote:
        content = call.content
        output = output_bound(call, found.limits)
        hidden = call.hidden_output_tokens
        return CallQuote(
            input_tokens=input_bound(call, found.limits, rung, self._tokenizer),
            output_tokens=output,
            hidden_output_tokens=output if hidden is None else min(output, hidden * max(1, call.choices)),
            assumed=found.assumed,
            limited=call.max_output_tokens is not None or not call.has_output,
            card=self._card(call, found, None, self._today()),
            web_searches=content.web_searches,
            has_audio=content.opaque or any(part.kind in ("audio", "video") for part in content.media),
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
        then the model asked for.
        """
        today = self._today(at_ms)
        total, assumed, own = 0, False, False
        for share in shares or (Share(usage),):
            found = self._find_share(call, share.model) or self._find_billed(call, share.model or model)
            named = share.terms if share.terms != NO_TERMS else terms
            total += exact_cost(self._card(call, found, named, today), share.usage)
            assumed = assumed or found.assumed
            own = own or found.override is not None
        return Priced(rounded(total), assumed, own)

    def _find_share(self, call: Call, model: str) -> Found | None:
        """Find the price of a further model's work: never the asked-for model's, which may be cheaper."""
        if not call.alternatives or model in ("", call.model):
            return None
        return self._find(call, model) or self._assume(call)

    def _find_billed(self, call: Call, model: str) -> Found:
        found = self._find(call, call.model)
        if model and (found is None or found.override is None) and not _same_variant(model, call.model):
            found = self._find(call, model) or found
        return found if found is not None else self._assume(call)

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
        scaled = count * times.numerator // times.denominator if times.is_own else times.times(count)
        return min(most, scaled)

    # -- What else is asked of prices

    def limits(self, provider: str, host: str, model: str) -> Limits:
        """Give a model's limits as far as they are known."""
        found = self._find_named(provider, host, model)
        return found.limits if found else UNKNOWN_LIMITS

    def has_price(self, provider: str, host: str, model: str) -> bool:
        """True when the model's price is known, not assumed."""
        found = self._find_named(provider, host, model)
        return found is not None and not found.assumed

    # -- Finding

    def _find_or_assume(self, call: Call) -> Found:
        found = self._find(call, call.model)
        if found is not None and not (found.assumed and self._unknown_price == "refuse"):
            return found
        if self._unknown_price == "refuse":
            raise PriceError(_no_price(call))
        return self._assume(call)

    def _find(self, call: Call, model: str) -> Found | None:
        return self._find_named(call.provider, call.host, model)

    def _find_named(self, provider: str, host: str, model: str) -> Found | None:
        key = (provider, host, model)
        found = self._found.get(key, _NOT_LOOKED_UP)
        if isinstance(found, str):
            found = self._look_up(provider, host, model.lower())
            _remember(self._found, key, found)
        return found

    def _look_up(self, provider: str, host: str, model: str) -> Found | None:
        known = self._table.provider(provider)
        entry = self._table.find(known, model) if known else None
        assumed = False
        if entry is None and known == "openrouter" and ":" in model:
            # ":nitro", ":online" and the like choose among the sellers of the model; what they cost is not listed.
            # https://openrouter.ai/docs/features/model-routing
            entry, assumed = self._table.find(known, model.rpartition(":")[0]), True
        limits = Limits(entry.context_tokens, entry.max_output_tokens) if entry else UNKNOWN_LIMITS
        override = self._override(host, model)
        if override is not None:
            return Found(entry, override, limits=limits)
        return Found(entry, None, assumed, limits) if entry else None

    def _override(self, host: str, model: str) -> PriceOverride | None:
        """Give the user's own price: a name spelled out, else the glob with the most letters in it."""
        globs = self._overrides.get(host.lower(), {})
        if model in globs:
            return globs[model]
        fitting = [glob for glob in globs if fnmatchcase(model, glob)]
        if not fitting:
            return None
        return globs[max(fitting, key=lambda glob: (len(glob.replace("*", "").replace("?", "")), glob))]

    def _assume(self, call: Call) -> Found:
        """Give the dearest model of the host's provider that is not retired, by the price of input plus output."""
        provider = self._table.provider(call.provider) or self._table.provider(call.dialect.partition(".")[0])
        kinds = ("chat", "media") if call.has_output else ("embedding",)
        today = self._today()
        key = (provider, kinds, today)
        dearest = self._dearest.get(key)
        if dearest is None:
            providers = (provider,) if provider else self._table.providers()
            entries = [entry for name in providers for entry in self._table.entries(name) if not entry.retired(today)]
            fitting = [entry for entry in entries if entry.kind in kinds] or entries
            dearest = max(fitting, key=lambda entry: (entry.size(today), entry.name))
            _remember(self._dearest, key, dearest)
        return Found(dearest, None, assumed=True)

    # -- Cards

    def _card(self, call: Call, found: Found, named: Terms | None, today: date) -> RateCard:
        """Give the card for a call: as the response named its terms, or with None the highest that could apply."""
        provider = found.entry.provider if found.entry else call.provider
        visual = call.content.opaque or any(part.kind != "audio" for part in call.content.media)
        anthropic = call.dialect.startswith("anthropic.")
        key = (found, today, call.host, call.terms, named, visual, anthropic, provider)
        card = self._cards.get(key)
        if card is None:
            card = self._compile(call, found, named, provider, today, visual=visual, anthropic=anthropic)
            _remember(self._cards, key, card)
        return card

    def _compile(
        self, call: Call, found: Found, named: Terms | None, provider: str, today: date, *, visual: bool,
        anthropic: bool,
    ) -> RateCard:  # fmt: skip
        known = self._table.provider(provider)
        # A search by a model whose row names no price for it: the most that any model of the provider asks.
        web_search = (self._table.web_search(known) if known else None) or FALLBACK_WEB_SEARCH
        if found.override is not None:
            return override_card(found.override, anthropic=anthropic, web_search=web_search)
        assert found.entry is not None  # noqa: S101  (a Found without an override has an entry)
        entry = found.entry
        card = entry.card(today)
        if named is None:
            tiers = billing.tiers_possible(provider, call.terms, card.listed)
            times = billing.factor_possible(provider, call.host, call.terms, card.geography)
        else:
            tiers = billing.tiers_billed(provider, call.terms, named, card.listed)
            times = billing.factor_billed(provider, call.host, call.terms, named, card.geography)
        long_write = _LONG_WRITE_CLAUDE if "claude" in entry.name else _LONG_WRITE
        compiled = compile_card(
            card.levels, tiers, kind=entry.kind, long_cache_factor=long_write, visual=visual, factor=times,
            web_search=web_search,
        )  # fmt: skip
        return compiled if named is not None else _ascending(compiled)

    def _today(self, at_ms: int | None = None) -> date:
        return _EPOCH + timedelta(days=(self._now_ms() if at_ms is None else at_ms) // _DAY_MS)


def _ascending(card: RateCard) -> RateCard:
    """Make a longer prompt never cheaper than a shorter one, so that a bound on its length bounds its price."""
    steps, before = [], card.rates
    for above, rates in card.steps:
        before = before.highest(rates)
        steps.append((above, before))
    return RateCard(card.rates, tuple(steps))


def _remember[K, V](memory: dict[K, V], key: K, value: V) -> None:
    """Keep an answer; a full memory is emptied, which only costs the time to work answers out again."""
    if len(memory) >= MAX_REMEMBERED:
        memory.clear()
    memory[key] = value


def _same_variant(named: str, asked: str) -> bool:
    """True when a response merely drops the ":free" or ":nitro" that the request's model name ended in."""
    return asked.lower().rpartition(":")[0] == named.lower() != ""


def _no_price(call: Call) -> str:
    return (
        f"{call.host} has no known price for the model {call.model!r}, and unknown_price is refuse. "
        "Add its price to caps.yaml, in dollars per million tokens:\n"
        f'prices:\n  {call.host}:\n    "{call.model}": {{input: 0.00, cached_input: 0.00, output: 0.00}}'
    )
