"""Pictures billed by the piece: xAI, Together, OpenRouter, Imagen."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Meter, Refusal, Request, ResponseHead, Target
from llmcap_addon.wire.pictures import GOOGLE_IMAGES, PICTURES, megapixels

IMAGEN = "/v1beta/models/imagen-3.0-generate-001:predict"


def request(body: object, path: str = "/v1/images/generations") -> Request:
    """Make a request."""
    return Request("POST", "host.example", path, body=json.dumps(body).encode())


def parse(provider: str, **fields: Any) -> Call:
    """Parse a request in OpenAI's shape."""
    return PICTURES.parse(request({"model": "m", "prompt": "a fox", **fields}), Target(provider), "")


def fed(meter: Meter, answer: object) -> Meter:
    """Feed a whole answer."""
    meter.feed(json.dumps(answer).encode())
    meter.end()
    return meter


def read(provider: str, answer: object, status: int = 200, **fields: Any) -> Meter:
    """Read an answer in OpenAI's shape."""
    body = {"model": "m", **fields}
    head = ResponseHead(status, "application/json")
    return fed(PICTURES.meter(parse(provider, **fields), json.dumps(body).encode(), head, len), answer)


@pytest.mark.parametrize(
    ("provider", "fields", "pictures"),
    [
        ("xai", {}, 2),
        ("xai", {"n": 3, "image": {"url": "x"}}, 7),
        ("xai", {"images": [{"url": "x"}, {"url": "y"}]}, 4),
        ("together", {"n": 2}, 2),
        ("together", {"n": 2, "width": 2048, "height": 1024}, 6),
        ("openrouter", {"n": 10, "quality": "high", "resolution": "1K"}, 10),
        ("openrouter", {"quality": "high", "size": "4K"}, 4),
        ("openrouter", {"quality": "low", "size": "2048x2048", "input_references": [{}, {}]}, 4),
        ("openrouter", {"quality": "max", "resolution": "512"}, 4),
        ("openrouter", {}, 2),
        ("openrouter", {"model": "openai/gpt-image-2.5-flare"}, 8),
        ("openrouter", {"model": "openai/gpt-image-2", "quality": "auto"}, 2),
    ],
)
def test_as_many_pictures_as_may_be_billed(provider: str, fields: dict[str, Any], pictures: int) -> None:
    """By number, size, and what is given to be edited; nothing is billed by the token."""
    call = parse(provider, **fields)
    assert call.unit_bound == Usage(output_images=pictures)
    assert (call.has_output, call.bills_after_disconnect) == (False, True)
    assert PICTURES.amend(call, b"{}", 5) == b"{}"


@pytest.mark.parametrize(
    "fields", [{"n": 17}, {"n": 0}, {"n": "2"}, {"model": ""}, {"stream": True}, {"width": -1}, {"model": None}]
)
def test_what_can_not_be_bounded_is_refused(fields: dict[str, Any]) -> None:
    """With a reason."""
    with pytest.raises(UnreadableRequest):
        parse("together", **fields)


def test_a_million_pixels_is_what_1024_squared_counts_as() -> None:
    """Every further million, begun, is one more."""
    assert [megapixels({"width": 1024, "height": height}) for height in (64, 1024, 1025, 2000, 2001)] == [1, 1, 2, 2, 3]


def test_xai_and_openrouter_say_what_they_billed() -> None:
    """Where they don't, the bound is posted."""
    told = read("xai", {"data": [{"url": "x"}], "usage": {"cost_in_usd_ticks": 200_000_000}}).reading
    assert (told.usage, told.billed, told.final) == (Usage(output_images=1), 20_000_000, True)
    silent = read("xai", {"data": [{"url": "x"}]}).reading
    assert (silent.final, silent.unreadable) == (False, "the answer does not say what it cost")
    assert read("openrouter", {"data": [], "usage": {"cost": 0.02, "is_byok": False}}).reading.billed == 20_000_000


def test_togethers_pictures_are_counted() -> None:
    """Each by its millions of pixels."""
    answer = {"data": [{"url": "x"}, {"url": "y"}], "model": "m"}
    assert read("together", answer, width=2048, height=1024).reading.usage == Usage(output_images=6)


@pytest.mark.parametrize("answer", [{}, {"data": {}}, {"data": None}, [], "x"])
def test_an_answer_without_a_list_is_unreadable(answer: object) -> None:
    """Unknown is never nothing."""
    reading = read("together", answer).reading
    assert not reading.final
    assert reading.unreadable


def test_errors_cost_nothing() -> None:
    """Refused by status or by word."""
    assert read("xai", {"error": "no"}, 400).reading.failed
    assert read("together", {"error": {"message": "no"}}).reading.failed


@pytest.mark.parametrize(
    ("parameters", "pictures"),
    [({}, 4), ({"sampleCount": 1}, 1), ({"sample_count": 3}, 3), (None, 4)],
)
def test_imagen_by_its_samples(parameters: object, pictures: int) -> None:
    """Four where nothing is said, for each prompt."""
    body = {"instances": [{"prompt": "a fox"}], "parameters": parameters}
    call = GOOGLE_IMAGES.parse(request(body, IMAGEN), Target("google", "imagen-3.0-generate-001"), "")
    assert (call.model, call.unit_bound) == ("imagen-3.0-generate-001", Usage(output_images=pictures))
    twice = {**body, "instances": [{}, {}]}
    call = GOOGLE_IMAGES.parse(request(twice, IMAGEN), Target("google", "imagen-3.0-generate-001"), "")
    assert call.unit_bound == Usage(output_images=2 * pictures)


def test_imagen_in_googles_shape() -> None:
    """Pictures are counted; refusals are Google's; too many samples are refused; nothing can be cut or shortened."""
    body = request({"instances": [{"prompt": "a fox"}], "parameters": {"sampleCount": 2}}, IMAGEN)
    call = GOOGLE_IMAGES.parse(body, Target("google", "imagen-3.0-generate-001"), "")
    meter = GOOGLE_IMAGES.meter(call, body.body, ResponseHead(200, "application/json"), len)
    assert fed(meter, {"predictions": [{"bytesBase64Encoded": "x"}]}).reading.usage == Usage(output_images=1)
    assert GOOGLE_IMAGES.meter(call, b"", ResponseHead(400), len).reading.failed
    refusal = Refusal("spent", "LLMCap: spent")
    answer = json.loads(GOOGLE_IMAGES.refusal(call, body, refusal, 429).body)
    assert answer["error"]["message"] == "LLMCap: spent"
    assert (GOOGLE_IMAGES.cut(call, refusal, meter), GOOGLE_IMAGES.amend(call, b"{}", 1)) == (b"", b"{}")
    with pytest.raises(UnreadableRequest, match="sampleCount"):
        GOOGLE_IMAGES.parse(request({"parameters": {"sampleCount": 99}}, IMAGEN), Target("google", "imagen"), "")
    with pytest.raises(UnreadableRequest, match="model"):
        GOOGLE_IMAGES.parse(request({}, IMAGEN), Target("google"), "")
