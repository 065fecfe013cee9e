"""Reading a request's JSON: checked fields, and the texts that make up its input bound."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from typing import NoReturn

from llmcap_addon.call import Content, Media
from llmcap_addon.errors import UnreadableRequest

type JsonObject = dict[str, object]

MAX_COUNT = 1_000_000_000
"""The largest token count or limit that is believed: a thousand times the largest context window on sale."""


def parse_json(data: bytes | str) -> object:
    """Parse JSON in UTF-8; every way in which it can be wrong (nesting, encoding, NaN too) raises ValueError."""
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error


def parse_object(data: bytes | str) -> JsonObject:
    """Parse a JSON object; anything else raises ValueError, as what is no JSON at all does."""
    value = parse_json(data)
    if not isinstance(value, dict):
        raise ValueError("the JSON is no object")  # noqa: TRY004 - one kind of error for all that can be wrong
    return value


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_reject_constant)
"""Made once: `json.loads` makes one for each chunk of a stream."""


def load_json(body: bytes) -> JsonObject:
    """Parse a request's body, which must be a JSON object; raises UnreadableRequest."""
    try:
        value = parse_json(body)
    except UnicodeDecodeError as error:
        raise UnreadableRequest(f"the body is not UTF-8 (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise UnreadableRequest(f"the body is not valid JSON ({error.msg}, at character {error.pos})") from error
    except ValueError as error:
        raise UnreadableRequest(f"the body is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise UnreadableRequest(f"the body is {_kind(value)}, not a JSON object")
    return value


def positive_int(body: Mapping[str, object], key: str, minimum: int = 1) -> int | None:
    """Read a whole number of at least `minimum`; None when absent or null; raises UnreadableRequest otherwise.

    What a server makes of "100", 1e2, true or −1 differs from host to host, so no bound could rest on them.
    """
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnreadableRequest(f"{key} is {_kind(value)}, not a whole number")
    if not minimum <= value <= MAX_COUNT:
        raise UnreadableRequest(f"{key} is not between {minimum} and {MAX_COUNT}")
    return value


def boolean(body: Mapping[str, object], key: str) -> bool:
    """Read true or false; False when absent or null; raises UnreadableRequest otherwise."""
    value = body.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise UnreadableRequest(f"{key} is {_kind(value)}, not true or false")
    return value


def string(body: Mapping[str, object], key: str) -> str:
    """Read a string; empty when absent or null; raises UnreadableRequest otherwise."""
    value = body.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnreadableRequest(f"{key} is {_kind(value)}, not a string")
    return value


def mapping(value: object) -> JsonObject:
    """Give the object, or an empty one for anything else: for optional details whose absence costs nothing."""
    return value if isinstance(value, dict) else {}


def strings(value: object) -> Iterator[str]:
    """Give every string value in a JSON value, at any depth, without keys."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            stack.extend(reversed(node.values()))
        elif isinstance(node, list):
            stack.extend(reversed(node))


def token_bound(text: str) -> int:
    """Bytes of a text in UTF-8, or in NFKC where that is longer.

    A byte-level tokenizer makes at most one token of a byte, but some normalise to NFKC first, where U+FDFA grows
    from 3 bytes to 33. A lone surrogate counts its three bytes.
    """
    if text.isascii():
        return len(text)
    size = len(text.encode("utf-8", "surrogatepass"))
    if unicodedata.is_normalized("NFKC", text):
        return size
    return max(size, len(unicodedata.normalize("NFKC", text).encode("utf-8", "surrogatepass")))


class ContentBuilder:
    """Collects the parts of a request's input while a dialect walks over its body once."""

    def __init__(self) -> None:
        self.messages = 0
        self.blocks = 0
        self.provider_tools = 0
        self.opaque = False
        self.known_tokens = 0
        self.server_turns = 0
        self.web_searches = 0
        self._texts: list[str] = []
        self._text_bytes = 0
        self._tool_bytes = 0
        self._media: list[Media] = []

    def add_text(self, text: str) -> int:
        """Add a text the model reads; gives its bound in bytes."""
        if not text:
            return 0
        if not text.isascii():
            # Tokenizers reject lone surrogates, which JSON can spell ("\ud800"); a server replaces them too.
            text = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace") if _has_surrogate(text) else text
        size = token_bound(text)
        self._texts.append(text)
        self._text_bytes += size
        return size

    def add_json(self, value: object) -> int:
        """Add a value that the model reads as JSON: its keys, strings, numbers and punctuation. Gives its bound."""
        try:
            return self.add_text(json.dumps(value, ensure_ascii=False))
        except RecursionError as error:
            raise UnreadableRequest("the body is nested too deeply") from error

    def add_tokens(self, tokens: int) -> None:
        """Add input that came as token numbers: a text of as many bytes, of a byte that tokenizers never merge."""
        self.add_text("\x01" * tokens)

    def add_tools(self, tools: object) -> None:
        """Add tool descriptions (or a response format), which a provider renders anew."""
        self._tool_bytes += self.add_json(tools)

    def add_media(self, media: Media) -> None:
        """Add an image, document, audio or video."""
        self._media.append(media)

    def build(self) -> Content:
        """Give what was collected."""
        return Content(
            texts=tuple(self._texts),
            text_bytes=self._text_bytes,
            messages=self.messages,
            blocks=self.blocks,
            tool_bytes=self._tool_bytes,
            provider_tools=self.provider_tools,
            media=tuple(self._media),
            opaque=self.opaque,
            known_tokens=self.known_tokens,
            server_turns=self.server_turns,
            web_searches=self.web_searches,
        )


def _has_surrogate(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _kind(value: object) -> str:
    """Name a JSON value's type for a message; never its content, which may be a prompt."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object")
