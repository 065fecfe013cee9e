"""Compatible hosts and Cohere through a real proxy, with their official SDKs and litellm as a library: bills, refusals,
cuts, and what nothing meters.

litellm asks for other versions of what the rest is tested with, so it has an environment of its own: its interpreter is
named by LLMCAP_LITELLM_PYTHON, and without it that test is left out.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cohere
import cohere.core
import httpx
import openai
import pytest
from mistralai.client import Mistral
from mistralai.client.errors import SDKError

from llmcap_addon.unclaimed import file_beside, read_unclaimed
from tests.e2e.harness import ROOT, Proxy, poll
from tests.fakes import compatible
from tests.fakes.cohere import HOST as COHERE_HOST
from tests.fakes.script import Script
from tests.fakes.sdks import KEY
from tests.fakes.server import ANTHROPIC_HOST, OPENAI_HOST, StandIn

PROMPT = "Say something, please. " * 20
HI: Any = [{"role": "user", "content": "Hi"}]
COMMAND, MISTRAL, OPENROUTER, SONAR = "command-a-03-2025", "mistral-large-2512", "openai/gpt-5-mini", "sonar"
HOSTS = (OPENAI_HOST, ANTHROPIC_HOST, COHERE_HOST, *compatible.HOSTS)
OAUTH = {"authorization": f"Bearer sk-ant-oat01-{KEY}", "user-agent": "claude-cli/2.1.0 (external, cli)"}


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Run the stand-ins."""
    with StandIn(tmp_path_factory.mktemp("compatible"), HOSTS) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def proxy(providers: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Run a proxy that only audits."""
    with Proxy(tmp_path_factory.mktemp("audit"), providers, "{caps: [], unmetered: allow}") as running:
        yield running
    running.assert_sound()


@pytest.fixture(autouse=True)
def fresh(providers: StandIn) -> None:
    """Forget what the last test did."""
    providers.reset()


def client(proxy: Proxy) -> httpx.Client:
    """Make the HTTP client that these SDKs take."""
    context = ssl.create_default_context(cafile=str(proxy.ca_path))
    return httpx.Client(proxy=f"http://127.0.0.1:{proxy.port}", verify=context, trust_env=False, timeout=30)


def cohere_client(proxy: Proxy) -> cohere.ClientV2:
    return cohere.ClientV2(api_key=KEY, httpx_client=client(proxy), log_warning_experimental_features=False)


def mistral_client(proxy: Proxy) -> Mistral:
    http: Any = client(proxy)
    return Mistral(api_key=KEY, client=http)


def check(proxy: Proxy, providers: StandIn, seen: Any, count: int, *marks: str) -> None:
    """The rows are the bills, call by call."""
    rows = proxy.settled(count, seen)
    providers.wait_idle()
    records = providers.billable()
    assert [row.cost for row in rows] == [record.cost_nanousd for record in records]
    assert all(row.cost > 0 and row.marks == frozenset(marks) for row in rows), rows
    assert [row.entry.model for row in rows] == [record.model for record in records]


def test_coheres_sdk_is_billed_by_its_billed_units(proxy: Proxy, providers: StandIn) -> None:
    """Chat whole and streamed, embeddings and a ranking; the text arrives as it was sent."""
    seen, sdk = proxy.rows(), cohere_client(proxy)
    messages: Any = [{"role": "user", "content": PROMPT}]
    answer = sdk.chat(model=COMMAND, messages=messages, documents=["a", "b"])
    assert answer.message.content is not None
    assert answer.message.content[0].text == " token" * 16  # type: ignore[union-attr]
    events: Any = sdk.chat_stream(model=COMMAND, messages=messages)
    texts = [event.delta.message.content.text for event in events if event.type == "content-delta"]
    assert "".join(texts) == " token" * 16
    sdk.embed(model="embed-v4.0", input_type="search_query", embedding_types=["float"], texts=["a b c", "d"])
    assert len(sdk.rerank(model="rerank-v3.5", query="a", documents=["b"] * 101).results) == 101
    check(proxy, providers, seen, 4)
    assert proxy.rows()[-1].usage.search_units == 2


def test_mistrals_sdk_is_billed_exactly(proxy: Proxy, providers: StandIn) -> None:
    """Its usage comes unasked, for it answers 422 to who asks."""
    seen, sdk = proxy.rows(), mistral_client(proxy)
    messages: Any = [{"role": "user", "content": PROMPT}]
    whole = sdk.chat.complete(model=MISTRAL, messages=messages)
    assert whole.choices[0].message.content == " token" * 16  # type: ignore[union-attr]
    with sdk.chat.stream(model=MISTRAL, messages=messages) as events:
        assert "".join(str(event.data.choices[0].delta.content or "") for event in events if event.data.choices) == (
            " token" * 16
        )
    check(proxy, providers, seen, 2)


@pytest.mark.parametrize(
    ("base_url", "model"),
    [("https://openrouter.ai/api/v1", OPENROUTER), ("https://api.perplexity.ai", SONAR)],
    ids=["openrouter", "perplexity"],
)
def test_what_a_provider_says_it_billed_is_posted(proxy: Proxy, providers: StandIn, base_url: str, model: str) -> None:
    """Whole and streamed, with OpenAI's SDK as both document it; the row says whose word it is."""
    seen = proxy.rows()
    sdk = openai.OpenAI(api_key=KEY, base_url=base_url, http_client=proxy.client())
    messages: Any = [{"role": "user", "content": PROMPT}]
    sdk.chat.completions.create(model=model, messages=messages, max_tokens=200)
    for _ in sdk.chat.completions.create(model=model, messages=messages, max_tokens=200, stream=True):
        pass
    check(proxy, providers, seen, 2, "billed")


def test_a_full_cap_refuses_each_sdk_once_and_cuts_a_stream(providers: StandIn, tmp_path: Path) -> None:
    """One request a call, with our message shown; and a live stream ends as Cohere ends one that fails."""
    with Proxy(tmp_path / "none", providers, "caps: [{name: none, limit: 0, per: ever}]") as refusing:
        with pytest.raises(cohere.core.ApiError) as error:
            cohere_client(refusing).chat(model=COMMAND, messages=HI)
        assert error.value.status_code == 402
        assert error.value.body["message"].startswith("LLMCap:")
        with pytest.raises(SDKError, match="LLMCap:"):
            mistral_client(refusing).chat.complete(model=MISTRAL, messages=HI)
        assert [row.state for row in refusing.rows()] == ["refused", "refused"]
    assert providers.billable() == []
    caps = "{shorten: never, wait: 0s, caps: [{name: small, limit: 0.05, per: ever}]}"
    with Proxy(tmp_path / "small", providers, caps) as cutting:
        providers.enqueue(Script(output_tokens=20_000, tokens_per_second=20_000))
        events = list(cohere_client(cutting).chat_stream(model=COMMAND, messages=HI))
        last: Any = events[-1]
        assert (last.type, last.delta.finish_reason) == ("message-end", "ERROR")
        assert last.delta.error.startswith("LLMCap:")
        [row] = cutting.settled(1)
        assert "cut" in row.marks
        providers.wait_idle()
        [record] = providers.billable()
        assert record.cost_nanousd <= row.cost <= 50_000_000


def test_plans_are_notional_and_unmetered_paths_are_listed(proxy: Proxy, providers: StandIn) -> None:
    """Claude Code signed in spends nothing; a path that nothing meters is in the report, also of a proxy that ended."""
    seen = proxy.rows()
    body = {"model": "claude-haiku-4-5", "max_tokens": 50, "messages": [{"role": "user", "content": PROMPT}]}
    with proxy.client() as http:
        assert http.post(f"https://{ANTHROPIC_HOST}/v1/messages", json=body, headers=OAUTH).status_code == 200
        http.post(f"https://{OPENAI_HOST}/v1/videos/video_68a3c1aa5e8f/remix?key={KEY}", json={})
    [row] = proxy.settled(1, seen)
    assert row.entry.billing == "plan"
    assert row.cost == providers.billable()[0].cost_nanousd > 0
    kept = file_beside(proxy.store_path)
    poll(kept.exists, "the list of unmetered paths", lambda: proxy.log)
    [path] = [one for one in read_unclaimed(kept) if "videos" in one.path]
    assert (path.method, path.host, path.path, path.forwarded) == ("POST", OPENAI_HOST, "/v1/videos/{id}/remix", 1)
    assert KEY not in kept.read_text("utf-8")
    command = [sys.executable, "-m", "llmcap_addon", "report", "--json", "--store", proxy.store_url]
    done = subprocess.run(
        [*command, "--config", str(proxy.config_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    report = json.loads(done.stdout)
    assert report["plans"]["calls"] == 1
    assert report["plans"]["posted_usd"] != "0"
    assert path.path in [one["path"] for one in report["unmetered"]]


LITELLM = """
import json, sys
import litellm
litellm.suppress_debug_info = True
ask = {"messages": [{"role": "user", "content": sys.argv[1]}], "api_key": sys.argv[2], "max_tokens": 100}
texts = []
for model in sys.argv[3:]:
    texts.append(litellm.completion(model=model, **ask).choices[0].message.content)
    stream = litellm.completion(model=model, stream=True, **ask)
    texts.append("".join(chunk.choices[0].delta.content or "" for chunk in stream))
print(json.dumps(texts))
"""


@pytest.mark.skipif("LLMCAP_LITELLM_PYTHON" not in os.environ, reason="LLMCAP_LITELLM_PYTHON names no interpreter")
def test_litellm_as_a_library_is_billed_exactly(proxy: Proxy, providers: StandIn) -> None:
    """Each provider in its own shape and by litellm's own paths, whole and streamed."""
    seen = proxy.rows()
    models = ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", f"mistral/{MISTRAL}", f"cohere_chat/{COMMAND}"]
    environment = {
        **os.environ,
        "HTTPS_PROXY": f"http://127.0.0.1:{proxy.port}",
        "SSL_CERT_FILE": str(proxy.ca_path),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    done = subprocess.run(
        [os.environ["LLMCAP_LITELLM_PYTHON"], "-c", LITELLM, PROMPT, KEY, *models],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [" token" * 16] * 8
    check(proxy, providers, seen, 8)
