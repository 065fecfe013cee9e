"""The official SDKs with an httpx client of ours under them, whatever that client's way to the provider is."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import anthropic
import httpx2
import openai
from google import genai

CUSTOM_HOST = "llm.example.net"
"""A host that only `hosts:` in caps.yaml knows."""
KEY = "sk-test-0123456789abcdef-distinctive-KEY9"
"""What the SDKs authenticate with; a test looks for it in everything that was written."""

TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class SDKs:
    """One client of each provider's SDK, on one shared HTTP client."""

    http: httpx2.Client
    openai: openai.OpenAI
    anthropic: anthropic.Anthropic
    google: genai.Client
    google_elsewhere: genai.Client
    """Google's API at a host of the user's own."""

    def close(self) -> None:
        """Close the connections."""
        self.http.close()


def make_sdks(http: httpx2.Client, *, max_retries: int = 2, timeout_s: float = TIMEOUT_SECONDS) -> SDKs:
    """Make the SDKs as a user would: with their own retries, and a key. Bodies that break their types raise."""
    return SDKs(
        http=http,
        openai=openai.OpenAI(
            api_key=KEY,
            http_client=http,
            max_retries=max_retries,
            timeout=timeout_s,
            _strict_response_validation=True,
        ),
        anthropic=anthropic.Anthropic(
            api_key=KEY,
            http_client=http,
            max_retries=max_retries,
            timeout=timeout_s,
            _strict_response_validation=True,
        ),
        google=genai.Client(
            api_key=KEY,
            http_options=genai.types.HttpOptions(httpx_client=http, timeout=round(timeout_s * 1000)),
        ),
        google_elsewhere=genai.Client(
            api_key=KEY,
            http_options=genai.types.HttpOptions(
                base_url=f"https://{CUSTOM_HOST}", httpx_client=http, timeout=round(timeout_s * 1000)
            ),
        ),
    )


class _Loopback(httpx2.HTTPTransport):
    """Takes every host to one loopback port; the name in SNI, certificate check and Host stays the real one."""

    def __init__(self, port: int, context: ssl.SSLContext, *, http2: bool) -> None:
        super().__init__(verify=context, http2=http2)
        self._port = port

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        request.extensions = {**request.extensions, "sni_hostname": request.url.host}
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return super().handle_request(request)


def straight_client(port: int, ca: Path, *, http2: bool) -> httpx2.Client:
    """Make an HTTP client that reaches the stand-in without a proxy."""
    context = ssl.create_default_context(cafile=str(ca))
    return httpx2.Client(transport=_Loopback(port, context, http2=http2), timeout=TIMEOUT_SECONDS, trust_env=False)


def proxied_client(proxy_port: int, ca: Path, *, http2: bool, user: str = "") -> httpx2.Client:
    """Make an HTTP client that goes through the proxy and trusts its CA only."""
    at = f"{user}@" if user else ""
    return httpx2.Client(
        proxy=f"http://{at}127.0.0.1:{proxy_port}",
        verify=ssl.create_default_context(cafile=str(ca)),
        http2=http2,
        timeout=TIMEOUT_SECONDS,
        trust_env=False,
    )


def proxied_async_client(proxy_port: int, ca: Path, *, http2: bool) -> httpx2.AsyncClient:
    """Make an asyncio HTTP client that goes through the proxy; on h2 its calls really share one connection.

    The synchronous client's do so badly: httpcore lets the one that waits for the socket keep the others from what has
    already arrived for them.
    """
    return httpx2.AsyncClient(
        proxy=f"http://127.0.0.1:{proxy_port}",
        verify=ssl.create_default_context(cafile=str(ca)),
        http2=http2,
        timeout=TIMEOUT_SECONDS,
        trust_env=False,
    )
