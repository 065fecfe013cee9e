from __future__ import annotations

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.wire.dialect import Refusal, RefusalKind
from llmcap_addon.wire.replies import error_code, error_type, event_bytes, json_response, reply_headers
from llmcap_addon.wire.sse import SseSplitter

KINDS = get_args(RefusalKind.__value__)


@given(cap=st.text(), resets_at_ms=st.none() | st.integers(-(10**18), 10**18), kind=st.sampled_from(KINDS))
def test_headers_are_safe_whatever_the_cap_is_called(cap: str, resets_at_ms: int | None, kind: RefusalKind) -> None:
    """Only visible ASCII on one line gets into a header, so that no name can break or forge one."""
    for name, value in reply_headers(Refusal(kind, "LLMCap: x", cap=cap, resets_at_ms=resets_at_ms)):
        assert name.isascii()
        assert name == name.lower()
        assert all(" " <= char <= "~" for char in value)
        assert value == value.strip()


def test_headers_say_why_and_stop_retries() -> None:
    """No retry-after, which SDKs sleep through; the reset is in a header of ours."""
    headers = dict(reply_headers(Refusal("spent", "x", cap="täglich", resets_at_ms=1_763_942_400_000)))
    assert headers == {
        "content-type": "application/json",
        "x-should-retry": "false",
        "x-llmcap-code": "llmcap_cap_spent",
        "x-llmcap-cap": "t%C3%A4glich",
        "x-llmcap-resets-at": "2025-11-24T00:00:00Z",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_type_and_a_code_of_its_own(kind: RefusalKind) -> None:
    """Spent and reserved, and all others, are told apart by their code."""
    assert error_type(kind)
    assert [error_code(other) for other in KINDS].count(error_code(kind)) == 1


@given(st.text(st.characters(codec=None)))
def test_a_message_can_break_neither_a_body_nor_an_event(message: str) -> None:
    """Line ends, quotes and lone surrogates stay inside the JSON."""
    response = json_response(Refusal("spent", message), 429, {"message": message})
    assert json.loads(response.body) == {"message": message}
    assert dict(response.headers)["content-length"] == str(len(response.body))
    events = SseSplitter().feed(event_bytes({"message": message}, "error"))
    assert [(event.name, json.loads(event.data)) for event in events] == [("error", {"message": message})]


def test_a_half_event_is_ended_first() -> None:
    """What the client holds of an event does not run into ours."""
    events = SseSplitter().feed(b"data: {half" + event_bytes({"a": 1}, inside_event=True))
    assert [event.data for event in events if event.data] == [b"{half", b'{"a":1}']
