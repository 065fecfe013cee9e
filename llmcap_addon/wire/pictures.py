"""Pictures billed by the piece: xAI's, Together's and OpenRouter's in OpenAI's shape, and Google's Imagen.

Shapes: `xai_sdk`'s image requests over REST (https://docs.x.ai/developers/rest-api-reference/inference/images), the
`together` SDK's `image_generate_params` and `ImageFile`, `openrouter.components`' `ImageGenerationRequest` and
`ImageGenerationResponse`, and the `google-genai` SDK's `models._GenerateImagesParameters_to_mldev`.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import re

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.money import ceil_div
from llmcap_addon.usage import Usage
from llmcap_addon.wire.billed import billed_amount
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.google import GENERATE
from llmcap_addon.wire.google_request import items, named, refuse_field_masks
from llmcap_addon.wire.meters import BodyMeter, FailedMeter
from llmcap_addon.wire.openai_common import ErrorMeter, OpenAIErrors, list_of, model_name
from llmcap_addon.wire.openai_usage import record_head, record_usage
from llmcap_addon.wire.text import (
    ContentBuilder,
    JsonObject,
    boolean,
    load_json,
    mapping,
    parse_object,
    positive_int,
    string,
)

TELL_COST = frozenset({"xai", "openrouter"})
"""Whose answers say what they cost; what does not, there, is posted as it was reserved."""
MAX_PICTURES = 16
"""Of one request; the providers' own limits are 10 or lower."""
_XAI_LARGEST = 2
"""The table has one price of a model, and a picture of "2k" or of more quality costs up to twice that."""
_SIZE = re.compile(r"([1-9]\d{1,4})x([1-9]\d{1,4})")
_TIERS = {"512": 512**2, "768": 768**2, "1k": 1024**2, "1.5k": 1536**2, "2k": 2048**2}
_MAY_CHOOSE_MAX = re.compile(r"openai/(?!gpt-image-(?:1|1-mini|1\.5|2)$)")
_USUAL_PIXELS, _AUTO_PIXELS, _LARGEST = 2_500_000, 2560 * 1440, 8_300_000
_PIXELS = 1_000_000
"""Together bills by the million pixels. https://www.together.ai/pricing"""
_SIDE = 1024
"""`width` and `height` when unset."""
_IMAGEN_SAMPLES = 4
"""`sampleCount` when unset.
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/imagen-api"""


class PicturesDialect(OpenAIErrors):
    """`POST …/images/generations` and `…/images/edits` of JSON, and OpenRouter's `…/images`."""

    name = "compatible.images"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        if boolean(body, "stream"):
            raise UnreadableRequest("a stream of pictures is not metered yet; leave out `stream`")
        pictures = _number(body, "n") or 1
        if target.provider == "xai":
            pictures = pictures * _XAI_LARGEST + _given(body)
        elif target.provider == "together":
            pictures *= megapixels(body)
        elif target.provider == "openrouter":
            # Each at the price of a picture of some two million pixels and high quality; what is given is read too.
            pictures = pictures * _openrouter_size(body) + len(list_of(body, "input_references"))
        return _call(self.name, request, target, model_name(body, target), pictures, client)

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: there are no tokens to limit."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        if head.status >= 400:
            return ErrorMeter(call.provider)
        each = megapixels(mapping(load_json(body))) if call.provider == "together" else 1
        return PicturesMeter(call.provider, ("data",), each)


class GoogleImagesDialect:
    """`POST …/models/imagen-…:predict`, of the Gemini API and of Vertex."""

    name = "google.images"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        refuse_field_masks(request)
        body = named(load_json(request.body))
        parameters = named(mapping(body.get("parameters")))
        prompts = max(1, len(items(body, "instances")))
        samples = _number(parameters, "sampleCount") or _IMAGEN_SAMPLES
        return _call(self.name, request, target, target.model_of(""), prompts * samples, client)

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: there are no tokens to limit."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for an answer."""
        return FailedMeter() if head.status >= 400 else PicturesMeter("", ("predictions",), 1)

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:
        """Shape a refusal as the API's error body."""
        return GENERATE.refusal(call, request, refusal, status)

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """Nothing can end half a JSON body; the connection breaks off."""
        return b""


PICTURES, GOOGLE_IMAGES = PicturesDialect(), GoogleImagesDialect()


def _call(name: str, request: Request, target: Target, model: str, pictures: int, client: str) -> Call:
    """Make a call that is billed by the picture alone; it counts as one without output, for there is none in tokens."""
    if not model:
        raise UnreadableRequest("no model is named, so its price is unknown")
    return Call(
        dialect=name,
        provider=target.provider,
        host=request.host,
        model=model,
        streamed=False,
        content=ContentBuilder().build(),
        has_output=False,
        unit_bound=Usage(output_images=pictures),
        # Nobody says that a picture is not made, and billed, once its client has left.
        bills_after_disconnect=True,
        cache_write="none",
        client=client,
    )


def _number(body: JsonObject, key: str) -> int | None:
    value = positive_int(body, key)
    if value is not None and value > MAX_PICTURES:
        raise UnreadableRequest(f"{key} is {value}, more than {MAX_PICTURES}")
    return value


def _given(body: JsonObject) -> int:
    """Count the pictures to be edited, which are billed too; for less than one that is made."""
    several = body.get("images")
    return len(several) if isinstance(several, list) else int(body.get("image") is not None)


def _openrouter_size(body: JsonObject) -> int:
    """Give how often the price of a usual picture the largest model asks for this one.

    gpt-image-2 makes 14,000 tokens of 2048 × 2048 at "high", 24,000 of the largest, and up to four times as many at the
    qualities above it (as in `openai_images`); unset, it chooses 2560 × 1440 at most.
    """
    size = string(body, "size").lower() or string(body, "resolution").lower()
    found = _SIZE.fullmatch(size)
    pixels = int(found[1]) * int(found[2]) if found else _TIERS.get(size, _LARGEST if size else _AUTO_PIXELS)
    usual = max(1, ceil_div(pixels, _USUAL_PIXELS))
    quality = string(body, "quality").lower()
    best = quality in ("xhigh", "max") or (quality in ("", "auto") and _MAY_CHOOSE_MAX.match(string(body, "model")))
    return usual * (4 if best else 1)


def megapixels(body: JsonObject) -> int:
    """Give the millions of pixels of one picture, rounded up."""
    width, height = (positive_int(body, key) or _SIDE for key in ("width", "height"))
    # A picture of 1024 × 1024 costs as one of a million pixels.
    return max(1, ceil_div(width * height - (_SIDE * _SIDE - _PIXELS), _PIXELS))


class PicturesMeter(BodyMeter):
    """Reads a whole answer: the provider's word on the bill, or the pictures, each of so many millions of pixels."""

    def __init__(self, provider: str, members: tuple[str, ...], each: int) -> None:
        super().__init__()
        self._provider, self._members, self._each = provider, members, each

    def on_body(self, body: bytes) -> None:
        """Count the pictures. One that the provider kept back is counted where it is listed."""
        payload = parse_object(body)
        if payload.get("error"):
            self.reading.failed = True
            return
        record_head(self.reading, payload)
        pictures = next((payload[name] for name in self._members if name in payload), None)
        if not isinstance(pictures, list):
            self.mark_unreadable("the answer holds no list of pictures")
            return
        billed = billed_amount(self._provider, payload.get("usage"))
        if billed is None and self._provider in TELL_COST:
            self.mark_unreadable("the answer does not say what it cost")
            return
        record_usage(self.reading, Usage(output_images=len(pictures) * self._each), final=True, billed=billed)
