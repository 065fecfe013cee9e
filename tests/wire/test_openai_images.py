from __future__ import annotations

import json
from typing import Any

import pytest

from llmcap_addon.call import Alternative
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Share, Usage
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.openai_images import IMAGES, PLANNING_TOKENS, TOKENS_PER_INPUT_IMAGE
from tests.wire.corpus import feed_all, one

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\x04\0\0\0\x02\0" + bytes(20)


def parse(model: str = "gpt-image-1.5", **body: Any) -> Any:
    data = json.dumps({"model": model, "prompt": "a cat", **body}).encode()
    return IMAGES.parse(Request("POST", "api.openai.com", "/v1/images/generations", body=data), Target("openai"), "")


@pytest.mark.parametrize(
    ("model", "quality", "size", "made"),
    [
        # https://platform.openai.com/docs/guides/image-generation#cost-and-latency
        ("gpt-image-1", "low", "1024x1024", 272), ("gpt-image-1", "low", "1024x1536", 408),
        ("gpt-image-1", "medium", "1024x1024", 1_056), ("gpt-image-1", "medium", "1536x1024", 1_568),
        ("gpt-image-1", "high", "1024x1024", 4_160), ("gpt-image-1", "high", "1024x1536", 6_240),
        # OpenAI's calculator for gpt-image-2
        ("gpt-image-2", "high", "1024x1024", 7_024), ("gpt-image-2", "high", "1536x1024", 5_488),
        ("gpt-image-2", "high", "3584x2048", 12_329), ("gpt-image-2", "auto", "1024x1024", 7_024),
    ],
)  # fmt: skip
def test_what_is_published_is_within_the_bound(model: str, quality: str, size: str, made: int) -> None:
    """And the bound is no more than thrice of it, planning aside."""
    bound = parse(model, quality=quality, size=size).max_output_tokens - PLANNING_TOKENS
    assert made <= bound <= 3 * made + 100


def test_several_pictures_are_read_for_and_made_each() -> None:
    """Partial ones cost a hundred tokens each, and frames as much as pictures."""
    call = parse(n=3, quality="low", size="1024x1024", partial_images=2, stream=True)
    assert (call.choices, call.streamed, call.hidden_output_tokens) == (3, True, None)
    one_picture = parse(quality="low", size="1024x1024")
    assert call.max_output_tokens == one_picture.max_output_tokens + 200
    assert call.content.known_tokens == 2 * one_picture.content.text_bytes
    gif = parse(quality="low", size="1024x1024", output_format="gif", frame_count=4)
    assert gif.max_output_tokens - PLANNING_TOKENS == 4 * (one_picture.max_output_tokens - PLANNING_TOKENS)


def test_pictures_are_measured_in_a_form_and_in_json() -> None:
    """Each is as dear as one that is looked at closely; one by URL may be of any size."""
    body = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-image-1.5\r\n'
    body += b'--b\r\nContent-Disposition: form-data; name="n"\r\n\r\n2\r\n'
    for name in (b"image[]", b"image[]", b"mask"):
        body += b'--b\r\nContent-Disposition: form-data; name="' + name + b'"; filename="a"\r\n\r\n' + PNG + b"\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    request = Request("POST", "api.openai.com", "/v1/images/edits", headers=headers, body=body + b"--b--\r\n")
    call = IMAGES.parse(request, Target("openai"), "")
    assert [(part.width_px, part.height_px) for part in call.content.media] == [(1024, 512)] * 3
    assert (call.choices, call.content.known_tokens) == (2, 2 * 3 * TOKENS_PER_INPUT_IMAGE)
    named = parse(
        images=[{"image_url": "https://x/a.png"}, {"file_id": "f"}, {"image_url": "data:image/png;base64,AA=="}]
    )
    assert len(named.content.media) == 3


def test_the_author_of_an_svg_is_reserved_for_and_billed_apart() -> None:
    """At its own model's price; when it is not named, at the dearest."""
    assert parse(output_format="svg", svg={"model": "gpt-6-sol"}).alternatives == (Alternative("gpt-6-sol"),)
    assert parse(output_format="svg").alternatives == (Alternative(""),)
    meter = IMAGES.meter(parse(output_format="svg"), b"", ResponseHead(200, "application/json"), one)
    author = {
        "model": "gpt-6-sol",
        "input_tokens": 50,
        "output_tokens": 90,
        "reasoning_tokens": 40,
        "total_tokens": 140,
    }
    usage = {"input_tokens": 4, "output_tokens": 272, "total_tokens": 276}
    feed_all(meter, [json.dumps({"data": [], "usage": usage, "svg_usage": author}).encode()])
    picture = Usage(4, 272, input_image_tokens=4, output_image_tokens=272)
    assert meter.reading.shares == (Share(picture), Share(Usage(50, 90), "gpt-6-sol"))
    assert meter.reading.usage == picture.plus(Usage(50, 90))


def test_models_without_a_usage_are_billed_by_the_picture() -> None:
    """As many as came."""
    call = parse("dall-e-3", n=2)
    assert call.unit_bound == Usage(output_images=2)
    meter = IMAGES.meter(call, b"", ResponseHead(200, "application/json"), one)
    feed_all(meter, [b'{"created":1,"data":[{"url":"https://x"}]}'])
    assert (meter.reading.usage, meter.reading.final) == (Usage(output_images=1), True)


def test_pictures_whose_usage_is_missing_leave_the_bill_open() -> None:
    """The sum of some pictures' usages is not the bill of all."""
    usage = {"input_tokens": 10, "output_tokens": 100, "total_tokens": 110}
    for told in ([None, usage], [usage, None]):
        meter = IMAGES.meter(parse(n=2, stream=True), b"", ResponseHead(200, "text/event-stream"), one)
        for said in told:
            event = {"type": "image_generation.completed", **({"usage": said} if said else {})}
            meter.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
        meter.end()
        assert not meter.reading.final


def test_a_stream_of_pictures_is_final_with_the_last() -> None:
    """Each completed one adds its usage."""
    meter = IMAGES.meter(parse(n=2, stream=True), b"", ResponseHead(200, "text/event-stream"), one)
    event = b'data: {"type":"image_generation.completed","usage":{"input_tokens":4,"output_tokens":9,"total_tokens":13}}\n\n'
    final = []
    for _ in range(2):
        meter.feed(event)
        final.append(meter.reading.final)
    assert final == [False, True]
    assert meter.reading.usage == Usage(8, 18, input_image_tokens=8, output_image_tokens=18)


@pytest.mark.parametrize(
    "body",
    [
        {"n": 11}, {"n": "2"}, {"partial_images": 4}, {"size": "huge"}, {"size": "1x1x1"}, {"quality": 5}, {"model": None},
        {"frame_count": 99, "output_format": "gif"}, {"stream": "yes"}, {"prompt": ["a"]},
    ],
)  # fmt: skip
def test_what_cannot_be_bounded_is_unreadable(body: dict[str, Any]) -> None:
    """A wrong type, or more than the API takes, is refused, not guessed at."""
    with pytest.raises(UnreadableRequest):
        parse(**body)
