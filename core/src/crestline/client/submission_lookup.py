"""Looking for the jobs of earlier submissions on plain FirecREST: one list for all that ask in a moment."""

from __future__ import annotations

import asyncio

from crestline import clock
from crestline.client.backends.base import Backend
from crestline.client.backends.messages import JobFilter, NotSentError
from crestline.client.job_ids import parent
from crestline.client.submit_guard import is_duplicate, lock_path, tag_in
from crestline.model import CrestlineError, File, FileMissingError, Job

_RECENT = 3600
"""Seconds: the window in which a job that was submitted just now appears, under any name."""
_LONG_AGO = 7 * 86400
_GATHERING = 0.01
"""Seconds in which more submissions may join a list before it is asked for."""
_NAMES_LENGTH = 235
"""Characters of FirecREST's filter by names."""
_LONG_LIST = 500
"""Jobs of a week, beside 50 for each name, beyond which the filter by names is cheaper than one list of all."""
_REMEMBER = 600.0
"""Seconds for which the length of a list, and the ids of own jobs, hold."""


class Findings:
    """What one round of lists says.

    Attributes:
        jobs: the rows of jobs by the tags in their names.
        nameless: ids of jobs that may be any, for all that the lists say.
        error: why a job that is not in `jobs` may exist all the same; None if the lists are complete.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, list[Job]] = {}
        self.nameless: set[str] = set()
        self.error: CrestlineError | None = None

    def add(self, rows: list[Job], own: dict[str, str]) -> None:
        """Sort in the rows of a list; `own` names the tags of jobs whose ids are known."""
        for job in rows:
            tag = tag_in(job.name)
            if tag is None and not job.name and not job.workdir and not job.is_finished:
                # For some seconds Slurm's accounting may know a job by number only.
                tag = own.get(parent(job.job_id))
                if tag is None:
                    self.nameless.add(job.job_id)
            if tag is not None:
                self.jobs.setdefault(tag, []).append(job)


class _Round:
    """Requests that have not begun, and those who wait for them."""

    def __init__(self) -> None:
        self.names: dict[str, bool] = {}
        self.directories: set[str] = set()
        self.waiting = 0
        self.task: asyncio.Task[None]
        self.findings = Findings()
        self.entries: dict[str, list[File] | CrestlineError] = {}


class SubmissionLookup:
    """The look-ups of one backend within one event loop.

    An answer never is older than the question: those who ask while a list is under way share the next one.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._next: _Round | None = None
        self._submitted: dict[str, tuple[str, float]] = {}
        self._week_length = 0
        self._week_length_until = 0.0
        self._no_week_until = 0.0

    def remember(self, tag: str, job_id: str) -> None:
        """Note the id of a job that was just submitted: while nameless, it is not taken for another one."""
        self._submitted[job_id] = (tag, clock.monotonic() + _REMEMBER)

    def submitted(self, tag: str) -> str | None:
        """The id of the job that was submitted here lately under this tag."""
        return next((job_id for job_id, (own, _) in self._submitted.items() if own == tag), None)

    def has_submitted(self, job_id: str) -> bool:
        """Whether the job was submitted here lately, so that the scheduler may not show it yet."""
        return job_id in self._submitted

    async def find(self, name: str, *, is_old: bool) -> tuple[list[Job], set[str]]:
        """The rows of the job called `name`, which ends in a tag, and the ids of those that may be it.

        Args:
            is_old: it may have been submitted days ago.

        Raises:
            CrestlineError: it is in no list, and not all lists could be had.
        """
        joined = self._join()
        joined.names[name] = joined.names.get(name, False) or is_old
        await self._finish(joined)
        findings = joined.findings
        found = findings.jobs.get(tag_in(name) or "", [])
        if not found and findings.error is not None:
            raise findings.error
        return found, findings.nameless

    async def lock_holder(self, workdir: str, tag: str) -> str | None:
        """The id of the job that holds a submission's lock; None if none does.

        Raises:
            CrestlineError: the directory of the locks cannot be listed.
        """
        directory, _, name = lock_path(workdir, tag).rpartition("/")
        joined = self._join()
        joined.directories.add(directory)
        await self._finish(joined)
        entries = joined.entries[directory]
        if isinstance(entries, CrestlineError):
            raise entries
        return next((entry.link_target for entry in entries if entry.name == name and entry.link_target), None)

    async def original_job_id(self, job: Job) -> str | None:
        """For a job that ended as a duplicate, the id of the one that runs in its place; None for any other job."""
        tag = tag_in(job.name)
        if not is_duplicate(job) or tag is None or not job.workdir:
            return None
        holder = await self.lock_holder(job.workdir, tag)
        return holder if holder != job.job_id else None

    def _join(self) -> _Round:
        if self._next is None:
            self._next = _Round()
            self._next.task = asyncio.get_running_loop().create_task(self._run(self._next))
        self._next.waiting += 1
        return self._next

    async def _finish(self, joined: _Round) -> None:
        try:
            await asyncio.wait([joined.task])
        finally:
            joined.waiting -= 1
            if not joined.waiting and not joined.task.done():
                joined.task.cancel()
                if self._next is joined:
                    self._next = None
        joined.task.result()

    async def _run(self, joined: _Round) -> None:
        known = 0
        while joined.waiting > known:  # as long as more come
            known = joined.waiting
            await asyncio.sleep(_GATHERING)
        if self._next is joined:
            self._next = None
        async with asyncio.TaskGroup() as group:
            for directory in joined.directories:
                group.create_task(self._list_directory(joined, directory))
            if joined.names:
                group.create_task(self._list_jobs(joined))

    def _can_list_week(self, names: int, now: float) -> bool:
        """Whether a list of all jobs of a week is possible, and costs no more than a recent one and those by names."""
        length = self._week_length if now < self._week_length_until else 0
        return now >= self._no_week_until and length <= _LONG_LIST + 50 * names

    async def _list_directory(self, joined: _Round, directory: str) -> None:
        try:
            joined.entries[directory] = await self._backend.files.list(directory)
        except FileMissingError:
            joined.entries[directory] = []
        except CrestlineError as error:
            joined.entries[directory] = error

    async def _list_jobs(self, joined: _Round) -> None:
        now = clock.monotonic()
        self._submitted = {job_id: entry for job_id, entry in self._submitted.items() if entry[1] > now}
        own = {job_id: tag for job_id, (tag, _) in self._submitted.items()}
        findings = joined.findings
        old = [name for name, is_old in joined.names.items() if is_old]
        if old and self._can_list_week(len(old), now):
            try:
                jobs = await self._backend.jobs.list(JobFilter(window=_LONG_AGO), retry=False)
            except CrestlineError as error:
                if not _is_of_list(error):
                    findings.error = error
                    return
                self._no_week_until = now + _REMEMBER
            else:
                self._week_length, self._week_length_until = len(jobs), now + _REMEMBER
                findings.add(jobs, own)
                return
        try:
            findings.add(await self._backend.jobs.list(JobFilter(window=_RECENT), retry=False), own)
        except CrestlineError as error:
            findings.error = error
            if not _is_of_list(error):
                return
            old = list(joined.names)  # FirecREST from 2.6 on can still say of single names that they are there
        missing = [name for name in old if tag_in(name) not in findings.jobs]
        for names in _portions(missing):
            try:
                findings.add(await self._backend.jobs.list(JobFilter(names=names, window=_LONG_AGO), retry=False), own)
            except CrestlineError as error:
                findings.error = findings.error or error
                return


def _is_of_list(error: CrestlineError) -> bool:
    """Whether it is the list that is too long, or spoilt by some job's name, so that another one may be had."""
    return error.status in (408, 413, 500) and not isinstance(error, NotSentError)


def _portions(names: list[str]) -> list[tuple[str, ...]]:
    """The names in as few filters as they fit into."""
    portions: list[list[str]] = []
    for name in names:
        if portions and sum(len(each) + 1 for each in portions[-1]) + len(name) <= _NAMES_LENGTH:
            portions[-1].append(name)
        else:
            portions.append([name])
    return [tuple(portion) for portion in portions]
