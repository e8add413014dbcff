"""A run on one system: its directory there, its connection, and all of its jobs, each carried by a task of its own.

ReFrame's thread hands jobs over and reads what is known of them; everything that waits happens in an event loop in a
thread beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import posixpath
import secrets
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from crestline import clock
from crestline.client import BundleFilter, Capability, System, Traffic, connect, map_link, measure_traffic
from crestline.model import (
    CrestlineError,
    GatewayUnavailableError,
    Job,
    JobNotFoundError,
    JobSpec,
    JobState,
    NotFoundError,
    SubmitLimitError,
    UnsupportedError,
)
from crestline.single_flight import SingleFlight
from crestline_reframe.batcher import Batcher
from crestline_reframe.journal import Journal, JournalEntry, age
from crestline_reframe.options import Options
from crestline_reframe.packing import EXIT_FILE, pack_script, packs
from crestline_reframe.stage_dirs import StageDirs
from crestline_reframe.staging import Staging, fingerprint, marker, prepared
from crestline_reframe.submit_limit import SubmitLimit
from crestline_reframe.tracked_job import Pack, TrackedJob

T = TypeVar("T")
log = logging.getLogger(__name__)

_AT_ONCE = 8
"""single submissions and cancellations at the same time"""
_FAREWELL = 60.0
"""seconds for cleaning up at the end of a run"""
_LAST_STEPS = 2.0
"""seconds for the clean-up of tasks that are cancelled when the event loop stops"""


class Run:
    """One system of one ReFrame process.

    Args:
        prefix: ReFrame's prefix, for the journal.
        stage_prefix: where the stage directories are.
        loop: an event loop that runs already; None: one in a thread of its own.
    """

    def __init__(
        self,
        options: Options,
        prefix: Path,
        stage_prefix: Path,
        *,
        keep: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.options = options
        self._keep = keep
        site, name, authorizer = options.target()
        self._system = connect(site, system=name, policy=options.policy(), authorizer=authorizer)
        where = f"{site.url} {name or ''} {options.base() or ''}"
        self._journal = Journal.open(prefix, where)
        self.places = StageDirs(stage_prefix)
        for entry in self._journal.entries.values():
            self.places.take(entry.remote)
        self._staging = Staging(self.places)
        self._bring = Batcher(self._bring_together, quiet=0.2)
        if options.pack is None:  # those who were brought together come together
            self._submit = Batcher(self._submit_together, quiet=0.02, are_all=lambda _: True)
        else:  # the more the better
            self._submit = Batcher(self._submit_together, quiet=1.5, longest=15.0)
        self._collect = Batcher(self._collect_together, quiet=0.15, most=200, are_all=self._are_all_that_run)
        self._submit_limit = SubmitLimit()
        self._works: list[TrackedJob] = []
        self._left_links: set[tuple[str, str, str]] = set()
        """those that were left out, each said once"""
        self._opening: SingleFlight[None, System] = SingleFlight()
        self._traffic = Traffic()
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._loop = loop or asyncio.new_event_loop()
        if loop is None:
            self._thread = threading.Thread(target=self._loop.run_forever, name="crestline-reframe", daemon=True)
            self._thread.start()

    # for ReFrame's thread

    def take(self, work: TrackedJob) -> None:
        """Carry a job; returns at once."""
        self._works.append(work)
        self._start(self._carry(work))

    def cancel(self, work: TrackedJob) -> None:
        """See to it that the job ends; returns at once."""
        if not work.is_cancelled:
            work.is_cancelled = True
            self._start(self._cancel(work))

    def cancel_all(self) -> None:
        """See to it that all jobs end; returns at once."""
        for work in self._works:
            if not work.ended.is_set():
                self.cancel(work)

    def ask(self, question: Callable[[System], Coroutine[Any, Any, T]]) -> T:
        """The answer of the system to something that cannot wait.

        Raises:
            CrestlineError: what the client raises.
        """

        async def answer() -> T:
            return await question(await self._open())

        return self._start(answer()).result()

    def scheduler_type(self) -> str:
        """Return `slurm` or `pbs`: what the options say, else what the gateway says."""
        if self.options.scheduler is not None:
            return self.options.scheduler
        return self.ask(_scheduler_type)

    def connect(self) -> None:
        """Open the connection while ReFrame prepares the first tests; returns at once."""
        if not len(self._opening):
            self._start(self._open())

    @property
    def works(self) -> Iterator[TrackedJob]:
        """All jobs that were taken, in their order."""
        return iter(self._works)

    @property
    def traffic(self) -> dict[str, int]:
        """Requests and bytes of the run, once it is closed."""
        traffic = self._traffic
        return {"requests": traffic.requests, "bytes_sent": traffic.sent, "bytes_received": traffic.received}

    @property
    def name(self) -> str:
        """The run, as its directory on the system is called."""
        return self._journal.directories[-1]

    def close(self, timeout: float = _FAREWELL) -> None:
        """End what still runs and leave nothing on the system. The journal stays if that cannot be done in time."""
        try:
            self._start(self.finish(timeout)).result()
        finally:
            self._start(_end_tasks()).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    # in the event loop

    async def finish(self, timeout: float) -> None:
        """As `close`, but for the event loop, which goes on."""
        problem = ""
        try:
            async with asyncio.timeout(timeout):
                await self._shutdown()
        except CrestlineError as error:
            problem = str(error) or type(error).__name__
        except TimeoutError:
            problem = f"the gateway did not complete that within {timeout:.0f} s"
        else:
            self._journal.close()
        if problem:
            log.warning(
                "run %s could not be cleaned up on the system: %s. The next run with this prefix does it.",
                self.name,
                problem,
            )
            self._journal.leave()

    async def _open(self) -> System:
        """The connection, with the run's directory; opened by the first who needs it."""
        return await self._opening.get(None, self._really_open)

    async def _really_open(self) -> System:
        system = await self._system.open()
        base = self.options.base() or posixpath.join(await system.default_workdir(), "reframe")
        self.places.root = posixpath.join(base, self.name)
        _, room = await asyncio.gather(system.mkdir(self.places.root, parents=True), system.remaining_submissions())
        self._submit_limit.set_most(room)
        if room is not None:
            with contextlib.suppress(CrestlineError):  # then the run's own jobs alone say where there is room
                self._submit_limit.set_busy([node.name for node in await system.nodes() if "IDLE" not in node.states])
        if Capability.TAR not in system.capabilities:  # two requests up, three down
            self._bring.be_patient(1.5, 10.0)
            self._collect.be_patient(2.5, 10.0)
        return system

    async def _carry(self, work: TrackedJob) -> None:
        try:
            await self._open()
            what = await asyncio.to_thread(fingerprint, work, self.places)
            if not await self._is_resumed(work, what):
                await self._bring.add(work)
                await self._submit_and_follow(work)
                if not work.is_key_new and (problem := _problem(work)):
                    self._begin_again(work, what, problem)
                    await self._submit_and_follow(work)
        except JobNotFoundError as error:
            work.end(f"the scheduler does not know the job any more: {error}")
        except CrestlineError as error:
            work.end(str(error))
        except OSError as error:
            work.end(f"on this machine: {error}")
        except Exception as error:
            log.exception("carrying %s broke", work.test)
            work.end(f"{type(error).__name__}: {error}")
        else:
            work.end()

    async def _submit_and_follow(self, work: TrackedJob) -> None:
        """Submit a job when the scheduler takes it, and wait for its end."""
        while True:
            await self._submit_limit.acquire(work.nodes)
            work.was_refused = False
            try:
                if not work.is_cancelled:
                    await self._submit.add(work)
                if work.job is not None:
                    await self._watch(work)
            finally:
                if not work.was_refused:  # else the limit counts it no longer
                    self._submit_limit.release(work.nodes)
            if work.job is not None:
                await self._collect.add(work)
            if not work.was_refused or work.is_cancelled:
                return

    async def _is_resumed(self, work: TrackedJob, what: str) -> bool:
        """Whether the job of an earlier process has brought the results; if not, the work has a key to submit with."""
        entry = self._resumable_entry(work, what)
        if entry is None:
            self._begin(work, what)
            return False
        del self._journal.entries[entry.test, entry.phase]
        is_own_place = not work.place.is_there
        work.place.remote = entry.remote
        work.key, work.is_key_new = entry.key, False
        if entry.job_id is None:
            work.is_packable = False
            return False
        work.place.is_there = True
        await asyncio.to_thread(self._staging.is_the_same, work)
        work.accepted(Job(job_id=entry.job_id, state=JobState.SUBMITTED))
        problem = await self._problem_of_resumed(work)
        if not problem:
            return True
        if is_own_place:
            self.places.renew(work.place)
        self._begin_again(work, what, problem)
        return False

    async def _problem_of_resumed(self, work: TrackedJob) -> str:
        """Follow the job of an earlier process to its end; why it cannot stand for the test, if so."""
        try:
            await self._follow(work)
        except GatewayUnavailableError:
            raise
        except CrestlineError as error:
            return f"cannot be used ({error})"
        return _problem(work)

    def _begin_again(self, work: TrackedJob, what: str, problem: str) -> None:
        """Give a test whose job of an earlier process cannot stand for it a key of its own."""
        job_id = work.job.job_id if work.job is not None else "?"
        log.warning("%s runs again: job %s of an earlier run %s", work.test, job_id, problem)
        work.reset()
        self._begin(work, what)

    def _begin(self, work: TrackedJob, what: str) -> None:
        work.key, work.is_key_new = f"reframe/{self._journal.run}/{secrets.token_hex(8)}", True
        self._journal.begins(work.key, work.test, work.phase, what, work.place.remote)

    async def _follow(self, work: TrackedJob) -> None:
        """Wait for a job's end and collect its results."""
        await self._watch(work)
        await self._collect.add(work)

    async def _watch(self, work: TrackedJob) -> None:
        """Wait for a job's end."""
        if work.is_cancelled:
            await self._cancel(work)
        async with contextlib.aclosing((await self._open()).watch(work.job)) as events:
            async for event in events:
                work.update(event)

    def _resumable_entry(self, work: TrackedJob, what: str) -> JournalEntry | None:
        """The job that an earlier process has begun for the same, as long as the test had not come to its end."""
        entry = self._journal.entries.get((work.test, work.phase))
        if entry is None or entry.fingerprint != what or entry.is_abandoned:
            return None
        if entry.is_packed and entry.job_id is None:
            return None
        last = self._journal.entries.get((work.test, "run"))
        if last is not None and last.is_collected:
            return None
        return entry if not work.place.is_there or work.place.remote == entry.remote else None

    async def _bring_together(self, works: list[TrackedJob]) -> None:
        with measure_traffic() as traffic:
            members, begins = await asyncio.to_thread(self._staging.plan, works)
            if members:
                await (await self._open()).upload_bundle(self.places.root, members, cleanup=False)
        self._staging.is_done(members, works)
        for work in works:
            work.prologue = begins[work]
            work.requests += traffic.requests / len(works)

    async def _submit_together(self, works: list[TrackedJob]) -> None:
        works = [work for work in works if not work.is_cancelled]
        packed: list[Pack] = []
        if self.options.pack is not None:
            packed, works = packs(works, self.options.pack, self.options.pack_size)
        jobs = [([work], self._spec(work), work.key) for work in works]
        jobs += [(pack.works, self._pack_spec(pack), self._pack_key(pack)) for pack in packed]
        system = await self._open()
        for group, _, _ in jobs:
            for work in group:
                work.is_submitting = True
        keys_are_new = all(work.is_key_new or work.pack is not None for group, _, _ in jobs for work in group)
        with measure_traffic() as traffic:
            outcomes = await system.submit_many(
                [spec for _, spec, _ in jobs], [key for _, _, key in jobs], keys_are_new=keys_are_new
            )
        for (group, _, key), outcome in zip(jobs, outcomes, strict=True):
            for work in group:
                work.requests += traffic.requests / len(jobs) / len(group)
            self._settle(group, key, outcome)

    def _spec(self, work: TrackedJob) -> JobSpec:
        script = prepared(work, self.places, work.prologue)
        return JobSpec(script=script, workdir=self.places.absolute(work.place))

    def _pack_spec(self, pack: Pack) -> JobSpec:
        scripts = [prepared(work, self.places, work.prologue) for work in pack.works]
        directories = [self.places.absolute(work.place) for work in pack.works]
        for work in pack.works:
            work.pack = pack
            if pack.kind == "allocation" and EXIT_FILE not in work.outputs:
                work.outputs = (*work.outputs, EXIT_FILE)
        outputs = [(work.outputs[0], work.outputs[1]) for work in pack.works]
        return JobSpec(script=pack_script(pack.kind, scripts, directories, outputs), workdir=self.places.root)

    def _pack_key(self, pack: Pack) -> str:
        key = f"reframe/{self._journal.run}/{secrets.token_hex(8)}"
        self._journal.begins(key, f"{len(pack.works)} tests from {pack.works[0].test} on", "pack", "", "")
        for work in pack.works:
            self._journal.packed(work.key)
        return key

    def _settle(self, works: list[TrackedJob], key: str, outcome: Job | CrestlineError) -> None:
        """Tell those who wait for a submission how it went."""
        if isinstance(outcome, SubmitLimitError):
            log.info("%s and %d more wait until the scheduler takes them: %s", works[0].test, len(works) - 1, outcome)
            for work in works:
                work.not_submitted()
            self._submit_limit.refused([work.nodes for work in works])
            return
        if isinstance(outcome, CrestlineError):
            for work in works:
                work.end(str(outcome))
            return
        self._submit_limit.accepted()
        self._journal.submitted(key, outcome.job_id)
        for work in works:
            if work.pack is not None:
                work.pack.job_id = outcome.job_id
                work.accepted(msgspec.structs.replace(outcome, job_id=work.pack.element(work)))
                if work.pack.kind == "array":
                    self._journal.submitted(work.key, work.pack.element(work))
            else:
                work.accepted(outcome)

    def _are_all_that_run(self, works: list[TrackedJob]) -> bool:
        """Whether no other job is on its way to its end."""
        return len(works) >= sum(1 for work in self._works if not work.results_fetched and not work.ended.is_set())

    async def _collect_together(self, works: list[TrackedJob]) -> None:
        selections = [
            BundleFilter(
                directory=work.place.remote,
                target=work.place.local,
                since=marker(work.phase) if work.collect_new else None,
                patterns=work.outputs,
            )
            for work in works
        ]
        with measure_traffic() as traffic:
            came = await (await self._open()).download_bundle(
                self.places.root, selections, cleanup=False, map_link=self._map_link
            )
        for work in works:
            names = came[work.place.remote]
            work.received += sum(work.place.note(name) for name in names)
            work.requests += traffic.requests / len(works)
            work.results_fetched, work.has_files = True, bool(names)
            self._journal.collected(work.key)

    def _map_link(self, path: str, target: str, directory: str) -> str | None:
        """Where a link leads here that a job has made: in its stage directory, or to that of another test."""
        here = map_link(path, target, directory)
        if here is None:
            there = posixpath.normpath(posixpath.join(directory, posixpath.dirname(path), target))
            local = self.places.local_of(there)
            if local is not None:
                return str(local)
            if (path, target, directory) not in self._left_links:
                self._left_links.add((path, target, directory))
                log.warning("left out: the link %s to %s, which is in no stage directory", path, target)
        return here

    async def _cancel(self, work: TrackedJob) -> None:
        try:
            await self._really_cancel(work)
        except CrestlineError as error:
            log.warning("the job of %s could not be cancelled: %s", work.test, error)

    async def _really_cancel(self, work: TrackedJob) -> None:
        try:
            if work.key:
                self._journal.abandoned(work.key)
            if work.is_submitting:
                await work.settled.wait()
            if work.job is not None and not work.ended.is_set():
                async with self._gate:
                    await self._cancel_job(await self._open(), work, work.job)
        finally:
            work.let_go.set()

    async def _cancel_job(self, system: System, work: TrackedJob, job: Job) -> None:
        if work.pack is None:
            await system.cancel(job)
        elif work.pack.is_unwanted:
            await system.cancel(work.pack.job_id)
        elif work.pack.kind == "array":
            with contextlib.suppress(UnsupportedError):  # plain FirecREST cancels whole arrays alone
                await system.cancel(job)

    async def _shutdown(self) -> None:
        """Cancel what still runs, also jobs of an earlier process that no test has asked for, and remove the files."""
        if not len(self._opening) and not self._journal.entries:
            return
        self._journal.abandoned()
        system = await self._open()
        unfinished = [work for work in self._works if not work.ended.is_set()]
        for work in unfinished:
            work.is_cancelled = True
        try:
            failures = await _failures(
                *(self._really_cancel(work) for work in unfinished),
                *(self._cancel_left(system, entry) for entry in self._journal.entries.values()),
            )
            failures += await _failures(
                *(self._remove_own(system, directory) for directory in self._journal.directories),
                self._remove_expired(system, posixpath.dirname(self.places.root)),
            )
            if failures:
                raise failures[0]
        finally:
            self._traffic = system.traffic
            await system.close()

    async def _cancel_left(self, system: System, entry: JournalEntry) -> None:
        if entry.job_id is not None and not entry.is_collected:
            async with self._gate:
                with contextlib.suppress(NotFoundError):
                    await system.cancel(entry.job_id)

    async def _remove_own(self, system: System, directory: str) -> None:
        if not self._keep:
            with contextlib.suppress(NotFoundError):
                await system.remove(posixpath.join(posixpath.dirname(self.places.root), directory), force=True)

    async def _remove_expired(self, system: System, base: str) -> None:
        """Remove what runs have left that no run will resume."""
        for file in await system.ls(base):
            if file.is_directory and age(file.name, clock.time()) > self.options.expire:
                await system.remove(posixpath.join(base, file.name), force=True)


async def _end_tasks() -> None:
    """Cancel all other tasks of the event loop, and wait for their clean-up for a moment."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_LAST_STEPS)


def _problem(work: TrackedJob) -> str:
    """Why the job of an earlier process cannot stand for the test, if so."""
    if work.is_cancelled or work.job is None:
        return ""
    if work.job.state is JobState.CANCELLED:
        return "was cancelled"
    return "" if work.has_files else "left no files"


async def _failures(*attempts: Awaitable[None]) -> list[BaseException]:
    """Await all, whatever becomes of the others; what they raised."""
    return [each for each in await asyncio.gather(*attempts, return_exceptions=True) if each is not None]


async def _scheduler_type(system: System) -> str:
    return system.scheduler_type
