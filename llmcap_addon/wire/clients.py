"""Which program calls, and which HTTP status makes it stop at once and show the message of a refusal.

Learned by running each program against a stand-in provider that refuses every request; versions change, so anything
unknown gets the status that the providers' own SDKs understand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from llmcap_addon.wire.dialect import RefusalKind

MAX_NAME_CHARS = 40
UNKNOWN = "unknown"

_PROGRAMS: tuple[tuple[str, str], ...] = (
    # What a user agent contains, in lower case, and the program's name; the first that fits decides, so tools stand
    # before the libraries they are built on.
    ("claude-cli", "claude-code"),
    ("claude-code", "claude-code"),
    ("codex", "codex"),  # codex_cli_rs, codex_exec, codex_vscode, "Codex Desktop"
    ("geminicli", "gemini-cli"),
    ("gemini-cli", "gemini-cli"),
    ("opencode", "opencode"),
    ("aider", "aider"),
    ("qwencode", "qwen-code"),
    ("qwen-code", "qwen-code"),
    ("litellm", "litellm"),
    ("langchain", "langchain"),
    ("openai/python", "openai-python"),
    ("asyncopenai/python", "openai-python"),
    ("openai/js", "openai-js"),
    ("anthropic/python", "anthropic-python"),
    ("asyncanthropic/python", "anthropic-python"),
    ("anthropicbedrock", "anthropic-python"),  # AnthropicBedrock/Python, AsyncAnthropicBedrockMantle/Python …
    ("anthropic/js", "anthropic-js"),
    ("aws-cli/", "aws-cli"),
    ("boto3/", "boto3"),
    ("botocore/", "boto3"),
    ("aws-sdk-js/", "aws-sdk-js"),
    ("aws-sdk-java/", "aws-sdk-java"),
    ("aws-sdk-go", "aws-sdk-go"),
    ("aws-sdk-rust/", "aws-sdk-rust"),
    ("google-genai-sdk", "google-genai"),
    ("mistral-client-python", "mistral-python"),
    ("cohere/", "cohere-python"),
    ("curl/", "curl"),
    ("python-requests", "python-requests"),
    ("python-httpx", "python-httpx"),
)
_LIBRARIES = frozenset(
    {
        UNKNOWN,
        "litellm",
        "langchain",
        "openai-python",
        "openai-js",
        "anthropic-python",
        "anthropic-js",
        "boto3",
        "aws-sdk-js",
        "aws-sdk-java",
        "aws-sdk-go",
        "aws-sdk-rust",
        "google-genai",
        "mistral-python",
        "cohere-python",
        "python-requests",
        "python-httpx",
        "node",
        "undici",
        "node-fetch",
        "axios",
        "go-http-client",
        "aiohttp",
        "python",
        "bun",
    }
)
"""Names that say what a program is built on, not which one it is; a better name is taken where one is known."""
_COMMANDS = {"claude": "claude-code", "gemini": "gemini-cli", "qwen": "qwen-code"}
_LAUNCHER = re.compile(r"(?:python|pypy)[\d.]*|node|npx|npm|bun|bunx|deno|uv|uvx|pipx|sh|bash|zsh|fish|env|sudo|time")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_HAMMERING = frozenset({"codex", "gemini-cli", "opencode", "aider", "qwen-code"})
"""They repeat a 429 (some for ever, whatever the headers say), and most of them a 402 or 5xx too; a 400 in the
provider's shape is shown once and ends the turn."""


def client_name(headers: Mapping[str, str], hint: str = "") -> str:
    """Name the program from its user agent; header names are in lower case.

    `hint` is the command that was started under the cap; it names a program whose user agent is only its library's.
    """
    name = _from_user_agent(headers.get("user-agent", ""))
    if name not in _LIBRARIES or not hint:
        return name
    command = _safe(hint.lower().removesuffix(".exe"))
    if not command or _LAUNCHER.fullmatch(command):
        return name
    return _COMMANDS.get(command, command)


def refusal_status(dialect_name: str, client: str, kind: RefusalKind, refuse_with: int | None) -> int:
    """Choose a refusal's status so that it causes one request, with its message shown.

    `refuse_with` overrides what a full cap answers. 429 together with `x-should-retry: false` stops the SDKs of OpenAI
    and Anthropic, and Claude Code, at once; google-genai does not repeat it. A body or an endpoint that is not
    understood is a 400: sending it again can't help. What fails on our side is the default too, not a 5xx, which
    clients repeat. Cohere's SDK repeats a 429 whatever the headers say, and shows a 402 at once (`_should_retry`).
    """
    if kind in ("spent", "reserved") and refuse_with is not None:
        return refuse_with
    if kind in ("unmetered", "unreadable", "unpriced") or client in _HAMMERING:
        return 400
    if dialect_name.startswith("bedrock."):
        return 400  # AWS's SDKs repeat 429 and 5xx (botocore's retry modes; `x-should-retry` is not theirs)
    return 402 if dialect_name.startswith("cohere.") else 429


def _from_user_agent(user_agent: str) -> str:
    lowered = user_agent.lower()
    for part, name in _PROGRAMS:
        if part in lowered:
            return name
    words = lowered.split()
    return (_safe(words[0].partition("/")[0]) if words else "") or UNKNOWN


def _safe(text: str) -> str:
    """Keep what may stand in a label, a table and a header."""
    return _UNSAFE.sub("-", text[: 4 * MAX_NAME_CHARS]).strip("-")[:MAX_NAME_CHARS]
