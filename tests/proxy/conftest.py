"""What the proxy's tests share."""

import logging
from collections.abc import Iterator

import pytest

from tests.gate.house import make_house
from tests.proxy.addon import proxy, waiting

__all__ = ["make_house", "proxy", "waiting"]


@pytest.fixture(autouse=True)
def quiet_logging() -> Iterator[None]:
    """Give the root logger back as it was: a Master hangs its own handlers there."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    for handler in list(root.handlers):
        if handler not in handlers:
            root.removeHandler(handler)
