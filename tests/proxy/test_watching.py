"""Watched requests: they cost nothing, their answers pass as they are, and what these tell is settled."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest
from mitmproxy import http
from mitmproxy.proxy.layers.http._events import ErrorCode, ResponseEndOfMessage, ResponseProtocolError

from llmcap_addon.call import Call
from llmcap_addon.proxy import watching
from llmcap_addon.usage import Reading
from llmcap_addon.wire.dialect import Request, ResponseHead, Target
from llmcap_addon.wire.jobs import JobDialect, Outcome, Watch
from tests.gate.house import GPT_4O
from tests.proxy.addon import Proxy
from tests.proxy.stream import STREAM_ID, Driver

DATA = Path(__file__).parents[1] / "data" / "openai"
BEGIN = json.dumps({"model": "o4-mini", "input": "word " * 1_190, "background": True, "max_output_tokens": 1_000})
QUEUED = (DATA / "background_queued.json").read_bytes()
COMPLETED = (DATA / "background_completed.json").read_bytes()
STREAMED = (DATA / "background_stream.sse").read_bytes()
COST = 1_801_800
JSON = {"content-type": "application/json"}
LOOK = "/v1/responses/resp_0b9c1d"


async def begin(proxy: Proxy) -> int:
    """Begin a job, and give what is reserved for it."""
    driver = proxy.driver()
    await driver.request(BEGIN.encode(), "/v1/responses")
    await driver.respond(http.Response.make(200, b"", JSON), QUEUED)
    assert driver.shown() == QUEUED
    assert driver.flow.comment == "deferred o4-mini"
    pending = await proxy.pending()
    assert pending > 0
    return pending


def head_of(status: int = 200, encoding: str = "") -> http.Response:
    """Give an answer's head; one made with an encoding would encode its body, or forget the encoding."""
    head = http.Response.make(status, b"", JSON)
    if encoding:
        head.headers["content-encoding"] = encoding
    return head


async def look(
    proxy: Proxy,
    *chunks: bytes,
    head: http.Response | None = None,
    path: str = LOOK,
    method: str = "GET",
    sent: bytes = b"",
    encoding: str = "",
) -> Driver:
    driver = proxy.driver()
    await driver.request(sent, path, method, {"content-encoding": encoding} if encoding else {})
    await driver.respond(head or http.Response.make(200, b"", JSON), *chunks)
    return driver


def troubles(proxy: Proxy) -> list[str]:
    assert proxy.hooks.service is not None
    return [notice.text for notice in proxy.hooks.service.bulletin.notices()]


async def test_a_look_passes_as_it_is_and_settles(proxy: Proxy) -> None:
    """Byte by byte, in the pieces in which it came; nothing is admitted for it, and no row is its own."""
    pending = await begin(proxy)
    await look(proxy, QUEUED)
    assert await proxy.pending() == pending
    head = http.Response.make(200, b"", JSON)
    head.headers["content-length"] = str(len(COMPLETED))
    driver = await look(proxy, COMPLETED[:100], COMPLETED[100:], head=head)
    assert driver.shown() == COMPLETED
    assert driver.head().headers["content-length"] == str(len(COMPLETED))
    [row] = await proxy.rows()
    assert (row.cost, row.marks) == (COST, frozenset())
    assert await proxy.pending() == 0
    assert troubles(proxy) == []


@pytest.mark.parametrize(("kind", "is_posted"), [("text/html", True), ("application/json; charset=utf-8", False)])
async def test_a_gateways_error_to_what_begins_a_job_is_posted(proxy: Proxy, kind: str, *, is_posted: bool) -> None:
    """The provider's own error is JSON, and says that nothing began."""
    driver = proxy.driver()
    await driver.request(BEGIN.encode(), "/v1/responses")
    await driver.respond(http.Response.make(500, b"", {"content-type": kind}), b"{}")
    [row] = await proxy.rows()
    assert (row.state == "posted", row.cost > 0) == (is_posted, is_posted)
    assert await proxy.pending() == 0


async def test_an_encoded_look_is_read_and_not_touched(proxy: Proxy) -> None:
    """The client gets the provider's own bytes, still encoded."""
    await begin(proxy)
    packed = gzip.compress(COMPLETED)
    driver = await look(proxy, packed[:50], packed[50:], head=head_of(encoding="gzip"))
    assert driver.shown() == packed
    assert driver.head().headers["content-encoding"] == "gzip"
    assert (await proxy.rows())[0].cost == COST


async def test_events_pass_undelayed(proxy: Proxy) -> None:
    """A stream is not held until its events are whole, as those that can be cut are."""
    await begin(proxy)
    driver = proxy.driver()
    await driver.request(b"", f"{LOOK}?stream=true", "GET")
    await driver.respond(http.Response.make(200, b"", {"content-type": "text/event-stream"}), ends=False)
    for place in range(0, len(STREAMED), 97):
        await driver.respond_more(STREAMED[place : place + 97])
        assert driver.shown() == STREAMED[: place + 97]
    await driver.feed(ResponseEndOfMessage(STREAM_ID))
    assert (await proxy.rows())[0].cost == COST


async def test_an_answer_that_broke_off_settles_nothing(proxy: Proxy) -> None:
    """Whether it was whole is not known; the next one tells."""
    pending = await begin(proxy)
    driver = proxy.driver()
    await driver.request(b"", LOOK, "GET")
    await driver.respond(http.Response.make(200, b"", JSON), COMPLETED, ends=False)
    await driver.feed(ResponseProtocolError(STREAM_ID, "peer closed connection", ErrorCode.GENERIC_SERVER_ERROR))
    assert await proxy.pending() == pending
    await look(proxy, COMPLETED)
    assert await proxy.pending() == 0


@pytest.mark.parametrize(
    ("status", "encoding", "body"),
    [
        (404, "", b'{"error": {"message": "Response not found"}}'),
        (500, "", COMPLETED),
        (200, "", b"not JSON"),
        (200, "gzip", COMPLETED),
        (200, "odd", COMPLETED),
    ],
    ids=["not found", "error", "garbled", "not encoded", "unknown encoding"],
)
async def test_what_cannot_be_read_passes_all_the_same(proxy: Proxy, status: int, encoding: str, body: bytes) -> None:
    """It is the client's answer; the job stays reserved."""
    pending = await begin(proxy)
    driver = await look(proxy, body, head=head_of(status, encoding))
    assert driver.shown() == body
    assert driver.head().status_code == status
    assert await proxy.pending() == pending


async def test_a_refused_cap_lets_every_look_through(proxy: Proxy) -> None:
    """Looking costs nothing, and without it nobody would ever learn the bill."""
    await begin(proxy)
    proxy.caps.write_text("caps: [{name: none, limit: 0, per: ever}]\n")
    assert proxy.hooks.service is not None
    await proxy.hooks.service.look_at_config()
    driver = await look(proxy, COMPLETED, path=f"{LOOK}/cancel", method="POST")
    assert driver.shown() == COMPLETED
    assert (await proxy.rows())[0].cost == COST


# ── what fails here ──


class Breaking:
    """A watch that fails where it is told to; as a job dialect, too."""

    name = "openai.background"
    stored = "file-1"

    def __init__(self, where: str) -> None:
        self.where = where

    def _do(self, what: str) -> None:
        if what == self.where:
            raise ZeroDivisionError(what)

    def watch(self, request: Request, target: Target, client: str) -> Watch:
        assert (request.host, target.provider, request.body) == ("api.openai.com", "openai", b"{}")
        assert client
        self._do("watch")
        return self

    def stored_calls(self) -> Iterator[Call]:
        self._do("stored_calls")
        yield GPT_4O

    def begin(self, head: ResponseHead) -> None:
        assert head.content_type == "application/json"
        self._do("begin")

    def feed(self, data: bytes) -> None:
        assert data is not None
        self._do("feed")

    def end(self) -> tuple[Outcome, ...]:
        self._do("end")
        return (Outcome("resp_0b9c1d", Reading()),)


def install(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    broken: Mapping[str, JobDialect] = MappingProxyType({"openai.background": Breaking(where)})
    monkeypatch.setattr(watching, "JOBS", broken)


@pytest.mark.parametrize("where", ["watch", "stored_calls", "begin", "feed", "end"])
async def test_a_failure_of_ours_disturbs_no_answer(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """The client has its answer, the user is told, the job stays reserved."""
    pending = await begin(proxy)
    install(monkeypatch, where)
    driver = await look(proxy, COMPLETED[:10], COMPLETED[10:], sent=b"{}")
    assert driver.shown() == COMPLETED
    assert await proxy.pending() == pending
    [trouble] = troubles(proxy)
    assert "ZeroDivisionError" in trouble


async def test_an_uploads_requests_are_bounded_before_it_leaves(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as the client has the answer it may ask for them to be run."""
    install(monkeypatch, "")
    await look(proxy, COMPLETED, sent=gzip.compress(b"{}"), encoding="gzip")
    assert proxy.hooks.service is not None
    gate = proxy.hooks.service.gate
    found = await gate.budget.recall("file|api.openai.com|file-1", 0)
    assert found is not None
    assert json.loads(found)["bound"] == gate.pricing.quote(GPT_4O, "counted").amount(1_000)


@pytest.mark.parametrize("size", [100, watching.LARGE_ANSWER_BYTES, 2 * watching.LARGE_ANSWER_BYTES])
async def test_a_large_answer_is_read_in_a_thread(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Parsing the results of a batch must not hold up every stream; a short answer is read before the client has it."""
    threads: list[threading.Thread] = []

    class Noting(Breaking):
        def end(self) -> tuple[Outcome, ...]:
            threads.append(threading.current_thread())
            return super().end()

    noting: Mapping[str, JobDialect] = MappingProxyType({"openai.background": Noting("")})
    monkeypatch.setattr(watching, "JOBS", noting)
    body = b" " * size
    driver = await look(proxy, body[:50], body[50:], sent=b"{}")
    assert driver.shown() == body
    [thread] = threads
    assert (thread is threading.main_thread()) == (size <= watching.LARGE_ANSWER_BYTES)
    assert proxy.hooks.service is not None
    assert await proxy.hooks.service.gate.budget.recall("file|api.openai.com|file-1", 0) is not None


@pytest.mark.parametrize("padding", [0, watching.LARGE_ANSWER_BYTES])
async def test_what_an_answer_told_is_settled_at_the_end_of_the_proxy(proxy: Proxy, padding: int) -> None:
    """The answer had ended; its hook, which settles, did not come to run any more."""
    await begin(proxy)
    driver = proxy.driver()
    await driver.request(b"", LOOK, "GET")
    await driver.respond(http.Response.make(200, b"", JSON), COMPLETED + b" " * padding, ends=False)
    assert driver.flow.response is not None
    stream = driver.flow.response.stream
    assert callable(stream)
    stream(b"")
    assert await proxy.pending() > 0
    await proxy.hooks._watching.finish_all()
    assert await proxy.pending() == 0
    assert (await proxy.rows())[0].cost == COST


async def test_an_upload_that_is_not_encoded_as_it_says_passes(proxy: Proxy) -> None:
    """The provider will refuse it; we only say that we could not read it."""
    driver = await look(proxy, b"{}", sent=b"{}", encoding="gzip", path="/v1/files", method="POST")
    assert driver.to_server()
    assert driver.shown() == b"{}"
    assert "could not be watched" in troubles(proxy)[0]
