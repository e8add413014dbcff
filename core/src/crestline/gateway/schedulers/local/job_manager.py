"""Starts jobs in order, follows them to their end, and continues them after a restart of the gateway."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache

import msgspec

from crestline import cooperative
from crestline.gateway.schedulers.local.dependencies import Verdict, judge, parse_dependency
from crestline.gateway.schedulers.local.jobs import LAUNCHED, PENDING, Job
from crestline.gateway.schedulers.local.launch import Launcher
from crestline.gateway.schedulers.local.queue import Cluster, Waiting, schedule
from crestline.gateway.schedulers.local.store import Store, StoreLockedError
from crestline.gateway.schedulers.local.supervisor import records
from crestline.gateway.schedulers.local.supervisor_events import SupervisorEvent, Wake
from crestline.model import GatewayUnavailableError, InvalidRequestError

logger = logging.getLogger(__name__)

_TICK = 5.0  # seconds between two checks of all jobs, in case a supervisor died without a report
_START_PATIENCE = 10.0  # seconds for a supervisor to start its script
_START_ATTEMPTS = 3
_PURGE_INTERVAL = 3600.0
_ANSWER_PATIENCE = 10.0  # seconds for a supervisor to carry out a request


class LocalJobManager:
    """All jobs that have not ended, in memory. The store is written before any answer."""

    def __init__(self, store: Store, cluster: Cluster, launcher: Launcher, retention: float) -> None:
        self._store = store
        self._cluster = cluster
        self._launcher = launcher
        self._retention = retention
        self._jobs: dict[int, Job] = {}
        self._busy: dict[int, Job] = {}
        """Jobs that hold nodes."""
        self._conditional: dict[int, Job] = {}
        """Pending jobs with a hold, a begin time or an unfulfilled dependency."""
        self._preparing: set[int] = set()
        self._supervisors: dict[int, int] = {}
        """Job id -> process id of the supervisor that this process started."""
        self._launches: dict[int, tuple[int, float]] = {}
        """Job id -> (number of launches, time of the last one), until the script has started."""
        self._fresh: set[int] = set()
        self._answers: dict[tuple[int, str], asyncio.Future[str]] = {}
        self._changed = asyncio.Event()
        self._next_look = 0.0
        self._next_begin: float | None = None
        self._problem = ""
        self._stopping = False

    def start(self) -> None:
        """Load the jobs of an earlier gateway process and continue them in the running event loop."""
        active = self._store.active()
        self._launcher.install_commands()
        self._wake = Wake(self._launcher.wake, self._on_news)
        for job in active:
            self._jobs[job.id] = job
            if job.state == PENDING:
                self._conditional[job.id] = job
            else:
                self._busy[job.id] = job
                self._cluster.reserve(job.allocation)
        with suppress(StoreLockedError):  # the first round tries again
            self._update_all()
        self._changed.set()
        self._worker = asyncio.create_task(self._work(), name="local scheduler")
        self._purger = asyncio.create_task(self._purge(), name="local scheduler's purge")

    async def stop(self) -> None:
        """Stop starting and watching jobs. Running jobs continue."""
        self._stopping = True
        self._changed.set()
        self._purger.cancel()
        await asyncio.gather(self._worker, self._purger, return_exceptions=True)
        self._wake.close()

    def active(self) -> Iterable[Job]:
        """Return all jobs that have not ended."""
        return self._jobs.values()

    def newest(self, row: Job) -> Job:
        """Return the current version of a job that was read from the store."""
        if row.has_ended:
            return row
        return self._jobs.get(row.id) or self._store.matching(row.submission, row.task)[0]

    def task(self, job: Job) -> records.Task:
        """Return the task that the supervisor of a running job received."""
        found: records.Task = records.read(str(self._launcher.job_directory(job.id) / records.TASK))
        return found

    def health(self) -> str:
        """Return a line for the health report.

        Raises:
            GatewayUnavailableError: the last round failed.
        """
        if self._problem or self._worker.done():
            raise GatewayUnavailableError(
                f"The local scheduler does not work: {self._problem or 'it has stopped'}.",
                hint="See the gateway's log.",
            )
        return f"{len(self._busy)} running, {len(self._jobs) - len(self._busy)} pending"

    def add(self, jobs: Iterable[Job]) -> None:
        """Queue jobs that were just stored."""
        for job in jobs:
            self._jobs[job.id] = job
            self._conditional[job.id] = job
        self._changed.set()

    def cancel(self, jobs: Sequence[Job], user: str) -> None:
        """Cancel jobs. Jobs that have not started never start."""
        live = [job for job in jobs if not job.has_ended]
        waiting = [job for job in live if job.is_pending or job.id in self._preparing]
        started = [job for job in live if not (job.is_pending or job.id in self._preparing)]
        self._change(waiting, state="CANCELLED", reason="None", end=time.time(), cancelled_by=user)
        self._change([job for job in started if job.cancelled_by is None], cancelled_by=user)
        for job in waiting:
            self._drop(job)
        for job in started:
            self._launcher.cancel(job.id)

    def hold(self, jobs: Sequence[Job]) -> None:
        """Hold pending jobs."""
        held = [job for job in jobs if job.is_pending]
        self._change(held, held=True)
        self._conditional.update({job.id: job for job in held})
        self._changed.set()

    def release(self, jobs: Sequence[Job]) -> None:
        """Release held jobs."""
        self._change([job for job in jobs if job.is_pending], held=False)
        self._changed.set()

    async def ask(self, job: Job, action: str, argv: list[str] | None = None) -> None:
        """Send a request to the supervisor of a running job and wait until it is done.

        Raises:
            InvalidRequestError: the job ended before.
            GatewayUnavailableError: the supervisor did not respond in time.
        """
        name = secrets.token_hex(8)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._answers[job.id, name] = answer
        try:
            self._launcher.ask(job.id, name, {"action": action, "argv": argv or []})
            error = await asyncio.wait_for(answer, _ANSWER_PATIENCE)
        except TimeoutError:
            raise GatewayUnavailableError(
                f"Job {job.name} did not {action} in time.", hint="Look at its state and try again."
            ) from None
        finally:
            del self._answers[job.id, name]
        if error:
            raise InvalidRequestError(f"Job {job.name} cannot {action}: {error}", hint="Look at its state.")
        self._collect(job)

    def _on_news(self, news: SupervisorEvent) -> None:
        answer = self._answers.get((news.job_id, news.request))
        if answer is not None and not answer.done():
            answer.set_result(news.error)
        self._fresh.add(news.job_id)
        self._changed.set()

    async def _work(self) -> None:
        while not self._stopping:
            patience = self._next_look - time.monotonic()
            if self._next_begin is not None:
                patience = min(patience, self._next_begin - time.time())
            with suppress(TimeoutError):  # time for a check of all jobs, or for a job's begin time
                async with asyncio.timeout(max(patience, 0.01)):
                    await self._changed.wait()
            self._changed.clear()
            try:
                await self._round()
                self._problem = ""
            except Exception as error:  # a full disk must not end this task
                logger.exception("the local scheduler failed; it tries again")
                self._problem = str(error)
                self._next_look = time.monotonic() + _TICK

    async def _round(self) -> None:
        self._reap()
        self._collect_fresh()
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _TICK
            self._update_all()
        await self._judge_conditions()
        await self._start_jobs()

    # Running jobs

    def _reap(self) -> None:
        for job_id, pid in list(self._supervisors.items()):
            try:
                gone, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:  # other code in this process waits for any child
                gone = pid
            if gone:
                del self._supervisors[job_id]

    def _collect_fresh(self) -> None:
        fresh, self._fresh = self._fresh, set()
        for job in [self._busy[job_id] for job_id in fresh if job_id in self._busy]:
            self._collect(job)

    def _update_all(self) -> None:
        for job in [job for job in self._busy.values() if job.id not in self._preparing]:
            self._collect(job)
            if job.has_ended or job.id in self._supervisors:
                continue
            if job.state != LAUNCHED:
                if not self._launcher.is_supervised(job.id):
                    self._launch(job)  # cleans up and records the loss
                continue
            attempts, last = self._launches.get(job.id, (0, -math.inf))
            if time.monotonic() - last > _START_PATIENCE:
                if attempts < _START_ATTEMPTS:
                    self._launch(job)
                else:
                    self._launcher.cancel(job.id)  # in case a supervisor still starts
                    self._fail(job, "JobLaunchFailure: its supervisor does not start")

    def _launch(self, job: Job) -> None:
        attempts, _ = self._launches.get(job.id, (0, -math.inf))
        self._launches[job.id] = (attempts + 1, time.monotonic())
        self._supervisors[job.id] = self._launcher.start(job.id)

    def _fail(self, job: Job, reason: str) -> None:
        logger.error("job %s: %s", job.name, reason)
        self._change([job], state="FAILED", reason=reason, end=time.time())
        self._drop(job)

    def _collect(self, job: Job) -> None:
        """Apply the record of the supervisor."""
        record = self._launcher.record(job.id)
        if record is None or job.has_ended or job.is_pending:
            return
        steps = self._launcher.steps(job.id)
        self._launches.pop(job.id, None)
        seen = (record["state"], record["suspended_since"], steps)
        if seen != (job.state, job.suspended_since, job.steps):
            self._change([job], steps=steps, **{name: value for name, value in record.items() if name != "boot"})
            self._changed.set()  # for jobs that depend on it
        if job.has_ended:
            self._drop(job)

    def _change(self, jobs: Sequence[Job], **fields: object) -> None:
        """Change jobs in the store, then in memory, so that a change that was not stored has no effect."""
        self._store.update([msgspec.structs.replace(job, **fields) for job in jobs])
        for job in jobs:
            for name, value in fields.items():
                setattr(job, name, value)

    def _drop(self, job: Job) -> None:
        """Remove an ended job and release its resources."""
        if self._jobs.pop(job.id, None) is None:
            return
        self._busy.pop(job.id, None)
        self._conditional.pop(job.id, None)
        self._launches.pop(job.id, None)
        self._cluster.release(job.allocation)
        for (job_id, _), answer in self._answers.items():
            if job_id == job.id and not answer.done():
                answer.set_result("it has ended.")
        self._changed.set()

    # Pending jobs

    async def _judge_conditions(self) -> None:
        lookup = cache(self._store.progress)
        oldest: dict[tuple[str, str], int] = {}
        if any("singleton" in (job.request.dependency or "") for job in self._conditional.values()):
            for job in self._jobs.values():
                oldest.setdefault((job.user, job.request.name), job.id)
        self._next_begin = None
        async for job in cooperative.each(self._conditional.values(), 200):
            if job.has_ended:
                continue
            request, now = job.request, time.time()
            verdict = Verdict.SATISFIED
            if request.dependency:
                verdict = judge(
                    parse_dependency(request.dependency),
                    lookup,
                    task=job.task,
                    has_twin=oldest.get((job.user, request.name), job.id) < job.id,
                    now=now,
                )
            if job.held:
                job.reason = "JobHeldUser"
            elif verdict is Verdict.NEVER and request.cancel_on_invalid_dependency:
                self.cancel([job], job.user)
            elif verdict is not Verdict.SATISFIED:
                job.reason = "DependencyNeverSatisfied" if verdict is Verdict.NEVER else "Dependency"
            elif request.begin is not None and request.begin > now:
                job.reason = "BeginTime"
                self._next_begin = min(self._next_begin or request.begin, request.begin)
            elif not self._cluster.can_hold(request.partition, request.resources):
                job.reason = "BadConstraints"  # the configuration of the nodes changed after its submission
            else:
                job.reason = "Priority"
                del self._conditional[job.id]

    async def _start_jobs(self) -> None:
        at_work = Counter(job.submission for job in self._busy.values())
        started, reasons = schedule(self._cluster, self._queue(), at_work)
        for job_id, reason in reasons.items():
            self._jobs[job_id].reason = reason
        for job_id, allocation in started.items():
            job = self._busy[job_id] = self._jobs[job_id]
            job.state, job.reason, job.allocation = LAUNCHED, "None", allocation
        self._preparing = set(started)
        try:
            for job_id in started:
                if self._stopping:
                    break
                await self._start_job(self._busy.get(job_id))
                self._preparing.discard(job_id)
                self._collect_fresh()
        finally:  # after an error, or if the scheduler stops, the other jobs stay in the queue
            for job_id in self._preparing & self._busy.keys():
                job = self._busy.pop(job_id)
                self._cluster.release(job.allocation)
                job.state, job.allocation = PENDING, {}
            self._preparing.clear()

    async def _start_job(self, job: Job | None) -> None:
        if job is None:  # cancelled while other jobs were started
            return
        script = self._store.script(job.submission)
        await asyncio.to_thread(self._launcher.prepare, job, script)
        if not job.has_ended:  # cancelled meanwhile
            self._store.update([job])
            self._launch(job)

    def _queue(self) -> Iterator[Waiting]:
        for job in self._jobs.values():
            if job.is_pending and job.id not in self._conditional:
                yield Waiting(
                    job.id,
                    job.request.partition,
                    job.request.resources,
                    array=job.submission,
                    at_once=job.request.tasks_at_once,
                )

    async def _purge(self) -> None:
        """Remove jobs that ended long ago, from time to time."""
        while True:
            try:
                while old := self._store.older_than(time.time() - self._retention):
                    for job_id in old:
                        directory = self._launcher.job_directory(job_id)
                        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
                    self._store.forget(old)
            except GatewayUnavailableError:
                logger.exception("cannot forget old jobs; it is tried again")
            await asyncio.sleep(_PURGE_INTERVAL)
