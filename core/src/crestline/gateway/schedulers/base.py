"""The interface of schedulers."""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from crestline.concurrency import map_concurrently
from crestline.gateway.hosts.base import Completed
from crestline.gateway.schedulers.directives import sbatch_lines
from crestline.model import CrestlineError, UnsupportedError
from crestline.model.checks import Check
from crestline.wire.compute import JobDescription, JobInfo, JobMetadata
from crestline.wire.extensions import AllocationInfo, JobUsageInfo
from crestline.wire.iri import JobRequest
from crestline.wire.status import Account, Node, Partition, Reservation

T = TypeVar("T")

RunProgram = Callable[..., Awaitable[Completed]]
"""Runs a program with its arguments on the system's machine."""


class JobQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filter of a job list. A job must meet all conditions."""

    ids: tuple[str, ...] | None = None
    """Only these jobs, regardless of their age. The id of an array selects all its tasks."""
    all_users: bool = False
    accounts: frozenset[str] | None = None
    """Only jobs of these accounts."""
    names: frozenset[str] | None = None
    """Only jobs with one of these names. Names match as a whole."""
    window: int | None = None
    """Only jobs that were active within this number of seconds."""
    since: float | None = None
    """The oldest acceptable answer, as a reading of `time.monotonic()`, unless a newer one is costly. None: the
    scheduler decides."""

    def selects(self, name: str, account: str | None) -> bool:
        """Whether a job with this name and account matches."""
        return (self.names is None or name in self.names) and (self.accounts is None or account in self.accounts)


class JobList(list[JobInfo]):
    """A list of jobs with its age and a note on missing jobs."""

    age: float = 0.0
    """Seconds since the scheduler was asked."""

    partial: str = ""
    """The reason if the list is incomplete (accounting does not respond), otherwise empty."""


async def each_of(items: Sequence[T], submit: Callable[[T], Awaitable[str]]) -> list[str | CrestlineError]:
    """Call `submit` for each item, up to eight at the same time, and return results and errors in order."""

    async def one(item: T) -> str | CrestlineError:
        try:
            return await submit(item)
        except CrestlineError as error:
            return error

    return await map_concurrently(one, items, 8)


class Scheduler(abc.ABC):
    """A batch system that serves many users.

    The first argument of each method is the POSIX user of the call. State names, hostlists and reasons are Slurm's, for
    every scheduler. Methods raise the errors of `crestline.model`: `InvalidRequestError` if the scheduler refuses the
    request, `JobNotFoundError`, `PermissionDeniedError`, `UnsupportedError`, and `GatewayUnavailableError` if the
    scheduler does not respond in time.
    """

    kind: str
    """`slurm` or `pbs`: the syntax of its job scripts (FirecREST's `scheduler.type`)."""
    version: str
    programs: Sequence[str] = ()
    """Commands that the system's machine must have."""
    is_exclusive = False
    """Whether only one gateway at a time can use the scheduler, because the gateway itself runs the jobs."""
    acts_as_gateway = False
    """Whether jobs run on the gateway's machine as its account, regardless of the system's host."""

    async def start(self) -> None:
        """Start background tasks. Called once, in the event loop of all later calls."""

    async def stop(self) -> None:
        """Close connections and stop tasks. Jobs continue."""

    async def diagnose(self, name: str, run: RunProgram) -> AsyncIterator[Check]:
        """Yield the checks of `crestline doctor` for this scheduler, after the check of its programs.

        Args:
            name: name of the system.
            run: runs a program on the system's machine.
        """
        return
        yield

    def directives(self, job: JobRequest) -> list[str]:
        """Return the script lines for the options of a job of the IRI API, by default `#SBATCH` lines.

        Raises:
            InvalidRequestError: a custom attribute cannot be written as a line.
        """
        return sbatch_lines(job)

    @abc.abstractmethod
    async def submit(self, user: str, job: JobDescription, key: str | None = None) -> str:
        """Submit a job and return its id.

        Args:
            user: the POSIX user of the job.
            job: script or path of a script, working directory and options.
            key: identifies this submission. The scheduler stores it with the job, in a unique column or a comment, so
                that `find` finds the job after a crash between the submission and its record.
        """

    async def submit_many(
        self, user: str, jobs: Sequence[tuple[JobDescription, str | None]]
    ) -> list[str | CrestlineError]:
        """Submit pairs of job and key as `submit` does, and return ids and errors in the same order."""
        return await each_of(jobs, lambda job: self.submit(user, *job))

    @abc.abstractmethod
    async def find(self, user: str, key: str) -> str | None:
        """Return the id of the job that `user` submitted with `key`, or None."""

    @abc.abstractmethod
    async def jobs(self, user: str, query: JobQuery) -> list[JobInfo]:
        """Return the jobs of `user`, or of all users with `query.all_users`, newest last.

        The list does not include unknown ids. A `JobList` can be partial.
        """

    @abc.abstractmethod
    async def metadata(self, user: str, job_id: str) -> list[JobMetadata]:
        """Return the script and the paths of stdin, stdout and stderr of a job.

        Raises:
            JobNotFoundError: the job does not exist.
            PermissionDeniedError: it is another user's.
        """

    async def usage(self, user: str, job_id: str) -> list[JobUsageInfo]:
        """Return the resource usage of a job of `user`, or of each task of an array.

        Raises:
            JobNotFoundError, PermissionDeniedError: as for `metadata`.
            UnsupportedError: the scheduler does not record usage.
        """
        raise UnsupportedError(
            "This system's scheduler does not report what jobs use.", hint="Measure it inside the job, with time(1)."
        )

    @abc.abstractmethod
    async def cancel(self, user: str, job_id: str) -> None:
        """Cancel a job. A job that has ended does not change.

        Raises:
            JobNotFoundError: the job does not exist.
            PermissionDeniedError: it is another user's.
        """

    async def hold(self, user: str, job_id: str) -> None:
        """Hold a pending job until it is released.

        Raises:
            JobNotFoundError, PermissionDeniedError: as for `cancel`.
            InvalidRequestError: the job is not pending.
            UnsupportedError: the scheduler cannot hold jobs.
        """
        raise UnsupportedError(
            "This system's scheduler cannot hold jobs.", hint="Submit the job with --hold, or cancel it."
        )

    async def release(self, user: str, job_id: str) -> None:
        """Release a held job. Raises the errors of `hold`."""
        raise UnsupportedError("This system's scheduler cannot release jobs.", hint="Submit the job without --hold.")

    @abc.abstractmethod
    async def attach(self, user: str, job_id: str, command: str) -> None:
        """Run `command` as a step of the running job and discard its output.

        Raises:
            InvalidRequestError: the job is not running, or the command is not a command line.
        """

    @abc.abstractmethod
    async def nodes(self, user: str) -> list[Node]:
        """Return all nodes of the system."""

    @abc.abstractmethod
    async def partitions(self, user: str, show_hidden: bool = False) -> list[Partition]:
        """Return all partitions, including hidden ones with `show_hidden`."""

    @abc.abstractmethod
    async def reservations(self, user: str) -> list[Reservation]:
        """Return all reservations of the system."""

    @abc.abstractmethod
    async def accounts(self, user: str) -> list[Account]:
        """Return the accounts that `user` can charge."""

    async def allocations(self, user: str) -> list[AllocationInfo]:
        """Return budget and usage of the accounts of `user`.

        Raises:
            UnsupportedError: the scheduler has no accounting.
        """
        raise UnsupportedError(
            "This system's scheduler does not report budgets.", hint="Ask the site what your accounts may use."
        )

    async def ask_slurm(
        self, user: str, program: str, arguments: Sequence[str], environment: Sequence[str], me: str
    ) -> Completed:
        """Run a read-only Slurm command (`squeue`, `sinfo`, ...) as `user`.

        Args:
            user: the POSIX user of the call.
            program: name of the command.
            arguments: arguments of the command.
            environment: variables that change the output, as `NAME=value`.
            me: the user's name on the client's machine, which the command line uses for `user`.

        Raises:
            InvalidRequestError: the command line is not read-only, or concerns another cluster.
            TooLargeError: the output is too large.
            UnsupportedError: the scheduler is not Slurm.
        """
        raise UnsupportedError("This system's scheduler is not Slurm.", hint="Use the other calls of the API.")

    @abc.abstractmethod
    async def ping(self) -> str:
        """Probe the scheduler and return a line for the health report.

        Raises:
            GatewayUnavailableError: the scheduler does not respond.
        """
