"""mitmproxy addon: hands each piece of a response on, through a callable that does nothing, or through none."""

from __future__ import annotations

import os

from mitmproxy import http

CALLABLE = os.environ.get("BENCH_STREAM") == "callable"


def responseheaders(flow: http.HTTPFlow) -> None:
    """Stream every response."""
    assert flow.response is not None
    flow.response.stream = (lambda data: data) if CALLABLE else True
