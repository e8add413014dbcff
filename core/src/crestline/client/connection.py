"""An open backend with what belongs to it once in an event loop: its jobs' monitor and the strategy of submission."""

from __future__ import annotations

from crestline.client.backends.base import Backend
from crestline.client.backends.messages import TransferMethod
from crestline.client.monitor import JobMonitor
from crestline.client.policy import Policy
from crestline.client.submission import SubmissionStrategy, choose_submission
from crestline.client.submission_lookup import SubmissionLookup


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

    async def open(self) -> None:
        """Open the backend, and choose how submissions are made unique there."""
        await self.backend.open()
        self.submission = choose_submission(self.backend, self._lookup, self._policy.submit)

    async def close(self) -> None:
        """Stop the monitor and close the backend."""
        await self.monitor.close()
        await self.backend.close()

    async def finish(self, transfer: TransferMethod | None) -> None:
        """Wait until a transfer's job has done its work; None: the work is done already.

        Raises:
            JobNotFoundError: the scheduler does not know the job.
            TransferError: the job failed.
        """
        if transfer is not None:
            await self.backend.end_transfer(transfer, await self.monitor.wait(transfer.job_id))
