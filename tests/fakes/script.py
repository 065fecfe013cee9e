"""Script: how a stand-in shall answer a request; Record: what it saw, billed and generated. The ground truth."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.fakes.prices import Bill, cost_nanousd


class Hold:
    """A door that a test opens: the stand-in waits at it, in its own event loop."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        """Set when the stand-in stands before the door."""
        self._open = threading.Event()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def release(self) -> None:
        """Open the door for everyone who waits and who will come."""
        self._open.set()
        for loop, event in self._waiting:
            loop.call_soon_threadsafe(event.set)

    def arrive(self) -> asyncio.Event:
        """Give the event to wait for; called in the stand-in's loop."""
        event = asyncio.Event()
        self._waiting.append((asyncio.get_running_loop(), event))
        if self._open.is_set():
            event.set()
        self.reached.set()
        return event


@dataclass(slots=True, kw_only=True)
class Script:
    """How one request is answered; the defaults are a short, well-formed answer at full speed."""

    when: Callable[[Record], bool] | None = None
    """Which requests a queued script is for; None: whichever comes next."""

    # The answer.
    output_tokens: int = 16
    """Visible tokens of each choice, before the request's own limit."""
    token_text: str | Callable[[int], str] = " token"
    """The text of each token, or of the n-th one."""
    tokens_per_event: int = 1
    reasoning_tokens: int = 0
    """Billed before the visible ones, and not shown."""
    input_tokens: int | None = None
    """Billed input; None: a quarter of the text's bytes, and some for each message."""
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    """Written to the cache, for any lifetime."""
    cache_write_1h_tokens: int = 0
    service_tier: str | None = None
    """Named in the response; None: the provider's standard."""
    response_model: str | None = None
    """Named in the response instead of the requested one; the requested one is what is billed."""
    report_usage: bool = True
    sse_prelude: bytes = b""
    """Sent before the first event of an SSE stream, such as OpenRouter's comments."""

    # Time.
    tokens_per_second: float = 0
    """0: as fast as the reader takes them."""
    hold_head: Hold | None = None
    """Stand before the response's head until the test lets go."""
    hold_stream: Hold | None = None
    """Stand before the event that would pass `hold_after_tokens`."""
    hold_after_tokens: int = 0
    generate_after_disconnect: bool = False
    """Go on generating, and billing, when nobody listens any more."""

    # Failure.
    status: int = 200
    error_body: bytes | None = None
    """None: the provider's own error shape."""
    ending: Literal["complete", "truncated", "close", "reset"] = "complete"
    """truncated: the body ends cleanly but early; close: the connection is closed within the body; reset: RST."""
    ending_after_tokens: int = 0
    encoding: Literal["", "gzip", "br", "zstd"] = ""
    claimed_encoding: str | None = None
    """What the head says when it lies; None: the truth."""
    content_length_error: int = 0
    """Added to the content-length of an unstreamed body."""
    rewrite: Callable[[int, bytes], bytes] | None = None
    """Spoils the n-th piece of the body before it is sent."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further response headers."""


@dataclass(slots=True, kw_only=True)
class Record:
    """One request as the stand-in saw it. Grows while the answer is sent; times are `time.monotonic_ns()`."""

    index: int
    method: str
    host: str
    path: str
    """Without the query."""
    query: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = field(repr=False)
    http_version: Literal["1.1", "2"]
    started_ns: int
    script: Script = field(default_factory=Script, repr=False)
    kind: str = ""
    """"chat", "responses", "embeddings", "messages", "generate", "stream_generate", "images", "free", "other"."""
    billable: bool = False
    streamed: bool = False
    model: str = ""
    status: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    generated_tokens: int = 0
    """Output billed so far: what was given to the kernel before the client went away, hidden reasoning included."""
    service_tier: str = ""
    sent_body: bytearray = field(default_factory=bytearray, repr=False)
    """Body bytes given to the kernel, content-encoding still on, transfer-encoding off."""
    last_write_ns: int | None = None
    gone_ns: int | None = None
    """When the client was seen to leave before the answer was whole."""
    finished_ns: int | None = None
    """When the stand-in was through with the request, however it ended."""
    complete: bool = False
    """True when the whole answer was sent."""

    @property
    def finished(self) -> bool:
        """True once nothing more will happen."""
        return self.finished_ns is not None

    @property
    def aborted(self) -> bool:
        """True when the client left early."""
        return self.gone_ns is not None

    @property
    def bill(self) -> Bill:
        """What is billed for the request, as things stand."""
        return Bill(
            model=self.model,
            input_tokens=self.input_tokens,
            cache_read_tokens=self.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens,
            cache_write_1h_tokens=self.cache_write_1h_tokens,
            output_tokens=self.generated_tokens,
            service_tier=self.service_tier,
        )

    @property
    def cost_nanousd(self) -> int:
        """The truth: what the request costs, in nano-dollars; 0 when nothing was billed."""
        return cost_nanousd(self.bill) if self.billable and self.input_tokens else 0

    def json(self) -> Any:
        """Read the body as JSON; ValueError when it is none."""
        return json.loads(self.body)
