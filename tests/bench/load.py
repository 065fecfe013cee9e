"""The load: calls drawn from a seed, how the stand-in answers each, and the client that sends them."""

from __future__ import annotations

import math
import random
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx2

from tests.fakes.prices import Bill, cost_nanousd
from tests.fakes.script import Script
from tests.fakes.sdks import KEY
from tests.fakes.server import ANTHROPIC_HOST, GOOGLE_HOST, OPENAI_HOST

MAX_TOKENS = 1_024
"""What a call states as its limit, unless told otherwise."""
MEDIAN_TOKENS = 300
SIGMA = 0.8
"""Of the logarithm of an answer's length: most are short, one in sixteen reaches `MAX_TOKENS`."""
MIN_RATE, MAX_RATE = 50.0, 1_000.0
"""Tokens a second; every power of ten is equally likely."""
MIN_RTT_S, MAX_RTT_S = 0.02, 0.2
"""A round trip between proxy and provider: what is generated in it after a cut is billed, and nobody has seen it."""
MIN_INPUT, MAX_INPUT = 20, 400
"""Words of the prompt, each of which is one token."""
INPUT_OVERHEAD = 3
EVENT_S = 0.1
"""An event holds what was generated in so long, as providers do; one event a token would measure this machine."""
TIMEOUT_S = 60.0
CALL_HEADER = "x-bench-call"

CLAUDE_WORDS = tuple(" token" if place < 14 else " tok" if place % 2 == 0 else "en" for place in range(20))
"""Claude's text, token by token: 20 of its tokens for 17 words, each of them one token of OpenAI's vocabulary. That
Claude's tokenizer makes about so many more of English is an assumption of this load."""

type Kind = Literal["chat", "responses", "messages", "generate"]
type Answer = Literal["done", "cut", "refused", "broken"]

MIX: tuple[tuple[Kind, str], ...] = (
    ("chat", "gpt-4o-mini"),
    ("chat", "gpt-4o"),
    ("responses", "gpt-4o"),
    ("messages", "claude-sonnet-4-5"),
    ("messages", "claude-haiku-4-5"),
    ("generate", "gemini-2.5-flash"),
    ("generate", "gemini-2.0-flash"),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One streamed call of the load, and what it comes to when nobody stops it."""

    index: int
    kind: Kind
    model: str
    input_tokens: int
    output_tokens: int
    tokens_per_second: float
    max_tokens: int
    """What the request states."""
    rtt_s: float
    """For the simulated baselines; on the wire each connection has one of its own, from the same range."""

    def cost(self, output_tokens: int | None = None) -> int:
        """What it costs in nano-dollars with so many tokens of output; None: with all of them."""
        output = self.output_tokens if output_tokens is None else output_tokens
        return cost_nanousd(Bill(self.model, input_tokens=self.input_tokens, output_tokens=output))

    @property
    def seconds(self) -> float:
        """How long it takes when nobody stops it."""
        return self.rtt_s + self.output_tokens / self.tokens_per_second

    @property
    def script(self) -> Script:
        """How the stand-in answers it."""
        return Script(
            output_tokens=self.output_tokens,
            input_tokens=self.input_tokens,
            tokens_per_second=self.tokens_per_second,
            tokens_per_event=max(1, round(self.tokens_per_second * EVENT_S)),
            token_text=_claude_token if self.kind == "messages" else " token",
        )


def draw(seed: int, index: int, max_tokens: int = MAX_TOKENS) -> Call:
    """Draw the load's n-th call; the same seed gives the same load."""
    chance = random.Random(f"{seed}/{index}")
    kind, model = chance.choice(MIX)
    return Call(
        index=index,
        kind=kind,
        model=model,
        input_tokens=round(_log_uniform(chance, MIN_INPUT, MAX_INPUT)) + INPUT_OVERHEAD,
        output_tokens=max(1, min(max_tokens, round(chance.lognormvariate(math.log(MEDIAN_TOKENS), SIGMA)))),
        tokens_per_second=_log_uniform(chance, MIN_RATE, MAX_RATE),
        max_tokens=max_tokens,
        rtt_s=chance.uniform(MIN_RTT_S, MAX_RTT_S),
    )


def _claude_token(number: int) -> str:
    return CLAUDE_WORDS[number % len(CLAUDE_WORDS)]


def _log_uniform(chance: random.Random, low: float, high: float) -> float:
    return math.exp(chance.uniform(math.log(low), math.log(high)))


def request_of(call: Call) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Give a call's URL, headers and body."""
    prompt = "token" + " token" * (call.input_tokens - INPUT_OVERHEAD - 1)
    messages = [{"role": "user", "content": prompt}]
    bearer = {"authorization": f"Bearer {KEY}"}
    body: dict[str, Any]
    match call.kind:
        case "chat":
            url, headers = f"https://{OPENAI_HOST}/v1/chat/completions", bearer
            body = {"messages": messages, "max_completion_tokens": call.max_tokens}
        case "responses":
            url, headers = f"https://{OPENAI_HOST}/v1/responses", bearer
            body = {"input": prompt, "max_output_tokens": call.max_tokens}
        case "messages":
            url = f"https://{ANTHROPIC_HOST}/v1/messages"
            headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01"}
            body = {"messages": messages, "max_tokens": call.max_tokens}
        case "generate":
            url = f"https://{GOOGLE_HOST}/v1beta/models/{call.model}:streamGenerateContent?alt=sse"
            config: dict[str, Any] = {"maxOutputTokens": call.max_tokens}
            if call.model.startswith("gemini-2.5"):
                config["thinkingConfig"] = {"thinkingBudget": 0}
            body = {"contents": [{"role": "user", "parts": [{"text": prompt}]}], "generationConfig": config}
            return url, {"x-goog-api-key": KEY, CALL_HEADER: str(call.index)}, body
    return url, {**headers, CALL_HEADER: str(call.index)}, {**body, "model": call.model, "stream": True}


def make_client(port: int, ca: Path) -> httpx2.AsyncClient:
    """Make a client of one proxy that keeps as many connections as it has streams."""
    return httpx2.AsyncClient(
        proxy=f"http://127.0.0.1:{port}",
        verify=ssl.create_default_context(cafile=str(ca)),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
        timeout=TIMEOUT_S,
        trust_env=False,
    )


async def send(client: httpx2.AsyncClient, call: Call, on_head: Callable[[], None] = lambda: None) -> Answer:
    """Send a call and read its answer to the end; `on_head` is told when the provider's answer begins."""
    url, headers, body = request_of(call)
    tail = b""
    try:
        async with client.stream("POST", url, headers=headers, json=body) as response:
            if response.status_code != 200:
                return "refused" if b"LLMCap" in await response.aread() else "broken"
            on_head()
            async for piece in response.aiter_raw():
                tail = (tail + piece)[-2048:]
    except (httpx2.TransportError, OSError):
        return "broken"
    return "cut" if b"LLMCap:" in tail else "done"
