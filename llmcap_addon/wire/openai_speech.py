"""Speech: spoken text, billed by the character, or by tokens that the answer does not report.

Shapes: the `openai` SDK's `speech_create_params`. Its events have no type there; they are read as
https://platform.openai.com/docs/api-reference/audio/speech-audio-done-event has them.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import re
from decimal import Decimal
from math import ceil

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Reading, Usage
from llmcap_addon.wire.azure import error_meter
from llmcap_addon.wire.dialect import CountTokens, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.openai_common import OpenAIErrors, is_event_stream, model_name
from llmcap_addon.wire.openai_usage import record_bad_usage, record_usage, responses_usage
from llmcap_addon.wire.sound import SLOWEST_BYTES_PER_SECOND, MpegLength
from llmcap_addon.wire.sse import Event, SseMeter
from llmcap_addon.wire.text import ContentBuilder, JsonObject, load_json, parse_object, string

_BY_TOKENS = re.compile(r"gpt-")
_BY_CHARACTER = re.compile(r"tts-1|orpheus|playai", re.IGNORECASE)
TOKENS_PER_SECOND = Decimal("20.84")
"""Of spoken output: $12 a million tokens and $0.015 a minute are both said to be gpt-4o-mini-tts's price
(https://platform.openai.com/docs/pricing), which makes 20.83."""
SECONDS_PER_CHARACTER = Decimal("0.5")
"""Speech is read at some fifteen characters a second; a digit or a sign of Han takes the longest, about half of one."""
PCM_BYTES_PER_SECOND = 48_000
"""24 kHz, 16 bit, one channel. https://platform.openai.com/docs/guides/text-to-speech"""
SPARE_TOKENS = 256
"""For pauses at the beginning and the end."""


class SpeechDialect(OpenAIErrors):
    """`POST …/audio/speech`."""

    name = "openai.speech"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        model = model_name(body, target)
        text = string(body, "input")
        streamed = string(body, "stream_format") == "sse"
        by_character, by_tokens = bool(_BY_CHARACTER.search(model)), bool(_BY_TOKENS.search(model))
        builder = ContentBuilder()
        if not by_character:
            builder.messages += 1
            builder.add_text(text)
            builder.add_text(string(body, "instructions"))
        spoken = len(text) * SECONDS_PER_CHARACTER * TOKENS_PER_SECOND / min(_speed(body), Decimal(1))
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model,
            streamed=streamed,
            content=builder.build(),
            max_output_tokens=ceil(spoken) + SPARE_TOKENS,
            hidden_output_tokens=None if streamed else 0,
            has_output=not by_character,
            unit_bound=Usage() if by_tokens else Usage(input_characters=characters(text)),
            terms=target.terms(),
            editable=False,
            cache_write="none",
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: no member limits the answer."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        if head.status >= 400:
            return error_meter(call, head)
        if is_event_stream(head.content_type, streamed=call.streamed):
            return SpeechStreamMeter(call)
        return SpeechMeter(call, head.content_type)


SPEECH = SpeechDialect()


def _speed(body: JsonObject) -> Decimal:
    speed = body.get("speed")
    if speed is None:
        return Decimal(1)
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0.25 <= speed <= 4:
        raise UnreadableRequest("speed is not between 0.25 and 4")
    return Decimal(repr(speed))


def characters(text: str) -> int:
    """Count characters from above: what is outside of Unicode's first plane as the two that UTF-16 makes of it."""
    return len(text) + sum(character > "\uffff" for character in text)


class SpeechMeter:
    """Passes a recording and keeps none of it; notes how long it is, and at its end that its text was spoken."""

    def __init__(self, call: Call, content_type: str) -> None:
        self.reading = Reading()
        self._call = call
        self._kind = content_type.lower()
        self._bytes = 0
        self._mpeg = MpegLength() if "mpeg" in self._kind or "mp3" in self._kind else None

    def feed(self, data: bytes) -> bytes:
        """Count the bytes and pass them on."""
        self._bytes += len(data)
        if self._mpeg is not None:
            self._mpeg.feed(data)
        if self._call.has_output:
            self.reading.counted_output_tokens = ceil(self._milliseconds() * TOKENS_PER_SECOND / 1000)
        return data

    def end(self) -> bytes:
        """Take the clean end; keeps nothing back."""
        if not self._call.has_output:
            record_usage(self.reading, self._call.unit_bound, final=True)
        return b""

    def _milliseconds(self) -> int:
        if self._mpeg is not None:
            return self._mpeg.ms
        plain = "wav" in self._kind or "pcm" in self._kind or "audio/l16" in self._kind
        return -(-self._bytes * 1000 // (PCM_BYTES_PER_SECOND if plain else SLOWEST_BYTES_PER_SECOND))


class SpeechStreamMeter(SseMeter):
    """Reads events; the last one holds the usage."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call
        self._understood = False

    def on_event(self, event: Event) -> bool:
        """Read one event."""
        if event.data.strip() == b"[DONE]":
            return True
        payload = parse_object(event.data)
        self._understood = True
        kind = payload.get("type")
        if kind == "speech.audio.done":
            self._take_end(payload)
        elif kind == "error" or payload.get("error"):
            self.reading.failed = True
        elif isinstance(audio := payload.get("audio"), str):
            size = -(-len(audio) * 3 // 4)  # of base64
            self.reading.counted_output_tokens += ceil(size * TOKENS_PER_SECOND / SLOWEST_BYTES_PER_SECOND)
        return True

    def on_half_event(self, event: Event) -> None:
        """An event that broke off: the call is posted as reserved anyway, for nothing else bounds what was spoken."""
        self._understood = True

    def on_garbled_event(self, event: Event) -> None:
        """As one that broke off."""

    def end(self) -> bytes:
        """Take the end; a body in which nothing was understood is no stream of events."""
        rest = super().end()
        if not self._understood:
            self.mark_unreadable("the stream holds no event of speech")
        return rest

    def _take_end(self, payload: JsonObject) -> None:
        try:
            usage = responses_usage(payload.get("usage"), 0)
        except ValueError as error:
            record_bad_usage(self.reading, error)
            return
        if usage is not None:
            spoken = Usage(usage.input_tokens, usage.output_tokens, output_audio_tokens=usage.output_tokens)
            record_usage(self.reading, spoken, final=True)
