"""Endpoints: which paths of an LLM host cost money and in which dialect they speak, and which tell a bill.

Paths as in the providers' SDKs. What is neither here nor known to be free (`wire/free.py`) is "unmetered".
"""

from __future__ import annotations

import re

from llmcap_addon.wire.bedrock_paths import MODEL_PATH, model_name
from llmcap_addon.wire.endpoint import Endpoint
from llmcap_addon.wire.endpoints_by_piece import BY_PIECE
from llmcap_addon.wire.hosts import Place

CHAT = "openai.chat"
RESPONSES = "openai.responses"
RESPONSES_SOCKET = "openai.responses.socket"
EMBEDDINGS = "openai.embeddings"
COMPLETIONS = "openai.completions"
COMPACT = "openai.compact"
DECISIONS = "openai.decisions"
TRANSCRIPTION = "openai.transcription"
SPEECH = "openai.speech"
IMAGES = "openai.images"
MESSAGES = "anthropic.messages"
GENERATE = "google.generate"
GOOGLE_EMBEDDINGS = "google.embeddings"
GOOGLE_LIVE = "google.live"
INTERACTIONS = "google.interactions"
CODE_ASSIST = "google.code_assist"
COHERE_CHAT = "cohere.chat"
COHERE_EMBED = "cohere.embed"
COHERE_RERANK = "cohere.rerank"
CONVERSE = "bedrock.converse"
INVOKE = "bedrock.invoke"
REALTIME = "openai.realtime"
BACKGROUND = "openai.background"
INTERACTION_JOBS = "google.background"
OPENAI_BATCHES, OPENAI_BATCH_JOBS = "openai.batches", "openai.batch_jobs"
MISTRAL_BATCHES, MISTRAL_BATCH_JOBS = "mistral.batches", "mistral.batch_jobs"
ANTHROPIC_BATCHES, ANTHROPIC_BATCH_JOBS = "anthropic.batches", "anthropic.batch_jobs"
GOOGLE_BATCHES, GOOGLE_BATCH_JOBS = "google.batches", "google.batch_jobs"
OPENROUTER_BATCHES, OPENROUTER_BATCH_JOBS = "openrouter.batches", "openrouter.batch_jobs"


_AZURE = r"(?:/deployments/(?P<model>[^/]+)|/models|/projects/[^/]+/openai(?:/v\d+)?)?"
"""What stands before the endpoints at Azure, behind /openai or /api: a deployment (`lib/azure.py` of the `openai` SDK),
Foundry's /models, and its projects (`azure-ai-projects`); nowhere else is there anything of the kind."""


def _at_azure_too(
    path: str, dialect: str, follows: str, *, only: tuple[str, ...] = (), but: tuple[str, ...] = ()
) -> Endpoint:
    return Endpoint("openai", f"{_AZURE}{path}", dialect, follows, only, but, shown=path)


_WITH_IMAGES = ("openai", "azure")
_WITH_AUDIO = ("openai", "azure", "groq")
_WITH_TRANSCRIPTION = (*_WITH_AUDIO, "mistral")
"""Whose audio and images are of OpenAI's shapes and bills; others (OpenRouter, Together, Fireworks) have their own."""
_WITH_BATCHES = ("openai", "azure", "groq")
"""Whose batches are files uploaded in one piece; Together's go to a store of somebody else's."""

METERED = (
    Endpoint(
        "openai", f"{_AZURE}/chat/completions", CHAT, "openai.types.chat.ChatCompletion", shown="/chat/completions"
    ),
    Endpoint("openai", f"{_AZURE}/responses", RESPONSES, "openai.types.responses.Response", shown="/responses"),
    Endpoint("openai", f"{_AZURE}/embeddings", EMBEDDINGS, "openai.types.CreateEmbeddingResponse", shown="/embeddings"),
    Endpoint("openai", "/fim/completions", COMPLETIONS, "mistralai.models.FIMCompletionResponse", only=("mistral",)),
    _at_azure_too("/completions", COMPLETIONS, "openai.types.Completion", but=("mistral",)),
    _at_azure_too("/responses/compact", COMPACT, "openai.types.responses.CompactedResponse"),
    _at_azure_too("/audio/transcriptions", TRANSCRIPTION, "openai.types.audio.Transcription", only=_WITH_TRANSCRIPTION),
    _at_azure_too("/audio/translations", TRANSCRIPTION, "openai.types.audio.Translation", only=_WITH_AUDIO),
    _at_azure_too("/audio/speech", SPEECH, "openai.resources.audio.Speech", only=_WITH_AUDIO),
    _at_azure_too("/images/generations", IMAGES, "openai.types.ImagesResponse", only=_WITH_IMAGES),
    _at_azure_too("/images/edits", IMAGES, "openai.types.ImagesResponse", only=_WITH_IMAGES),
    Endpoint("openai", "/decisions", DECISIONS, "openai.types.Decision", only=("openai", "azure")),
    Endpoint("openai", "/sonar", CHAT, "perplexity.types.StreamChunk", only=("perplexity",)),
    # DeepSeek, Fireworks, OpenRouter and others speak Anthropic's dialect too.
    Endpoint("openai", "/messages", MESSAGES, "anthropic.types.Message", but=("openai",)),
    Endpoint("anthropic", "/messages", MESSAGES, "anthropic.types.Message"),
    # Anthropic's API on Google Cloud (`lib/google_cloud` of the SDK).
    Endpoint(
        "anthropic",
        "/projects/.+/invoke/v1/messages",
        MESSAGES,
        "anthropic.types.Message",
        only=("anthropic",),
        shown="/projects/…/invoke/v1/messages",
    ),
    # Subscriptions: Codex with a ChatGPT plan, Gemini CLI of a person who has signed in.
    Endpoint("chatgpt", "/backend-api/codex/responses", RESPONSES, "openai.types.responses.Response"),
    Endpoint("chatgpt", "/backend-api/codex/responses/compact", COMPACT, "openai.types.responses.CompactedResponse"),
    Endpoint(
        "code-assist",
        "/v1internal:(?:generateContent|streamGenerateContent)",
        CODE_ASSIST,
        "google.genai.types.GenerateContentResponse, in a wrapper",
        shown="/v1internal:generateContent, :streamGenerateContent",
    ),
    Endpoint("cohere", "/v2/chat", COHERE_CHAT, "cohere.V2ChatResponse"),
    Endpoint("cohere", "/v[12]/embed", COHERE_EMBED, "cohere.EmbedByTypeResponse", shown="/v2/embed, /v1/embed"),
    Endpoint("cohere", "/v[12]/rerank", COHERE_RERANK, "cohere.V2RerankResponse", shown="/v2/rerank, /v1/rerank"),
    Endpoint(
        "google",
        "(?:.*/)?(?:models|tunedModels|endpoints)/[^/:]+:(?:generateContent|streamGenerateContent)",
        GENERATE,
        "google.genai.types.GenerateContentResponse",
        shown="models/MODEL:generateContent, :streamGenerateContent",
    ),
    Endpoint(
        "google",
        "(?:.*/)?models/[^/:]+:(?:embedContent|batchEmbedContents)",
        GOOGLE_EMBEDDINGS,
        "google.genai.types.EmbedContentResponse",
        shown="models/MODEL:embedContent, :batchEmbedContents",
    ),
    Endpoint("google", "/interactions", INTERACTIONS, "google.genai.interactions.Interaction", only=("google",)),
    Endpoint(
        "google",
        "(?:/projects/.+)?/publishers/google/models/"
        "(?:text-embedding-|text-multilingual-embedding-|textembedding-gecko|gemini-embedding-)[^/:]*:predict",
        GOOGLE_EMBEDDINGS,
        "google.genai.types.EmbedContentResponse",
        only=("vertex",),
        shown="models/EMBEDDING-MODEL:predict",
    ),
    # What Vertex serves in others' shapes: `lib/vertex` of the `anthropic` SDK, `mistralai.gcp`, `providers/vertex` of
    # the `openai` SDK, and its OpenAI-compatible endpoint.
    Endpoint(
        "google",
        "/projects/.+/publishers/anthropic/models/(?!count-tokens:)(?P<model>[^/:]+):(?:rawPredict|streamRawPredict)",
        MESSAGES,
        "anthropic.types.Message",
        only=("vertex",),
        shown="publishers/anthropic/models/MODEL:rawPredict, :streamRawPredict",
    ),
    Endpoint(
        "google",
        "/projects/.+/publishers/mistralai/models/(?P<model>[^/:]+):(?:rawPredict|streamRawPredict)",
        CHAT,
        "mistralai.gcp.client.models.ChatCompletionResponse",
        only=("vertex",),
        shown="publishers/mistralai/models/MODEL:rawPredict, :streamRawPredict",
    ),
    Endpoint(
        "google",
        "/projects/.+/endpoints/openapi/chat/completions",
        CHAT,
        "openai.types.chat.ChatCompletion",
        only=("vertex",),
        shown="endpoints/openapi/chat/completions",
    ),
    Endpoint(
        "google",
        "/projects/.+/publishers/openai/v1/chat/completions",
        CHAT,
        "openai.types.chat.ChatCompletion",
        only=("vertex",),
        shown="publishers/openai/v1/chat/completions",
    ),
    Endpoint(
        "google",
        "/projects/.+/publishers/openai/v1/responses",
        RESPONSES,
        "openai.types.responses.Response",
        only=("vertex",),
        shown="publishers/openai/v1/responses",
    ),
    Endpoint(
        "bedrock",
        f"{MODEL_PATH}/converse(?:-stream)?",
        CONVERSE,
        "botocore bedrock-runtime ConverseResponse, ConverseStreamOutput",
        shown="/model/MODEL/converse, /converse-stream",
    ),
    Endpoint(
        "bedrock",
        f"{MODEL_PATH}/invoke(?:-with-response-stream)?",
        INVOKE,
        "botocore bedrock-runtime InvokeModelResponse, ResponseStream",
        shown="/model/MODEL/invoke, /invoke-with-response-stream",
    ),
    # What AWS serves in others' shapes, behind /openai/v1 and /anthropic/v1.
    Endpoint("bedrock", "/chat/completions", CHAT, "openai.types.chat.ChatCompletion"),
    Endpoint("bedrock", "/responses", RESPONSES, "openai.types.responses.Response"),
    Endpoint("bedrock", "/messages", MESSAGES, "anthropic.types.Message"),
    *BY_PIECE,
    # What is billed later, with the answer to another request: below, under WATCHED.
    Endpoint("openai", "/batches", OPENAI_BATCHES, "openai.types.Batch", only=_WITH_BATCHES),
    Endpoint("openai", "/batches", OPENROUTER_BATCHES, "openrouter.components.BatchObject", only=("openrouter",)),
    Endpoint("openai", "/batch/jobs", MISTRAL_BATCHES, "mistralai.client.models.BatchJob", only=("mistral",)),
    Endpoint("anthropic", "/messages/batches", ANTHROPIC_BATCHES, "anthropic.types.messages.MessageBatch"),
    Endpoint(
        "google",
        "(?:.*/)?models/[^/:]+:(?:batchGenerateContent|asyncBatchEmbedContent)",
        GOOGLE_BATCHES,
        "google.genai.types.BatchJob",
        only=("google",),
        shown="models/MODEL:batchGenerateContent, :asyncBatchEmbedContent",
    ),
)

OVER_WEBSOCKET = (
    Endpoint(
        "openai",
        "/responses",
        RESPONSES_SOCKET,
        "openai.types.responses.ResponsesServerEvent",
        # https://learn.microsoft.com/azure/foundry/openai/how-to/websockets
        # https://docs.x.ai/developers/advanced-api-usage/websocket-mode
        only=("openai", "azure", "xai"),
        shown="wss://…/responses",
    ),
    # Azure names its deployment in the query (`_configure_realtime` in the `openai` SDK's `lib/azure`). Translation and
    # Live are billed by time, which the dialect says when it does not open them.
    Endpoint(
        "openai",
        f"{_AZURE}/realtime(?:/translations)?|/live(?:/.*)?",
        REALTIME,
        "openai.types.realtime.RealtimeServerEvent",
        only=("openai", "azure"),
        shown="wss://…/realtime",
    ),
    Endpoint(
        "chatgpt",
        "/backend-api/codex/responses",
        RESPONSES_SOCKET,
        "openai.types.responses.ResponsesServerEvent",
        shown="wss://…/backend-api/codex/responses",
    ),
    Endpoint(
        "google",
        r"/ws/google\.ai\.generativelanguage\.v\w+\.GenerativeService\.BidiGenerate(?:Content(?:Constrained)?|Music)",
        GOOGLE_LIVE,
        "google.genai.types.LiveServerMessage",
        only=("google",),
        shown="wss://…GenerativeService.BidiGenerateContent, BidiGenerateContentConstrained",
    ),
    Endpoint(
        "google",
        r"/ws/google\.cloud\.aiplatform\.v\w+\.LlmBidiService/BidiGenerateContent",
        GOOGLE_LIVE,
        "google.genai.types.LiveServerMessage",
        only=("vertex",),
        shown="wss://…LlmBidiService/BidiGenerateContent",
    ),
)
"""What is metered frame by frame; a client of any other websocket is told to use HTTP."""

WATCHED = (
    # The `openai` SDK's `resources/responses`: retrieve (as one body, or streamed anew) and cancel.
    Endpoint(
        "openai", f"{_AZURE}/responses/[^/]+", BACKGROUND, "openai.types.responses.Response",
        shown="/responses/ID", methods=("GET",),
    ),
    Endpoint(
        "openai", f"{_AZURE}/responses/[^/]+/cancel", BACKGROUND, "openai.types.responses.Response",
        shown="/responses/ID/cancel",
    ),
    Endpoint("bedrock", "/responses/[^/]+", BACKGROUND, "openai.types.responses.Response", methods=("GET",)),
    Endpoint("bedrock", "/responses/[^/]+/cancel", BACKGROUND, "openai.types.responses.Response"),
    Endpoint(
        "google", "/interactions/[^/]+", INTERACTION_JOBS, "google.genai.interactions.Interaction", only=("google",),
        methods=("GET",),
    ),
    Endpoint(
        "google", "/interactions/[^/]+/cancel", INTERACTION_JOBS, "google.genai.interactions.Interaction",
        only=("google",),
    ),
    Endpoint("openai", "/files", OPENAI_BATCH_JOBS, "openai.types.FileObject", only=_WITH_BATCHES),
    Endpoint(
        "openai", "/uploads/[^/]+/complete", OPENAI_BATCH_JOBS, "openai.types.Upload", only=_WITH_BATCHES,
        shown="/uploads/ID/complete",
    ),
    Endpoint(
        "openai", "/batches(?:/[^/]+)?", OPENAI_BATCH_JOBS, "openai.types.Batch", only=_WITH_BATCHES,
        shown="/batches, /batches/ID", methods=("GET",),
    ),
    Endpoint("openai", "/batches/[^/]+/cancel", OPENAI_BATCH_JOBS, "openai.types.Batch", only=_WITH_BATCHES),
    Endpoint(
        "openai", "/files/[^/]+/content", OPENAI_BATCH_JOBS, "openai.resources.Files.content", only=_WITH_BATCHES,
        shown="/files/ID/content", methods=("GET",),
    ),
    Endpoint(
        "openai", "/batches(?:/[^/]+)?", OPENROUTER_BATCH_JOBS, "openrouter.components.BatchObject",
        only=("openrouter",), shown="/batches, /batches/ID", methods=("GET",),
    ),
    Endpoint(
        "openai", "/batch/jobs(?:/[^/]+)?", MISTRAL_BATCH_JOBS, "mistralai.client.models.BatchJob", only=("mistral",),
        shown="/batch/jobs, /batch/jobs/ID", methods=("GET",),
    ),
    Endpoint(
        "openai", "/batch/jobs/[^/]+/cancel", MISTRAL_BATCH_JOBS, "mistralai.client.models.BatchJob", only=("mistral",),
    ),
    Endpoint(
        "openai", "/files/[^/]+/content", MISTRAL_BATCH_JOBS, "mistralai.client.files.Files.download",
        only=("mistral",), shown="/files/ID/content", methods=("GET",),
    ),
    Endpoint(
        "anthropic", "/messages/batches(?:/[^/]+(?:/results)?)?", ANTHROPIC_BATCH_JOBS,
        "anthropic.types.messages.MessageBatchIndividualResponse", shown="/messages/batches/ID/results",
        methods=("GET",),
    ),
    Endpoint(
        "google", "/batches(?:/[^/]+)?", GOOGLE_BATCH_JOBS, "google.genai.types.BatchJob", only=("google",),
        shown="/batches/ID", methods=("GET",),
    ),
)  # fmt: skip
"""What costs nothing, but whose answer tells the bill of a job, or the id of a file that a job will run; `dialect` is
the name of a JobDialect (`dialects.JOBS`)."""


_PREFIX = re.compile(
    r"(?:/(?:api|openai|anthropic|inference|beta|alpha|coding|paas|compatible-mode|apps|zen|go|v\d+(?:beta|alpha)?\d*))*"
)
"""What stands before an endpoint: /v1, Groq's /openai/v1, OpenRouter's /api/v1, DeepSeek's /beta and /anthropic/v1,
Fireworks' /inference/v1, Google's /v1beta/openai, Z.ai's /api/coding/paas/v4, DashScope's /compatible-mode/v1 and
/apps/anthropic/v1, OpenCode's /zen/v1 and /zen/go/v1."""
_WHOLE_PATHS = frozenset({"cohere", "chatgpt", "code-assist"})
"""APIs whose endpoints are told by the whole path: Cohere's versions differ."""
_BEHIND_ANYTHING = frozenset({"huggingface"})
"""Providers whose paths begin with a name of another provider."""


def metered(place: Place, path: str, endpoints: tuple[Endpoint, ...] = METERED) -> tuple[str, str] | None:
    """Name the dialect of a metered endpoint, and the model where the path tells it; None for any other."""
    # Vertex has no second set of paths, only a publisher of this name.
    compatible = place.api == "google" and place.provider != "vertex" and "/openai/" in path
    api = "openai" if compatible else place.api
    if place.provider == "opencode" and _GEMINI.fullmatch(path):
        api = "google"  # OpenCode Zen speaks each maker's own dialect
    endpoint = behind_prefix(place, path)
    anywhere = place.custom or place.provider in _BEHIND_ANYTHING
    for one in endpoints:
        if one.api != api or (one.only and place.provider not in one.only) or place.provider in one.but:
            continue
        found = one.behind_anything.fullmatch(path) if anywhere else one.pattern.fullmatch(endpoint)
        if found:
            model = found.groupdict().get("model") or ""
            return one.dialect, model_name(model) if api == "bedrock" else model
    return None


def watched(place: Place, method: str, path: str) -> str:
    """Name the job dialect of a watched request; empty for any other."""
    found = metered(place, path, tuple(one for one in WATCHED if method in one.methods))
    return found[0] if found else ""


def behind_prefix(place: Place, path: str) -> str:
    """Give the path behind its prefix ("/chat/completions"); behind any prefix on a host that the user named."""
    if place.custom and path.endswith("/messages/count_tokens"):
        return "/messages/count_tokens"
    if place.api in _WHOLE_PATHS and not place.custom:
        return path
    match = _PREFIX.match(path)
    return path[match.end() :] if match else path


_GEMINI = re.compile(r"/zen/.*models/[^/:]+:(?:generateContent|streamGenerateContent)")
