"""The dialects that are metered or watched, by name; `routes` says which request speaks which."""

from __future__ import annotations

from collections.abc import Mapping

from llmcap_addon.wire.anthropic import MESSAGES
from llmcap_addon.wire.anthropic_batches import ANTHROPIC_BATCH_JOBS, ANTHROPIC_BATCHES
from llmcap_addon.wire.bedrock_converse import CONVERSE
from llmcap_addon.wire.bedrock_invoke import INVOKE
from llmcap_addon.wire.cohere import COHERE
from llmcap_addon.wire.dialect import Dialect
from llmcap_addon.wire.google import GENERATE
from llmcap_addon.wire.google_batches import GOOGLE_BATCH_JOBS, GOOGLE_BATCHES
from llmcap_addon.wire.google_code_assist import CODE_ASSIST
from llmcap_addon.wire.google_embeddings import EMBEDDINGS as GOOGLE_EMBEDDINGS
from llmcap_addon.wire.google_interactions import INTERACTIONS
from llmcap_addon.wire.google_jobs import INTERACTION_JOBS
from llmcap_addon.wire.google_live import LIVE
from llmcap_addon.wire.jobs import JobDialect
from llmcap_addon.wire.mistral import MISTRAL
from llmcap_addon.wire.mistral_batches import MISTRAL_BATCH_JOBS, MISTRAL_BATCHES
from llmcap_addon.wire.openai_audio import TRANSCRIPTION
from llmcap_addon.wire.openai_batch_watch import OPENAI_BATCH_JOBS
from llmcap_addon.wire.openai_batches import BATCHES as OPENAI_BATCHES
from llmcap_addon.wire.openai_chat import CHAT
from llmcap_addon.wire.openai_compact import COMPACT, DECISIONS
from llmcap_addon.wire.openai_completions import COMPLETIONS
from llmcap_addon.wire.openai_embeddings import EMBEDDINGS
from llmcap_addon.wire.openai_images import IMAGES
from llmcap_addon.wire.openai_jobs import BACKGROUND
from llmcap_addon.wire.openai_realtime import REALTIME_SOCKET
from llmcap_addon.wire.openai_responses import RESPONSES
from llmcap_addon.wire.openai_socket import RESPONSES_SOCKET
from llmcap_addon.wire.openai_speech import SPEECH
from llmcap_addon.wire.openrouter_audio import ROUTED_TRANSCRIPTION
from llmcap_addon.wire.openrouter_batches import OPENROUTER_BATCH_JOBS, OPENROUTER_BATCHES
from llmcap_addon.wire.pictures import GOOGLE_IMAGES, PICTURES
from llmcap_addon.wire.ranking import RANKING
from llmcap_addon.wire.socket import SocketDialect

SOCKETS: Mapping[str, SocketDialect] = {dialect.name: dialect for dialect in (RESPONSES_SOCKET, REALTIME_SOCKET, LIVE)}
"""Those over a websocket."""

JOBS: Mapping[str, JobDialect] = {
    dialect.name: dialect
    for dialect in (
        BACKGROUND,
        INTERACTION_JOBS,
        OPENAI_BATCH_JOBS,
        MISTRAL_BATCH_JOBS,
        ANTHROPIC_BATCH_JOBS,
        GOOGLE_BATCH_JOBS,
        OPENROUTER_BATCH_JOBS,
    )
}
"""Those of requests that cost nothing, and tell what became of a job."""

DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        CHAT,
        RESPONSES,
        EMBEDDINGS,
        COMPLETIONS,
        COMPACT,
        DECISIONS,
        TRANSCRIPTION,
        SPEECH,
        IMAGES,
        MESSAGES,
        GENERATE,
        CODE_ASSIST,
        GOOGLE_EMBEDDINGS,
        INTERACTIONS,
        CONVERSE,
        INVOKE,
        *COHERE,
        *MISTRAL,
        *RANKING,
        PICTURES,
        GOOGLE_IMAGES,
        ROUTED_TRANSCRIPTION,
        OPENAI_BATCHES,
        MISTRAL_BATCHES,
        ANTHROPIC_BATCHES,
        GOOGLE_BATCHES,
        OPENROUTER_BATCHES,
    )
}
