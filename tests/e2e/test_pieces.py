"""What is billed by the piece, through a real proxy with the SDKs that there are: bills and refusals."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError

from tests.e2e.harness import Proxy
from tests.fakes import compatible, pieces
from tests.fakes.sdks import KEY
from tests.fakes.server import GOOGLE_HOST, OPENAI_HOST, StandIn

HOSTS = (OPENAI_HOST, GOOGLE_HOST, *compatible.HOSTS, *pieces.HOSTS)
IMAGEN = f"https://{GOOGLE_HOST}/v1beta/models/imagen-3.0-generate-001:predict"
DOCUMENT: Any = {"type": "document_url", "document_url": "data:application/pdf;base64," + "JVBE" * 700}
RANKING = {"model": "rerank-2", "query": "red", "documents": ["a fox", "a frog"]}


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Run the stand-ins."""
    with StandIn(tmp_path_factory.mktemp("pieces"), HOSTS) as stand_in:
        yield stand_in


def plain(proxy: Proxy) -> httpx.Client:
    """Make an HTTP client that goes through the proxy."""
    context = ssl.create_default_context(cafile=str(proxy.ca_path))
    return httpx.Client(proxy=f"http://127.0.0.1:{proxy.port}", verify=context, trust_env=False, timeout=30)


def mistral(proxy: Proxy) -> Mistral:
    """Make Mistral's SDK."""
    http: Any = plain(proxy)
    return Mistral(api_key=KEY, client=http)


def xai(proxy: Proxy) -> openai.OpenAI:
    """Make OpenAI's SDK, which xAI's document uses for pictures."""
    return openai.OpenAI(api_key=KEY, base_url=f"https://{pieces.XAI_HOST}/v1", http_client=proxy.client())


def test_pieces_are_billed_exactly(providers: StandIn, tmp_path: Path) -> None:
    """Pictures, pages, a search, a ranking, and a list of models: the rows are the bills."""
    with Proxy(tmp_path, providers, "caps: []") as proxy:
        http = plain(proxy)
        asked = {"instances": [{"prompt": "a fox"}], "parameters": {"sampleCount": 2}}
        assert len(http.post(IMAGEN, json=asked).raise_for_status().json()["predictions"]) == 2
        xai(proxy).images.generate(model="grok-imagine-image", prompt="a fox", n=3)
        sdk = mistral(proxy)
        assert len(sdk.ocr.process(model="mistral-ocr-4", document=DOCUMENT).pages) == 3
        sdk.ocr.process(model="mistral-ocr-4", document=DOCUMENT, pages=[0])
        http.post("https://api.perplexity.ai/search", json={"query": ["red", "green"]}).raise_for_status()
        http.post(f"https://{pieces.VOYAGE_HOST}/v1/rerank", json=RANKING).raise_for_status()
        router = openai.OpenAI(api_key=KEY, base_url="https://openrouter.ai/api/v1", http_client=proxy.client())
        router.chat.completions.create(
            model="openai/gpt-5-mini",
            messages=[{"role": "user", "content": "Hi"}],
            extra_body={"models": ["anthropic/claude-sonnet-4.5"], "provider": {"sort": "price"}},
        )
        rows = proxy.settled(7)
        providers.wait_idle()
        assert [row.cost for row in rows] == [record.cost_nanousd for record in providers.billable()]
        assert [sorted(row.marks) for row in rows] == [[], ["billed"], [], [], [], [], ["billed"]]
        assert rows[0].usage.output_images == 2
        assert rows[2].usage.pages == 3
        proxy.assert_sound()


def test_pieces_that_do_not_fit_are_refused_in_each_ones_shape(providers: StandIn, tmp_path: Path) -> None:
    """A cap of nothing: no SDK gets further, each shows the message, and no provider sees a request."""
    providers.reset()
    with Proxy(tmp_path, providers, "caps: [{name: none, limit: 0, per: ever}]") as proxy:
        refused = plain(proxy).post(IMAGEN, json={"instances": [{"prompt": "a fox"}]})
        assert refused.json()["error"]["message"].startswith("LLMCap:")
        with pytest.raises(openai.APIStatusError, match="LLMCap:"):
            xai(proxy).images.generate(model="grok-imagine-image", prompt="a fox")
        with pytest.raises(SDKError, match="LLMCap:"):
            mistral(proxy).ocr.process(model="mistral-ocr-4", document=DOCUMENT)
        answer = plain(proxy).post(f"https://{pieces.VOYAGE_HOST}/v1/rerank", json=RANKING)
        assert answer.status_code >= 400
        assert "LLMCap:" in answer.text
        assert [row.state for row in proxy.rows()] == ["refused"] * 4
    assert providers.billable() == []
