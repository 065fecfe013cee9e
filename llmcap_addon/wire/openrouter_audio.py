"""Transcription at OpenRouter: a JSON body with the recording in base64, billed by the second or by tokens.

Shapes: `openrouter.components`' `STTRequest`, `STTResponse` and `STTUsage`, whose `cost` is what was billed.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import base64
import binascii

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.billed import billed_amount
from llmcap_addon.wire.dialect import CountTokens, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.openai_common import ErrorMeter, OpenAIErrors, model_name
from llmcap_addon.wire.openai_usage import record_head, record_usage
from llmcap_addon.wire.sound import length_ms
from llmcap_addon.wire.text import ContentBuilder, JsonObject, load_json, mapping, parse_object, string

_LEAST_MS = 10_000
"""Some sellers bill so much at least (https://console.groq.com/docs/speech-to-text)."""
_PCM_BYTES_PER_SECOND = 32_000
"""16 kHz, 16 bit, one channel (`STTInlineInputAudio.format`)."""


class RoutedTranscription(OpenAIErrors):
    """`POST /api/v1/audio/transcriptions`."""

    name = "openrouter.transcription"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        heard_ms = max(_LEAST_MS, -(-_length_ms(mapping(body.get("input_audio"))) // 1000) * 1000 + 1000)
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model_name(body, target),
            streamed=False,
            content=ContentBuilder().build(),
            has_output=False,
            # By the second at the dearest price that is known: those who bill by tokens ask less for one.
            unit_bound=Usage(input_audio_ms=heard_ms),
            cache_write="none",
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: there is no output to limit."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        return ErrorMeter(call.provider) if head.status >= 400 else CostMeter(call.provider)


class CostMeter(BodyMeter):
    """Reads what was billed; without it the bound is posted."""

    def __init__(self, provider: str) -> None:
        super().__init__()
        self._provider = provider

    def on_body(self, body: bytes) -> None:
        """Read the answer."""
        payload = parse_object(body)
        record_head(self.reading, payload)
        told = mapping(payload.get("usage"))
        billed = billed_amount(self._provider, told)
        if billed is None:
            self.mark_unreadable("the answer does not say what it cost")
            return
        seconds = told.get("seconds")
        known = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < 10**6
        heard_ms = round(seconds * 1000) if known and isinstance(seconds, int | float) else 0
        record_usage(self.reading, Usage(input_audio_ms=heard_ms), final=True, billed=billed)


def _length_ms(audio: JsonObject) -> int:
    data = string(audio, "data")
    if not data:
        raise UnreadableRequest("a recording by URL can't be measured; send it as `data`")
    try:
        sound = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise UnreadableRequest("the recording is not base64") from error
    if string(audio, "format").lower() == "pcm":
        return len(sound) * 1000 // _PCM_BYTES_PER_SECOND
    return length_ms(memoryview(sound))


ROUTED_TRANSCRIPTION = RoutedTranscription()
