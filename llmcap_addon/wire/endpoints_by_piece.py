"""Endpoints whose price is one for pictures, pages, searches or texts to rank, rather than for an answer's tokens."""

from __future__ import annotations

from llmcap_addon.wire.endpoint import Endpoint

PICTURES = "compatible.images"
GOOGLE_IMAGES = "google.images"
OCR = "mistral.ocr"
MISTRAL_SPEECH = "mistral.speech"
ROUTED_TRANSCRIPTION = "openrouter.transcription"
AGENTS = "mistral.agents"
MODERATIONS = "mistral.moderations"
CLASSIFICATIONS = "mistral.classifications"
RERANK = "compatible.rerank"
SEARCH = "perplexity.search"
BEDROCK_RERANK = "bedrock.rerank"
_EMBEDDINGS = "openai.embeddings"

_MISTRAL = ("mistral",)

BY_PIECE = (
    Endpoint(
        "openai",
        "/images/generations",
        PICTURES,
        "together.types.ImageFile, xAI's ImageResponse",
        only=("xai", "together"),
    ),
    Endpoint("openai", "/images/edits", PICTURES, "xAI's ImageResponse", only=("xai",)),
    Endpoint("openai", "/images", PICTURES, "openrouter.components.ImageGenerationResponse", only=("openrouter",)),
    Endpoint(
        "google",
        "(?:.*/)?models/(?P<model>(?:imagen|imagegeneration|virtual-try-on)[^/:]*):predict",
        GOOGLE_IMAGES,
        "google.genai.types.GenerateImagesResponse",
        only=("google", "vertex"),
        shown="models/IMAGEN-MODEL:predict",
    ),
    Endpoint(
        "openai",
        "/audio/transcriptions",
        ROUTED_TRANSCRIPTION,
        "openrouter.components.STTResponse",
        only=("openrouter",),
    ),
    Endpoint(
        "openai",
        "/audio/speech",
        MISTRAL_SPEECH,
        "mistralai.client.models.SpeechV1AudioSpeechPostResponse",
        only=_MISTRAL,
    ),
    Endpoint("openai", "/ocr", OCR, "mistralai.client.models.OCRResponse", only=_MISTRAL),
    Endpoint("openai", "/agents/completions", AGENTS, "mistralai.client.models.ChatCompletionResponse", only=_MISTRAL),
    Endpoint(
        "openai",
        "(?:/chat)?/moderations",
        MODERATIONS,
        "mistralai.client.models.ModerationResponse",
        only=_MISTRAL,
        shown="/moderations, /chat/moderations",
    ),
    Endpoint(
        "openai",
        "(?:/chat)?/classifications",
        CLASSIFICATIONS,
        "mistralai.client.models.ClassificationResponse",
        only=_MISTRAL,
        shown="/classifications, /chat/classifications",
    ),
    Endpoint(
        "openai",
        "/rerank",
        RERANK,
        "together.types.RerankCreateResponse, openrouter.operations.CreateRerankUsage",
        only=("voyage", "together", "fireworks", "openrouter", "jina"),
    ),
    Endpoint(
        "openai",
        "/contextualizedembeddings",
        _EMBEDDINGS,
        "perplexity.types.ContextualizedEmbeddingCreateResponse",
        only=("voyage", "perplexity"),
    ),
    Endpoint("openai", "/search", SEARCH, "perplexity.types.SearchCreateResponse", only=("perplexity",)),
    Endpoint("bedrock", "/rerank", BEDROCK_RERANK, "botocore bedrock-agent-runtime RerankResponse"),
)
