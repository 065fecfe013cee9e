"""Watching: requests that cost nothing, but whose answers tell what became of jobs.

They pass as they are, both ways: a byte is shown to the client as it came and when it came, and read beside. Whatever
of ours fails on the way is told to the user, and disturbs no answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from mitmproxy import http

from llmcap_addon.errors import LLMCapError
from llmcap_addon.gate.gate import Gate
from llmcap_addon.gate.notes import Stored
from llmcap_addon.proxy import translate
from llmcap_addon.proxy.service import Service
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.dialects import JOBS
from llmcap_addon.wire.encodings import Decoder, UndecodableBody, decoder
from llmcap_addon.wire.jobs import Outcome, Watch
from llmcap_addon.wire.routes import Route

LARGE_ANSWER_BYTES = 256 << 10
"""Answers above this are read in a thread: a batch's results take up to seconds, and every stream would feel it."""

log = logging.getLogger("llmcap")


class Watched:
    """One watched request's answer on its way through the proxy; mitmproxy's stream callable."""

    def __init__(
        self, gate: Gate, host: str, watch: Watch, stored: Stored | None, on_trouble: Callable[[str], None]
    ) -> None:
        self._gate = gate
        self._host = host
        self._watch = watch
        self._stored = stored
        self._on_trouble = on_trouble
        self._decoder: Decoder | None = None
        self._size = 0
        """Bytes of the answer so far, decoded."""
        self._finishing = asyncio.Lock()
        self._outcomes: tuple[Outcome, ...] = ()
        self.has_ended = False
        """True once its answer has ended cleanly."""

    def begin(self, head: ResponseHead) -> None:
        """Take the answer's head."""
        try:
            self._decoder = decoder(head.headers.get("content-encoding", ""))
            self._watch.begin(head)
        except Exception as error:
            self._fail(error)

    def __call__(self, data: bytes) -> list[bytes]:
        """Take a chunk as the provider sent it (empty at the clean end), and give it on."""
        try:
            if self._decoder is not None and data:
                self._feed(self._decoder.feed(data))
            elif not data:
                self.has_ended = self._decoder is not None
                if not self._is_large:
                    self._end()  # before the client can ask for more, so that nothing it asks for finds us late
        except Exception as error:
            self._fail(error)
        return [data] if data else []

    async def finish(self) -> None:
        """Write down what the answer told; it ended cleanly. Never raises, and doing it twice changes nothing."""
        async with self._finishing:  # the end of the proxy may come meanwhile, and waits for it
            try:
                if self._is_large:
                    await asyncio.to_thread(self._read_end)
                self._end()
                for outcome in self._outcomes:
                    await self._gate.jobs.settle(self._host, outcome)
                await self._gate.jobs.write_notes()
            except Exception as error:
                self._fail(error)

    @property
    def _is_large(self) -> bool:
        return self._size > LARGE_ANSWER_BYTES

    def _feed(self, decoded: bytes) -> None:
        self._size += len(decoded)
        self._watch.feed(decoded)

    def _end(self) -> None:
        """Read the last of it, unless that is done, and take note of a file."""
        self._read_end()
        stored, self._stored = self._stored, None
        if stored is not None and self._watch.stored:
            self._gate.jobs.note_stored(self._host, self._watch.stored, stored)

    def _read_end(self) -> None:
        decoding, self._decoder = self._decoder, None
        if decoding is not None:
            self._feed(decoding.end())
            self._outcomes = self._watch.end()

    def _fail(self, error: Exception) -> None:
        self._decoder = self._stored = None
        why = str(error) if isinstance(error, UndecodableBody | LLMCapError) else f"{type(error).__name__}: {error}"
        self._on_trouble(f"what became of a job could not be read from an answer of {self._host}: {why}")


class Watching:
    """The watched requests of a proxy."""

    def __init__(self) -> None:
        self._flows: dict[http.HTTPFlow, Watched] = {}

    async def open(self, flow: http.HTTPFlow, service: Service, route: Route, request: Request, client: str) -> None:
        """Begin to watch a request, which goes out in any case; never raises.

        What an upload's requests may cost is worked out first: the next request may ask for them to be run.
        """
        try:
            raw = flow.request.raw_content or b""
            if raw:
                encoding = request.headers.get("content-encoding", "")
                request = await asyncio.to_thread(translate.decoded, request, raw, encoding, route)
            target = Target(route.provider, route.model, route.models, route.zone)
            watch = JOBS[route.dialect_name].watch(request, target, client)
            stored = await service.gate.jobs.bound_of(watch.stored_calls) if raw else None
            self._flows[flow] = Watched(service.gate, route.host, watch, stored, service.bulletin.trouble)
        except Exception as error:
            service.bulletin.trouble(f"a request to {route.host} could not be watched: {type(error).__name__}: {error}")

    def headers(self, flow: http.HTTPFlow) -> bool:
        """Stand in the way of an answer's body; False when the flow is none of ours."""
        watched = self._flows.get(flow)
        if watched is None or flow.response is None:
            return False
        told = translate.lowered(flow.response.headers)
        watched.begin(ResponseHead(flow.response.status_code, told.get("content-type", ""), told))
        flow.response.stream = watched
        return True

    async def answered(self, flow: http.HTTPFlow) -> None:
        """Take the clean end of an answer."""
        watched = self._flows.get(flow)
        if watched is None:
            return
        try:
            await watched.finish()
        finally:
            self._flows.pop(flow, None)  # not before: the end of the proxy waits for those that are here

    def broken(self, flow: http.HTTPFlow) -> None:
        """Forget an answer that broke off: it settles nothing, and a later one tells the same."""
        self._flows.pop(flow, None)

    async def finish_all(self) -> None:
        """Write down what the answers tell that have ended."""
        for watched in list(self._flows.values()):
            if watched.has_ended:
                await watched.finish()
