from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.call import Media
from llmcap_addon.wire.media import image_dimensions, media_from_base64, media_from_data_url

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + b"\x08\x06\0\0\0" + b"\0" * 40
GIF = b"GIF89a" + struct.pack("<HH", 320, 200) + b"\0" * 40
VP8 = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 1024, 768) + b"\0" * 20
VP8L = b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", (500 - 1) | (400 - 1) << 14) + b"\0" * 20
VP8X = (
    b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0"
    + (3000 - 1).to_bytes(3, "little")
    + (2000 - 1).to_bytes(3, "little")
    + b"\0" * 9
)


def jpeg(width: int, height: int, before: bytes = b"", marker: int = 0xC0) -> bytes:
    frame = struct.pack(">BBHBHHB", 0xFF, marker, 17, 8, height, width, 3) + b"\0" * 9
    return b"\xff\xd8" + before + frame + b"\xff\xda"


PREVIEW = jpeg(160, 120)
EXIF = b"\xff\xe1" + struct.pack(">H", 2 + len(PREVIEW) + 60_000) + PREVIEW + b"\0" * 60_000


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (PNG, (640, 480)),
        (GIF, (320, 200)),
        (VP8, (1024, 768)),
        (VP8L, (500, 400)),
        (VP8X, (3000, 2000)),
        (jpeg(800, 600), (800, 600)),
        (jpeg(800, 600, b"\xff\xff\xe0\0\x04ab", marker=0xC2), (800, 600)),
        (jpeg(4000, 3000, EXIF), (4000, 3000)),
    ],
)
def test_dimensions_come_from_an_images_first_bytes(data: bytes, size: tuple[int, int]) -> None:
    """PNG, GIF, three kinds of WebP and JPEG, whose preview in the Exif segment is not taken for the image."""
    assert image_dimensions(data) == size
    media = media_from_base64("image", base64.b64encode(data).decode(), "HIGH")
    assert (media.width_px, media.height_px, media.detail) == (*size, "high")
    assert len(data) <= media.size_bytes <= len(data) + 3


@pytest.mark.parametrize("data", [b"", b"\x89PNG", b"BM" + b"\0" * 90, PNG.replace(b"IHDR", b"IDAT"), jpeg(0, 0)])
def test_dimensions_that_cannot_be_read_are_none(data: bytes) -> None:
    """A cut, foreign or lying header gives None, so that the provider's maximum is assumed."""
    assert image_dimensions(data) == (None, None)


@given(st.binary(max_size=100), st.sampled_from([PNG, GIF, VP8, VP8L, VP8X, jpeg(9, 9)]), st.integers(0, 60))
def test_no_header_raises(noise: bytes, image: bytes, place: int) -> None:
    """Noise inside any header is read or not, and never raises."""
    image_dimensions(image[:place] + noise)
    media_from_base64("image", (image[:place] + noise).decode("latin-1"))


def test_base64_with_line_breaks_or_the_urls_alphabet_is_read() -> None:
    """Both are sent, and both decode."""
    text = base64.urlsafe_b64encode(PNG).decode()
    assert media_from_base64("image", "\n".join([text[:40], text[40:]])).width_px == 640


def test_data_urls_are_described_and_others_are_not_in_the_body() -> None:
    """The kind is the caller's or the media type's; a web address says nothing about its content."""
    image = base64.b64encode(PNG).decode()
    assert media_from_data_url(f"data:image/png;base64,{image}") == Media("image", (len(image) * 3 + 3) // 4, 640, 480)
    pdf = media_from_data_url("DATA:application/pdf;base64,JVBERi0=")
    assert pdf is not None
    assert pdf.kind == "document"
    svg = media_from_data_url("data:image/svg+xml,%3Csvg%3E")
    assert svg == Media("image", 9)
    assert media_from_data_url("https://example.org/a.png") is None
    assert media_from_data_url("data:image/png") is None
