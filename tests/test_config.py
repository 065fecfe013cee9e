"""caps.yaml: what it means, and what is said when it means nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from platformdirs import user_config_path

from llmcap_addon import config
from llmcap_addon.budget.caps import Cap
from llmcap_addon.config import Config, ConfigWatch, builtin, find, for_cap, load, parse_config
from llmcap_addon.config_hosts import CustomHost
from llmcap_addon.config_yaml import MAX_FILE_BYTES, MAX_PROBLEMS
from llmcap_addon.errors import ConfigError
from llmcap_addon.pricing.overrides import PriceOverride

SOURCE = Path("caps.yaml")
ROOT = Path(__file__).parents[1]
USD = 1_000_000_000
PRICE_KEYS = (
    "input, cached_input, cache_write, cache_write_1h, output, reasoning, audio_input, cached_audio, audio_output,"
    " image_input, cached_image, image_output, web_search, file_search, maps, code_session, per_image, per_character,"
    " per_second_in, per_second_out, per_page, per_query, above, tiers, geography, off_peak, from"
)


def read(text: str) -> Config:
    return parse_config(text, SOURCE)


def refused(text: str) -> str:
    """The message for a file that is wrong."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, SOURCE)
    return str(caught.value)


def complaint(text: str) -> str:
    """The message for a file; one that is right has only its name."""
    try:
        parse_config(text, SOURCE)
    except ConfigError as error:
        return str(error)
    return "caps.yaml: right"


def one_cap(**fields: str) -> str:
    """A file with one cap in line 2, whose values are written as told."""
    written = {"name": "daily", "limit": "5", "per": "day"} | fields
    return "caps:\n  - {" + ", ".join(f"{key}: {value}" for key, value in written.items()) + "}\n"


# ── what it means ──


def test_every_key() -> None:
    """Every key of the file sets its field."""
    text = """
caps:
  - {name: daily, limit: 10, per: day}
  - name: opus
    limit: $2.50
    per: week
    match: {model: ["claude-opus-*", claude-4-opus], host: API.Anthropic.com}
    each: [client, model]
timezone: Europe/Berlin
prices:
  API.openai.com:
    my-tuned-model: {input: 3, cached_input: 0.75, output: 12}
    "*": {input: 0, output: 0, cache_write: 1}
hosts:
  llm.Internal.example: {api: openai}
  localhost: {api: anthropic, provider: Mine}
  My-Res.openai.azure.com: {api: openai, deployments: {My-GPT: gpt-4o, "2": o3}, zone: eu}
unknown_price: refuse
unmetered: allow
shorten: never
wait: 1m
refuse_with: 402
on_error: allow
store: sqlite:///var/lib/llmcap.sqlite
"""
    assert read(text) == Config(
        caps=(
            Cap("daily", 10 * USD, "day"),
            Cap(
                "opus",
                2_500_000_000,
                "week",
                (("model", "claude-opus-*"), ("model", "claude-4-opus"), ("host", "api.anthropic.com")),
                ("client", "model"),
            ),
        ),
        timezone="Europe/Berlin",
        prices={
            "api.openai.com": {
                "my-tuned-model": PriceOverride.flat(3, 12, cached_input="0.75"),
                "*": PriceOverride.flat(0, 0, cache_write=1),
            }
        },
        hosts={
            "llm.internal.example": CustomHost("openai", "openai"),
            "localhost": CustomHost("anthropic", "mine"),
            "my-res.openai.azure.com": CustomHost("openai", "azure", {"my-gpt": "gpt-4o", "2": "o3"}, "eu"),
        },
        unknown_price="refuse",
        unmetered="allow",
        shorten="never",
        wait_ms=60_000,
        refuse_with=402,
        on_error="allow",
        store="sqlite:///var/lib/llmcap.sqlite",
        source=SOURCE,
    )


def test_shipped_example_is_right() -> None:
    """The caps.yaml of the repository can be read, and also with every line of it taken out of its comment."""
    text = (ROOT / "caps.yaml").read_text()
    assert read(text).caps == (Cap("daily", 5 * USD, "day"), Cap("fuse", 2 * USD, "minute"))
    keys = "|".join(config._SECTIONS)
    everything = re.sub(rf"(?m)^( *)# (?=- {{|  |(?:{keys}):)", r"\1", text)
    found = read(everything)
    assert len(found.caps) == 6
    assert [*found.prices, *found.hosts] == ["api.openai.com", "llm.internal.example"]
    for field in ("unknown_price", "unmetered", "shorten", "wait_ms", "on_error", "store", "timezone"):
        assert getattr(found, field) == getattr(builtin(), field), "the example names the defaults"


def test_no_caps_only_counts() -> None:
    """An empty list is a choice; the rest has its defaults."""
    assert read("caps: []") == Config(caps=(), source=SOURCE)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("0", 0),
        ("5", 5 * USD),
        ("$5", 5 * USD),
        ('"5.00"', 5 * USD),
        ("0.1", 100_000_000),  # a float would be 100000000.00000001 nano-dollars
        (".5", 500_000_000),
        ("1_000", 1_000 * USD),
        ("0.000000001", 1),
        ("9000000", 9_000_000 * USD),
        ("007", 7 * USD),  # never octal
    ],
)
def test_limits_are_exact(text: str, limit: int) -> None:
    """A limit is what stands there, to the nano-dollar."""
    assert read(one_cap(limit=text)).caps[0].limit == limit


@pytest.mark.parametrize(
    "text",
    ["-1", "true", ".nan", ".inf", "5e3", "1e999999999", "0x10", "1:30", "9000001", "ten", '""', "5 USD", "'1,000'",
     "0.0000000001", "5.", "$", "٥", "null", "[5]", "{a: 5}", "1__0", "'5\n'"],
)  # fmt: skip
def test_other_limits_are_refused(text: str) -> None:
    """What is no amount of dollars is never guessed at."""
    message = refused(one_cap(limit=text))
    assert message.startswith("caps.yaml:2: caps[0].limit: found ")
    assert "allowed: dollars from 0 to 9,000,000" in message


@given(st.integers(0, 9_000_000 * USD))
def test_any_amount_written_out_is_read_back(amount: int) -> None:
    """Every amount of nano-dollars can be a limit."""
    text = f"{amount // USD}.{amount % USD:09d}"
    assert read(one_cap(limit=text)).caps[0].limit == amount
    assert for_cap(text).caps[0].limit == amount


@pytest.mark.parametrize(
    ("text", "wait_ms"), [("0", 0), ("20", 20_000), ("20s", 20_000), ("1m", 60_000), ("250ms", 250), ("0.5s", 500)]
)
def test_waits(text: str, wait_ms: int) -> None:
    """A wait has a unit, or is in seconds."""
    assert read(f"caps: []\nwait: {text}").wait_ms == wait_ms


def test_names_may_look_like_other_things() -> None:
    """`on`, `5` and `~x` are names; nothing is made of them but text."""
    text = "caps:\n" + "".join(f"- {{name: {name}, limit: 1, per: run}}\n" for name in ("on", "5", "1.50", "naïve cap"))
    assert [cap.name for cap in read(text).caps] == ["on", "5", "1.50", "naïve cap"]


def test_aliases_and_merge_keys() -> None:
    """YAML's own ways not to repeat oneself work; own keys beat merged ones."""
    text = """
caps:
  - &base {name: one, limit: &five 5, per: day, match: {provider: openai}}
  - {<<: *base, name: two}
  - {<<: [{per: week}, *base], name: three, limit: *five}
"""
    match = (("provider", "openai"),)
    assert read(text).caps == (
        Cap("one", 5 * USD, "day", match),
        Cap("two", 5 * USD, "day", match),
        Cap("three", 5 * USD, "week", match),
    )


# ── what is wrong ──


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            one_cap(per="dayly"),
            (
                'caps.yaml:2: caps[0].per: found "dayly"; allowed: minute, hour, day, week, month, run, ever'
                ' (did you mean "day"?)'
            ),
        ),
        (
            "timezone: local\n",
            (
                "caps.yaml:1: caps: found nothing; allowed: a list of caps, like [{name: daily, limit: 5, per: day}],"
                " or [] to only count"
            ),
        ),
        (
            one_cap() + "- {name: x}",
            "caps.yaml:3: it is not YAML: while parsing a block mapping, expected <block end>, but found '-'",
        ),
        (
            one_cap() + "wiat: 3",
            (
                'caps.yaml:3: wiat: found the key "wiat"; allowed: caps, timezone, prices, hosts, unknown_price, unmetered,'
                ' shorten, wait, refuse_with, on_error, store (did you mean "wait"?)'
            ),
        ),
        (
            one_cap() + "store: sqlite\nstore: sqlite",
            "caps.yaml:4: store: found the key twice, first in line 3; allowed: once",
        ),
        (
            one_cap(match="{model: *opus}"),
            "caps.yaml:2: it is not YAML: found undefined alias 'opus' (a value that begins with * must be in quotes)",
        ),
        (
            one_cap(match="{model: *-opus}"),
            "caps.yaml:2: it is not YAML: found undefined alias '-opus' (a value that begins with * must be in quotes)",
        ),
        (
            one_cap(match='{tag: "x"}'),
            (
                'caps.yaml:2: caps[0].match.tag: found the key "tag", which is not in this version;'
                " allowed: host, provider, model, client, billing"
            ),
        ),
        (
            one_cap(each="[model, user]"),
            (
                'caps.yaml:2: caps[0].each[1]: found "user", which is not in this version;'
                " allowed: host, provider, model, client, billing"
            ),
        ),
        (
            one_cap(each="modle"),
            (
                'caps.yaml:2: caps[0].each: found "modle"; allowed: host, provider, model, client, billing'
                ' (did you mean "model"?)'
            ),
        ),
        (
            one_cap(per="{rolling: 5h}"),
            (
                "caps.yaml:2: caps[0].per: found a rolling period, which is not in this version;"
                " allowed: minute, hour, day, week, month, run, ever"
            ),
        ),
        (
            one_cap(at="{80%: warn}"),
            (
                'caps.yaml:2: caps[0].at: found the key "at", which is not in this version;'
                " allowed: name, limit, per, match, each"
            ),
        ),
        (
            one_cap(match="{model: []}"),
            (
                "caps.yaml:2: caps[0].match.model: found an empty list; allowed: a glob like claude-opus-*,"
                " or a list of them"
            ),
        ),
        (
            one_cap(match="{model: [a, {b: c}]}"),
            (
                "caps.yaml:2: caps[0].match.model[1]: found a mapping; allowed: a glob like claude-opus-*,"
                " or a list of them"
            ),
        ),
        (
            one_cap(name='" "'),
            'caps.yaml:2: caps[0].name: found " "; allowed: a name of 1 to 64 printable characters',
        ),
        (
            one_cap(name='"a\\tb"'),
            'caps.yaml:2: caps[0].name: found "a\\x09b"; allowed: a name of 1 to 64 printable characters',
        ),
        (
            one_cap() + "  - {name: daily, limit: 1, per: run}",
            'caps.yaml:3: caps[1].name: found the name "daily" again; allowed: a name that no other cap has',
        ),
        (
            "caps: [5]",
            'caps.yaml:1: caps[0]: found "5"; allowed: a mapping of name, limit, per, match, each',
        ),
        (
            "caps: []\ntimezone: Europe/Berlim",
            (
                'caps.yaml:2: timezone: found "Europe/Berlim"; allowed: local, or an IANA name like Europe/Berlin'
                ' (did you mean "Europe/Berlin"?)'
            ),
        ),
        (
            "caps: []\nrefuse_with: 500",
            'caps.yaml:2: refuse_with: found "500"; allowed: an HTTP status from 400 to 499',
        ),
        (
            "caps: []\nwait: 1:30",
            'caps.yaml:2: wait: found "1:30"; allowed: a time from 0 to 10m, like 20s, 500ms, or a number of seconds',
        ),
        (
            "caps: []\nshorten: yes",
            'caps.yaml:2: shorten: found "yes"; allowed: auto, always, never',
        ),
        (
            "caps: []\non_error:",
            "caps.yaml:2: on_error: found nothing; allowed: refuse, allow",
        ),
        (
            "caps: []\nstore: redis://me:secret@h:many",
            (
                'caps.yaml:2: store: found "redis://…" with an address that can\'t be read; allowed: redis://[USER:PASSWORD@]'
                "HOST[:PORT][/DB][?prefix=NAME], rediss://… for TLS (&ca=/absolute/path.pem)"
            ),
        ),
        (
            "caps: []\nstore: ./ledger.db",
            (
                'caps.yaml:2: store: found "./ledger.db"; allowed: sqlite, sqlite:///absolute/path,'
                " redis://HOST:PORT/DB, rediss://HOST:PORT/DB"
            ),
        ),
        (
            "caps: []\nhosts: {https://x.example/v1: {api: openai}}",
            (
                'caps.yaml:2: hosts["https://x.example/v1"]: found the key "https://x.example/v1";'
                " allowed: a host's name alone, like llm.example.com (no scheme, port or path)"
            ),
        ),
        (
            "caps: []\nhosts: {x.example: {provider: me}}",
            'caps.yaml:2: hosts["x.example"].api: found nothing; allowed: openai, anthropic, google, bedrock',
        ),
        (
            "caps: []\nhosts: {x.example: {api: openai, deployments: [gpt-4o]}}",
            (
                'caps.yaml:2: hosts["x.example"].deployments: found a list;'
                " allowed: a mapping of deployments to their models, like {my-gpt: gpt-4o}"
            ),
        ),
        (
            "caps: []\nhosts: {x.example: {api: openai, zone: mars}}",
            'caps.yaml:2: hosts["x.example"].zone: found "mars"; allowed: global, us, eu, us-gov, regional',
        ),
        (
            'caps: []\nhosts: {x.example: {api: openai, deployments: {mine: ""}}}',
            (
                'caps.yaml:2: hosts["x.example"].deployments.mine: found "";'
                " allowed: the model behind the deployment, like gpt-4o"
            ),
        ),
        (
            "caps: []\nprices:\n  x.example:\n    m: {input: 1}",
            (
                'caps.yaml:4: prices["x.example"].m.output: found nothing; allowed: dollars per million tokens from 0 to'
                " 1,000,000, written out, like 5 or 0.25 (no exponent, at most 9 decimals)"
            ),
        ),
        (
            "caps: []\nprices: {x.example: {input: 1, output: 2}}",
            (
                'caps.yaml:2: prices["x.example"].input: found "1";'
                f" allowed: a mapping of {PRICE_KEYS}\n"
                'caps.yaml:2: prices["x.example"].output: found "2";'
                f" allowed: a mapping of {PRICE_KEYS}"
            ),
        ),
        (
            "caps: []\n? [a, b]\n: 1",
            "caps.yaml:2: found a list or mapping as a key; allowed: a word",
        ),
        (
            "- a\n- b",
            (
                "caps.yaml:1: found a list; allowed: a mapping of caps, timezone, prices, hosts, unknown_price, unmetered,"
                " shorten, wait, refuse_with, on_error, store"
            ),
        ),
    ],
)
def test_errors_say_where_what_and_what_instead(text: str, message: str) -> None:
    """A message holds the line, the key's path, what was found and what is allowed; and it is the only one."""
    assert refused(text) == message


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_empty_file_has_no_caps(text: str) -> None:
    """An empty file is not "no caps": that must be said."""
    assert re.match(r"caps\.yaml:\d: (caps: )?found nothing; allowed: a (list|mapping) of caps", refused(text))


def test_all_problems_are_told_at_once_in_order() -> None:
    """Everything that is wrong is in one message, by line, up to a screenful."""
    message = refused("caps:\n- {name: a, limit: x, per: y}\n- {}\nshorten: z\n")
    assert [line.split(": ")[:2] for line in message.splitlines()] == [
        ["caps.yaml:2", "caps[0].limit"],
        ["caps.yaml:2", "caps[0].per"],
        ["caps.yaml:3", "caps[1].name"],
        ["caps.yaml:3", "caps[1].limit"],
        ["caps.yaml:3", "caps[1].per"],
        ["caps.yaml:4", "shorten"],
    ]
    many = refused("caps:\n" + "- {}\n" * 100).splitlines()
    assert len(many) == MAX_PROBLEMS + 1
    assert many[-1] == "caps.yaml: and 280 more"


def test_long_and_strange_values_are_shown_short() -> None:
    """A wrong value neither fills the screen nor moves the cursor."""
    message = refused(one_cap(per='"' + "\\e[2J" + "x" * 10_000 + '"'))
    assert len(message) < 250
    assert message.isprintable()
    assert len(refused("caps: []\n" + "k" * 10_000 + ": 1")) < 600


def test_billion_laughs() -> None:
    """A file whose aliases mean billions of values is refused at once."""
    models = "&m [" + ", ".join(["a"] * 1_000) + "]"
    text = f"x: {models}\ncaps:\n" + "".join(
        f"- {{name: c{number}, limit: 1, per: run, match: {{model: *m, client: *m}}}}\n" for number in range(900)
    )
    assert "more than 100,000 values" in refused(text)


@pytest.mark.parametrize(
    "text", ["caps: &a [*a]", "&a {<<: *a}", "caps: [&a {<<: [*a, *a]}]", "[" * 5_000, "{a: " * 5_000]
)
def test_endless_files_end(text: str) -> None:
    """What holds or merges itself, or is nested deeper than anything, is refused."""
    assert refused(text)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"caps: []\n# caf\xe9\n", r"caps\.yaml:2: found the byte 0xe9; allowed: text in UTF-8"),
        ("caps: []".encode("utf-16"), r"caps\.yaml:1: found the byte 0xff; allowed: text in UTF-8"),
        (b"caps: []\nstore: \x00\n", r"caps\.yaml:2: it is not YAML: special characters are not allowed"),
        (b"#" * (MAX_FILE_BYTES + 1), r"caps\.yaml: it is larger than 1,000,000 bytes"),
        (b"caps: []\n---\ncaps: []\n", r"caps\.yaml:2: it is not YAML: expected a single document"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, data: bytes, message: str) -> None:
    """What is not UTF-8, not YAML or far too large is told as that."""
    path = tmp_path / "caps.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_byte_order_mark_is_no_hindrance(tmp_path: Path) -> None:
    """Some editors begin a UTF-8 file with a mark."""
    path = tmp_path / "caps.yaml"
    path.write_bytes(b"\xef\xbb\xbfcaps: []")
    assert load(path).source == path


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder, or nothing, is told as that."""
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        load(tmp_path / "caps.yaml")


SCRAPS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["day", "openai", "5"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["caps", "name", "limit", "per", "match", "each", "hosts", "prices", "api", "wait", "store"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(SCRAPS)
def test_any_yaml_is_a_config_or_a_config_error(value: Any) -> None:
    """Whatever the file holds, it is read or refused with messages that begin with its name; nothing else happens."""
    assert all(line.startswith("caps.yaml:") for line in complaint(yaml.safe_dump(value)).splitlines())


@given(st.text(alphabet=st.sampled_from("caps:[]{}-, \n\t'\"&*!|>%@`#x5<"), max_size=40))
def test_any_text_is_a_config_or_a_config_error(text: str) -> None:
    """Broken YAML of any kind is refused with a message."""
    assert complaint(text).startswith("caps.yaml:")


# ── without a file, and finding it ──


def test_builtin_is_five_dollars_a_day() -> None:
    """Without a caps.yaml there is a cap."""
    assert builtin() == Config(caps=(Cap("daily", 5 * USD, "day"),))


def test_for_cap_is_one_cap_for_the_run() -> None:
    """`llmcap run --cap 2` needs no file."""
    assert for_cap("$0.50") == Config(caps=(Cap("run", 500_000_000, "run"),))
    with pytest.raises(ConfigError, match='--cap: found "two"; allowed: dollars from 0'):
        for_cap("two")


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is named, else ./caps.yaml, else the user's, else none; a named one must be there."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where macOS looks
    cwd = tmp_path / "here"
    cwd.mkdir()
    assert find(None, cwd) is None
    users = user_config_path("llmcap") / "caps.yaml"
    users.parent.mkdir(parents=True)
    users.touch()
    assert find(None, cwd) == find("", cwd) == users
    (cwd / "caps.yaml").touch()
    assert find(None, cwd) == cwd / "caps.yaml"
    (cwd / "other.yaml").touch()
    assert find("other.yaml", cwd) == cwd / "other.yaml"
    assert find(str(users), cwd) == users
    with pytest.raises(ConfigError, match=r"missing\.yaml: there is no such file"):
        find("missing.yaml", cwd)


# ── changes while it runs ──


def test_watch_reports_each_change_once(tmp_path: Path) -> None:
    """A change gives the new Config once; a broken edit or a lost file gives an error once, and it recovers."""
    path = tmp_path / "caps.yaml"
    path.write_text("caps: []")
    watch = ConfigWatch(path)
    assert watch.poll() is None
    path.write_text(one_cap())
    found = watch.poll()
    assert isinstance(found, Config)
    assert found.caps == (Cap("daily", 5 * USD, "day"),)
    assert watch.poll() is None
    path.write_text(one_cap(per="dayly"))
    assert 'did you mean "day"' in str(watch.poll())
    assert watch.poll() is None
    path.unlink()
    assert "it is gone; the caps stay as they were" in str(watch.poll())
    assert watch.poll() is None
    path.write_text("caps: []")
    assert watch.poll() == Config(caps=(), source=path)


def test_watch_sees_a_file_put_in_its_place(tmp_path: Path) -> None:
    """Editors write a new file and rename it over the old one: same size, same time, another file."""
    path, new = tmp_path / "caps.yaml", tmp_path / "new"
    for file, limit in ((path, "5"), (new, "6")):
        file.write_text(one_cap(limit=limit))
        os.utime(file, ns=(0, 0))
    watch = ConfigWatch(path)
    new.rename(path)
    found = watch.poll()
    assert isinstance(found, Config)
    assert found.caps[0].limit == 6 * USD


def test_watch_takes_a_stat_of_its_own(tmp_path: Path) -> None:
    """What can't be asked for counts as gone."""

    def fail(_: Path) -> os.stat_result:
        raise PermissionError

    assert ConfigWatch(tmp_path / "caps.yaml", fail).poll() is None
