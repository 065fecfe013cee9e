"""The dialects by name, and that none is loaded before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llmcap_addon.wire.dialect import Dialect
from llmcap_addon.wire.dialects import DIALECTS, JOBS, SOCKETS
from llmcap_addon.wire.endpoints import METERED, OVER_WEBSOCKET, WATCHED
from llmcap_addon.wire.jobs import JobDialect
from llmcap_addon.wire.socket import SocketDialect


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_stands_where_its_name_says(name: str) -> None:
    """It is there, is called so, and can do what a dialect has to."""
    dialect = DIALECTS[name]
    assert dialect.name == name
    assert all(callable(getattr(dialect, method)) for method in vars(Dialect) if not method.startswith("_"))
    assert DIALECTS[name] is dialect


@pytest.mark.parametrize("name", [*JOBS, *SOCKETS])
def test_so_do_those_of_jobs_and_websockets(name: str) -> None:
    """The same for what watches requests and what reads frames."""
    dialect: JobDialect | SocketDialect = JOBS[name] if name in JOBS else SOCKETS[name]
    assert dialect.name == name
    assert callable(dialect.watch if name in JOBS else dialect.open)  # type: ignore[union-attr]


def test_every_endpoint_has_its_dialect_and_every_dialect_an_endpoint() -> None:
    """No row of the endpoints names a dialect that is not there, and none is there for nothing."""
    assert {one.dialect for one in METERED} == set(DIALECTS)
    assert {one.dialect for one in OVER_WEBSOCKET} == set(SOCKETS)
    assert {one.dialect for one in WATCHED} == set(JOBS)
    with pytest.raises(KeyError):
        DIALECTS["nobody"]
    assert "nobody" not in DIALECTS


def test_none_is_loaded_before_it_is_asked_for() -> None:
    """A proxy that starts imports no dialect; the first request of one loads that and no other maker's."""
    code = (
        "import sys, llmcap_addon.proxy.hooks; from llmcap_addon.wire.dialects import DIALECTS\n"
        "made = lambda: sorted(name.rpartition('.')[2] for name in sys.modules if name.startswith('llmcap_addon.wire.'))\n"
        "print([name for name in made() if name.startswith(('openai_', 'bedrock_con', 'google'))])\n"
        "DIALECTS['openai.chat']\n"
        "print('openai_chat' in made(), 'google' in made())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    first, second = told.stdout.splitlines()
    assert first == "[]"
    assert second == "True False"
