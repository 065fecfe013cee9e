"""Proxies for the end-to-end tests: one that only audits, shared by all, and one a test where there are caps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import AUDIT, Proxy
from tests.fakes.script import Script
from tests.fakes.sdks import SDKs
from tests.fakes.server import StandIn

type StartProxy = Callable[..., Proxy]


@pytest.fixture(scope="session")
def audit_proxy(stand_ins: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Run a proxy that only audits, for all tests that ask what a call cost."""
    with Proxy(tmp_path_factory.mktemp("audit"), stand_ins, AUDIT) as proxy:
        yield proxy
    proxy.assert_sound()


@pytest.fixture(scope="session")
def audit_clients(audit_proxy: Proxy) -> dict[bool, SDKs]:
    """Make the SDKs once for each protocol (h2 or not): their connections are kept alive between tests."""
    return {http2: audit_proxy.sdks(http2=http2) for http2 in (False, True)}


@pytest.fixture
def start_proxy(stand_in: StandIn, tmp_path: Path) -> Iterator[StartProxy]:
    """Start proxies with caps of the test's own; each is stopped, and its log must tell of no crash."""
    running: list[Proxy] = []
    numbers = itertools.count()

    def start(caps: str, *, sound: bool = True, **options: Any) -> Proxy:
        proxy = Proxy(tmp_path / f"proxy-{next(numbers)}", stand_in, caps, **options)
        proxy.start()
        if sound:
            running.append(proxy)
        else:
            unsound.append(proxy)
        return proxy

    unsound: list[Proxy] = []
    yield start
    stand_in.default = Script()
    for proxy in (*running, *unsound):
        proxy.stop()
    for proxy in running:
        proxy.assert_sound()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With xdist, keep the tests that share the audit proxy on one worker."""
    for item in items:
        if "audit_proxy" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("audit"))
