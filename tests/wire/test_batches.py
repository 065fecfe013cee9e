from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest

from llmcap_addon.call import Call
from llmcap_addon.errors import UnreadableRequest
from llmcap_addon.usage import BATCH_PART, Reading, Share, Terms, Usage
from llmcap_addon.wire import batches
from llmcap_addon.wire.anthropic_batches import ANTHROPIC_BATCH_JOBS, ANTHROPIC_BATCHES
from llmcap_addon.wire.batches import BatchBill, as_parts
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.dialects import DIALECTS
from llmcap_addon.wire.google_batches import GOOGLE_BATCH_JOBS, GOOGLE_BATCHES
from llmcap_addon.wire.jobs import JobDialect, Outcome
from llmcap_addon.wire.mistral_batches import MISTRAL_BATCHES
from llmcap_addon.wire.openai_batch_watch import OPENAI_BATCH_JOBS
from llmcap_addon.wire.openai_batches import BATCHES
from llmcap_addon.wire.openrouter_batches import OPENROUTER_BATCHES
from tests.corpus.case import PRICES

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
HI: Any = [{"role": "user", "content": "Hi"}]


def request(host: str, path: str, body: Any, method: str = "POST") -> Request:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request(method, host, path, {}, {"content-type": "application/json"}, data)


def anthropic(*params: Any) -> Call:
    body = {"requests": [{"custom_id": str(number), "params": one} for number, one in enumerate(params)]}
    return ANTHROPIC_BATCHES.parse(
        request("api.anthropic.com", "/v1/messages/batches", body), Target("anthropic"), "test"
    )


def google(*bodies: Any, **config: Any) -> Call:
    given = {"requests": {"requests": [{"request": one} for one in bodies]}, **config}
    path = "/v1beta/models/gemini-2.5-flash:batchGenerateContent"
    body = {"batch": {"inputConfig": given}}
    return GOOGLE_BATCHES.parse(request("generativelanguage.googleapis.com", path, body), Target("google"), "test")


def mistral(*bodies: Any, **members: Any) -> Call:
    made = {"endpoint": CHAT, "model": "mistral-large-2512", "requests": [{"body": one} for one in bodies], **members}
    return MISTRAL_BATCHES.parse(request("api.mistral.ai", "/v1/batch/jobs", made), Target("mistral"), "test")


def openrouter(*bodies: Any, **members: Any) -> Call:
    made = {"endpoint": CHAT, "model": "openai/gpt-5-mini", "requests": [{"body": one} for one in bodies], **members}
    return OPENROUTER_BATCHES.parse(request("openrouter.ai", "/api/v1/batches", made), Target("openrouter"), "test")


def line(body: Any, url: Any = CHAT) -> bytes:
    return json.dumps({"custom_id": "1", "method": "POST", "url": url, "body": body}).encode()


def upload(*lines: bytes, purpose: str = "batch", provider: str = "openai") -> list[Call]:
    body = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + purpose.encode()
    body += b'\r\n--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' + b"\n".join(lines)
    made = Request(
        "POST", "api.openai.com", "/v1/files", {}, {"content-type": "multipart/form-data; boundary=x"},
        body + b"\r\n--x--\r\n",
    )  # fmt: skip
    return list(OPENAI_BATCH_JOBS.watch(made, Target(provider), "test").stored_calls())


def begin(body: Any) -> Call:
    return BATCHES.parse(request("api.openai.com", "/v1/batches", body), Target("openai"), "")


GPT = {"model": "gpt-4o-mini", "messages": HI}
CLAUDE = {"model": "claude-haiku-4-5", "max_tokens": 10, "messages": HI}


@pytest.mark.parametrize(
    ("parse", "why"),
    [
        (lambda: upload(line(GPT), line({**GPT, "model": "gpt-4o"})), "request 2 .*'gpt-4o'.* one model"),
        (lambda: upload(line(GPT), line({**GPT, "service_tier": "priority"})), "request 2 .*service tier"),
        (lambda: upload(line(GPT), b"{"), "line 2 of the file: .*not valid JSON"),
        (lambda: upload(b'{"custom_id": "1"}'), "line 1 .*no `body`"),
        (lambda: upload(line(GPT, 7)), "line 1 .*url"),
        (lambda: upload(line(GPT, "/v1/images/generations")), "images/generations.* not metered in a batch"),
        (lambda: upload(line(GPT, "/v1/videos")), "videos"),
        (lambda: upload(line({**GPT, "web_search_options": {}})), "searches"),
        (lambda: upload(line({"model": "gpt-5", "input": "Hi", "background": True}, RESPONSES)), "background"),
        (lambda: begin({}), "input_file_id"),
        (lambda: begin({"input_file_id": "f", "input_blob": "https://h/blob"}), "input_blob"),
        (lambda: begin({"input_blob": "https://h/blob"}), "input_blob"),
        (anthropic, "no requests"),
        (lambda: anthropic(CLAUDE, {"model": "claude-haiku-4-5"}), r"requests\[1\]: messages"),
        (lambda: anthropic(None), r"requests\[0\]: it holds no `params`"),
        (lambda: anthropic({**CLAUDE, "speed": "fast"}), "speed"),
        (lambda: anthropic({**CLAUDE, "fallbacks": [{"model": "claude-sonnet-5"}]}), "further models"),
        (lambda: google(fileName="files/a"), "uploaded in pieces"),
        (lambda: google(file_name="files/a"), "uploaded in pieces"),
        (lambda: google({"contents": [], "model": "models/gemini-2.5-pro"}), "another model"),
        (lambda: google({"contents": [], "serviceTier": "PRIORITY"}), "service tier"),
        (lambda: google("?"), r"requests\[0\]: it holds no `request`"),
        (lambda: mistral(input_files=["f"]), "input_files"),
        (lambda: mistral(agent_id="a"), "agent_id"),
        (lambda: mistral({"messages": HI, "model": "other"}), "another model"),
        (lambda: mistral({"messages": HI}, endpoint="/v1/ocr"), "ocr"),
        (lambda: mistral({"messages": HI}, model=None), "model"),
        (lambda: openrouter({"messages": HI, "model": "other"}), "another model"),
        (lambda: openrouter({"messages": HI, "models": ["openai/gpt-5", "openai/gpt-5-mini"]}), "further models"),
        (lambda: openrouter({"messages": HI}, endpoint="/v1/images"), "not metered in a batch"),
    ],
)  # fmt: skip
def test_what_nobody_could_bill_is_refused_with_its_reason(parse: Callable[[], object], why: str) -> None:
    """The message says which request it is, and what is wrong."""
    with pytest.raises(UnreadableRequest, match=why):
        parse()


def test_each_request_is_read_as_its_endpoint_reads_it() -> None:
    """With the batch's terms, unstreamed, of its own dialect; models stand in the request, the job or the path."""
    chats = upload(line({**GPT, "stream": True, "max_tokens": 7}), b"", line({**GPT, "service_tier": "flex"})[:0])
    assert [(one.dialect, one.max_output_tokens, one.streamed) for one in chats] == [("openai.chat", 7, False)]
    assert {one.terms for one in chats} == {Terms(BATCH_PART)}
    [other] = upload(line({"model": "gpt-5", "input": "Hi"}, RESPONSES))
    assert other.dialect == "openai.responses"
    made = mistral({"messages": HI}, {"model": "mistral-large-2512", "messages": HI})
    assert [one.model for one in made.parts] == ["mistral-large-2512"] * 2
    assert made.model == "mistral-large-2512"
    assert google({"contents": [{"parts": [{"text": "Hi"}]}]}).parts[0].model == "gemini-2.5-flash"
    assert anthropic(CLAUDE, CLAUDE).parts[1].dialect == "anthropic.messages"


def test_other_uploads_are_no_business_of_ours() -> None:
    """A file with another purpose holds no requests."""
    assert upload(b"anything", purpose="assistants") == []


def test_a_file_uploaded_in_parts_is_known_but_not_bounded() -> None:
    """So that a batch of it is refused with that reason."""
    made = request("api.openai.com", "/v1/uploads/upload_1/complete", {"part_ids": ["a", "b"]})
    watch = OPENAI_BATCH_JOBS.watch(made, Target("openai"), "")
    with pytest.raises(UnreadableRequest, match="uploaded in parts"):
        watch.stored_calls()
    watch.begin(ResponseHead(200))
    watch.feed(b'{"id": "upload_1", "object": "upload", "status": "completed", "file": {"id": "file-1"}}')
    assert watch.end() == ()
    assert watch.stored == "file-1"


def test_the_number_of_requests_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of requests, and of answers."""
    monkeypatch.setattr(batches, "MAX_REQUESTS", 2)
    with pytest.raises(UnreadableRequest, match="more than 2 requests"):
        anthropic(CLAUDE, CLAUDE, CLAUDE)
    bill = BatchBill()
    for _ in range(3):
        bill.take(Reading(usage=Usage(1), final=True))
    assert bill.reading().unreadable
    assert bill.reading().usage is None


def test_a_bill_is_the_sum_of_its_shares_at_the_batchs_terms() -> None:
    """Ordinary tiers are the batch's; a dearer one that an answer names is believed; failed answers cost nothing."""
    bill = BatchBill()
    bill.take(Reading(usage=Usage(10, 5), final=True, model="a", terms=Terms("default", geography="us")))
    bill.take(Reading(failed=True, final=True))
    bill.take(Reading(usage=Usage(1, 1), final=True, model="a", billed=0))
    own = (Share(Usage(3), "b", Terms("standard", "fast")), Share(Usage(4)))
    bill.take(Reading(usage=Usage(7), final=True, model="a", shares=own, terms=Terms("priority")))
    reading = bill.reading()
    assert reading.usage == Usage(17, 5)
    assert reading.final
    assert [(share.model, share.terms) for share in reading.shares] == [
        ("a", Terms("batch", geography="us")),
        ("b", Terms("batch", "fast")),
        ("a", Terms("priority")),
    ]
    assert reading.model == ""
    assert (bill.requests, bill.answered) == (4, 3)


@pytest.mark.parametrize(
    "reading",
    [Reading(), Reading(usage=Usage(1)), Reading(unreadable="it is odd"), Reading(usage=Usage(1), final=True, unreadable="x")],
)  # fmt: skip
def test_an_answer_without_a_last_word_spoils_the_bill(reading: Reading) -> None:
    """What is not known is never left out of a sum."""
    bill = BatchBill()
    bill.take(Reading(usage=Usage(10, 5), final=True))
    bill.take(reading)
    assert not bill.reading().final
    assert bill.reading().unreadable


def look(jobs: JobDialect, path: str, provider: str, *bodies: Any) -> dict[str, Outcome]:
    watch = jobs.watch(request("h", path, b"", "GET"), Target(provider), "")
    watch.begin(ResponseHead(200))
    for body in bodies:
        watch.feed(body if isinstance(body, bytes) else json.dumps(body).encode() + b"\n")
    return {outcome.job: outcome for outcome in watch.end()}


def batch(**members: Any) -> dict[str, Any]:
    return {"id": "b", "object": "batch", "endpoint": CHAT, "status": "completed", **members}


USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


@pytest.mark.parametrize(
    ("told", "ends"),
    [
        (batch(status="in_progress", output_file_id="f"), None),
        (batch(status="cancelling", request_counts={"completed": 0}), None),
        (batch(status="cancelled"), None),
        (batch(status="expired", request_counts={"completed": 3}), None),
        (batch(status="failed"), "void"),
        (batch(status="failed", request_counts={"total": 2, "completed": 0, "failed": 2}), "void"),
        (batch(status="failed", request_counts={"total": 2, "completed": 1, "failed": 1}), None),
        (batch(status="failed", request_counts={"total": 2, "completed": 1}, output_file_id="f"), "later"),
        (batch(status="CANCELLED", request_counts={"completed": 0}), "void"),
        (batch(output_file_id="f", request_counts={"completed": 0}), "later"),
        (batch(output_file_id="f", request_counts={"total": 0, "completed": 0, "failed": 0}), "later"),
        (batch(output_file_id="f", request_counts={"total": 2, "completed": 0, "failed": 2}), "void"),
        (batch(output_file_id="f", model="gpt-5", usage=USAGE), "later"),
        (batch(output_file_id="f", model="gpt-4o-audio-preview", usage=USAGE), "later"),
        (batch(output_file_id="f", model="gpt-4o", usage={**USAGE, "input_tokens": -1}), "later"),
        (batch(output_file_id="f", model="gpt-4o", endpoint=RESPONSES, usage=USAGE), "later"),
        (batch(output_file_id="f", model="gpt-4o", usage=dict.fromkeys(USAGE, 0)), "later"),
        (batch(output_file_id="f", model="gpt-4o", usage=USAGE), "now"),
        (batch(model="gpt-4.1-mini-2025-04-14", usage=USAGE), "now"),
        (batch(output_file_id="f", model="m", endpoint="/v1/embeddings", usage=USAGE), "now"),
        ({"error": {"message": "no such batch"}}, None),
        ([], None),
        (7, None),
    ],
)
def test_a_batch_tells_its_bill_only_where_its_usage_is_all_of_it(told: Any, ends: str | None) -> None:
    """Elsewhere the file of its results does, and where nothing was done nothing is billed."""
    outcomes = look(OPENAI_BATCH_JOBS, "/v1/batches/b", "openai", told)
    if ends is None:
        assert outcomes == {}
        return
    outcome = outcomes["b"]
    assert (outcome.reading.failed and outcome.reading.final) == (ends == "void")
    assert (outcome.reading.usage is not None) == (ends == "now")
    if ends == "later":
        assert outcome.also == ("f",)
        assert not outcome.reading.final


def test_plain_models_bill_nothing_that_a_batchs_usage_leaves_out() -> None:
    """No longer prompts, no cache writes: a model of these families with a price for either would be read wrongly."""
    day = date(2026, 11, 23)
    for entry in PRICES.table.entries("openai"):
        if entry.kind != "chat" or not look(
            OPENAI_BATCH_JOBS, "/v1/batches/b", "openai", batch(model=entry.name, usage=USAGE)
        ):
            continue
        levels = entry.card(day).levels
        assert len(levels) == 1, entry.name
        assert not any("cache_write" in row or "audio_input" in row for row in levels[0][1].values()), entry.name


@pytest.mark.parametrize(
    "body",
    [
        {"object": "chat.completion", "choices": []},
        {"object": "image"},
        {"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": -1, "completion_tokens": 1}},
        "text",
        None,
    ],
)
def test_results_that_can_not_be_read_settle_nothing(body: Any) -> None:
    """One of them is enough: the batch stays reserved."""
    answer = {"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    lines = [{"custom_id": "1", "response": {"status_code": 200, "body": one}, "error": None} for one in (answer, body)]
    assert look(OPENAI_BATCH_JOBS, "/v1/files/f/content", "openai", *lines) == {}
    assert look(OPENAI_BATCH_JOBS, "/v1/files/f/content", "openai", lines[0])["f"].reading.usage == Usage(1, 1)


def test_errors_that_azure_bills_leave_a_batch_reserved() -> None:
    """It says that it bills a prompt that its filter stopped, and not how much; nobody else does."""
    error = {"error": {"code": "content_filter", "message": "filtered"}}
    line = {"custom_id": "1", "response": {"status_code": 400, "body": error}, "error": None}
    assert look(OPENAI_BATCH_JOBS, "/openai/files/f/content", "azure", line) == {}
    assert look(OPENAI_BATCH_JOBS, "/v1/files/f/content", "openai", line)["f"].reading.failed


@pytest.mark.parametrize(
    ("counts", "ends"),
    [
        ({"total": 2, "completed": 2, "failed": 0}, "later"),
        ({"total": 2, "completed": 1, "failed": 1}, None),
        ({"total": 2, "completed": 0, "failed": 2}, None),
        ({"total": 2, "completed": 2}, None),
        ({"failed": False}, None),
        (None, None),
    ],
)
def test_an_azure_batch_with_failed_requests_stays_reserved(counts: Any, ends: str | None) -> None:
    """They stand in a file of their own, and Azure bills some of them; the file of results would leave them out."""
    told = batch(output_file_id="f", error_file_id="e", request_counts=counts)
    outcomes = look(OPENAI_BATCH_JOBS, "/openai/batches/b", "azure", told)
    assert [outcome.also for outcome in outcomes.values()] == ([("f",)] if ends else [])
    unbegun = batch(status="failed", request_counts={"total": 0, "completed": 0, "failed": 0})
    assert look(OPENAI_BATCH_JOBS, "/openai/batches/b", "azure", unbegun)["b"].reading.failed


@pytest.mark.parametrize(("status", "known"), [(200, True), (201, True), (202, False), (206, False), (400, False)])
def test_an_upload_is_known_however_it_is_answered(status: int, *, known: bool) -> None:
    """Azure answers one with 201 (`Files_Upload` of its data-plane API); a part of an answer is none."""
    made = request("h", "/openai/files", b"")
    watch = OPENAI_BATCH_JOBS.watch(made, Target("azure"), "")
    watch.begin(ResponseHead(status))
    watch.feed(b'{"id": "file-1"}')
    watch.end()
    assert watch.stored == ("file-1" if known else "")


def test_a_file_of_anything_else_settles_nothing() -> None:
    """People download files that are no results."""
    for data in (b"", b"\n", b"{}", b"a,b\n1,2\n", b"\xff\xfe", b'{"response": {}}', b"[" * 100_000):
        assert look(OPENAI_BATCH_JOBS, "/v1/files/f/content", "openai", data) == {}
        assert look(ANTHROPIC_BATCH_JOBS, "/v1/messages/batches/b/results", "anthropic", data) == {}
        assert look(GOOGLE_BATCH_JOBS, "/v1beta/batches/b", "google", data) == {}


def test_googles_answers_without_all_their_usage_settle_nothing() -> None:
    """As when a field mask took it out."""

    def operation(*answers: Any, **members: Any) -> dict[str, Any]:
        output = {"inlinedResponses": {"inlinedResponses": list(answers)}}
        return {"name": "batches/b", "metadata": {"state": "BATCH_STATE_SUCCEEDED", "output": output, **members}}

    good = {"response": {"candidates": [], "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}}}
    assert look(GOOGLE_BATCH_JOBS, "/v1beta/batches/b", "google", operation(good))["batches/b"].reading.final
    unusable: tuple[Any, ...] = ({"response": {"candidates": []}}, {}, {"response": 1}, None)
    for bad in unusable:
        assert look(GOOGLE_BATCH_JOBS, "/v1beta/batches/b", "google", operation(good, bad)) == {}
    assert look(GOOGLE_BATCH_JOBS, "/v1beta/batches/b", "google", operation(batchStats={"requestCount": "1"})) == {}
    assert look(GOOGLE_BATCH_JOBS, "/v1beta/batches/b", "google", operation()) == {}
    masked = Request("GET", "h", "/v1beta/batches/b", {"fields": "name"})
    watch = GOOGLE_BATCH_JOBS.watch(masked, Target("google"), "")
    watch.begin(ResponseHead(200))
    watch.feed(json.dumps(operation(good)).encode())
    assert watch.end() == ()


def test_an_answer_is_read_once() -> None:
    """Whoever asks again is told nothing new."""
    watch = ANTHROPIC_BATCH_JOBS.watch(request("h", "/v1/messages/batches/b", b"", "GET"), Target("anthropic"), "")
    watch.begin(ResponseHead(200))
    watch.feed(b'{"id": "b", "processing_status": "ended", "request_counts": {"succeeded": 0}}')
    assert [outcome.job for outcome in watch.end()] == ["b"]
    assert watch.end() == ()
    assert list(watch.stored_calls()) == []


def test_a_batch_is_never_changed_and_refused_as_its_provider_refuses() -> None:
    """Sent as it came; an error body that the SDK of its provider understands."""
    call = anthropic(CLAUDE)
    for name in ("openai.batches", "mistral.batches", "anthropic.batches", "google.batches"):
        dialect = DIALECTS[name]
        assert dialect.amend(call, b"{}", 5) == b"{}"
        meter = dialect.meter(call, b"{}", ResponseHead(500), len)
        meter.feed(b"oops")
        meter.end()
        assert meter.reading.failed
        odd = dialect.meter(call, b"{}", ResponseHead(200), len)
        odd.feed(b'{"id": 7, "name": ""}')
        odd.end()
        assert odd.reading.unreadable
        assert odd.reading.job == ""


def test_parts_are_taken_as_they_come() -> None:
    """A file of the largest size is never held as calls."""
    calls = iter(anthropic(CLAUDE, CLAUDE).parts)
    assert next(iter(as_parts(calls))).terms == Terms(BATCH_PART)
    assert len(list(calls)) == 1


@pytest.mark.parametrize("word", ["batch", "BATCH", "Batch"])
def test_no_request_can_claim_to_be_a_part_of_a_batch(word: str) -> None:
    """However it spells the word, it is an ordinary one's, in every shape that takes a tier."""
    body = {"model": "m", "service_tier": word, "messages": [], "input": "", "prompt": "", "max_tokens": 1}
    for name in ("openai.chat", "openai.completions", "openai.responses", "openai.images", "anthropic.messages"):
        call = DIALECTS[name].parse(Request("POST", "h", "/", body=json.dumps(body).encode()), Target("openai"), "")
        assert call.terms == Terms("batch")
    google = {"contents": [], "serviceTier": word}
    asked = Request("POST", "h", "/v1beta/models/m:generateContent", body=json.dumps(google).encode())
    assert DIALECTS["google.generate"].parse(asked, Target("google", "m"), "").terms.service_tier != BATCH_PART
