"""Fees: prices for what a model's own row leaves out, from the provider's word or, marked as a guess, from above."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from llmcap_addon.pricing.names import maker_of
from llmcap_addon.pricing.rates import FEES, PIECES, Fees, Row
from llmcap_addon.pricing.table import Entry, PriceTable

FALLBACK: Row = {
    "web_search": Decimal(35),  # Google's, for Gemini 2
    "file_search": Decimal(10),  # xAI's attachments; OpenAI asks 2.50
    "maps": Decimal(28),  # Google's, for its robotics models; 25 for Gemini 2.5
    "code_session": Decimal(50),  # an hour of Anthropic's; a container of OpenAI's costs 30
    "per_image": Decimal("0.6"),  # Stability's upscaler on Bedrock; a large picture of OpenAI's costs 0.41
    "per_character": Decimal("0.0001"),  # Polly's long-form voices; OpenAI's tts-1-hd costs 0.00003
    "per_second_in": Decimal("0.0014"),  # xAI's voice agent costs 0.001334, OpenAI's live audio 0.000833
    "per_second_out": Decimal("0.0014"),
    "per_page": Decimal("0.01"),  # Azure's document layouts; Mistral's with annotations cost 0.009
    "per_query": Decimal("0.01"),  # five times what Cohere and its resellers ask
}
"""The dearest that is known of anybody (a test holds it against the table), where a provider's list names none: dollars
per thousand, or for one `per_…`."""

_DEAREST_AUDIO = "openai"
_AUDIO = ("audio_input", "cached_audio", "audio_output")


@lru_cache(maxsize=256)
def provider_fees(table: PriceTable, provider: str | None) -> Fees:
    """Give a provider's prices by the piece, for a model that names none.

    The provider's own fee; else, for a tool, the price that all its models agree on; else, as a guess, the dearest of
    its models, else `FALLBACK`.
    """
    stated = table.fees(provider) if provider else {}
    prices: dict[str, Decimal] = {}
    guessed: set[str] = set()
    for name in (*FEES, *PIECES):
        listed = table.listed(provider, name) if provider else frozenset()
        if name in stated:
            prices[name] = stated[name]
            continue
        if name in FEES and len(listed) == 1:
            (prices[name],) = listed
            continue
        prices[name] = max(listed, default=FALLBACK[name])
        guessed.add(name)
    return Fees(prices, frozenset(guessed))


@lru_cache(maxsize=1024)
def assumed_fees(table: PriceTable, provider: str | None) -> Fees:
    """Give the dearest prices by the piece of a provider, for a model whose price is another model's."""
    known = provider_fees(table, provider)
    listed = {name: table.listed(provider, name) if provider else frozenset() for name in known.prices}
    prices = {name: max((price, *listed[name])) for name, price in known.prices.items()}
    return Fees(prices, known.guessed | frozenset(PIECES), first=True)


@lru_cache(maxsize=1024)
def audio_prices(table: PriceTable, entry: Entry) -> Row:
    """Give prices for audio tokens of a model whose rows name none, always a guess; empty where none are needed.

    Google's lists name audio only where it costs more than text (https://ai.google.dev/gemini-api/docs/pricing), and a
    model with a price for seconds bills those. Elsewhere audio costs ten times as much as text: the price of the same
    model under a dated name or at its maker's, else the dearest audio of the maker, of the provider, of OpenAI, which
    nobody's exceeds.
    """
    maker, bare = maker_of(entry.provider, entry.name)
    if maker == "google" or entry.kind not in ("chat", "realtime") or _names(entry, (*_AUDIO, *PIECES)):
        return {}
    known = table.provider(maker)
    homes = dict.fromkeys(home for home in (entry.provider, known) if home)
    kin = [
        other
        for home in homes
        for other in table.entries(home)
        if _names(other, _AUDIO) and _is_kin(maker_of(other.provider, other.name)[1], bare)
    ]
    for home in (None, known, entry.provider, table.provider(_DEAREST_AUDIO)):
        entries = kin if home is None else [*filter(_has_audio, table.entries(home))]
        if entries:
            return _dearest_audio(entries)
    return {}


def _is_kin(name: str, bare: str) -> bool:
    return name == bare or name.startswith(f"{bare}-20")


def _names(entry: Entry, fields: tuple[str, ...]) -> bool:
    return any(name in row for row in entry.rows() for name in fields)


def _has_audio(entry: Entry) -> bool:
    return _names(entry, _AUDIO)


def _dearest_audio(entries: list[Entry]) -> Row:
    rows = [row for entry in entries for row in entry.rows()]
    prices = {name: max((Decimal(row.get(name, 0)) for row in rows), default=Decimal(0)) for name in _AUDIO}
    # Audio read from the cache never costs more than fresh; where nobody lists it, as much.
    prices["cached_audio"] = prices["audio_input"]
    return {name: price for name, price in prices.items() if price}
