"""Write the output of running jobs to the log of tasks without a worker."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from asgiref.sync import sync_to_async

from crestline.client import BlockingSystem, JobOutput, OutputLine, System
from crestline.model import CrestlineError, Job, JobNotFoundError
from crestline.model.text import printable, printable_output
from crestline_airflow.attempts import XComStore
from crestline_airflow.shared import RequestBudget

STORED_AS = "firecrest_output"
"""Key of the XCom with the position in the output. Workers write it before they defer, since reading a missing XCom
logs an error."""

_TAIL = 20
"""Number of lines of stderr to show in the task log if a job failed."""
_ENOUGH = 64 * 1024
"""Number of bytes that usually contain these lines."""
_TOO_MUCH = 64 * 1024 * 1024


def tail(system: BlockingSystem, path: str, lines: int) -> list[str]:
    """Return the last lines of a text file, or none if the whole file must be fetched and is too large.

    Raises:
        CrestlineError: the file cannot be read.
    """
    size = system.stat(path)["size"]
    if system.supports_ranges:
        begin = max(0, size - _ENOUGH)
        return system.read_range(path, begin, size - begin).decode(errors="replace").splitlines()[-lines:]
    if size > _TOO_MUCH:
        return []
    return system.read_text(path).splitlines()[-lines:]


def last_lines(system: BlockingSystem, path: str | None, log: logging.Logger) -> list[str]:
    """Return the last lines of a file of a failed job. Errors are logged and give no lines."""
    if path is None:
        return []
    try:
        return tail(system, path, _TAIL)
    except CrestlineError as error:
        log.info("The end of %s cannot be shown: %s", printable(path), error)
        return []


def logged(line: OutputLine) -> str:
    """Format a line of a job's output for the task log."""
    text = printable_output(line.text)
    return text if line.stream == "stdout" else f"stderr: {text}"


class LiveOutput:
    """Follows the output of one job. Its position is stored in an XCom, so that another triggerer can continue.

    Args:
        ti: the task instance, or None without XComs (`dag.test()`).
        is_new: whether no other triggerer can have logged any of the output yet.
    """

    def __init__(
        self, system: System, budget: RequestBudget, ti: Any, log: logging.Logger, *, is_new: bool = False
    ) -> None:
        self._system = system
        self._budget = budget
        self._store = XComStore(ti) if ti is not None else None
        self._log = log
        self._output: JobOutput | None = None
        self._position: str | None = None
        self._saved_position: str | None = None
        self._is_new = is_new

    @property
    def position(self) -> str | None:
        """Position after the last logged line. None before the first line."""
        return self._output.position if self._output is not None else self._position

    async def follow(self, job: Job) -> None:
        """Log the job's output until the job ends, sharing the request budget with the other jobs."""
        try:
            await self._restore_position(job)
            await self._budget.wait()
            await self._log_lines(await self._system.metadata(job), hurry=False)
        except JobNotFoundError:
            self._log.info("The output of job %s comes when it has ended", job.job_id)
        except CrestlineError as error:
            self._log.warning("The output of job %s comes when it has ended: %s", job.job_id, error)

    async def finish(self, job: Job) -> None:
        """Log the remaining output of a finished job.

        Raises:
            CrestlineError: the output cannot be read.
        """
        if self._output is None:
            await self._restore_position(job)
        self._position = self.position
        await self._log_lines(job, hurry=True)

    async def _log_lines(self, job: Job, *, hurry: bool) -> None:
        output = self._system.output(job, position=self._position, throttle=None if hurry else self._next_chunk)
        self._output = output
        async with contextlib.aclosing(output):
            async for line in output:
                self._log.info("%s", logged(line))

    async def _next_chunk(self) -> None:
        await self._save_position()
        await self._budget.wait()

    async def _save_position(self) -> None:
        if self._store is not None and self.position != self._saved_position:
            self._saved_position = self.position
            await sync_to_async(self._store.set)(STORED_AS, {"job_id": self._job_id, "position": self._saved_position})

    async def _restore_position(self, job: Job) -> None:
        self._job_id = job.job_id
        if self._store is not None and not self._is_new:
            kept = await sync_to_async(self._store.get)(STORED_AS)
            if isinstance(kept, dict) and kept.get("job_id") == job.job_id:
                self._position = self._saved_position = kept["position"]
