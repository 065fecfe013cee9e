from __future__ import annotations

import gzip
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmcap_addon.errors import PriceError
from llmcap_addon.pricing import tokens
from llmcap_addon.pricing.prices import Prices
from llmcap_addon.pricing.tokens import SHARED, SLICE_CHARACTERS, Tokenizer, utf8_bytes
from tests.pricing.calls import TODAY, call


def test_known_texts_have_known_counts() -> None:
    """Counts equal o200k_base's published examples; special tokens are plain text."""
    # github.com/openai/openai-cookbook, How_to_count_tokens_with_tiktoken.ipynb
    assert SHARED.count("antidisestablishmentarianism") == 6
    assert SHARED.count("2 + 2 = 4") == 7
    assert SHARED.count("お誕生日おめでとう") == 8
    assert SHARED.count("<|endoftext|>") > 1
    assert SHARED.count("") == 0


@settings(max_examples=50)
@given(st.text(st.characters(), max_size=300))
def test_a_text_has_at_most_its_bytes_in_tokens(text: str) -> None:
    """Byte-level BPE never makes more tokens than bytes, lone surrogates included."""
    assert 0 <= SHARED.count(text) <= utf8_bytes(text)


@pytest.mark.parametrize("text", [" " * 1_000_000, "a" * 200_000, "-" * 50_000, "\n" * 100_000, "\ud800" * 1000])
def test_texts_that_break_tokenizers_are_counted(text: str) -> None:
    """A million blanks make tiktoken's matcher panic when given whole; slices are counted."""
    assert 0 < SHARED.count(text) <= utf8_bytes(text)


def test_slices_hardly_change_the_count() -> None:
    """A text longer than a slice counts as its slices, at most a token an edge more than whole."""
    text = "The quick brown fox jumps over the lazy dog. " * 2000
    edges = len(text) // SLICE_CHARACTERS
    whole = len(SHARED.load().encode_ordinary(text))
    assert whole <= SHARED.count(text) <= whole + 3 * edges


def test_the_vocabulary_is_loaded_once_by_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten threads that count at once share one load."""
    loads: list[Path] = []
    encoding = SHARED.load()

    def load(path: Path) -> object:
        loads.append(path)
        return encoding

    monkeypatch.setattr(tokens, "_load", load)
    tokenizer = Tokenizer()
    threads = [threading.Thread(target=tokenizer.count, args=("x",)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


def test_a_damaged_vocabulary_is_refused(tmp_path: Path) -> None:
    """A vocabulary with another sha256 would count wrongly: it is not used."""
    for data in (gzip.compress(b"aGk= 0\n"), b"not gzip", gzip.compress(b"x" * 100)[:-9]):
        path = tmp_path / "o200k_base.tiktoken.gz"
        path.write_bytes(data)
        with pytest.raises(PriceError, match="o200k_base"):
            Tokenizer(path).count("x")
    with pytest.raises(PriceError, match="reinstall"):
        Tokenizer(tmp_path / "missing.gz").count("x")


def test_until_the_tokenizer_is_loaded_output_is_counted_in_bytes() -> None:
    """Counting output never waits for a load."""
    tokenizer = Tokenizer()
    prices = Prices.load(now_ms=TODAY, tokenizer=tokenizer)
    assert prices.count_output(call("openai", "gpt-4o"), "hello world") == 11
    assert prices.count_output(call("openai", "gpt-4o"), "ü") == 2
    assert not tokenizer.ready


@pytest.mark.parametrize(
    ("provider", "model", "text", "expected"),
    [
        ("openai", "gpt-4o", " hello", 1),
        ("openai", "gpt-4o", " one two three four five six seven eight nine ten", 11),
        ("openai", "gpt-4o", "", 0),
        ("groq", "llama-3.3-70b-versatile", " hello", 2),
        ("anthropic", "claude-sonnet-4-5", " hello there", 4),
        ("anthropic", "claude-opus-4-7", " hello there", 6),
        ("mistral", "mistral-large-latest", " hello there", 8),
        ("mistral", "mistral-large-latest", "ab", 2),
        ("openrouter", "openai/gpt-4o", " hello", 1),
    ],
)
def test_output_is_counted_by_the_models_family(
    prices: Prices, provider: str, model: str, text: str, expected: int
) -> None:
    """o200k's count times the family's factor, at most the bytes; a single token of OpenAI's counts as one."""
    SHARED.load()
    assert prices.count_output(call(provider, model), text) == expected


def test_tiktoken_itself_is_left_alone() -> None:
    """Our encoding is registered nowhere, so tiktoken's own registry still works for others."""
    SHARED.load()
    registry = sys.modules.get("tiktoken.registry")
    assert registry is None or "llmcap_o200k" not in registry.ENCODINGS
    assert registry is None or "o200k_base" not in registry.ENCODINGS


def test_pricing_does_not_import_tiktoken() -> None:
    """A process that never counts pays for neither module nor vocabulary."""
    import subprocess

    code = (
        "import sys; from llmcap_addon.pricing.prices import Prices; Prices.load(now_ms=lambda: 0);"
        "sys.exit('tiktoken' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
