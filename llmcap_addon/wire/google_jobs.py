"""Google's interactions in the background: what became of them, as a later request for the same one tells.

`POST …/interactions` with `background` answers at once with one that is "in_progress"; its usage stands in the answer
to `GET …/interactions/ID`, as one body or streamed anew, or to `POST …/interactions/ID/cancel` (`get` and `cancel` of
the SDK's `_gaos.interactions`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from llmcap_addon.call import Call, Content
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.dialect import Meter, Request, ResponseHead, Target
from llmcap_addon.wire.google_interactions_meter import InteractionBodyMeter, InteractionStreamMeter
from llmcap_addon.wire.google_request import refuse_field_masks
from llmcap_addon.wire.jobs import Outcome

_ID = re.compile(r".*/interactions/([^/]+?)(?:/cancel)?/*")


class InteractionWatch:
    """One look at an interaction."""

    def __init__(self, job: str, call: Call) -> None:
        self._job = job
        self._call = call
        self._meter: Meter | None = None

    def stored_calls(self) -> Iterator[Call]:
        """Give nothing: no file is uploaded."""
        return iter(())

    def begin(self, head: ResponseHead) -> None:
        """Take the answer's head; an error tells nothing of the job."""
        if head.status < 300 and self._job:
            is_stream = "event-stream" in head.content_type.lower()
            kind = InteractionStreamMeter if is_stream else InteractionBodyMeter
            self._meter = kind(self._call, lambda _: 0)

    def feed(self, data: bytes) -> None:
        """Take decoded bytes of the answer's body."""
        if self._meter is not None:
            self._meter.feed(data)

    def end(self) -> tuple[Outcome, ...]:
        """Say that the body ended; gives the job once it is over and its usage is told."""
        if self._meter is None:
            return ()
        self._meter.end()
        reading = self._meter.reading
        return (Outcome(self._job, reading),) if reading.final and reading.usage is not None else ()

    @property
    def stored(self) -> str:
        """Nothing is uploaded."""
        return ""


class InteractionJobs:
    """`GET …/interactions/ID` and `POST …/interactions/ID/cancel`."""

    name = "google.background"

    def watch(self, request: Request, target: Target, client: str) -> InteractionWatch:
        """Begin to watch; never raises. Where a mask takes fields out of the answer, what is left is no bill."""
        found = _ID.fullmatch(request.path)
        try:
            refuse_field_masks(request)
        except UnreadableRequest:
            found = None
        # What was asked is not known here: input whose kind is not told counts as sound. Who prices it knows better.
        call = Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model="",
            streamed=False,
            content=Content(opaque=True),
            client=client,
        )
        return InteractionWatch(unquote(found[1], errors="replace") if found else "", call)


INTERACTION_JOBS = InteractionJobs()
