"""An open backend with what belongs to it once in an event loop: its jobs' monitor and its strategies."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from crestline.client.backends.base import Backend
from crestline.client.monitor import JobMonitor
from crestline.client.policy import Policy
from crestline.client.submission import SubmissionStrategy, choose_submission
from crestline.client.submission_lookup import SubmissionLookup

if TYPE_CHECKING:
    from crestline.client.files.strategy import FileStrategy


class Connection:
    """One system behind one gateway for one identity, within one event loop.

    Attributes:
        backend: the binding to the facility's API; it never waits.
        monitor: the one watcher of the backend's jobs.
        submission: how submissions are made unique; chosen by `open`.
    """

    def __init__(self, backend: Backend, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._lookup = SubmissionLookup(backend)
        self.backend = backend
        self.monitor = JobMonitor(backend, self._lookup, self._policy.poll)
        self.submission: SubmissionStrategy

    @cached_property
    def files(self) -> FileStrategy:
        """How files move; imported and chosen at the first use, since a short command moves none."""
        from crestline.client.files.choice import choose_files

        return choose_files(self.backend, self.monitor)

    async def open(self) -> None:
        """Open the backend, and choose how submissions are made unique."""
        await self.backend.open()
        self.submission = choose_submission(self.backend, self._lookup, self._policy.submit)

    async def close(self) -> None:
        """Stop the monitor and close the backend."""
        await self.monitor.close()
        await self.backend.close()
