"""Which calls a cap counts: labels against globs, in one place for caps and stores alike."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

BILLING = "billing"
API, PLAN = "api", "plan"
"""How a call is paid: by the token, in dollars; or under a subscription, where its cost is notional."""
LABELS = ("host", "provider", "model", "client", BILLING)
"""What a cap can match on and count apart."""
RUN = "run"
"""The label that caps per run match on, by themselves."""

type Match = tuple[tuple[str, str], ...]
"""(label, glob) pairs; pairs of one label are alternatives, different labels must all match."""

_SPECIAL = re.compile(r"[*?\[]")


def literal(value: str) -> str:
    """Write a value as a glob that matches it alone."""
    return _SPECIAL.sub(r"[\g<0>]", value)


def is_literal(glob: str) -> bool:
    """Whether a glob matches only the very text it is."""
    return _SPECIAL.search(glob) is None


def by_label(match: Match) -> dict[str, list[str]]:
    """Group the globs by their label; what says nothing of billing counts what is paid by the token."""
    globs: dict[str, list[str]] = {}
    for label, glob in match:
        globs.setdefault(label, []).append(glob)
    globs.setdefault(BILLING, [API])
    return globs


def any_matches(globs: Iterable[str], value: str) -> bool:
    """Whether one of the globs matches; upper and lower case differ."""
    return any(fnmatchcase(value, glob) for glob in globs)


def matches(match: Match, labels: Mapping[str, str]) -> bool:
    """Whether a call with these labels is counted; a label it does not have is empty, and billing then by the token."""
    return all(
        any_matches(globs, labels.get(label, _UNSAID.get(label, ""))) for label, globs in by_label(match).items()
    )


_UNSAID = {BILLING: API}
