"""Run asynchronous work that signals can cancel."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

ENDED_BY_SIGTERM = 128 + signal.SIGTERM
"""Exit code that a shell reports for a command that SIGTERM has ended."""


def run_interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`. Ctrl-C and SIGTERM cancel it, so that it can clean up.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        asyncio.CancelledError: SIGTERM.
    """

    async def cancellable() -> T:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    return asyncio.run(cancellable())
