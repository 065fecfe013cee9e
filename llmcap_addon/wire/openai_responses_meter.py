"""Reading what a Responses request is answered with over HTTP, as events or as one body."""

from __future__ import annotations

from llmcap_addon.call import Call
from llmcap_addon.wire.dialect import CountTokens
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.openai_responses_reader import (
    Remember,
    ResponsesReader,
    count_item,
    job_of,
    take_response_usage,
)
from llmcap_addon.wire.openai_usage import record_head
from llmcap_addon.wire.sse import Event, SseMeter
from llmcap_addon.wire.text import parse_object


class ResponsesStreamMeter(SseMeter):
    """Reads an event stream."""

    def __init__(
        self, count: CountTokens, provider: str = "", remember: Remember | None = None, call: Call | None = None
    ) -> None:
        super().__init__()
        self.read = ResponsesReader(self.reading, count, provider, remember, call)
        self._understood = False

    def on_event(self, event: Event) -> bool:
        """Read one event."""
        if event.data.strip() == b"[DONE]":
            return True
        payload = parse_object(event.data)
        self._understood = True
        kind = payload.get("type")
        self.read.take(kind if isinstance(kind, str) else event.name, payload)
        return True

    def on_half_event(self, event: Event) -> None:
        """Count an event that broke off as if all of it were output; a `done` event repeats what was counted."""
        self._understood = True
        if not event.name or event.name.endswith(".delta"):
            self.read.take_unread(event.data)

    def on_garbled_event(self, event: Event) -> None:
        """Count an event that is not valid as if all of it were output."""
        self.read.take_unread(event.data)

    def end(self) -> bytes:
        """Take the end; a body in which nothing was understood is no stream of events."""
        rest = super().end()
        if not self._understood:
            self.mark_unreadable("the stream holds no event of a response")
        return rest


class ResponsesBodyMeter(BodyMeter):
    """Reads a whole response."""

    def __init__(
        self, count: CountTokens, provider: str = "", remember: Remember | None = None, call: Call | None = None
    ) -> None:
        super().__init__()
        self._call = call
        self._remember = remember
        self._provider = provider
        self._count = count

    def on_body(self, body: bytes) -> None:
        """Read the response."""
        payload = parse_object(body)
        record_head(self.reading, payload)
        self.reading.failed = bool(payload.get("error")) or payload.get("status") == "failed"
        self.reading.job = job_of(payload)
        if self.reading.job:
            if self._remember is not None:
                self._remember(payload, None)
            return
        output = payload.get("output")
        take_response_usage(self.reading, payload, 0, self._provider, self._remember, self._call)
        if isinstance(output, list) and not self.reading.final:
            self.reading.counted_output_tokens = sum(count_item(item, self._text) for item in output)
        if self.reading.usage is None and not isinstance(output, list) and not self.reading.failed:
            self.mark_unreadable("the answer holds neither usage nor output")

    def _text(self, text: object) -> int:
        return max(1, self._count(text)) if isinstance(text, str) and text else 0
