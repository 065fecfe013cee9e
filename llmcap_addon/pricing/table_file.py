"""The price table's file: written in lines, so that only the providers that are asked for are parsed."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from llmcap_addon.errors import PriceError

FORMAT = 1
MAX_TABLE_BYTES = 64 * 2**20
"""Of an unpacked table; ours has one. A file that unpacks to more is none of ours."""


class Providers(Mapping[str, Mapping[str, Any]]):
    """Provider → models, rules and fees; each is parsed when it is first asked for, which takes milliseconds."""

    def __init__(self, lines: Mapping[str, bytes]) -> None:
        self._lines = lines
        self._parsed: dict[str, Mapping[str, Any]] = {}

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        """Give a provider; raises KeyError for an unknown one and PriceError for one that can't be parsed."""
        found = self._parsed.get(name)
        if found is None:
            try:
                found = dict(json.loads(self._lines[name]))
            except ValueError as error:
                raise PriceError(f"the price table's part for {name} can't be read ({error})") from error
            self._parsed[name] = found
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, name: object) -> bool:
        return name in self._lines


def encode(table: Mapping[str, Any]) -> bytes:
    """Write a table: a line with format, header and the providers' names, then a line for each provider in that order.

    Packed with neither name nor time, so that the same table gives the same bytes.
    """
    head = {"format": table["format"], "header": table["header"], "providers": list(table["providers"])}
    lines = [head, *(dict(told) for told in table["providers"].values())]
    text = "\n".join(json.dumps(line, separators=(",", ":"), sort_keys=True) for line in lines)
    return gzip.compress(text.encode(), compresslevel=9, mtime=0)


def decode(data: bytes) -> dict[str, Any]:
    """Read what `encode` wrote; `providers` parses itself when asked. Raises PriceError."""
    try:
        unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        text = unpacker.decompress(data, MAX_TABLE_BYTES)
        if not unpacker.eof or unpacker.unused_data:
            raise PriceError("it is cut short, or no price table")  # a whole one ends with its checksum
        first, *lines = text.split(b"\n")
        head = json.loads(first)
        if head["format"] != FORMAT:
            raise PriceError(f"it has format {head['format']!r}; this version reads format {FORMAT}")
        providers = Providers(dict(zip(head["providers"], lines, strict=True)))
        return {"format": head["format"], "header": dict(head["header"]), "providers": providers}
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise PriceError(str(error) or type(error).__name__) from error
