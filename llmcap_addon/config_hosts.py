"""The `hosts:` section of caps.yaml: further hosts that speak a known API, and the models behind deployments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from llmcap_addon.config_caps import read_name
from llmcap_addon.config_yaml import Place
from llmcap_addon.wire.hosts import normal_host, place_of

type Api = Literal["openai", "anthropic", "google", "bedrock"]

APIS: tuple[Api, ...] = ("openai", "anthropic", "google", "bedrock")
ZONES = ("global", "us", "eu", "us-gov", "regional")
"""Azure's deployment types: global, a data zone, a government's, one region (which costs as much as a data zone).
https://learn.microsoft.com/azure/ai-foundry/foundry-models/concepts/deployment-types"""

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})?(\.[a-z0-9_]([a-z0-9_-]{0,62})?)*", re.IGNORECASE)
_HOSTS_WORDS = "a mapping, like {llm.internal: {api: openai}}"
_DEPLOYMENTS_WORDS = "a mapping of deployments to their models, like {my-gpt: gpt-4o}"
_MODEL_WORDS = "the model behind the deployment, like gpt-4o"


@dataclass(frozen=True, slots=True)
class CustomHost:
    """A host of the user's own, and the API that it speaks."""

    api: Api
    provider: str
    """Whose prices apply, and what caps and reports call it; unless told, whose host it is known to be, or the API."""
    deployments: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Name of a deployment, in lower case → the model that it deploys."""
    zone: str = ""
    """Where the deployments are; empty when nobody says, which is priced as the dearest."""


def read_hosts(place: Place) -> Mapping[str, CustomHost]:
    """Read the section, by host in lower case."""
    hosts: dict[str, CustomHost] = {}
    for key, value in place.pairs(_HOSTS_WORDS) or ():
        name = read_host(key, value)
        fields = value.fields(("api", "provider", "deployments", "zone"))
        known = place_of(normal_host(key), {})
        if value.is_mapping and "api" not in fields:
            value.missing("api", ", ".join(APIS))
        api = fields["api"].choice(APIS) if "api" in fields else None
        provider = read_name(fields["provider"]) if "provider" in fields else (known.provider if known else api)
        deployments = _deployments(fields["deployments"]) if "deployments" in fields else {}
        if name is not None and api is not None and provider is not None:
            zone = fields["zone"].choice(ZONES) if "zone" in fields else None
            hosts[name] = CustomHost(api, provider.lower(), MappingProxyType(deployments), zone or "")
    return MappingProxyType(hosts)


def read_host(key: str, place: Place) -> str | None:
    """Read the name of a host; None, with a problem noted, for anything else."""
    if _HOST.fullmatch(key):
        return key.lower()
    place.unknown(key, "a host's name alone, like llm.example.com (no scheme, port or path)")
    return None


def _deployments(place: Place) -> dict[str, str]:
    # Azure takes a deployment's name in any case.
    found: dict[str, str] = {}
    for name, value in place.pairs(_DEPLOYMENTS_WORDS) or ():
        model = value.text(_MODEL_WORDS)
        if model is not None and (not model or not model.isprintable() or model != model.strip()):
            value.wrong(_MODEL_WORDS)
        elif model is not None:
            found[name.lower()] = model
    return found
