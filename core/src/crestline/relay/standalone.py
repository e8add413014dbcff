"""A relay on its own, beside a gateway that has none: one uvicorn server."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from crestline.model import ConfigError
from crestline.relay.config import RelayConfig
from crestline.relay.server import Relay


class Server(uvicorn.Server):
    """A relay bound to its address; its endpoints are below `/relay`.

    Args:
        port: 0 takes a free one.
        certificate, private_key: PEM files that make it speak TLS.

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
    ) -> None:
        self.relay = Relay(config)
        self._listener = _bind(host, port)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self.on_ready: Callable[[], None] = lambda: None
        super().__init__(
            uvicorn.Config(
                self.relay,
                interface="asgi3",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                ssl_certfile=certificate,
                ssl_keyfile=private_key,
                timeout_graceful_shutdown=5,
            )
        )

    def run_forever(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT (KeyboardInterrupt) or SIGTERM (ends the process by that signal).

        Raises:
            OSError: an ingress cannot listen.
        """
        self.on_ready = on_ready
        self.run(sockets=[self._listener])

    async def run_here(self) -> None:
        """The same within a running event loop."""
        await self.serve(sockets=[self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.relay.start()
        await super().startup(sockets)
        self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.relay.stop()
        await super().shutdown(sockets)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # Named as TCP, so that asyncio turns Nagle's algorithm off: small frames must not wait for each other.
        listener = socket.socket(family, kind, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigError(f"Cannot listen on {host}:{port}: {error.strerror}.", hint="Name another port.") from error
    return listener
