"""Whose traffic it is, and what may cost money: everything else passes untouched, what is not metered is refused."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from tests.e2e.calls import CHAT
from tests.e2e.conftest import StartProxy
from tests.e2e.harness import Proxy
from tests.fakes.sdks import SDKs
from tests.fakes.server import ANTHROPIC_HOST, GOOGLE_HOST, OPENAI_HOST, OTHER_HOST, StandIn

UNMETERED = (
    f"https://{OPENAI_HOST}/v1/images/variations",
    f"https://{OPENAI_HOST}/v1/videos",
    f"https://{OPENAI_HOST}/v1/something/new",
    f"https://{OPENAI_HOST}/v1/realtime/calls",
    f"https://{ANTHROPIC_HOST}/v1/sessions",
    f"https://{ANTHROPIC_HOST}/v1/complete",
    f"https://{GOOGLE_HOST}/v1beta/models/veo-3.1:predictLongRunning",
    f"https://{GOOGLE_HOST}/v1beta/models/gemini-2.5-flash:generateAnswer",
)

SIDE_WAYS = (
    "/v1/chat/completions/",
    "/v1//chat/completions",
    "/v1/./chat/completions",
    "/v1/files/../chat/completions",
    "/v1/chat%2Fcompletions",
    "/v1/chat/%63ompletions",
    "/V1/Chat/Completions",
    "/v1/chat/completions?x=1",
    "/v1/chat/completions;a=b",
)

BODY = {"model": "gpt-4o", "max_completion_tokens": 20, "messages": [{"role": "user", "content": "Hi"}]}


def test_an_unmetered_endpoint_is_refused(
    audit_proxy: Proxy, audit_clients: dict[bool, SDKs], stand_in: StandIn
) -> None:
    """Endpoints that may cost money and are not metered are refused with a message that says so."""
    seen = audit_proxy.rows()
    for url in UNMETERED:
        answer = audit_clients[False].http.post(url, json={"model": "x", "prompt": "a cat"})
        assert answer.status_code == 400, url
        assert "LLMCap:" in answer.text, url
        assert "unmetered: allow" in answer.text, url
    assert stand_in.records == []
    assert {row.state for row in audit_proxy.settled(len(UNMETERED), seen)} == {"refused"}


def test_the_sdk_shows_why_an_endpoint_is_refused(audit_clients: dict[bool, SDKs], stand_in: StandIn) -> None:
    """The refusal of an unmetered endpoint is the SDK's own error, raised after one request."""
    with pytest.raises(openai.BadRequestError, match=r"LLMCap: .*not metered"):
        audit_clients[False].openai.fine_tuning.jobs.create(model="gpt-4o-mini", training_file="file-1")
    assert stand_in.records == []


def test_unmetered_endpoints_can_be_allowed(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """With `unmetered: allow` they pass, uncounted, and the log says so."""
    proxy = start_proxy("{unmetered: allow, caps: []}")
    with proxy.client() as http:
        answer = http.post(UNMETERED[0], json={"model": "gpt-image-1", "prompt": "a cat"})
    assert answer.status_code == 200
    assert [record.kind for record in stand_in.billable()] == ["images"]
    proxy.wait_log(lambda log: "not metered" in log, "a line about it")


@pytest.mark.parametrize("path", SIDE_WAYS)
def test_no_spelling_of_a_path_gets_around_the_meter(
    audit_proxy: Proxy, audit_clients: dict[bool, SDKs], stand_in: StandIn, path: str
) -> None:
    """A billable path spelt in another way is metered or refused, never passed uncounted."""
    seen = audit_proxy.rows()
    request = audit_clients[False].http.build_request("POST", f"https://{OPENAI_HOST}/", json=BODY)
    request.url = request.url.copy_with(raw_path=path.encode())
    answer = audit_clients[False].http.send(request)
    [row] = audit_proxy.settled(1, seen)
    if stand_in.records:
        assert row.state in {"posted", "voided"}
        assert row.cost >= stand_in.billed_nanousd()
    else:
        assert row.state == "refused"
        assert "LLMCap:" in answer.text


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", f"https://{OPENAI_HOST}/v1/models"),
        ("GET", f"https://{ANTHROPIC_HOST}/v1/models"),
        ("GET", f"https://{GOOGLE_HOST}/v1beta/models"),
        ("POST", f"https://{ANTHROPIC_HOST}/v1/messages/count_tokens"),
        ("POST", f"https://{GOOGLE_HOST}/v1beta/models/gemini-2.5-flash:countTokens"),
    ],
)
def test_what_is_free_passes(start_proxy: StartProxy, stand_in: StandIn, method: str, url: str) -> None:
    """Endpoints that cost nothing pass whatever the caps say, and leave no row."""
    proxy = start_proxy("{caps: [{name: none, limit: 0, per: ever}]}")
    with proxy.client() as http:
        answer = http.request(method, url, json={} if method == "POST" else None)
    assert answer.status_code == 200
    assert answer.content == bytes(stand_in.seen()[-1].sent_body)
    assert proxy.rows() == ()


def test_a_websocket_is_told_to_use_http(audit_clients: dict[bool, SDKs], stand_in: StandIn) -> None:
    """A websocket that nobody here understands gets a 426 before its host hears of it."""
    answer = audit_clients[False].http.get(
        f"https://{OPENAI_HOST}/v1/assistants/talk",
        headers={
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        },
    )
    assert answer.status_code == 426
    assert "LLMCap:" in answer.text
    assert stand_in.records == []


def tunnel(proxy: Proxy, host: str) -> socket.socket:
    """CONNECT through the proxy."""
    sock = socket.create_connection(("127.0.0.1", proxy.port), timeout=20)
    sock.sendall(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(4096)
    assert b" 200 " in answer.split(b"\r\n")[0]
    return sock


def certificate(proxy: Proxy, host: str, ca: Path, sni: str = "") -> bytes:
    """Give the certificate that a client of the proxy sees, checked against one authority only."""
    context = ssl.create_default_context(cafile=str(ca))
    with tunnel(proxy, host) as sock, context.wrap_socket(sock, server_hostname=sni or host) as tls:
        seen = tls.getpeercert(binary_form=True)
    assert seen is not None
    return seen


def test_other_hosts_are_not_decrypted(audit_proxy: Proxy, stand_in: StandIn) -> None:
    """A host that is no LLM's shows its own certificate, from its own authority, through the proxy."""
    assert certificate(audit_proxy, OTHER_HOST, stand_in.authority.ca_path) == stand_in.authority.certificate_der
    with pytest.raises(ssl.SSLCertVerificationError):
        certificate(audit_proxy, OTHER_HOST, audit_proxy.ca_path)


def test_llm_hosts_are_decrypted(audit_proxy: Proxy, stand_in: StandIn) -> None:
    """An LLM's host shows the proxy's certificate, also when only SNI or only CONNECT names it."""
    for connect, sni in ((OPENAI_HOST, OPENAI_HOST), (OTHER_HOST, OPENAI_HOST), (OPENAI_HOST, OTHER_HOST)):
        seen = certificate(audit_proxy, connect, audit_proxy.ca_path, sni)
        assert seen != stand_in.authority.certificate_der, (connect, sni)


def test_the_host_header_decides_nothing(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """A Host header that names another host does not lead a call around the cap."""
    proxy = start_proxy("{wait: 0s, caps: [{name: tiny, limit: 0.000001, per: day}]}")
    with proxy.client() as http:
        answer = http.post(f"https://{OPENAI_HOST}/v1/chat/completions", json=BODY, headers={"host": OTHER_HOST})
    assert answer.status_code == 429
    assert stand_in.billable() == []


def test_an_address_in_connect_does_not_get_around(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """A client that connects to another name and asks TLS for the API's is capped all the same."""
    proxy = start_proxy("{wait: 0s, caps: [{name: tiny, limit: 0.000001, per: day}]}")
    context = ssl.create_default_context(cafile=str(proxy.ca_path))
    with tunnel(proxy, OTHER_HOST) as sock, context.wrap_socket(sock, server_hostname=OPENAI_HOST) as tls:
        body = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}'
        tls.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (OPENAI_HOST.encode(), len(body), body)
        )
        answer = b""
        while chunk := tls.recv(65536):
            answer += chunk
    assert b" 429 " in answer.split(b"\r\n")[0]
    assert b"LLMCap:" in answer
    assert stand_in.billable() == []


def test_another_host_answers_through_the_proxy(audit_proxy: Proxy, stand_in: StandIn) -> None:
    """What goes to other hosts arrives, however much its path looks like an API's, and leaves no row."""
    seen = audit_proxy.rows()
    client: Any = httpx2.Client(
        proxy=f"http://127.0.0.1:{audit_proxy.port}",
        verify=ssl.create_default_context(cafile=str(stand_in.authority.ca_path)),
        trust_env=False,
    )
    with client as http:
        answer = http.post(f"https://{OTHER_HOST}/v1/chat/completions", json=BODY)
    assert answer.json()["hello"] == "world"
    assert audit_proxy.rows() == seen


def test_two_spendings_on_one_connection(start_proxy: StartProxy, stand_in: StandIn) -> None:
    """A connection on which a call was refused carries the next one."""
    proxy = start_proxy('{wait: 0s, caps: [{name: mini, limit: 0, per: ever, match: {model: "gpt-4o-mini"}}]}')
    sdks = proxy.sdks()
    before = proxy.log.count("client connect")
    with pytest.raises(openai.RateLimitError):
        CHAT(sdks, model="gpt-4o-mini")
    CHAT(sdks)
    assert proxy.log.count("client connect") == before + 1
