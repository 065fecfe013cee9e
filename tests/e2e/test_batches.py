"""Batches through a real proxy, with the official SDKs: reserved when they begin, billed when their results are seen."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Sequence
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest
from anthropic.types.messages.batch_create_params import Request as MessageRequest
from google.genai import errors, types
from mistralai.client import Mistral
from mistralai.client.errors import SDKError

from llmcap_addon.budget.ledger import Row
from tests.e2e.harness import Proxy, poll
from tests.fakes import batches
from tests.fakes.script import Script
from tests.fakes.sdks import KEY, SDKs
from tests.fakes.server import StandIn

PROMPTS = ["Say something, please. " * 20, "And now something else."]
GPT, CLAUDE, GEMINI, MISTRAL = "gpt-4o-mini", "claude-haiku-4-5", "gemini-2.5-flash", "mistral-large-2512"
ENDPOINT: Any = "/v1/chat/completions"


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Run the stand-ins."""
    with StandIn(tmp_path_factory.mktemp("batches"), batches.HOSTS) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def proxy(providers: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Run a proxy with a cap that small batches fit under."""
    caps = "{caps: [{name: day, limit: 0.05, per: day}], wait: 0s}"
    with Proxy(tmp_path_factory.mktemp("capped"), providers, caps) as running:
        yield running
    running.assert_sound()


@pytest.fixture(scope="module")
def sdks(proxy: Proxy) -> SDKs:
    """Make the SDKs."""
    return proxy.sdks(max_retries=0)


@pytest.fixture(autouse=True)
def fresh(providers: StandIn) -> None:
    """Forget what the last test did."""
    providers.reset()


def deferred(proxy: Proxy, seen: Sequence[Row]) -> Row:
    """Wait until the one new call is deferred, and give its row."""
    known = {row.entry.id for row in seen}
    found: list[Row] = []

    def there() -> bool:
        found[:] = [row for row in proxy.rows() if row.entry.id not in known and "deferred" in row.marks]
        return bool(found)

    poll(there, "a deferred row", proxy.rows)
    [row] = found
    assert row.state == "pending"
    return row


def check(proxy: Proxy, providers: StandIn, seen: Sequence[Row], reserved: Row) -> None:
    """The row is the bill, to the nano-dollar, and nothing is held any more."""
    [row] = proxy.settled(1, seen)
    [record] = providers.billable()
    assert row.entry.id == reserved.entry.id
    assert row.cost == record.cost_nanousd > 0
    assert (row.usage.input_tokens, row.usage.output_tokens) == (record.input_tokens, record.generated_tokens)
    assert row.entry.model == record.model
    assert proxy.totals("day").pending == 0


def jsonl(prompts: Sequence[str], **body: Any) -> bytes:
    lines = [
        {"custom_id": str(number), "method": "POST", "url": ENDPOINT, "body": {"model": GPT, **body, "messages": [
            {"role": "user", "content": prompt}]}}
        for number, prompt in enumerate(prompts)
    ]  # fmt: skip
    return b"\n".join(json.dumps(line).encode() for line in lines)


def test_openais_batch_is_billed_when_its_results_are_fetched(proxy: Proxy, providers: StandIn, sdks: SDKs) -> None:
    """File, batch, a look while it runs, one when it has ended, the results: each as the SDK expects it."""
    seen, sdk = proxy.rows(), sdks.openai
    file = sdk.files.create(file=("batch.jsonl", jsonl(PROMPTS, max_tokens=50)), purpose="batch")
    batch = sdk.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h")
    reserved = deferred(proxy, seen)
    assert sdk.batches.retrieve(batch.id).status == "in_progress"
    ended = sdk.batches.retrieve(batch.id)
    assert ended.output_file_id is not None
    assert proxy.rows()[-1].state == "pending"
    lines = [json.loads(line) for line in sdk.files.content(ended.output_file_id).text.splitlines()]
    assert [line["response"]["body"]["choices"][0]["message"]["content"] for line in lines] == [" token" * 16] * 2
    check(proxy, providers, seen, reserved)


def test_an_openai_batch_that_does_not_fit_or_is_unknown_is_refused(
    proxy: Proxy, providers: StandIn, sdks: SDKs
) -> None:
    """With the sum that it may cost, or with why nobody knows it; nothing reaches the provider."""
    sdk = sdks.openai
    large = sdk.files.create(file=("batch.jsonl", jsonl(PROMPTS * 20, max_tokens=16_000)), purpose="batch")
    mixed = sdk.files.create(
        file=("batch.jsonl", jsonl(PROMPTS) + b"\n" + jsonl(PROMPTS, model="gpt-4o")), purpose="batch"
    )
    for file, status, words in (
        (large.id, 429, "cap"),
        (mixed.id, 400, "line 3|request 3"),
        ("file-elsewhere", 400, "did not pass this proxy"),
    ):
        with pytest.raises(openai.APIStatusError, match=words) as refused:
            sdk.batches.create(input_file_id=file, endpoint=ENDPOINT, completion_window="24h")
        assert refused.value.status_code == status or words == "cap"
    assert providers.billable() == []


def test_anthropics_batch_is_billed_by_its_results(proxy: Proxy, providers: StandIn, sdks: SDKs) -> None:
    """Those that break off, or end early, settle nothing; and one that does not fit is refused."""
    seen, sdk = proxy.rows(), sdks.anthropic

    def requests(limit: int) -> list[MessageRequest]:
        return [
            {"custom_id": str(number), "params": {
                "model": CLAUDE, "max_tokens": limit, "messages": [{"role": "user", "content": prompt}]}}
            for number, prompt in enumerate(PROMPTS)
        ]  # fmt: skip

    with pytest.raises(anthropic.APIStatusError, match="LLMCap"):
        sdk.messages.batches.create(requests=requests(60_000))
    seen = proxy.rows()
    batch = sdk.messages.batches.create(requests=requests(50))
    reserved = deferred(proxy, seen)
    while sdk.messages.batches.retrieve(batch.id).processing_status != "ended":
        pass
    is_results = lambda record: record.path.endswith("/results")  # noqa: E731
    providers.enqueue(Script(when=is_results, rewrite=lambda number, data: b"" if number else data))
    providers.enqueue(Script(when=is_results, ending="reset"))
    assert len(list(sdk.messages.batches.results(batch.id))) == 1
    with pytest.raises((anthropic.APIConnectionError, httpx2.TransportError)):
        list(sdk.messages.batches.results(batch.id))
    assert deferred(proxy, seen).state == "pending"
    providers.enqueue(Script(when=is_results, encoding="gzip"))
    results = [result.result for result in sdk.messages.batches.results(batch.id)]
    assert [result.type for result in results] == ["succeeded", "succeeded"]
    check(proxy, providers, seen, reserved)


def test_googles_batch_is_billed_by_what_it_holds(proxy: Proxy, providers: StandIn, sdks: SDKs) -> None:
    """Its answers stand in it once it has ended; a file is refused with the reason."""
    with pytest.raises(errors.APIError, match="uploaded in pieces"):
        sdks.google.batches.create(model=GEMINI, src="files/abc")
    seen = proxy.rows()
    config = types.GenerateContentConfig(max_output_tokens=60)
    src = [types.InlinedRequest(contents=prompt, config=config) for prompt in PROMPTS]
    batch = sdks.google.batches.create(model=GEMINI, src=src)
    assert batch.name is not None
    reserved = deferred(proxy, seen)
    while not sdks.google.batches.get(name=batch.name).done:
        pass
    check(proxy, providers, seen, reserved)


def test_mistrals_batch_is_billed_by_its_file_of_results(proxy: Proxy, providers: StandIn) -> None:
    """Requests within the job; a file is refused with the reason."""
    http: Any = httpx.Client(
        proxy=f"http://127.0.0.1:{proxy.port}",
        verify=ssl.create_default_context(cafile=str(proxy.ca_path)),
        trust_env=False,
        timeout=30,
    )
    sdk = Mistral(api_key=KEY, client=http)
    with pytest.raises(SDKError, match="input_files"):
        sdk.batch.jobs.create(endpoint=ENDPOINT, model=MISTRAL, input_files=["f"])
    seen = proxy.rows()
    requests: Any = [
        {"custom_id": str(number), "body": {"max_tokens": 50, "messages": [{"role": "user", "content": prompt}]}}
        for number, prompt in enumerate(PROMPTS)
    ]
    job = sdk.batch.jobs.create(endpoint=ENDPOINT, model=MISTRAL, requests=requests)
    reserved = deferred(proxy, seen)
    while sdk.batch.jobs.get(job_id=job.id).status != "SUCCESS":
        pass
    output = sdk.batch.jobs.get(job_id=job.id).output_file
    assert len(sdk.files.download(file_id=str(output)).read().splitlines()) == 2
    check(proxy, providers, seen, reserved)
