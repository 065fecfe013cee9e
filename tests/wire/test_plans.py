from __future__ import annotations

import json
from typing import Any

import pytest

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Usage
from llmcap_addon.wire.dialect import Refusal, Request, ResponseHead, Target
from llmcap_addon.wire.dialects import DIALECTS
from llmcap_addon.wire.google_code_assist import CODE_ASSIST
from llmcap_addon.wire.plans import billing_told, with_plan
from llmcap_addon.wire.routes import classify
from tests.wire.corpus import byte_by_byte, feed_all, make_call

OAUTH = "Bearer sk-ant-oat01-abcdefghijkl"
CLAUDE_CODE = "claude-cli/2.1.0 (external, cli)"
WRAPPED = {"model": "gemini-2.5-pro", "project": "p", "request": {"contents": [{"parts": [{"text": "Hi"}]}]}}


def billing(host: str, provider: str = "anthropic", **headers: str) -> str:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return with_plan(make_call(host=host, provider=provider), Request("POST", host, "/", headers=named)).billing


@pytest.mark.parametrize(
    ("host", "provider", "headers", "expected"),
    [
        ("api.anthropic.com", "anthropic", {"authorization": OAUTH, "user_agent": CLAUDE_CODE}, "plan"),
        ("api.anthropic.com", "anthropic", {"authorization": "bearer  SK-ANT-OAT01-x", "user_agent": CLAUDE_CODE}, "plan"),
        ("api.anthropic.com", "anthropic", {"authorization": OAUTH, "user_agent": "opencode/1.0"}, "api"),
        ("api.anthropic.com", "anthropic", {"authorization": OAUTH}, "api"),
        ("api.anthropic.com", "anthropic", {"authorization": OAUTH, "user_agent": "x claude-cli/2"}, "api"),
        ("api.anthropic.com", "anthropic", {"authorization": "Bearer sk-ant-api03-x", "user_agent": CLAUDE_CODE}, "api"),
        ("api.anthropic.com", "anthropic", {"x_api_key": "sk-ant-api03-x", "user_agent": CLAUDE_CODE}, "api"),
        (
            "api.anthropic.com",
            "anthropic",
            {"authorization": OAUTH, "x_api_key": "k", "user_agent": CLAUDE_CODE},
            "api",
        ),
        ("llm.internal.example", "anthropic", {"authorization": OAUTH, "user_agent": CLAUDE_CODE}, "api"),
        ("chatgpt.com", "openai", {}, "plan"),
        ("api.openai.com", "openai", {"chatgpt_account_id": "x"}, "api"),
        ("api.business.githubcopilot.com", "github-copilot", {}, "plan"),
        ("cloudcode-pa.googleapis.com", "google", {}, "plan"),
        ("generativelanguage.googleapis.com", "google", {}, "api"),
    ],
)  # fmt: skip
def test_a_plan_is_known_by_where_it_goes_and_how_it_signs_in(
    host: str, provider: str, headers: dict[str, str], expected: str
) -> None:
    """Whatever is not surely under a plan is paid by the token."""
    assert billing(host, provider, **headers) == expected


def test_codex_is_not_shortened_with_a_plan() -> None:
    """ChatGPT's backend refuses members that Codex does not send."""
    assert not with_plan(make_call(host="chatgpt.com"), Request("POST", "chatgpt.com", "/")).editable
    assert with_plan(make_call(host="api.openai.com"), Request("POST", "api.openai.com", "/")).editable


@pytest.mark.parametrize(
    ("host", "value", "expected"),
    [
        ("api.anthropic.com", "true", "api"),
        ("api.anthropic.com", " False ", "plan"),
        ("api.anthropic.com", "perhaps", ""),
        ("api.anthropic.com", "", ""),
        ("api.openai.com", "true", ""),
    ],
)
def test_an_answer_tells_that_a_plan_is_used_up(host: str, value: str, expected: str) -> None:
    """Only Anthropic does, and only in these words."""
    assert billing_told(host, {"anthropic-ratelimit-unified-overage-in-use": value}) == expected


@pytest.mark.parametrize(
    ("target", "kind", "dialect", "provider"),
    [
        ("api.githubcopilot.com/chat/completions", "metered", "openai.chat", "github-copilot"),
        ("api.individual.githubcopilot.com/responses", "metered", "openai.responses", "github-copilot"),
        ("api.enterprise.githubcopilot.com/v1/messages", "metered", "anthropic.messages", "github-copilot"),
        ("copilot-api.acme.ghe.com/embeddings", "metered", "openai.embeddings", "github-copilot"),
        ("api.githubcopilot.com/models/session", "free", "openai.chat", "github-copilot"),
        ("api.githubcopilot.com/mcp/readonly", "free", "openai.chat", "github-copilot"),
        ("api.githubcopilot.com/agents/x/chat", "unmetered", "openai.chat", "github-copilot"),
        ("chatgpt.com/backend-api/codex/responses", "metered", "openai.responses", "openai"),
        ("chatgpt.com/backend-api/codex/responses/compact", "metered", "openai.compact", "openai"),
        ("chatgpt.com/backend-api/codex/responses/x", "unmetered", "openai.responses", "openai"),
        ("chatgpt.com/backend-api/codex/%252e/responses", "unmetered", "openai.chat", "openai"),
        ("chatgpt.com/backend-api/conversation", "free", "openai.chat", "openai"),
        ("chatgpt.com/backend-api/codex/usage", "free", "openai.chat", "openai"),
        ("cloudcode-pa.googleapis.com/v1internal:streamGenerateContent", "metered", "google.code_assist", "google"),
        ("cloudcode-pa.googleapis.com/v1internal:generateContent", "metered", "google.code_assist", "google"),
        ("cloudcode-pa.googleapis.com/v1internal:loadCodeAssist", "free", "google.generate", "google"),
        ("cloudcode-pa.googleapis.com/v1internal:generateChat", "unmetered", "google.generate", "google"),
    ],
)
def test_routes_of_plans(target: str, kind: str, dialect: str, provider: str) -> None:
    """What generates is metered, or not understood; the rest of such hosts passes."""
    host, slash, path = target.partition("/")
    found = classify(Request("POST", host, slash + path), {})
    assert (found.kind, found.dialect_name, found.provider) == (kind, dialect, provider)
    assert found.dialect_name in DIALECTS


def test_a_persons_own_conversations_pass() -> None:
    """A websocket of ChatGPT's own is no affair of ours; one of Codex's is."""
    for path, kind in (("/backend-api/conversation", "free"), ("/backend-api/codex/responses", "socket")):
        found = classify(Request("GET", "chatgpt.com", path, headers={"upgrade": "websocket"}), {})
        assert found.kind == kind


def code_assist(body: Any, method: str = "streamGenerateContent", **query: str) -> Call:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request("POST", "cloudcode-pa.googleapis.com", f"/v1internal:{method}", query, body=data)
    return CODE_ASSIST.parse(request, Target("google"), "gemini-cli")


def test_code_assist_is_generate_content_in_a_wrapper() -> None:
    """Model and limits stand in the wrapper, and a limit of ours is set inside it."""
    call = code_assist(WRAPPED, alt="sse")
    assert (call.dialect, call.model, call.host) == (
        "google.code_assist",
        "gemini-2.5-pro",
        "cloudcode-pa.googleapis.com",
    )
    assert (call.streamed, call.content.texts[0]) == (True, "Hi")
    assert not code_assist(WRAPPED, "generateContent").streamed
    body = json.dumps(WRAPPED).encode()
    assert CODE_ASSIST.amend(call, body, None) == body
    amended = json.loads(CODE_ASSIST.amend(call, body, 50))
    assert amended["request"]["generationConfig"] == {"maxOutputTokens": 50}
    assert amended["project"] == "p"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", {}, {"model": "m"}, {"model": "a/b", "request": {}}, {"model": "m", "request": []}],
)
def test_an_odd_wrapper_is_refused(body: Any) -> None:
    """As is a stream in another shape than the one that Gemini CLI asks for."""
    with pytest.raises(UnreadableRequest):
        code_assist(body, alt="sse")
    with pytest.raises(UnreadableRequest, match="alt=sse"):
        code_assist(WRAPPED)


def test_code_assists_answers_are_read_and_cut() -> None:
    """Streamed and whole, to the same usage, by any split; a cut is Google's error."""
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 5, "totalTokenCount": 17}
    answer = {"candidates": [{"content": {"parts": [{"text": "Hello"}]}, "finishReason": "STOP"}]}
    whole = {"response": {**answer, "usageMetadata": usage, "modelVersion": "gemini-2.5-pro"}, "traceId": "t"}
    stream = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in ({"response": answer}, whole))
    call = code_assist(WRAPPED, alt="sse")
    for kind, data in (("text/event-stream", stream), ("application/json", json.dumps(whole).encode())):
        meter = CODE_ASSIST.meter(call, b"", ResponseHead(200, kind), len)
        assert feed_all(meter, byte_by_byte(data)) == data
        assert meter.reading.usage == Usage(9, 8, reasoning_tokens=5)
        assert (meter.reading.final, meter.reading.model) == (True, "gemini-2.5-pro")
    refusal = Refusal("spent", "LLMCap: spent")
    meter = CODE_ASSIST.meter(call, b"", ResponseHead(200, "text/event-stream"), len)
    assert (
        json.loads(CODE_ASSIST.cut(call, refusal, meter).removeprefix(b"data: "))["error"]["message"] == "LLMCap: spent"
    )
    request = Request("POST", "cloudcode-pa.googleapis.com", "/v1internal:streamGenerateContent", {"alt": "sse"})
    assert json.loads(CODE_ASSIST.refusal(call, request, refusal, 400).body)["error"]["code"] == 400
    for odd in (b"", b"{", b'{"response":1}', b"\xff"):
        failed = CODE_ASSIST.meter(call, b"", ResponseHead(200, "application/json"), len)
        feed_all(failed, [odd])
        assert failed.reading.unreadable
