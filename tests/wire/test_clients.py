from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.wire.clients import client_name, refusal_status
from llmcap_addon.wire.dialect import RefusalKind

KINDS = get_args(RefusalKind.__value__)


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("codex_cli_rs/0.63.0 (Debian 13; x86_64) xterm-256color (codex_exec; 0.63.0)", "codex"),
        ("codex_exec/0.63.0 (Mac OS 26.1; arm64)", "codex"),
        ("claude-cli/2.0.50 (external, cli)", "claude-code"),
        ("GeminiCLI/0.17.1/gemini-2.5-pro (linux; x64)", "gemini-cli"),
        ("GeminiCLI/v24.1.0 (linux; x64) google-api-nodejs-client/9.15.1", "gemini-cli"),
        ("opencode/1.0.100 ai-sdk/provider-utils/3.0.9 runtime/bun/1.3.2", "opencode"),
        ("QwenCode/0.2.1 (linux; x64)", "qwen-code"),
        ("aider/0.86.1", "aider"),
        ("OpenAI/Python 3.54.0", "openai-python"),
        ("AsyncOpenAI/Python 3.54.0", "openai-python"),
        ("OpenAI/JS 6.9.1", "openai-js"),
        ("Anthropic/Python 2.12.0", "anthropic-python"),
        ("AsyncAnthropic/Python 2.12.0", "anthropic-python"),
        ("Anthropic/JS 0.70.0", "anthropic-js"),
        ("AnthropicBedrock/Python 2.12.0", "anthropic-python"),
        ("AsyncAnthropicBedrockMantle/Python 2.12.0", "anthropic-python"),
        ("Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux#6.1 lang/python#3.13.0", "boto3"),
        ("aws-cli/2.31.0 md/awscrt#0.27.6 ua/2.1 os/linux#6.1 lang/python#3.13.7", "aws-cli"),
        ("aws-sdk-js/3.940.0 ua/2.1 os/linux#6.1 lang/js md/nodejs#24.1.0", "aws-sdk-js"),
        ("aws-sdk-go-v2/1.39.0 ua/2.1 os/linux lang/go#1.25", "aws-sdk-go"),
        ("google-genai-sdk/3.4.0 gl-python/3.13.1", "google-genai"),
        ("litellm/1.109.0", "litellm"),
        ("langchain-google-genai/3.1.0", "langchain"),
        ("curl/8.14.1", "curl"),
        ("python-requests/2.32.5", "python-requests"),
        ("python-httpx/0.28.1", "python-httpx"),
        ("My Tool/1.0", "my"),
        ("MyTool/1.0 (x)", "mytool"),
        ("", "unknown"),
        ("/ / /", "unknown"),
        ("\x1b[31mred/1", "31mred"),
        ("a" * 500, "a" * 40),
    ],
)
def test_a_program_is_named_by_its_user_agent(user_agent: str, name: str) -> None:
    """Tools and SDKs by their usual names, anything else by its first word, bounded and safe to print."""
    assert client_name({"user-agent": user_agent}) == name


@given(st.text(), st.text())
def test_no_name_is_unsafe(user_agent: str, hint: str) -> None:
    """Whatever a client sends, its name fits a label, a table and a header."""
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,40}", client_name({"user-agent": user_agent}, hint))


@pytest.mark.parametrize(
    ("user_agent", "hint", "name"),
    [
        ("OpenAI/Python 3.54.0", "aider", "aider"),
        ("OpenAI/Python 3.54.0", "gemini", "gemini-cli"),
        ("OpenAI/Python 3.54.0", "python3.13", "openai-python"),
        ("OpenAI/Python 3.54.0", "bash", "openai-python"),
        ("claude-cli/2.0.50", "make", "claude-code"),
        ("", "my-agent", "my-agent"),
    ],
)
def test_the_command_names_a_program_that_only_names_its_library(user_agent: str, hint: str, name: str) -> None:
    """A launcher says nothing, and a tool's own user agent knows better."""
    assert client_name({"user-agent": user_agent}, hint) == name


@pytest.mark.parametrize("client", ["codex", "gemini-cli", "opencode", "aider", "qwen-code"])
@pytest.mark.parametrize("kind", KINDS)
def test_clients_that_hammer_a_429_get_a_400(client: str, kind: RefusalKind) -> None:
    """It is the one status that all of them show once and stop at."""
    assert refusal_status("openai.chat", client, kind, None) == 400


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("spent", 429),
        ("reserved", 429),
        ("unmetered", 400),
        ("unreadable", 400),
        ("unpriced", 400),
        ("store", 429),
        ("internal", 429),
    ],
)
def test_others_get_a_429_or_are_told_that_the_request_is_wrong(kind: RefusalKind, status: int) -> None:
    """Never a 5xx, which clients repeat."""
    for client in ("openai-python", "claude-code", "unknown"):
        assert refusal_status("openai.chat", client, kind, None) == status


def test_the_users_choice_overrides_for_caps_alone() -> None:
    """`refuse_with` answers for a full cap; what is wrong with a request stays what it is."""
    assert refusal_status("openai.chat", "codex", "spent", 402) == 402
    assert refusal_status("openai.chat", "codex", "reserved", 402) == 402
    assert refusal_status("openai.chat", "curl", "unreadable", 402) == 400
