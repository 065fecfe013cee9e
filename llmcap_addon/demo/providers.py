"""Stand-ins for three providers, on loopback: what the demo's clients talk to, through the real proxy."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Self

from cryptography import x509
from mitmproxy import certs
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

OPENAI = "api.openai.com"
ANTHROPIC = "api.anthropic.com"
GOOGLE = "generativelanguage.googleapis.com"

_SENTENCE = (
    "the fuse counts what each call costs and refuses the one that would not fit so that a loop nobody watches ends "
    "at its cap and not at the end of the month"
).split()


def prose(words: int) -> str:
    """Make a text of so many words; every tokenizer makes at least one token of each."""
    return " ".join(_SENTENCE[index % len(_SENTENCE)] for index in range(words))


class Providers:
    """Answers for all three hosts on one port of 127.0.0.1, with certificates of an authority of its own.

    Usage is reported in words, which are never more than the tokens that LLMCap reserves for. Nothing is logged.
    """

    def __init__(self, folder: Path, pace_s: float) -> None:
        """`folder` takes the authority's files, its key among them; `pace_s` is the time between an answer's events."""
        store = certs.CertStore.from_store(folder, "stand-in", 2048)
        self.ca_file = folder / "stand-in-ca-cert.pem"
        leaf = folder / "stand-in-leaf.pem"
        leaf.write_bytes(
            store.get_cert(OPENAI, [x509.DNSName(host) for host in (OPENAI, ANTHROPIC, GOOGLE)]).cert.to_pem()
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(leaf, keyfile=folder / "stand-in-ca.pem")
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.pace_s = pace_s
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), name="stand-ins", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def route(self) -> Route:
        """Make the addon that leads the proxy's connections here instead of to the internet."""
        return Route(self._server.server_address[1])


class Route:
    """A mitmproxy addon: every connection to a server goes to the stand-ins; host and TLS name stay what they are."""

    def __init__(self, port: int) -> None:
        self._port = port

    def server_connect(self, data: ServerConnectionHookData) -> None:
        """Change where the proxy is about to connect to."""
        data.server.address = ("127.0.0.1", self._port)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    pace_s: float = 0.0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that leaves in the middle is part of the show."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name is the base class's)
        """Log nothing."""

    def do_POST(self) -> None:
        """Answer one call."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.startswith("/v1/messages"):
            self._stream(_anthropic(body))
        elif self.path.startswith("/v1beta/"):
            self._whole(_google(body, self.path))
        elif body.get("stream"):
            self._stream(_openai_stream(body))
        else:
            self._whole(_openai(body))

    def _whole(self, answer: dict[str, Any]) -> None:
        time.sleep(10 * self.server.pace_s)
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: Iterator[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in events:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            time.sleep(self.server.pace_s)
        self.wfile.write(b"0\r\n\r\n")


def _words(value: object) -> int:
    """Words of all texts in a request."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, dict):
        return sum(_words(part) for part in value.values())
    return sum(_words(part) for part in value) if isinstance(value, list) else 0


def _openai_usage(body: dict[str, Any], output: int) -> dict[str, Any]:
    prompt = _words(body["messages"])
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def _openai(body: dict[str, Any]) -> dict[str, Any]:
    words = body["max_tokens"]
    message = {"role": "assistant", "content": prose(words)}
    return {
        "id": "chatcmpl-demo",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _openai_usage(body, words),
    }


def _openai_stream(body: dict[str, Any]) -> Iterator[bytes]:
    head = {
        "id": "chatcmpl-demo",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": body["model"],
    }
    words = prose(body["max_tokens"]).split()
    for word in words:
        yield _data({**head, "choices": [{"index": 0, "delta": {"content": word + " "}}]})
    yield _data({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _data({**head, "choices": [], "usage": _openai_usage(body, len(words))})
    yield b"data: [DONE]\n\n"


def _anthropic(body: dict[str, Any]) -> Iterator[bytes]:
    words = prose(body["max_tokens"]).split()
    prompt = _words(body["messages"]) + _words(body.get("system"))
    cached = prompt * 3 // 4
    usage = {"input_tokens": prompt - cached, "cache_read_input_tokens": cached, "output_tokens": 1}
    message = {"id": "msg_demo", "type": "message", "role": "assistant", "model": body["model"], "content": []}
    yield _event("message_start", message={**message, "stop_reason": None, "usage": usage})
    yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for at in range(0, len(words), 4):
        text = " ".join(words[at : at + 4]) + " "
        yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
    yield _event("content_block_stop", index=0)
    yield _event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": len(words)})
    yield _event("message_stop")


def _google(body: dict[str, Any], path: str) -> dict[str, Any]:
    words = body["generationConfig"]["maxOutputTokens"]
    prompt = _words(body["contents"])
    content = {"role": "model", "parts": [{"text": prose(words)}]}
    return {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {
            "promptTokenCount": prompt,
            "candidatesTokenCount": words,
            "totalTokenCount": prompt + words,
        },
        "modelVersion": path.rpartition("/")[2].partition(":")[0],
    }


def _data(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _event(name: str, **fields: Any) -> bytes:
    return b"event: " + name.encode() + b"\n" + _data({"type": name, **fields})
