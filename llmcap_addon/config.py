"""caps.yaml: from text to `Config`, or to one ConfigError that tells everything that is wrong with it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal
from zoneinfo import available_timezones

from platformdirs import user_config_path

from llmcap_addon.budget.caps import Cap
from llmcap_addon.budget.stores import ALLOWED_URLS, DEFAULT_URL, fault_of
from llmcap_addon.budget.windows import LOCAL, zone
from llmcap_addon.config_caps import CAPS_WORDS, LIMIT_WORDS, MAX_LIMIT_USD, dollars, read_caps
from llmcap_addon.config_hosts import CustomHost, read_hosts
from llmcap_addon.config_prices import read_prices
from llmcap_addon.config_yaml import Place, Problems, did_you_mean, parse, read
from llmcap_addon.errors import ConfigError
from llmcap_addon.money import nanousd
from llmcap_addon.pricing.overrides import PriceOverride

MAX_WAIT_MS = 600_000
"""The longest `wait:`: the SDKs' own time limit is ten minutes, nobody listens after that."""

_WAIT = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|)")
_WAIT_UNITS = {"ms": Decimal(1), "s": Decimal(1_000), "": Decimal(1_000), "m": Decimal(60_000)}


@dataclass(frozen=True, slots=True)
class Config:
    """What the user chose; each field is a key of caps.yaml."""

    caps: tuple[Cap, ...]
    """Empty: only count."""
    timezone: str = LOCAL
    prices: Mapping[str, Mapping[str, PriceOverride]] = MappingProxyType({})
    """By host (lower case), then by glob of models."""
    hosts: Mapping[str, CustomHost] = MappingProxyType({})
    """By host, lower case."""
    unknown_price: Literal["highest", "refuse"] = "highest"
    unmetered: Literal["refuse", "allow"] = "refuse"
    shorten: Literal["auto", "always", "never"] = "auto"
    wait_ms: int = 20_000
    refuse_with: int | None = None
    """The HTTP status of refusals, 400 … 499; None chooses by dialect and client."""
    on_error: Literal["refuse", "allow"] = "refuse"
    store: str = DEFAULT_URL
    source: Path | None = None
    """The file it was read from; None when there was none."""


def builtin() -> Config:
    """What holds without a caps.yaml: $5 per day."""
    return Config(caps=(Cap("daily", nanousd(5), "day"),))


def for_cap(limit: str) -> Config:
    """What `llmcap run --cap LIMIT` means: one cap for that run. Raises ConfigError."""
    amount = dollars(limit, MAX_LIMIT_USD)
    if amount is None:
        raise ConfigError(f'--cap: found "{limit}"; allowed: {LIMIT_WORDS}')
    return Config(caps=(Cap("run", nanousd(amount), "run"),))


def find(explicit: str | None, cwd: Path) -> Path | None:
    """Find caps.yaml: the one named, else ./caps.yaml, else the user's, else None.

    Raises ConfigError when the one that was named is not there.
    """
    if explicit:
        path = cwd / Path(explicit).expanduser()
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file; name a caps.yaml that exists, or none")
        return path
    places = (cwd / "caps.yaml", user_config_path("llmcap") / "caps.yaml")
    return next((path for path in places if path.is_file()), None)


def load(path: Path) -> Config:
    """Read a caps.yaml. Raises ConfigError with every problem, each with its line, path, what was found, what is
    allowed."""
    return parse_config(read(path), path)


def parse_config(text: str, source: Path) -> Config:
    """Understand the text of a caps.yaml; `source` is what messages call it."""
    problems = Problems(_shown_path(source))
    root = parse(text, problems)
    if root is None:
        raise ConfigError(f"{problems.source}:1: caps: found nothing; allowed: {CAPS_WORDS}")
    fields = root.fields(("caps", *_SECTIONS))
    caps: tuple[Cap, ...] = ()
    if "caps" in fields:
        caps = read_caps(fields["caps"])
    elif root.is_mapping:
        root.missing("caps", CAPS_WORDS)
    values: dict[str, Any] = {}
    for key, (field, section) in _SECTIONS.items():
        if key in fields and (value := section(fields[key])) is not None:
            values[field] = value
    problems.raise_any()
    return Config(caps=caps, source=source, **values)


class ConfigWatch:
    """Notices that a caps.yaml has changed; the caller asks now and then, there are no timers here.

    To be made before the first `load`: what is changed after that is never missed.
    """

    def __init__(self, path: Path, stat: Callable[[Path], os.stat_result] = os.stat) -> None:
        self.path = path
        self._stat = stat
        self._seen = self._signature()

    def poll(self) -> Config | ConfigError | None:
        """Give the new Config after a change, or why the old one stays, once for each change; None in between."""
        now = self._signature()
        if now == self._seen:
            return None
        self._seen = now
        if now is None:
            return ConfigError(f"{_shown_path(self.path)}: it is gone; the caps stay as they were")
        try:
            return load(self.path)
        except ConfigError as error:
            return error

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            found = self._stat(self.path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


def _one_of(*options: str) -> Callable[[Place], str | None]:
    return lambda place: place.choice(options)


def _timezone(place: Place) -> str | None:
    words = f"{LOCAL}, or an IANA name like Europe/Berlin"
    name = place.text(words)
    if name is None:
        return None
    try:
        zone(name)
    except ValueError:
        place.wrong(words, hint=did_you_mean(name, (LOCAL, *available_timezones())))
        return None
    return name


def _wait(place: Place) -> int | None:
    words = "a time from 0 to 10m, like 20s, 500ms, or a number of seconds"
    text = place.text(words)
    found = _WAIT.fullmatch(text) if text is not None else None
    wait_ms = Decimal(found[1]) * _WAIT_UNITS[found[2]] if found else None
    if wait_ms is not None and wait_ms <= MAX_WAIT_MS:
        return int(wait_ms)
    if text is not None:
        place.wrong(words)
    return None


def _status(place: Place) -> int | None:
    words = "an HTTP status from 400 to 499"
    text = place.text(words)
    if text is not None and re.fullmatch("4[0-9]{2}", text):
        return int(text)
    if text is not None:
        place.wrong(words)
    return None


def _store(place: Place) -> str | None:
    url = place.text(ALLOWED_URLS)
    if url is None:
        return None
    if fault := fault_of(url):
        place.wrong(fault[1], found="" if fault[0] == f'"{url}"' else fault[0])
        return None
    return url


def _shown_path(path: Path) -> str:
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


_SECTIONS: Mapping[str, tuple[str, Callable[[Place], Any]]] = {
    "timezone": ("timezone", _timezone),
    "prices": ("prices", read_prices),
    "hosts": ("hosts", read_hosts),
    "unknown_price": ("unknown_price", _one_of("highest", "refuse")),
    "unmetered": ("unmetered", _one_of("refuse", "allow")),
    "shorten": ("shorten", _one_of("auto", "always", "never")),
    "wait": ("wait_ms", _wait),
    "refuse_with": ("refuse_with", _status),
    "on_error": ("on_error", _one_of("refuse", "allow")),
    "store": ("store", _store),
}
"""Each key of the file besides `caps`, the field of `Config` it sets, and what reads it."""
