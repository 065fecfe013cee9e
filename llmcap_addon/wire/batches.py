"""Batches: what those of all providers share. Many requests sent as one, answered within a day, at half the price.

What a batch may cost is the sum of its requests' bounds; what it did cost is the sum of its answers, each a share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from llmcap_addon.call import Call, Content
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import BATCH_PART, NO_TERMS, NO_USAGE, Reading, Share, Terms, Usage
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.jobs import Outcome
from llmcap_addon.wire.jsonl import LineSplitter
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.text import JsonObject, parse_object

TIER = "batch"
"""The service tier that the price table knows batches by, and answers may name."""
MAX_REQUESTS = 100_000
"""Of one batch: Anthropic's limit, and twice OpenAI's (`BatchCreateParams.input_file_id`)."""
MAX_ID_CHARS = 200
"""A job's or a file's id; longer is none."""
_WHOLE = (200, 201)
"""Statuses of whole answers: Azure's Files API answers an upload with 201 (`Files_Upload` of its REST specification).
No 206, which is a part."""
_ORDINARY = frozenset(
    ("", "auto", "default", "standard", "standard_only", "on_demand", "unspecified", TIER, BATCH_PART)
)
NOTHING_BILLED = Reading(failed=True, final=True)
"""The outcome of a job none of whose requests was answered."""


def batch_terms(target: Target) -> Terms:
    """Give the terms of a request to a batch endpoint."""
    return replace(target.terms(), service_tier=BATCH_PART)


def batch_call(dialect: str, request: Request, target: Target, client: str, parts: Iterable[Call]) -> Call:
    """Put requests together to one call; raises UnreadableRequest."""
    found = tuple(as_parts(parts))
    if not found:
        raise UnreadableRequest("the batch holds no requests")
    return Call(
        dialect=dialect,
        provider=target.provider,
        host=request.host,
        model=found[0].model,
        streamed=False,
        content=Content(),
        parts=found,
        terms=batch_terms(target),
        bills_after_disconnect=True,
        begins_job=True,
        editable=False,
        client=client,
    )


def as_parts(calls: Iterable[Call]) -> Iterator[Call]:
    """Take calls as a batch's: at its price, unstreamed; raises UnreadableRequest for what can't be one.

    One that costs more than a batch's can't, nor one whose cost its answer alone does not tell, for the answer comes
    when the request is forgotten. One model only: a cap that counts a model must see what is spent on it.
    """
    model = ""
    for number, call in enumerate(calls):
        where = f"request {number + 1} of the batch"
        if number >= MAX_REQUESTS:
            raise UnreadableRequest(f"the batch holds more than {MAX_REQUESTS} requests")
        model = model or call.model
        if call.model != model:
            raise UnreadableRequest(
                f"{where} names the model {call.model!r} and the first one {model!r}; put one model in a batch, "
                "so that it counts against the caps of its model"
            )
        if call.terms.service_tier not in _ORDINARY or call.terms.speed == "fast":
            raise UnreadableRequest(f"{where} asks for a service tier or speed of its own, which a batch has not")
        if call.alternatives or call.instead:
            raise UnreadableRequest(f"{where} lets further models work on it, which is not metered in a batch yet")
        yield replace(call, streamed=False, terms=replace(call.terms, service_tier=BATCH_PART))


class JobMeter(BodyMeter):
    """Reads the answer to a request that begins a job: it names the job, and its bill comes later."""

    def __init__(self, key: str = "id") -> None:
        super().__init__()
        self._key = key

    def on_body(self, body: bytes) -> None:
        """Read the job's id."""
        value = parse_object(body)
        if value.get("error") and not value.get(self._key):
            self.reading.failed = True
            return
        self.reading.job = id_of(value, self._key)
        if not self.reading.job:
            self.mark_unreadable("the answer does not name the batch")


def id_of(value: JsonObject, key: str) -> str:
    """Read an id; empty when there is none."""
    found = value.get(key)
    return found if isinstance(found, str) and 0 < len(found) <= MAX_ID_CHARS else ""


class BatchBill:
    """Adds up what a batch's answers cost, each a share at the batch's terms; `fault` says why that is impossible."""

    def __init__(self) -> None:
        self.fault = ""
        self.requests = 0
        """Answers taken, those that failed too."""
        self.answered = 0
        """Those that did not."""
        self._shares: list[Share] = []

    def take(self, reading: Reading) -> None:
        """Take the reading of one answer, which is whole."""
        self.requests += 1
        if self.requests > MAX_REQUESTS:
            self._stop(f"it tells of more than {MAX_REQUESTS} requests")
        elif reading.unreadable:
            self._stop(reading.unreadable)
        elif reading.failed and reading.usage is None:
            return  # no provider bills a request of a batch that failed
        elif reading.usage is None or not reading.final:
            self._stop("an answer tells no usage")
        else:
            self.answered += 1
            if reading.billed == 0:
                return
            for share in reading.shares or (Share(reading.usage),):
                named = share.terms if share.terms != NO_TERMS else reading.terms
                self._shares.append(Share(share.usage, share.model or reading.model, _applied(named)))

    def reading(self) -> Reading:
        """Give what the whole batch cost, by the provider's word; not final when an answer could not be read."""
        if self.fault:
            return Reading(unreadable=self.fault)
        if not self._shares:
            return replace(NOTHING_BILLED)
        models = {share.model for share in self._shares}
        return Reading(
            usage=_sum(share.usage for share in self._shares),
            final=True,
            shares=tuple(self._shares),
            model=models.pop() if len(models) == 1 else "",
            terms=Terms(service_tier=TIER),
        )

    def _stop(self, why: str) -> None:
        self.fault = self.fault or why
        self._shares.clear()


def _applied(named: Terms) -> Terms:
    """Give the terms an answer was billed at: the batch's, whatever ordinary word it uses, unless it names a dearer."""
    return replace(named, service_tier=TIER) if named.service_tier in (*_ORDINARY, "flex") else named


def _sum(usages: Iterable[Usage]) -> Usage:
    """Add up usages; many, so not one by one."""
    fields = Usage.__slots__
    rows = [[getattr(usage, name) for name in fields] for usage in usages]
    return Usage(*map(sum, zip(*rows, strict=True))) if rows else NO_USAGE


class Watching:
    """A watched request of which nothing is uploaded; what its answer tells is in `outcomes`."""

    stored = ""

    def __init__(self) -> None:
        self._is_good = False

    def stored_calls(self) -> Iterator[Call]:
        """Give nothing: no file is uploaded."""
        return iter(())

    def begin(self, head: ResponseHead) -> None:
        """Take the answer's head; what is no whole answer tells nothing."""
        self._is_good = head.status in _WHOLE

    def feed(self, data: bytes) -> None:
        """Take decoded bytes of the answer's body."""
        if self._is_good:
            self.on_data(data)

    def end(self) -> tuple[Outcome, ...]:
        """Give what the answer told; nothing when it could not be read."""
        if not self._is_good:
            return ()
        self._is_good = False
        try:
            return tuple(self.outcomes())
        except (ValueError, RecursionError):
            return ()

    def on_data(self, data: bytes) -> None:
        """Take bytes of a good answer."""
        raise NotImplementedError

    def outcomes(self) -> Iterable[Outcome]:
        """Give what a good answer told, at its end. May raise ValueError."""
        raise NotImplementedError


class ObjectWatch(Watching):
    """Watches an answer that is one JSON object, or a list of such; `read` says what one tells."""

    MAX_BYTES = 64 * 1024 * 1024
    """The largest answer kept: Google's holds all results of up to 20 MB of requests."""

    def __init__(self, read: Callable[[JsonObject], Iterable[Outcome]]) -> None:
        super().__init__()
        self._read = read
        self._kept = bytearray()

    def on_data(self, data: bytes) -> None:
        """Keep the bytes for the end, up to the bound."""
        if len(self._kept) + len(data) > self.MAX_BYTES:
            self._is_good = False
            self._kept.clear()
        else:
            self._kept += data

    def outcomes(self) -> Iterable[Outcome]:
        """Read the object."""
        return self._read(parse_object(bytes(self._kept)))


class LinesWatch(Watching):
    """Watches an answer of JSON lines, one for each request of the job; `read` gives the reading of one.

    Final only when the last line is whole, too.
    """

    def __init__(self, job: str, read: Callable[[JsonObject], Reading]) -> None:
        super().__init__()
        self._job = job
        self._read = read
        self._lines = LineSplitter()
        self._bill = BatchBill()

    def on_data(self, data: bytes) -> None:
        """Read the lines that these bytes complete."""
        for line in self._lines.feed(data):
            self._take(line)

    def outcomes(self) -> Iterable[Outcome]:
        """Read the last line, and give the job's bill."""
        for line in self._lines.end():
            self._take(line)
        if self._lines.overflowed or self._bill.fault or not self._bill.requests:
            return ()
        return (Outcome(self._job, self._bill.reading(), requests=self._bill.requests),)

    def _take(self, line: bytes) -> None:
        try:
            reading = self._read(parse_object(line))
        except (ValueError, RecursionError):
            reading = Reading(unreadable="a line is no JSON object")
        self._bill.take(reading)
