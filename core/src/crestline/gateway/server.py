"""The gateway as a process: a uvicorn server on one socket, with a graceful shutdown and a reload of its settings."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import logging
import math
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import FrameType

from crestline.gateway.app import create_app
from crestline.gateway.config import GatewayConfig
from crestline.gateway.identity.clients import sign_in_link
from crestline.gateway.metrics_server import MetricsServer
from crestline.gateway.runtime import GatewayRuntime
from crestline.gateway.tls import ServerTls
from crestline.model import ConfigError, CrestlineError
from crestline.serving.server import HttpServer, bind, take_activated_socket

_TLS_LOOK = 300
"""Ticks of uvicorn's main loop, ten per second, between two checks for a renewed certificate."""

_log = logging.getLogger("crestline.server")


class Server(HttpServer):
    """A gateway on its address, or on the socket that systemd passed. `url` is known before it serves."""

    def __init__(
        self,
        config: GatewayConfig,
        host: str | None = None,
        port: int | None = None,
        *,
        read_config: Callable[[], GatewayConfig] | None = None,
        with_sign_in_link: bool = False,
    ) -> None:
        """Bind the address.

        Args:
            config: the configuration.
            host: None: the configured one.
            port: None: the configured one; 0: a free one.
            read_config: reads the configuration again at SIGHUP; None: SIGHUP ends the process, as a closed terminal
                should.
            with_sign_in_link: whether to create `sign_in_link` for the first client.

        Raises:
            ConfigError: the address cannot be bound, or is reachable from other machines without TLS.
        """
        self._read_config = read_config
        self._with_sign_in_link = with_sign_in_link
        self.sign_in_link: str | None = None
        """A URL that signs a browser in once, within minutes of the start. It is a secret and never logged."""
        self.tls = ServerTls(config.tls) if config.tls else None
        listener = take_activated_socket() or bind(host or config.host, config.port if port is None else port)
        try:
            _check_exposure(config, listener)
            name, number = listener.getsockname()[:2]
            scheme = "https" if self.tls else "http"
            self.url = f"{scheme}://[{name}]:{number}" if ":" in name else f"{scheme}://{name}:{number}"
            self.public_url = (config.public_url or self.url).rstrip("/")
            self.runtime = GatewayRuntime(config, lambda: self.public_url)
            self._app = create_app(self.runtime)
            tls = self.tls
            super().__init__(
                self._app,
                listener,
                config.limits,
                trusted_proxies=config.trusted_proxies,
                timeout_graceful_shutdown=math.ceil(config.drain.timeout),
                ssl_context_factory=(lambda _config, _default: tls.context) if tls else None,
            )
            self._metrics = MetricsServer(config.metrics) if config.metrics else None
        except BaseException:
            listener.close()
            raise
        self._lifespan = AsyncExitStack()
        self._on_ready: Callable[[], None] = lambda: None
        self._exit_signal: int | None = None
        self._leaves_at = math.inf
        self._hung_up = asyncio.Event()

    def run_forever(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT (KeyboardInterrupt) or SIGTERM (ends the process by that signal).

        Args:
            on_ready: called when the gateway answers requests.

        Raises:
            CrestlineError: the gateway cannot start; it may be in an ExceptionGroup.
        """
        self._on_ready = on_ready
        super().run_forever()

    async def reload(self) -> None:
        """Read the configuration again and use it. If it is invalid, only log that."""
        try:
            if self._read_config is not None:
                await self.runtime.reload(self._read_config())
        except CrestlineError as error:
            _log.error("the configuration stays as it was: %s", error)
        except Exception:
            _log.exception("the configuration stays as it was")
        if self.tls is not None:
            self.tls.refresh()

    # uvicorn's own handling of the lifespan would log a failed start and return.
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await self._lifespan.enter_async_context(self._app.lifespan())
            if self._metrics is not None:
                self._lifespan.push_async_callback(self._metrics.stop)
                await self._metrics.start()
            await super().startup(sockets)
        except BaseException:
            self.close()
            await self._lifespan.aclose()
            raise
        if threading.current_thread() is threading.main_thread():
            # The existing objects stay to the end. Each garbage collection of them would delay all requests by a tenth
            # of a second.
            gc.collect()
            gc.freeze()
            if self._read_config is not None:
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hung_up.set)
                self._lifespan.callback(asyncio.create_task(self._reload_forever(), name="reload").cancel)
        if self._with_sign_in_link:
            client_id, _ = self.runtime.state_dir.read_first_client()
            code = await self.runtime.clients.new_sign_in_code(client_id)
            self.sign_in_link = sign_in_link(self.public_url, code)
        self._on_ready()

    async def on_tick(self, counter: int) -> bool:
        if time.monotonic() >= self._leaves_at and self._exit_signal is not None:
            self._leaves_at = math.inf
            super().handle_exit(self._exit_signal, None)
        if self.tls is not None and counter % _TLS_LOOK == 0:
            self.tls.refresh()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.started:
            self.runtime.readiness.draining = True
        notice = self.runtime.config.drain.ready_delay if sig == signal.SIGTERM else 0.0
        if notice > 0 and self._exit_signal is None:
            self._leaves_at = time.monotonic() + notice
        else:
            super().handle_exit(sig, frame)
        self._exit_signal = sig

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        begun = time.monotonic()
        self.runtime.readiness.draining = True
        for system in self.runtime.systems:
            await system.feeds.close()  # uvicorn waits for open responses, and an event stream never ends
        await super().shutdown(sockets)
        if self._exit_signal == signal.SIGTERM:  # Ctrl-C does not wait for transfers
            self.runtime.drain_time = max(0.0, self.runtime.config.drain.timeout - (time.monotonic() - begun))
        await self._lifespan.aclose()

    async def _reload_forever(self) -> None:
        while True:
            await self._hung_up.wait()
            self._hung_up.clear()  # a signal from here on counts again
            _log.info("reading the configuration again")
            await self.reload()


def _check_exposure(config: GatewayConfig, listener: socket.socket) -> None:
    if ipaddress.ip_address(listener.getsockname()[0]).is_loopback:
        return
    if config.tls is None and not config.allow_plain_http:
        raise ConfigError(
            "Beyond this machine, tokens and secrets would travel over plain HTTP.",
            hint="Give a certificate under [tls], or listen on 127.0.0.1 behind a proxy that does TLS, or give"
            " --allow-plain-http.",
        )
    if config.public_url is None:
        raise ConfigError(
            "Clients on other machines need to know the gateway's URL.", hint="Give it: --public-url https://HOST:PORT"
        )
