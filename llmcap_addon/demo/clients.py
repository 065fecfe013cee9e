"""The demo's clients: plain HTTPS programs that know nothing of LLMCap but the proxy's address and its CA."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from llmcap_addon.demo.providers import ANTHROPIC, GOOGLE, OPENAI, prose

ANSWER_TIMEOUT_S = 60
"""Longer than any answer of the demo takes; a client that waits so long has found a bug."""


@dataclass(slots=True)
class Client:
    """One program that makes calls, and what it was told when it was stopped."""

    name: str
    user_agent: str
    host: str
    calls: int = 0
    told: str = field(default="", init=False)
    """The first error it got, as its user would read it; empty while all went well."""


@dataclass(frozen=True, slots=True)
class Network:
    """How the clients reach the world."""

    proxy: str
    """"127.0.0.1:43210"."""
    ca_file: Path

    def post(self, client: Client, path: str, body: dict[str, Any]) -> str:
        """Make one call and read its answer to the end; gives the error's message, or an empty string.

        A stream's error is an event in it; an error before it is a status. OSError and HTTPException, when the
        connection fails, are the error too.
        """
        context = ssl.create_default_context(cafile=str(self.ca_file))
        connection = http.client.HTTPSConnection(self.proxy, timeout=ANSWER_TIMEOUT_S, context=context)
        connection.set_tunnel(client.host, 443)
        headers = {"content-type": "application/json", "user-agent": client.user_agent}
        client.calls += 1
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            if response.status != 200:
                return f"HTTP {response.status}: {_message(response.read())}"
            for line in response:
                if line.startswith(b"data: {") and b'"error"' in line:
                    return f"in the stream: {_message(line[6:])}"
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        return ""


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode("utf-8", "replace")[:300]


type Turn = Callable[[Network, Client], str]
"""One call of a client, as `Network.post` gives it."""


def chat_turn(network: Network, client: Client) -> str:
    """A person chats: short questions, streamed answers of a cheap model."""
    messages = [{"role": "user", "content": prose(200 + 40 * client.calls)}]
    body = {"model": "gpt-4o-mini", "stream": True, "max_tokens": 60, "messages": messages}
    return network.post(client, "/v1/chat/completions", body)


def agent_turn(network: Network, client: Client) -> str:
    """A coding agent: a mostly cached context and streamed answers of a dear model; the third one does not end."""
    messages = [{"role": "user", "content": prose(1_000 + 100 * client.calls)}]
    limit = 200 if client.calls < 2 else 32_000
    body = {"model": "claude-opus-4-5", "stream": True, "max_tokens": limit, "messages": messages}
    return network.post(client, "/v1/messages", body)


def script_turn(network: Network, client: Client) -> str:
    """A batch script: whole answers about documents."""
    body = {
        "contents": [{"role": "user", "parts": [{"text": prose(4_000)}]}],
        "generationConfig": {"maxOutputTokens": 150},
    }
    return network.post(client, "/v1beta/models/gemini-2.5-pro:generateContent", body)


def runaway_turn(network: Network, client: Client) -> str:
    """An agent in a loop: each call sends all the earlier ones again, and nobody watches."""
    messages = [{"role": "user", "content": prose(4_000 + 3_000 * client.calls)}]
    body = {"model": "gpt-4o", "max_tokens": 100, "messages": messages}
    return network.post(client, "/v1/chat/completions", body)


@dataclass(frozen=True, slots=True)
class Role:
    """What a client does, when it begins, and how long it thinks between two calls."""

    client: Client
    turn: Turn
    begins_s: float
    pause_s: float
    is_culprit: bool = False
    """True when it goes on until a cap stops it; the show ends once all of these were stopped."""

    def play(self, network: Network, speed: float, stop: Event) -> None:
        """Make calls until one fails or `stop` is set; `speed` multiplies the pauses."""
        if stop.wait(self.begins_s * speed):
            return
        while not stop.is_set():
            self.client.told = self.turn(network, self.client)
            if self.client.told or stop.wait(self.pause_s * speed):
                return


def cast() -> tuple[Role, ...]:
    """The demo's clients."""
    return (
        Role(Client("chat window", "chat-window/1.4", OPENAI), chat_turn, 0.0, 1.0),
        Role(Client("coding agent", "claude-cli/2.0.42 (external, cli)", ANTHROPIC), agent_turn, 0.5, 0.8, True),
        Role(Client("nightly script", "google-genai-sdk/1.52.0 gl-python/3.13", GOOGLE), script_turn, 2.0, 2.5),
        Role(Client("runaway loop", "my-agent/0.3", OPENAI), runaway_turn, 5.0, 0.3, True),
    )
