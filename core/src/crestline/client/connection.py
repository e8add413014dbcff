"""An open backend with what belongs to it once in an event loop: the monitor of its jobs and the look-up of its
submissions."""

from __future__ import annotations

from crestline.client.backends.base import Backend
from crestline.client.backends.messages import TransferMethod
from crestline.client.monitor import JobMonitor
from crestline.client.policy import PollPolicy
from crestline.client.submission_lookup import SubmissionLookup


class Connection:
    """One system behind one gateway for one identity, within one event loop.

    Attributes:
        backend: the binding to the facility's API; it never waits.
        submissions: finds the jobs of earlier submissions.
        monitor: the one watcher of the backend's jobs.
    """

    def __init__(self, backend: Backend, policy: PollPolicy | None = None) -> None:
        self.backend = backend
        self.submissions = SubmissionLookup(backend)
        self.monitor = JobMonitor(backend, self.submissions, policy)

    async def open(self) -> None:
        """Open the backend."""
        await self.backend.open()

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
