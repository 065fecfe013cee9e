"""Jobs: work whose bill comes later, with the answer to another request (background responses, batches).

The request that begins a job is admitted as any other; its answer only names the job (`Reading.job`), and what was
reserved stays pending, whoever's process it was. A watched request costs nothing, but its answer may tell what became
of jobs; it passes untouched, and its meter reads along. Pure, as all of wire/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from llmcap_addon.call import Call
from llmcap_addon.usage import Reading
from llmcap_addon.wire.dialect import Request, ResponseHead, Target


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one job, by the provider's word."""

    job: str
    """Its id at the provider, as in `Reading.job`."""
    reading: Reading
    """Final once the job has ended and all of its bill is known; failed without usage when nothing of it was billed.
    Each request of a batch is a share."""
    also: tuple[str, ...] = ()
    """Further ids under which a later answer may tell more of the same job (a batch's output file)."""
    requests: int | None = None
    """How many requests of the job it tells of, where it must tell of all; None where it is no list of them."""
    also_requests: int | None = None
    """How many an answer under one of `also` must tell of at least; None where nobody says."""


class Watch(Protocol):
    """One watched request, and its answer as it arrives. One per request; never raises for what either side sends."""

    def stored_calls(self) -> Iterator[Call]:
        """Give the calls of the file that the request uploads, for what they may cost together; none for any other.

        Slow for a large file: walk through it in a thread. Raises UnreadableRequest when one of them can't be bounded.
        """
        ...

    def begin(self, head: ResponseHead) -> None:
        """Take the answer's head."""
        ...

    def feed(self, data: bytes) -> None:
        """Take decoded bytes of the answer's body."""
        ...

    def end(self) -> tuple[Outcome, ...]:
        """Say that the body ended cleanly; gives what it told, nothing for an answer that could not be read."""
        ...

    @property
    def stored(self) -> str:
        """The provider's id of the uploaded file, once the answer has ended; empty when there is none."""
        ...


class JobDialect(Protocol):
    """One kind of watched request."""

    name: str

    def watch(self, request: Request, target: Target, client: str) -> Watch:
        """Begin to watch; never raises."""
        ...
