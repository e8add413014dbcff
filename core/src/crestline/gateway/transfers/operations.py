"""Background operations, which continue after the response."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from anyio import CancelScope

from crestline.model import CrestlineError

_log = logging.getLogger("crestline.transfers")

Work = Callable[[], Awaitable[None]]
Outcome = Callable[[str, str], Awaitable[None]]


class Operations:
    """Running operations by id."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[CancelScope, asyncio.Task[None]]] = {}
        self._stopping = False

    def launch(self, name: str, work: Work, outcome: Outcome, *, resumes: bool = False) -> None:
        """Run `work` and call `outcome` with its state and reason at the end.

        Args:
            name: id of the operation.
            work: the operation.
            outcome: receives the state and the reason.
            resumes: whether the next gateway resumes it, so that it has no outcome if this one is stopped.
        """
        scope = CancelScope()
        task = asyncio.create_task(self._run(name, scope, work, outcome, resumes), name=f"transfer {name}")
        self._running[name] = (scope, task)

    async def cancel(self, name: str) -> bool:
        """Cancel an operation and wait for its outcome. Return False if none with this id runs here."""
        if name not in self._running:
            return False
        scope, task = self._running[name]
        scope.cancel()
        await asyncio.wait([task])
        return True

    async def wait(self, seconds: float) -> None:
        """Wait up to this number of seconds for the running operations to end."""
        if seconds > 0 and self._running:
            await asyncio.wait([task for _, task in self._running.values()], timeout=seconds)

    async def stop(self) -> None:
        """Cancel all operations. They count as failed, except those that the next gateway resumes."""
        self._stopping = True
        await asyncio.gather(*(self.cancel(name) for name in list(self._running)))

    async def _run(self, name: str, scope: CancelScope, work: Work, outcome: Outcome, resumes: bool) -> None:
        state, reason = "COMPLETED", ""
        try:
            with scope:
                try:
                    await work()
                except CrestlineError as error:
                    state, reason = "FAILED", str(error)
            if scope.cancelled_caught:
                state, reason = ("FAILED", "The gateway was stopped.") if self._stopping else ("CANCELLED", "")
        except Exception:
            _log.exception("transfer %s failed", name)
            state, reason = "FAILED", "Internal error. The gateway's log says more."
        try:
            if not (self._stopping and resumes and scope.cancelled_caught):
                await outcome(state, reason)
        finally:
            del self._running[name]
