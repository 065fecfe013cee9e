from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Refusal, Request, ResponseHead, Target
from llmcap_addon.wire.openai_audio import TRANSCRIPTION
from llmcap_addon.wire.openai_speech import SPARE_TOKENS, SPEECH
from tests.wire.corpus import feed_all, one
from tests.wire.sdk import Answered
from tests.wire.test_sound import FRAME, riff

SPENT = Refusal("spent", 'LLMCap: refused, cap "day" of $10 is spent.', cap="day")


def transcription(provider: str = "openai", file: bytes | None = None, model: str = "whisper-1", **fields: str) -> Any:
    body = b""
    for name, value in {"model": model, **fields}.items():
        body += f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    if file is not None:
        body += b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + file + b"\r\n"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    request = Request("POST", "api.openai.com", "/v1/audio/transcriptions", headers=headers, body=body + b"--b--\r\n")
    return TRANSCRIPTION.parse(request, Target(provider), "")


def speech(model: str = "tts-1", **body: Any) -> Any:
    data = json.dumps({"model": model, "input": "Hello.", "voice": "alloy", **body}).encode()
    return SPEECH.parse(Request("POST", "api.openai.com", "/v1/audio/speech", body=data), Target("openai"), "")


# ── transcription ──


def test_time_is_bounded_by_the_recording() -> None:
    """Whole seconds and one more; at Groq ten seconds at least; and no tokens are billed beside them."""
    call = transcription(file=riff(2.3))
    assert (call.unit_bound, call.has_output, call.content.media) == (Usage(input_audio_ms=4_000), False, ())
    assert transcription("groq", riff(2.3)).unit_bound == Usage(input_audio_ms=10_000)
    assert (call.editable, call.streamed, transcription(file=riff(1), stream="true").streamed) == (False, False, True)


def test_tokens_are_bounded_by_the_recording_and_the_prompt() -> None:
    """Its media is as long as the recording; chunks are answered one by one; an unknown model may be billed both ways."""
    call = transcription(file=riff(60), model="gpt-4o-transcribe", prompt="Names: Ada", chunking_strategy="auto")
    assert [(part.kind, part.size_bytes) for part in call.content.media] == [("audio", 61 * 750)]
    assert "Names: Ada" in call.content.texts
    assert (call.choices, call.unit_bound, call.has_output) == (3, Usage(), True)
    assert transcription(file=riff(1), model="prod").unit_bound == Usage(input_audio_ms=2_000)


@pytest.mark.parametrize(
    "given", [{}, {"url": "https://x/a.wav"}, {"file": riff(1), "file_id": "f"}, {"file": riff(1), "model": ""}]
)
def test_what_has_no_known_length_or_model_is_unreadable(given: dict[str, Any]) -> None:
    """A recording elsewhere, none at all, or no model: nobody could say what it costs."""
    with pytest.raises(UnreadableRequest):
        transcription(**given)


@pytest.mark.parametrize(
    "usage",
    [{"type": "duration", "seconds": -1}, {"seconds": "2"}, {"seconds": 1e9}, {"input_tokens": -1, "output_tokens": 1}],
)
def test_a_usage_that_is_not_sane_is_not_believed(usage: dict[str, Any]) -> None:
    """Then the call is posted from above."""
    meter = TRANSCRIPTION.meter(transcription(file=riff(1)), b"", ResponseHead(200, "application/json"), one)
    feed_all(meter, [json.dumps({"text": "a", "usage": usage}).encode()])
    assert meter.reading.usage is None
    assert meter.reading.unreadable


def test_audio_tokens_that_nobody_tells_apart_are_all_audio() -> None:
    """The dearer of the two."""
    call = transcription(file=riff(1), model="gpt-4o-transcribe")
    meter = TRANSCRIPTION.meter(call, b"", ResponseHead(200, "application/json"), one)
    feed_all(meter, [b'{"text":"a","usage":{"type":"tokens","input_tokens":9,"output_tokens":2,"total_tokens":11}}'])
    assert meter.reading.usage == Usage(9, 2, input_audio_tokens=9)


def test_plain_text_says_nothing_about_a_bill() -> None:
    """It is no error, and its words are counted."""
    call = transcription(file=riff(1), response_format="text")
    meter = TRANSCRIPTION.meter(call, b"", ResponseHead(200, "text/plain; charset=utf-8"), one)
    assert feed_all(meter, [b"Hello.\n"]) == b"Hello.\n"
    assert (meter.reading.usage, meter.reading.counted_output_tokens, meter.reading.unreadable) == (None, 1, "")


# ── speech ──


def test_characters_are_known_before() -> None:
    """Those outside of Unicode's first plane count as two; a clean end is the last word."""
    call = speech(input="ab\U0001f600")
    assert (call.unit_bound, call.has_output) == (Usage(input_characters=4), False)
    meter = SPEECH.meter(call, b"", ResponseHead(200, "audio/mpeg"), one)
    assert meter.feed(FRAME) == FRAME
    assert not meter.reading.final
    meter.end()
    assert (meter.reading.usage, meter.reading.final) == (Usage(input_characters=4), True)


@pytest.mark.parametrize(
    ("content_type", "data", "tokens"),
    [("audio/mpeg", FRAME * 100, 51), ("audio/pcm", bytes(96_000), 42), ("audio/wav", bytes(96_000), 42),
     ("audio/opus", bytes(1_500), 42)],
)  # fmt: skip
def test_spoken_tokens_are_counted_by_the_length(content_type: str, data: bytes, tokens: int) -> None:
    """MP3 by its frames, plain samples by their rate, others by the slowest there is: 20.84 tokens a second."""
    call = speech("gpt-4o-mini-tts", instructions="Calm.")
    assert call.content.texts == ("Hello.", "Calm.")
    assert call.max_output_tokens == 63 + SPARE_TOKENS
    meter = SPEECH.meter(call, b"", ResponseHead(200, content_type), one)
    feed_all(meter, [data[:999], data[999:]])
    assert (meter.reading.counted_output_tokens, meter.reading.usage) == (tokens, None)


def test_events_of_speech_end_with_a_usage() -> None:
    """All that was spoken is audio."""
    call = speech("gpt-4o-mini-tts", stream_format="sse")
    assert (call.streamed, call.hidden_output_tokens) == (True, None)
    meter = SPEECH.meter(call, b"", ResponseHead(200, "text/event-stream"), one)
    done = b'{"type":"speech.audio.done","usage":{"input_tokens":5,"output_tokens":30,"total_tokens":35}}'
    feed_all(meter, [b'data: {"type":"speech.audio.delta","audio":"AAAA"}\n\ndata: ' + done + b"\n\n"])
    assert (meter.reading.usage, meter.reading.final) == (Usage(5, 30, output_audio_tokens=30), True)


@pytest.mark.parametrize("body", [{"speed": 0}, {"speed": "1"}, {"speed": 9}, {"input": 5}, {"model": None}])
def test_speech_that_cannot_be_bounded_is_unreadable(body: dict[str, Any]) -> None:
    """A wrong type is refused, not guessed at."""
    with pytest.raises(UnreadableRequest):
        speech(**body)


def test_a_refusal_is_the_sdks_own_error() -> None:
    """Raised after one request, with our message."""
    answered = Answered(SPEECH.refusal(speech(), Request("POST", "api.openai.com", "/"), SPENT, 429))
    error = answered.error_of(lambda client: client.audio.speech.create(model="tts-1", voice="alloy", input="a"))
    assert isinstance(error, openai.RateLimitError)
    assert (answered.requests, SPENT.message in error.message) == (1, True)
