"""The gateway as a process: one uvicorn server on one socket."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack

import uvicorn

from crestline.gateway.app import create_app
from crestline.gateway.config import GatewayConfig
from crestline.gateway.envelope import request_id
from crestline.model import ConfigError


class Server(uvicorn.Server):
    """A gateway bound to its address; `url` is known before it serves."""

    def __init__(self, config: GatewayConfig, host: str = "127.0.0.1", port: int = 8080) -> None:
        """Bind.

        Args:
            port: 0 takes a free one.

        Raises:
            ConfigError: the address cannot be bound.
        """
        self.socket = _bind(host, port)
        name, number = self.socket.getsockname()[:2]
        self.url = f"http://[{name}]:{number}" if ":" in name else f"http://{name}:{number}"
        self.public_url = (config.public_url or self.url).rstrip("/")
        self._app = create_app(config, lambda: self.public_url)
        self._lifespan = AsyncExitStack()
        self._on_ready: Callable[[], None] = lambda: None
        super().__init__(
            uvicorn.Config(
                self._app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=10,
                timeout_keep_alive=65,
            )
        )

    def run_forever(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT (KeyboardInterrupt) or SIGTERM (ends the process by that signal).

        Args:
            on_ready: called once requests are answered.

        Raises:
            CrestlineError: the gateway cannot start; it may come in an ExceptionGroup.
        """
        self._on_ready = on_ready
        self.run(sockets=[self.socket])

    # uvicorn's own handling of the lifespan would log a failed start and return.
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._lifespan.enter_async_context(self._app.lifespan())
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        await self._lifespan.aclose()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror}.", hint="Name another with --host and --port."
        ) from error
    return listener


class _RequestIds(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


def configure_logging(level: str = "INFO") -> None:
    """Log lines with the request's id, to stderr."""
    handler = logging.StreamHandler()
    handler.addFilter(_RequestIds())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s [%(request_id)s] %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("aiosqlite").setLevel(logging.WARNING)
