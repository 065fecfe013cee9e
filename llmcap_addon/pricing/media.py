"""Media: how many tokens images, documents, audio and video may cost at most, by the rules providers publish."""

from __future__ import annotations

from llmcap_addon.call import Media
from llmcap_addon.money import ceil_div
from llmcap_addon.pricing.family import is_before_claude_4_7, vendor

UNKNOWN_IMAGE = 36_000
"""An image of unknown size for a model with unknown rules: OpenAI's largest, 30,000 patches at 1.2."""

# https://platform.openai.com/docs/guides/images-vision#calculating-costs
_OPENAI_TILES = (
    ("gpt-4o-mini", 2833, 5667),
    ("gpt-4o", 85, 170),
    ("chatgpt-4o", 85, 170),
    ("gpt-4.1-mini", 0, 0),
    ("gpt-4.1-nano", 0, 0),
    ("gpt-4.1", 85, 170),
    ("gpt-4.5", 85, 170),
    ("gpt-5-mini", 0, 0),
    ("gpt-5-nano", 0, 0),
    ("gpt-5.1", 70, 140),
    ("gpt-5-", 70, 140),
    ("o1", 75, 150),
    ("o3", 75, 150),
    ("computer-use-preview", 65, 129),
)
"""(name's beginning, tokens of an image, tokens of each tile); 0: counted in patches instead. First match counts."""
_OPENAI_MAX_TILES = 8
"""After scaling into 2048 × 2048 and the short side to 768, at most 4 × 2 tiles of 512."""

_OPENAI_PATCHES = (
    ("gpt-4.1-mini", 162, 1536),
    ("gpt-4.1-nano", 246, 1536),
    ("gpt-5-mini", 162, 1536),
    ("gpt-5-nano", 246, 1536),
    ("o4-mini", 172, 1536),
    ("gpt-5.2", 120, 10_000),
    ("gpt-5.4", 120, 10_000),
    ("gpt-5.5", 120, 10_000),
)
"""(name's beginning, hundredths of a token for a patch of 32 × 32, most patches of an image)."""
_OPENAI_NEWEST_PATCHES = (246, 30_000)
"""Newer and unknown models: no scaling, up to 30,000 patches, at the dearest factor that any model has."""

_ANTHROPIC_IMAGE, _ANTHROPIC_IMAGE_4_7 = 1568, 4784
"""https://platform.claude.com/docs/en/build-with-claude/vision: ceil(w/28) × ceil(h/28), scaled down to this many."""

_GOOGLE_TILE = 258
_GOOGLE_MAX_TILES = 64
"""An image whose size can't be read is taken for one of 6144 × 6144."""
_GOOGLE_3 = (("ultra", 2240), ("high", 1120), ("medium", 560), ("low", 280))
"""https://ai.google.dev/gemini-api/docs/media-resolution"""

_TOGETHER_IMAGE = 4 * 1601
"""https://docs.together.ai/docs/vision-overview: at most 4 tiles."""

PDF_BYTES_PER_PAGE = 512
"""A page object, its content stream and its place in the file don't fit in less; the fewer, the more pages."""
_PDF_PAGES = {"anthropic": 600, "google": 1000}
_PDF_PAGES_ELSEWHERE = 1000
_PDF_PAGE_TEXT = 3000
"""Anthropic: 1,500 to 3,000 tokens of text on a page. platform.claude.com/docs/en/build-with-claude/pdf-support"""

AUDIO_BYTES_PER_SECOND = 750
"""6 kbit/s, the lowest rate Opus is used at for speech."""
_AUDIO_TOKENS = {"google": 32, "openai": 10}
_AUDIO_TOKENS_ELSEWHERE = 50
VIDEO_BYTES_PER_SECOND = 2000
"""16 kbit/s: below that no codec gives a moving picture."""
VIDEO_TOKENS_PER_SECOND = 300
"""Google: 258 a frame at one frame a second, and 32 for sound."""


def media_tokens(provider: str, model: str, media: Media) -> int:
    """Give the most tokens that one part may count for; not bounded by its bytes, a tiny image may cost thousands."""
    maker, bare = vendor(provider, model)
    if media.kind == "image":
        return _image(maker, bare, media)
    if media.kind == "document":
        return _document(maker, bare, media)
    if media.kind == "audio":
        rate = _AUDIO_TOKENS.get(maker, _AUDIO_TOKENS_ELSEWHERE)
        return rate * (ceil_div(media.size_bytes, AUDIO_BYTES_PER_SECOND) + 1)
    return VIDEO_TOKENS_PER_SECOND * (ceil_div(media.size_bytes, VIDEO_BYTES_PER_SECOND) + 1)


def _document(maker: str, model: str, media: Media) -> int:
    """A page costs its text and its picture; a document that is plain text costs at most its bytes."""
    page = Media("image", 0)
    pages = min(_PDF_PAGES.get(maker, _PDF_PAGES_ELSEWHERE), media.size_bytes // PDF_BYTES_PER_PAGE + 1)
    return max(media.size_bytes, pages * (_PDF_PAGE_TEXT + min(_image(maker, model, page), _PDF_PAGE_IMAGE)))


_PDF_PAGE_IMAGE = _ANTHROPIC_IMAGE_4_7
"""No provider is known to look at a page of a document more closely than this."""


def _image(maker: str, model: str, media: Media) -> int:
    if maker == "openai":
        return _openai_image(model, media)
    if maker == "anthropic":
        most = _ANTHROPIC_IMAGE if is_before_claude_4_7(model) else _ANTHROPIC_IMAGE_4_7
        return min(most, _squares(media, 28) or most)
    if maker == "google":
        return _google_image(model, media)
    if maker == "together":
        return _TOGETHER_IMAGE
    squares = _squares(media, 32)
    return UNKNOWN_IMAGE if squares is None else 4 * squares + 1024


def _squares(media: Media, side: int) -> int | None:
    if not media.width_px or not media.height_px:
        return None
    return ceil_div(media.width_px, side) * ceil_div(media.height_px, side)


def _openai_image(model: str, media: Media) -> int:
    model = model.removeprefix("ft:")
    for start, whole, tile in _OPENAI_TILES:
        if (model.startswith(start) or model == start.rstrip("-")) and tile:
            return whole if media.detail == "low" else whole + tile * _openai_tiles(media)
        if model.startswith(start):
            break
    hundredths, most = next(
        ((each, most) for start, each, most in _OPENAI_PATCHES if model.startswith(start)), _OPENAI_NEWEST_PATCHES
    )
    patches = _squares(media, 32)
    return ceil_div(hundredths * min(most, most if patches is None else patches), 100) + 1


def _openai_tiles(media: Media) -> int:
    if not media.width_px or not media.height_px:
        return _OPENAI_MAX_TILES
    # Into 2048 × 2048, then the short side to 768; a smaller image is counted as if it were scaled up, from above.
    long, short = max(media.width_px, media.height_px), min(media.width_px, media.height_px)
    scaled_long = min(2048, ceil_div(long * 768, short))
    return min(_OPENAI_MAX_TILES, ceil_div(scaled_long, 512) * 2)


def _google_image(model: str, media: Media) -> int:
    if not model.startswith(("gemini-1", "gemini-2", "learnlm", "gemma")):
        if not media.detail or "unspecified" in media.detail:
            return 1120
        return next((tokens for word, tokens in _GOOGLE_3 if word in media.detail), 2240)
    if not media.width_px or not media.height_px:
        return _GOOGLE_TILE * _GOOGLE_MAX_TILES
    if max(media.width_px, media.height_px) <= 384:
        return _GOOGLE_TILE
    # Tiles of two thirds of the short side, between 256 and 768 pixels.
    # https://ai.google.dev/gemini-api/docs/image-understanding#token-calculation
    side = max(256, min(768, min(media.width_px, media.height_px) * 2 // 3))
    return _GOOGLE_TILE * ceil_div(media.width_px, side) * ceil_div(media.height_px, side)
