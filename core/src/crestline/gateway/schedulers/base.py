"""The interface behind which every batch system stands."""

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
"""takes a program and its arguments"""


class JobQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Filter of a job list; all conditions must hold."""

    ids: tuple[str, ...] | None = None
    """exactly these, whatever their age; array ids bring their elements"""
    all_users: bool = False
    accounts: frozenset[str] | None = None
    """only jobs of these accounts"""
    names: frozenset[str] | None = None
    """only jobs with one of these names, each a whole job name"""
    window: int | None = None
    """only jobs that were active within the last so many seconds"""
    since: float | None = None
    """the answer should not be older than this reading of `time.monotonic()`, unless that is costly; None: the
    scheduler decides"""

    def selects(self, name: str, account: str | None) -> bool:
        """Whether name and account of a job are among those asked for."""
        return (self.names is None or name in self.names) and (self.accounts is None or account in self.accounts)


class JobList(list[JobInfo]):
    """Jobs, what is missing among them, and how old the list is."""

    age: float = 0.0
    """seconds since the batch system was asked"""

    partial: str = ""
    """why the list is not whole (accounting does not answer), empty if it is"""


async def each_of(
    items: Sequence[T], submit: Callable[[T], Awaitable[str]], *, at_once: int = 8
) -> list[str | CrestlineError]:
    """What `submit` returns or raises for each item, some at the same time."""

    async def one(item: T) -> str | CrestlineError:
        try:
            return await submit(item)
        except CrestlineError as error:
            return error

    return await map_concurrently(one, items, at_once)


class Scheduler(abc.ABC):
    """A batch system on behalf of many users.

    Every method takes the POSIX user that it acts for. State words, hostlists and reasons are Slurm's, whatever runs
    behind. Methods raise the errors of `crestline.model`: `InvalidRequestError` for what the scheduler refuses,
    `JobNotFoundError`, `PermissionDeniedError`, `UnsupportedError`, `GatewayUnavailableError` for a scheduler that does
    not answer in time.
    """

    kind: str
    """`slurm` or `pbs`: whose words it speaks (FirecREST's `scheduler.type`)"""
    version: str
    programs: Sequence[str] = ()
    """commands that have to be on the system's machine"""
    is_exclusive = False
    """whether only one instance at a time may be at work, as with jobs that are the gateway's own"""
    acts_as_gateway = False
    """whether jobs run on the gateway's own machine as its own account, wherever the system's host is"""

    async def start(self) -> None:
        """Take up work; called once in the event loop that all other calls come from."""

    async def stop(self) -> None:
        """Close connections and stop tasks; jobs continue."""

    async def diagnose(self, name: str, run: RunProgram) -> AsyncIterator[Check]:
        """What `crestline doctor` says of this batch system once its programs are there.

        Args:
            name: of the system's programs, for a check of their version.
            run: runs a program on the system's machine.
        """
        return
        yield

    def directives(self, job: JobRequest) -> list[str]:
        """The lines of a script that ask for what a job of the IRI API names: `#SBATCH`, unless others are read.

        Raises:
            InvalidRequestError: a custom attribute cannot be written.
        """
        return sbatch_lines(job)

    @abc.abstractmethod
    async def submit(self, user: str, job: JobDescription, key: str | None = None) -> str:
        """Submit and return the job id.

        Args:
            key: names this submission. The scheduler keeps it with the job (a unique column, a comment), so that `find`
                gets the job back after a crash between the submission and the record of it.
        """

    async def submit_many(
        self, user: str, jobs: Sequence[tuple[JobDescription, str | None]]
    ) -> list[str | CrestlineError]:
        """Submit each, with its key, as `submit` does; of each its id or why there is none, in their order."""
        return await each_of(jobs, lambda job: self.submit(user, *job))

    @abc.abstractmethod
    async def find(self, user: str, key: str) -> str | None:
        """The id of the job that `user` submitted with `key`, None if there is none."""

    @abc.abstractmethod
    async def jobs(self, user: str, query: JobQuery) -> list[JobInfo]:
        """Return the jobs of `user` (with `query.all_users` of all users), newest last. Unknown ids are left out.

        A `JobList` may say that it is partial.
        """

    @abc.abstractmethod
    async def metadata(self, user: str, job_id: str) -> list[JobMetadata]:
        """Script and stream paths.

        Raises:
            JobNotFoundError: the job does not exist.
            PermissionDeniedError: it is another user's.
        """

    async def usage(self, user: str, job_id: str) -> list[JobUsageInfo]:
        """What a job of `user`, or each element of an array, has used.

        Raises:
            JobNotFoundError, PermissionDeniedError: as for `metadata`.
            UnsupportedError: the scheduler does not tell.
        """
        raise UnsupportedError(
            "This system's scheduler does not tell what jobs use.", hint="Measure it inside the job, with time(1)."
        )

    @abc.abstractmethod
    async def cancel(self, user: str, job_id: str) -> None:
        """End a job; nothing happens to one that has ended.

        Raises:
            JobNotFoundError: the job does not exist.
            PermissionDeniedError: it is another user's.
        """

    async def hold(self, user: str, job_id: str) -> None:
        """Keep a job that waits from starting until it is released.

        Raises:
            JobNotFoundError, PermissionDeniedError: as for `cancel`.
            InvalidRequestError: it does not wait any more.
            UnsupportedError: the scheduler holds no jobs.
        """
        raise UnsupportedError(
            "This system's scheduler holds no jobs.", hint="Submit the job with --hold, or cancel it."
        )

    async def release(self, user: str, job_id: str) -> None:
        """Let a held job start; errors as for `hold`."""
        raise UnsupportedError("This system's scheduler releases no jobs.", hint="Submit the job without --hold.")

    @abc.abstractmethod
    async def attach(self, user: str, job_id: str, command: str) -> None:
        """Run `command` as a step inside the running job; its output is dropped.

        Raises:
            InvalidRequestError: the job is not running, or the command is not a command line.
        """

    @abc.abstractmethod
    async def nodes(self, user: str) -> list[Node]:
        """All nodes."""

    @abc.abstractmethod
    async def partitions(self, user: str, show_hidden: bool = False) -> list[Partition]:
        """All partitions."""

    @abc.abstractmethod
    async def reservations(self, user: str) -> list[Reservation]:
        """All reservations."""

    @abc.abstractmethod
    async def accounts(self, user: str) -> list[Account]:
        """The accounts that `user` may charge."""

    async def allocations(self, user: str) -> list[AllocationInfo]:
        """What the accounts of `user` may use and have used.

        Raises:
            UnsupportedError: the scheduler keeps no account of use.
        """
        raise UnsupportedError(
            "This system's scheduler does not tell budgets.", hint="Ask the site what your accounts may use."
        )

    async def ask_slurm(
        self, user: str, program: str, arguments: Sequence[str], environment: Sequence[str], me: str
    ) -> Completed:
        """Run one of Slurm's commands that only read (`squeue`, `sinfo`, ...), as `user`.

        Args:
            arguments: its command line.
            environment: `NAME=value`, of variables that change what it prints.
            me: the user's name where the command line was written, which stands for `user`.

        Raises:
            InvalidRequestError: the command line does more than read this system.
            TooLargeError: it prints too much.
            UnsupportedError: the scheduler is not Slurm.
        """
        raise UnsupportedError("This system's scheduler is not Slurm.", hint="Ask by the calls of the API.")

    @abc.abstractmethod
    async def ping(self) -> str:
        """Ask for a sign of life; returns a line for the health report.

        Raises:
            GatewayUnavailableError: none came.
        """
