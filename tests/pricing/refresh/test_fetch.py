from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing.refresh import fetch
from tests.pricing.refresh.sources import genai_json, litellm_json

GENAI = genai_json(openai=[("m", {"input_mtok": 1})]).encode()
LITELLM = litellm_json(m={"litellm_provider": "openai", "input_cost_per_token": 1e-06, "mode": "chat"}).encode()


class Answers(http.server.BaseHTTPRequestHandler):
    """What a publisher's server may answer, by path."""

    def do_GET(self) -> None:
        body, status, headers = LITELLM, 200, {}
        match self.path:
            case "/genai":
                body = GENAI
            case "/packed":
                body, headers = gzip.compress(GENAI), {"Content-Encoding": "gzip"}
            case "/bomb":
                body, headers = gzip.compress(bytes(200_000)), {"Content-Encoding": "gzip"}
            case "/big":
                body = bytes(50_000)
            case "/gone":
                status = 404
            case "/away":
                status, headers = 302, {"Location": "https://elsewhere.example/x"}
            case "/short":
                headers = {"Content-Length": str(len(body) + 10)}
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_address[1]}"
        served.shutdown()
        thread.join()


def test_both_sources_are_recognised_by_their_form(server: str, tmp_path: Path) -> None:
    """From the web or a file, packed or not, in any order."""
    copy = tmp_path / "prices.json.gz"
    copy.write_bytes(gzip.compress(LITELLM))
    for places in ([f"{server}/genai", f"{server}/litellm"], [str(copy), f"{server}/packed"]):
        sources, fetched = fetch.fetch_sources(places)
        assert [one.kind for one in fetched] == ["genai-prices", "litellm"]
        assert sources.genai["openai"][0]["id"] == "m"
        assert sources.litellm["m"]["litellm_provider"] == "openai"


def test_what_is_not_named_comes_from_its_publisher() -> None:
    """The defaults are the two repositories' raw files, over https."""
    asked: list[str] = []

    def read(place: str) -> bytes:
        asked.append(place)
        return GENAI if "genai" in place else LITELLM

    fetch.fetch_sources([], read)
    assert asked == list(fetch.DEFAULTS.values())
    assert all(place.startswith("https://raw.githubusercontent.com/") for place in asked)
    asked.clear()
    fetch.fetch_sources(["mine-genai.json"], read)
    assert asked == ["mine-genai.json", fetch.DEFAULTS["litellm"]]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/gone", "404"),
        ("/away", "is not http"),
        ("/short", "can't be fetched"),
        ("/big", "larger than"),
        ("/bomb", "larger than"),
    ],
)
def test_what_goes_wrong_on_the_way_is_told(
    server: str, path: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One exception, with the address, and never more than the bound in memory."""
    monkeypatch.setattr(fetch, "MAX_BYTES", 20_000)
    with pytest.raises(PriceError, match=words) as caught:
        fetch.read_place(server + path)
    assert server + path in str(caught.value)


def test_a_server_that_never_ends_is_left(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole of a download has a deadline, not each part alone."""
    monkeypatch.setattr(fetch, "DEADLINE_S", -1)
    with pytest.raises(PriceError, match="takes more than"):
        fetch.read_place(f"{server}/genai")


def test_plain_http_is_for_this_machine_alone() -> None:
    """Prices from the net come over https."""
    with pytest.raises(PriceError, match="https only"):
        fetch.read_place("http://prices.example/x.json")


@pytest.mark.parametrize("data", [b"", b"<html>", b"\x1f\x8bjunk", gzip.compress(GENAI, mtime=0)[:-5], b"[{}]", b"{"])
def test_what_is_neither_source_is_refused(data: bytes) -> None:
    """A page of a captive portal, a cut file, another JSON: the place is named."""
    with pytest.raises(PriceError, match=r"here\.json"):
        fetch.recognise("here.json", data)


def test_the_same_source_twice_is_refused(tmp_path: Path) -> None:
    """One of them is enough."""
    copy = tmp_path / "a.json"
    copy.write_bytes(GENAI)
    with pytest.raises(PriceError, match="are both genai-prices"):
        fetch.fetch_sources([str(copy), str(copy)])
    with pytest.raises(PriceError, match="can't be read"):
        fetch.fetch_sources([str(tmp_path / "none.json")])
