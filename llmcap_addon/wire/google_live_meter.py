"""Reads what Google's Live service sends of one answer → Reading.

Shapes: the `google-genai` SDK's `LiveServerMessage`, `LiveServerContent` and `UsageMetadata` (`genai/types.py`). Each
`usageMetadata` is a bill of its own: the whole session so far, read anew, and what was answered to it. So they are
added, not taken for the last word on one another: seen in three turns of each Live model then served
(https://github.com/pydantic/pydantic-ai/pull/7269), and said by no document. A service that sent several sums of one
turn so far would be counted from above.
"""

from __future__ import annotations

import json

from llmcap_addon.call import Call
from llmcap_addon.usage import NO_USAGE, Reading, Share, Terms, Usage
from llmcap_addon.wire.counts import json_object, reported_count, word
from llmcap_addon.wire.dialect import CountTokens
from llmcap_addon.wire.google_meter import IMAGE_TOKENS, MEDIA_BYTES_PER_TOKEN
from llmcap_addon.wire.google_usage import VISUAL, Grounding, by_modality
from llmcap_addon.wire.text import JsonObject, mapping

MAX_BILLS = 1_000
"""Usages of one answer that are kept apart; beyond it they are added up to one."""


class TurnReader:
    """Takes the messages of one answer, in order, up to its bill."""

    def __init__(self, call: Call, count: CountTokens) -> None:
        self.reading = Reading()
        self._call = call
        self._count = count
        self._grounding = Grounding(call)
        self._may_search = bool(call.content.web_searches) or call.unit_bound != NO_USAGE
        self._bills: list[Usage] = []
        self._is_partial = False
        """True while the last that was told of the usage is not all of it."""

    @property
    def is_billed(self) -> bool:
        """True once its usage was told; what is answered after that is billed with the next."""
        return bool(self._bills)

    @property
    def total(self) -> int:
        """The tokens of the last usage: what the session holds, as far as that knew."""
        return self._bills[-1].input_tokens + self._bills[-1].output_tokens if self._bills else 0

    def take_content(self, message: JsonObject) -> None:
        """Take what a message says of the answer; shown thoughts, calls and transcripts count too."""
        content = mapping(message.get("serverContent"))
        parts = mapping(content.get("modelTurn")).get("parts")
        for part in parts if isinstance(parts, list) else ():
            self._count_part(mapping(part))
        self._count_text(mapping(content.get("outputTranscription")).get("text"))
        if message.get("toolCall"):
            self._count_text(json.dumps(message["toolCall"], ensure_ascii=False))
        self._grounding.take(mapping(content.get("groundingMetadata")))
        self._sum()

    def take_usage(self, metadata: object) -> bool:
        """Take one bill; False when it is none, for it leaves out what was read, or what was seen to be answered."""
        try:
            said = json_object(metadata, "usageMetadata")
            usage = read_usage(said)
        except ValueError as error:
            self.reading.unreadable = self.reading.unreadable or f"the usage is not valid ({error})"
            return False
        tier = word(said, "trafficType") or word(said, "serviceTier")
        if tier:
            self.reading.terms = Terms(service_tier=tier)
        is_answered = self.reading.counted_output_tokens > (self.reading.counted_at_usage or 0)
        self._is_partial = not usage.input_tokens or (is_answered and usage.output_tokens <= usage.reasoning_tokens)
        if self._is_partial:
            self.reading.final = False
            return False
        if len(self._bills) >= MAX_BILLS:
            usage = self._bills.pop().plus(usage)
        self._bills.append(usage)
        self.reading.counted_at_usage = self.reading.counted_output_tokens
        self.reading.final = not self._may_search and not self.reading.unreadable
        self._sum()
        return True

    def take_unread(self, data: bytes) -> None:
        """Take a message that can't be read: a bill may have stood in it."""
        self._count_text(data.decode("utf-8", "replace"))
        self.reading.unreadable = self.reading.unreadable or "a message of the service is not JSON"
        self.reading.final = False

    def end(self) -> None:
        """Say that nothing more will come of it; what was searched for may be told behind the bill."""
        self.reading.final = self.is_billed and not self._is_partial and not self.reading.unreadable

    def _sum(self) -> None:
        if not self._bills:
            return
        first = self._grounding.counts(self._call.model).added_to(self._bills[0])
        shares = (first, *self._bills[1:])
        total = first
        for usage in shares[1:]:
            total = total.plus(usage)
        self.reading.usage = total
        self.reading.shares = tuple(map(Share, shares)) if len(shares) > 1 else ()

    def _count_part(self, part: JsonObject) -> None:
        blob = mapping(part.get("inlineData"))
        data = blob.get("data")
        if isinstance(data, str) and data:
            size_tokens = len(data) * 3 // 4 // MEDIA_BYTES_PER_TOKEN
            image = str(blob.get("mimeType")).startswith("image/")
            self.reading.counted_output_tokens += IMAGE_TOKENS if image else max(1, size_tokens)
        self._count_text(part.get("text"))
        for key in ("functionCall", "executableCode"):
            if key in part:
                self._count_text(json.dumps(part[key], ensure_ascii=False))

    def _count_text(self, text: object) -> None:
        """Count one piece of output; a piece holds at least a token."""
        if isinstance(text, str) and text:
            self.reading.counted_output_tokens += max(1, self._count(text))


def is_empty(metadata: object) -> bool:
    """Tell whether a `usageMetadata` says nothing."""
    try:
        return read_usage(json_object(metadata, "usageMetadata")) == NO_USAGE
    except ValueError:
        return False


def read_usage(said: JsonObject) -> Usage:
    """Read one `usageMetadata`; raises ValueError for what is no count.

    The answer's tokens are `responseTokenCount` at the Gemini API and `candidatesTokenCount` on Vertex (the SDK's
    `_UsageMetadata_from_vertex`). Thoughts stand beside them, outside of `totalTokenCount`. The details by modality
    leave some tokens out; those are taken for sound, which is the dearest that any Live model reads or writes.
    """
    prompt = max(reported_count(said, "promptTokenCount"), cached := reported_count(said, "cachedContentTokenCount"))
    input_tokens = prompt + reported_count(said, "toolUsePromptTokenCount")
    answered = max(reported_count(said, "responseTokenCount"), reported_count(said, "candidatesTokenCount"))
    thoughts = reported_count(said, "thoughtsTokenCount")
    # Thoughts may be inside the total or not; what is above both belongs to something that we don't know.
    unknown = max(0, reported_count(said, "totalTokenCount") - input_tokens - answered - thoughts)
    output_tokens = answered + thoughts + unknown
    fed = by_modality(said, "promptTokensDetails") + by_modality(said, "toolUsePromptTokensDetails")
    held = by_modality(said, "cacheTokensDetails")
    given = by_modality(said, "responseTokensDetails") or by_modality(said, "candidatesTokensDetails")
    heard = min(fed["AUDIO"], input_tokens)
    seen = min(sum(fed[kind] for kind in VISUAL), input_tokens - heard)
    audio = input_tokens - seen - min(fed["TEXT"], input_tokens - heard - seen)
    cached_audio = min(held["AUDIO"], cached, audio)
    spoken = min(given["AUDIO"], answered)
    shown = min(sum(given[kind] for kind in VISUAL), answered - spoken)
    written = min(given["TEXT"], answered - spoken - shown)
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=cached,
        reasoning_tokens=thoughts,
        input_audio_tokens=audio,
        cache_read_audio_tokens=cached_audio,
        input_image_tokens=seen,
        cache_read_image_tokens=min(sum(held[kind] for kind in VISUAL), cached - cached_audio, seen),
        output_image_tokens=shown,
        output_audio_tokens=output_tokens - thoughts - shown - written,
    )
