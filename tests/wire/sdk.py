"""The official openai SDK, answered by bytes instead of a network."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import openai

from llmcap_addon.wire.dialect import Response


def _http_module() -> Any:
    """Find the HTTP library that this version of the SDK stands on."""
    for name in ("httpx2", "httpx"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError("neither httpx2 nor httpx is installed")


class Answered:
    """An SDK client whose every request gets the same answer; `requests` counts them."""

    def __init__(self, response: Response, base_url: str = "https://api.openai.com/v1") -> None:
        self.requests = 0
        http = _http_module()

        def answer(_request: Any) -> Any:
            self.requests += 1
            return http.Response(response.status, headers=list(response.headers), content=response.body)

        self.client = openai.OpenAI(
            api_key="sk-test", base_url=base_url, http_client=http.Client(transport=http.MockTransport(answer))
        )

    def error_of(self, call: Callable[[openai.OpenAI], object]) -> openai.APIError:
        """Run a call that must fail, and give its error."""
        try:
            call(self.client)
        except openai.APIError as error:
            return error
        raise AssertionError("the SDK raised nothing")


def streamed(body: bytes) -> Response:
    return Response(200, (("content-type", "text/event-stream"),), body)
