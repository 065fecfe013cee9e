"""What lies about: no prompt, no completion, no key is ever written or logged, and what is, is its owner's alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.e2e.calls import ALL, CHAT, CHAT_STREAM, PROMPT, SDK_ERRORS
from tests.e2e.conftest import StartProxy
from tests.fakes.script import Script
from tests.fakes.sdks import KEY
from tests.fakes.server import StandIn

COMPLETION = " distinctive-COMPLETION-5591"


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("flavor", ["mitmdump", "lean"])
def test_nothing_secret_is_written(start_proxy: StartProxy, stand_in: StandIn, flavor: str) -> None:
    """After calls, refusals, cuts and failures, no file and no log line holds a prompt, an answer or a key."""
    proxy = start_proxy(
        '{wait: 0s, caps: [{name: fuse, limit: 0.01, per: day, match: {model: "gpt-4o"}}, {name: all, limit: 9, per: day}]}',
        flavor=flavor,
        environment={"COLUMNS": "300"},  # where lines are cut short, a key at their end would not be seen
    )
    sdks = proxy.sdks(max_retries=0)
    stand_in.default = Script(output_tokens=12, token_text=COMPLETION)
    for kind in ALL:
        model = kind.model.replace("gpt-4o", "gpt-4o-mini")
        assert COMPLETION in kind(sdks, model=model)
    stand_in.enqueue(Script(output_tokens=100_000, token_text=COMPLETION, tokens_per_second=2_000))
    with pytest.raises(SDK_ERRORS, match="fuse"):
        CHAT_STREAM(sdks, max_tokens=16_000)
    with pytest.raises(SDK_ERRORS, match="fuse"):
        CHAT(sdks)
    stand_in.enqueue(Script(status=400, error_body=f'{{"error": {{"message": "{COMPLETION}"}}}}'.encode()))
    with pytest.raises(SDK_ERRORS):
        CHAT(sdks, model="gpt-4o-mini")
    stand_in.enqueue(Script(output_tokens=9, token_text=COMPLETION, rewrite=lambda _, data: data.replace(b'"', b"'")))
    with pytest.raises(Exception):  # noqa: B017, PT011  # the SDK stumbles over it, each version in its own way
        CHAT(sdks, model="gpt-4o-mini")
    sdks.http.post("https://api.openai.com/v1/chat/completions", content=f'{{"model": "{PROMPT}" {KEY}')
    sdks.http.get(f"https://generativelanguage.googleapis.com/v1beta/models?key={KEY}")
    proxy.settled(len(ALL) + 5)
    proxy.stop()
    written = {str(path): path.read_bytes() for path in files_in(proxy.folder)}
    written["the log"] = proxy.log.encode()
    assert any("ledger" in name for name in written)
    for secret in (KEY, KEY[-12:], PROMPT, "distinctive-PROMPT", COMPLETION, "distinctive-COMPLETION"):
        for name, content in written.items():
            assert secret.encode() not in content, f"{secret!r} stands in {name}"


@pytest.mark.parametrize("flavor", ["mitmdump", "lean"])
def test_what_is_written_is_its_owners(start_proxy: StartProxy, flavor: str) -> None:
    """The ledger, its side files and the authority's key can be read by their owner only."""
    proxy = start_proxy("caps: []", flavor=flavor)
    CHAT(proxy.sdks())
    proxy.settled(1)
    for folder in (proxy.store_path.parent, proxy.confdir):
        assert files_in(folder)
        for path in files_in(folder):
            mode = stat.S_IMODE(path.stat().st_mode)
            if b"PRIVATE KEY" in path.read_bytes() or folder == proxy.store_path.parent:
                assert mode & 0o077 == 0, f"{path} is {mode:o}"
    if flavor == "lean":
        assert stat.S_IMODE(proxy.confdir.stat().st_mode) == 0o700
