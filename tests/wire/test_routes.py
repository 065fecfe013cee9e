from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcap_addon.wire.dialect import Request, Target
from llmcap_addon.wire.dialects import DIALECTS, JOBS, SOCKETS
from llmcap_addon.wire.hosts import Place, is_llm_host
from llmcap_addon.wire.routes import Route, classify

CUSTOM = {
    "llm.internal.example": Place("openai", "internal", custom=True),
    "claude.internal.example": Place("anthropic", "internal", custom=True),
    "gemini.internal.example": Place("google", "internal", custom=True),
    "aws.internal.example": Place("bedrock", "internal", custom=True),
}


def route(target: str, method: str = "POST", **headers: str) -> Route:
    host, slash, path = target.partition("/")
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(Request(method, host, slash + path, headers=names), CUSTOM)


@pytest.mark.parametrize(
    "host",
    [
        "api.openai.com", "API.OpenAI.com", "api.openai.com.", "eu.api.openai.com", "in.api.openai.com",
        "api.anthropic.com", "generativelanguage.googleapis.com", "openrouter.ai", "api.groq.com", "api.deepseek.com",
        "api.mistral.ai", "api.eu.mistral.ai", "api.x.ai", "us-east-1.api.x.ai", "api.together.ai", "api.together.xyz",
        "api.fireworks.ai", "api.cerebras.ai", "api.cohere.com", "api.cohere.ai", "api.perplexity.ai",
        "my-res.openai.azure.com", "my-res.services.ai.azure.com", "my-res.cognitiveservices.azure.com",
        "bedrock-runtime.us-east-1.amazonaws.com", "bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
        "bedrock-runtime.cn-north-1.amazonaws.com.cn", "bedrock-mantle.us-west-2.api.aws",
        "bedrock-runtime.eusc-de-east-1.amazonaws.eu", "bedrock-runtime.eusc-de-east-1.api.amazonwebservices.eu",
        "bedrock-runtime.us-iso-east-1.c2s.ic.gov", "bedrock-runtime.us-isob-east-1.sc2s.sgov.gov",
        "vpce-0a-1b.bedrock-runtime.us-east-1.vpce.amazonaws.com", "bedrock-agent-runtime.us-east-1.amazonaws.com",
        "aiplatform.googleapis.com", "europe-west4-aiplatform.googleapis.com", "aiplatform.eu.rep.googleapis.com",
        "us-central1-aiplatform.mtls.googleapis.com", "claude.googleapis.com", "llm.internal.example",
    ],
)  # fmt: skip
def test_llm_hosts_are_known(host: str) -> None:
    """Providers, their regions and the user's own hosts are looked into."""
    assert is_llm_host(host, CUSTOM)


@pytest.mark.parametrize(
    "host",
    [
        "", "openai.com", "api.openai.com.evil.com", "evilapi.openai.com", "a.b.api.openai.com", "api-openai.com",
        "api.openai.com/", "api.openai.com:443", "x.llm.internal.example", "storage.googleapis.com", "googleapis.com",
        "evil-aiplatform.googleapis.com.evil.com", "s3.us-east-1.amazonaws.com", "bedrock.us-east-1.amazonaws.com",
        "api.github.com", "www.chatgpt.com", "openrouter.ai.evil.com", "xapi.x.ai", "api.anthropic.com\n",
        "aiplatform.googleapis.com.", "1.2.3.4",
    ],
)  # fmt: skip
def test_other_hosts_are_foreign(host: str) -> None:
    """A name that only looks like a provider's is not; one with the root's dot still is."""
    expected = host in ("aiplatform.googleapis.com.", "api.anthropic.com\n")
    assert is_llm_host(host, CUSTOM) is expected
    if not expected:
        assert route(f"{host.replace('/', '')}:1/v1/chat/completions").kind == "foreign"


@pytest.mark.parametrize(
    ("target", "dialect", "provider"),
    [
        ("api.openai.com/v1/chat/completions", "openai.chat", "openai"),
        ("api.openai.com//v1//chat/completions/", "openai.chat", "openai"),
        ("api.openai.com/v1/chat%2Fcompletions", "openai.chat", "openai"),
        ("eu.api.openai.com/v1/responses", "openai.responses", "openai"),
        ("api.openai.com/v1/embeddings", "openai.embeddings", "openai"),
        ("api.groq.com/openai/v1/chat/completions", "openai.chat", "groq"),
        ("api.groq.com/openai/v1/responses", "openai.responses", "groq"),
        ("openrouter.ai/api/v1/chat/completions", "openai.chat", "openrouter"),
        ("openrouter.ai/api/alpha/responses", "openai.responses", "openrouter"),
        ("openrouter.ai/api/v1/messages", "anthropic.messages", "openrouter"),
        ("api.deepseek.com/chat/completions", "openai.chat", "deepseek"),
        ("api.deepseek.com/v1/chat/completions", "openai.chat", "deepseek"),
        ("api.deepseek.com/beta/chat/completions", "openai.chat", "deepseek"),
        ("api.deepseek.com/anthropic/v1/messages", "anthropic.messages", "deepseek"),
        ("api.mistral.ai/v1/chat/completions", "openai.chat", "mistral"),
        ("api.x.ai/v1/responses", "openai.responses", "xai"),
        ("api.together.xyz/v1/chat/completions", "openai.chat", "together"),
        ("api.fireworks.ai/inference/v1/chat/completions", "openai.chat", "fireworks"),
        ("api.fireworks.ai/inference/v1/messages", "anthropic.messages", "fireworks"),
        ("api.cerebras.ai/v1/chat/completions", "openai.chat", "cerebras"),
        ("api.anthropic.com/v1/messages", "anthropic.messages", "anthropic"),
        ("api.openai.com/v1/batches", "openai.batches", "openai"),
        ("my-res.openai.azure.com/openai/batches", "openai.batches", "azure"),
        ("api.groq.com/openai/v1/batches", "openai.batches", "groq"),
        ("openrouter.ai/api/v1/batches", "openrouter.batches", "openrouter"),
        ("api.mistral.ai/v1/batch/jobs", "mistral.batches", "mistral"),
        ("api.anthropic.com/v1/messages/batches", "anthropic.batches", "anthropic"),
        ("generativelanguage.googleapis.com/v1beta/models/g:batchGenerateContent", "google.batches", "google"),
        ("generativelanguage.googleapis.com/v1beta/models/g:asyncBatchEmbedContent", "google.batches", "google"),
        ("api.openai.com/v1/completions", "openai.completions", "openai"),
        ("api.openai.com/v1/responses/compact", "openai.compact", "openai"),
        ("my-res.openai.azure.com/openai/v1/responses/compact", "openai.compact", "azure"),
        ("api.openai.com/v1/decisions", "openai.decisions", "openai"),
        ("api.openai.com/v1/audio/transcriptions", "openai.transcription", "openai"),
        ("api.groq.com/openai/v1/audio/translations", "openai.transcription", "groq"),
        ("api.mistral.ai/v1/audio/transcriptions", "openai.transcription", "mistral"),
        ("api.openai.com/v1/audio/speech", "openai.speech", "openai"),
        ("api.openai.com/v1/images/generations", "openai.images", "openai"),
        ("my-res.openai.azure.com/openai/v1/images/edits", "openai.images", "azure"),
        ("openrouter.ai/api/v1/completions", "openai.completions", "openrouter"),
        ("openrouter.ai/api/v1/audio/transcriptions", "openrouter.transcription", "openrouter"),
        ("api.mistral.ai/v1/audio/speech", "mistral.speech", "mistral"),
        ("api.jina.ai/v1/rerank", "compatible.rerank", "jina"),
        ("api.jina.ai/v1/embeddings", "openai.embeddings", "jina"),
        ("openrouter.ai/api/v1/images", "compatible.images", "openrouter"),
        ("openrouter.ai/api/v1/rerank", "compatible.rerank", "openrouter"),
        ("api.x.ai/v1/images/generations", "compatible.images", "xai"),
        ("api.x.ai/v1/images/edits", "compatible.images", "xai"),
        ("api.together.xyz/v1/images/generations", "compatible.images", "together"),
        ("api.together.xyz/v1/rerank", "compatible.rerank", "together"),
        ("api.fireworks.ai/inference/v1/rerank", "compatible.rerank", "fireworks"),
        ("api.voyageai.com/v1/rerank", "compatible.rerank", "voyage"),
        ("api.voyageai.com/v1/contextualizedembeddings", "openai.embeddings", "voyage"),
        ("api.perplexity.ai/search", "perplexity.search", "perplexity"),
        ("api.mistral.ai/v1/ocr", "mistral.ocr", "mistral"),
        ("api.mistral.ai/v1/agents/completions", "mistral.agents", "mistral"),
        ("api.mistral.ai/v1/moderations", "mistral.moderations", "mistral"),
        ("api.mistral.ai/v1/chat/moderations", "mistral.moderations", "mistral"),
        ("api.mistral.ai/v1/classifications", "mistral.classifications", "mistral"),
        ("bedrock-agent-runtime.us-east-1.amazonaws.com/rerank", "bedrock.rerank", "bedrock"),
        ("api.together.xyz/v1/completions", "openai.completions", "together"),
        ("api.fireworks.ai/inference/v1/completions", "openai.completions", "fireworks"),
        ("api.deepseek.com/beta/completions", "openai.completions", "deepseek"),
        ("api.mistral.ai/v1/fim/completions", "openai.completions", "mistral"),
        ("codestral.mistral.ai/v1/fim/completions", "openai.completions", "mistral"),
        ("llm.internal.example/v1/completions", "openai.completions", "internal"),
        ("my-res.openai.azure.com/openai/v1/responses", "openai.responses", "azure"),
        ("my-res.openai.azure.com/openai/responses", "openai.responses", "azure"),
        ("my-res.services.ai.azure.com/models/chat/completions", "openai.chat", "azure"),
        ("my-res.services.ai.azure.com/models/embeddings", "openai.embeddings", "azure"),
        ("my-res.services.ai.azure.com/api/projects/p/openai/v1/responses", "openai.responses", "azure"),
        ("my-res.services.ai.azure.com/anthropic/v1/messages", "anthropic.messages", "azure"),
        ("my-res.cognitiveservices.azure.com/openai/v1/chat/completions", "openai.chat", "azure"),
        ("api.perplexity.ai/chat/completions", "openai.chat", "perplexity"),
        ("api.perplexity.ai/v1/sonar", "openai.chat", "perplexity"),
        ("api.perplexity.ai/v1/responses", "openai.responses", "perplexity"),
        ("api.cohere.com/v2/chat", "cohere.chat", "cohere"),
        ("api.cohere.ai/v2/embed", "cohere.embed", "cohere"),
        ("api.cohere.com/v1/embed", "cohere.embed", "cohere"),
        ("api.cohere.com/v2/rerank", "cohere.rerank", "cohere"),
        ("api.moonshot.ai/v1/chat/completions", "openai.chat", "moonshot"),
        ("api.moonshot.ai/anthropic/v1/messages", "anthropic.messages", "moonshot"),
        ("api.z.ai/api/paas/v4/chat/completions", "openai.chat", "zai"),
        ("api.z.ai/api/coding/paas/v4/chat/completions", "openai.chat", "zai"),
        ("api.z.ai/api/anthropic/v1/messages", "anthropic.messages", "zai"),
        ("api.minimax.io/anthropic/v1/messages", "anthropic.messages", "minimax"),
        ("dashscope-intl.aliyuncs.com/compatible-mode/v1/chat/completions", "openai.chat", "dashscope"),
        ("dashscope-intl.aliyuncs.com/apps/anthropic/v1/messages", "anthropic.messages", "dashscope"),
        ("router.huggingface.co/v1/chat/completions", "openai.chat", "huggingface"),
        ("router.huggingface.co/nebius/v1/chat/completions", "openai.chat", "huggingface"),
        ("api.deepinfra.com/v1/openai/chat/completions", "openai.chat", "deepinfra"),
        ("ai-gateway.vercel.sh/v1/responses", "openai.responses", "vercel"),
        ("opencode.ai/zen/v1/messages", "anthropic.messages", "opencode"),
        ("opencode.ai/zen/go/v1/chat/completions", "openai.chat", "opencode"),
        ("opencode.ai/zen/v1/models/gemini-3-pro:streamGenerateContent", "google.generate", "opencode"),
        ("api.novita.ai/v3/openai/chat/completions", "openai.chat", "novita"),
        ("api.studio.nebius.com/v1/embeddings", "openai.embeddings", "nebius"),
        ("api.voyageai.com/v1/embeddings", "openai.embeddings", "voyage"),
        ("generativelanguage.googleapis.com/v1beta/models/gemini-2.5-pro:generateContent", "google.generate", "google"),
        ("generativelanguage.googleapis.com/v1/models/g:streamGenerateContent", "google.generate", "google"),
        ("generativelanguage.googleapis.com/v1beta/models/g%3AgenerateContent", "google.generate", "google"),
        ("generativelanguage.googleapis.com/v1beta/openai/chat/completions", "openai.chat", "google"),
        ("generativelanguage.googleapis.com/v1beta/openai/embeddings", "openai.embeddings", "google"),
        ("generativelanguage.googleapis.com/v1beta/models/g:embedContent", "google.embeddings", "google"),
        ("generativelanguage.googleapis.com/v1beta/models/g:batchEmbedContents", "google.embeddings", "google"),
        ("generativelanguage.googleapis.com/v1beta/tunedModels/g:generateContent", "google.generate", "google"),
        ("aiplatform.googleapis.com/v1/publishers/google/models/g:generateContent", "google.generate", "vertex"),
        (
            "us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google/models/g:streamGenerateContent",
            "google.generate",
            "vertex",
        ),
        (
            "us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/endpoints/123:generateContent",
            "google.generate",
            "vertex",
        ),
        (
            "us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google/models/text-embedding-005:predict",
            "google.embeddings",
            "vertex",
        ),
        (
            "us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google/models/gemini-embedding-2:embedContent",
            "google.embeddings",
            "vertex",
        ),
        (
            "us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/endpoints/openapi/chat/completions",
            "openai.chat",
            "vertex",
        ),
        (
            "us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/openai/v1/responses",
            "openai.responses",
            "vertex",
        ),
        (
            "us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/openai/v1/chat/completions",
            "openai.chat",
            "vertex",
        ),
        (
            "claude.googleapis.com/v1/projects/p/locations/l/workspaces/w/invoke/v1/messages",
            "anthropic.messages",
            "anthropic",
        ),
        ("aws-external-anthropic.us-east-1.api.aws/v1/messages", "anthropic.messages", "anthropic"),
        ("bedrock-runtime.us-east-1.amazonaws.com/openai/v1/chat/completions", "openai.chat", "bedrock"),
        ("bedrock-mantle.us-east-1.api.aws/openai/v1/responses", "openai.responses", "bedrock"),
        ("bedrock-mantle.us-east-1.api.aws/v1/chat/completions", "openai.chat", "bedrock"),
        ("bedrock-mantle.us-east-1.api.aws/anthropic/v1/messages", "anthropic.messages", "bedrock"),
        ("llm.internal.example/some/where/v1/chat/completions", "openai.chat", "internal"),
        ("claude.internal.example/proxy/v1/messages", "anthropic.messages", "internal"),
        ("gemini.internal.example/x/v1beta/models/g:generateContent", "google.generate", "internal"),
    ],
)
def test_metered_endpoints(target: str, dialect: str, provider: str) -> None:
    """Each provider's paths, in the spellings that clients and servers use, are metered in their dialect."""
    assert route(target) == Route("metered", dialect, provider, target.partition("/")[0])


@pytest.mark.parametrize("host", ["my-res.openai.azure.com", "llm.internal.example"])
@pytest.mark.parametrize(
    ("endpoint", "dialect"),
    [("chat/completions", "openai.chat"), ("responses", "openai.responses"), ("embeddings", "openai.embeddings")],
)
def test_a_deployment_in_the_url_names_the_model(host: str, endpoint: str, dialect: str) -> None:
    """Azure's paths, at Azure and at a host of the user's own."""
    found = route(f"{host}/openai/deployments/My-GPT/{endpoint}")
    assert (found.kind, found.dialect_name, found.model) == ("metered", dialect, "My-GPT")


@pytest.mark.parametrize(
    ("target", "provider"),
    [
        ("generativelanguage.googleapis.com/v1beta/models/imagen-4:predict", "google"),
        ("aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/imagen-4:predict", "vertex"),
    ],
)
def test_imagens_path_names_the_model(target: str, provider: str) -> None:
    """Its body does not."""
    host = target.partition("/")[0]
    assert route(target) == Route("metered", "google.images", provider, host, "imagen-4")


@pytest.mark.parametrize(
    ("maker", "model", "method", "dialect"),
    [
        ("anthropic", "claude-sonnet-4-5@20250929", "rawPredict", "anthropic.messages"),
        ("anthropic", "claude-opus-5%40default", "streamRawPredict", "anthropic.messages"),
        ("mistralai", "mistral-medium-3", "streamRawPredict", "openai.chat"),
    ],
)
def test_other_makers_on_vertex(maker: str, model: str, method: str, dialect: str) -> None:
    """The URL names the model that Vertex serves in its maker's shape."""
    found = route(f"aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/{maker}/models/{model}:{method}")
    assert (found.kind, found.dialect_name, found.provider) == ("metered", dialect, "vertex")
    assert found.model == model.replace("%40", "@")


def test_deployments_are_known_by_what_hosts_says() -> None:
    """In the URL, in the body, and in any case; the URL comes before the body."""
    models = {"my-gpt": "gpt-4o"}
    hosts = {"my-res.openai.azure.com": Place("openai", "azure", custom=True, models=models)}
    found = classify(Request("POST", "my-res.openai.azure.com", "/openai/deployments/My-GPT/embeddings"), hosts)
    target = Target(found.provider, found.model, found.models)
    assert target.model_of("other") == "gpt-4o"
    assert Target("azure", "", models).model_of("MY-gpt") == "gpt-4o"
    assert Target("azure", "", models).model_of("other") == "other"


@pytest.mark.parametrize(
    "target",
    [
        "api.openai.com/v1/uploads",
        "api.openai.com/v1/uploads/upload_1/parts",
        "api.openai.com/v1/moderations",
        "api.openai.com/v1/responses/input_tokens",
        "api.openai.com/v1/chat/completions/chatcmpl-1",
        "api.openai.com/v1/conversations/conv_1/items",
        "api.openai.com/v1/realtime/client_secrets",
        "api.openai.com/v1/realtime/translations/client_secrets",
        "api.anthropic.com/v1/messages/count_tokens",
        "api.anthropic.com/v1/messages/batches/b_1/cancel",
        "api.anthropic.com/v1/files",
        "api.anthropic.com/v1/oauth/token",
        "api.anthropic.com/api/event_logging/batch",
        "api.anthropic.com/api/oauth/claude_cli/create_api_key",
        "generativelanguage.googleapis.com/v1beta/models/g:countTokens",
        "generativelanguage.googleapis.com/upload/v1beta/files",
        "aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/g:countTokens",
        "aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict",
        "claude.googleapis.com/v1/projects/p/locations/l/workspaces/w/invoke/v1/messages/count_tokens",
        "bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/count-tokens",
        "bedrock-mantle.us-east-1.api.aws/anthropic/v1/messages/count_tokens",
        "api.deepseek.com/anthropic/v1/messages/count_tokens",
        "claude.internal.example/x/v1/messages/count_tokens",
        "openrouter.ai/chat",
        "my-res.cognitiveservices.azure.com/vision/v3.2/analyze",
        "api.together.xyz/v1/files",
        "my-res.services.ai.azure.com/anthropic/v1/messages/count_tokens",
    ],
)
def test_free_endpoints(target: str) -> None:
    """What providers bill nothing for passes."""
    assert route(target).kind == "free"


@pytest.mark.parametrize(
    ("target", "dialect"),
    [
        ("api.openai.com/v1/images/variations", "openai.chat"),
        ("api.fireworks.ai/inference/v1/workflows/accounts/fireworks/models/flux/text_to_image", "openai.chat"),
        ("api.openai.com/v1/videos", "openai.chat"),
        ("openrouter.ai/api/v1/audio/speech", "openai.chat"),
        ("api.together.xyz/v1/batches", "openai.chat"),
        ("api.openai.com/v1/realtime/calls", "openai.chat"),
        ("api.openai.com/v1/messages", "anthropic.messages"),
        ("api.openai.com/v1/something/new", "openai.chat"),
        ("api.openai.com/V1/Chat/Completions", "openai.chat"),
        ("api.openai.com/v1/files/../chat/completions", "openai.chat"),
        ("api.openai.com/v1/files/%2e%2e/chat/completions", "openai.chat"),
        ("api.openai.com/v1/files/%252e%252e/chat/completions", "openai.chat"),
        ("api.openai.com/v1\\chat/completions", "openai.chat"),
        ("api.openai.com/v1/chat/completions;a=b", "openai.chat"),
        ("api.openai.com/", "openai.chat"),
        ("api.openai.com", "openai.chat"),
        ("api.mistral.ai/v1/conversations", "openai.chat"),
        ("api.mistral.ai/v1/completions", "openai.chat"),
        ("openrouter.ai/api/v1/presets/mine/chat/completions", "openai.chat"),
        ("openrouter.ai/api/frontend/x", "openai.chat"),
        ("api.x.ai/xai_api.Chat/GetCompletion", "openai.chat"),
        ("openrouter.ai/api/v1/messages/batches", "openai.chat"),
        ("api.anthropic.com/v1/complete", "anthropic.messages"),
        ("api.anthropic.com/v1/sessions", "anthropic.messages"),
        ("api.anthropic.com/api/../v1/messages", "anthropic.messages"),
        ("aiplatform.googleapis.com/v1/projects/p/locations/global/batchPredictionJobs", "google.generate"),
        ("generativelanguage.googleapis.com/v1beta/models/veo-3.1-generate-001:predictLongRunning", "google.generate"),
        ("generativelanguage.googleapis.com/v1beta/agents", "google.generate"),
        ("generativelanguage.googleapis.com/v1beta/cachedContents", "google.generate"),
        ("generativelanguage.googleapis.com/v1beta/openai/images/generations", "openai.chat"),
        ("my-res.openai.azure.com/openai/deployments/d/extensions/chat/completions", "openai.chat"),
        ("my-res.openai.azure.com/openai/threads/runs", "openai.chat"),
        ("my-res.cognitiveservices.azure.com/OpenAI/v1/responses", "openai.chat"),
        ("bedrock-runtime.us-east-1.amazonaws.com/async-invoke", "bedrock.converse"),
        (
            "bedrock-runtime.us-east-1.amazonaws.com/model/amazon.nova-sonic-v1%3A0/invoke-with-bidirectional-stream",
            "bedrock.converse",
        ),
        ("bedrock-runtime.us-east-1.amazonaws.com/guardrail/abc/version/1/apply", "bedrock.converse"),
        ("bedrock-runtime.us-east-1.amazonaws.com/model/%252e%252e/converse", "bedrock.converse"),
        ("bedrock-agent-runtime.us-east-1.amazonaws.com/agents/a/agentAliases/b/sessions/c/text", "bedrock.converse"),
        ("bedrock-runtime.us-east-1.amazonaws.com/openai/v1/images/generations", "openai.chat"),
        ("claude.googleapis.com/v1/sessions", "anthropic.messages"),
        ("aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/meta/models/m:rawPredict", "google.generate"),
        ("aiplatform.googleapis.com/v1/projects/p/locations/l/batchPredictionJobs", "google.generate"),
        ("aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/123/chat/completions", "google.generate"),
        ("api.cohere.com/v1/chat", "cohere.chat"),
        ("api.cohere.com/v2/parse", "cohere.chat"),
        ("api.perplexity.ai/async/chat/completions", "openai.chat"),
        ("dashscope.aliyuncs.com/api/v1/services/aigc/text-generation/generation", "openai.chat"),
        ("api.voyageai.com/v1/multimodalembeddings", "openai.chat"),
        ("llm.internal.example/v1/images/generations", "openai.chat"),
        ("claude.internal.example/api/event_logging", "anthropic.messages"),
    ],
)
def test_everything_else_on_an_llm_host_is_unmetered(target: str, dialect: str) -> None:
    """Unknown, odd and not yet metered endpoints are never let through as free, and have a shape to be refused in."""
    found = route(target)
    assert (found.kind, found.upgrade) == ("unmetered", False)
    if "OpenAI" not in target:
        assert found.dialect_name == dialect


def test_reading_and_deleting_are_free() -> None:
    """GET, HEAD, OPTIONS and DELETE cost nothing anywhere, unless they stand for another method."""
    for method in ("GET", "HEAD", "OPTIONS", "DELETE", "get"):
        assert route("api.openai.com/v1/models", method).kind == "free"
        assert route("bedrock-runtime.us-east-1.amazonaws.com/x", method).kind == "free"
    target = "generativelanguage.googleapis.com/v1beta/models/g:generateContent"
    assert route(target, "GET", x_http_method_override="POST").kind == "unmetered"


@pytest.mark.parametrize(
    ("target", "method", "jobs"),
    [
        ("api.openai.com/v1/responses/resp_1", "GET", "openai.background"),
        ("api.openai.com/v1/responses/resp_1/cancel", "POST", "openai.background"),
        ("my-res.openai.azure.com/openai/v1/responses/resp_1", "GET", "openai.background"),
        ("my-res.services.ai.azure.com/api/projects/p/openai/v1/responses/resp_1", "GET", "openai.background"),
        ("llm.internal.example/some/v1/responses/resp_1/cancel", "POST", "openai.background"),
        ("bedrock-mantle.us-west-2.api.aws/openai/v1/responses/resp_1", "GET", "openai.background"),
        ("generativelanguage.googleapis.com/v1beta/interactions/v1_a", "GET", "google.background"),
        ("generativelanguage.googleapis.com/v1beta/interactions/v1_a/cancel", "POST", "google.background"),
        ("api.openai.com/v1/files", "POST", "openai.batch_jobs"),
        ("api.openai.com/v1/uploads/upload_1/complete", "POST", "openai.batch_jobs"),
        ("my-res.openai.azure.com/openai/files", "POST", "openai.batch_jobs"),
        ("api.openai.com/v1/files/file-1/content", "GET", "openai.batch_jobs"),
        ("api.openai.com/v1/batches", "GET", "openai.batch_jobs"),
        ("api.groq.com/openai/v1/batches/batch_1", "GET", "openai.batch_jobs"),
        ("api.openai.com/v1/batches/batch_1/cancel", "POST", "openai.batch_jobs"),
        ("api.mistral.ai/v1/batch/jobs/1", "GET", "mistral.batch_jobs"),
        ("openrouter.ai/api/v1/batches/b1", "GET", "openrouter.batch_jobs"),
        ("api.mistral.ai/v1/batch/jobs/1/cancel", "POST", "mistral.batch_jobs"),
        ("api.mistral.ai/v1/files/1/content", "GET", "mistral.batch_jobs"),
        ("api.anthropic.com/v1/messages/batches/b_1/results", "GET", "anthropic.batch_jobs"),
        ("generativelanguage.googleapis.com/v1beta/batches/b1", "GET", "google.batch_jobs"),
    ],
)
def test_what_tells_the_bill_of_a_job_is_watched(target: str, method: str, jobs: str) -> None:
    """It is read on its way, and nothing is admitted; the name is that of a job dialect."""
    found = route(target, method)
    assert (found.kind, found.dialect_name) == ("watched", jobs)
    assert jobs in JOBS


@pytest.mark.parametrize(
    ("target", "method", "kind"),
    [
        ("api.openai.com/v1/responses/resp_1", "DELETE", "free"),
        ("api.openai.com/v1/responses/resp_1", "POST", "unmetered"),
        ("api.openai.com/v1/responses/resp_1/input_items", "GET", "free"),
        ("api.openai.com/v1/responses", "GET", "free"),
        ("api.openai.com/v1/responses/input_tokens", "POST", "free"),
        ("chatgpt.com/backend-api/codex/responses/resp_1", "GET", "free"),
        ("api.openai.com/v1/files", "GET", "free"),
        ("api.openai.com/v1/files/file-1", "GET", "free"),
        ("api.mistral.ai/v1/files", "POST", "free"),
        ("api.anthropic.com/v1/messages/batches/b_1", "DELETE", "free"),
        ("generativelanguage.googleapis.com/v1beta/batches/b1:cancel", "POST", "free"),
    ],
)
def test_what_tells_no_bill_is_not_watched(target: str, method: str, kind: str) -> None:
    """The paths beside it are what they were."""
    assert route(target, method).kind == kind


def test_other_methods_are_unmetered_or_free_but_never_metered() -> None:
    """A PUT to a metered path is nothing we know."""
    assert route("api.openai.com/v1/chat/completions", "PUT").kind == "unmetered"
    assert route("api.openai.com/v1/files/x", "PATCH").kind == "free"


@pytest.mark.parametrize(
    ("target", "dialect"),
    [
        ("api.groq.com/openai/v1/responses", "openai.responses"),
        ("api.x.ai/v1/realtime", "openai.chat"),
        (
            "generativelanguage.googleapis.com/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiSurprise",
            "google.generate",
        ),
    ],
)
def test_a_websocket_is_an_upgrade_that_is_not_metered(target: str, dialect: str) -> None:
    """Over HTTP/1.1 and over h2, whatever the path."""
    for found in (route(target, "GET", upgrade="WebSocket"), route(target, "CONNECT")):
        assert (found.kind, found.dialect_name, found.upgrade) == ("unmetered", dialect, True)
    assert route("example.org/x", "GET", upgrade="websocket").kind == "foreign"


@pytest.mark.parametrize(
    ("target", "provider", "model"),
    [
        ("api.openai.com/v1/realtime", "openai", ""),
        ("eu.api.openai.com/v1/realtime", "openai", ""),
        ("my.openai.azure.com/openai/realtime", "azure", ""),
        ("my.openai.azure.com/openai/v1/realtime", "azure", ""),
        ("my.openai.azure.com/openai/deployments/voice/realtime", "azure", "voice"),
    ],
)
def test_realtime_is_metered_frame_by_frame(target: str, provider: str, model: str) -> None:
    """At OpenAI and Azure; what only opens a call by WebRTC is not metered."""
    found = route(target, "GET", upgrade="websocket")
    assert (found.kind, found.dialect_name, found.provider, found.model) == (
        "socket",
        "openai.realtime",
        provider,
        model,
    )
    assert route(f"{target}/calls", "POST").kind == "unmetered"


def test_responses_over_a_websocket_are_metered_frame_by_frame() -> None:
    """At OpenAI, Azure and xAI, whose protocol is known; over h2, or with another method, it would be no websocket to the proxy."""
    for host in ("api.openai.com", "eu.api.openai.com"):
        found = route(f"{host}/v1/responses", "GET", upgrade="websocket")
        assert (found.kind, found.dialect_name, found.provider) == ("socket", "openai.responses.socket", "openai")
        assert found.dialect_name in SOCKETS
    for host in ("my.openai.azure.com/openai", "api.x.ai"):
        assert route(f"{host}/v1/responses", "GET", upgrade="websocket").kind == "socket"
    for target, method in (("responses", "CONNECT"), ("responses", "POST"), ("responses/x", "GET")):
        found = route(f"api.openai.com/v1/{target}", method, upgrade="websocket")
        assert (found.kind, found.dialect_name) == ("unmetered", "openai.responses")


def test_grpc_is_never_free() -> None:
    """Its bodies are not read, whatever its path says."""
    assert route("api.x.ai/v1/files", content_type="application/grpc+proto").kind == "unmetered"


@given(st.text(), st.sampled_from(["api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com", "x.y"]))
def test_no_path_raises_and_every_route_can_be_refused(path: str, host: str) -> None:
    """Each route but a foreign one names a dialect that exists."""
    found = classify(Request("POST", host, path), {})
    assert found.kind == "foreign" or found.dialect_name in DIALECTS


@pytest.mark.parametrize(
    ("api", "provider", "path"),
    [
        ("openai", "openrouter", "/v1/audio/speech"),
        ("openai", "openrouter", "/openrouter/api/v1/videos"),
        ("openai", "opencode", "/v1beta/models/g:generateContent"),
        ("openai", "github-copilot", "/v1/rerank"),
    ],
)
def test_a_host_of_the_users_own_has_no_web_site(api: str, provider: str, path: str) -> None:
    """What is free at a provider's own host, which is its web site too, is not free behind another name."""
    places = {"gw.example": Place(api, provider, custom=True)}
    assert classify(Request("POST", "gw.example", path), places).kind == "unmetered"


@pytest.mark.parametrize(
    "target",
    [
        "openrouter.ai/API/v1/audio/speech",
        "r.cognitiveservices.azure.com/mai/v1/images/generations",
        "r.cognitiveservices.azure.com/contentunderstanding/analyzers/a:analyze",
        "open.bigmodel.cn/api/paas/v4/files/parser/sync",
        "open.bigmodel.cn/api/paas/v4/files/ocr",
    ],
)
def test_what_only_looks_free_is_unmetered(target: str) -> None:
    """Paid services that stand among free ones."""
    assert route(target).kind == "unmetered"
