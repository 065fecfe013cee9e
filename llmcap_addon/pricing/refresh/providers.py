"""Providers: where each stands in the two sources, how its models are called there, and what neither source tells."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

KINDS = {
    "chat": "chat",
    "responses": "chat",
    "completion": "chat",
    "embedding": "embedding",
    "image_generation": "image",
    "image_edit": "image",
    "audio_speech": "speech",
    "audio_transcription": "transcription",
    "realtime": "realtime",
    "rerank": "rerank",
    "ocr": "ocr",
    "search": "search",
}
"""litellm's `mode` → the table's kind; entries of other modes (video, moderation …) are left out."""
GOOGLE_MEDIA = {"image_generation", "audio_speech"}
"""On Google these answer generateContent, and are billed by the token as chat is."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a provider's models are found."""

    genai: tuple[str, ...] = ()
    """Ids in genai-prices; of several the first that knows a name counts."""
    litellm: tuple[str, ...] = ()
    """Values of `litellm_provider`."""
    prefixes: tuple[str, ...] = ()
    """What litellm's keys may begin with and the API's names don't."""
    rename: Callable[[str], str | None] | None = None
    """Gives the API's name for what is left of a key; None leaves the entry out."""
    geography: Mapping[str, str] = field(default_factory=dict)
    """Place → factor, for models of which neither source tells any."""
    fees: Mapping[str, str] = field(default_factory=dict)
    """What is asked by the piece, whatever the model; with the documents that say so beside it."""


_COMMITMENT = re.compile(r"\d-month-commitment")


def _bedrock(name: str) -> str | None:
    if _COMMITMENT.search(name) or name.startswith("guardrails"):
        return None
    return name.removeprefix("invoke/")


def _vertex(name: str) -> str | None:
    """`claude-…@20251001` becomes `claude-…-20251001`; the maker before a slash and "@default" are dropped."""
    bare = name.rpartition("/")[2]
    model, _, version = bare.partition("@")
    return model if version in ("", "default", "latest") else f"{model}-{version}"


def _azure(name: str) -> str | None:
    return None if name.startswith("speech/") or name in _MOVED_IN_AZURE else name


_MOVED_IN_AZURE = {"command-r-plus", "mistral-large-2402"}
"""Sold as `azure_ai` models for less; the old rows of Azure OpenAI are left from its first year."""


def _simple(genai: str, litellm: str) -> Source:
    return Source((genai,) if genai else (), (litellm,) if litellm else (), (f"{litellm}/",) if litellm else ())


SOURCES: Mapping[str, Source] = {
    "openai": Source(
        ("openai",), ("openai", "text-completion-openai"), ("openai/",),
        geography={"eu": "1.1", "us": "1.1"},
        # https://openai.com/api/pricing: file search $2.50 and containers $30 a thousand.
        fees={"file_search": "2.5", "code_session": "30"},
    ),
    "anthropic": Source(
        ("anthropic",), ("anthropic",), ("anthropic/",), geography={"us": "1.1"},
        # https://platform.claude.com/docs/en/about-claude/pricing: searches $10 a thousand; a container $0.05 an hour
        # beyond the free ones, taken as an hour each.
        fees={"web_search": "10", "code_session": "50"},
    ),
    # Imagen 4's best asked $0.06 for a picture; https://ai.google.dev/gemini-api/docs/pricing.
    "google": Source(("google",), ("gemini",), ("gemini/",), fees={"per_image": "0.06"}),
    "openrouter": Source(
        ("openrouter",), ("openrouter",), ("openrouter/",),
        # https://openrouter.ai/docs/guides/overview/multimodal/pdfs: Mistral's OCR at $2 a thousand pages, which asks
        # $4 itself for its newest; a person's picture in a chat costs at most $0.25 (OpenAI's, large, of high quality).
        fees={"per_page": "0.004", "per_image": "0.3"},
    ),
    "groq": _simple("groq", "groq"),
    "deepseek": Source(
        ("deepseek",), ("deepseek",), ("deepseek/",),
        # https://api-docs.deepseek.com/quick_start/pricing: 5 yuan a thousand searches since November 2026.
        fees={"web_search": "0.75"},
    ),
    "mistral": _simple("mistral", "mistral"),
    "xai": Source(
        ("x-ai",), ("xai",), ("xai/",),
        # https://docs.x.ai/docs/models: the US regional endpoint costs a tenth more.
        geography={"us": "1.1"},
        # https://docs.x.ai/developers/pricing: web and X search and code $5, attachment search $10 a thousand.
        fees={"web_search": "5", "file_search": "10", "code_session": "5"},
    ),
    "together": Source(
        ("together",), ("together_ai",), ("together_ai/",),
        # Its pictures cost $0.0027 a million pixels to $0.24 each by its models; from above, for none is listed.
        fees={"per_image": "0.3"},
    ),
    "fireworks": Source(("fireworks",), ("fireworks_ai", "fireworks_ai-embedding-models"), ("fireworks_ai/",)),
    "cerebras": _simple("cerebras", "cerebras"),
    # "search" is its raw search: $5 a thousand requests. https://docs.perplexity.ai/docs/getting-started/pricing
    "perplexity": _simple("perplexity", "perplexity"),
    "cohere": Source(("cohere",), ("cohere", "cohere_chat"), ("cohere/", "cohere_chat/")),
    "azure": Source(
        ("azure",), ("azure", "azure_text"), ("azure/",), _azure,
        # Data zones and regions cost a tenth more than "global"; https://azure.microsoft.com/pricing/details/azure-openai
        geography={"eu": "1.1", "us": "1.1"},
        fees={"file_search": "2.5", "code_session": "33"},
    ),
    "azure_ai": Source(
        ("azure",), ("azure_ai",), ("azure_ai/",), geography={"eu": "1.1", "us": "1.1"},
        fees={"file_search": "2.5", "code_session": "33"},
    ),
    "bedrock": Source(
        ("aws",), ("bedrock", "bedrock_converse", "bedrock_mantle"), ("bedrock/", "bedrock_mantle/"), _bedrock
    ),
    "vertex": Source(
        ("google",),
        ("vertex_ai", *(f"vertex_ai-{maker}" for maker in (
            "language-models", "anthropic_models", "mistral_models", "openai_models", "llama_models", "ai21_models",
            "deepseek_models", "qwen_models", "zai_models", "moonshot_models", "minimax_models", "text-models",
        )), "vertex_ai-embedding-models"),
        ("vertex_ai/",), _vertex, fees={"per_image": "0.06"},
    ),
    "github-copilot": _simple("github-copilot", "github_copilot"),
    "moonshot": _simple("moonshotai", "moonshot"),
    "zai": _simple("zai", "zai"),
    "minimax": _simple("minimax", "minimax"),
    "deepinfra": _simple("", "deepinfra"),
    "dashscope": _simple("", "dashscope"),
    "novita": _simple("novita", "novita"),
    "nebius": _simple("", "nebius"),
    "sambanova": _simple("", "sambanova"),
    "baseten": _simple("baseten", "baseten"),
    "cloudflare": _simple("cloudflare", "cloudflare"),
    "voyage": _simple("voyageai", "voyage"),
    "jina": _simple("", "jina_ai"),
    "vercel": Source((), ("vercel_ai_gateway",), ("vercel_ai_gateway/",)),
    "opencode": Source((), ("opencode_go",), ("opencode_go/",)),
}  # fmt: skip
"""The table's providers, named as in wire/hosts.py; `ROUTED` beside them."""

DEAREST_PICTURES: Mapping[tuple[str, str], Decimal] = {
    ("bedrock", "amazon.nova-canvas-v1"): Decimal("0.08"),
    ("bedrock", "amazon.titan-image-generator-v1"): Decimal("0.012"),
    ("bedrock", "amazon.titan-image-generator-v2"): Decimal("0.012"),
}
"""(provider, model) → what its largest picture of the best quality costs, where the sources tell a smaller one's price.
https://aws.amazon.com/bedrock/pricing"""

ROUTED = {"huggingface": "huggingface_"}
"""A router whose sellers genai-prices lists one by one, under ids that begin so; a name may end in ":SELLER".
https://huggingface.co/docs/inference-providers"""

ELSEWHERE = {"google": "claude"}
"""Models that genai-prices lists under Google because Vertex sells them; the Gemini API does not."""
STEP_IS_INCLUSIVE = {"xai"}
"""xAI's higher price begins at 200,000 tokens, others' above; genai-prices says 199,999 there, litellm 200k."""
ZONED = {"azure", "azure_ai"}
"""All models cost more in a data zone, whether litellm lists them there or not; elsewhere what litellm lists without a
place costs the same everywhere, and what genai-prices alone lists is taken to cost what its newest siblings do."""

GOOGLE_IMAGE_TOKENS = 1290
"""Of a picture that Gemini makes, billed by the token. https://ai.google.dev/gemini-api/docs/pricing"""

MAKERS = {"openai": "openai", "anthropic": "anthropic", "google": "google", "x-ai": "xai", "deepseek": "deepseek",
          "mistralai": "mistral"}  # fmt: skip
"""The makers' names in OpenRouter's models, and the table's."""

STALE: Mapping[tuple[str, str], tuple[str, str]] = {
    ("deepseek", name): (
        "genai-prices",
        "V3's prices with its cheap nights, which ended on 2025-09-05: https://api-docs.deepseek.com/quick_start/pricing",
    )
    for name in ("deepseek-chat", "deepseek-reasoner")
}
"""(provider, genai-prices' model) → the source that a person found to be out of date, and why. Its prices of that model
are left out wherever the other source has some: a stale price must not win by being the higher one."""

OUTLIER = Decimal(3)
"""Sources that differ by more than this factor on one price can't both be right; such prices are shown apart."""
MAX_PRICE_USD = Decimal(1000)
"""Of a million tokens, or of anything else that is billed: the dearest model listed today asks 270, its dearest tier
540. What is dearer has a slipped unit, and would be what every unknown model of its provider is taken to cost."""
