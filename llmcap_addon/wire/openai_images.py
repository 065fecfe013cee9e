"""Images: generated, edited and varied, billed by tokens or by the picture.

Shapes: the `openai` SDK's `image_generate_params`, `image_edit_params`, `images_response`, `image_gen_completed_event`
and `image_edit_completed_event`.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from llmcap_addon.call import Alternative, Call, Media
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.azure import error_meter
from llmcap_addon.wire.dialect import CountTokens, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.media import image_dimensions, media_from_data_url
from llmcap_addon.wire.multipart import Part, read_form
from llmcap_addon.wire.openai_common import OpenAIErrors, is_event_stream
from llmcap_addon.wire.openai_images_meter import ImagesBodyMeter, ImagesStreamMeter
from llmcap_addon.wire.text import ContentBuilder, JsonObject, boolean, load_json, mapping, positive_int, string

_BY_TOKENS = re.compile(r"gpt-image|chatgpt-image")
_FIRST = re.compile(r"gpt-image-(?:1|2)(?![.]5)\b|gpt-image-1\.5|chatgpt-image")
"""Models whose best quality is "high"; later ones have "xhigh" and "max", which "auto" may choose."""
_SIDE_FACTORS = {"low": 16, "standard": 48, "medium": 48, "high": 96, "hd": 96}
_BEST_FACTOR = 192
"""gpt-image-2 makes `f² × (2,000,000 + pixels) ÷ 4,000,000` tokens of a square picture, fewer of others, with an `f` of
16, 48 and 96 (OpenAI's own calculator, as community.openai.com topic 1382699 has it). What "xhigh" and "max" make is
not published: four times as many as "high" is taken."""
_TOKENS_PER_MEGAPIXEL = {"low": 300, "standard": 1_100, "medium": 1_100, "high": 4_000, "hd": 4_000}
_BEST_PER_MEGAPIXEL = 16_000
"""gpt-image-1 makes 272, 1,056 and 4,160 tokens of 1024 × 1024, and 408, 1,584 and 6,240 of 1536 × 1024.
https://platform.openai.com/docs/guides/image-generation#cost-and-latency"""
_AUTO_PIXELS = 2560 * 1440
"""Larger ones are "experimental" (`image_generate_params.size`), so not chosen by themselves."""
_SIZE = re.compile(r"([1-9]\d{1,4})x([1-9]\d{1,4})")
MAX_IMAGES, MAX_PARTIAL_IMAGES, MAX_FRAMES, DEFAULT_FRAMES = 10, 3, 16, 9
"""`n`, `partial_images`, `frame_count` and what it is when unset."""
TOKENS_PER_PARTIAL = 100
"""https://platform.openai.com/docs/guides/image-generation#partial-images-cost"""
PLANNING_TOKENS = 4_096
"""Text that the later models write before they paint (`output_tokens_details.text_tokens`); nothing bounds it, and it
is some hundreds."""
TOKENS_PER_INPUT_IMAGE = 7_200
"""A picture that is looked at closely costs 6,240 tokens on top of its tiles.
https://platform.openai.com/docs/guides/image-generation#input-fidelity"""
_IMAGES = frozenset({"image", "images", "mask", "markup"})


class ImagesDialect(OpenAIErrors):
    """`POST …/images/generations`, `…/edits` and `…/variations`."""

    name = "openai.images"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        content_type = request.headers.get("content-type", "")
        builder = ContentBuilder()
        if content_type.lower().lstrip().startswith("multipart/"):
            body = _read_parts(builder, read_form(request.body, content_type))
        else:
            body = load_json(request.body)
        _add_references(builder, body)
        model = target.model_of(string(body, "model"))
        if not model:
            raise UnreadableRequest("no model is named, so its price is unknown")
        number = _bounded(body, "n", MAX_IMAGES) or 1
        builder.messages += 1
        builder.add_text(string(body, "prompt"))
        content = builder.build()
        # Several pictures are billed as if each had been asked for by itself, its input too.
        read = TOKENS_PER_INPUT_IMAGE * len(content.media)
        known = read * number + content.text_bytes * (number - 1)
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model,
            streamed=boolean(body, "stream"),
            content=replace(content, known_tokens=known),
            max_output_tokens=_output_tokens(body, model),
            choices=number,
            hidden_output_tokens=None,
            alternatives=_svg_author(body),
            unit_bound=Usage() if _BY_TOKENS.search(model) else Usage(output_images=number),
            tells_images=True,
            terms=target.terms(string(body, "service_tier")),
            editable=False,
            cache_write="none",
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: no member limits the answer."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        if head.status >= 400:
            return error_meter(call, head)
        if is_event_stream(head.content_type, streamed=call.streamed):
            return ImagesStreamMeter(call)
        return ImagesBodyMeter(call)


IMAGES = ImagesDialect()


def _read_parts(builder: ContentBuilder, parts: Sequence[Part]) -> JsonObject:
    """Give a form's fields as JSON would have them; files are pictures."""
    body: JsonObject = {}
    for part in parts:
        if part.is_file:
            width_px, height_px = image_dimensions(bytes(part.data[: 512 * 1024]))
            builder.add_media(Media("image", len(part.data), width_px, height_px))
            continue
        if part.name in body:
            raise UnreadableRequest(f"{part.name} is there more than once")
        try:
            body[part.name] = _field(part.name, str(part.data, "utf-8"))
        except UnicodeDecodeError as error:
            raise UnreadableRequest(f"{part.name} is not UTF-8") from error
    return body


def _field(name: str, text: str) -> object:
    if name in ("n", "partial_images", "frame_count"):
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text
    if name == "stream":
        return {"true": True, "1": True, "false": False, "0": False, "": False}.get(text.lower(), text)
    return load_json(text.encode()) if name == "svg" else text


def _add_references(builder: ContentBuilder, body: JsonObject) -> None:
    """Add pictures that are named, not sent as files: inline, or somewhere else, where they may be of any size."""
    for key in _IMAGES:
        given = body.get(key)
        for item in given if isinstance(given, list) else [] if given is None else [given]:
            url = mapping(item).get("image_url", item)
            inline = media_from_data_url(url, "image") if isinstance(url, str) else None
            builder.add_media(inline or Media("image", 0))


def _output_tokens(body: JsonObject, model: str) -> int:
    """Bound what one picture costs."""
    quality = string(body, "quality").lower() or "auto"
    if quality == "auto" and _FIRST.search(model):
        quality = "high"
    pixels = _pixels(string(body, "size").lower())
    side = _SIDE_FACTORS.get(quality, _BEST_FACTOR)
    by_sides = -(-side * side * (2_000_000 + pixels) // 4_000_000)
    by_area = -(-_TOKENS_PER_MEGAPIXEL.get(quality, _BEST_PER_MEGAPIXEL) * pixels // 1_000_000)
    tokens = max(by_sides, by_area)
    if string(body, "output_format").lower() == "gif":
        tokens *= _bounded(body, "frame_count", MAX_FRAMES) or DEFAULT_FRAMES
    partial = _bounded(body, "partial_images", MAX_PARTIAL_IMAGES) or 0
    return tokens + TOKENS_PER_PARTIAL * partial + PLANNING_TOKENS


def _pixels(size: str) -> int:
    found = _SIZE.fullmatch(size)
    if found:
        return int(found[1]) * int(found[2])
    if size in ("", "auto"):
        return _AUTO_PIXELS
    raise UnreadableRequest("size is neither WIDTHxHEIGHT nor auto")


def _bounded(body: Mapping[str, object], key: str, most: int) -> int | None:
    value = positive_int(body, key, minimum=0)
    if value is not None and value > most:
        raise UnreadableRequest(f"{key} is {value}, more than {most}")
    return value


def _svg_author(body: JsonObject) -> tuple[Alternative, ...]:
    """Another model writes an SVG after the picture; when it is not named, it may be any."""
    if string(body, "output_format").lower() != "svg" and body.get("svg") is None:
        return ()
    return (Alternative(string(mapping(body.get("svg")), "model")),)
