"""Tests of Bedrock's paths: which model and which operation a URL names, however it is encoded."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.wire import bedrock_paths
from llmcap_addon.wire.dialect import Request
from llmcap_addon.wire.hosts import Place
from llmcap_addon.wire.routes import Route, classify

HOST = "bedrock-runtime.us-east-1.amazonaws.com"
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:"


def route(path: str) -> Route:
    return classify(Request("POST", HOST, path), {})


@pytest.mark.parametrize(
    ("model_id", "name", "base", "maker"),
    [
        (SONNET, SONNET, SONNET, "anthropic"),
        (f"us.{SONNET}", f"us.{SONNET}", SONNET, "anthropic"),
        (f"us-gov.{SONNET}", f"us-gov.{SONNET}", SONNET, "anthropic"),
        ("global.amazon.nova-2-lite-v1:0", "global.amazon.nova-2-lite-v1:0", "amazon.nova-2-lite-v1:0", "amazon"),
        (f"{ARN}inference-profile/eu.{SONNET}", f"eu.{SONNET}", SONNET, "anthropic"),
        (f"arn:aws:bedrock:us-east-1::foundation-model/{SONNET}", SONNET, SONNET, "anthropic"),
        (f"arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/{SONNET}", SONNET, SONNET, "anthropic"),
        (f"{ARN}application-inference-profile/ab12", *["application-inference-profile/ab12"] * 2, ""),
        (f"{ARN}provisioned-model/ab12", *["provisioned-model/ab12"] * 2, ""),
        (f"{ARN}default-prompt-router/anthropic.claude:1", *["default-prompt-router/anthropic.claude:1"] * 2, ""),
        (f"{ARN}prompt/PROMPT1234:3", *["prompt/PROMPT1234:3"] * 2, ""),
        ("arn:aws:sagemaker:us-east-1:123456789012:endpoint/mine", *["endpoint/mine"] * 2, ""),
        ("us.one", "us.one", "us.one", "us"),
    ],
)
def test_models(model_id: str, name: str, base: str, maker: str) -> None:
    """Names and profiles are known as they stand, an ARN by its tail, an account's own things by kind and id."""
    assert bedrock_paths.model_name(model_id) == name
    assert bedrock_paths.base_name(name) == base
    assert bedrock_paths.maker(name) == maker


@pytest.mark.parametrize("times", [0, 1, 2])
@pytest.mark.parametrize("model_id", [SONNET, f"us.{SONNET}", f"{ARN}inference-profile/us.{SONNET}"])
@pytest.mark.parametrize(
    ("operation", "dialect"),
    [
        ("converse", "bedrock.converse"),
        ("converse-stream", "bedrock.converse"),
        ("invoke", "bedrock.invoke"),
        ("invoke-with-response-stream", "bedrock.invoke"),
    ],
)
def test_encodings(times: int, model_id: str, operation: str, dialect: str) -> None:
    """An id plain, percent-encoded or encoded twice is the same model, also where it is an ARN with slashes."""
    spelt = model_id
    for _ in range(times):
        spelt = quote(spelt, safe="")
    path = f"/model/{spelt}/{operation}"
    assert route(path) == Route("metered", dialect, "bedrock", HOST, bedrock_paths.model_name(model_id))
    assert bedrock_paths.operation(path) == operation


@pytest.mark.parametrize("model", ["..", ".", "%2e%2e", "a%5Cb", "a%2525b", "a/../b", "", "a%00"])
def test_odd_models(model: str) -> None:
    """A path that a server might read as another is not metered as this one, and never free."""
    assert route(f"/model/{model}/converse").kind == "unmetered"
    assert route(f"/model/{model}/count-tokens").kind == "unmetered"


def test_a_profile_is_known_by_what_hosts_says() -> None:
    """What stands behind an account's own profile is what `hosts:` says of its kind and id."""
    place = Place("bedrock", "bedrock", custom=True, models={"application-inference-profile/ab12": SONNET})
    path = f"/model/{quote(f'{ARN}application-inference-profile/AB12', safe='')}/converse"
    found = classify(Request("POST", HOST, path), {HOST: place})
    assert (found.kind, found.model) == ("metered", "application-inference-profile/AB12")
    assert found.models[found.model.lower()] == SONNET


@given(st.text(max_size=60))
def test_any_path(text: str) -> None:
    """No path raises anything."""
    for path in (text, f"/model/{text}/converse", f"/model/{text}", f"arn:aws:bedrock:{text}"):
        bedrock_paths.operation(bedrock_paths.decoded(path))
        bedrock_paths.maker(bedrock_paths.model_name(path))
