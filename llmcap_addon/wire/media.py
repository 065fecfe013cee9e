"""Media in a request: base64 and data: URLs → Media, with an image's dimensions from its first bytes.

Headers as in the PNG specification (IHDR), GIF89a (logical screen), RFC 9649 (WebP) and ITU T.81 (JPEG's SOF).
"""

from __future__ import annotations

import base64
import binascii
from typing import Literal

from llmcap_addon.call import Media

type MediaKind = Literal["image", "document", "audio", "video"]

HEADER_CHARS = 64
"""Base64 characters that hold the dimensions of a PNG, GIF or WebP: 48 bytes, of which 30 are needed."""
JPEG_PREFIX_CHARS = 512 * 1024
"""A JPEG's dimensions stand behind its Exif, ICC and preview segments of up to 64 KiB each; six fit in this."""


def media_from_base64(kind: MediaKind, data: str, detail: str = "") -> Media:
    """Describe base64 data; only a bounded prefix is decoded, and only of an image."""
    width_px, height_px = _dimensions(data) if kind == "image" else (None, None)
    # The size is from above: padding and line breaks count as data.
    return Media(kind, (len(data) * 3 + 3) // 4, width_px, height_px, detail.lower())


def media_from_data_url(url: str, kind: MediaKind | None = None, detail: str = "") -> Media | None:
    """Describe a data: URL; None for any other URL, whose content the body does not show.

    Without a `kind` the URL's own media type decides; what is no image, audio or video is a document.
    """
    if url[:5].lower() != "data:":
        return None
    header, comma, data = url.partition(",")
    if not comma:
        return None
    media_type = header[5:].lower()
    if kind is None:
        kind = kind_of(media_type)
    if not media_type.rstrip().endswith(";base64"):
        return Media(kind, len(data), detail=detail.lower())
    return media_from_base64(kind, data, detail)


def kind_of(media_type: str) -> MediaKind:
    """Name the kind of a MIME type such as "image/png"; what is no image, audio or video is a document."""
    family = media_type.lstrip().partition("/")[0].lower()
    if family == "image":
        return "image"
    if family == "audio":
        return "audio"
    if family == "video":
        return "video"
    return "document"


def image_dimensions(data: bytes) -> tuple[int | None, int | None]:
    """Read width and height in pixels from the first bytes of an image; (None, None) when they can't be read."""
    size: tuple[int, int] | None = None
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR" and len(data) >= 24:
        size = _big(data[16:20]), _big(data[20:24])
    elif data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        size = _little(data[6:8]), _little(data[8:10])
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        size = _webp(data)
    elif data.startswith(b"\xff\xd8"):
        size = _jpeg(data)
    if size is None or not all(size):
        return None, None
    return size


def _dimensions(data: str) -> tuple[int | None, int | None]:
    header = _decode(data[:HEADER_CHARS])
    if header.startswith(b"\xff\xd8"):
        header = _decode(data[:JPEG_PREFIX_CHARS])
    return image_dimensions(header)


def _decode(prefix: str) -> bytes:
    """Decode as much of a base64 prefix as stands; takes the URL alphabet and line breaks too."""
    try:
        packed = "".join(prefix.split()).translate(_URL_ALPHABET).rstrip("=").encode("ascii")
        return base64.b64decode(packed[: len(packed) // 4 * 4])
    except (binascii.Error, UnicodeEncodeError):
        return b""


_URL_ALPHABET = str.maketrans("-_", "+/")


def _webp(data: bytes) -> tuple[int, int] | None:
    form = data[12:16]
    if form == b"VP8 " and data[23:26] == b"\x9d\x01\x2a" and len(data) >= 30:
        return _little(data[26:28]) & 0x3FFF, _little(data[28:30]) & 0x3FFF
    if form == b"VP8L" and data[20:21] == b"\x2f" and len(data) >= 25:
        bits = _little(data[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if form == b"VP8X" and len(data) >= 30:
        return _little(data[24:27]) + 1, _little(data[27:30]) + 1
    return None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """Walk the segments up to the frame header; a preview inside an Exif segment is skipped with its segment."""
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
            continue
        length = _big(data[position + 2 : position + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if position + 9 > len(data):
                return None
            return _big(data[position + 7 : position + 9]), _big(data[position + 5 : position + 7])
        if length < 2 or marker in (0xD9, 0xDA):
            return None
        position += 2 + length
    return None


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")
