"""Test-only mitmproxy addon: takes real host names to the stand-ins' loopback port, below mitmproxy.

Only the socket goes elsewhere: the flow's host, the name in SNI and the check of the certificate stay real. A host that
is not in the map can't be reached, so that no test ever leaves the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

ROUTES_VARIABLE = "LLMCAP_TEST_ROUTES"
"""Holds a JSON object: host name → loopback port."""

_routes: dict[str, int] = json.loads(os.environ.get(ROUTES_VARIABLE, "{}"))
_open_connection = asyncio.open_connection


async def _open_routed(host: str, port: int, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if host not in _routes:
        raise OSError(f"the tests route nothing to {host}:{port}")
    return await _open_connection("127.0.0.1", _routes[host], **options)


if _routes:
    asyncio.open_connection = _open_routed  # type: ignore[assignment]
