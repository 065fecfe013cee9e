"""Hosts: whose LLM API a host is, and which API it speaks. Names as in the SDKs and the providers' documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Place:
    """What a host speaks."""

    api: str
    """"openai", "anthropic", "google", "bedrock", "cohere"."""
    provider: str
    """Whose prices apply."""
    metered: bool = True
    """False while nothing on it is understood: all of it is "unmetered"."""
    custom: bool = False
    """Named by the user: its paths may stand behind any prefix."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Deployment, in the URL or the body, in lower case → the model behind it."""
    zone: str = ""
    """Where the deployments are, if that decides their price; told by the user only."""


COPILOT = "github-copilot"
CHATGPT_HOST = "chatgpt.com"
"""Where Codex goes with a ChatGPT plan; all else on it passes as it is."""
CODE_ASSIST_HOST = "cloudcode-pa.googleapis.com"
"""Where Gemini CLI goes for a person who has signed in with Google."""

_HOSTS: Mapping[str, Place] = {
    "api.openai.com": Place("openai", "openai"),
    "api.anthropic.com": Place("anthropic", "anthropic"),
    "generativelanguage.googleapis.com": Place("google", "google"),
    "generativelanguage.mtls.googleapis.com": Place("google", "google"),
    "openrouter.ai": Place("openai", "openrouter"),
    "api.groq.com": Place("openai", "groq"),
    "api.deepseek.com": Place("openai", "deepseek"),
    "api.mistral.ai": Place("openai", "mistral"),
    "api.eu.mistral.ai": Place("openai", "mistral"),
    "api.us.mistral.ai": Place("openai", "mistral"),
    "codestral.mistral.ai": Place("openai", "mistral"),
    "api.x.ai": Place("openai", "xai"),
    "api.together.ai": Place("openai", "together"),
    "api.together.xyz": Place("openai", "together"),
    "api.fireworks.ai": Place("openai", "fireworks"),
    "api.cerebras.ai": Place("openai", "cerebras"),
    "api.perplexity.ai": Place("openai", "perplexity"),
    "api.cohere.com": Place("cohere", "cohere"),
    "api.cohere.ai": Place("cohere", "cohere"),
    "api.moonshot.ai": Place("openai", "moonshot"),
    "api.moonshot.cn": Place("openai", "moonshot"),
    "api.z.ai": Place("openai", "zai"),
    "open.bigmodel.cn": Place("openai", "zai"),
    "api.minimax.io": Place("openai", "minimax"),
    "api.minimaxi.com": Place("openai", "minimax"),
    "dashscope.aliyuncs.com": Place("openai", "dashscope"),
    "dashscope-intl.aliyuncs.com": Place("openai", "dashscope"),
    "dashscope-us.aliyuncs.com": Place("openai", "dashscope"),
    "router.huggingface.co": Place("openai", "huggingface"),
    "api.deepinfra.com": Place("openai", "deepinfra"),
    "ai-gateway.vercel.sh": Place("openai", "vercel"),
    "opencode.ai": Place("openai", "opencode"),
    "api.novita.ai": Place("openai", "novita"),
    "api.studio.nebius.ai": Place("openai", "nebius"),
    "api.studio.nebius.com": Place("openai", "nebius"),
    "api.tokenfactory.nebius.com": Place("openai", "nebius"),
    "api.sambanova.ai": Place("openai", "sambanova"),
    "inference.baseten.co": Place("openai", "baseten"),
    "api.voyageai.com": Place("openai", "voyage"),
    "api.jina.ai": Place("openai", "jina"),
    "api.githubcopilot.com": Place("openai", COPILOT),
    CHATGPT_HOST: Place("chatgpt", "openai"),
    CODE_ASSIST_HOST: Place("code-assist", "google"),
    # Anthropic's own API and prices, sold by Google; by AWS: below.
    "claude.googleapis.com": Place("anthropic", "anthropic"),
}

_BEDROCK = (
    r"(?:bedrock-(?:agent-)?runtime(?:-fips)?|bedrock-mantle)\.[a-z0-9-]+"
    r"\.(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|api\.aws|api\.amazonwebservices\.(?:com\.cn|eu)"
    r"|c2s\.ic\.gov|api\.aws\.ic\.gov|sc2s\.sgov\.gov|api\.aws\.scloud"
    r"|cloud\.adc-e\.uk|api\.cloud-aws\.adc-e\.uk|csp\.hci\.ic\.gov|api\.aws\.hci\.ic\.gov)"
    r"|vpce-[a-z0-9-]+\.bedrock-(?:(?:agent-)?runtime|mantle)\.[a-z0-9-]+\.vpce\.amazonaws\.com(?:\.cn)?"
)
"""In every partition and both stacks, by botocore's partitions.json; and endpoints within somebody's own network."""
_HOST_PATTERNS: tuple[tuple[re.Pattern[str], Place], ...] = tuple(
    (re.compile(pattern), place)
    for pattern, place in (
        # Data residency: us., eu., ae., au., in., jp. and what comes.
        (r"[a-z0-9-]+\.api\.openai\.com", Place("openai", "openai")),
        (r"[a-z0-9-]+\.api\.x\.ai", Place("openai", "xai")),
        # A plan's own host: individual, business, enterprise; and GitHub Enterprise's with data residency.
        (r"api\.[a-z]+\.githubcopilot\.com|copilot-api\.[a-z0-9-]+\.ghe\.com", Place("openai", COPILOT)),
        (r"[a-z0-9-]+\.openai\.azure\.com", Place("openai", "azure")),
        (r"[a-z0-9-]+\.services\.ai\.azure\.com", Place("openai", "azure")),
        (r"[a-z0-9-]+\.cognitiveservices\.azure\.com", Place("openai", "azure")),
        (_BEDROCK, Place("bedrock", "bedrock")),
        (r"(?:[a-z0-9-]+-)?aiplatform(?:\.mtls)?\.googleapis\.com", Place("google", "vertex")),
        (r"aiplatform\.[a-z0-9-]+\.rep(?:\.mtls)?\.googleapis\.com", Place("google", "vertex")),
        (r"aws-external-anthropic\.[a-z0-9-]+\.api\.aws", Place("anthropic", "anthropic")),
    )
)


_OF_FAMILIES = (
    "eu.api.openai.com",
    "eu.api.x.ai",
    "my.openai.azure.com",
    "my.services.ai.azure.com",
    "my.cognitiveservices.azure.com",
    "bedrock-runtime.us-east-1.amazonaws.com",
    "us-central1-aiplatform.googleapis.com",
    "aws-external-anthropic.us-east-1.api.aws",
)


def is_llm_host(host: str, hosts: Mapping[str, Place]) -> bool:
    """Tell whether a host is an LLM's; `hosts` are the user's own."""
    return place_of(normal_host(host), hosts) is not None


def known_hosts(hosts: Mapping[str, Place]) -> tuple[str, ...]:
    """Name the LLM hosts, the user's own too; of a family, one."""
    return (*_HOSTS, *_OF_FAMILIES, *hosts)


def metered_places() -> tuple[Place, ...]:
    """Give every place that is understood, families too."""
    places = [*_HOSTS.values(), *(place for _, place in _HOST_PATTERNS)]
    return tuple(place for place in places if place.metered)


def normal_host(host: str) -> str:
    """Write a host as we compare it: lower case, without the root's dot."""
    return host.strip().lower().removesuffix(".")


def place_of(host: str, hosts: Mapping[str, Place]) -> Place | None:
    """Give what a host (as `normal_host` writes it) speaks; None when it is no LLM's."""
    if host in hosts:
        return hosts[host]
    if host in _HOSTS:
        return _HOSTS[host]
    for pattern, place in _HOST_PATTERNS:
        if pattern.fullmatch(host):
            return place
    return None
