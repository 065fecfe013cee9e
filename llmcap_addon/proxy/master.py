"""Our own lean proxy: mitmproxy's Master with the few addons that proxying takes, and LLMCap.

Most of what mitmdump costs per request is that every hook walks some 36 addons, twice. `serve` runs it in the
foreground, `RunningProxy` in a thread, for `llmcap run` and the demo; `worker` is one of several.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from mitmproxy import http, options
from mitmproxy.addonmanager import AddonManager
from mitmproxy.addons import core, disable_h2c, next_layer, proxyauth, proxyserver, termlog, tlsconfig
from mitmproxy.master import Master

from llmcap_addon.config import Config
from llmcap_addon.errors import LLMCapError
from llmcap_addon.keep import keep_folder
from llmcap_addon.proxy.addons import LeanAddons
from llmcap_addon.proxy.hooks import Hooks
from llmcap_addon.proxy.service import Service, Settings, Summary

CA_FILE = "mitmproxy-ca-cert.pem"
"""mitmproxy's name for its authority's certificate, without the key."""

START_TIMEOUT_S = 30.0
"""A start takes about a second; making the authority's key on a slow machine takes a few more."""
_OF_A_CHECK = {"fields", "getattr", "name", "typecheck", "check_option_type", "type"}
"""What mitmproxy's check of its fields' types calls and nothing else."""


@dataclass(frozen=True, slots=True)
class ProxyOptions:
    """How to run the lean proxy."""

    ca_dir: Path
    """Folder of the certificate authority; made, and closed to others, when it isn't there."""
    listen_host: str = "127.0.0.1"
    listen_port: int = 8080
    """0 takes a free one."""
    modes: tuple[str, ...] = ()
    """mitmproxy's modes, with an address each, where the port is not for us to open; then host and port say nothing."""
    config: str | None = None
    config_value: Config | None = None
    store: str | None = None
    view: Literal["auto", "off"] = "auto"
    verbosity: Literal["error", "info"] | None = None
    """What is logged; None as the view has it, which takes nothing but errors when it is off."""
    client_hint: str = ""
    run_id: str = field(default_factory=lambda: secrets.token_hex(8))
    ready: Callable[[str, int, Path], None] | None = None
    """Called with host, port and the authority's certificate file once connections are taken."""
    extra_addons: tuple[Any, ...] = ()
    trusted_upstream_ca: Path | None = None
    """Authorities to trust upstream instead of the public ones (the demo's stand-ins)."""


class LeanProxy:
    """One run of the proxy, on one event loop."""

    def __init__(self, wanted: ProxyOptions) -> None:
        self.summary = Summary()
        """What the run came to, once it has ended."""
        self.service: Service | None = None
        """What works behind the hooks, from the moment `ready` is called."""
        self._wanted = wanted
        self._is_up = False
        self._is_stopped = False
        self._master: Master | None = None

    async def run(self) -> None:
        """Serve until `shutdown`; raises LLMCapError when it can't start."""
        wanted = self._wanted
        try:
            keep_folder(wanted.ca_dir)
        except OSError as error:
            raise LLMCapError(f"the folder {wanted.ca_dir} can't be made or closed to others: {error}") from error
        master = Master(options.Options())
        addons: AddonManager = LeanAddons(master)
        master.addons = addons
        # Without a view somebody else owns standard output: the child of `llmcap run`.
        output = termlog.TermLog(sys.stderr if wanted.view == "off" else sys.stdout)
        self._master = master
        hooks = Hooks(
            Settings(
                config=wanted.config,
                config_value=wanted.config_value,
                store=wanted.store,
                view=wanted.view,
                client_hint=wanted.client_hint,
                run_id=wanted.run_id,
            )
        )
        master.addons.add(
            output,
            core.Core(),
            disable_h2c.DisableH2C(),
            proxyauth.ProxyAuth(),
            proxyserver.Proxyserver(),
            next_layer.NextLayer(),
            tlsconfig.TlsConfig(),
            *wanted.extra_addons,
            hooks,
            _Ready(self, hooks),
        )
        master.options.update(
            confdir=str(wanted.ca_dir),
            listen_host=wanted.listen_host,
            listen_port=wanted.listen_port,
            termlog_verbosity=wanted.verbosity or ("error" if wanted.view == "off" else "info"),
        )
        if wanted.modes:
            master.options.update(mode=list(wanted.modes))
        if wanted.trusted_upstream_ca is not None:
            master.options.update(ssl_verify_upstream_trusted_ca=str(wanted.trusted_upstream_ca))
        if self._is_stopped:
            master.shutdown()
        errors = _FirstError()
        logging.getLogger().addHandler(errors)
        try:
            await master.run()
        finally:
            logging.getLogger().removeHandler(errors)
            output.uninstall()
            await master.addons.get("proxyserver").servers.update([])  # mitmproxy leaves that to the process's end
        self.summary = hooks.summary
        if hooks.failure is not None:
            raise hooks.failure
        if not self._is_up and not self._is_stopped:
            raise LLMCapError(errors.message.removeprefix("llmcap: ") or "the proxy did not start")

    def shutdown(self) -> None:
        """Stop serving; may be called from any thread, and from a signal handler."""
        self._is_stopped = True
        if self._master is not None:
            self._master.shutdown()

    def connections(self) -> int:
        """How many clients are connected."""
        return 0 if self._master is None else len(self._master.addons.get("proxyserver").connections)

    def announce(self, service: Service) -> None:
        """Tell where it listens; when it could not, mitmproxy has logged why, and it stops."""
        assert self._master is not None
        addresses = self._master.addons.get("proxyserver").listen_addrs()
        if not addresses:
            self._master.shutdown()
            return
        self._is_up = True
        self.service = service
        host, port, *_ = addresses[0]
        if self._wanted.ready is not None:
            self._wanted.ready(host, port, self._wanted.ca_dir / CA_FILE)


class _Ready:
    """Comes after our hooks in the chain: announces the proxy when they have started."""

    def __init__(self, proxy: LeanProxy, hooks: Hooks) -> None:
        self._proxy = proxy
        self._hooks = hooks

    def running(self) -> None:
        """Called by mitmproxy when it serves."""
        if self._hooks.service is not None:
            # What a start leaves behind stays: to search it for garbage again and again held up all streams for 50 ms.
            gc.freeze()
            self._proxy.announce(self._hooks.service)


class _FirstError(logging.Handler):
    """Keeps the first error of the start, to be told as the reason why it failed."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.message = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.message = self.message or record.getMessage()


def serve(wanted: ProxyOptions) -> int:
    """Run the proxy in the foreground until SIGINT or SIGTERM; gives the exit code. Raises LLMCapError."""
    proxy = LeanProxy(wanted)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, proxy.shutdown)
        await proxy.run()

    quiet_loggers()
    spare_checks()
    asyncio.run(main())
    return 0


class RunningProxy:
    """The proxy in a thread of its own, for as long as a `with` block lasts; raises LLMCapError if it can't start."""

    def __init__(self, wanted: ProxyOptions) -> None:
        self.address = ""
        """"127.0.0.1:43210"."""
        self.ca_file = wanted.ca_dir / CA_FILE
        self._up = threading.Event()
        self._error: BaseException | None = None
        ready = wanted.ready

        def on_ready(host: str, port: int, ca_file: Path) -> None:
            self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            if ready is not None:
                ready(host, port, ca_file)
            self._up.set()

        self._proxy = LeanProxy(replace(wanted, ready=on_ready))
        self._thread = threading.Thread(target=self._run, name="llmcap-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait(START_TIMEOUT_S)
        if self._error is not None:
            self._thread.join()
            raise self._error
        if not self.address:
            self._proxy.shutdown()
            raise LLMCapError(f"the proxy did not start within {START_TIMEOUT_S:.0f} s")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._proxy.shutdown()
        self._thread.join()

    def summary(self) -> Summary:
        """What the run came to; whole once the `with` block has ended."""
        return self._proxy.summary

    def _run(self) -> None:
        quiet_loggers()
        spare_checks()
        try:
            asyncio.run(self._proxy.run())
        except BaseException as error:  # handed to the thread that waits for the start
            self._error = error
        finally:
            self._up.set()


def spare_checks() -> None:
    """Take mitmproxy's check of each field's type off every request and answer: it is for mitmproxy's developers.

    It takes a tenth of what mitmproxy needs for a request. What does anything else in its place stays.
    """
    check = getattr(http.MessageData, "__post_init__", None)  # `python -O` leaves it out
    if check is not None and set(check.__code__.co_names) <= _OF_A_CHECK:
        http.MessageData.__post_init__ = lambda _: None  # type: ignore[method-assign]


def quiet_loggers() -> None:
    """Only what goes wrong, and our own lines: a connection more or less tells a person nothing."""
    logging.getLogger().setLevel(logging.DEBUG)
    for name in ("mitmproxy", "asyncio", "hpack", "quic"):
        logging.getLogger(name).setLevel(logging.WARNING)
