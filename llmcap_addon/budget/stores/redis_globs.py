"""Globs for Lua, which has neither fnmatch nor characters: worked out here, so that every store matches alike."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from functools import lru_cache

from llmcap_addon.budget.matching import Match, by_label, is_literal
from llmcap_addon.budget.stores.text import text

type Token = int | list[int]
"""A character's code point, `ANY`, `MANY`, or the ranges of a set as from, to, from, to …"""

ANY = -1
MANY = -2
_LAST = 0x10FFFF


@lru_cache(maxsize=1_024)
def globs_for_lua(match: Match) -> str:
    """Write a match as JSON, {label: [glob, …]}: a string matches only itself, else the glob is a list of tokens."""
    return json.dumps({label: [_glob(text(glob)) for glob in globs] for label, globs in by_label(match).items()})


def _glob(glob: str) -> str | list[Token]:
    if is_literal(glob):
        return glob
    tokens: list[Token] = []
    at = 0
    while at < len(glob):
        after = _end_of_set(glob, at)
        if after is not None:
            tokens.append(_set(glob[at:after]))
            at = after
            continue
        tokens.append({"*": MANY, "?": ANY}.get(glob[at], ord(glob[at])))
        at += 1
    points = [token for token in tokens if isinstance(token, int) and token >= 0]
    return "".join(map(chr, points)) if len(points) == len(tokens) else tokens


def _end_of_set(glob: str, start: int) -> int | None:
    """Where a set that begins here is over, as fnmatch has it: "]" counts only after one character, "!" apart."""
    if glob[start] != "[":
        return None
    first = start + 1 + glob.startswith("!", start + 1)
    end = glob.find("]", first + 1)
    return end + 1 if end >= 0 else None


def _set(glob: str) -> Token:
    """What a set matches, asked of fnmatch itself: it can only change at, and just after, a character it names."""
    edges = sorted({0, *(point for char in glob for point in (ord(char), ord(char) + 1) if point <= _LAST)})
    ranges: list[int] = []
    for edge, following in zip(edges, [*edges[1:], _LAST + 1], strict=True):
        if fnmatchcase(chr(edge), glob):
            ranges += (edge, following - 1)
    return ranges[0] if len(ranges) == 2 and ranges[0] == ranges[1] else ranges
