"""Transcription and translation of speech, billed by the second or by tokens.

Shapes: the `openai` SDK's `transcription_create_params`, `transcription`, `transcription_verbose` and
`transcription_text_done_event`; the `mistralai` SDK's `UsageInfo` (`prompt_audio_seconds`).
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal

from llmcap_addon.call import Call, Media
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.azure import error_meter
from llmcap_addon.wire.counts import word
from llmcap_addon.wire.dialect import CountTokens, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.media import media_from_data_url
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.multipart import MAX_FIELD_BYTES, Part, read_form, text_of
from llmcap_addon.wire.openai_common import OpenAIErrors, is_event_stream
from llmcap_addon.wire.openai_usage import chat_usage, record_bad_usage, record_head, record_usage, responses_usage
from llmcap_addon.wire.sound import SLOWEST_BYTES_PER_SECOND, length_ms
from llmcap_addon.wire.sse import Event, SseMeter
from llmcap_addon.wire.text import ContentBuilder, JsonObject, mapping, parse_object

_BY_TIME = re.compile(r"whisper|voxtral|-asr|parakeet", re.IGNORECASE)
"""Models billed by the second."""
_BY_TOKENS = re.compile(r"gpt-.*transcribe")
_LEAST_MS = {"groq": 10_000}
"""Groq bills ten seconds at least. https://console.groq.com/docs/speech-to-text"""
CHUNK_MS = 30_000
"""A recording that is cut into chunks is answered chunk by chunk, each up to the model's limit; nobody says how long
they are, and this is the shortest that needs any cutting (`chunking_strategy` in `transcription_create_params`)."""
_MAX_SECONDS = 1_000_000
_ELSEWHERE = ("url", "file_url", "file_id")
_TEXT_DELTAS = frozenset({"transcript.text.delta", "transcription.text.delta"})
_ENDS = frozenset({"transcript.text.done", "transcription.done"})
"""OpenAI's and Mistral's names of the same."""


class TranscriptionDialect(OpenAIErrors):
    """`POST …/audio/transcriptions` and `…/audio/translations`."""

    name = "openai.transcription"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        parts = read_form(request.body, request.headers.get("content-type", ""))
        model = target.model_of(text_of(parts, "model"))
        if not model:
            raise UnreadableRequest("the form names no model, so its price is unknown")
        audio_ms = _length_ms(parts, target.provider)
        by_time, by_tokens = bool(_BY_TIME.search(model)), bool(_BY_TOKENS.search(model))
        builder = ContentBuilder()
        if not by_time:
            # As if it came at the slowest bit rate there is, by which audio's tokens are bounded.
            builder.add_media(Media("audio", -(-audio_ms * SLOWEST_BYTES_PER_SECOND // 1000)))
            _add_texts(builder, parts)
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model,
            streamed=text_of(parts, "stream").strip().lower() in ("true", "1"),
            content=builder.build(),
            choices=1 + audio_ms // CHUNK_MS if text_of(parts, "chunking_strategy") else 1,
            has_output=not by_time,
            unit_bound=Usage() if by_tokens else Usage(input_audio_ms=audio_ms),
            terms=target.terms(),
            editable=False,
            cache_write="none",
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: no field limits the answer."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        if head.status >= 400:
            return error_meter(call, head)
        if is_event_stream(head.content_type, streamed=call.streamed):
            return TranscriptionStreamMeter(call, count)
        return TranscriptionBodyMeter(call, count, is_json="json" in head.content_type.lower())


TRANSCRIPTION = TranscriptionDialect()


def _length_ms(parts: Sequence[Part], provider: str) -> int:
    """Bound what is to be heard, in whole seconds and one more: hosts round, and decoders pad."""
    files = [part for part in parts if part.is_file and part.name == "file"]
    elsewhere = [part.name for part in parts if part.name in _ELSEWHERE and not part.is_file]
    if elsewhere or not files:
        named = f"{elsewhere[0]} names" if elsewhere else "the form holds no file, and names"
        raise UnreadableRequest(f"{named} a recording whose length nobody here can know; upload it in `file`")
    found = sum(length_ms(part.data) for part in files)
    return max(-(-found // 1000) * 1000 + 1000, _LEAST_MS.get(provider, 0))


def _add_texts(builder: ContentBuilder, parts: Sequence[Part]) -> None:
    """Add prompts, keywords and names, and the voices of known speakers."""
    for part in parts:
        if part.is_file:
            continue
        if len(part.data) > MAX_FIELD_BYTES and part.name != "known_speaker_references":
            raise UnreadableRequest(f"{part.name} is longer than {MAX_FIELD_BYTES} bytes")
        text = str(part.data, "utf-8", "replace")
        voice = media_from_data_url(text, "audio")
        if voice is not None:
            builder.add_media(voice)
        else:
            builder.add_text(text)


def transcription_usage(answer: JsonObject, call: Call) -> Usage | None:
    """Read the usage of a transcription; None when it says nothing; ValueError when it is not sane."""
    raw = answer.get("usage")
    provider = call.provider
    if not isinstance(raw, dict):
        seconds = answer.get("duration")  # `transcription_verbose`; Groq says no more
        return None if seconds is None else Usage(input_audio_ms=_ms(seconds, provider))
    if raw.get("seconds") is not None:
        return Usage(input_audio_ms=_ms(raw["seconds"], provider))
    if raw.get("prompt_tokens") is not None:
        usage = chat_usage(raw, provider, has_output=False)
        if usage is None or raw.get("prompt_audio_seconds") is None:
            return usage
        audio_ms = _ms(raw["prompt_audio_seconds"], provider)
        # Where a model is billed by the second, the tokens beside them cost nothing.
        return replace(usage, input_audio_ms=audio_ms) if call.has_output else Usage(input_audio_ms=audio_ms)
    usage = responses_usage(raw, 0)
    if usage is None:
        return None
    told = mapping(raw.get("input_token_details")).get("audio_tokens")
    heard = told if type(told) is int and 0 <= told <= usage.input_tokens else usage.input_tokens
    return replace(usage, input_audio_tokens=heard)


def _ms(seconds: object, provider: str) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= _MAX_SECONDS:
        raise ValueError("the usage's seconds are no length")
    exact = Decimal(repr(seconds)) * 1000
    return max(int(exact.to_integral_value(ROUND_CEILING)), _LEAST_MS.get(provider, 0))


class TranscriptionBodyMeter(BodyMeter):
    """Reads a whole transcription; one that is plain text or subtitles reports nothing, and is billed by its length."""

    def __init__(self, call: Call, count: CountTokens, *, is_json: bool) -> None:
        super().__init__()
        self._call = call
        self._count = count
        self._is_json = is_json

    def on_body(self, body: bytes) -> None:
        """Read the usage."""
        if not self._is_json:
            self.reading.counted_output_tokens = self._count(body.decode("utf-8", "replace"))
            return
        payload = parse_object(body)
        record_head(self.reading, payload)
        self.reading.failed = bool(payload.get("error"))
        text = payload.get("text")
        self.reading.counted_output_tokens = self._count(text) if isinstance(text, str) else 0
        try:
            usage = transcription_usage(payload, self._call)
        except ValueError as error:
            record_bad_usage(self.reading, error)
            return
        if usage is not None:
            record_usage(self.reading, usage, final=True)
        elif not isinstance(text, str) and not self.reading.failed:
            self.mark_unreadable("the answer holds neither usage nor text")


class TranscriptionStreamMeter(SseMeter):
    """Reads events by their type; the last one holds the usage."""

    def __init__(self, call: Call, count: CountTokens) -> None:
        super().__init__()
        self._call = call
        self._count = count
        self._understood = False

    def on_event(self, event: Event) -> bool:
        """Read one event."""
        if event.data.strip() == b"[DONE]":
            return True
        payload = parse_object(event.data)
        self._understood = True
        record_head(self.reading, payload)
        kind = word(payload, "type")
        if kind in _TEXT_DELTAS:
            delta = payload.get("delta", payload.get("text"))
            self.reading.counted_output_tokens += self._count(delta) if isinstance(delta, str) else 0
        elif kind in _ENDS:
            self._take_end(payload)
        elif payload.get("error") or kind == "error":
            self.reading.failed = True
        return True

    def on_half_event(self, event: Event) -> None:
        """Count an event that broke off as if all of it were output."""
        self._understood = True
        self.reading.counted_output_tokens += self._count(event.data.decode("utf-8", "replace"))

    def on_garbled_event(self, event: Event) -> None:
        """Count an event that is not valid as if all of it were output."""
        self.reading.counted_output_tokens += self._count(event.data.decode("utf-8", "replace"))

    def end(self) -> bytes:
        """Take the end; a body in which nothing was understood is no stream of events."""
        rest = super().end()
        if not self._understood:
            self.mark_unreadable("the stream holds no event of a transcription")
        return rest

    def _take_end(self, payload: JsonObject) -> None:
        try:
            usage = transcription_usage(payload, self._call)
        except ValueError as error:
            record_bad_usage(self.reading, error)
            return
        if usage is not None:
            record_usage(self.reading, usage, final=True)
