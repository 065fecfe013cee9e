"""Amazon Bedrock through a real proxy, with boto3 and Anthropic's own client for it: bills, refusals, signatures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import boto3  # type: ignore[import-untyped]
import openai
import pytest
from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]
from botocore.exceptions import ClientError, EventStreamError  # type: ignore[import-untyped]

from tests.e2e.harness import AUDIT, Proxy
from tests.e2e.sabotage import TARGETS_VARIABLE, VARIABLE
from tests.fakes import bedrock
from tests.fakes.script import Record, Script
from tests.fakes.sdks import TIMEOUT_SECONDS
from tests.fakes.server import OPENAI_HOST, StandIn

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ARN = f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{CLAUDE}"
KEYS = ("AKIAEXAMPLEEXAMPLE01", "example-secret-of-nobody")
PROMPT = "Say something, please. " * 150
HI: Any = [{"role": "user", "content": [{"text": PROMPT}, {"cachePoint": {"type": "default", "ttl": "1h"}}]}]
CACHE = {"type": "ephemeral", "ttl": "1h"}
INVOKE_BODY = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 200,
    "messages": [{"role": "user", "content": [{"type": "text", "text": PROMPT, "cache_control": CACHE}]}],
}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Run a stand-in for Bedrock; its host for OpenAI is what the harness asks to see that a proxy serves."""
    with StandIn(tmp_path_factory.mktemp("aws"), (bedrock.HOST, bedrock.MANTLE_HOST, OPENAI_HOST)) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def proxy(aws: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Run a proxy that only audits."""
    with Proxy(tmp_path_factory.mktemp("bedrock"), aws, AUDIT) as running:
        yield running
    running.assert_sound()


@pytest.fixture(autouse=True)
def _fresh(aws: StandIn) -> None:
    aws.wait_idle()
    aws.reset()


def client(proxy: Proxy, *, mode: str = "legacy") -> Any:
    """Make boto3's client as a user would, with its own retries; it signs unless the environment holds a key."""
    config = Config(
        proxies={"https": f"http://127.0.0.1:{proxy.port}"},
        retries={"mode": mode, "total_max_attempts": 4},
        read_timeout=TIMEOUT_SECONDS,
    )
    return boto3.Session().client(
        "bedrock-runtime",
        region_name="us-east-1",
        verify=str(proxy.ca_path),
        config=config,
        aws_access_key_id=KEYS[0],
        aws_secret_access_key=KEYS[1],
    )


def converse(boto: Any) -> str:
    answer = boto.converse(modelId=CLAUDE, messages=HI, inferenceConfig={"maxTokens": 200})
    return str(answer["output"]["message"]["content"][0]["text"])


def converse_stream(boto: Any) -> str:
    answer = boto.converse_stream(modelId=ARN, messages=HI, inferenceConfig={"maxTokens": 200})
    events = list(answer["stream"])
    assert "metadata" in events[-1]
    return "".join(event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event)


def invoke(boto: Any) -> str:
    answer = boto.invoke_model(modelId=CLAUDE, body=json.dumps(INVOKE_BODY))
    return str(json.load(answer["body"])["content"][0]["text"])


def invoke_stream(boto: Any) -> str:
    answer = boto.invoke_model_with_response_stream(modelId=CLAUDE, body=json.dumps(INVOKE_BODY))
    values = [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]
    return "".join(value["delta"]["text"] for value in values if value["type"] == "content_block_delta")


def signature_holds(record: Record) -> bool:
    """Sign what arrived once more, by botocore, and compare: body, path and signed headers are as the client sent them."""
    said = dict(part.split("=", 1) for part in record.headers["authorization"].partition(" ")[2].split(", "))
    signed = {name: record.headers[name] for name in said["SignedHeaders"].split(";")}
    request = AWSRequest(record.method, f"https://{record.host}{record.path}", signed, record.body)
    request.context["timestamp"] = record.headers["x-amz-date"]
    again = SigV4Auth(Credentials(*KEYS), "bedrock", "us-east-1")
    return bool(
        again.signature(again.string_to_sign(request, again.canonical_request(request)), request) == said["Signature"]
    )


CALLS = (converse, converse_stream, invoke, invoke_stream)


@pytest.mark.parametrize("call", CALLS)
def test_bills_are_equal(proxy: Proxy, aws: StandIn, call: Callable[[Any], str]) -> None:
    """Each operation arrives whole and signed as it was, and is billed to the nano-dollar, cache and all."""
    seen = proxy.rows()
    aws.enqueue(
        Script(
            output_tokens=50, input_tokens=3000, cached_tokens=1000, cache_write_tokens=700, cache_write_1h_tokens=300
        )
    )
    assert call(client(proxy)) == " token" * 50
    [row] = proxy.settled(1, seen)
    [record] = aws.seen_billable()
    assert record.complete
    assert signature_holds(record)
    assert row.cost == aws.billed_nanousd() > 0
    assert (row.state, row.marks) == ("posted", frozenset())
    assert (row.entry.provider, row.entry.model, row.entry.client) == ("bedrock", CLAUDE, "boto3")
    assert (row.usage.input_tokens, row.usage.cache_write_1h_tokens, row.usage.output_tokens) == (3000, 300, 50)


def test_counting_tokens_is_free(proxy: Proxy, aws: StandIn) -> None:
    """CountTokens passes and leaves no row."""
    seen = proxy.rows()
    answer = client(proxy).count_tokens(modelId=CLAUDE, input={"converse": {"messages": HI}})
    assert answer["inputTokens"] == 7
    assert proxy.rows() == seen


@pytest.mark.parametrize("mode", ["legacy", "standard"])
@pytest.mark.parametrize("call", CALLS)
def test_a_refusal_is_raised_once(aws: StandIn, refusing: Proxy, call: Callable[[Any], str], mode: str) -> None:
    """A full cap is a ClientError with our message, raised after one request in every retry mode."""
    seen = refusing.rows()
    with pytest.raises(ClientError, match="LLMCap: ") as raised:
        call(client(refusing, mode=mode))
    assert raised.value.response["Error"]["Code"] == "ServiceQuotaExceededException"
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert raised.value.response["ResponseMetadata"]["RetryAttempts"] == 0
    [row] = refusing.settled(1, seen)
    assert row.state == "refused"
    assert aws.seen() == []


@pytest.fixture(scope="module")
def refusing(aws: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Run a proxy whose cap is too small for any call."""
    caps = "{wait: 0s, caps: [{name: tiny, limit: 0.000001, per: day}]}"
    with Proxy(tmp_path_factory.mktemp("refusing"), aws, caps) as running:
        yield running
    running.assert_sound()


def test_what_is_not_metered_says_so(proxy: Proxy, aws: StandIn) -> None:
    """A guardrail, which nobody counts, and a model that nobody knows, are refused in AWS's shape."""
    guard = {"guardrailIdentifier": "g12345", "guardrailVersion": "1"}
    with pytest.raises(ClientError, match=r"LLMCap: .*guardrail") as raised:
        client(proxy).converse(modelId=CLAUDE, messages=HI, guardrailConfig=guard)
    assert raised.value.response["Error"]["Code"] == "ValidationException"
    with pytest.raises(ClientError, match=r"LLMCap: .*not known"):
        client(proxy).invoke_model(modelId="twelvelabs.pegasus-1-2-v1:0", body=b"{}")
    assert aws.seen() == []


def test_signed_bodies_are_never_shortened(aws: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit is set on a key's request where only so much fits; a signed one is refused instead."""
    caps = "{wait: 0s, caps: [{name: small, limit: 0.10, per: day}]}"
    with Proxy(tmp_path / "small", aws, caps) as small:
        with pytest.raises(ClientError, match="LLMCap: "):
            client(small).converse(modelId=CLAUDE, messages=HI)
        assert aws.seen_billable() == []
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-example")
        client(small).converse(modelId=CLAUDE, messages=HI)
        [record] = aws.seen_billable()
        assert record.headers["authorization"] == "Bearer bedrock-api-key-example"
        assert 1024 <= record.json()["inferenceConfig"]["maxTokens"] < 10_000
        [_, row] = small.settled(2)
        assert "shortened" in row.marks
        assert row.cost == record.cost_nanousd
        small.assert_sound()


def test_a_cut_is_raised(aws: StandIn, tmp_path: Path) -> None:
    """A stream that we end, because something of ours fails, ends in an exception that boto3 raises with our message."""
    target = "llmcap_addon.wire.bedrock_converse_meter:ConverseReader.count_part"
    orders = tmp_path / "orders"
    orders.write_text(target)
    environment = {VARIABLE: str(orders), TARGETS_VARIABLE: target}
    script = Path(__file__).with_name("sabotage.py")
    with Proxy(tmp_path / "cut", aws, AUDIT, scripts=(script,), environment=environment) as broken:
        with pytest.raises(EventStreamError, match="LLMCap: ") as raised:
            converse_stream(client(broken))
        assert raised.value.response["Error"]["Code"] == "validationException"
        [row] = broken.settled(1)
        assert "cut" in row.marks
        assert row.cost >= aws.billed_nanousd() > 0


def test_a_client_that_leaves_pays_for_all(proxy: Proxy, aws: StandIn) -> None:
    """AWS bills the whole answer when nobody listens any more, so it is read to its end."""
    seen = proxy.rows()
    aws.enqueue(Script(output_tokens=100, tokens_per_second=200))
    stream = client(proxy).converse_stream(modelId=CLAUDE, messages=HI, inferenceConfig={"maxTokens": 200})["stream"]
    next(iter(stream))
    stream.close()
    [row] = proxy.settled(1, seen)
    [record] = aws.seen_billable()
    assert record.generated_tokens == 100
    assert row.cost == record.cost_nanousd


def test_anthropics_own_client(proxy: Proxy, refusing: Proxy, aws: StandIn) -> None:
    """AnthropicBedrock is billed the same, and shows a refusal's message after one request."""

    def ask(through: Proxy) -> str:
        made = anthropic.AnthropicBedrock(
            aws_region="us-east-1",
            aws_access_key=KEYS[0],
            aws_secret_key=KEYS[1],
            http_client=through.client(),
        )
        with made.messages.stream(
            model=CLAUDE, max_tokens=200, messages=[{"role": "user", "content": "Say something, please."}]
        ) as stream:
            return "".join(stream.text_stream)

    seen = proxy.rows()
    assert ask(proxy) == " token" * 16
    [row] = proxy.settled(1, seen)
    assert signature_holds(aws.seen_billable()[0])
    assert row.cost == aws.billed_nanousd() > 0
    assert (row.entry.client, row.entry.dialect) == ("anthropic-python", "bedrock.invoke")
    with pytest.raises(anthropic.BadRequestError, match="LLMCap: "):
        ask(refusing)
    assert len(aws.seen()) == 1


def test_others_shapes(proxy: Proxy, refusing: Proxy, aws: StandIn) -> None:
    """What AWS serves in OpenAI's and Anthropic's shapes is billed at Bedrock's prices and refused in those shapes."""

    def chat(through: Proxy) -> str:
        made = openai.OpenAI(
            base_url=f"https://{bedrock.HOST}/openai/v1",
            api_key="bedrock-api-key-example",
            http_client=through.client(),
        )
        chunks = made.chat.completions.create(
            model="openai.gpt-oss-120b-1:0",
            messages=[{"role": "user", "content": PROMPT}],
            max_completion_tokens=200,
            stream=True,
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    def message(through: Proxy) -> str:
        made = anthropic.Anthropic(
            base_url=f"https://{bedrock.MANTLE_HOST}/anthropic", api_key="key-example", http_client=through.client()
        )
        messages: Any = [{"role": "user", "content": PROMPT}]
        answer = made.messages.create(model="anthropic.claude-haiku-4-5", max_tokens=200, messages=messages)
        return "".join(block.text for block in answer.content if block.type == "text")

    for call, dialect, raised in (
        (chat, "openai.chat", openai.RateLimitError),
        (message, "anthropic.messages", anthropic.RateLimitError),
    ):
        seen = proxy.rows()
        aws.reset()
        assert call(proxy) == " token" * 16
        [row] = proxy.settled(1, seen)
        assert (row.entry.provider, row.entry.dialect) == ("bedrock", dialect)
        assert row.cost == aws.billed_nanousd() > 0
        with pytest.raises(raised, match="LLMCap: "):
            call(refusing)
        assert len(aws.seen()) == 1


def test_a_signed_stream_is_not_asked_for_its_usage(proxy: Proxy, aws: StandIn) -> None:
    """A signature holds for the body, so a stream in OpenAI's shape goes out as it came, and is estimated from above."""
    seen = proxy.rows()
    body = json.dumps(
        {
            "model": "openai.gpt-oss-120b-1:0",
            "messages": [{"role": "user", "content": PROMPT}],
            "max_completion_tokens": 200,
            "stream": True,
        }
    ).encode()
    headers = {
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLEEXAMPLE01/20261123/us-east-1/bedrock/aws4_request"
    }
    with proxy.client() as http:
        http.post(f"https://{bedrock.HOST}/openai/v1/chat/completions", content=body, headers=headers)
    [row] = proxy.settled(1, seen)
    [record] = aws.seen_billable()
    assert record.body == body
    assert "estimated" in row.marks
    assert row.cost >= record.cost_nanousd > 0
