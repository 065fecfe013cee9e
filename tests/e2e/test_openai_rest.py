"""The rest of OpenAI, and Azure, through a real proxy with the official SDK: bills, refusals, cuts."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.e2e.harness import Proxy
from tests.fakes import openai_more
from tests.fakes.openai_more import AZURE_HOST, OTHER_AZURE_HOST
from tests.fakes.script import Script
from tests.fakes.sdks import KEY
from tests.fakes.server import OPENAI_HOST, StandIn

PROMPT = "Say something, please. " * 20
HI: Any = [{"role": "user", "content": PROMPT}]
AZURE = f"""
hosts:
  {AZURE_HOST}:
    api: openai
    zone: global
    deployments: {{my-gpt: gpt-4o, my-thinker: o4-mini, my-embedder: text-embedding-3-small}}
"""
PRICES = f"""
prices:
  {AZURE_HOST}:
    text-embedding-3-small: {{input: 0.02, output: 0}}
"""
AUDIT = f"caps: []\n{AZURE}{PRICES}"


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Run a stand-in for OpenAI and Azure."""
    with StandIn(tmp_path_factory.mktemp("rest"), (OPENAI_HOST, AZURE_HOST, OTHER_AZURE_HOST)) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def proxy(rest: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Run a proxy that only audits."""
    with Proxy(tmp_path_factory.mktemp("openai-rest"), rest, AUDIT) as running:
        yield running
    running.assert_sound()


@pytest.fixture(scope="module")
def refusing(rest: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Run a proxy under a cap of nothing."""
    caps = "{wait: 0s, caps: [{name: none, limit: 0, per: ever}]}"
    with Proxy(tmp_path_factory.mktemp("refusing"), rest, caps) as running:
        yield running
    running.assert_sound()


@pytest.fixture(autouse=True)
def _fresh(rest: StandIn) -> None:
    rest.wait_idle()
    rest.reset()


def plain(http: httpx2.Client) -> openai.OpenAI:
    return openai.OpenAI(api_key=KEY, http_client=http, _strict_response_validation=True)


def azure(http: httpx2.Client, version: str = "2024-10-21") -> openai.AzureOpenAI:
    return openai.AzureOpenAI(
        api_key=KEY, http_client=http, api_version=version, azure_endpoint=f"https://{AZURE_HOST}"
    )


def azure_v1(http: httpx2.Client) -> openai.OpenAI:
    """Azure without versions: OpenAI's own client, with another address."""
    return openai.OpenAI(api_key=KEY, http_client=http, base_url=f"https://{AZURE_HOST}/openai/v1/")


def recording(seconds: int = 2) -> tuple[str, bytes]:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8_000)
        sound.writeframes(bytes(16_000 * seconds))
    return "speech.wav", file.getvalue()


def _transcribe(http: httpx2.Client, model: str, **options: Any) -> object:
    answer = plain(http).audio.transcriptions.create(model=model, file=recording(), **options)
    return list(answer) if isinstance(answer, openai.Stream) else answer


def _chunks(stream: Any) -> str:
    """Take a stream to its end; a chunk that nobody asked for would have no choices."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.model)


CALLS: dict[str, Callable[[httpx2.Client], object]] = {
    "completions": lambda http: plain(http).completions.create(
        model="gpt-3.5-turbo-instruct", prompt=[PROMPT, "and you?"], n=2, best_of=3, max_tokens=20
    ),
    "completions streamed": lambda http: list(
        plain(http).completions.create(model="gpt-3.5-turbo-instruct", prompt=PROMPT, stream=True, max_tokens=50)
    ),
    "compact": lambda http: plain(http).responses.compact(model="gpt-5.1-codex", input=PROMPT),
    "whisper": lambda http: _transcribe(http, "whisper-1"),
    "transcribe": lambda http: _transcribe(http, "gpt-4o-transcribe"),
    "transcribe streamed": lambda http: _transcribe(http, "gpt-4o-transcribe", stream=True),
    "speech": lambda http: plain(http).audio.speech.create(model="tts-1", voice="alloy", input="Hello there.").read(),
    "images": lambda http: plain(http).images.generate(
        model="gpt-image-1.5", prompt="a cat", size="1024x1024", quality="low", n=2
    ),
    "images streamed": lambda http: list(
        plain(http).images.generate(
            model="gpt-image-1.5", prompt="a cat", size="1024x1024", quality="low", stream=True, partial_images=2
        )
    ),
    "image edits": lambda http: plain(http).images.edit(
        model="gpt-image-1.5", prompt="a cat", image=("a.png", b"\x89PNG\r\n\x1a\n" + bytes(40)), quality="low"
    ),
    "azure chat": lambda http: azure(http).chat.completions.create(model="My-GPT", messages=HI, max_tokens=50),
    "azure chat streamed": lambda http: _chunks(
        azure(http).chat.completions.create(model="my-gpt", messages=HI, stream=True)
    ),
    "azure v1 chat": lambda http: azure_v1(http).chat.completions.create(model="my-thinker", messages=HI),
    "azure v1 responses": lambda http: azure_v1(http).responses.create(model="my-gpt", input=PROMPT),
    "azure embeddings": lambda http: azure(http).embeddings.create(model="my-embedder", input=PROMPT),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_bill_is_exact(proxy: Proxy, rest: StandIn, name: str) -> None:
    """Each endpoint, through the official SDK, is billed to the nano-dollar, and the client gets its answer."""
    seen = proxy.rows()
    rest.enqueue(Script(output_tokens=37))
    with proxy.client() as http:
        assert CALLS[name](http)
    [row] = proxy.settled(1, seen)
    [record] = rest.seen_billable()
    assert row.cost == record.cost_nanousd > 0
    assert (row.state, row.status, row.marks, row.reserved) == ("posted", 200, frozenset(), 0)


@pytest.mark.parametrize("name", CALLS)
def test_what_does_not_fit_is_refused_at_once(refusing: Proxy, rest: StandIn, name: str) -> None:
    """A cap of nothing lets no call out, and the SDK shows why after one request."""
    seen = refusing.rows()
    with refusing.client() as http, pytest.raises(openai.APIStatusError, match=r"LLMCap: .*none"):
        CALLS[name](http)
    [row] = refusing.settled(1, seen)
    assert row.state == "refused"
    assert rest.seen_billable() == []


@pytest.mark.parametrize("name", ["completions streamed", "azure chat streamed", "transcribe streamed"])
def test_a_stream_that_runs_out_is_cut(rest: StandIn, tmp_path: Path, name: str) -> None:
    """A stream that outruns its cap ends with an error that the SDK raises, and never costs more than the cap."""
    limit = {"completions streamed": "0.003", "azure chat streamed": "0.015", "transcribe streamed": "0.015"}[name]
    caps = f"wait: 0s\ncaps: [{{name: small, limit: {limit}, per: ever}}]\n{AZURE}"
    with Proxy(tmp_path, rest, caps) as proxy:
        rest.enqueue(Script(output_tokens=1_900, tokens_per_second=4_000))
        with proxy.client() as http, pytest.raises(openai.APIError, match=r"LLMCap: .*small"):
            LONG[name](http)
        [row] = proxy.settled(1)
    [record] = rest.seen_billable()
    assert "cut" in row.marks
    assert record.cost_nanousd <= row.cost <= float(limit) * 10**9
    assert record.generated_tokens > 0


LONG: dict[str, Callable[[httpx2.Client], object]] = {
    "completions streamed": lambda http: list(
        plain(http).completions.create(model="gpt-3.5-turbo-instruct", prompt="a", stream=True, max_tokens=4_000)
    ),
    "azure chat streamed": lambda http: _chunks(
        azure_v1(http).chat.completions.create(model="my-gpt", messages=HI, stream=True, max_tokens=16_000)
    ),
    "transcribe streamed": lambda http: _transcribe(http, "gpt-4o-transcribe", stream=True),
}


def test_a_transcription_without_usage_is_billed_by_its_length(proxy: Proxy, rest: StandIn) -> None:
    """Plain text says nothing about a bill: what was uploaded is two seconds long, and a second is added."""
    seen = proxy.rows()
    with proxy.client() as http:
        assert _transcribe(http, "whisper-1", response_format="text") == "Hello there.\n"
    [row] = proxy.settled(1, seen)
    assert (row.cost, row.marks) == (300_000, frozenset({"estimated"}))


def test_a_deployment_nobody_mapped_is_billed_by_the_answer(proxy: Proxy, rest: StandIn) -> None:
    """The answer names the model; its zone is unknown, so the dearest is taken, a tenth above the global price."""
    seen = proxy.rows()
    with proxy.client() as http:
        client = openai.AzureOpenAI(
            api_key=KEY, http_client=http, api_version="2024-10-21", azure_endpoint=f"https://{OTHER_AZURE_HOST}"
        )
        client.chat.completions.create(model="prod", messages=HI, max_tokens=50)
    [row] = proxy.settled(1, seen)
    [record] = rest.seen_billable()
    assert row.cost == -(-record.cost_nanousd * 11 // 10)
    assert row.entry.model == "prod"


def test_an_old_version_of_azure_is_not_asked_for_usage(proxy: Proxy, rest: StandIn) -> None:
    """Before 2024-09-01 a request with `stream_options` is answered with 400; such a stream is counted, from above."""
    seen = proxy.rows()
    with proxy.client() as http:
        assert _chunks(
            azure(http, "2024-06-01").chat.completions.create(model="my-gpt", messages=HI, stream=True, max_tokens=20)
        )
    [row] = proxy.settled(1, seen)
    [record] = rest.seen_billable()
    assert "stream_options" not in record.json()
    assert row.marks == {"estimated"}
    assert row.cost >= record.cost_nanousd > 0


def test_a_prompt_that_azure_filtered_is_posted(proxy: Proxy, rest: StandIn) -> None:
    """Azure bills it although it answers 400, and says nothing of how much; an error for other reasons is free."""
    for code, state in (("content_filter", "posted"), ("invalid_value", "voided")):
        seen = proxy.rows()
        rest.enqueue(Script(status=400, error_body=openai_more.failure(code)))
        with proxy.client() as http, pytest.raises(openai.BadRequestError):
            azure(http).chat.completions.create(model="my-gpt", messages=HI, max_tokens=20)
        [row] = proxy.settled(1, seen)
        assert (row.state, row.cost > 0) == (state, state == "posted")
