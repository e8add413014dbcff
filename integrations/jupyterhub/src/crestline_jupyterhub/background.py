"""Background tasks, which no caller awaits. The module keeps them until they end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

logger = logging.getLogger(__name__)

_running: set[asyncio.Task[Any]] = set()


def spawn_task(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Run `work` as a task and log its errors."""
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("Work in the background broke", exc_info=error)
