"""Vertex, Google's embeddings and interactions, and Anthropic's further models, through a real proxy with the official SDKs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import errors as google_errors
from google.genai import types
from google.oauth2.credentials import Credentials

from llmcap_addon.budget.ledger import Row
from tests.corpus.case import Case, of
from tests.e2e.harness import AUDIT, Proxy
from tests.fakes import directory, vertex
from tests.fakes.answer import Answer, Piece
from tests.fakes.script import Record, Script
from tests.fakes.sdks import KEY, SDKs
from tests.fakes.server import ANTHROPIC_HOST, GOOGLE_HOST, HOSTS, StandIn

PROMPT = "Say something."
HI: Any = [{"role": "user", "content": PROMPT}]
PROJECT = "a-project"


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Run the stand-ins, those of Vertex's hosts too."""
    with StandIn(tmp_path_factory.mktemp("providers"), (*HOSTS, *vertex.HOSTS)) as running:
        yield running


@pytest.fixture(scope="module")
def audit(providers: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Run a proxy that only audits."""
    with Proxy(tmp_path_factory.mktemp("vertex"), providers, AUDIT) as proxy:
        yield proxy
    proxy.assert_sound()


def claude(sdks: SDKs, region: str = vertex.REGION) -> anthropic.AnthropicVertex:
    return anthropic.AnthropicVertex(region=region, project_id=PROJECT, access_token="token", http_client=sdks.http)


def gemini(sdks: SDKs, location: str = vertex.REGION) -> genai.Client:
    return genai.Client(
        vertexai=True,
        project=PROJECT,
        location=location,
        credentials=Credentials(KEY),  # type: ignore[no-untyped-call]
        http_options=types.HttpOptions(httpx_client=sdks.http, timeout=30_000),
    )


class Check:
    """Compares the row of the one call between two looks with the stand-in's bill."""

    def __init__(self, proxy: Proxy, providers: StandIn) -> None:
        providers.reset()
        self.sdks = proxy.sdks()
        self._proxy, self._providers, self.seen = proxy, providers, proxy.rows()

    def exact(self, provider: str = "vertex") -> Row:
        [row] = self._proxy.settled(1, self.seen)
        self._providers.wait_idle()
        [record] = self._providers.billable()
        assert row.cost == record.cost_nanousd > 0
        assert (row.state, row.status, row.marks) == ("posted", 200, frozenset())
        assert (row.usage.input_tokens, row.usage.output_tokens) == (record.input_tokens, record.generated_tokens)
        assert (row.entry.provider, row.entry.host) == (provider, record.host)
        return row


@pytest.mark.parametrize("region", [vertex.REGION, "global"])
def test_claude(audit: Proxy, providers: StandIn, region: str) -> None:
    """AnthropicVertex is billed to the nano-dollar, streamed and not, in a region a tenth dearer; counting is free."""
    for streamed in (False, True):
        check = Check(audit, providers)
        script = Script(output_tokens=137, input_tokens=1_000, cached_tokens=300, cache_write_tokens=200)
        script.response_model = "claude-haiku-4-5-20251001"
        providers.enqueue(script)
        client = claude(check.sdks, region)
        asked: Any = {"model": "claude-haiku-4-5@20251001", "max_tokens": 1_000, "messages": HI}
        if streamed:
            with client.messages.stream(**asked) as stream:
                assert stream.get_final_text() == " token" * 137
        else:
            assert client.messages.create(**asked).usage.output_tokens == 137
        row = check.exact()
        assert row.entry.model == "claude-haiku-4-5@20251001"
        assert row.entry.streamed is streamed
    before = audit.rows()
    client.messages.count_tokens(model="claude-haiku-4-5@20251001", messages=HI)
    assert audit.rows() == before


@pytest.mark.parametrize(("model", "location"), [("gemini-3.6-flash", vertex.REGION), ("gemini-2.5-flash", "global")])
def test_gemini(audit: Proxy, providers: StandIn, model: str, location: str) -> None:
    """google-genai with `vertexai=True` is billed to the nano-dollar, streamed and not, thoughts included."""
    for streamed in (False, True):
        check = Check(audit, providers)
        providers.enqueue(Script(output_tokens=60, reasoning_tokens=40, input_tokens=500, cached_tokens=100))
        models = gemini(check.sdks, location).models
        if streamed:
            text = "".join(chunk.text or "" for chunk in models.generate_content_stream(model=model, contents=PROMPT))
        else:
            text = models.generate_content(model=model, contents=PROMPT).text or ""
        assert text == " token" * 60
        assert check.exact().usage.reasoning_tokens == 40


@pytest.mark.parametrize("model", ["gemini-embedding-001", "text-embedding-005"])
def test_embeddings(audit: Proxy, providers: StandIn, model: str) -> None:
    """Embeddings on Vertex, by whichever method the SDK asks, are billed for the tokens told."""
    check = Check(audit, providers)
    answer = gemini(check.sdks).models.embed_content(model=model, contents=["one text", "another"])
    assert len(answer.embeddings or ()) == 2
    check.exact()


def test_embeddings_of_the_gemini_api(audit: Proxy, providers: StandIn) -> None:
    """The Gemini API's embeddings are billed for the tokens told."""
    check = Check(audit, providers)
    answer = check.sdks.google.models.embed_content(model="gemini-embedding-001", contents=["one text", "another"])
    assert len(answer.embeddings or ()) == 2
    check.exact("google")


def test_compatible_chat(audit: Proxy, providers: StandIn) -> None:
    """The OpenAI-compatible endpoint is billed, also for a stream whose usage nobody asked for."""
    check = Check(audit, providers)
    url = f"https://{vertex.GLOBAL_HOST}/v1/projects/{PROJECT}/locations/global/endpoints/openapi"
    client = openai.OpenAI(api_key=KEY, base_url=url, http_client=check.sdks.http)
    chunks = list(client.chat.completions.create(model="google/gemini-2.5-flash", messages=HI, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    check.exact()


def test_refused_and_cut(providers: StandIn, tmp_path: Path) -> None:
    """Each SDK raises our message: for a stream that runs out of its cap, and for the call after it."""
    # Google bills an answer to its end, so its streams are reserved whole instead of being cut.
    caps = """
        wait: 0s
        caps:
          - {name: fuse, limit: 0.004, per: day, match: {model: "claude-*"}}
          - {name: tiny, limit: 0.000001, per: day, match: {model: "gemini-*"}}
    """
    with Proxy(tmp_path / "capped", providers, caps) as proxy:
        check = Check(proxy, providers)
        with pytest.raises(google_errors.APIError, match=r"LLMCap.*tiny"):
            gemini(check.sdks).models.generate_content(model="gemini-3.6-flash", contents=PROMPT)
        client = claude(check.sdks)
        asked: Any = {"model": "claude-haiku-4-5@20251001", "max_tokens": 16_000, "messages": HI}
        with pytest.raises(anthropic.APIStatusError, match=r"LLMCap.*fuse"):
            client.messages.create(**asked)
        assert len(providers.billable()) == 0
        proxy.assert_sound()


RECORDED = ["advisor.sse", "fallback_mid.sse", "fallback_before.json", "fallback_bio.json", "passes_1h.json"]


@contextmanager
def replayed(host: str, folder: str, name: str, until: bytes = b"") -> Iterator[Case]:
    """Let a stand-in answer every POST by a recorded body, up to some bytes of it; gives the case it is of."""
    [case] = [case for case in of(folder) if case.raw["response"] == name]
    kind = "text/event-stream; charset=utf-8" if case.streamed else "application/json"
    data = case.data
    answer = Answer(200, kind, [Piece(data.partition(until)[0] if until else data)])

    def replay(record: Record) -> directory.Endpoint | None:
        recorded = record.host == host and record.method == "POST"
        return directory.Endpoint("recorded", lambda *_: answer, billable=False) if recorded else None

    directory.FINDERS.insert(0, replay)
    try:
        yield case
    finally:
        directory.FINDERS.remove(replay)


@pytest.mark.parametrize("name", RECORDED)
def test_further_models_of_anthropic(audit: Proxy, providers: StandIn, name: str) -> None:
    """What the beta SDK asks of several models is posted at the sum that was worked out by hand."""
    check = Check(audit, providers)
    with replayed(ANTHROPIC_HOST, "anthropic", name) as case:
        body = {key: value for key, value in case.raw["request"].items() if key != "stream"}
        if name.endswith(".sse"):
            assert list(check.sdks.anthropic.beta.messages.create(**body, stream=True))
        else:
            assert check.sdks.anthropic.beta.messages.create(**body).usage.iterations
    [row] = audit.settled(1, check.seen)
    assert (row.cost, row.marks) == (case.raw["cost"], frozenset())


@pytest.mark.parametrize("name", ["advisor.sse", "fallback_mid.sse"])
def test_further_models_whose_bill_is_never_told(audit: Proxy, providers: StandIn, name: str) -> None:
    """A stream that ends after another model took over, without its usage, is posted from above for all of them."""
    check = Check(audit, providers)
    with replayed(ANTHROPIC_HOST, "anthropic", name, until=b"event: message_delta") as case:
        body = {key: value for key, value in case.raw["request"].items() if key != "stream"}
        assert list(check.sdks.anthropic.beta.messages.create(**body, stream=True))
    [row] = audit.settled(1, check.seen)
    assert "estimated" in row.marks
    assert row.cost > case.raw["cost"]


@pytest.mark.parametrize("name", ["interaction.json", "interaction_stream.sse"])
def test_interactions(audit: Proxy, providers: StandIn, name: str) -> None:
    """What google-genai reads as an interaction is posted at the sum that was worked out by hand."""
    check = Check(audit, providers)
    with replayed(GOOGLE_HOST, "google", name) as case:
        body = {key: value for key, value in case.raw["request"].items() if key != "stream"}
        if name.endswith(".sse"):
            events = list(check.sdks.google.interactions.create(**body, stream=True))
            assert events[-1].event_type == "interaction.completed"
        else:
            assert check.sdks.google.interactions.create(**body).usage.total_output_tokens == 60
    [row] = audit.settled(1, check.seen)
    assert (row.cost, row.marks) == (case.raw["cost"], frozenset())
