"""Exchange: one call's response on its way through the proxy: decoded, metered, held back or cut.

An exchange is the callable that mitmproxy gives each chunk of a response body to, and the `Cuttable` that our stream
asks afterwards. It keeps the bytes that outran their reservation until the ledger answers, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable

from llmcap_addon.activity import CallLine
from llmcap_addon.gate import messages
from llmcap_addon.gate.endings import Ending
from llmcap_addon.gate.gate import Gate
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.proxy.valve import Valve
from llmcap_addon.usage import Reading
from llmcap_addon.wire.dialect import Dialect, Meter, Refusal, ResponseHead
from llmcap_addon.wire.encodings import Decoder, UndecodableBody, decoder
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.plans import billing_told


class Exchange:
    """One admitted call, from its response's headers to its settlement."""

    def __init__(
        self,
        *,
        gate: Gate,
        live: LiveCall,
        dialect: Dialect,
        body: bytes,
        spawn: Callable[[Coroutine[None, None, None]], None],
        nudge: Callable[[], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        self.live = live
        self.status = 0
        self.sent = False
        """True once the request has begun to leave: from then on it may be billed."""
        self.aborts = False
        """True when a cut can only break the connection off: the response is no stream of events."""
        self._gate = gate
        self._dialect = dialect
        self._body = body
        self._valve = Valve(gate=gate, live=live, spawn=spawn, nudge=nudge, on_cut=self._end_with)
        self._on_trouble = on_trouble
        self._spawn = spawn
        self._meter: Meter | None = None
        self._decoder: Decoder | None = None
        self._decodes_for_client = False
        self._tail: bytes | None = None
        self._done = False
        self._failure = ""
        self.ended = asyncio.Event()
        """Set once it is settled."""
        self._is_ending = False

    def begin(self, head: ResponseHead) -> bool:
        """Take the response's head; True when the client shall get the body decoded.

        A stream is given to the client decoded, because the last bytes of a cut can't be appended to a compressed one.
        """
        self.status = status = head.status
        self.aborts = not self.live.call.streamed or status >= 300
        content_encoding = head.headers.get("content-encoding", "")
        encoded = content_encoding.strip().lower() not in ("", "identity")
        self._decodes_for_client = encoded and not self.aborts
        self.live.by_gateway = status >= 500 and "json" not in head.content_type.lower()
        call = self.live.call
        self._meter = self._dialect.meter(
            call, self._body, head, lambda text: self._gate.pricing.count_output(call, text)
        )
        told = self._meter.reading.billing = billing_told(call.host, head.headers)
        self._gate.note_billing(call, told)
        if told and status < 300:
            self.live.billing_told = told
            if self.live.is_beyond_plan:
                self._spawn(self._cover())
        if call.streamed and status < 300 and isinstance(self._meter, BodyMeter):
            self._gate.note_whole(call)
        try:
            self._decoder = decoder(content_encoding)
        except UndecodableBody as error:
            self._undecodable(error)
        return self._decodes_for_client

    @property
    def reads_on(self) -> bool:
        """True when the provider bills the rest even if nobody listens: then its last word is worth waiting for."""
        return self.live.call.bills_after_disconnect and self.sent and not self._valve.is_cut

    # ── mitmproxy's stream callable, and what our stream asks afterwards ──

    def __call__(self, data: bytes) -> list[bytes]:
        """Take a chunk as the provider sent it (empty at the clean end), give what the client shall get now.

        Never an empty chunk: in HTTP/1.1's chunked coding that would end the body.
        """
        shown = b""
        if not self._valve.is_cut:
            try:
                shown = self._take(data)
            except BaseException as error:  # tiktoken's panic is a BaseException; an exception here must become a cut
                self.fail(error)
        if not data and self._valve.is_cut:
            # The provider has ended by itself: our stream does not ask any more, so the tail goes out here.
            shown = self.take_tail() or b""
        return [shown] if shown else []

    def may_leave(self) -> bool:
        """Remember that the request begins to leave, unless it is settled already: then nothing is reserved for it."""
        self.sent = self.sent or not self._is_ending
        return not self._is_ending

    def take_held(self) -> bytes:
        """Give the held bytes once they may go out."""
        return b"".join(self._valve.take_held())

    def take_tail(self) -> bytes | None:
        """Give the last bytes if the stream is to end now, once."""
        tail, self._tail = self._tail, None
        return tail

    def fail(self, error: BaseException) -> None:
        """End the response because something of ours failed; what it said then is unknown, so its bound is posted."""
        self._on_trouble(f"internal error in a response: {type(error).__name__}: {error}")
        self._failure = f"cut after an internal error ({type(error).__name__})"
        self._valve.cut(messages.failure("internal", f"stream cut after an internal error ({type(error).__name__})"))

    async def finish(self, ending: Ending, note: str = "") -> CallLine | None:
        """Settle; gives the call's last line, once. A second call of it returns when the first has settled."""
        if self._is_ending:
            await self.ended.wait()
            return None
        self._is_ending = True
        if ending == "complete" and not self._valve.is_cut:
            try:
                self._end_meter()
            except BaseException as error:  # as above; a call that is not settled would stay reserved
                self.fail(error)
        reading = self._meter.reading if self._meter is not None else Reading()
        if not reading.final:
            reading.unreadable = reading.unreadable or self._failure
        try:
            return await self.live.finish(reading, "cut" if self._valve.is_cut else ending, self.status, note)
        finally:
            self.ended.set()

    # ── inside ──

    def _take(self, data: bytes) -> bytes:
        assert self._meter is not None
        if not data:
            rest = self._end_meter()
            held = b"".join(self._valve.end())
            return held + (rest if self._shows_metered else b"")
        shown = b"" if self._shows_metered else data
        if self._decoder is not None:
            try:
                metered = self._meter.feed(self._decoder.feed(data))
            except UndecodableBody as error:
                self._undecodable(error)
                metered = b""
            if self._shows_metered:
                shown = metered
        return b"".join(self._valve.let_through(self._meter.reading, shown))

    @property
    def _shows_metered(self) -> bool:
        """True when the client gets what the meter lets through, false when it gets the provider's own bytes."""
        return not self.aborts

    def _end_meter(self) -> bytes:
        if self._done or self._meter is None:
            return b""
        self._done = self._valve.is_over = True
        rest = b""
        if self._decoder is not None:
            try:
                rest = self._meter.feed(self._decoder.end())
            except UndecodableBody as error:
                self._undecodable(error)
        return rest + self._meter.end()

    def _undecodable(self, error: UndecodableBody) -> None:
        assert self._meter is not None
        self._decoder = None
        if self._meter.reading.final:
            return  # a broken trailer takes nothing from the provider's last word
        self._meter.reading.unreadable = str(error)
        if self._decodes_for_client:
            self.live.refuse(messages.failure("unreadable", f"stream cut, it can't be decoded: {error}"))

    async def _cover(self) -> None:
        refusal = await self._gate.cover(self.live)
        if refusal is not None:
            self._valve.cut_now(refusal)

    def _end_with(self, refusal: Refusal) -> None:
        self._tail = b""
        if not self.aborts and self._meter is not None:
            try:
                self._tail = self._dialect.cut(self.live.call, refusal, self._meter)
            except Exception as error:
                self._on_trouble(f"internal error in a cut: {type(error).__name__}: {error}")
        self.aborts = not self._tail


async def read_on(exchanges: Iterable[Exchange], timeout_s: float) -> None:
    """Wait for the end of those answers that are billed even if nobody listens, at most so long."""
    ends = [asyncio.ensure_future(one.ended.wait()) for one in exchanges if one.reads_on]
    if ends:
        _, late = await asyncio.wait(ends, timeout=timeout_s)
        for waiting in late:
            waiting.cancel()
