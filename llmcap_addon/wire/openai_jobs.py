"""Background responses: what became of them, as a later request for the same response tells.

`POST /responses` with `background` answers at once with a response that is "queued"; its usage stands in the answer to
`GET /responses/ID`, as one body or streamed anew (`?stream=true&starting_after=N`), or to `POST /responses/ID/cancel`
(the `openai` SDK's `resources/responses`, `types/responses/response`; platform.openai.com/docs/guides/background).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

from llmcap_addon.call import Call
from llmcap_addon.usage import Reading
from llmcap_addon.wire.dialect import Meter, Request, ResponseHead, Target
from llmcap_addon.wire.jobs import Outcome
from llmcap_addon.wire.openai_common import is_event_stream
from llmcap_addon.wire.openai_responses import RESPONSES, ResponsesDialect
from llmcap_addon.wire.openai_responses_meter import ResponsesBodyMeter, ResponsesStreamMeter

_ID = re.compile(r".*/responses/([^/]+?)(?:/cancel)?/*")


class BackgroundWatch:
    """One look at a background response."""

    def __init__(self, responses: ResponsesDialect, job: str, host: str, provider: str) -> None:
        self._remember = responses.remembers_job(host)
        self._job = job
        self._provider = provider
        self._meter: Meter | None = None

    def stored_calls(self) -> Iterator[Call]:
        """Give nothing: no file is uploaded."""
        return iter(())

    def begin(self, head: ResponseHead) -> None:
        """Take the answer's head; an error tells nothing of the job."""
        if head.status >= 300 or not self._job:
            return
        kind = ResponsesStreamMeter if is_event_stream(head.content_type, streamed=False) else ResponsesBodyMeter
        self._meter = kind(lambda _: 0, self._provider, self._remember)

    def feed(self, data: bytes) -> None:
        """Take decoded bytes of the answer's body."""
        if self._meter is not None:
            self._meter.feed(data)

    def end(self) -> tuple[Outcome, ...]:
        """Say that the body ended; gives the job once it is over and its usage is told.

        One that failed or was cancelled without any usage may have been billed for what it had generated: it is left
        as it is, pending.
        """
        if self._meter is None:
            return ()
        self._meter.end()
        reading: Reading = self._meter.reading
        return (Outcome(self._job, reading),) if reading.final and reading.usage is not None else ()

    @property
    def stored(self) -> str:
        """Nothing is uploaded."""
        return ""


class BackgroundDialect:
    """`GET …/responses/ID` and `POST …/responses/ID/cancel`."""

    name = "openai.background"

    def __init__(self, responses: ResponsesDialect = RESPONSES) -> None:
        self._responses = responses

    def watch(self, request: Request, target: Target, client: str) -> BackgroundWatch:  # noqa: ARG002 - the contract's
        """Begin to watch; never raises."""
        found = _ID.fullmatch(request.path)
        job = unquote(found[1], errors="replace") if found else ""
        return BackgroundWatch(self._responses, job, request.host, target.provider)


BACKGROUND = BackgroundDialect()
