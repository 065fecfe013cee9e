"""Transcripts of what a client says on a Realtime connection: another model's work, billed apart.

Each begins when a piece of sound is committed, by the client or where the server hears a pause, and tells its usage
when it is written. Shapes: the `openai` SDK's `types/realtime/input_audio_buffer_committed_event.py` and
`conversation_item_input_audio_transcription_*_event.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from llmcap_addon.call import Call
from llmcap_addon.wire.openai_audio import transcription_usage
from llmcap_addon.wire.openai_realtime_replies import Calls, Reply, Standing
from llmcap_addon.wire.openai_realtime_session import Session
from llmcap_addon.wire.openai_usage import record_bad_usage, record_usage
from llmcap_addon.wire.socket import CountOutput, Stands, Told
from llmcap_addon.wire.text import JsonObject

TRANSCRIPT = "conversation.item.input_audio_transcription."
MAX_ENDED = 256
"""Ids of what has ended, so that what comes late is not taken for something that nobody asked for."""
MAX_ID_CHARS = 512
"""What the server takes as the name of an event; its own are some 25 characters."""
LEAD_MS = 1_000
"""Sound before the moment at which speech was detected that may belong to it (`prefix_padding_ms`, 300 if unset)."""


class Transcripts:
    """Those of one connection."""

    def __init__(self, calls: Calls, session: Session, new_reply: Callable[[Call], Reply], count: CountOutput) -> None:
        self._calls = calls
        self._session = session
        self._new_reply = new_reply
        self._count = count
        self._next = Standing(lambda ms: calls.transcript(self.unheard_ms + ms), new_reply)
        self._written: dict[str, Reply] = {}
        """By item."""
        self._ended: deque[str] = deque(maxlen=MAX_ENDED)
        self._commits: deque[int] = deque(maxlen=MAX_ENDED)
        self.heard_ms = 0
        """All the sound that was sent."""
        self._base_ms = self._stopped_ms = 0
        """Where the next transcript begins, and where speech ended last."""

    @property
    def unheard_ms(self) -> int:
        """The sound that the next transcript may be of."""
        return self.heard_ms - self._base_ms

    @property
    def uncommitted_ms(self) -> int:
        """The sound that no item holds, nor will by what the client has sent."""
        return self.heard_ms - max(self._base_ms, self._commits[-1] if self._commits else 0)

    def running(self) -> Iterable[Reply]:
        """Give those that are being written."""
        return self._written.values()

    # ── from the client ──

    def hear(self, length_ms: int) -> None:
        """Take in sound."""
        self.heard_ms += length_ms

    def commit(self) -> int:
        """Take in that the client ends a piece of it; gives the number of the transcript that this begins, or 0."""
        self._commits.append(self.heard_ms)
        return self._next.number if self._session.settings.transcribes else 0

    def early(self) -> Stands | None:
        """Say what is written already and not set aside yet."""
        return self._next.early()

    def ask(self) -> Stands | None:
        """Say what is to be set aside before more is sent."""
        if not self._session.settings.transcribes or self.unheard_ms <= 0:
            return None
        at_once = self._calls.is_written_at_once
        return self._next.ask(self._session.settings, self.unheard_ms, billed_at_once=at_once)

    def admit(self, number: int, output_limit: int) -> bool:
        """Take in that it is set aside; False when the number is none of these."""
        return self._next.admit(number, output_limit)

    def refuse(self, number: int) -> None:
        """Take in that nothing more is set aside."""
        self._next.refuse(number)

    # ── from the server ──

    def release(self) -> tuple[Told, ...]:
        """Give back what is set aside if nothing is written down any more."""
        return () if self._session.settings.transcribes else self._next.release()

    def stop(self, end_ms: object) -> None:
        """Take in where the server heard speech end."""
        self._stopped_ms = end_ms if type(end_ms) is int and 0 <= end_ms <= self.heard_ms else 0

    def take_commit(self, item: str) -> tuple[Told, ...]:
        """Take in that a piece of sound is an item now."""
        is_new = item not in self._written and item not in self._ended
        told = self._begin(item) if self._session.settings.transcribes and is_new else ()
        base_ms = self._commits.popleft() if self._commits else self._stopped_ms - LEAD_MS
        self._base_ms = max(self._base_ms, base_ms)
        return told

    def take(self, event: JsonObject) -> tuple[Told, ...]:
        """Take in a piece of a transcript, or its end."""
        item = short_text(event.get("item_id"))
        if item in self._ended:
            return ()
        told = () if item in self._written else self._begin(item)
        reply = self._written[item]
        kind, delta = str(event["type"]).removeprefix(TRANSCRIPT), event.get("delta")
        if kind == "delta" and isinstance(delta, str):
            reply.reading.counted_output_tokens += self._count(reply.call, delta)
        if kind not in ("completed", "failed"):
            return told or (reply.told(),)
        self._end(reply, event, failed=kind == "failed")
        return told if told and told[0].unasked else (reply.told(ended=True),)

    def _begin(self, item: str) -> tuple[Told, ...]:
        reply = self._next.begin()
        unasked = None
        if reply is None:
            unasked = self._calls.transcript(self.unheard_ms)
            reply = self._new_reply(unasked)
        reply.name = item
        self._written[item] = reply
        return (Told(reply.number, reply.reading, unasked=unasked, call=reply.call),)

    def _end(self, reply: Reply, event: JsonObject, *, failed: bool) -> None:
        del self._written[reply.name]
        if reply.name:
            self._ended.append(reply.name)
        reply.reading.failed = failed
        try:
            usage = transcription_usage(event, reply.call)
        except ValueError as error:
            record_bad_usage(reply.reading, error)
            return
        if usage is not None:
            record_usage(reply.reading, usage, final=True)


def short_text(value: object) -> str:
    """Give an id; empty when it is none."""
    return value if isinstance(value, str) and len(value) <= MAX_ID_CHARS else ""
