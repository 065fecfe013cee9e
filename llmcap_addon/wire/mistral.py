"""What Mistral has beyond OpenAI's shapes: pages read by OCR, agents, moderation, classification and speech.

Shapes: `mistralai.client.models`' `OCRRequest` and `OCRResponse`, `AgentsCompletionRequest`, `ClassificationRequest`,
`ChatModerationRequest` and `ModerationResponse`, `SpeechRequest` and `SpeechStreamDone`.
"""
# ruff: noqa: ARG002 - every dialect takes what the contract hands it

from __future__ import annotations

import re
from dataclasses import replace

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import Terms, Usage
from llmcap_addon.wire.billed import billed_amount
from llmcap_addon.wire.counts import reported_count
from llmcap_addon.wire.dialect import CountTokens, Meter, Request, ResponseHead, Target
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.openai_chat import ChatDialect
from llmcap_addon.wire.openai_common import ErrorMeter, OpenAIErrors, edit_members, is_event_stream, model_name
from llmcap_addon.wire.openai_speech import characters
from llmcap_addon.wire.openai_usage import chat_usage, record_bad_usage, record_head, record_usage
from llmcap_addon.wire.sse import Event, SseMeter
from llmcap_addon.wire.text import (
    ContentBuilder,
    JsonObject,
    boolean,
    load_json,
    mapping,
    parse_object,
    string,
    strings,
)

OCR_MODEL = "mistral-ocr-latest"
"""When the request names none."""
MAX_PAGES = 1000
"""Of one document. https://docs.mistral.ai/capabilities/document_ai/basic_ocr"""
BYTES_PER_PAGE = 512
"""A page's objects in a PDF don't fit in less; the fewer, the more pages."""
ANNOTATED = "annotated"
"""The table's name of the price of pages that are annotated."""
_RANGES = re.compile(r"\s*\d{1,5}\s*(?:-\s*\d{1,5}\s*)?(?:,\s*\d{1,5}\s*(?:-\s*\d{1,5}\s*)?)*")
_PDF = "data:application/pdf;base64,"


class OcrDialect(OpenAIErrors):
    """`POST /v1/ocr`: billed by the page."""

    name = "mistral.ocr"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        annotated = any(body.get(key) is not None for key in ("bbox_annotation_format", "document_annotation_format"))
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=target.model_of(string(body, "model")) or OCR_MODEL,
            streamed=False,
            content=ContentBuilder().build(),
            has_output=False,
            unit_bound=Usage(pages=_pages(body)),
            terms=Terms(service_tier=ANNOTATED if annotated else ""),
            bills_after_disconnect=True,
            cache_write="none",
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: there is no output to limit."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        return ErrorMeter(call.provider) if head.status >= 400 else PagesMeter()


class PagesMeter(BodyMeter):
    """Reads how many pages were processed (`OCRUsageInfo`)."""

    def on_body(self, body: bytes) -> None:
        """Read the answer."""
        payload = parse_object(body)
        record_head(self.reading, payload)
        told = mapping(payload.get("usage_info"))
        if told.get("pages_processed") is None:
            self.mark_unreadable("the answer does not say how many pages were processed")
            return
        try:
            record_usage(self.reading, Usage(pages=reported_count(told, "pages_processed")), final=True)
        except ValueError as error:
            record_bad_usage(self.reading, error)


def _pages(body: JsonObject) -> int:
    """Bound the pages: those that are asked for, else those of the document, by its size where it is in the body."""
    wanted = body.get("pages")
    if isinstance(wanted, list) and wanted:
        return min(MAX_PAGES, len(wanted))
    if isinstance(wanted, str):
        return min(MAX_PAGES, _ranges(wanted))
    if wanted is not None and wanted != []:  # an empty list may be read as none at all
        raise UnreadableRequest("pages is neither a list nor ranges of numbers")
    document = mapping(body.get("document"))
    image = document.get("image_url")
    if document.get("type", "image_url") == "image_url" and image is not None:
        return 1
    url = document.get("document_url")
    if isinstance(url, str) and url.lower().startswith(_PDF):
        return min(MAX_PAGES, (len(url) - len(_PDF)) * 3 // 4 // BYTES_PER_PAGE + 1)
    return MAX_PAGES


def _ranges(text: str) -> int:
    if not _RANGES.fullmatch(text):
        raise UnreadableRequest("pages is neither a list nor ranges of numbers")
    pages = 0
    for part in text.split(","):
        first, dash, last = part.partition("-")
        pages += max(1, int(last) - int(first) + 1) if dash else 1
    return pages


class AgentsDialect(ChatDialect):
    """`POST /v1/agents/completions`: a chat with an agent, whose model and instructions are stored at Mistral.

    The dearest model is reserved unless `hosts:` says which model stands behind the agent's id; the answer names it.
    """

    name = "mistral.agents"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        agent = string(load_json(request.body), "agent_id")
        if not agent:
            raise UnreadableRequest("no agent_id is named")
        model = target.models.get(agent.lower(), "")
        named = replace(request, body=edit_members(request.body, {"model": model or _UNKNOWN}))
        call = super().parse(named, Target(target.provider, "", {}, target.zone), client)
        # The agent's instructions and tools are not in the body, and its model may reason unseen.
        content = replace(call.content, opaque=True)
        return replace(call, dialect=self.name, model=model, content=content, hidden_output_tokens=None)


_UNKNOWN = "an agent's"


class ModerationDialect(OpenAIErrors):
    """`POST /v1/moderations`, `/v1/chat/moderations`: billed by the tokens that are read.

    `ModerationResponse` tells no usage; where an answer does not, the bound of the input is posted.
    """

    name = "mistral.moderations"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        builder = ContentBuilder()
        given = body.get("input", body.get("inputs"))
        for one in given if isinstance(given, list) else [given]:
            builder.messages += 1
            builder.add_json(one)
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model_name(body, target),
            streamed=False,
            content=builder.build(),
            has_output=False,
            bills_after_disconnect=True,
            cache_write="none",
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: there is no output to limit."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        return ErrorMeter(call.provider) if head.status >= 400 else InputMeter(call.provider)


class ClassificationDialect(ModerationDialect):
    """`POST /v1/classifications`, `/v1/chat/classifications`: by a model of the user's own, made of any other.

    What the table knows of it is nothing, so it counts as the dearest chat model with one token of output.
    """

    name = "mistral.classifications"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        call = super().parse(request, target, client)
        return replace(call, dialect=self.name, has_output=True, max_output_tokens=1, hidden_output_tokens=None)


class InputMeter(BodyMeter):
    """Reads a whole answer that may tell its usage."""

    def __init__(self, provider: str) -> None:
        super().__init__()
        self._provider = provider

    def on_body(self, body: bytes) -> None:
        """Read the usage."""
        payload = parse_object(body)
        record_head(self.reading, payload)
        try:
            usage = chat_usage(payload.get("usage"), self._provider, has_output=False)
        except ValueError as error:
            record_bad_usage(self.reading, error)
            return
        if usage is None:
            self.mark_unreadable("the answer reports no usage")
            return
        record_usage(self.reading, usage, final=True, billed=billed_amount(self._provider, payload.get("usage")))


class SpeechDialect(OpenAIErrors):
    """`POST /v1/audio/speech`: billed by the characters that are spoken, whatever came before them included."""

    name = "mistral.speech"

    def parse(self, request: Request, target: Target, client: str) -> Call:
        """Understand a request; raises UnreadableRequest."""
        body = load_json(request.body)
        spoken = [string(body, "input"), *strings(body.get("conversation_history"))]
        return Call(
            dialect=self.name,
            provider=target.provider,
            host=request.host,
            model=model_name(body, target),
            streamed=boolean(body, "stream"),
            content=ContentBuilder().build(),
            has_output=False,
            unit_bound=Usage(input_characters=sum(map(characters, spoken))),
            bills_after_disconnect=True,
            editable=False,
            cache_write="none",
            client=client,
        )

    def amend(self, call: Call, body: bytes, max_output_tokens: int | None) -> bytes:
        """Change nothing: no member limits the answer."""
        return body

    def meter(self, call: Call, body: bytes, head: ResponseHead, count: CountTokens) -> Meter:
        """Make the meter for a response."""
        if head.status >= 400:
            return ErrorMeter(call.provider)
        if is_event_stream(head.content_type, streamed=call.streamed):
            return SpokenStreamMeter(call.unit_bound)
        return SpokenMeter(call.unit_bound)


class SpokenMeter(BodyMeter):
    """Posts what the request decides, once there is sound (`audio_data`)."""

    def __init__(self, spoken: Usage) -> None:
        super().__init__()
        self._spoken = spoken

    def on_body(self, body: bytes) -> None:
        """Look whether there is sound."""
        if not isinstance(parse_object(body).get("audio_data"), str):
            self.mark_unreadable("the answer holds no sound")
            return
        record_usage(self.reading, self._spoken, final=True)


class SpokenStreamMeter(SseMeter):
    """The same of events, the last of which says that all is spoken (`SpeechStreamDone`)."""

    def __init__(self, spoken: Usage) -> None:
        super().__init__()
        self._spoken = spoken

    def on_event(self, event: Event) -> bool:
        """Read one event."""
        if event.data.strip() == b"[DONE]":
            return True
        payload = parse_object(event.data)
        if payload.get("type") == "speech.audio.done":
            record_usage(self.reading, self._spoken, final=True)
        elif payload.get("type") == "error" or payload.get("error"):
            self.reading.failed = True
        return True

    def on_half_event(self, event: Event) -> None:
        """An event that broke off: the call is posted as reserved."""

    def on_garbled_event(self, event: Event) -> None:
        """As one that broke off."""


MISTRAL = (OcrDialect(), AgentsDialect(), ModerationDialect(), ClassificationDialect(), SpeechDialect())
