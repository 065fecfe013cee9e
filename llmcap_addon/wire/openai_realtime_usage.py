"""What a Realtime session reports: the usage of its responses, and how much sound its frames hold.

Shapes: the `openai` SDK's `types/realtime/realtime_response_usage*.py`.
"""

from __future__ import annotations

from llmcap_addon.usage import Usage
from llmcap_addon.wire.counts import reported_count, reported_part

PCM_BYTES_PER_MS, G711_BYTES_PER_MS = 48, 8
"""24,000 samples of two bytes a second, and 8,000 of one (`types/realtime/realtime_audio_formats.py`)."""
OUTPUT_MS_PER_TOKEN = 50
"""Of sound that a model makes. https://developers.openai.com/api/docs/guides/realtime-costs"""


def realtime_usage(raw: object) -> Usage | None:
    """Read a response's usage; None when it says nothing; ValueError when it is not sane.

    What is not told apart counts as the dearest kind that it may be: tokens as sound where the texts and images among
    them are not named, cached ones as text, which leaves the sound at its full price.
    """
    if not isinstance(raw, dict) or not any(value is not None for value in raw.values()):
        return None
    if raw.get("input_tokens") is None or raw.get("output_tokens") is None:
        raise ValueError("input_tokens or output_tokens is missing")
    given, made = reported_count(raw, "input_tokens"), reported_count(raw, "output_tokens")
    made = max(made, reported_count(raw, "total_tokens") - given)
    details = reported_part(raw, "input_token_details")
    cached_details = reported_part(details, "cached_tokens_details")
    image = reported_count(details, "image_tokens")
    text = reported_count(details, "text_tokens")
    audio = reported_count(details, "audio_tokens", max(0, given - text - image))
    cached_audio = reported_count(cached_details, "audio_tokens")
    cached_image = reported_count(cached_details, "image_tokens")
    told = cached_audio + cached_image + reported_count(cached_details, "text_tokens")
    made_details = reported_part(raw, "output_token_details")
    made_text = reported_count(made_details, "text_tokens")
    return Usage(
        input_tokens=given,
        output_tokens=made,
        cache_read_tokens=reported_count(details, "cached_tokens", told),
        input_audio_tokens=audio,
        output_audio_tokens=reported_count(made_details, "audio_tokens", max(0, made - made_text)),
        cache_read_audio_tokens=cached_audio,
        input_image_tokens=image,
        cache_read_image_tokens=cached_image,
    )


def sound_ms(data: object, bytes_per_ms: int) -> int:
    """Give the length of sound in base64, from above; 0 for what is no text."""
    if not isinstance(data, str):
        return 0
    size = (len(data) * 3 + 3) // 4
    return -(-size // bytes_per_ms)
