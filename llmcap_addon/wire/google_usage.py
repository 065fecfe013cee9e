"""Google's usage: token counts by modality, and what grounding costs beside them.

Shapes as in the SDK's `GenerateContentResponseUsageMetadata`, `ModalityTokenCount` and `GroundingMetadata`. Every chunk
of a stream may repeat the counts so far, with zeros left out, so the largest of each counts.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace

from llmcap_addon.call import Call
from llmcap_addon.usage import Usage
from llmcap_addon.wire.counts import json_object, name, reported_count
from llmcap_addon.wire.text import JsonObject, mapping

MAX_QUERIES = 1_000
"""Distinct searches kept to be counted; more in one answer have never been seen, and further ones count each time."""
MAX_QUERY_CHARS = 200
"""The part of a search that tells it from another: a search is a line, but a provider may send anything."""

_COUNTS = (
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "cachedContentTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "totalTokenCount",
)
_PROMPT = ("promptTokensDetails", "toolUsePromptTokensDetails")
_DETAILS = (*_PROMPT, "cacheTokensDetails", "candidatesTokensDetails")
VISUAL = ("IMAGE", "VIDEO", "DOCUMENT")
"""Pages of documents are read as images."""

# Gemini 1 and 2 bill a grounded prompt once, Gemini 3 each distinct query that is not empty; so it is with maps.
# https://ai.google.dev/gemini-api/docs/google-search and /maps-grounding
_BILLS_PROMPTS = re.compile(r"gemini-[12]\b")


def bills_prompts(model: str) -> bool:
    """Tell whether a model bills a grounded prompt once, however many queries it took."""
    return _BILLS_PROMPTS.search(model) is not None


class UsageMaxima:
    """The largest of each count that a response's chunks have said."""

    def __init__(self, call: Call) -> None:
        self._may_be_audio = call.content.opaque or any(part.kind in ("audio", "video") for part in call.content.media)
        self._counts = dict.fromkeys(_COUNTS, 0)
        self._details: Counter[tuple[str, str]] = Counter()

    def take(self, metadata: JsonObject) -> None:
        """Take one usageMetadata; raises ValueError for what is no count."""
        for key in _COUNTS:
            self._counts[key] = max(self._counts[key], reported_count(metadata, key))
        for key in _DETAILS:
            for modality, tokens in by_modality(metadata, key).items():
                self._details[key, modality] = max(self._details[key, modality], tokens)

    def usage(self) -> Usage:
        """Give what was said so far; where numbers contradict each other, the dearer reading."""
        prompt, tool_use, cached, candidates, thoughts, total = (self._counts[key] for key in _COUNTS)
        input_tokens = max(prompt, cached) + tool_use
        # The total is documented as the sum of the four. What it has above them belongs to one we don't know, so it
        # is billed at the dearer price, as output.
        output_tokens = max(candidates + thoughts, total - input_tokens)
        output_image = min(self._sum(("candidatesTokensDetails",), ("IMAGE", "VIDEO")), output_tokens)
        audio = min(self._sum(_PROMPT, ("AUDIO",)), input_tokens)
        if self._may_be_audio and not any(key in _PROMPT for key, _ in self._details):
            audio = input_tokens  # nobody says how much of it is
        cached_audio = min(self._sum(("cacheTokensDetails",), ("AUDIO",)), cached, audio)
        image = min(self._sum(_PROMPT, VISUAL), input_tokens - audio)
        return Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cached,
            reasoning_tokens=thoughts,
            input_audio_tokens=audio,
            cache_read_audio_tokens=cached_audio,
            input_image_tokens=image,
            cache_read_image_tokens=min(self._sum(("cacheTokensDetails",), VISUAL), cached - cached_audio, image),
            output_image_tokens=output_image,
            output_audio_tokens=min(self._sum(("candidatesTokensDetails",), ("AUDIO",)), output_tokens - output_image),
        )

    def _sum(self, keys: tuple[str, ...], modalities: tuple[str, ...]) -> int:
        return sum(self._details[key, modality] for key in keys for modality in modalities)


@dataclass(frozen=True, slots=True)
class Grounded:
    """What grounding is billed for, by the piece."""

    web_searches: int = 0
    maps: int = 0
    file_searches: int = 0

    def added_to(self, usage: Usage) -> Usage:
        """Put these counts into a usage."""
        return replace(
            usage,
            web_search_requests=self.web_searches,
            maps_requests=self.maps,
            file_search_requests=self.file_searches,
        )


class Grounding:
    """The searches that the candidates of an answer tell of."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._queries: set[str] = set()
        self._further_queries = 0
        self._retrievals = 0
        self._kinds: set[str] = set()
        """What the answer rests on: "web", "maps", "files"."""

    def take(self, metadata: JsonObject) -> None:
        """Take one candidate's groundingMetadata."""
        chunks = metadata.get("groundingChunks")
        for chunk in chunks if isinstance(chunks, list) else ():
            kinds = mapping(chunk).keys() & {"maps", "retrievedContext"}
            self._kinds |= {"maps" if kind == "maps" else "files" for kind in kinds} or {"web"}
        if metadata.get("searchEntryPoint"):
            self._kinds.add("web")
        if metadata.get("googleMapsWidgetContextToken"):
            self._kinds.add("maps")
        retrievals = metadata.get("retrievalQueries")
        if isinstance(retrievals, list) and retrievals:
            self._kinds.add("files")
            self._retrievals = max(self._retrievals, len(retrievals))
        for key in ("webSearchQueries", "imageSearchQueries"):
            queries = metadata.get(key)
            for query in queries if isinstance(queries, list) else ():
                if isinstance(query, str) and query:
                    self._keep(f"{key} {query[:MAX_QUERY_CHARS]}")

    def _keep(self, query: str) -> None:
        if len(self._queries) < MAX_QUERIES:
            self._queries.add(query)
        else:
            self._further_queries += 1

    def counts(self, model: str) -> Grounded:
        """Count what a model bills: prompts or queries. Where both searches and maps were at hand, nobody says which
        of them a query went to, so it counts as both."""
        bound = self._call.unit_bound
        queries = len(self._queries) + self._further_queries
        only_maps = bound.maps_requests > 0 and not self._call.content.web_searches
        web, maps = "web" in self._kinds or (queries > 0 and not only_maps), "maps" in self._kinds
        # Only Vertex bills searches in one's own data. https://cloud.google.com/vertex-ai/generative-ai/pricing
        files = max(1, self._retrievals) if "files" in self._kinds and self._call.provider == "vertex" else 0
        if bills_prompts(model):
            return Grounded(int(web), int(maps), files)
        return Grounded(max(queries, 1) if web else 0, max(queries, 1) if maps else 0, files)


def by_modality(metadata: JsonObject, key: str) -> Counter[str]:
    """Sum a breakdown by modality; raises ValueError for what is no count."""
    details = metadata.get(key)
    sums: Counter[str] = Counter()
    for item in details if isinstance(details, list) else () if details is None else (details,):
        entry = json_object(item, key)
        sums[name(entry, "modality").upper()] += reported_count(entry, "tokenCount")
    return sums
