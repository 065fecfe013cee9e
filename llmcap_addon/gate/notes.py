"""Notes: what the ledger keeps of a job, or of a file that one will run, until the bill comes; values, and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from llmcap_addon.activity import CallLine
from llmcap_addon.budget.ledger import Entry
from llmcap_addon.call import Alternative, Call, Content, Media
from llmcap_addon.money import Nanousd
from llmcap_addon.pricing.batch_quote import MAX_COUNTED_BYTES
from llmcap_addon.pricing.quote import Pricing
from llmcap_addon.usage import BATCH_PART, Terms, Usage

MAX_NAME_CHARS = 200
"""Of ids and models in a note; no provider's are nearly as long."""
MAX_ODD_NAME_CHARS = 30
"""Of a name that is not ASCII: JSON takes up to 12 bytes for a character."""
MAX_INSTEAD_BYTES = 500
"""Of the models that may have answered instead, in JSON: some ten."""
MAX_WHY_CHARS = 800
"""Of the reason why a file can't be bounded: some sentences."""
_MANY_TOKENS = 1_000_000_000
"""More than any context: what is read is bounded by the model's alone."""
_SAMPLED_INPUTS = (1_000, 64_000, 110_000, 150_000, 225_000, 260_000, 400_000, 600_000, 1_000_000)
"""Prompts on either side of each step past which the table has longer ones dearer: 32, 100, 128, 200, 256, 272 and 512
thousand tokens."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a price depends on beside the usage, of one request or of many together."""

    media: tuple[str, ...] = ()
    """Kinds of its parts."""
    opaque: bool = False
    tells_images: bool = False
    mixed: bool = False
    """True when several models may work on it."""

    def content(self) -> Content:
        """Give a content that is priced alike."""
        media = tuple(Media(kind, 0) for kind in ("image", "document", "audio", "video") if kind in self.media)
        return Content(media=media, opaque=self.opaque)

    def alternatives(self) -> tuple[Alternative, ...]:
        """Give what makes each share of a bill priced as its own model."""
        return (Alternative(""),) if self.mixed else ()


@dataclass(frozen=True, slots=True)
class Stored:
    """What the requests of an uploaded file may cost together."""

    bound: Nanousd = 0
    model: str = ""
    """Of the first of them."""
    requests: int = 0
    assumed: bool = False
    traits: Traits = Traits()
    rates: tuple[int, ...] = ()
    """What the bound rests on, by `rates_of`."""
    why_not: str = ""
    """Why they can't be bounded; empty when they can."""

    def text(self) -> str:
        """Write it as it is kept."""
        return json.dumps(asdict(replace(self, why_not=self.why_not[:MAX_WHY_CHARS])))

    def holds(self, rates: tuple[int, ...]) -> bool:
        """Tell whether the bound is one still, at the rates of now."""
        return len(rates) == len(self.rates) and all(now <= then for now, then in zip(rates, self.rates, strict=True))

    def given_to(self, call: Call) -> Call:
        """Give a call that runs the file, bounded."""
        return replace(
            call,
            stored_bound=self.bound,
            model=call.model or self.model,
            content=self.traits.content(),
            tells_images=self.traits.tells_images,
            alternatives=self.traits.alternatives(),
        )


@dataclass(frozen=True, slots=True)
class Note:
    """What it takes to price a job, and to show it, when its bill comes. Holds no prompt and no key."""

    entry: str
    started_at_ms: int
    host: str
    provider: str
    model: str
    client: str
    dialect: str
    streamed: bool
    billing: str
    marks: tuple[str, ...]
    terms: Terms
    traits: Traits
    requests: int = 0
    """How many requests its bill must tell of, that none is left out; 0 where nobody says."""
    instead: tuple[str, ...] = ()
    """As `Call.instead`."""

    @classmethod
    def of(cls, entry: Entry, call: Call) -> Note:
        """Make the note of a call."""
        named = (entry.host, entry.provider, entry.model, entry.client, entry.dialect)
        host, provider, model, client, dialect = map(_short, named)
        asked = call.terms
        terms = Terms(_short(asked.service_tier), _short(asked.speed), _short(asked.geography))
        return cls(
            entry.id, entry.started_at_ms, host, provider, model, client, dialect, entry.streamed, entry.billing,
            tuple(sorted(entry.marks)), terms, traits_of(call.parts or (call,)), len(call.parts),
            # Instead of more names than a note holds, any of the provider's.
            call.instead if len(json.dumps(call.instead)) <= MAX_INSTEAD_BYTES else ("",),
        )  # fmt: skip

    def text(self) -> str:
        """Write it as it is kept."""
        return json.dumps(asdict(self))

    def call(self) -> Call:
        """Give a call that is priced as the one that began the job."""
        return Call(
            dialect=self.dialect,
            provider=self.provider,
            host=self.host,
            model=self.model,
            streamed=self.streamed,
            content=self.traits.content(),
            tells_images=self.traits.tells_images,
            alternatives=self.traits.alternatives(),
            instead=self.instead,
            terms=self.terms,
            client=self.client,
            billing=self.billing,
        )

    def used(self, told: Usage) -> Usage:
        """Give what was used, by an answer whose reader has not seen the request: sound only where some was sent."""
        if self.traits.opaque or {"audio", "video"} & {*self.traits.media}:
            return told
        return replace(told, input_audio_tokens=0, cache_read_audio_tokens=0)

    def line(self, usage: Usage, cost: Nanousd, marks: frozenset[str]) -> CallLine:
        """Show the call, now that it is paid."""
        return CallLine(
            id=self.entry,
            at_ms=self.started_at_ms,
            client=self.client,
            host=self.host,
            provider=self.provider,
            model=self.model,
            state="done",
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            output_tokens=usage.output_tokens,
            cost=cost,
            marks=marks | frozenset(self.marks),
            billing=self.billing,
        )


def traits_of(calls: tuple[Call, ...]) -> Traits:
    """Say what the price of calls depends on together, from above."""
    gathered = _Gathered()
    for call in calls:
        gathered.add(call)
    return gathered.traits()


def bounded(calls: Iterator[Call], pricing: Pricing) -> Stored | None:
    """Add up what calls may cost, slowly; raises UnreadableRequest and PriceError."""
    gathered = _Gathered()
    bound, assumed = 0, False
    left_bytes = MAX_COUNTED_BYTES
    for call in calls:
        is_counted = call.content.text_bytes <= left_bytes
        left_bytes -= call.content.text_bytes if is_counted else 0
        quote = pricing.quote(call, "counted" if is_counted else "bytes")
        bound += quote.amount(quote.output_tokens)
        assumed = assumed or quote.assumed
        gathered.add(call)
    first, traits = gathered.first, gathered.traits()
    if first is None:
        return None
    rates = rates_of(first.provider, first.host, gathered.model, traits, pricing)
    return Stored(bound, gathered.model[:MAX_NAME_CHARS], gathered.count, assumed, traits, rates)


def rates_of(provider: str, host: str, model: str, traits: Traits, pricing: Pricing) -> tuple[int, ...]:
    """Sample what a model's requests in a batch cost by now, with its limits; raises PriceError.

    None of it higher than before: what was bounded before is bounded still, whatever table or `prices:` say otherwise.
    """
    probe = Call(
        dialect="openai.batches",
        provider=provider,
        host=host,
        model=model,
        streamed=False,
        content=replace(traits.content(), known_tokens=_MANY_TOKENS, web_searches=1),
        tells_images=traits.tells_images,
        terms=Terms(service_tier=BATCH_PART),
    )
    quote = pricing.quote(probe)
    amounts = (quote.amount(output, given) for given in _SAMPLED_INPUTS for output in (0, given))
    return *amounts, quote.input_tokens, quote.output_tokens


class _Gathered:
    """Traits of calls, one after the other."""

    def __init__(self) -> None:
        self.count = 0
        self.first: Call | None = None
        self.model = ""
        self._media: set[str] = set()
        self._opaque = self._mixed = False
        self._tells_images = True

    def add(self, call: Call) -> None:
        self.count += 1
        self.first = self.first or call
        self.model = self.model or call.model
        self._media.update(part.kind for part in call.content.media)
        self._opaque = self._opaque or call.content.opaque
        self._mixed = self._mixed or bool(call.alternatives) or call.model != self.model
        self._tells_images = self._tells_images and call.tells_images

    def traits(self) -> Traits:
        return Traits(tuple(sorted(self._media)), self._opaque, self._tells_images, self._mixed)


def _short(name: str) -> str:
    return name[: MAX_NAME_CHARS if name.isascii() and name.isprintable() else MAX_ODD_NAME_CHARS]


def job_key(host: str, job: str) -> str:
    """Name a job's note."""
    return f"job|{host}|{job[:MAX_NAME_CHARS]}"


def file_key(host: str, file: str) -> str:
    """Name a file's note."""
    return f"file|{host}|{file[:MAX_NAME_CHARS]}"


def read_stored(text: str) -> Stored | None:
    """Read a file's note; None when it is not one of ours (another version wrote it)."""
    try:
        read = json.loads(text)
        rates = tuple(int(rate) for rate in read.get("rates", ()))
        return Stored(**{**_of(Stored, read), "traits": _traits(read["traits"]), "rates": rates})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def read_note(text: str) -> Note | None:
    """Read a job's note; None as above."""
    try:
        read = json.loads(text)
        terms, traits = Terms(**_of(Terms, read["terms"])), _traits(read["traits"])
        lists = {name: tuple(read.get(name, ())) for name in ("marks", "instead")}
        return Note(**{**_of(Note, read), "terms": terms, "traits": traits, **lists})
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _traits(read: dict[str, Any]) -> Traits:
    return Traits(**{**_of(Traits, read), "media": tuple(read["media"])})


def _of(kind: type[Any], read: dict[str, Any]) -> dict[str, Any]:
    """Keep what this version knows; a later one may have written more."""
    known = {field.name for field in fields(kind)}
    return {name: value for name, value in read.items() if name in known}
