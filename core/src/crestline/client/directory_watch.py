"""Watching a directory on a system: what appears in it, as it appears."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio

from crestline import clock
from crestline.client.backends.base import Backend
from crestline.model import File, FileMissingError, GatewayUnavailableError, RateLimitedError


async def watch_directory(
    backend: Backend, path: str, *, interval: float = 0.2, max_interval: float = 1.2, retry_timeout: float = 600.0
) -> AsyncGenerator[list[File], None]:
    """The entries that are new since the last look, once per look and in the order of their names; without end.

    A directory that does not exist (yet) is an empty one.

    Args:
        interval: seconds between two looks after something new; grows to `max_interval` while nothing comes.
        retry_timeout: seconds to retry while the gateway does not answer.

    Raises:
        GatewayUnavailableError: no answer for longer than that.
    """
    seen: set[str] = set()
    pause = interval
    answered = clock.monotonic()
    while True:
        try:
            entries = await backend.files.list(path)
        except FileMissingError:
            entries = []
        except (GatewayUnavailableError, RateLimitedError) as error:
            if clock.monotonic() - answered > retry_timeout:
                raise
            await anyio.sleep(error.retry_after or max_interval)
            continue
        answered = clock.monotonic()
        new = sorted((entry for entry in entries if entry.name not in seen), key=lambda entry: entry.name)
        seen = {entry.name for entry in entries}
        pause = interval if new else min(pause * 1.5, max_interval)
        yield new
        await anyio.sleep(pause)
