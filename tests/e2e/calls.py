"""The calls that end-to-end tests make: each dialect through its own SDK, streamed and not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import openai
from google import genai
from google.genai import errors as google_errors
from google.genai import types as google_types

from tests.fakes.sdks import SDKs

PROMPT = "Say something about distinctive-PROMPT-8472, please."

SDK_ERRORS = (openai.APIError, anthropic.APIError, google_errors.APIError)
"""What the SDKs raise for a provider's error, and so for ours."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to call a provider."""

    name: str
    model: str
    streamed: bool
    run: Callable[[SDKs, str, int | None], Iterator[str]]
    """Calls with a model and a limit on the answer's tokens; gives the text as it arrives."""

    def __call__(self, sdks: SDKs, max_tokens: int | None = 200, model: str = "") -> str:
        """Make the call and give the whole text."""
        return "".join(self.run(sdks, model or self.model, max_tokens))

    def stream(self, sdks: SDKs, max_tokens: int | None = 200, model: str = "") -> Iterator[str]:
        """Make the call and give its text piece by piece."""
        return self.run(sdks, model or self.model, max_tokens)


def _given(**options: Any) -> Any:
    """Leave out what is None, as a user would."""
    return {name: value for name, value in options.items() if value is not None}


def _chat(sdks: SDKs, model: str, max_tokens: int | None) -> Iterator[str]:
    answer = sdks.openai.chat.completions.create(
        model=model, messages=[{"role": "user", "content": PROMPT}], **_given(max_completion_tokens=max_tokens)
    )
    yield answer.choices[0].message.content or ""


def _chat_stream(sdks: SDKs, model: str, max_tokens: int | None) -> Iterator[str]:
    chunks = sdks.openai.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": PROMPT}],
        stream=True,
        **_given(max_completion_tokens=max_tokens),
    )
    for chunk in chunks:
        yield chunk.choices[0].delta.content or ""  # fails on a usage chunk, which has no choices: nobody asked for it


def _chat_usage_stream(sdks: SDKs, model: str, max_tokens: int | None) -> Iterator[str]:
    chunks = sdks.openai.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": PROMPT}],
        stream=True,
        stream_options={"include_usage": True},
        **_given(max_completion_tokens=max_tokens),
    )
    usages = 0
    for chunk in chunks:
        usages += chunk.usage is not None
        yield chunk.choices[0].delta.content or "" if chunk.choices else ""
    assert usages == 1, "the client asked for one usage chunk"


def _responses(sdks: SDKs, model: str, max_tokens: int | None) -> Iterator[str]:
    yield sdks.openai.responses.create(model=model, input=PROMPT, **_given(max_output_tokens=max_tokens)).output_text


def _responses_stream(sdks: SDKs, model: str, max_tokens: int | None) -> Iterator[str]:
    events = sdks.openai.responses.create(
        model=model, input=PROMPT, stream=True, **_given(max_output_tokens=max_tokens)
    )
    for event in events:
        if event.type == "response.output_text.delta":
            yield event.delta


def _messages(sdks: SDKs, model: str, max_tokens: int | None) -> Iterator[str]:
    answer = sdks.anthropic.messages.create(
        model=model, max_tokens=max_tokens or 64_000, messages=[{"role": "user", "content": PROMPT}]
    )
    yield "".join(block.text for block in answer.content if block.type == "text")


def _messages_stream(sdks: SDKs, model: str, max_tokens: int | None) -> Iterator[str]:
    events = sdks.anthropic.messages.create(
        model=model, max_tokens=max_tokens or 64_000, messages=[{"role": "user", "content": PROMPT}], stream=True
    )
    for event in events:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            yield event.delta.text


def _google_config(max_tokens: int | None) -> google_types.GenerateContentConfig:
    return google_types.GenerateContentConfig(
        max_output_tokens=max_tokens, thinking_config=google_types.ThinkingConfig(thinking_budget=0)
    )


def _generate(sdks: SDKs, model: str, max_tokens: int | None) -> Iterator[str]:
    yield (
        sdks.google.models.generate_content(model=model, contents=PROMPT, config=_google_config(max_tokens)).text or ""
    )


def _generate_stream(sdks: SDKs, model: str, max_tokens: int | None) -> Iterator[str]:
    return _google_stream(sdks.google, model, max_tokens)


def _generate_stream_elsewhere(sdks: SDKs, model: str, max_tokens: int | None) -> Iterator[str]:
    return _google_stream(sdks.google_elsewhere, model, max_tokens)


def _google_stream(client: genai.Client, model: str, max_tokens: int | None) -> Iterator[str]:
    for chunk in client.models.generate_content_stream(model=model, contents=PROMPT, config=_google_config(max_tokens)):
        yield chunk.text or ""


CHAT = Kind("chat", "gpt-4o", False, _chat)
CHAT_STREAM = Kind("chat-stream", "gpt-4o", True, _chat_stream)
RESPONSES = Kind("responses", "gpt-4o", False, _responses)
RESPONSES_STREAM = Kind("responses-stream", "gpt-4o", True, _responses_stream)
MESSAGES = Kind("messages", "claude-sonnet-4-5", False, _messages)
MESSAGES_STREAM = Kind("messages-stream", "claude-sonnet-4-5", True, _messages_stream)
GENERATE = Kind("generate", "gemini-2.5-flash", False, _generate)
GENERATE_STREAM = Kind("generate-stream", "gemini-2.5-flash", True, _generate_stream)
GENERATE_STREAM_ELSEWHERE = Kind("generate-stream-elsewhere", "gemini-2.5-flash", True, _generate_stream_elsewhere)

STREAMS = (CHAT_STREAM, RESPONSES_STREAM, MESSAGES_STREAM, GENERATE_STREAM)
CUTTABLE = (CHAT_STREAM, RESPONSES_STREAM, MESSAGES_STREAM, GENERATE_STREAM_ELSEWHERE)
"""Google itself bills on when nobody listens any more: its streams are reserved whole, and not cut."""
ELSEWHERE = 'hosts: {llm.example.net: {api: google, provider: elsewhere}}, prices: {llm.example.net: {"gemini-*": {input: 0.3, output: 2.5}}}'
"""For caps.yaml: the host that `GENERATE_STREAM_ELSEWHERE` calls."""
WHOLE = (CHAT, RESPONSES, MESSAGES, GENERATE)
ALL = (*WHOLE, *STREAMS, Kind("chat-stream-usage", "gpt-4o", True, _chat_usage_stream))

BROKEN_ANSWERS = (CHAT, MESSAGES, GENERATE, *STREAMS)
"""Kinds whose answers are read by different code: Responses and chat share the reading of a whole body."""


def message_of(error: Exception) -> str:
    """Give the message that an SDK's error shows its user, as the provider's error had it."""
    if isinstance(error, google_errors.APIError):
        return str(error.message)
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict) and isinstance(inner.get("message"), str):
            return str(inner["message"])
    return str(getattr(error, "message", error))
