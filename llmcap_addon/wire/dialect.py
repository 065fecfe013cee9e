"""What every dialect offers: request → Call, response bytes → Reading, refusal or cut → bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from llmcap_addon.call import Call
from llmcap_addon.money import Nanousd
from llmcap_addon.usage import Reading, Terms

type CountTokens = Callable[[str], int]
"""Counts the tokens of one piece of output, from above; handed in, so that wire/ knows no tokenizer."""


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request as dialects read it."""

    method: str
    host: str
    """Lower case, no port; decided by the connection, not by the Host header."""
    path: str
    """Without the query, percent-encoding kept."""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = field(default=b"", repr=False)
    """With any content-encoding taken off."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whose endpoint a request goes to."""

    provider: str
    model: str = ""
    """What the URL or `hosts:` says, where the body does not name the model."""
    models: Mapping[str, str] = field(default_factory=dict)
    """From `hosts:`: deployment, in lower case → the model behind it."""
    zone: str = ""
    """From `hosts:`: where the deployments are, if that decides their price ("global", "us", "eu" …)."""

    def terms(self, service_tier: str = "") -> Terms:
        """Give the terms of a request that asks for a tier."""
        return Terms(service_tier=service_tier.lower(), geography=self.zone)

    def model_of(self, named: str) -> str:
        """Name the model of a request whose body says `named`: the URL's, else that, else what stands behind it."""
        asked = self.model or named
        return self.models.get(asked.lower(), asked)


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """A response before its body."""

    status: int
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""


type RefusalKind = Literal["spent", "reserved", "unmetered", "unreadable", "unpriced", "store", "internal"]
"""Why: the cap is spent; others' reservations hold the rest; the endpoint, the body or the price is not
understood; the store does not answer; we failed."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is not made (or not continued); `message` begins with "LLMCap:" and is what the user reads."""

    kind: RefusalKind
    message: str
    cap: str = ""
    """The cap's name; empty when no cap is the reason."""
    limit: Nanousd = 0
    posted: Nanousd = 0
    pending: Nanousd = 0
    resets_at_ms: int | None = None
    """Unix time in milliseconds; None when the cap never resets."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete HTTP response of ours, in the provider's shape."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Meter(Protocol):
    """Reads one response as it arrives. One per call; never raises for what the provider sends."""

    reading: Reading

    def feed(self, data: bytes) -> bytes:
        """Take decoded body bytes as they came, give the bytes the client shall see now.

        Gives back the very bytes it got, unless something that we ourselves asked for must be taken out.
        """
        ...

    def end(self) -> bytes:
        """Say that the body ended cleanly; gives what was still kept back, if anything."""
        ...


class Dialect(Protocol):
    """One wire format of one kind of endpoint."""

    name: str

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        ...

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Give the body to send: with usage asked for where the dialect needs it, and the answer limited to
        `max_output_tokens` (per choice) when that is not None. The same bytes when nothing has to change."""
        ...

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response; `body` is the client's own request body (before `amend`)."""
        ...

    def refusal(self, call: Call | None, request: Request, refusal: Refusal, status: int) -> Response:
        """Shape a refusal as the provider's own error, complete with content-type and `x-should-retry: false`.

        `call` is None when the request could not be read.
        """
        ...

    def cut(self, call: Call, refusal: Refusal, meter: Meter) -> bytes:
        """The last bytes of a cut stream: end any half event, then an error event that the SDK raises on."""
        ...
