"""One forwarded call: the simulated provider at one end, the real Exchange in the middle, its own bill as the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from llmcap_addon.call import Call
from llmcap_addon.gate.endings import Ending
from llmcap_addon.gate.gate import Gate
from llmcap_addon.gate.live import LiveCall
from llmcap_addon.gate.pace import RATE_FLOOR_S, YOUNG_TOKENS
from llmcap_addon.money import ceil_div
from llmcap_addon.proxy.exchange import Exchange
from llmcap_addon.usage import Reading, Terms, Usage
from llmcap_addon.wire.dialect import CountTokens, Meter, Refusal, Request, Response, ResponseHead, Target
from llmcap_addon.wire.jobs import Outcome
from tests.simulation.clockwork import Clockwork
from tests.simulation.plan import MAX_ROUND_TRIP_S, CallPlan

_TAIL = b"!cut"
SLOP_S = 0.02
"""A cut comes with a chunk, or with the store's answer a few milliseconds after it."""


class Broken(Exception):
    """An invariant does not hold."""


@dataclass(slots=True)
class SimMeter:
    """Reads what the talk says has arrived."""

    reading: Reading
    arrive: Callable[[Reading], None]

    def feed(self, data: bytes) -> bytes:
        """Take the next chunk."""
        if data:
            self.arrive(self.reading)
        return data

    def end(self) -> bytes:
        """Nothing is kept back."""
        return b""


@dataclass(slots=True)
class SimDialect:
    """The dialect of one talk."""

    talk: Talk
    name: str = "simulated"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Calls are made, not parsed."""
        raise NotImplementedError

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Bodies are empty."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter."""
        return SimMeter(Reading(), self.talk.arrive)

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:
        """Refusals are values here."""
        raise NotImplementedError

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """The last bytes."""
        return _TAIL


class Talk:
    """An admitted call until it is settled. `on_end` is told when its settlement is handed to the ledger or kept."""

    def __init__(
        self, plan: CallPlan, live: LiveCall, gate: Gate, clockwork: Clockwork, group: object,
        on_end: Callable[[Talk], None], on_trouble: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.plan = plan
        self.live = live
        self.call = live.call
        self.sent_s: float | None = None
        self.stop_s: float | None = None
        """When the provider stops generating, if that is before it is done."""
        self.closed = False
        self.ending: Ending = "complete"
        self.reading = Reading()
        self.delivered = bytearray()
        self.fed = bytearray()
        self.settled = False
        self.told = False
        """The row holds what the provider said, not an estimate."""
        self._gate = gate
        self._clockwork = clockwork
        self._group = group
        self._on_end = on_end
        self._chunks = 0
        self._streaming = False
        self._exchange = Exchange(
            gate=gate,
            live=live,
            dialect=SimDialect(self),
            body=b"",
            spawn=lambda work: self._spawn(work, "extend"),
            nudge=lambda: clockwork.at(clockwork.now_s, self._nudged),
            on_trouble=on_trouble,
        )
        quote = gate.pricing.quote(self.call, "counted")
        limit = live.output_limit
        self.input_tokens = max(1, int(min(live.quote.input_tokens, quote.input_tokens) * plan.input_share))
        self.hidden = min(plan.hidden, limit)
        if plan.hidden_bound is not None:
            self.hidden = min(self.hidden, live.quote.hidden_output_tokens)
        self.visible = min(plan.visible, limit - self.hidden) if self.call.has_output else 0
        if plan.rude == "input":
            self.input_tokens += live.quote.input_tokens
        if plan.rude == "output" and self.call.has_output and limit <= 2_000:
            self.visible += limit
        if not self.call.has_output:
            self.hidden = 0

    # ── the provider ──

    def begin(self) -> None:
        """Let the request go out, or not."""
        plan, clockwork = self.plan, self._clockwork
        if plan.end == "never_sent":
            clockwork.at(clockwork.now_s + 0.02, lambda: self._end("never_sent"))
        else:
            clockwork.at(clockwork.now_s + 0.005, self._send)

    def _send(self) -> None:
        plan, clockwork = self.plan, self._clockwork
        assert self._exchange.may_leave()
        self.sent_s = clockwork.now_s
        if plan.end == "error":
            clockwork.at(clockwork.now_s + plan.up_s + plan.down_s, self._error)
            return
        if plan.end in ("client_gone", "upstream_gone"):
            clockwork.at(clockwork.now_s + plan.end_after_s, self._abort)
        clockwork.at(self._arrives_s(1), self._head)

    def _head(self) -> None:
        if self.closed:
            return
        self._exchange.begin(ResponseHead(200, "text/event-stream"))
        self._streaming = True
        self._chunk()

    def _error(self) -> None:
        if self.closed:
            return
        self._exchange.begin(ResponseHead(500 if self.plan.visible % 2 else 429, "application/json"))
        self._end("complete")

    @property
    def _last(self) -> int:
        """How many chunks there are; an answer without output, or not streamed, is one."""
        return max(1, ceil_div(self.visible, self.plan.chunk)) if self.call.streamed else 1

    def _tokens(self, chunk: int) -> int:
        """Visible tokens in the first so many chunks."""
        return min(self.visible, chunk * self.plan.chunk) if self.call.streamed else self.visible

    def _visible_from_s(self) -> float:
        assert self.sent_s is not None
        return self.sent_s + self.plan.up_s + self.plan.think_s + self.hidden / self.plan.hidden_rate

    def _arrives_s(self, chunk: int) -> float:
        tokens = self._tokens(chunk)
        if self.plan.rude == "burst":
            tokens -= tokens % 512
        return self._visible_from_s() + tokens / self.plan.rate + self.plan.down_s

    def _chunk(self) -> None:
        """The next piece of the body is here."""
        if self.closed:
            return
        clockwork = self._clockwork
        data = b"%d;" % self._chunks
        self.fed += data
        self._show(self._exchange(data))
        if not self._obey():
            return
        if self._chunks < self._last and not self.reading.failed:
            clockwork.at(self._arrives_s(self._chunks + 1), self._chunk)
        else:
            clockwork.at(clockwork.now_s + 0.001, self._finish_body)

    def arrive(self, reading: Reading) -> None:
        """Tell the meter what the chunk that is being fed holds."""
        self.reading = reading
        self._chunks += 1
        plan, chunk = self.plan, self._chunks
        last = chunk >= self._last
        tokens = self._tokens(chunk)
        reading.counted_output_tokens = ceil_div(tokens * plan.counted_percent, 100)
        if plan.job:
            reading.job = self.job
            return
        if plan.named == "first" or (last and plan.named == "last"):
            reading.terms = Terms(service_tier=plan.applied)
        reading.model = self.call.model
        if plan.end == "unreadable" and chunk >= max(1, self._last // 2):
            reading.unreadable = "gibberish"
            return
        if plan.end == "failed" and chunk >= max(1, self._last // 2):
            reading.failed = True
            return
        if plan.reports == "running":
            reading.usage = self._usage(tokens, self.hidden)
            reading.counted_at_usage = reading.counted_output_tokens
        elif plan.reports == "start" and reading.usage is None:
            reading.usage = self._usage(min(1, tokens), 0)
        if last and plan.reports != "none":
            reading.usage = self._usage(self.visible, self.hidden)
            reading.final = True

    def _finish_body(self) -> None:
        if self.closed:
            return
        self._streaming = False
        self._show(self._exchange(b""))
        self._end("complete")

    def _abort(self) -> None:
        if self.plan.end == "client_gone":
            self._end("client_gone")
        else:
            self._end("upstream_gone")

    # ── the proxy's stream ──

    def _show(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self.delivered += chunk

    def _obey(self) -> bool:
        """Give the client what may go out; False when the stream has ended."""
        if self.closed or not self._streaming:
            return False
        self.delivered += self._exchange.take_held()
        tail = self._exchange.take_tail()
        if tail is not None:
            self.delivered += tail
            self._end("cut")
        return tail is None

    def _nudged(self) -> None:
        self._obey()

    def _end(self, ending: Ending) -> None:
        if self.closed:
            return
        self.closed = True
        self.ending = ending
        now_s = self._clockwork.now_s
        if ending in ("cut", "client_gone"):
            self.stop_s = now_s + self.plan.up_s
        elif ending == "upstream_gone":
            self.stop_s = now_s - self.plan.down_s
        # A cut comes to the exchange as the response's end: it knows itself that it cut.
        self._check_shown()
        self._spawn(self._settle("complete" if ending == "cut" else ending), "settle")

    async def _settle(self, ending: Ending) -> None:
        await self._exchange.finish(ending)
        self.settled = True
        self._on_end(self)

    def _check_shown(self) -> None:
        shown = bytes(self.delivered)
        if self.ending == "cut":
            shown = shown.removesuffix(_TAIL)
        if not self.fed.startswith(shown) or (self.ending == "complete" and shown != self.fed):
            raise Broken(f"the client was shown {shown!r} of {bytes(self.fed)!r} ({self.ending})")

    def kill(self, now_s: float) -> None:
        """The proxy died: the provider sees its connection close."""
        if not self.closed:
            self.closed = True
            self.ending = "shutdown"
            self.stop_s = now_s + self.plan.up_s

    def _spawn(self, work: object, name: str) -> None:
        self._clockwork.spawn(work, self._group, f"{name} {self.live.entry.id}")  # type: ignore[arg-type]

    # ── the truth ──

    def _usage(self, visible: int, hidden: int) -> Usage:
        cached = int(self.input_tokens * self.plan.cached_share)
        written = (self.input_tokens - cached) // 2 if self.call.cache_write != "none" else 0
        return Usage(
            input_tokens=self.input_tokens,
            output_tokens=visible + hidden,
            cache_read_tokens=cached,
            cache_write_tokens=written,
            reasoning_tokens=hidden,
        )

    @property
    def is_accepted(self) -> bool:
        """The provider has the job, and may be asked about it."""
        begun = self.sent_s is not None and self._clockwork.now_s >= self.sent_s + self.plan.up_s
        return bool(self.plan.job) and begun and self.plan.end not in ("never_sent", "error")

    @property
    def job(self) -> str:
        """The provider's id of what it goes on with behind its answer."""
        return f"job-{self.live.entry.id}"

    def outcome(self) -> Outcome:
        """What the provider tells of the job to whoever asks."""
        if self.plan.job == "free":
            return Outcome(self.job, Reading(failed=True))
        usage, terms = self._usage(self.visible, self.hidden), Terms(service_tier=self.plan.applied)
        return Outcome(self.job, Reading(usage=usage, final=True, terms=terms, model=self.call.model))

    def bill(self) -> int:
        """What the provider bills in the end, nano-dollars; by what it generated, told or not."""
        plan = self.plan
        if self.sent_s is None or plan.end == "error" or plan.job == "free":
            return 0
        visible, hidden = self.visible, self.hidden
        if self.reading.failed:
            visible = self._tokens(self._chunks)
        elif self.stop_s is not None and self.call.streamed and not self.call.bills_after_disconnect:
            begun_s = self.sent_s + plan.up_s + plan.think_s
            hidden = min(hidden, max(0, int((self.stop_s - begun_s) * plan.hidden_rate)))
            visible = min(visible, max(0, int((self.stop_s - self._visible_from_s()) * plan.rate)))
        applied = Terms(service_tier=plan.applied)
        pricing = self._gate.pricing
        return pricing.cost(self.call, self._usage(visible, hidden), applied, self.call.model).amount

    @property
    def is_exact(self) -> bool:
        """The provider's last word on usage has come, so that the row must agree to the nano-dollar."""
        return self.reading.final and not self.reading.unreadable and self.plan.named != "never"

    @property
    def is_unforeseen(self) -> bool:
        """More may be on its way than a first slice holds, and nothing has told so.

        It broke off before a chunk larger than that had come, or within the tenth of a second in which a stream's
        speed can't be told (`pace.RATE_FLOOR_S`).
        """
        if self.stop_s is None or self.sent_s is None:
            return False
        large = self.plan.chunk + self.plan.rate * MAX_ROUND_TRIP_S > YOUNG_TOKENS
        early = self.stop_s - self.plan.up_s <= self._arrives_s(1) + RATE_FLOOR_S + SLOP_S or self._chunks <= 1
        return early and (large or self.ending in ("cut", "shutdown"))
