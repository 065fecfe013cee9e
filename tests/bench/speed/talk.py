"""What the load says and the upstream answers: one call of OpenAI's chat API, whole or as a stream of events.

How the upstream shall answer stands in a header of the request, which every proxy hands on, so that each contender
carries the same bytes.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

HOST = "api.openai.com"
"""A real provider's name, so that nothing is special about what is measured; it is led to loopback."""
PATH = "/v1/chat/completions"
MODEL = "gpt-4o-mini"
LARGE_MODEL = "gpt-4.1"
"""For prompts of a megabyte: its context window holds them."""
KEY = "sk-bench-0123456789abcdef"

STREAM_HEADER = "x-bench-stream"
"""How a stream shall come: "EVENTS,GAP_US,BYTES"."""
STAMP_DIGITS = 20
_STAMP = b'"system_fingerprint":"fp_'
_MAX_TOKENS = 400
_MAX_STREAM_TOKENS = 16_384

CALL_DIGITS = 12
CALL_MARK = b"call " + b"0" * CALL_DIGITS
"""Begins each prompt; the load numbers its calls there, so that no two prompts are the same."""

_WORDS = (
    "budget stream ledger about window between carry the of a in and reason answer whether function return value "
    "customer shipment parse header limit small because quarterly review table index nothing summary please describe"
).split()
_SYLLABLES = "ka ro mi tel no vash qui be dor lun sti gra pho wex".split()
_SIGNS = ('{"id":', "},", "==", "->", "(x)", "//", "[0]:")
_PLAIN_SHARE, _RARE_SHARE, _NUMBER_SHARE = 0.6, 0.85, 0.95
"""Of common words, of those and rare ones, of those and numbers; the rest are signs: text mixed with code and data."""


@dataclass(frozen=True, slots=True)
class Stream:
    """How the upstream paces an answer."""

    events: int
    gap_us: int = 0
    """Between two events; 0 sends them as fast as they are taken."""
    text_bytes: int = 0
    """Of text in each event; 0: one token, as providers send."""

    def header(self) -> str:
        """Give the value of `STREAM_HEADER`."""
        return f"{self.events},{self.gap_us},{self.text_bytes}"

    @classmethod
    def read(cls, value: bytes) -> Stream:
        """Read the value of `STREAM_HEADER`."""
        events, gap_us, size = value.split(b",")
        return cls(int(events), int(gap_us), int(size))


def prose(size: int, seed: int) -> str:
    """Make so many bytes of text."""
    chance = random.Random(seed)
    words: list[str] = []
    length = 0
    while length < size:
        kind = chance.random()
        if kind < _PLAIN_SHARE:
            word = chance.choice(_WORDS)
        elif kind < _RARE_SHARE:
            word = "".join(chance.choices(_SYLLABLES, k=chance.randint(2, 5)))
        elif kind < _NUMBER_SHARE:
            word = str(chance.randrange(10**6))
        else:
            word = chance.choice(_SIGNS)
        words.append(word)
        length += len(word) + 1
    return " ".join(words)[:size]


def request(
    stream: Stream | None = None, prompt_bytes: int = 600, *, model: str = MODEL, seed: int = 1, key: str = KEY
) -> bytes:
    """Make a call's bytes, with the headers that OpenAI's own client sends."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant. Answer in one paragraph."},
        {"role": "user", "content": f"{CALL_MARK.decode()}: {prose(prompt_bytes, seed)}"},
    ]
    body: dict[str, object] = {"model": model, "messages": messages, "max_tokens": _MAX_TOKENS, "temperature": 0.2}
    headers = {
        "Host": HOST,
        "Accept-Encoding": "identity",
        "Connection": "keep-alive",
        "Accept": "application/json",
        "Content-Type": "application/json",
        "User-Agent": "OpenAI/Python 2.6.0",
        "X-Stainless-Lang": "python",
        "X-Stainless-Package-Version": "2.6.0",
        "X-Stainless-OS": "Linux",
        "X-Stainless-Arch": "x64",
        "X-Stainless-Runtime": "CPython",
        "X-Stainless-Runtime-Version": "3.13.0",
        "X-Stainless-Async": "false",
        "X-Stainless-Retry-Count": "0",
        "X-Stainless-Read-Timeout": "600",
        "Authorization": f"Bearer {key}",
    }
    if stream is not None:
        body |= {"stream": True, "max_tokens": _MAX_STREAM_TOKENS}
        headers[STREAM_HEADER] = stream.header()
    data = json.dumps(body).encode()
    headers["Content-Length"] = str(len(data))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {PATH} HTTP/1.1\r\n{lines}\r\n".encode() + data


# ── what the upstream answers ──

_COMMON_HEADERS = (
    b"date: Mon, 23 Nov 2026 12:00:00 GMT\r\nopenai-organization: bench\r\nopenai-processing-ms: 312\r\n"
    b"openai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 10000\r\nx-ratelimit-limit-tokens: 2000000\r\n"
    b"x-ratelimit-remaining-requests: 9999\r\nx-ratelimit-remaining-tokens: 1999000\r\n"
    b"x-request-id: req_0123456789abcdef0123456789abcdef\r\nstrict-transport-security: max-age=31536000\r\n"
    b"server: cloudflare\r\ncf-ray: 9a0b1c2d3e4f5a6b-FRA\r\nx-content-type-options: nosniff\r\n"
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
    + _COMMON_HEADERS
    + b"\r\n"
)
DONE = b"data: [DONE]\n\n"
_USAGE = {
    "prompt_tokens": 142,
    "completion_tokens": 260,
    "total_tokens": 402,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}


_ANSWER = json.dumps(
    {
        "id": f"chatcmpl-{0:016d}",
        "object": "chat.completion",
        "created": 1_795_435_200,
        "model": f"{MODEL}-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": prose(1_300, 2), "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_560af6e559",
    }
).encode()
_ANSWER_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    + b"content-length: %d\r\n" % len(_ANSWER)
    + _COMMON_HEADERS
    + b"\r\n"
)


def answer(number: int) -> bytes:
    """Make the n-th answer in one piece, with a head: some 260 tokens of text."""
    return _ANSWER_HEAD + _ANSWER.replace(b"%016d" % 0, b"%016d" % number, 1)


def event(number: int, index: int, text: str, at_ns: int) -> bytes:
    """Make a stream's event, which holds when it was sent."""
    role = '"role":"assistant",' if index == 0 else ""
    return (
        f'data: {{"id":"chatcmpl-{number:016d}","object":"chat.completion.chunk","created":1795435200,'
        f'"model":"{MODEL}-2024-07-18","service_tier":"default","system_fingerprint":"fp_{at_ns:0{STAMP_DIGITS}d}",'
        f'"choices":[{{"index":0,"delta":{{{role}"content":"{text}"}},"logprobs":null,"finish_reason":null}}]}}\n\n'
    ).encode()


def last_events(number: int, *, with_usage: bool) -> bytes:
    """Make a stream's end: why it ended, what it used if that was asked for, and the sentinel."""
    head = (
        f'data: {{"id":"chatcmpl-{number:016d}","object":"chat.completion.chunk","created":1795435200,'
        f'"model":"{MODEL}-2024-07-18","choices":'
    )
    end = f'{head}[{{"index":0,"delta":{{}},"logprobs":null,"finish_reason":"stop"}}]}}\n\n'.encode()
    usage = f'{head}[],"usage":{json.dumps(_USAGE)}}}\n\n'.encode() if with_usage else b""
    return end + usage + DONE


def stamps(piece: bytes) -> list[int]:
    """Give when the events in a piece of a stream were sent, in nanoseconds of the monotonic clock."""
    found = []
    at = piece.find(_STAMP)
    while at >= 0:
        at += len(_STAMP)
        found.append(int(piece[at : at + STAMP_DIGITS]))
        at = piece.find(_STAMP, at)
    return found


def chunk(data: bytes) -> bytes:
    """Put data into one chunk of HTTP/1.1's chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
