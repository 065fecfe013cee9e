from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from llmcap_addon import cli
from llmcap_addon.errors import PriceError
from llmcap_addon.pricing.newer import choose, fetched_path, previous_of
from llmcap_addon.pricing.refresh import check
from tests.pricing.refresh.sources import genai_json, litellm_json

CAPS = """
caps:
  - {name: daily, limit: 5, per: day}
prices:
  api.openai.com: {my-tuned: {input: 3, output: 12}}
  llm.internal: {"*": {input: 1, output: 2}}
hosts:
  llm.internal: {api: openai}
  gateway.internal: {api: openai, provider: deepseek, deployments: {fast: deepseek-flash}}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with a home of their own, in a folder of their own."""
    for variable, folder in (("HOME", "home"), ("XDG_STATE_HOME", "state"), ("XDG_CONFIG_HOME", "config")):
        monkeypatch.setenv(variable, str(tmp_path / folder))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (work / "caps.yaml").write_text(CAPS)
    return work


def llmcap(*arguments: str, width: int = 80) -> Result:
    return CliRunner().invoke(cli.cli, ["prices", *arguments], env={"COLUMNS": str(width)})


def shown(*arguments: str, width: int = 80) -> str:
    result = llmcap(*arguments, width=width)
    assert result.exception is None, result.exception
    assert all(len(line) <= width for line in result.stdout.splitlines())
    return result.stdout


def refused(*arguments: str) -> str:
    result = llmcap(*arguments)
    assert isinstance(result.exception, PriceError), result.output
    return str(result.exception)


# -- Showing


@pytest.mark.parametrize("width", [80, 200])
def test_without_a_model_it_counts_providers(width: int) -> None:
    """The table's date and sources, what each provider has, and what caps.yaml adds."""
    text = shown(width=width)
    assert "prices of 20" in text
    assert "(shipped)" in text
    assert "bedrock" in text
    assert "caps.yaml has 1 of its own for api.openai.com" in text


@pytest.mark.parametrize("width", [80, 200])
def test_a_model_is_shown_at_every_provider_that_lists_it(width: int) -> None:
    """Its tiers, cached prices, fees and limits."""
    text = shown("gpt-4o", width=width)
    assert "gpt-4o at openai" in text
    assert "gpt-4o at azure" in text
    assert "batch" in text
    assert "CACHED" in text


def test_at_a_host_what_applies_there_is_shown() -> None:
    """The host's provider, and its off-peak hours."""
    text = shown("deepseek-flash", "--host", "API.deepseek.com")
    assert "deepseek-flash at api.deepseek.com (deepseek)" in text
    assert "off-peak (UTC): Mon-Fri 00:00-01:00, 04:00-06:00, 10:00-24:00; Sat-Sun" in text


def test_a_price_of_ones_own_beats_the_table() -> None:
    """At its host and without one; a glob of caps.yaml fits any name, and needs no provider in the table."""
    for arguments in (("my-tuned",), ("my-tuned", "--host", "api.openai.com")):
        assert "your own price: `prices:` of caps.yaml, for api.openai.com" in shown(*arguments)
    assert "your own price" in shown("anything", "--host", "llm.internal")


def test_a_host_of_ones_own_has_the_prices_of_its_provider() -> None:
    """And a deployment is the model behind it."""
    assert "deepseek-flash at gateway.internal (deepseek)" in shown("fast", "--host", "gateway.internal")


def test_a_name_that_only_resembles_is_assumed_and_says_why() -> None:
    """A router's variant costs what its model does, as nobody lists it."""
    text = shown("openai/gpt-4o:nitro", "--host", "openrouter.ai")
    assert "assumed: nobody lists this name; it is taken to cost what openai/gpt-4o does at openrouter" in " ".join(
        text.split()
    )


def test_a_glob_lists_what_fits() -> None:
    """One line each, at all providers or at a host; a glob that fits nothing is told."""
    text = shown("*sonnet-5*")
    assert "anthropic" in text
    assert "names, $ a million tokens" in text
    assert "claude-haiku-4-5" in shown("claude-haiku-*", "--host", "api.anthropic.com")
    assert "my-tuned at api.openai.com" in shown("my-*", "--host", "api.openai.com")
    assert "no name fits 'zzz*' at any provider" in refused("zzz*")


def test_an_unknown_model_gets_near_names_and_the_lines_to_add() -> None:
    """What it would cost until then, too."""
    words = refused("claude-opus-9-9", "--host", "api.anthropic.com")
    assert "no price is known for the model 'claude-opus-9-9' at api.anthropic.com" in words
    assert "anthropic claude-opus-4" in words
    assert "such calls are priced as anthropic's dearest, claude-" in words
    assert words.endswith(
        'prices:\n  api.anthropic.com:\n    "claude-opus-9-9": {input: 0.00, cached_input: 0.00, output: 0.00}'
    )


def test_refusing_unknown_prices_is_told(home: Path) -> None:
    """As caps.yaml has it."""
    (home / "caps.yaml").write_text(CAPS + "unknown_price: refuse\n")
    assert "such calls are refused (unknown_price: refuse)" in refused("nobody-knows", "--host", "api.openai.com")


def test_an_unknown_host_is_told_with_how_to_name_it() -> None:
    """Together with those that are known."""
    words = refused("gpt-4o", "--host", "nosuch.example")
    assert "api.openai.com" in words
    assert words.endswith("hosts:\n  nosuch.example: {api: openai}")


def test_the_command_line_tells_it_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one message on standard error."""
    monkeypatch.setattr("sys.argv", ["llmcap", "prices", "nobody-knows", "--host", "api.openai.com"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == cli.EXIT_FAILED
    assert capsys.readouterr().err.startswith("llmcap: no price is known for the model 'nobody-knows'")


def test_the_help_names_what_there_is() -> None:
    """Also of what is shown without naming a command."""
    for arguments in (("--help",), ("-h",)):
        text = shown(*arguments, width=100)
        assert "llmcap prices 'claude-*' --host H" in text
        assert "update" in text
    assert "--host" in shown("show", "--help", width=100)


# -- Updating


@pytest.fixture
def publishers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A local server; gives a function that says what openai's gpt-4o costs and returns the options to read that."""
    monkeypatch.setattr(check, "LEAST_SHARE", 0)  # these publishers list one model each
    folder = tmp_path / "served"
    folder.mkdir()

    class Folder(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Folder) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"

        def publish(price: float) -> tuple[str, ...]:
            text = genai_json(openai=[("gpt-4o", {"input_mtok": price, "output_mtok": 10})])
            (folder / "genai.json").write_text(text)
            entry = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2.5e-06}
            (folder / "litellm.json").write_text(litellm_json(**{"gpt-4o": entry}))
            return ("--from", f"{address}/genai.json", "--from", f"{address}/litellm.json")

        yield publish
        server.shutdown()
        thread.join()


def price_in_force() -> str:
    found = choose().table.find("openai", "gpt-4o")
    assert found is not None
    return str(found.raw["prices"][-1]["rows"]["standard"]["input"])


def test_an_update_is_checked_written_and_used(publishers: Any) -> None:
    """Changes are told; what the sources don't name keeps its price, and the old price its date."""
    text = shown("update", *publishers(3), width=200)
    assert "openai gpt-4o: standard input 2.5 -> 3" in text
    assert price_in_force() == "3"
    assert choose().path == fetched_path()
    assert choose().table.find("anthropic", "claude-haiku-4-5") is not None
    assert "the table you fetched" in shown("gpt-4o", "--host", "api.openai.com", width=200)
    assert "(fetched)" in shown(width=200)


def test_an_update_can_be_undone_step_by_step(publishers: Any) -> None:
    """The table from before, then the shipped one, then nothing."""
    shown("update", *publishers(3), width=200)
    shown("update", *publishers(4), width=200)
    assert previous_of(fetched_path()).exists()
    assert "the table from before is back" in shown("update", "--undo")
    assert price_in_force() == "3"
    assert "the shipped table is back" in shown("update", "--undo")
    assert price_in_force() == "2.5"
    assert "nothing to undo" in refused("update", "--undo")


def test_a_tenfold_price_needs_a_word(publishers: Any) -> None:
    """It is listed and nothing is written; --force accepts it."""
    words = refused("update", *publishers(25))
    assert "would rise or fall tenfold or more; nothing was changed" in words
    assert "openai gpt-4o: standard input 2.5 -> 25" in words
    assert not fetched_path().exists()
    shown("update", "--force", *publishers(25), width=200)
    assert price_in_force() == "25"


def test_a_source_that_has_shrunk_needs_a_word(publishers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is cut short, or of another form, would leave out half of the prices it is to confirm."""
    monkeypatch.setattr(check, "LEAST_SHARE", Decimal("0.5"))
    words = refused("update", *publishers(3))
    assert "genai-prices lists 1 models, where it had" in words
    assert "litellm lists 1 models" in words


def test_a_dry_run_writes_nothing(publishers: Any) -> None:
    """It tells what would change."""
    assert "nothing was written" in shown("update", "--dry-run", *publishers(3), width=200)
    assert not fetched_path().exists()


def test_sources_that_make_no_table_are_refused(publishers: Any, tmp_path: Path) -> None:
    """A page instead of prices, or a file that is not there; what was in force stays."""
    page = tmp_path / "page.html"
    page.write_text("<html>")
    _, ours, _, theirs = publishers(3)
    assert "neither genai-prices' nor litellm's" in refused("update", "--from", str(page), "--from", theirs)
    assert "404" in refused("update", "--from", ours, "--from", theirs + ".gone")
    assert not fetched_path().exists()


def test_undo_stands_alone(publishers: Any) -> None:
    """Options that mean the opposite are refused."""
    assert llmcap("update", "--undo", "--force").exit_code == 2


def test_a_damaged_fetched_table_is_passed_over_with_a_warning() -> None:
    """The shipped prices are shown, and the warning stands on standard error."""
    fetched_path().parent.mkdir(parents=True)
    fetched_path().write_bytes(b"junk")
    result = llmcap("gpt-4o", "--host", "api.openai.com")
    assert result.exception is None
    assert "the shipped prices of" in result.stderr
    assert "the shipped table of" in result.stdout
