"""Reading what a request for images is answered with, as one body or as events."""

from __future__ import annotations

from dataclasses import replace

from llmcap_addon.call import Call
from llmcap_addon.usage import Reading, Share, Usage
from llmcap_addon.wire.counts import name, word
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.openai_usage import record_bad_usage, record_head, record_usage, responses_usage
from llmcap_addon.wire.sse import Event, SseMeter
from llmcap_addon.wire.text import JsonObject, mapping, parse_object

_COMPLETED = frozenset({"image_generation.completed", "image_edit.completed"})


def image_usage(raw: object) -> Usage | None:
    """Read the usage of pictures; None when it says nothing; ValueError when it is not sane.

    What is not told apart is taken to be pictures, the dearer.
    """
    usage = responses_usage(raw, 0)
    if usage is None:
        return None
    details, output_details = (
        mapping(mapping(raw).get(key)) for key in ("input_tokens_details", "output_tokens_details")
    )
    return replace(
        usage,
        input_image_tokens=_pictures(details, usage.input_tokens),
        output_image_tokens=_pictures(output_details, usage.output_tokens),
    )


def _pictures(details: JsonObject, total: int) -> int:
    pictures, text = details.get("image_tokens"), details.get("text_tokens")
    if type(pictures) is int and 0 <= pictures <= total:
        # What neither of the two counts is taken to be pictures too.
        return max(pictures, total - text) if type(text) is int and 0 <= text <= total else pictures
    return total


def take_usage(reading: Reading, answer: JsonObject, *, final: bool) -> None:
    """Read an answer's usage into a reading, what the author of an SVG used beside it, on top of what is there."""
    try:
        usage = image_usage(answer.get("usage"))
        author = answer.get("svg_usage")
        written = responses_usage(author, 0)
    except ValueError as error:
        record_bad_usage(reading, error)
        return
    if usage is None:
        return
    shares: tuple[Share, ...] = ()
    if written is not None:
        shares = (Share(usage), Share(written, name(mapping(author), "model")))
        usage = usage.plus(written)
    before = reading.usage
    record_usage(reading, usage if before is None else before.plus(usage), final=final)
    reading.shares = shares


class ImagesBodyMeter(BodyMeter):
    """Reads a whole answer; models without a usage are billed by the picture."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    def on_body(self, body: bytes) -> None:
        """Read the usage, or count the pictures."""
        payload = parse_object(body)
        record_head(self.reading, payload)
        self.reading.failed = bool(payload.get("error"))
        take_usage(self.reading, payload, final=True)
        pictures = payload.get("data")
        if self.reading.usage is not None or self.reading.unreadable or not isinstance(pictures, list):
            return
        if self._call.unit_bound.output_images:
            record_usage(self.reading, Usage(output_images=len(pictures)), final=True)


class ImagesStreamMeter(SseMeter):
    """Reads events; each picture's last one holds its usage."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._wanted = call.choices
        self._completed = 0
        self._told = 0
        """Completed pictures whose usage was told; only the usages of all of them are the bill."""

    def on_event(self, event: Event) -> bool:
        """Read one event."""
        if event.data.strip() == b"[DONE]":
            return True
        payload = parse_object(event.data)
        kind = word(payload, "type")
        if kind in _COMPLETED:
            self._completed += 1
            record_head(self.reading, payload)
            self._told += payload.get("usage") is not None
            take_usage(self.reading, payload, final=self._completed == self._told >= self._wanted)
        elif kind == "error" or payload.get("error"):
            self.reading.failed = True
        return True

    def on_half_event(self, event: Event) -> None:
        """An event that broke off: the call is posted as reserved anyway, for its output does not show its tokens."""

    def on_garbled_event(self, event: Event) -> None:
        """As one that broke off."""

    def end(self) -> bytes:
        """Take the clean end: pictures that did not come by now were not made."""
        rest = super().end()
        if self._completed and self._completed == self._told and self.reading.usage is not None:
            self.reading.final = True
        return rest
