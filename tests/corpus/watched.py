"""Look: one watched request as it was on the wire, and the bill of the job that its answer tells.

`tests/data/*/watched.json` holds them by name: `method` and `url` of the request that is watched, `hosts` (as `Place` has
them), `began` (the JSON body of the request that began the job, sent to where such requests go), `response` (a file
beside it), and what it tells: `job`, `usage`, `failed`, `cost` in nano-dollars; without `cost` it tells nothing. `worked`
and `follows` as in `cases.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from llmcap_addon.budget.ledger import Entry
from llmcap_addon.call import Call
from llmcap_addon.gate.notes import Note
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.dialects import DIALECTS, JOBS
from llmcap_addon.wire.hosts import Place
from llmcap_addon.wire.jobs import Outcome, Watch
from llmcap_addon.wire.routes import Route, classify
from tests.corpus.case import _TYPES, AT_MS, DATA, PRICES, _expanded

_BEGINS = {"openai.background": "/v1/responses", "google.background": "/v1beta/interactions"}
"""Job dialect → where the request goes that begins such a job."""


@dataclass(frozen=True)
class Look:
    """One look at a job, and what it must tell."""

    folder: Path
    name: str
    raw: dict[str, Any]

    @property
    def data(self) -> bytes:
        """The answer's body as it came."""
        return (self.folder / str(self.raw["response"])).read_bytes()

    @property
    def usage(self) -> Usage:
        """What was used."""
        return Usage(**self.raw["usage"])

    @cached_property
    def hosts(self) -> dict[str, Place]:
        """The user's own hosts."""
        return {name: Place(**place, custom=True) for name, place in self.raw.get("hosts", {}).items()}

    @cached_property
    def request(self) -> Request:
        """The watched request."""
        url = urlsplit(self.raw["url"])
        return Request(self.raw["method"], url.hostname or "", url.path, dict(parse_qsl(url.query)))

    @cached_property
    def route(self) -> Route:
        """Where it goes."""
        return classify(self.request, self.hosts)

    @cached_property
    def began(self) -> Call:
        """The request that began the job, understood."""
        body = json.dumps(_expanded(self.raw["began"])).encode()
        request = Request("POST", self.request.host, _BEGINS[self.route.dialect_name], body=body)
        route = classify(request, self.hosts)
        return DIALECTS[route.dialect_name].parse(request, Target(route.provider, route.model), "")

    def watch(self) -> Watch:
        """Begin to watch; the answer's head has come."""
        watch = JOBS[self.route.dialect_name].watch(self.request, Target(self.route.provider), "")
        kind = _TYPES.get(Path(self.raw["response"]).suffix, "application/json")
        watch.begin(ResponseHead(200, kind, {"content-type": kind}))
        return watch

    @cached_property
    def note(self) -> Note:
        """What is kept of the request that began the job."""
        call = self.began
        entry = Entry("id", AT_MS, call.host, call.provider, call.model, "", call.dialect, call.streamed)
        return Note.of(entry, call)

    def used(self, outcome: Outcome) -> Usage:
        """What it tells was used, as the gate takes it."""
        assert outcome.reading.usage is not None
        return self.note.used(outcome.reading.usage)

    def cost(self, outcome: Outcome) -> int:
        """Price what it tells, as the gate does."""
        reading = outcome.reading
        priced = PRICES.cost(
            self.note.call(), self.used(outcome), reading.terms, reading.model, shares=reading.shares, at_ms=AT_MS
        )
        return priced.amount if reading.billed is None else reading.billed


LOOKS = [
    Look(path.parent, f"{path.parent.name}/{name}", raw)
    for path in sorted(DATA.glob("*/watched.json"))
    for name, raw in json.loads(path.read_text("utf-8")).items()
]
