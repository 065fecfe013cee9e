"""The dialects that are metered or watched, by name; `routes` says which request speaks which.

Each is imported when its first request comes: all of them together take a tenth of a second of a start, and a proxy
sees few of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from llmcap_addon.wire.dialect import Dialect
from llmcap_addon.wire.jobs import JobDialect
from llmcap_addon.wire.socket import SocketDialect


class Named[T: (Dialect, JobDialect, SocketDialect)](Mapping[str, T]):
    """Name → dialect. It stands in a module of this room under its own name, or with others in a tuple."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """Take name → "module:ATTRIBUTE"."""
        self._places = places
        self._loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        """Give a dialect; raises KeyError for an unknown name."""
        found = self._loaded.get(name)
        if found is None:
            module, _, attribute = self._places[name].partition(":")
            held = getattr(import_module(f"llmcap_addon.wire.{module}"), attribute)
            several = held if isinstance(held, tuple) else (held,)
            found = self._loaded[name] = next(one for one in several if one.name == name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places


SOCKETS: Mapping[str, SocketDialect] = Named(
    {
        "openai.responses.socket": "openai_socket:RESPONSES_SOCKET",
        "openai.realtime": "openai_realtime:REALTIME_SOCKET",
        "google.live": "google_live:LIVE",
    }
)
"""Those over a websocket."""

JOBS: Mapping[str, JobDialect] = Named(
    {
        "openai.background": "openai_jobs:BACKGROUND",
        "google.background": "google_jobs:INTERACTION_JOBS",
        "openai.batch_jobs": "openai_batch_watch:OPENAI_BATCH_JOBS",
        "mistral.batch_jobs": "mistral_batches:MISTRAL_BATCH_JOBS",
        "anthropic.batch_jobs": "anthropic_batches:ANTHROPIC_BATCH_JOBS",
        "google.batch_jobs": "google_batches:GOOGLE_BATCH_JOBS",
        "openrouter.batch_jobs": "openrouter_batches:OPENROUTER_BATCH_JOBS",
    }
)
"""Those of requests that cost nothing, and tell what became of a job."""

DIALECTS: Mapping[str, Dialect] = Named(
    {
        "openai.chat": "openai_chat:CHAT",
        "openai.responses": "openai_responses:RESPONSES",
        "openai.embeddings": "openai_embeddings:EMBEDDINGS",
        "openai.completions": "openai_completions:COMPLETIONS",
        "openai.compact": "openai_compact:COMPACT",
        "openai.decisions": "openai_compact:DECISIONS",
        "openai.transcription": "openai_audio:TRANSCRIPTION",
        "openai.speech": "openai_speech:SPEECH",
        "openai.images": "openai_images:IMAGES",
        "anthropic.messages": "anthropic:MESSAGES",
        "google.generate": "google:GENERATE",
        "google.code_assist": "google_code_assist:CODE_ASSIST",
        "google.embeddings": "google_embeddings:EMBEDDINGS",
        "google.interactions": "google_interactions:INTERACTIONS",
        "bedrock.converse": "bedrock_converse:CONVERSE",
        "bedrock.invoke": "bedrock_invoke:INVOKE",
        "cohere.chat": "cohere:COHERE",
        "cohere.embed": "cohere:COHERE",
        "cohere.rerank": "cohere:COHERE",
        "mistral.ocr": "mistral:MISTRAL",
        "mistral.agents": "mistral:MISTRAL",
        "mistral.moderations": "mistral:MISTRAL",
        "mistral.classifications": "mistral:MISTRAL",
        "mistral.speech": "mistral:MISTRAL",
        "compatible.rerank": "ranking:RANKING",
        "perplexity.search": "ranking:RANKING",
        "bedrock.rerank": "ranking:RANKING",
        "compatible.images": "pictures:PICTURES",
        "google.images": "pictures:GOOGLE_IMAGES",
        "openrouter.transcription": "openrouter_audio:ROUTED_TRANSCRIPTION",
        "openai.batches": "openai_batches:BATCHES",
        "mistral.batches": "mistral_batches:MISTRAL_BATCHES",
        "anthropic.batches": "anthropic_batches:ANTHROPIC_BATCHES",
        "google.batches": "google_batches:GOOGLE_BATCHES",
        "openrouter.batches": "openrouter_batches:OPENROUTER_BATCHES",
    }
)
