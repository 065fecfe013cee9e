"""Tests of providers' habits: what is billed to its end, and what may not be edited."""

from __future__ import annotations

import pytest

from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.wire.dialect import Request
from llmcap_addon.wire.providers import BILL_AFTER_DISCONNECT, is_signed, with_habits
from tests.wire.corpus import make_call

PLAIN = Request("POST", "h", "/")


@pytest.mark.parametrize(
    ("headers", "query", "signed"),
    [
        ({"authorization": "AWS4-HMAC-SHA256 Credential=AKIA/20261123/us-east-1/bedrock/aws4_request"}, {}, True),
        ({"authorization": "AWS4-ECDSA-P256-SHA256 Credential=AKIA"}, {}, True),
        ({}, {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Signature": "ab"}, True),
        ({"authorization": "Bearer bedrock-api-key-QUtJQQ=="}, {}, False),
        ({"x-api-key": "k"}, {"X-Amz-Date": "20261123T000000Z"}, False),
        ({}, {}, False),
    ],
)
def test_signed(headers: dict[str, str], query: dict[str, str], signed: bool) -> None:
    """A signature of AWS's, in the header or the URL, holds for the body; a key does not."""
    request = Request("POST", "h", "/", query, headers)
    assert is_signed(request) is signed
    assert with_habits(make_call(), request).editable is not signed


def test_guarded() -> None:
    """A guardrail of Bedrock's, which a header may name in any dialect, is billed apart, so it is refused."""
    guarded = Request("POST", "h", "/", {}, {"x-amzn-bedrock-guardrailidentifier": "g12345"})
    with pytest.raises(UnreadableRequest, match="guardrail"):
        with_habits(make_call(provider="bedrock"), guarded)
    assert with_habits(make_call(), guarded) == make_call()


@pytest.mark.parametrize("provider", sorted(BILL_AFTER_DISCONNECT))
def test_billed_to_the_end(provider: str) -> None:
    """Providers that bill what nobody reads are known; an embedding has nothing to be read."""
    assert with_habits(make_call(provider=provider), PLAIN).bills_after_disconnect
    assert not with_habits(make_call(provider=provider, has_output=False), PLAIN).bills_after_disconnect
    assert not with_habits(make_call(), PLAIN).bills_after_disconnect


@pytest.mark.parametrize(
    "provider", ["google", "groq", "mistral", "minimax", "huggingface", "sambanova", "dashscope", "nebius"]
)
def test_who_is_said_to_bill_to_the_end(provider: str) -> None:
    """Those that Google's and OpenRouter's documents name."""
    assert provider in BILL_AFTER_DISCONNECT
