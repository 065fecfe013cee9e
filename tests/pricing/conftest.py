from __future__ import annotations

import pytest

from llmcap_addon.pricing.prices import Prices
from tests.pricing.calls import TODAY


@pytest.fixture(scope="session")
def prices() -> Prices:
    """The shipped table, on the day it was made."""
    return Prices.load(now_ms=TODAY)
