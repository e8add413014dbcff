"""Waiting for files that a job or another program writes."""

from __future__ import annotations

import asyncio
import logging

from crestline.client.backends.base import Backend
from crestline.client.remote_names import check_remote, expand
from crestline.model import GatewayUnavailableError, RateLimitedError

log = logging.getLogger(__name__)


async def wait_for_path(backend: Backend, pattern: str, interval: float) -> list[str]:
    """The paths that match, as soon as there is one; a gateway that does not answer is asked again.

    Args:
        pattern: an absolute path, or a pattern of a shell.
        interval: seconds between two looks.
    """
    path = check_remote(pattern)
    while True:
        try:
            if found := await expand(backend, path):
                return found
            pause = interval
        except (GatewayUnavailableError, RateLimitedError) as error:
            log.warning("Cannot tell whether %s exists: %s", pattern, error)
            pause = max(interval, error.retry_after or 0.0)
        await asyncio.sleep(pause)
