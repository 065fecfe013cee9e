"""Job case: a batch from its file to its bill, as each request and answer was on the wire, worked out by hand.

`tests/data/*/jobs.json` holds them by name, in the words of `case`, and: `upload` (the request that uploads the file,
and what its answer says it is `stored` as), `job` (the id that the answer names), `watched` (later requests with their
answers, and what each must tell: that the job `settles` or `voids` under an id, or under which ids it can be known
`also`), `requests` (how many were billed) and `listed` (how many the results tell of, failed ones too).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmcap_addon.budget.ledger import Entry
from llmcap_addon.call import Call
from llmcap_addon.gate.notes import Note, bounded
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.dialects import JOBS
from llmcap_addon.wire.hosts import Place
from llmcap_addon.wire.jobs import Watch
from llmcap_addon.wire.routes import Route, classify
from tests.corpus.case import AT_MS, DATA, PRICES, Case


@dataclass(frozen=True)
class Look:
    """One watched request and its answer."""

    case: JobCase
    raw: dict[str, Any]

    @cached_property
    def request(self) -> Request:
        """The request as it was."""
        made = Case(self.case.folder, self.case.name, {"request": {}, **self.raw}).request
        is_form = "form" in self.raw
        method = self.raw.get("method", "POST" if is_form else "GET")
        return Request(method, made.host, made.path, made.query, made.headers, made.body if is_form else b"")

    @cached_property
    def route(self) -> Route:
        """Where it goes."""
        return classify(self.request, self.case.hosts)

    @property
    def data(self) -> bytes:
        """The answer's body."""
        return (self.case.folder / str(self.raw["response"])).read_bytes()

    def watch(self, status: int = 200) -> Watch:
        """Begin to watch it, up to its answer's body."""
        route = self.route
        target = Target(route.provider, route.model, route.models, route.zone)
        watch = JOBS[route.dialect_name].watch(self.request, target, "")
        watch.begin(ResponseHead(status, "application/json"))
        return watch


@dataclass(frozen=True)
class JobCase:
    """One job, and what it must come to."""

    folder: Path
    name: str
    raw: dict[str, Any]

    @cached_property
    def hosts(self) -> dict[str, Place]:
        """The user's own."""
        return {name: Place(**place, custom=True) for name, place in self.raw.get("hosts", {}).items()}

    @cached_property
    def begun(self) -> Case:
        """The request that begins it, with its answer."""
        return Case(self.folder, self.name, self.raw)

    @cached_property
    def upload(self) -> Look | None:
        """The upload of its file."""
        return Look(self, self.raw["upload"]) if "upload" in self.raw else None

    @property
    def looks(self) -> list[Look]:
        """What tells of it later."""
        return [Look(self, raw) for raw in self.raw["watched"]]

    @cached_property
    def call(self) -> Call:
        """The request that begins it, understood, with the bound of its file."""
        call = self.begun.call
        if self.upload is None:
            return call
        assert call.stored == self.upload.raw["stored"]
        stored = bounded(self.upload.watch().stored_calls(), PRICES)
        assert stored is not None
        return stored.given_to(call)

    @property
    def usage(self) -> Usage:
        """What was used."""
        return Usage(**self.raw["usage"])

    def cost(self, reading: Reading) -> int:
        """Price a reading as the gate does: from its note of the job."""
        call = self.call
        entry = Entry(
            "id", AT_MS, call.host, call.provider, call.model, "", call.dialect, streamed=False, billing="api"
        )
        priced = PRICES.cost(
            Note.of(entry, call).call(), self.usage, reading.terms, reading.model, shares=reading.shares, at_ms=AT_MS
        )
        return priced.amount if reading.billed is None else reading.billed


JOB_CASES = [
    JobCase(path.parent, f"{path.parent.name}/{name}", raw)
    for path in sorted(DATA.glob("*/jobs.json"))
    for name, raw in json.loads(path.read_text("utf-8")).items()
]
"""Every job of the corpus."""
