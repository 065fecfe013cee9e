"""Transcription at OpenRouter."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.openrouter_audio import ROUTED_TRANSCRIPTION


def parse(**audio: Any) -> Call:
    """Parse a request with a recording."""
    body = json.dumps({"model": "openai/whisper-1", "input_audio": audio}).encode()
    return ROUTED_TRANSCRIPTION.parse(Request("POST", "openrouter.ai", "/x", body=body), Target("openrouter"), "")


def recording(size: int) -> str:
    """Make so many bytes of base64."""
    return base64.b64encode(b"x" * size).decode()


@pytest.mark.parametrize(
    ("audio", "heard_ms"),
    [
        ({"data": recording(640_000), "format": "pcm"}, 21_000),
        ({"data": recording(32), "format": "pcm"}, 10_000),
        ({"data": recording(750 * 30), "format": "opus"}, 31_000),
    ],
)
def test_a_recording_is_measured(audio: dict[str, Any], heard_ms: int) -> None:
    """In whole seconds and one more; ten at least."""
    call = parse(**audio)
    assert (call.unit_bound, call.has_output) == (Usage(input_audio_ms=heard_ms), False)
    assert ROUTED_TRANSCRIPTION.amend(call, b"{}", 5) == b"{}"


@pytest.mark.parametrize("audio", [{"url": "https://example.com/a.mp3"}, {}, {"data": "?"}, {"data": 7}])
def test_what_can_not_be_measured_is_refused(audio: dict[str, Any]) -> None:
    """A URL's length nobody knows."""
    with pytest.raises(UnreadableRequest):
        parse(**audio)


@pytest.mark.parametrize(
    ("usage", "heard_ms"),
    [
        ({"seconds": 2.5, "cost": 0.001}, 2_500),
        ({"cost": 0.001}, 0),
        ({"seconds": True, "cost": 0.001}, 0),
        ({"seconds": -1, "cost": 0.001}, 0),
        ({"seconds": 1e300, "cost": 0.001}, 0),
        ({"seconds": 2.5}, None),
        ({"cost": -1}, None),
        (None, None),
    ],
)
def test_what_it_cost_is_believed(usage: object, heard_ms: int | None) -> None:
    """Without that the bound is posted."""
    meter = ROUTED_TRANSCRIPTION.meter(parse(data=recording(9)), b"", ResponseHead(200, "application/json"), len)
    meter.feed(json.dumps({"text": "A fox", "usage": usage}).encode())
    meter.end()
    reading = meter.reading
    assert reading.final is (heard_ms is not None)
    assert bool(reading.unreadable) is (heard_ms is None)
    if heard_ms is not None:
        assert (reading.usage, reading.billed) == (Usage(input_audio_ms=heard_ms), 1_000_000)


def test_an_error_passes() -> None:
    """Nothing is billed for it."""
    assert ROUTED_TRANSCRIPTION.meter(parse(data=recording(9)), b"", ResponseHead(402), len).reading.failed
