"""A YAML file as places: values that know their path and line, and what is wrong with them, all told at once."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

import yaml

from llmcap_addon.errors import ConfigError

MAX_FILE_BYTES = 1_000_000
"""A caps.yaml with thousands of caps is a tenth of that."""
MAX_VISITS = 100_000
"""Values read from one file. Aliases can make a small file mean billions (billion laughs)."""
MAX_PROBLEMS = 20
"""Problems told at once: a screenful."""
MAX_SHOWN_CHARS = 60
"""How much of a wrong value is repeated."""
LATER = "which is not in this version"
"""What is said of keys and values that the format foresees and this version does not know."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"


class Problems:
    """What is wrong with one file."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.visits = 0
        self._lines: list[tuple[int, str]] = []

    def add(self, line: int, path: str, message: str) -> None:
        """Note a problem; `line` counts from 1."""
        self._lines.append(
            (line, f"{self.source}:{line}: {path}: {message}" if path else f"{self.source}:{line}: {message}")
        )

    def visit(self) -> None:
        """Count a value that is looked at. Raises ConfigError past `MAX_VISITS`."""
        self.visits += 1
        if self.visits > MAX_VISITS:
            raise ConfigError(
                f"{self.source}: it holds more than {MAX_VISITS:,} values, aliases counted as often as used"
            )

    def raise_any(self) -> None:
        """Raise ConfigError with all problems, in the order of their lines, if there are any."""
        if not self._lines:
            return
        told = [message for _, message in sorted(self._lines, key=lambda problem: problem[0])]
        if len(told) > MAX_PROBLEMS:
            told[MAX_PROBLEMS:] = [f"{self.source}: and {len(told) - MAX_PROBLEMS} more"]
        raise ConfigError("\n".join(told))


class Place:
    """One value of the file. The readers give None, or leave out, what they have noted as a problem."""

    def __init__(self, node: yaml.Node, path: str, problems: Problems, line: int = 0) -> None:
        problems.visit()
        self.path = path
        self.line = line or node.start_mark.line + 1
        self._node = node
        self._problems = problems

    @property
    def is_scalar(self) -> bool:
        """Whether it is one text or number, and not empty."""
        return isinstance(self._node, yaml.ScalarNode) and self._node.tag != _NULL

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self._node, yaml.SequenceNode)

    @property
    def is_mapping(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self._node, yaml.MappingNode)

    def found(self) -> str:
        """The value as a message shows it."""
        if isinstance(self._node, yaml.MappingNode):
            return "a mapping"
        if isinstance(self._node, yaml.SequenceNode):
            return "a list"
        return _shown(self._node.value) if self.is_scalar else "nothing"

    def wrong(self, allowed: str, *, found: str = "", hint: str = "", key: str = "") -> None:
        """Note that this value, or its value at `key`, can't be; `allowed` says what can."""
        tail = f" ({hint})" if hint else ""
        path = _below(self.path, key) if key else self.path
        self._problems.add(self.line, path, f"found {found or self.found()}; allowed: {allowed}{tail}")

    def text(self, allowed: str) -> str | None:
        """The text of a scalar as it stands in the file, quoted or not."""
        if self.is_scalar:
            return str(self._node.value)
        self.wrong(allowed)
        return None

    def choice[T: str](self, options: Iterable[T]) -> T | None:
        """One of some words."""
        known = tuple(options)
        allowed = ", ".join(known)
        value = self.text(allowed)
        for option in known:
            if value == option:
                return option
        if value is not None:
            self.wrong(allowed, hint=did_you_mean(value, known))
        return None

    def items(self, allowed: str) -> list[Place] | None:
        """The values of a list."""
        if isinstance(self._node, yaml.SequenceNode):
            return [Place(node, f"{self.path}[{n}]", self._problems) for n, node in enumerate(self._node.value)]
        self.wrong(allowed)
        return None

    def pairs(self, allowed: str) -> list[tuple[str, Place]] | None:
        """The keys and values of a mapping, with merge keys (`<<`) resolved; a key that comes twice is a problem."""
        if not isinstance(self._node, yaml.MappingNode):
            self.wrong(allowed)
            return None
        return list(self._pairs(self._node).items())

    def fields(self, known: Iterable[str], later: Iterable[str] = ()) -> dict[str, Place]:
        """The values of a mapping by their keys, which must be `known`; `later` are those of a later version."""
        names = tuple(known)
        allowed = ", ".join(names)
        fields: dict[str, Place] = {}
        for key, place in self.pairs(f"a mapping of {allowed}") or ():
            if key in names:
                fields[key] = place
            elif key in later:
                place.unknown(key, allowed, LATER)
            else:
                place.unknown(key, allowed, hint=did_you_mean(key, names))
        return fields

    def unknown(self, key: str, allowed: str, remark: str = "", hint: str = "") -> None:
        """Note that this value's key can't be."""
        found = f"the key {_shown(key)}{', ' + remark if remark else ''}"
        self.wrong(allowed, found=found, hint=hint)

    def missing(self, key: str, allowed: str) -> None:
        """Note that a mapping lacks a key."""
        self.wrong(allowed, found="nothing", key=key)

    def _pairs(self, mapping: yaml.MappingNode, depth: int = 0) -> dict[str, Place]:
        own: dict[str, Place] = {}
        merged: dict[str, Place] = {}
        for key_node, node in mapping.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _MERGE:
                sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
                for source in sources:
                    # A few levels are all that is sane; a mapping may even merge itself.
                    if isinstance(source, yaml.MappingNode) and depth < 8:
                        merged = self._pairs(source, depth + 1) | merged
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._problems.add(line, self.path, "found a list or mapping as a key; allowed: a word")
                continue
            key = key_node.value
            path = _below(self.path, key)
            if key in own:
                self._problems.add(line, path, f"found the key twice, first in line {own[key].line}; allowed: once")
                continue
            own[key] = Place(node, path, self._problems, line)
        return merged | own


def read(path: Path) -> str:
    """Read a file's text. Raises ConfigError when it can't be read, is too large or not UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: it is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        found = data[error.start]
        raise ConfigError(f"{path}:{line}: found the byte 0x{found:02x}; allowed: text in UTF-8") from error


def parse(text: str, problems: Problems) -> Place | None:
    """Understand YAML; None for an empty file. Raises ConfigError for a syntax error."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        hint = ""
        if "alias" in f"{error.context} {error.problem}":
            hint = " (a value that begins with * must be in quotes)"
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{problems.source}:{line}: it is not YAML: {reason}{hint}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{problems.source}:{line}: it is not YAML: {error.reason}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{problems.source}: it is not YAML, or nested too deeply") from error
    return Place(node, "", problems) if node is not None else None


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """A hint at the nearest known word; empty when none is near."""
    near = get_close_matches(value, tuple(known), n=1)
    return f'did you mean "{near[0]}"?' if near else ""


def _below(path: str, key: str) -> str:
    if _PLAIN_KEY.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{_shown(key)}]"


def _shown(value: str) -> str:
    short = value if len(value) <= MAX_SHOWN_CHARS else value[:MAX_SHOWN_CHARS] + "…"
    return '"' + "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in short) + '"'
