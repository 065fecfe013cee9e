"""Unclaimed paths: requests to LLM hosts that no dialect meters and that are not known to be free, so that none slips
by unseen.

What is kept of a request is its host, method and the shape of its path: no query, no id, no key. It stands in a file of
its own beside the ledger, one JSON object a line, only ever appended to while proxies run, so several may share it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from llmcap_addon.keep import keep_file

MAX_PATHS = 500
"""Paths told apart; they come from requests, so a client may invent them without end. The rest are one entry."""
MAX_SHOWN_CHARS = 160
MAX_SEGMENTS = 16
MAX_FILE_BYTES = 4 << 20
"""What is read of a file; twenty thousand lines."""
COMPACT_BYTES = 256 << 10
"""A file longer than this is written anew, with one line a path, when a proxy starts."""
FURTHER = "(further paths)"
_REST = ("", "", FURTHER)

_SAFE = re.compile(r"[A-Za-z0-9._~-]{1,64}")
_ID = re.compile(
    r"\d+"
    r"|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"  # a UUID
    r"|(?=[^\d]*\d)[0-9a-fA-F]{8,}"
    r"|(?:[A-Za-z]+[_-])+(?=[A-Za-z0-9]*\d)[A-Za-z0-9]{10,}"  # resp_…, file-…, sk-proj-…
    r"|.*[A-Za-z0-9]{20,}.*"
)
_METHOD = re.compile(r"[A-Z]{1,10}")


@dataclass(frozen=True, slots=True)
class UnclaimedPath:
    """How often a path was asked for."""

    host: str
    method: str
    path: str
    """Its shape: "/v1/videos/{id}/remix"."""
    count: int
    forwarded: int
    """Those that `unmetered: allow` let through, uncounted; the others were refused."""
    first_ms: int
    """Unix time in milliseconds."""
    last_ms: int


def path_shape(path: str) -> str:
    """Give a path with its ids, and whatever could be one or a key, written as {id}; without a query."""
    segments = path.partition("?")[0].strip("/").split("/")
    shown = [_segment(segment) for segment in segments[:MAX_SEGMENTS]] + ["…"] * (len(segments) > MAX_SEGMENTS)
    return ("/" + "/".join(shown))[:MAX_SHOWN_CHARS]


def _segment(segment: str) -> str:
    """What stands behind a colon is a method of Google's: models/{id}:predict."""
    name, colon, method = segment.partition(":")
    if colon and not (method.isascii() and method.isalpha() and len(method) <= MAX_SHOWN_CHARS // 4):
        return "{id}"
    known = not name or (_SAFE.fullmatch(name) and not _ID.fullmatch(name))
    return (name if known else "{id}") + colon + method


class Unclaimed:
    """The unclaimed paths of this run, and the file that keeps those of all runs. Not for several threads at once,
    but for `flush`, which one may run in a thread."""

    def __init__(self, file: Path, now_ms: Callable[[], int]) -> None:
        self._file = file
        self._now_ms = now_ms
        self._seen: dict[tuple[str, str, str], UnclaimedPath] = {}
        self._unwritten: dict[tuple[str, str, str], UnclaimedPath] = {}
        self.is_urgent = False
        """True when a path was seen for the first time since the last flush."""

    def note(self, host: str, method: str, path: str, *, forwarded: bool) -> UnclaimedPath:
        """Count one request; gives its path's entry in this run."""
        now_ms = self._now_ms()
        one = UnclaimedPath(
            host=host[:MAX_SHOWN_CHARS],
            method=method if _METHOD.fullmatch(method) else "OTHER",
            path=path_shape(path),
            count=1,
            forwarded=int(forwarded),
            first_ms=now_ms,
            last_ms=now_ms,
        )
        self.is_urgent = self.is_urgent or _key(one) not in self._seen
        _add(self._unwritten, one)
        return _add(self._seen, one)

    def seen(self) -> tuple[UnclaimedPath, ...]:
        """Give this run's paths, the most recent first."""
        return _ordered(self._seen.values())

    def take_unwritten(self) -> tuple[UnclaimedPath, ...]:
        """Give what is not in the file yet, for `write`."""
        taken, self._unwritten, self.is_urgent = tuple(self._unwritten.values()), {}, False
        return taken

    def put_back(self, taken: Iterable[UnclaimedPath]) -> None:
        """Keep for later what could not be written."""
        for one in taken:
            _add(self._unwritten, one)

    def write(self, taken: Iterable[UnclaimedPath]) -> None:
        """Append to the file, in one piece. Raises OSError."""
        lines = "".join(_line(one) for one in taken)
        if lines:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            keep_file(self._file)
            with self._file.open("ab", buffering=0) as out:
                out.write(lines.encode())

    def compact(self) -> None:
        """Write a long file anew, shorter; what another process appends in that very moment is lost. Raises OSError."""
        if not self._file.exists() or self._file.stat().st_size <= COMPACT_BYTES:
            return
        fresh = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        keep_file(fresh)
        fresh.write_text("".join(_line(one) for one in read_unclaimed(self._file)), "utf-8")
        fresh.replace(self._file)


def file_beside(ledger: Path) -> Path:
    """Give the file that belongs to a ledger's."""
    return ledger.with_name(f"{ledger.stem}.unmetered.jsonl")


def read_unclaimed(file: Path, since_ms: int = 0) -> tuple[UnclaimedPath, ...]:
    """Read what all runs have seen and was last asked for since then, the most recent first; a line that is none is
    left out. Raises OSError for a file that is there and can't be read."""
    found: dict[tuple[str, str, str], UnclaimedPath] = {}
    try:
        with file.open("rb") as lines:
            text = lines.read(MAX_FILE_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return ()
    for line in text.splitlines():
        one = _read(line)
        if one is not None:
            _add(found, one)
    return tuple(one for one in _ordered(found.values()) if one.last_ms >= since_ms)


def together(many: Iterable[Iterable[UnclaimedPath]]) -> tuple[UnclaimedPath, ...]:
    """Add up what several processes have seen, the most recent first."""
    found: dict[tuple[str, str, str], UnclaimedPath] = {}
    for paths in many:
        for one in paths:
            _add(found, one)
    return _ordered(found.values())


def _line(one: UnclaimedPath) -> str:
    values = {name: getattr(one, name) for name in UnclaimedPath.__dataclass_fields__}
    return json.dumps(values, ensure_ascii=True, separators=(",", ":")) + "\n"


def _read(line: str) -> UnclaimedPath | None:
    try:
        raw = json.loads(line)
        values = {name: raw[name] for name in UnclaimedPath.__dataclass_fields__}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    texts, numbers = list(values.values())[:3], list(values.values())[3:]
    if not all(isinstance(text, str) and len(text) <= MAX_SHOWN_CHARS for text in texts):
        return None
    if not all(type(number) is int and 0 <= number < 1 << 53 for number in numbers):
        return None
    return UnclaimedPath(**values)


def _key(one: UnclaimedPath) -> tuple[str, str, str]:
    return one.host, one.method, one.path


def _add(entries: dict[tuple[str, str, str], UnclaimedPath], one: UnclaimedPath) -> UnclaimedPath:
    if _key(one) not in entries and len(entries) - (_REST in entries) >= MAX_PATHS:
        one = replace(one, host="", method="", path=FURTHER)
    before = entries.get(_key(one))
    if before is not None:
        one = replace(
            before,
            count=before.count + one.count,
            forwarded=before.forwarded + one.forwarded,
            first_ms=min(before.first_ms, one.first_ms),
            last_ms=max(before.last_ms, one.last_ms),
        )
    entries[_key(one)] = one
    return one


def _ordered(entries: Iterable[UnclaimedPath]) -> tuple[UnclaimedPath, ...]:
    return tuple(sorted(entries, key=lambda one: (-one.last_ms, _key(one))))
