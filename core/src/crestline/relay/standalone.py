"""A standalone relay, for a gateway without one: one uvicorn server."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable

from crestline.relay.config import RelayConfig
from crestline.relay.server import Relay
from crestline.serving import ConnectionLimits
from crestline.serving.server import HttpServer, bind, take_activated_socket


class Server(HttpServer):
    """A relay bound to its address. Its endpoints are below `/relay`.

    Args:
        config: the hubs.
        host: address to listen on.
        port: 0: a free one.
        certificate, private_key: PEM files for TLS.

    Raises:
        ConfigError: the address cannot be bound, or a hub's key or certificate cannot be used.
    """

    def __init__(
        self,
        config: RelayConfig,
        host: str,
        port: int,
        certificate: str | None = None,
        private_key: str | None = None,
        limits: ConnectionLimits | None = None,
        trusted_proxies: Iterable[str] = (),
    ) -> None:
        self.relay = Relay(config)
        listener = take_activated_socket() or bind(host, port)
        self.address: tuple[str, int] = listener.getsockname()[:2]
        self.on_ready: Callable[[], None] = lambda: None
        try:
            super().__init__(
                self.relay,
                listener,
                limits,
                trusted_proxies=trusted_proxies,
                interface="asgi3",
                ssl_certfile=certificate,
                ssl_keyfile=private_key,
                timeout_graceful_shutdown=5,
            )
        except BaseException:
            listener.close()
            raise

    def run_forever(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT (KeyboardInterrupt) or SIGTERM (ends the process by that signal).

        Raises:
            OSError: an ingress cannot listen.
        """
        self.on_ready = on_ready
        super().run_forever()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await self.relay.start()
            await super().startup(sockets)
        except BaseException:
            self.close()
            await self.relay.stop()
            raise
        self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.relay.stop()
        await super().shutdown(sockets)
