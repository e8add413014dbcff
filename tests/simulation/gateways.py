"""The subject `simulation.gateways:Gateways`: gateways on one database, killed while they submit, look and tell.

Submissions, replicas, shared lists of the queue, job book and event feeds are the real ones, on the real store; its
SQLite carries one transaction after the other out, in this thread. The batch system and the clients are models.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextvars import ContextVar
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

import aiosqlite
from sqlalchemy import Double, cast, func
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from crestline.gateway import replicas, submissions
from crestline.gateway.job_events import JobFeeds
from crestline.gateway.replicas import Replicas
from crestline.gateway.schedulers import shared_lists
from crestline.gateway.schedulers.base import JobList, JobQuery
from crestline.gateway.schedulers.job_cache import CachedJob, JobSource
from crestline.gateway.schedulers.job_views import JobViews
from crestline.gateway.schedulers.programs import ProgramOptions
from crestline.gateway.schedulers.shared_lists import SharedLists
from crestline.gateway.store import DatabaseEngine, Store
from crestline.gateway.submissions import Submissions
from crestline.model import CrestlineError, GatewayUnavailableError, InvalidRequestError
from crestline.testing.simulation import Process, Scenario, World
from crestline.testing.simulation.answers import EPOCH, HOME, SYSTEM, USER
from crestline.testing.simulation.cluster import ENDED, SimulatedCluster, work
from crestline.wire.compute import JobDescription, JobInfo, JobStatus, JobTime

SUBMIT_BOUND = 60.0
"""Seconds after the last fault and the last start of a gateway in which a submission has its job."""
END_BOUND = 90.0
"""The same for the end of a job, and after that end."""
VISIBLE_AFTER = 60.0
"""Seconds after a submission in which another gateway than the one that sent it may not know its job."""
STALE = 45.0
"""Seconds that a state may be old when it is told."""
RETENTION = 300.0
"""Seconds for which the queue holds a job after its end."""
_TABLES = [
    str(CreateTable(table).compile(dialect=sqlite.dialect()))
    for table in (submissions._submissions, replicas._replicas, shared_lists._lists)
]


_connect: ContextVar[Callable[[], _Connection]] = ContextVar("connect")
"""The connections of the gateway that runs."""


async def _connection() -> _Connection:
    return await _connect.get()()


_ENGINE = DatabaseEngine(
    create_async_engine("sqlite+aiosqlite://", async_creator=_connection, poolclass=NullPool, _initialize=False)
)
"""One for all runs, since it compiles each statement once, and without questions of its own at the first."""


class _LostError(Exception):
    """A client has no answer."""


class _Database:
    """One SQLite in memory, as all gateways reach it."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.adversary.random("database")
        self._calls = 0
        self._loses = self._random.choice((0.0, 0.02))
        self.failed = -math.inf
        """when it last did not answer"""
        self.holder: _Connection | None = None
        """in a transaction"""
        self.connection = sqlite3.connect(":memory:")
        self.connection.create_function("database_time", 0, lambda: EPOCH + world.now)
        for table in _TABLES:
            self.connection.execute(table)

    async def execute(self, connection: _Connection, act: Callable[..., Any], *args: Any) -> Any:
        """Do something for a connection, which holds the database from there to its commit or rollback."""
        self._calls += 1
        name, process = f"database call {self._calls}", connection.process
        ends = act.__name__ in ("commit", "rollback")
        process.calls = getattr(process, "calls", 0) + 1  # type: ignore[attr-defined]
        if process.calls == process.kill_in:  # type: ignore[attr-defined]
            process.kill()
        await asyncio.sleep(self._random.uniform(0.0005, 0.004))
        while self.holder not in (None, connection):
            if not self.holder.process.is_alive:
                self.connection.rollback()
                self.holder = None
                break
            await asyncio.sleep(0.005)
        if not process.is_alive:
            raise asyncio.CancelledError
        if self._world.is_out("database") and act.__name__ != "rollback":
            self.failed = self._world.now
            raise sqlite3.OperationalError("the database is away")
        self.holder = None if ends else connection
        done = act(*args)
        if act.__name__ == "commit" and self._world.adversary.strikes(name, self._loses, "lost commit", "database"):
            self.failed = self._world.now
            self._world.note(process.name, "has no answer to a commit")
            raise sqlite3.OperationalError("the connection is broken")
        return done


class _Connection(aiosqlite.Connection):
    """Of one process, without a thread."""

    def __init__(self, database: _Database, process: Process) -> None:
        super().__init__(lambda: database.connection, 64)
        self._database = database
        self.process = process

    def __await__(self) -> Any:
        return self._open().__await__()

    async def _open(self) -> _Connection:
        self._connection = self._database.connection
        return self

    async def _execute(self, fn: Any, *args: Any, **_: Any) -> Any:
        return await self._database.execute(self, fn, *args)

    async def close(self) -> None:
        self.stop()

    def stop(self) -> None:  # type: ignore[override]
        if self._database.holder is self:
            self._database.connection.rollback()
            self._database.holder = None
        self._connection = None

    def __del__(self) -> None: ...


class _Slurm(JobSource):
    """The batch system, as the programs of one gateway reach it: what they began goes on when the gateway is killed."""

    def __init__(self, world: World, cluster: SimulatedCluster, process: Process, probability: float) -> None:
        self._world = world
        self._cluster = cluster
        self._process = process
        self._probability = probability
        self._calls = 0
        self.views: JobViews

    async def submit(self, user: str, job: JobDescription, key: str | None = None) -> str:
        fault, random = self._begin("sbatch", ("fails", "answer lost", "refused", "slow"))
        script, name = str(job.script), f"{self._process.name} sbatch {self._calls}"
        if fault == "refused":
            raise InvalidRequestError("sbatch: error: try another partition", hint="Use another one.")
        if fault != "fails":
            done: asyncio.Future[str] = self._world.loop.create_future()

            def arrive() -> None:
                job_id = self._cluster.submit(script, HOME, key or "none", name)
                if not done.done():
                    done.set_result(job_id)

            self._world.loop.call_later(random.uniform(0, 8) if fault == "slow" else random.random() / 5, arrive)
            if not fault or fault == "slow":
                found = await done
                self.views.change(user)
                return found
            await asyncio.sleep(10)
        raise GatewayUnavailableError("sbatch did not answer in time.")

    async def submit_many(self, user: str, jobs: Any) -> list[str | CrestlineError]:
        async def one(job: JobDescription, key: str | None) -> str | CrestlineError:
            try:
                return await self.submit(user, job, key)
            except CrestlineError as error:
                return error

        return list(await asyncio.gather(*(one(*each) for each in jobs)))

    async def find(self, user: str, key: str) -> str | None:
        await self._look("squeue for a key")
        return next((job.whole for job in self._cluster.jobs if job.name == key), None)

    async def jobs(self, user: str, query: JobQuery) -> JobList:
        return await self.views.jobs(user, query)

    async def queue(self, user: str, owner: str | None, ids: Collection[str] | None = None) -> list[CachedJob]:
        await self._look("squeue")
        held = self._entries(0.0, lambda end: self._world.now - end < RETENTION)
        return [entry for entry in held if ids is None or entry.job.job_id in ids]

    async def accounting(self, user: str, ids: Collection[str]) -> list[CachedJob]:
        random = await self._look("sacct")
        return [each for each in self._entries(random.uniform(0, 3), lambda _: True) if each.job.job_id in ids]

    async def history(self, user: str, owner: str | None, since: float) -> list[CachedJob]:
        random = await self._look("sacct")
        return self._entries(random.uniform(0, 3), lambda end: EPOCH + end > since)

    async def retention(self, user: str) -> float:
        return RETENTION

    def family(self, job_id: str) -> str:
        return job_id

    def element(self, entry: CachedJob, job_id: str) -> CachedJob | None:
        return None

    async def _look(self, program: str) -> Random:
        fault, random = self._begin(program, ("fails", "slow"))
        if fault == "fails":
            await asyncio.sleep(random.choice((0.1, 5.0)))
            raise GatewayUnavailableError(f"{program} did not answer in time.")
        await asyncio.sleep(random.uniform(0, 5) if fault == "slow" else random.random() / 5)
        return random

    def _begin(self, program: str, faults: tuple[str, ...]) -> tuple[str, Random]:
        self._calls += 1
        name = f"{self._process.name} {program} {self._calls}"
        random = self._world.adversary.random(name)
        kind = random.choice(faults)
        if self._world.is_out("batch system"):
            return "fails", random
        strikes = self._world.adversary.strikes(name, self._probability, kind, program, random)
        return kind if strikes else "", random

    def _entries(self, age: float, holds: Callable[[float], bool]) -> list[CachedJob]:
        then = self._world.now - age
        found = []
        for job in self._cluster.jobs:
            moment, end = job.at(then), job.end(then)
            if job.submitted > then or (end is not None and not holds(end)):
                continue
            times = JobTime(submit=int(EPOCH + job.submitted), end=None if end is None else int(EPOCH + end))
            status = JobStatus(state=moment.state, exit_code=moment.exit_code)
            found.append(CachedJob(JobInfo(job_id=job.whole, name=job.name, user=USER, status=status, time=times)))
        return found


class Gateways(Scenario):
    """Clients that submit jobs with keys and wait for their ends, by whatever gateway they come to."""

    lives = 5
    skews = (-40.0, 40.0)

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._database = _Database(world)
        self._count = self.random.choice((1, 2, 2, 3))
        self._probability = self.random.choice((0.03, 0.15))
        self._gateways: dict[str, SimpleNamespace] = {}
        self._started = 0.0
        self._is_over = False
        self._killed = -math.inf
        self._at_work: Counter[str] = Counter()
        """requests that submit a key, at living gateways"""
        self._asked = 0

    def _plan_faults(self) -> None:
        for kind in ("database", "batch system"):
            if fault := self.world.adversary.strikes(f"{kind} away", 0.25, f"outage: {kind}", "gateway"):
                begin, length = fault.uniform(0, self.calm_at), fault.choice((1, 5, 30)) * fault.uniform(0.5, 1.5)
                self.world.plan_outage(begin, length, kind)
                self.calm_at = max(self.calm_at, begin + length)
        super()._plan_faults()

    async def play(self) -> None:
        now = cast(func.database_time(), Double)  # SQLite's own has whole seconds
        with mock.patch.object(shared_lists, "_now", return_value=now):
            await self._play()

    async def _play(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self.program(f"gateway-{number}", self._gateway, self.random.uniform(0, 3)))
            keys = [f"key-{number}" for number in range(self.random.choice((1, 2, 3)))]
            async with asyncio.TaskGroup() as clients:
                for key in keys:
                    for name in self.random.choice((("a",), ("a", "b"))):
                        clients.create_task(self._client(f"client {name} of {key}", key))
            self._is_over = True

    # a gateway

    async def _gateway(self, process: Process) -> None:
        _connect.set(partial(_Connection, self._database, process))
        store = Store(_ENGINE, shared=self._count > 1)
        slurm = _Slurm(self.world, self.cluster, process, self._probability)
        beats = Replicas(store)
        while True:
            try:
                await beats.start()
                break
            except GatewayUnavailableError:
                await asyncio.sleep(1)
        options = ProgramOptions(observer="observer")
        views = slurm.views = JobViews(slurm, options, lambda job_id: (int(job_id),))
        if store.shared:
            views.sharing = SharedLists(store, SYSTEM)
        feeds = JobFeeds(slurm)  # type: ignore[arg-type]
        taken = Submissions(store, SYSTEM, slurm, beats)  # type: ignore[arg-type]
        requests: asyncio.Queue[Callable[[], Coroutine[Any, Any, None]]] = asyncio.Queue()
        here = SimpleNamespace(process=process, submissions=taken, views=views, feeds=feeds, requests=requests)
        self._gateways[process.name] = here
        self._started = self.world.now
        at_work: set[asyncio.Task[None]] = set()
        try:
            while not self._is_over:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(5):
                        at_work.add(task := asyncio.create_task((await requests.get())()))
                        task.add_done_callback(at_work.discard)
        except asyncio.CancelledError:
            self._killed = self.world.now
            raise
        del self._gateways[process.name]
        for task in at_work:
            task.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)
        await feeds.close()
        await views.close()
        await beats.stop()
        if taken._locks:
            gc.collect()  # errors may keep their frames
        self.world.check(not taken._locks, f"{process.name} keeps locks of keys that it does not work on.")

    # the clients

    async def _client(self, name: str, key: str) -> None:
        random = self.world.adversary.random(name)
        await asyncio.sleep(random.choice((0, 4, 30)) * random.random())
        job_id = await self._submit(name, key, random)
        told = ""
        while told not in ENDED:
            if random.random() < 0.5:
                told = await self._poll(name, job_id, random)
            else:
                told = await self._listen(name, job_id, random)
            end = max(each.moments[-1].time for each in self.cluster.find(job_id))
            bound = max(self.calm_at, self._started, end) + END_BOUND
            late = self.cluster.find(job_id)[0].is_over and self.world.now > bound
            self.world.check(not late or told in ENDED, f"{name} does not know that job {job_id} has ended.")
            await asyncio.sleep(random.uniform(0.2, 4))
        job = self.cluster.find(job_id)[0]
        self.world.check(job.is_over, f"{name} was told that job {job_id} has ended: {told}. It goes on.")
        self.world.check(told == job.moments[-1].state, f"{name} was told {told} of job {job_id}.")

    async def _submit(self, name: str, key: str, random: Random) -> str:
        job = JobDescription(working_directory=HOME, script=f"#!/bin/sh\n{work(key)}\n", name=key)

        async def send(gateway: SimpleNamespace) -> str:
            self._at_work[key] += 1
            try:
                return await submit(gateway)
            finally:
                self._at_work[key] -= 1

        async def submit(gateway: SimpleNamespace) -> str:
            if random.random() < 0.3:
                (found,) = await gateway.submissions.submit_many(USER, [(job, key)])
                if isinstance(found, CrestlineError):
                    raise found
                return str(found)
            return str(await gateway.submissions.submit(USER, job, key))

        while True:
            try:
                job_id, _ = await self._ask(name, f"submission of {key}", send, random)
            except (_LostError, GatewayUnavailableError, InvalidRequestError) as error:
                self.world.note(name, f"submission of {key}: {type(error).__name__}: {error}")
                if "under way" in str(error) and self.world.now > max(self._database.failed + 130, self._killed + 25):
                    self.world.check(self._at_work[key] > 0, f"{key} is under way, and no gateway works on it.")
                late = self.world.now - max(self.calm_at, self._started) > SUBMIT_BOUND
                self.world.check(not late, f"{key} is not submitted {SUBMIT_BOUND:.0f} s after the last fault.")
                await asyncio.sleep(random.uniform(0.2, 5))
                continue
            accepted = list(self.cluster.of_key(key))
            self.world.note(name, f"{key} is job {job_id}")
            self.world.check(accepted == [job_id], f"{name} was told job {job_id} for {key}: {accepted} are there.")
            return str(job_id)

    async def _poll(self, name: str, job_id: str, random: Random) -> str:
        asked = self.world.now

        async def look(gateway: SimpleNamespace) -> JobList:
            found: JobList = await gateway.views.jobs(USER, JobQuery(ids=(job_id,)))
            return found

        try:
            found, where = await self._ask(name, f"look at job {job_id}", look, random)
        except (_LostError, GatewayUnavailableError) as error:
            self.world.note(name, f"look at job {job_id}: {type(error).__name__}: {error}")
            return ""
        if not found:
            job = self.cluster.find(job_id)[0]
            may_miss = where != job.by.split()[0] and asked - job.submitted < VISIBLE_AFTER
            self.world.check(may_miss, f"{name} was told by {where} that there is no job {job_id}.")
            return ""
        return self._told(name, job_id, found[0].status.state, asked, is_partial=bool(found.partial))

    async def _listen(self, name: str, job_id: str, random: Random) -> str:
        """A stream of events, for a while."""
        lines: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def stream(gateway: SimpleNamespace) -> None:
            async with gateway.feeds.watching(USER, [job_id]) as watcher:
                while (line := await watcher.next()) is not None:
                    lines.put_nowait(line)

        gateway = self._choose(random)
        if gateway is None:
            return ""
        listening = self._run(gateway, stream)
        told, until = "", self.world.now + random.choice((5, 30, 120))
        while gateway.process.is_alive and not listening.done() and self.world.now < until and told not in ENDED:
            try:
                async with asyncio.timeout(1):
                    line = await lines.get()
            except TimeoutError:
                continue
            for each in (line or b"").splitlines():
                if each.startswith(b"data: ") and "status" in (row := json.loads(each[6:])):
                    told = self._told(name, job_id, row["status"]["state"], self.world.now, is_partial=True)
        listening.cancel()
        return told

    def _told(self, name: str, job_id: str, state: str, asked: float, *, is_partial: bool) -> str:
        """Check that the job had this state lately."""
        if state == "UNKNOWN":
            self.world.check(is_partial, f"{name} was told of an unknown state of job {job_id} without an outage.")
            return state
        moments = self.cluster.find(job_id)[0].moments
        ends = [*(each.time for each in moments[1:]), self.world.now]
        had = {each.state for each, end in zip(moments, ends, strict=True) if end >= asked - STALE}
        self.world.check(
            state in had, f"{name} was told that job {job_id} is {state}; it was {', '.join(sorted(had))}."
        )
        self.world.note(name, f"job {job_id} is {state}")
        return state

    # what lies between them

    def _choose(self, random: Random) -> SimpleNamespace | None:
        alive = [each for each in self._gateways.values() if each.process.is_alive]
        return random.choice(alive) if alive else None

    def _run(self, gateway: SimpleNamespace, work: Callable[[SimpleNamespace], Awaitable[Any]]) -> asyncio.Future[Any]:
        """Let the gateway do something; the future is of what comes of it, and its cancellation ends the work."""
        done: asyncio.Future[Any] = self.world.loop.create_future()
        done.add_done_callback(lambda done: done.cancelled() or done.exception())

        async def handle() -> None:
            task = asyncio.current_task()
            done.add_done_callback(lambda done: task.cancel() if done.cancelled() and task is not None else None)
            try:
                result = await work(gateway)
            except Exception as error:  # an unexpected one reaches the client that asked, and ends the run
                if not done.done():
                    done.set_exception(error)
            else:
                if not done.done():
                    done.set_result(result)

        gateway.requests.put_nowait(handle)
        return done

    async def _ask(
        self, name: str, what: str, work: Callable[[SimpleNamespace], Awaitable[Any]], random: Random
    ) -> tuple[Any, str]:
        """A request to one of the gateways: its answer, and whose."""
        self._asked += 1
        request = f"{name} request {self._asked}"
        gateway = self._choose(random)
        if gateway is None:
            raise _LostError("no gateway is there")
        await asyncio.sleep(random.uniform(0.001, 0.1))
        kinds = ("lost request", "lost answer", "client gone")
        kind = random.choice(kinds)
        fault = self.world.adversary.strikes(request, self.probability / 2, kind, what.split()[0])
        if fault and kind == "lost request":
            raise _LostError("the request was lost")
        done = self._run(gateway, work)
        if fault and kind == "client gone":
            await asyncio.sleep(fault.choice((0.01, 0.1, 5)) * fault.random())
            raise _LostError("the client has gone")  # a submission is carried out all the same
        until = self.world.now + 60
        while not done.done():
            await asyncio.wait([done], timeout=0.5)
            if not gateway.process.is_alive or self.world.now > until:
                raise _LostError("the gateway has gone" if self.world.now <= until else "no answer in time")
        if fault:
            raise _LostError("the answer was lost")
        return done.result(), gateway.process.name
