"""Reads answers of Google's Interactions: one object, or an event stream → Reading."""

from __future__ import annotations

import json

from llmcap_addon.call import Call
from llmcap_addon.usage import Reading, Terms, Usage
from llmcap_addon.wire.counts import json_object, name, reported_count, word
from llmcap_addon.wire.dialect import CountTokens
from llmcap_addon.wire.google_meter import IMAGE_TOKENS, MEDIA_BYTES_PER_TOKEN
from llmcap_addon.wire.google_usage import Grounded, UsageMaxima, bills_prompts
from llmcap_addon.wire.meters import BodyMeter
from llmcap_addon.wire.sse import Event, SseMeter
from llmcap_addon.wire.text import JsonObject, mapping, parse_object, strings

_DETAILS = {
    "input_tokens_by_modality": "promptTokensDetails",
    "cached_tokens_by_modality": "cacheTokensDetails",
    "output_tokens_by_modality": "candidatesTokensDetails",
    "tool_use_tokens_by_modality": "toolUsePromptTokensDetails",
}
_SILENT = frozenset({"type", "signature", "id", "mime_type", "call_id"})
"""Strings of a step or a delta that the model did not write."""
_RUNS = frozenset({"queued", "in_progress"})
"""`InteractionStatus` of what goes on behind its answer."""
_NOT_WRITTEN = frozenset({"thought_signature", "user_input"})


class InteractionReader:
    """What both meters share: takes an interaction's head, its steps, and its usage."""

    def __init__(self, reading: Reading, call: Call, count: CountTokens) -> None:
        self.reading = reading
        self._call = call
        self._count = count

    def take(self, interaction: JsonObject, *, last: bool) -> None:
        """Take an interaction: model, tier and usage; its usage is the last word once it has ended."""
        model = name(interaction, "model")
        if model:
            self.reading.model = model.removeprefix("models/")
        tier = word(interaction, "service_tier")
        if tier:
            self.reading.terms = Terms(service_tier=tier)
        if interaction.get("status") == "failed":
            self.reading.failed = True
        usage = interaction.get("usage")
        if usage is None:
            return
        try:
            said = json_object(usage, "usage")
            self.reading.usage = self._usage(said)
        except ValueError as error:
            self.reading.usage = None
            self.reading.unreadable = f"the usage is not valid ({error})"
            return
        told = said.get("total_output_tokens") is not None or said.get("total_tokens") is not None
        if last and told and name(interaction, "status") not in _RUNS:
            self.reading.final = True
            self.reading.unreadable = ""  # the last word makes up for what could not be read before it

    def _usage(self, said: JsonObject) -> Usage:
        """Read a usage; raises ValueError for what is no count."""
        inputs, output = reported_count(said, "total_input_tokens"), reported_count(said, "total_output_tokens")
        thoughts, tools = reported_count(said, "total_thought_tokens"), reported_count(said, "total_tool_use_tokens")
        beyond = reported_count(said, "total_tokens") - inputs - output
        # The types don't say whether output holds the thoughts and input what tools gave; the total does. Where it
        # leaves it open they stand beside, which is dearer.
        if beyond == tools and thoughts and beyond != thoughts + tools:
            output = max(0, output - thoughts)
        if beyond == thoughts and tools and beyond != thoughts + tools:
            inputs = max(0, inputs - tools)
        if beyond == 0 and thoughts and tools:
            inputs, output = max(0, inputs - tools), max(0, output - thoughts)
        maxima = UsageMaxima(self._call)
        maxima.take(
            {
                "promptTokenCount": inputs,
                "candidatesTokenCount": output,
                "thoughtsTokenCount": thoughts,
                "toolUsePromptTokenCount": tools,
                "cachedContentTokenCount": said.get("total_cached_tokens"),
                "totalTokenCount": said.get("total_tokens"),
                **{theirs: _modalities(said, ours) for ours, theirs in _DETAILS.items() if said.get(ours) is not None},
            }
        )
        return self._grounded(said).added_to(maxima.usage())

    def _grounded(self, said: JsonObject) -> Grounded:
        counts = dict.fromkeys(("google_search", "google_maps", "retrieval"), 0)
        told = said.get("grounding_tool_count")
        for item in told if isinstance(told, list) else ():
            entry = json_object(item, "grounding_tool_count")
            kind = word(entry, "type")
            if kind in counts:
                counts[kind] += reported_count(entry, "count")
        by_prompt = bills_prompts(self.reading.model or self._call.model)
        web, maps = ((min(1, counts[key]) if by_prompt else counts[key]) for key in ("google_search", "google_maps"))
        return Grounded(web, maps, counts["retrieval"] if self._call.provider == "vertex" else 0)

    def count(self, written: JsonObject) -> None:
        """Count a step or a delta that the model wrote; pictures and sound by their size."""
        kind = name(written, "type")
        if kind in _NOT_WRITTEN or kind.endswith("_result"):
            return
        data = written.get("data")
        if isinstance(data, str):
            size_tokens = len(data) * 3 // 4 // MEDIA_BYTES_PER_TOKEN
            self.reading.counted_output_tokens += IMAGE_TOKENS if kind == "image" else max(1, size_tokens)
            return
        content = written.get("content")
        for part in content if isinstance(content, list) else ():
            self.count(mapping(part))
        rest = {key: value for key, value in written.items() if key not in _SILENT | {"content"}}
        for text in strings(mapping(content)) if isinstance(content, dict) else ():
            self.count_text(text)
        for value in rest.values():
            self.count_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))

    def count_text(self, text: str) -> None:
        """Count one piece of output; a piece holds at least a token."""
        if text and text not in ("null", "[]", "{}"):
            self.reading.counted_output_tokens += max(1, self._count(text))


class InteractionStreamMeter(SseMeter):
    """Reads an event stream; final once `interaction.completed` has said its usage.

    With `is_behind` the interaction goes on when the stream breaks off, and a later answer tells its usage.
    """

    def __init__(self, call: Call, count: CountTokens, *, is_behind: bool = False) -> None:
        super().__init__()
        self._reader = InteractionReader(self.reading, call, count)
        self._is_behind = is_behind

    def on_event(self, event: Event) -> bool:
        """Read one event by the type its data names."""
        if event.data.strip() == b"[DONE]":
            return True
        value = parse_object(event.data)
        kind = value.get("event_type", event.name)
        if kind in ("interaction.created", "interaction.completed"):
            interaction = mapping(value.get("interaction"))
            if self._is_behind:
                self.reading.job = name(interaction, "id") or self.reading.job
            self._reader.take(interaction, last=kind == "interaction.completed")
        elif kind == "step.start":
            self._reader.count(mapping(value.get("step")))
        elif kind == "step.delta":
            self._reader.count(mapping(value.get("delta")))
        elif kind == "error":
            self.reading.failed = True
        return True

    def on_half_event(self, event: Event) -> None:
        """Count a broken last event as if all of it were output."""
        self._reader.count_text(event.data.decode("utf-8", "replace"))


class InteractionBodyMeter(BodyMeter):
    """Reads a whole interaction."""

    def __init__(self, call: Call, count: CountTokens) -> None:
        super().__init__()
        self._reader = InteractionReader(self.reading, call, count)

    def on_body(self, body: bytes) -> None:
        """Read the interaction, or the error that came with a good status."""
        value = parse_object(body)
        if "error" in value and "status" not in value:
            self.reading.failed = True
            return
        if name(value, "status") in _RUNS and name(value, "id"):
            self.reading.job = name(value, "id")
            return
        steps = value.get("steps")
        for step in steps if isinstance(steps, list) else ():
            self._reader.count(mapping(step))
        self._reader.take(value, last=bool(name(value, "status")))  # without one, it lacks fields


def _modalities(said: JsonObject, key: str) -> list[JsonObject]:
    """Write a breakdown in generateContent's names; raises ValueError for what is none."""
    told = said[key]
    entries = [json_object(item, key) for item in told] if isinstance(told, list) else []
    return [{"modality": entry.get("modality"), "tokenCount": entry.get("tokens")} for entry in entries]
