"""Each store that must keep the contract, as a maker of stores over one shared ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from llmcap_addon.budget.ledger import Store
from llmcap_addon.budget.stores import open_store
from tests.budget.redis_server import RedisServer, running
from tests.budget.samples import Clock

type OpenStore = Callable[[], Store]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Run one server for all tests of a worker; each has a prefix of its own."""
    with running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["sqlite", "redis"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a ledger that is not there yet, one for each kind of store."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url(uuid4().hex)
    return f"sqlite://{tmp_path}/state/ledger.sqlite"


@pytest.fixture
async def open_another(store_url: str, clock: Clock) -> AsyncIterator[OpenStore]:
    """Opens one more store over the same ledger, as another process would."""
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(open_store(store_url, clock))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
def store(open_another: OpenStore) -> Store:
    return open_another()
