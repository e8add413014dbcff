"""The listener for Prometheus, with limits like those of the gateway's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import make_asgi_app

from crestline.gateway.config import MetricsConfig
from crestline.gateway.metrics import REGISTRY
from crestline.model import ConfigError
from crestline.serving import ConnectionLimits
from crestline.serving.server import HttpServer, bind

_LIMITS = ConnectionLimits(max_connections=64, max_head_size=16 * 1024, head_timeout=10, body_timeout=10)


class MetricsServer(HttpServer):
    """Serves `/metrics` in the event loop that starts it.

    Raises:
        ConfigError: the address cannot be bound.
    """

    def __init__(self, config: MetricsConfig) -> None:
        try:
            listener = bind(config.host, config.port)
        except ConfigError as error:
            raise ConfigError(f"The metrics cannot be served: {error.message}", hint="Correct [metrics].") from error
        self.url = f"http://{config.host}:{listener.getsockname()[1]}/metrics"
        self._task: asyncio.Task[None] | None = None
        super().__init__(make_asgi_app(REGISTRY), listener, _LIMITS, timeout_graceful_shutdown=1)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the gateway."""
        yield

    async def start(self) -> None:
        """Serve until `stop`."""
        self._task = asyncio.create_task(self.serve(sockets=[]), name="metrics")

    async def stop(self) -> None:
        """Close the listener and all connections."""
        self.close()
        if self._task is not None:
            self.should_exit = True
            await self._task
