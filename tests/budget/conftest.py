"""Each store that must keep the contract, as a maker of stores over one shared ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from llmcap_addon.budget.ledger import Store
from llmcap_addon.budget.stores import open_store
from tests.budget.samples import Clock

type OpenStore = Callable[[], Store]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite"])
async def open_another(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncIterator[OpenStore]:
    """Opens one more store over the same ledger, as another process would."""
    opened: list[Store] = []
    urls = {"sqlite": f"sqlite://{tmp_path}/state/ledger.sqlite"}

    def open_one() -> Store:
        opened.append(open_store(urls[request.param], clock))
        return opened[-1]

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
def store(open_another: OpenStore) -> Store:
    return open_another()
