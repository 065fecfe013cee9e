"""What all tests share: the stand-in providers, started when the first test asks for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.fakes.server import StandIn


settings.register_profile("patient", deadline=None)
if not os.environ.get("CI"):
    # (in CI Hypothesis takes a profile of its own: as patient, and with the same examples each time)
    settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the ledger and the fetched prices of whoever runs the tests out of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    """Run the providers for the whole session; use `stand_in`, which starts each test afresh."""
    from tests.fakes.server import StandIn

    with StandIn(tmp_path_factory.mktemp("stand-in")) as running:
        yield running


@pytest.fixture
def stand_in(stand_ins: StandIn) -> Iterator[StandIn]:
    """Give the providers with no records, no scripts."""
    stand_ins.reset()
    yield stand_ins
    stand_ins.reset()
