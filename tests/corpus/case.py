"""Case: one call as it was on the wire, and what it cost, worked out by hand.

`tests/data/*/cases.json` holds them by name: `url`, `request` (the JSON body; {"$repeat": [text, n]} in it stands for
a long text) or `form` (its fields; {"file": name} is a file beside the case), `headers` of the request, `hosts` (as
`Place` has them), `response` (a file beside it), `status`, `response_headers`, `usage` (as `Usage` has it), `model` and
`shares` (the models that the answer and its parts name), `cost` in nano-dollars, `worked` (the arithmetic), `follows`
(the document or SDK type), `pair` for cases that must cost the same, and `shortened` where the prompt on record is not
as long as the one that was billed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from llmcap_addon.call import Call
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import CountTokens, Dialect, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.dialects import DIALECTS
from llmcap_addon.wire.hosts import Place
from llmcap_addon.wire.routes import Route, classify

DATA = Path(__file__).parents[1] / "data"
AT_MS = 1_795_435_200_000
"""2026-11-23 12:00 UTC, a Monday: prices that change later are appended to the table with their date."""
PRICES = Prices.load(now_ms=lambda: AT_MS)
_TYPES = {".sse": "text/event-stream; charset=utf-8", ".bin": "application/vnd.amazon.eventstream"}


@dataclass(frozen=True)
class Case:
    """One call, and what it must come to."""

    folder: Path
    name: str
    raw: dict[str, Any]

    @property
    def data(self) -> bytes:
        """The response's body as it came."""
        return (self.folder / str(self.raw["response"])).read_bytes()

    @property
    def streamed(self) -> bool:
        """True when the response is a stream of events."""
        return Path(self.raw["response"]).suffix in _TYPES

    @property
    def usage(self) -> Usage:
        """What was used."""
        return Usage(**self.raw["usage"])

    @cached_property
    def request(self) -> Request:
        """The request as dialects read it."""
        url = urlsplit(self.raw["url"])
        kind, body = "application/json", b""
        if "form" in self.raw:
            kind, body = _form(self.folder, self.raw["form"])
        else:
            body = json.dumps(_expanded(self.raw["request"])).encode()
        headers = {"content-type": kind, **self.raw.get("headers", {})}
        return Request("POST", url.hostname or "", url.path, dict(parse_qsl(url.query)), headers, body)

    @cached_property
    def route(self) -> Route:
        """Where it goes."""
        hosts = {name: Place(**place, custom=True) for name, place in self.raw.get("hosts", {}).items()}
        return classify(self.request, hosts)

    @property
    def dialect(self) -> Dialect:
        """Whose wire format it is."""
        return DIALECTS[self.route.dialect_name]

    @cached_property
    def call(self) -> Call:
        """The request, understood."""
        return self.dialect.parse(
            self.request, Target(self.route.provider, self.route.model, self.route.models, self.route.zone), ""
        )

    def meter(self, count: CountTokens | None = None) -> Meter:
        """Make the meter for the response; it counts as the product does unless told otherwise."""
        kind = _TYPES.get(Path(self.raw["response"]).suffix, "application/json")
        told = {"content-type": kind, **self.raw.get("response_headers", {})}
        head = ResponseHead(self.raw.get("status", 200), told["content-type"], told)
        ours: CountTokens = lambda text: PRICES.count_output(self.call, text)  # noqa: E731
        return self.dialect.meter(self.call, self.request.body, head, count or ours)

    def cost(self, reading: Reading) -> int:
        """Price a reading, as a settlement does."""
        assert reading.usage is not None
        priced = PRICES.cost(self.call, reading.usage, reading.terms, reading.model, shares=reading.shares, at_ms=AT_MS)
        return priced.amount if reading.billed is None else reading.billed


def _form(folder: Path, fields: dict[str, Any]) -> tuple[str, bytes]:
    """Write a form: text as it is, {"file": name} as the file beside the case."""
    body = bytearray()
    for name, value in fields.items():
        is_file = isinstance(value, dict)
        filename = f'; filename="{value["file"]}"\r\nContent-Type: application/octet-stream' if is_file else ""
        data = (folder / value["file"]).read_bytes() if is_file else str(value).encode()
        body += f'--corpus\r\nContent-Disposition: form-data; name="{name}"{filename}\r\n\r\n'.encode() + data + b"\r\n"
    return "multipart/form-data; boundary=corpus", bytes(body) + b"--corpus--\r\n"


def _expanded(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"$repeat"}:
            text, times = value["$repeat"]
            return text * times
        return {key: _expanded(member) for key, member in value.items()}
    return [_expanded(member) for member in value] if isinstance(value, list) else value


def of(folder: str) -> list[Case]:
    """Give the cases of one folder."""
    return [case for case in CASES if case.folder.name == folder]


CASES = [
    Case(path.parent, f"{path.parent.name}/{name}", raw)
    for path in sorted(DATA.glob("*/cases.json"))
    for name, raw in json.loads(path.read_text("utf-8")).items()
]
