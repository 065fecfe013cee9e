"""Fetch: the sources' published files, from the web or from a folder, bounded in time and size; nothing is executed."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing.refresh import genai, litellm
from llmcap_addon.pricing.refresh.build import Sources

type Kind = Literal["genai-prices", "litellm"]

DEFAULTS: Mapping[Kind, str] = {
    # As genai_prices.update_prices names it.
    "genai-prices": "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json",
    # As litellm's own `model_cost_map_url` names it.
    "litellm": "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json",
}
"""Where each source publishes its figures."""

MAX_BYTES = 32 * 2**20
"""Of one file, packed or not: the larger source has three million bytes today."""
SILENCE_S = 15
"""How long a server may say nothing."""
DEADLINE_S = 120
"""How long one file may take in all: three million bytes over a very slow line."""
_CHUNK = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Fetched:
    """One source's file."""

    place: str
    kind: Kind
    parsed: Any
    size: int
    version: str
    """The beginning of its sha256: the files themselves have no number."""


def fetch_sources(places: Sequence[str], fetch: Callable[[str], bytes] | None = None) -> tuple[Sources, list[Fetched]]:
    """Read the places named, recognise which source each is, and take the defaults for what is not among them.

    Raises PriceError when a place can't be read, is neither source, or both places are the same source.
    """
    fetch = fetch or read_place
    found: dict[Kind, Fetched] = {}
    for place in places:
        data = recognise(place, fetch(place))
        if data.kind in found:
            raise PriceError(f"{place} and {found[data.kind].place} are both {data.kind}; one of them is enough")
        found[data.kind] = data
    for kind, place in DEFAULTS.items():
        if kind not in found:
            data = recognise(place, fetch(place))
            if data.kind != kind:
                raise PriceError(f"{place} holds {data.kind}, not {kind}")
            found[kind] = data
    ours, theirs = found["genai-prices"], found["litellm"]
    return Sources(ours.parsed, theirs.parsed, ours.version, theirs.version), [ours, theirs]


def recognise(place: str, data: bytes) -> Fetched:
    """Tell by its form which source's file it is, and parse it; raises PriceError."""
    if data[:2] == b"\x1f\x8b":
        data = _unpacked(place, data)
    head = data.lstrip()[:1]
    version = hashlib.sha256(data).hexdigest()[:12]
    try:
        if head == b"[":
            return Fetched(place, "genai-prices", genai.read_json(data), len(data), version)
        if head == b"{":
            return Fetched(place, "litellm", litellm.read(data), len(data), version)
    except PriceError as error:
        raise PriceError(f"{place}: {error}") from error
    raise PriceError(f"{place}: this is neither genai-prices' nor litellm's JSON")


def read_place(place: str) -> bytes:
    """Read a URL (https; http only from this machine) or a file, at most `MAX_BYTES`; raises PriceError."""
    parts = urlsplit(place)
    if parts.scheme in ("http", "https"):
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise PriceError(f"{place}: prices are fetched over https only")
        return _download(place)
    path = Path(place).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise PriceError(f"{place}: it can't be read ({error.strerror or error})") from error
    return _bounded(place, data)


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows no redirect away from https."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """Refuse what leaves the scheme; a local test server may lead to itself."""
        if urlsplit(newurl).scheme != urlsplit(req.full_url).scheme:
            raise urllib.error.URLError(f"it leads to {newurl}, which is not {urlsplit(req.full_url).scheme}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str) -> bytes:
    opener = urllib.request.build_opener(_SameScheme)
    request = urllib.request.Request(url, headers={"User-Agent": "llmcap", "Accept-Encoding": "gzip"})  # noqa: S310 (http or https, checked above)
    until = time.monotonic() + DEADLINE_S
    found = bytearray()
    try:
        with opener.open(request, timeout=SILENCE_S) as answer:
            packed = answer.headers.get("Content-Encoding", "") == "gzip"
            length = answer.headers.get("Content-Length", "")
            while chunk := answer.read(_CHUNK):
                found += chunk
                if len(found) > MAX_BYTES:
                    break
                if time.monotonic() > until:
                    raise PriceError(f"{url}: it takes more than {DEADLINE_S} seconds")
        if length.isdecimal() and len(found) < min(int(length), MAX_BYTES):
            raise OSError(f"it ended after {len(found):,} of {int(length):,} bytes")
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        raise PriceError(f"{url}: it can't be fetched ({error}); --from FILE reads a copy of yours") from error
    data = _bounded(url, bytes(found))
    return _unpacked(url, data) if packed else data


def _bounded(place: str, data: bytes) -> bytes:
    if len(data) > MAX_BYTES:
        raise PriceError(f"{place}: it is larger than {MAX_BYTES // 2**20} MiB, which no price list is")
    return data


def _unpacked(place: str, data: bytes) -> bytes:
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        text = unpacker.decompress(data, MAX_BYTES + 1)
    except zlib.error as error:
        raise PriceError(f"{place}: it is damaged ({error})") from error
    if not unpacker.eof and len(text) <= MAX_BYTES:
        raise PriceError(f"{place}: it is cut short")
    return _bounded(place, text)
