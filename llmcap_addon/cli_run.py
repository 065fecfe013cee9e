"""One child process behind the proxy: its environment, the certificates it trusts, its signals and its exit code."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import certifi
import click
import platformdirs

from llmcap_addon import config as configs
from llmcap_addon.report import summary_line
from llmcap_addon.wire.hosts import known_hosts

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""What `NO_PROXY` must hold: local model servers and callbacks are none of the proxy's business."""

BUNDLE_VARIABLES = (
    "SSL_CERT_FILE",  # OpenSSL, Python, Go and Rust programs, Claude Code, opencode, Codex
    "CODEX_CA_CERTIFICATE",
    "REQUESTS_CA_BUNDLE",  # requests, boto3
    "AWS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
)
"""Variables that name the only authorities a program trusts: the file must hold the system's too, for hosts that are
not decrypted keep their own certificates."""

EXTRA_VARIABLE = "NODE_EXTRA_CA_CERTS"
"""Node adds these authorities to its own."""

PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")

SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, BSD
)

FORWARDED = (signal.SIGTERM, signal.SIGHUP)
"""Sent to us alone, so handed on to the child."""
FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
"""A terminal sends them to the child as well; only when there is none are they handed on."""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----\n.*?\n-----END CERTIFICATE-----", re.DOTALL)
"""RFC 7468, section 5: what stands between is comment."""

NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""As a shell has them (POSIX, 2.8.2 Exit Status for Commands)."""


def ca_folder() -> Path:
    """Give the folder of the proxy's own authority; its key lies there, so nobody else may read it."""
    return platformdirs.user_state_path("llmcap") / "ca"


def run_capped(
    program: str,
    command: Sequence[str],
    cap_usd: str | None,
    config: str | None,
    store: str | None,
    ca_dir: Path | None,
) -> int:
    """Run a command behind a proxy of its own; gives its exit code.

    `cap_usd` makes a cap of this run and takes the place of caps.yaml. Raises LLMCapError when the proxy can't start.
    """
    from llmcap_addon.proxy.master import ProxyOptions, RunningProxy

    options = ProxyOptions(
        listen_host="127.0.0.1",
        listen_port=0,
        config=config,
        store=store,
        view="off",
        ca_dir=ca_dir or ca_folder(),
        config_value=None if cap_usd is None else configs.for_cap(cap_usd),
        client_hint=Path(command[0]).name,
    )
    no_proxy, bypassing = split_no_proxy(os.environ, known_hosts({}))
    if bypassing:
        _say(f"NO_PROXY={','.join(bypassing)} would lead calls around the cap; left out for this run")
    if (other := replaced_proxy(os.environ)) is not None:
        _say(f"the proxy {other} of your settings is not used in this run")
    with RunningProxy(options) as proxy:
        bundle = write_bundle(proxy.ca_file, proxy.ca_file.parent, os.environ)
        environment = child_environment(os.environ, f"http://{proxy.address}", proxy.ca_file, bundle, no_proxy)
        try:
            code = run_child(program, command, environment)
        except OSError as error:
            _say(f"{command[0]}: {error.strerror or error}")
            code = NOT_EXECUTABLE
    summary = proxy.summary()
    click.echo(summary_line(summary.spent, summary.counts, summary.balances), err=True)
    return code


def _say(message: str) -> None:
    click.echo(f"llmcap: {message}", err=True)


def child_environment(
    environment: Mapping[str, str], proxy_url: str, ca_file: Path, bundle: Path, no_proxy: Sequence[str] = ()
) -> dict[str, str]:
    """Give the child's environment: the user's, led through the proxy and trusting its authority.

    `ca_file` holds the proxy's authority alone, `bundle` also those the child would trust without us; `no_proxy` are
    the hosts that may go around the proxy, beside loopback.
    """
    child = dict(environment)
    child.update(dict.fromkeys(PROXY_VARIABLES, proxy_url))
    child.update(dict.fromkeys(BUNDLE_VARIABLES, str(bundle)))
    child[EXTRA_VARIABLE] = str(bundle if environment.get(EXTRA_VARIABLE) else ca_file)
    child["NODE_USE_ENV_PROXY"] = "1"  # Node's own fetch ignores HTTPS_PROXY without it
    around = ",".join(dict.fromkeys((*no_proxy, *LOOPBACK)))
    child.update(dict.fromkeys(("NO_PROXY", "no_proxy"), around))
    return child


def split_no_proxy(environment: Mapping[str, str], llm_hosts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Part the user's own `NO_PROXY` into entries to keep, and those that would lead an LLM host around the caps."""
    hosts = tuple(llm_hosts)
    kept: list[str] = []
    dropped: list[str] = []
    for entry in (environment.get("no_proxy") or environment.get("NO_PROXY") or "").split(","):
        name = entry.strip().lower()
        if not name:
            continue
        if name.count(":") == 1:
            name = name.partition(":")[0]  # with a port; an IPv6 address has more colons
        suffix = name.lstrip("*").lstrip(".")
        covers = any(not suffix or host == suffix or host.endswith(f".{suffix}") for host in hosts)
        (dropped if covers else kept).append(entry.strip())
    return kept, dropped


def replaced_proxy(environment: Mapping[str, str]) -> str | None:
    """Give the host of the proxy that the user's own settings name and that ours takes the place of, if any."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        if value := environment.get(name):
            with contextlib.suppress(ValueError):
                parts = urlsplit(value if "://" in value else f"//{value}")
                return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    return None


def write_bundle(ca_file: Path, folder: Path, environment: Mapping[str, str]) -> Path:
    """Write a file of the authorities that the child would trust without us, and ours; gives its path.

    Each authority stands in it once, ours first. Named after its content and put in place whole, so that several runs
    can share it.
    """
    certificates: dict[bytes, None] = {}
    for source in (ca_file, *_trusted(environment)):
        with contextlib.suppress(OSError):
            certificates.update(dict.fromkeys(_CERTIFICATE.findall(source.read_bytes().replace(b"\r\n", b"\n"))))
    content = b"\n".join(certificates) + b"\n"
    bundle = folder / f"bundle-{hashlib.sha256(content).hexdigest()[:16]}.pem"
    if not bundle.exists():
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".bundle-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(name).replace(bundle)
    return bundle


def _trusted(environment: Mapping[str, str]) -> Iterator[Path]:
    """Files of authorities: what the user's variables name, the system's, and Mozilla's for tools that bring it."""
    for variable in (*BUNDLE_VARIABLES, EXTRA_VARIABLE):
        if named := environment.get(variable):
            yield Path(named)
    yield Path(ssl.get_default_verify_paths().openssl_cafile)
    yield from map(Path, SYSTEM_BUNDLES)
    yield Path(certifi.where())


def find_program(command: str, environment: Mapping[str, str]) -> tuple[str | None, int]:
    """Find what to execute; gives its path, or None and the exit code that a shell would give."""
    path = shutil.which(command, path=environment.get("PATH", os.defpath))
    if path is not None:
        return path, 0
    return None, NOT_EXECUTABLE if os.sep in command and Path(command).exists() else NOT_FOUND


def run_child(program: str, command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end, its standard streams untouched and our signals handed on; gives its exit code.

    128 + n when signal n ended it. OSError when it can't be started.
    """
    early: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def hand_on(number: int, _frame: FrameType | None) -> None:
        if number in FROM_TERMINAL and _in_foreground():
            return
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    before = {number: signal.signal(number, hand_on) for number in (*FORWARDED, *FROM_TERMINAL)}
    try:
        child = subprocess.Popen(list(command), executable=program, env=dict(environment))  # noqa: S603 (the user's own)
        for number in early:
            child.send_signal(number)
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _in_foreground() -> bool:
    """Whether a terminal sends its signals to our process group, and so to the child too."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
