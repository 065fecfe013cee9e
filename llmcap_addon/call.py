"""Call: what a request says about the money it may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmcap_addon.money import Nanousd
from llmcap_addon.usage import NO_TERMS, NO_USAGE, Terms, Usage

DEFAULT_SERVER_TURNS = 8
"""Passes of the model we assume for server-side tools when a request sets no bound on them.

Providers publish none; eight is above what a web search or a code run is seen to take.
"""


@dataclass(frozen=True, slots=True)
class Media:
    """One image, document, audio or video part whose data stands in the request's body."""

    kind: Literal["image", "document", "audio", "video"]
    size_bytes: int
    """Of the decoded data."""
    width_px: int | None = None
    """None when the header could not be read; then the provider's maximum is assumed."""
    height_px: int | None = None
    detail: str = ""
    """OpenAI's `detail` or Google's media resolution, lower case; empty when unset."""


@dataclass(frozen=True, slots=True)
class Content:
    """What the body shows of a call's input, as far as it moves the bound."""

    texts: tuple[str, ...] = field(default=(), repr=False)
    """Every text the model may read (keys and values), for the tokenizer. Never logged, never stored."""
    text_bytes: int = 0
    """Bytes of `texts` in UTF-8, or in NFKC where that is longer: an upper bound on their tokens."""
    messages: int = 0
    blocks: int = 0
    tool_bytes: int = 0
    """The part of `text_bytes` that describes tools: providers render it anew, somewhat longer."""
    provider_tools: int = 0
    """Tools that the provider defines itself (bash, editor, computer …): their text is not in the body."""
    media: tuple[Media, ...] = ()
    opaque: bool = False
    """True when some input is not in the body (a file id, a URL, a stored conversation)."""
    known_tokens: int = 0
    """Input that is not in the body either, but whose tokens are known from above (an earlier response's)."""
    server_turns: int = 0
    """Further passes over the input that server-side tools may cause; 0 without such tools."""
    web_searches: int = 0
    """Upper bound on searches billed one by one."""

    def plus(self, further: Content) -> Content:
        """Put further input behind what there is."""
        return Content(
            texts=self.texts + further.texts,
            text_bytes=self.text_bytes + further.text_bytes,
            messages=self.messages + further.messages,
            blocks=self.blocks + further.blocks,
            tool_bytes=self.tool_bytes + further.tool_bytes,
            provider_tools=self.provider_tools + further.provider_tools,
            media=self.media + further.media,
            opaque=self.opaque or further.opaque,
            known_tokens=self.known_tokens + further.known_tokens,
            server_turns=self.server_turns + further.server_turns,
            web_searches=self.web_searches + further.web_searches,
        )


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another model that may work on a call beside the one it names, and is billed on top at its own price."""

    model: str
    """Empty when the provider chooses it: then the dearest it has."""
    passes: int = 1
    """How often it may run over the input."""
    max_output_tokens: int | None = None
    """Of one pass; None when only the model's own limit bounds it."""
    speed: str = ""
    """As in `Terms`."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a billable endpoint, understood.

    Tokens are bounded by `content`, `max_output_tokens` and the model's own limits; what is billed by the piece is
    bounded by `unit_bound`, which is priced on top of them.
    """

    dialect: str
    """"openai.chat", "openai.responses", "openai.embeddings", "anthropic.messages", "google.generate", …"""
    provider: str
    """"openai", "anthropic", "google", "openrouter" … or what `hosts:` says."""
    host: str
    """The host whose price list applies, lower case, without a port."""
    model: str
    """As the request names it, without a "models/" prefix."""
    streamed: bool
    content: Content
    max_output_tokens: int | None = None
    """The request's own limit on one answer; None when it set none. Counts hidden reasoning."""
    choices: int = 1
    """Answers asked for (`n`, `candidateCount`)."""
    hidden_output_tokens: int | None = 0
    """Upper bound on output that the stream does not show (reasoning); None when only the answer's limit bounds it."""
    has_output: bool = True
    """False for embeddings: only input is billed."""
    alternatives: tuple[Alternative, ...] = ()
    """Further models that the request lets the provider use; what they may cost is reserved on top. An answer tells
    their work as shares of its usage."""
    instead: tuple[str, ...] = ()
    """Other models of which one may answer in place of the one named, at its own price; an empty name is any of the
    provider's. The dearest is reserved, and the answer names the one that is billed."""
    unit_bound: Usage = NO_USAGE
    """The most that can be billed by the piece: pictures, characters, milliseconds of audio, pages, search units, file
    and maps searches, code sessions (`content.web_searches` has the searches of the web). Its tokens are not read.
    Where such a count is stated for a model that has no price for the piece, the dearest known is taken."""
    tells_images: bool = False
    """True when the answer's usage counts image tokens apart, so that none told means none; otherwise all input of a
    call with pictures is priced as pictures where those are dearer."""
    terms: Terms = NO_TERMS
    parts: tuple[Call, ...] = field(default=(), repr=False)
    """The requests of a batch: what it may cost is the sum of what they may, and its own content is not read."""
    stored: str = ""
    """The provider's id of a file whose requests it runs (a batch); what they may cost was noted when it passed."""
    stored_bound: Nanousd | None = None
    """What the requests of `stored` may cost together, once that was looked up."""
    bills_after_disconnect: bool = False
    """True when the provider bills the whole answer even if nobody listens any more."""
    begins_job: bool = False
    """True when it begins work that goes on behind its answer (a background response, a batch)."""
    editable: bool = True
    """False for a signed body, which must go out as it came."""
    takes_stream_options: bool = True
    """False where the host answers 400 to a request that asks for the usage of a stream."""
    cache_write: Literal["none", "short", "long"] = "long"
    """The dearest cache write the request may be billed for: none, minutes (5 at Anthropic, 30 at OpenAI), or hours."""
    client: str = ""
    """The program that called, from its user agent ("codex", "claude-code", "openai-python" …)."""
    billing: str = "api"
    """"api" when it is paid by the token, "plan" under a subscription, where its cost is notional."""

    def labels(self) -> Mapping[str, str]:
        """What caps can match on and reports can group by."""
        return {
            "host": self.host,
            "provider": self.provider,
            "model": self.model,
            "client": self.client,
            "billing": self.billing,
        }
