"""multipart/form-data: the names, sizes and beginnings of its parts, read without copying files.

RFC 7578 and RFC 2046 (section 5.1). A body that two readers could take differently is refused: then nobody could say
what the provider bills.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from llmcap_addon.errors import UnreadableRequest

MAX_PARTS = 256
"""The most parts: an edit of 16 pictures, each field once, and lists of keywords."""
MAX_HEAD_BYTES = 8 * 1024
"""The longest head of one part; a file's name is a few hundred bytes."""
MAX_FIELD_BYTES = 1 << 20
"""The longest field that is text: a prompt of 32,000 characters (`image_generate_params`) is far shorter."""
_MAX_BOUNDARY_CHARS = 70
"""RFC 2046, section 5.1.1."""

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"\\]+)"|([^\s;"]+))', re.IGNORECASE)
_DISPOSITION = re.compile(rb"content-disposition:[ \t]*form-data[ \t]*;(.*)", re.IGNORECASE)
_PARAMETER = re.compile(rb'[ \t]*([^\s=;"]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))[ \t]*(?:;|$)')


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form."""

    name: str
    """Without the "[]" that lists are written with."""
    data: memoryview = field(repr=False)
    """Its bytes, which stand in the body."""
    is_file: bool = False


def read_form(body: bytes, content_type: str) -> tuple[Part, ...]:
    """Read the parts of a form; raises UnreadableRequest."""
    found = _BOUNDARY.search(content_type)
    boundary = (found[1] or found[2]) if found else ""
    if not content_type.lower().lstrip().startswith("multipart/form-data") or not boundary:
        raise UnreadableRequest("the body is no multipart/form-data with a boundary")
    if len(boundary) > _MAX_BOUNDARY_CHARS or not boundary.isascii():
        raise UnreadableRequest(f"the boundary is longer than {_MAX_BOUNDARY_CHARS} characters or not ASCII")
    line = b"--" + boundary.encode("ascii")
    position = body.find(line)
    if position < 0 or body[:position].strip(b"\r\n"):
        raise UnreadableRequest("the body does not begin with its boundary")
    position += len(line)
    view = memoryview(body)
    parts: list[Part] = []
    while body[position : position + 2] != b"--":
        if body[position : position + 2] != b"\r\n":
            raise UnreadableRequest("a boundary does not end its line")
        if len(parts) >= MAX_PARTS:
            raise UnreadableRequest(f"the form has more than {MAX_PARTS} parts")
        start = body.find(b"\r\n\r\n", position, position + MAX_HEAD_BYTES)
        end = body.find(b"\r\n" + line, start + 2) if start >= 0 else -1
        if end < 0:
            raise UnreadableRequest("a part of the form has no end, or its head is too long")
        parts.append(_part(body[position + 2 : start], view[start + 4 : max(end, start + 4)]))
        position = end + 2 + len(line)
    return tuple(parts)


def text_of(parts: Sequence[Part], name: str) -> str:
    """Give a field's text; empty when there is none; raises UnreadableRequest for a file, or for two of them."""
    found = [part for part in parts if part.name == name]
    if not found:
        return ""
    if len(found) > 1 or found[0].is_file or len(found[0].data) > MAX_FIELD_BYTES:
        raise UnreadableRequest(f"{name} is there more than once, or is no text")
    try:
        return str(found[0].data, "utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableRequest(f"{name} is not UTF-8") from error


def _part(head: bytes, data: memoryview) -> Part:
    names: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        found = _DISPOSITION.fullmatch(line)
        if found:
            if names:
                raise UnreadableRequest("a part of the form is named twice")
            names = _parameters(found[1])
    try:
        name = names[b"name"].decode("utf-8").removesuffix("[]")
    except (KeyError, UnicodeDecodeError) as error:
        raise UnreadableRequest("a part of the form has no name") from error
    return Part(name, data, is_file=b"filename" in names or b"filename*" in names)


def _parameters(text: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    position = 0
    while position < len(text):
        match = _PARAMETER.match(text, position)
        key = match[1].lower() if match else b""
        if match is None or key in found:
            raise UnreadableRequest("the head of a part can't be understood")
        found[key] = match[2] if match[2] is not None else match[3]
        position = match.end()
    return found
