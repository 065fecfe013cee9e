"""Metered websockets: each frame that begins a response waits until it is admitted, each response's frames are metered.

What a client sends is taken out of mitmproxy's hands in the hook, and goes out in order once it may: a request that
waits for money keeps what its own client sends behind it, and nothing else. Where a provider begins responses by
itself, what the next one may cost stands set aside before anything goes out that can lead to it. What a provider sends
goes on at once, unless it outruns its reservation. A cut ends the whole connection, because a response on a websocket
can't be stopped otherwise; so does any failure of ours.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial

from llmcap_addon.activity import CallLine
from llmcap_addon.call import Call
from llmcap_addon.gate import messages
from llmcap_addon.gate.endings import Ending
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.proxy.answers import Answer, Settling
from llmcap_addon.proxy.cutting_sockets import Close, Frame
from llmcap_addon.proxy.service import Service
from llmcap_addon.proxy.valve import Valve
from llmcap_addon.usage import Reading
from llmcap_addon.wire.dialect import Refusal, Request
from llmcap_addon.wire.providers import with_habits
from llmcap_addon.wire.routes import Route
from llmcap_addon.wire.socket import MAX_FRAME_BYTES, Asks, Denied, Free, SocketTalk, Stands, Told

MAX_QUEUED = 4_096
"""Frames of one client that wait in order: what a microphone sends in 40 seconds, twice as long as a request waits."""
MAX_ANSWERS = 256
"""Responses of one connection that have not ended; OpenAI's service answers 16 at once and queues the others."""
LAST_S = 120.0
"""For so long what runs may go on when nothing more can be set aside: twice as long as a long answer takes to come."""
LARGE_FRAME_BYTES = 256 << 10
"""Frames above this are read in a thread: parsing 1 MB takes long enough for other streams to feel it."""
REFUSED_STATUS = 400
"""What a refusal in a frame says: no client repeats it, and Codex shows its message and stops."""
POLICY, INTERNAL = 1008, 1011
"""Close codes (RFC 6455, 7.4.1)."""


class Socket:
    """One websocket connection; the `Relay` that its layer asks."""

    def __init__(
        self,
        *,
        service: Service,
        route: Route,
        request: Request,
        talk: SocketTalk,
        client: str,
        spawn: Callable[[Coroutine[None, None, None]], None],
        nudge: Callable[[], None],
        is_gone: Callable[[], bool],
        on_line: Callable[[CallLine], None],
    ) -> None:
        self._service = service
        self._gate = service.gate
        self._route = route
        self._request = request
        self._talk = talk
        self._client = client
        self._spawn = spawn
        self._nudge = nudge
        self._is_client_gone = is_gone
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._queued_bytes = 0
        self._pumping = False
        self._answers: dict[int, Answer] = {}
        self._out: list[tuple[Frame, int]] = []
        """What goes out next, with the number of the response that it begins."""
        self._early: dict[int, Told] = {}
        """What the provider has begun by itself before it was set aside; that is under way."""
        self._last: Close | None = None
        """How the connection ends when what runs has ended, for nothing more can be set aside."""
        self._settling = Settling(on_line, service.bulletin.trouble)
        self._idle = asyncio.Event()
        self._idle.set()
        self._close: Close | None = None
        self._failure = ""
        self._is_over = False
        self._ended_by_us = False

    # ── what the layer asks ──

    def passes(self, data: bytes, *, from_client: bool, is_text: bool) -> bool:
        """Take a message; True when it goes on now, as it came. What fails here ends the connection."""
        if self._is_over:
            return False
        try:
            if from_client:
                self._from_client(data, is_text)
                return False
            return self._hear(Frame(True, data, is_text))
        except BaseException as error:  # tiktoken's panic is a BaseException
            self.fail(error)
            return False

    def take_close(self) -> Close | None:
        """Say once that the connection is to end."""
        close, self._close = self._close, None
        return close

    def take_frames(self) -> list[Frame]:
        """Give the frames that are to go out now."""
        out, self._out = self._out, []
        if self._is_over:  # nothing is sent to a provider any more
            return [frame for frame, _ in out if frame.to_client]
        for _, number in out:
            if number in self._answers:
                self._answers[number].sent = True
        return [frame for frame, _ in out]

    def take_last(self) -> list[Frame]:
        """Give what the client shall still get when the provider has ended the connection: all that was held."""
        held = [Frame(True, piece) for one in self._answers.values() for piece in one.valve.end()]
        self._is_over = True  # what waits for the provider is not sent any more
        return self.take_frames() + held

    # ── from the client ──

    def _from_client(self, data: bytes, is_text: bool) -> None:
        """Put a client's frame behind those that came before it."""
        if self._last is not None:
            return
        self._queue.append((data, is_text))
        self._queued_bytes += len(data)
        if len(self._queue) > MAX_QUEUED or self._queued_bytes > MAX_FRAME_BYTES:
            self._end(Close(POLICY, "LLMCap: too many requests wait on this connection"))
        else:
            self._start_pump()

    def _start_pump(self) -> None:
        if not self._pumping and not self._is_over:
            self._pumping = True
            self._idle.clear()
            self._spawn(self._pump())

    async def _pump(self) -> None:
        try:
            while await self._stand() and self._queue:
                data, is_text = self._queue.popleft()
                await self._take(data, is_text=is_text)
                self._queued_bytes -= len(data)
        except BaseException as error:  # as above
            self.fail(error)
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._pumping = False
            self._idle.set()

    async def _take(self, data: bytes, *, is_text: bool) -> None:
        read = partial(self._talk.read, data, is_text=is_text)
        said = await asyncio.to_thread(read) if len(data) > LARGE_FRAME_BYTES else read()
        asked = self._talk.from_client(said)
        if not await self._stand():
            return
        if isinstance(asked, Free):
            self._put(Frame(False, data, is_text), asked.number)
        elif isinstance(asked, Denied):
            await self._deny(asked, Frame(False, data, is_text))
        else:
            await self._admit(asked)

    async def _deny(self, denied: Denied, frame: Frame) -> None:
        refusal = messages.failure(denied.kind, f"refused, {denied.reason}")
        answer = self._talk.refuse(denied.number, refusal, REFUSED_STATUS)
        if denied.kind == "unmetered" and self._service.config.unmetered == "allow":
            self._service.bulletin.notice(f"not metered, forwarded: a websocket's frame to {self._route.host}")
            self._put(frame)
            return
        await self._note(refusal)
        self._put(Frame(True, answer))
        if denied.close_code:
            self._end(Close(denied.close_code, refusal.message))

    async def _note(self, refusal: Refusal) -> None:
        route = self._route
        await self._gate.note_refusal(route.dialect_name, route.host, route.provider, self._client, refusal)

    async def _admit(self, asked: Asks) -> None:
        await self._settling.wait()  # the client may have waited for the one before, whose reservation must be gone
        outcome = await self._ask_gate(asked.call)
        if isinstance(outcome, Refusal):
            told = self._talk.refuse(asked.number, outcome, self._status(outcome))
            self._put(Frame(True, told))
            if not told:
                self._stop(outcome)  # nothing else can tell it
            return
        try:
            frame = self._talk.admit(asked.number, outcome.output_limit, outcome.max_output_tokens)
        except BaseException:
            await outcome.finish(Reading(), "never_sent", 0, "refused after an internal error")
            raise
        if self._is_over:
            await outcome.finish(Reading(), "never_sent", 0, "its connection ended while it waited")
            return
        self._answers[asked.number] = self._answer(asked.number, outcome, Reading())
        self._put(Frame(False, frame), asked.number)

    async def _ask_gate(self, call: Call) -> LiveCall | Refusal:
        if len(self._answers) < MAX_ANSWERS:
            return await self._gate.admit(with_habits(call, self._request), self._is_gone)
        refusal = messages.failure("unmetered", f"refused, {MAX_ANSWERS} responses run on this connection already")
        await self._note(refusal)
        return refusal

    async def _stand(self) -> bool:
        """Set aside what the provider may begin by itself; False when the connection is over, or is to end."""
        while not self._is_over and self._last is None:
            stands = self._talk.stand()
            if stands is None:
                return True
            await self._settling.wait()  # as above
            is_new = stands.number not in self._answers
            outcome = await self._set_aside(stands)
            if isinstance(outcome, Refusal):
                self._stand_down(stands, outcome)
            else:
                limit = outcome.max_output_tokens if is_new else None
                self._put(Frame(False, self._talk.admit(stands.number, outcome.output_limit, limit)))
        return False

    async def _set_aside(self, stands: Stands) -> LiveCall | Refusal:
        number = stands.number
        grown = self._answers.get(number)
        if grown is not None:
            return await self._gate.widen(grown.live, with_habits(stands.call, self._request)) or grown.live
        outcome = await self._ask_gate(stands.call)
        if isinstance(outcome, LiveCall):
            early = self._early.pop(number, None)
            answer = self._answer(number, outcome, early.reading if early else Reading(), begun=early is not None)
            self._answers[number], answer.billed_at_once = answer, stands.billed_at_once
            if early is not None and early.ended:
                self._settle(early)
        return outcome

    def _stand_down(self, stands: Stands, refusal: Refusal) -> None:
        """Tell the client why nothing of its own goes out any more."""
        self._put(Frame(True, self._talk.refuse(stands.number, refusal, self._status(refusal))))
        self._put(Frame(False, self._talk.quiet()))
        early, grown = self._early.pop(stands.number, None), self._answers.get(stands.number)
        if early is not None and not early.unused:
            self._cut_unasked(early, stands.call)
        elif grown is not None and grown.begun:
            self._end(Close(POLICY, refusal.message))  # it waits for what can't be sent
        self._stop(refusal)

    def _stop(self, refusal: Refusal) -> None:
        """Let nothing more of the client's out, and end with what runs, for that is paid."""
        self._last = Close(POLICY, refusal.message)
        self._queue.clear()
        self._end_if_quiet()
        asyncio.get_running_loop().call_later(LAST_S, self._end, self._last)

    def _end_if_quiet(self) -> None:
        if self._last is not None and not any(answer.runs for answer in self._answers.values()):
            self._end(self._last)

    def _status(self, refusal: Refusal) -> int:
        chosen = self._service.config.refuse_with if refusal.kind in ("spent", "reserved") else None
        return chosen or REFUSED_STATUS

    def _is_gone(self) -> bool:
        return self._is_over or self._is_client_gone()

    # ── from the server ──

    def _hear(self, frame: Frame) -> bool:
        pieces, frees = None, False
        for told in self._talk.from_server(frame.data, is_text=frame.is_text):
            if told.unasked is not None:
                self._cut_unasked(told, told.unasked)
                return False
            answer = self._answers.get(told.number)
            frees = frees or answer is None or told.ended or not answer.begun
            if answer is None:
                if len(self._early) < MAX_ANSWERS:
                    self._early[told.number] = told
                continue
            answer.begun, answer.reading = True, told.reading
            if told.ended:
                self._out += [(Frame(True, piece), 0) for piece in answer.valve.end()]
                self._settle(told)
            elif pieces is None and frame.is_text:
                pieces = answer.valve.let_through(told.reading, frame.data)
            else:
                answer.valve.let_through(told.reading, b"")
            if self._is_over:  # cut
                return False
        if frees:
            # The next may have to be set aside. Not before all of the frame has been taken: a task of mitmproxy's loop
            # begins at once, and where the store answers at once it has ended before this goes on.
            self._start_pump()
        if pieces is None:
            pieces = [frame.data]
        if pieces == [frame.data] and not self._out and self._last is None:
            return True
        self._out += [(Frame(True, piece, frame.is_text), 0) for piece in pieces]
        self._end_if_quiet()  # behind the last frame of what ran
        return False

    def _take_in(self, told: Told, call: Call) -> Answer:
        """Take in what the provider began by itself, and nothing was reserved for."""
        live = self._gate.unasked(with_habits(call, self._request))
        self._answers[told.number] = answer = self._answer(told.number, live, told.reading, begun=True)
        return answer

    def _cut_unasked(self, told: Told, call: Call) -> None:
        answer = self._take_in(told, call)
        self._service.bulletin.notice(f"{self._route.host} began a response that nothing asked for; it is cut")
        answer.valve.cut(messages.failure("unmetered", "stream cut, the provider began it without a request"))

    def _answer(self, number: int, live: LiveCall, reading: Reading, *, begun: bool = False) -> Answer:
        valve = Valve(
            gate=self._gate,
            live=live,
            spawn=self._spawn,
            nudge=lambda: self._release(number),
            on_cut=lambda refusal: self._cut(number, refusal),
        )
        return Answer(live, valve, reading, begun=begun)

    def _release(self, number: int) -> None:
        answer = self._answers.get(number)
        if answer is not None:
            self._out += [(Frame(True, piece), 0) for piece in answer.valve.take_held()]
        self._nudge()

    def _settle(self, told: Told) -> None:
        answer = self._answers.pop(told.number)
        ending: Ending = "never_sent" if told.unused and not answer.billed_at_once else "complete"
        self._settling.begin(answer, ending, told.status, told.unused)

    # ── the end ──

    def fail(self, error: BaseException) -> None:
        """End the connection because something of ours failed; what its responses said then is unknown."""
        self._service.bulletin.trouble(f"internal error on a websocket: {type(error).__name__}: {error}")
        self._failure = self._failure or f"cut after an internal error ({type(error).__name__})"
        if self._is_over:
            return
        refusal = messages.failure("internal", f"stream cut after an internal error ({type(error).__name__})")
        self._is_over = True
        self._close = Close(INTERNAL, refusal.message)
        self._queue.clear()
        for answer in list(self._answers.values()):
            answer.valve.cut(refusal)
        self._nudge()

    async def finish(self, ending: Ending, note: str = "") -> None:
        """Settle what has not ended; call it when the connection is over. Returns when nothing is left to be done."""
        self._is_over = True
        if self._ended_by_us:
            note = note or "its connection was cut for another response"
        await self._finish_answers(ending, note)
        await self._idle.wait()
        early, self._early = self._early, {}
        for told in early.values():
            if told.call is not None and not told.unused:
                self._take_in(told, told.call)
        await self._finish_answers(ending, note)  # and what the pump was about to begin

    async def _finish_answers(self, ending: Ending, note: str) -> None:
        while self._answers:
            _, answer = self._answers.popitem()
            answer.valve.is_over = True
            how: Ending = (
                "cut" if answer.valve.is_cut else ending if answer.runs or answer.billed_at_once else "never_sent"
            )
            if self._failure and not answer.reading.final:
                answer.reading.unreadable = answer.reading.unreadable or self._failure
            self._settling.begin(answer, how, 200 if answer.begun else 0, "" if how == "cut" else note)
        await self._settling.wait()  # those of another call of this too

    def _cut(self, number: int, refusal: Refusal) -> None:
        try:
            self._put(Frame(True, self._talk.cut(number, refusal)))
        except Exception as error:
            self._service.bulletin.trouble(f"internal error in a cut: {type(error).__name__}: {error}")
        self._end(Close(POLICY, refusal.message))

    def _end(self, close: Close) -> None:
        if not self._is_over:
            self._is_over = self._ended_by_us = True
            self._close = close
            self._queue.clear()
            self._nudge()

    def _put(self, frame: Frame, number: int = 0) -> None:
        if frame.data or not frame.is_text:
            self._out.append((frame, number))
            self._nudge()
