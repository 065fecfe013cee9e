"""litellm: its `model_prices_and_context_window.json` as levels; https://github.com/BerriAI/litellm, in its root.

Its fields carry tier and prompt length in their names: `input_cost_per_token_above_272k_tokens_priority`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing.refresh.levels import Levels, plain, put
from llmcap_addon.pricing.refresh.offpeak import OffPeak, window

type Entry = Mapping[str, Any]

_TOKEN, _THOUSAND, _ONE = Decimal(1_000_000), Decimal(1000), Decimal(1)

FIELDS: Mapping[str, tuple[str, Decimal]] = {
    "input_cost_per_token": ("input", _TOKEN),
    "cache_read_input_token_cost": ("cached_input", _TOKEN),
    "input_cost_per_token_cache_hit": ("cached_input", _TOKEN),
    "cache_creation_input_token_cost": ("cache_write", _TOKEN),
    "cache_creation_input_token_cost_above_1hr": ("cache_write_1h", _TOKEN),
    "cache_creation_input_token_cost_above_12hr": ("cache_write_1h", _TOKEN),
    "output_cost_per_token": ("output", _TOKEN),
    "output_cost_per_reasoning_token": ("reasoning", _TOKEN),
    "input_cost_per_audio_token": ("audio_input", _TOKEN),
    "cache_read_input_audio_token_cost": ("cached_audio", _TOKEN),
    "input_cost_per_image_token": ("image_input", _TOKEN),
    "input_cost_per_video_token": ("video_input", _TOKEN),
    "cache_read_input_image_token_cost": ("cached_image", _TOKEN),
    "output_cost_per_audio_token": ("audio_output", _TOKEN),
    "output_cost_per_image_token": ("image_output", _TOKEN),
    "output_cost_per_video_token": ("image_output", _TOKEN),
    "google_maps_grounding_cost_per_query": ("maps", _THOUSAND),
    "file_search_cost_per_1k_calls": ("file_search", _ONE),
    "code_interpreter_cost_per_session": ("code_session", _THOUSAND),
    "input_cost_per_character": ("per_character", _ONE),
    "input_cost_per_second": ("per_second_in", _ONE),
    "input_cost_per_audio_per_second": ("per_second_in", _ONE),
    "output_cost_per_second": ("per_second_out", _ONE),
    "ocr_cost_per_page": ("per_page", _ONE),
    "input_cost_per_query": ("per_query", _ONE),
    "output_cost_per_image": ("per_image", _ONE),
}
"""Their field → ours, and how many of theirs make one of ours."""

TIERS = {"flex": "flex", "priority": "priority", "batches": "batch", "ultrafast": "ultrafast"}
_SUFFIX = re.compile(
    r"^(?P<field>.+?)(?:_above_(?P<above>\d+)k_tokens)?(?:_(?P<tier>flex|priority|batches|ultrafast))?$"
)
_IMAGE_SIZE = re.compile(r"(\d{2,5})-x-(\d{2,5})")

_ONLY_IN = {
    # A second of audio goes in, and the same second is listed as coming out; it is billed once.
    "per_second_out": {"audio_speech", "realtime"},
    # Elsewhere it stands beside a price by the token, which is what is billed.
    "per_second_in": {"audio_transcription", "realtime"},
    "per_image": {"image_generation", "image_edit"},
    "per_character": {"audio_speech"},
    "per_page": {"ocr"},
    "per_query": {"rerank", "search"},
}


def read(text: str | bytes) -> dict[str, Entry]:
    """Give key → entry from the published JSON, prices as Decimal; raises PriceError."""
    try:
        found = json.loads(text, parse_float=Decimal, parse_int=int)
    except (ValueError, RecursionError) as error:
        raise PriceError(f"this is not litellm's data ({type(error).__name__}: {error})") from error
    if not isinstance(found, dict):
        raise PriceError("this is not litellm's data: it is no mapping")
    return {key: entry for key, entry in found.items() if isinstance(entry, dict) and key != "sample_spec"}


def levels(entry: Entry, name: str = "", *, step_is_inclusive: bool = False) -> Levels:
    """Give the prices of an entry; `name` is its key, which may tell the size of an image."""
    found: Levels = {}
    for tier, above, field, amount in _prices(entry):
        at = above - 1 if above and step_is_inclusive else above
        put(found, at, tier, field, amount)
    for part in entry.get("tiered_pricing") or ():
        for tier, _, field, amount in _prices(part):
            put(found, int(part["range"][0]), tier, field, amount)
    standard = found.get(0, {}).get("standard", {})
    if entry.get("mode") == "image_generation":
        if "image_output" in standard:
            standard.pop("per_image", None)  # it is billed by the token, the price by the piece is an example
        elif (each := _image(entry, name)) is not None:
            put(found, 0, "standard", "per_image", each)
    searches = entry.get("search_context_cost_per_query")
    if isinstance(searches, dict) and searches:
        put(found, 0, "standard", "web_search", max(_decimal(price) for price in searches.values()) * 1000)
    annotated = entry.get("annotation_cost_per_page")
    if annotated and "per_page" in standard:
        # It is not said whether it comes on top; from above, it does.
        put(found, 0, "annotated", "per_page", standard["per_page"] + _decimal(annotated))
    multiple = (entry.get("provider_specific_entry") or {}).get("fast")
    if multiple and 0 in found:
        for level in found.values():
            level["fast"] = {
                field: amount * _decimal(multiple)
                for field, amount in level.get("standard", {}).items()
                if field != "web_search"
            }
    return found


def off_peak(entry: Entry) -> OffPeak | None:
    """Give the lower prices of some hours, where the entry has them."""
    told = entry.get("off_peak_pricing")
    if not isinstance(told, dict):
        return None
    found: Levels = {}
    for tier, above, field, amount in _prices(told):
        put(found, above, tier, field, amount)
    windows = []
    for part in told["windows"]:
        spans = part["hours_utc"] if isinstance(part["hours_utc"], list) else [part["hours_utc"]]
        # The weekdays are Beijing's; with windows that reach from its evening to its morning UTC's come to the same.
        windows += [window(span, part.get("weekdays")) for span in spans]
    return OffPeak(tuple(windows), found, knows_weekdays=True)


def geography(entry: Entry) -> dict[str, str]:
    """Give place → factor, where the entry tells."""
    told = {
        "us": (entry.get("provider_specific_entry") or {}).get("us")
        or entry.get("regional_processing_uplift_multiplier_us"),
        "eu": entry.get("regional_processing_uplift_multiplier_eu"),
        # Vertex: all places but "global".
        "regional": entry.get("regional_endpoint_uplift_multiplier"),
    }
    return {place: plain(_decimal(value)) for place, value in told.items() if value}


def _prices(entry: Entry) -> Iterator[tuple[str, int, str, Decimal]]:
    """Yield (tier, prompt length above which it applies, field, dollars)."""
    for name, value in entry.items():
        found = _SUFFIX.match(name)
        if isinstance(value, bool) or not isinstance(value, int | Decimal) or found is None:
            continue
        if found["field"] not in FIELDS:
            continue
        field, times = FIELDS[found["field"]]
        if entry.get("mode") not in _ONLY_IN.get(field, {entry.get("mode")}):
            continue
        tier = TIERS[found["tier"]] if found["tier"] else "standard"
        yield tier, int(found["above"] or 0) * 1000, field, Decimal(value) * times


def _image(entry: Entry, name: str) -> Decimal | None:
    """Give the price of one picture that is written another way: as input, or by the pixel."""
    if "output_cost_per_image" in entry:
        return None
    size = _IMAGE_SIZE.search(name)
    pixels = entry.get("input_cost_per_pixel") or entry.get("output_cost_per_pixel")
    if pixels and size:
        return _decimal(pixels) * int(size[1]) * int(size[2])
    each = entry.get("input_cost_per_image")
    return _decimal(each) if each else None


def _decimal(value: Any) -> Decimal:
    return Decimal(value) if isinstance(value, int | Decimal) else Decimal(str(value))
