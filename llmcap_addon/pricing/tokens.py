"""Tokens: counting text offline with a shipped o200k_base vocabulary.

tiktoken's own loader is never called: it downloads without a time limit. The encoding is built from the shipped file
and registered nowhere, so a program that uses tiktoken itself is not disturbed.
"""

from __future__ import annotations

import gzip
import hashlib
import threading
from binascii import a2b_base64
from pathlib import Path
from typing import TYPE_CHECKING

from llmcap_addon.errors import PriceError

if TYPE_CHECKING:
    from tiktoken import Encoding

SHIPPED = Path(__file__).parent / "data" / "o200k_base.tiktoken.gz"
SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
"""Of the unpacked vocabulary, as tiktoken_ext/openai_public.py expects it."""

SLICE_CHARACTERS = 20_000
"""Longer texts are counted in slices: a run of about a million blanks makes tiktoken's matcher panic, and a slice's
edge costs at most a token or two in thousands."""

_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)
"""tiktoken_ext/openai_public.py, o200k_base."""
_SPECIAL = {"<|endoftext|>": 199999, "<|endofprompt|>": 200018}


class Tokenizer:
    """o200k_base, loaded once when first needed (about a second and 80 MB) and safe to use from any thread."""

    def __init__(self, path: Path = SHIPPED) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._encoding: Encoding | None = None
        self._warming = False

    @property
    def ready(self) -> bool:
        """True once counting no longer has to load first."""
        return self._encoding is not None

    def warm(self) -> None:
        """Load in a thread, so that nothing waits; a vocabulary that can't be read shows when counting needs it."""
        with self._lock:
            if self._warming or self.ready:
                return
            self._warming = True
        threading.Thread(target=self._warm, name="llmcap-tokenizer", daemon=True).start()

    def _warm(self) -> None:
        try:
            self.load()
        except PriceError:
            self._warming = False

    def load(self) -> Encoding:
        """Give the encoding, loading it if need be; raises PriceError when the vocabulary is missing or damaged."""
        if self._encoding is None:
            with self._lock:
                if self._encoding is None:
                    self._encoding = _load(self._path)
        return self._encoding

    def count(self, text: str) -> int:
        """Count the o200k tokens of a text, special tokens read as plain text; loads first if need be."""
        encoding = self.load()
        if len(text) <= SLICE_CHARACTERS:
            return _count(encoding, text)
        return sum(
            _count(encoding, text[start : start + SLICE_CHARACTERS]) for start in range(0, len(text), SLICE_CHARACTERS)
        )


def utf8_bytes(text: str) -> int:
    """Give the length of a text in UTF-8, a lone surrogate as three bytes: at least its tokens, for byte-level BPE."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _count(encoding: Encoding, text: str) -> int:
    try:
        return len(encoding.encode_ordinary(text))
    except BaseException as error:
        # A panic of tiktoken's Rust code is a BaseException of a class that can't be imported.
        if type(error).__name__ != "PanicException":
            raise
        return utf8_bytes(text)


def _load(path: Path) -> Encoding:
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, ValueError) as error:
        raise PriceError(f"{path}: the token vocabulary can't be read ({error}); reinstall llmcap-addon") from error
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise PriceError(f"{path}: the token vocabulary is damaged (wrong sha256); reinstall llmcap-addon")
    from tiktoken import Encoding  # late: a process that never counts needs neither the module nor its memory

    words = data.split()  # a token in base64 and its rank, 200,000 times
    ranks = dict(zip(map(a2b_base64, words[::2]), map(int, words[1::2]), strict=True))
    return Encoding("llmcap_o200k", pat_str=_PATTERN, mergeable_ranks=ranks, special_tokens=_SPECIAL)


SHARED = Tokenizer()
"""The process's one tokenizer: a reload of the configuration must not load 80 MB again."""
