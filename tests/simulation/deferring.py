"""The subject `simulation.deferring:Deferring`: tasks without a worker, while triggerers are killed, or lose triggers.

Airflow is a model of its database, its triggerers (`TriggererJobRunner`, `Trigger.assign_unassigned` and
`Trigger.submit_event`, `TriggerRunner.run_trigger`) and of users who mark tasks failed or clear them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

from harness.airflow_dags import configure
from harness.triggerer import Supervisor

if "AIRFLOW_HOME" not in os.environ:
    from pathlib import Path

    configure(Path(tempfile.mkdtemp(prefix="airflow-")))

from airflow.sdk.execution_time import task_runner
from airflow.triggers.base import TaskSuccessEvent

from crestline.client.network import use_network
from crestline.client.policy import RetryPolicy
from crestline.testing.simulation import Process, Scenario, World
from crestline.testing.simulation.answers import HOME, SYSTEM
from crestline.testing.simulation.cluster import SimulatedJob, work
from crestline.testing.simulation.login import SimulatedLogin
from crestline.testing.simulation.scenario import SITE
from crestline_airflow.attempts import Attempts
from crestline_airflow.operators import FirecRESTSubmitOperator
from crestline_airflow.triggers import FirecRESTSubmitTrigger

END_BOUND = 400.0
"""Seconds after the last fault, the last start of a triggerer, and the job's end in which its task has ended."""
GONE_BOUND = 400.0
"""Seconds after a user ended a task, the last fault and the start of a triggerer in which its job has ended."""
CALL_BOUND = RetryPolicy().total_timeout
"""Seconds in which one call sends its request again: if it was refused, or found no connection."""
VISIBLE_AFTER = 15.0
"""Seconds in which a look by the key may miss a job."""
LOST_AFTER = 30.0
"""Seconds without a heartbeat after which another triggerer takes a triggerer's triggers."""
ON_KILL = 30.0
_CONNECTION = json.dumps(
    {"conn_type": "firecrest", "host": SITE.url, "login": "a", "password": "b", "extra": {"verify": False}}
)
"""Without certificates to check, since reading all authorities takes most of a run's time."""


@dataclass
class _Row:
    """A trigger in Airflow's database."""

    number: int
    task: _Task
    kwargs: dict[str, Any]
    ti: Any
    owner: str = ""


@dataclass
class _Task:
    """A task instance of each try.

    Attributes:
        state: `deferred`, or how it ended.
        jobs: keys of the work of its tries.
    """

    name: str
    state: str = ""
    try_number: int = 0
    ti: Any = None
    ended_by_user: list[tuple[float, str]] = field(default_factory=list)
    """when, and the key of the work that has to end"""

    @property
    def key(self) -> str:
        """The work of its present try."""
        return f"{self.name}-try-{self.try_number}"


class _Database(Supervisor):
    """Airflow's, as triggers reach it.

    Attributes:
        begun: when each try recorded that it begins, by the key of its work.
        recorded: when the ids of jobs were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[str, _Task] = {}
        self.rows: dict[int, _Row] = {}
        self.heartbeats: dict[str, float] = {}
        self.count = 0
        self.now: Callable[[], float] = lambda: 0.0
        self.begun: dict[str, float] = {}
        self.recorded: dict[str, float] = {}

    def send(self, message: Any) -> Any:
        if type(message).__name__ == "GetTaskStates":
            self.state = self.tasks[message.task_ids[0]].state
        if type(message).__name__ == "SetXCom" and message.key == "firecrest_job":
            self.begun.setdefault(f"{message.task_id}-try-{message.value['try_number']}", self.now())
            self.recorded.setdefault(message.value["job_id"], self.now())
        return super().send(message)

    def defer(self, task: _Task) -> None:
        """Begin the next try of a task, as the scheduler does where no worker is needed."""
        task.try_number += 1
        task.state = "deferred"
        task.ti = SimpleNamespace(
            id=uuid.uuid4(), dag_id="dag", run_id="run", task_id=task.name, map_index=-1, try_number=task.try_number
        )
        operator = FirecRESTSubmitOperator(
            task_id=task.name,
            system=SYSTEM,
            working_dir=HOME,
            script=f"#!/bin/sh\n{work(task.key)}\n",
            log_output=False,
            start_from_trigger=True,
        )
        kwargs = FirecRESTSubmitTrigger(**operator.start_trigger_args.trigger_kwargs).serialize()[1]
        self.count += 1
        self.rows[self.count] = _Row(self.count, task, kwargs, task.ti)

    def end(self, row: _Row, state: str) -> None:
        """Remove the trigger of a task that has ended or is no longer deferred."""
        row.task.state = state
        self.rows.pop(row.number, None)


class Deferring(Scenario):
    """Two triggerers, and tasks that live in them."""

    lives = 4

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._database = _Database()
        for number in range(self.random.choice((1, 1, 2, 3))):
            self._database.tasks[f"task-{number}"] = _Task(f"task-{number}")
        self._database.now = lambda: world.now
        self._lost_work: set[str] = set()
        self._held: dict[Process, dict[int, _Row]] = {}
        self._last_start = 0.0
        self.cluster.on_start = self._check_alone

    async def play(self) -> None:
        with _airflow(self._database):
            async with asyncio.TaskGroup() as group:
                for task in self._database.tasks.values():
                    group.create_task(self._user(task))
                for name in ("t1", "t2"):
                    group.create_task(self.program(name, self._triggerer, self.random.choice((0.0, 20.0))))

    def check_end(self) -> None:
        for task in self._database.tasks.values():
            if task.state == "success":
                jobs = self.cluster.of_key(task.key)
                done = [each for job in jobs.values() for each in job if each.has_completed]
                self.world.check(bool(done), f"{task.name} is a success, and the jobs of its try are {list(jobs)}.")

    def _check_alone(self, job: SimulatedJob) -> None:
        """The job of an earlier try runs beside only if its submission was open when the later one began.

        Then a request had left that could bring it, or left within the same call, and no answer had told of the job.
        """
        name, database = job.key.partition("-try-")[0], self._database
        for other in self.cluster.jobs:
            is_other_try = other.key.startswith(f"{name}-try-") and other.key != job.key
            if is_other_try and other.moments[-1].state == "RUNNING" and self.cluster.worked(other.key) == other.whole:
                earlier, later = sorted((job, other), key=lambda each: int(each.key.rpartition("-")[2]))
                begun = database.begun[later.key]
                was_known = database.recorded.get(earlier.whole, math.inf) < begun
                is_open = not was_known and self.world.sent[earlier.by] < begun + CALL_BOUND
                is_open &= earlier.submitted > begun - VISIBLE_AFTER or earlier.by in self.world.untold
                self.world.check(is_open, f"Job {earlier.number} of {earlier.key} runs beside job {later.number}.")

    # users

    async def _user(self, task: _Task) -> None:
        world, random = self.world, self.world.adversary.random(f"user of {task.name}")
        await asyncio.sleep(random.uniform(0, 5))
        self._database.defer(task)
        for _ in range(random.choice((0, 0, 1, 1, 2))):
            await asyncio.sleep(random.choice((3, 30, 120)) * random.random())
            row = next((each for each in self._database.rows.values() if each.task is task), None)
            if row is None:
                break
            action = random.choice(("failed", "cleared"))
            world.note("user", f"{task.name} is {action}")
            task.ended_by_user.append((world.now, task.key))
            if not any(row.number in held for process, held in self._held.items() if process.is_alive):
                self._lost_work.add(task.key)  # Airflow tells no triggerer
            self._database.end(row, action)
            if action == "failed":
                break
            await asyncio.sleep(random.choice((0.1, 1, 6)))
            self._database.defer(task)
        while task.state == "deferred":  # noqa: ASYNC110 - the bounds are checked by the triggerers
            await asyncio.sleep(1)
        for since, key in task.ended_by_user:
            await self._check_gone(since, key)

    async def _check_gone(self, since: float, key: str) -> None:
        while key not in self._lost_work and any(self._is_left(job) for job in self.cluster.jobs if job.key == key):
            late = self.world.now - max(since, self.calm_at, self._last_start) - GONE_BOUND
            self.world.check(late < 0, f"The job of {key} still lives {GONE_BOUND:.0f} s after a user ended its task.")
            await asyncio.sleep(5)

    def _is_left(self, job: SimulatedJob) -> bool:
        """Whether it lives, and the client could know it."""
        return not job.is_over and not (job.by in self.world.untold and job.whole not in self._database.recorded)

    # triggerers

    async def _triggerer(self, process: Process) -> None:
        self._last_start = self.world.now
        name = process.name.partition(".")[0]
        running: dict[int, asyncio.Task[None]] = {}
        self._held[process] = {}
        events: deque[tuple[_Row, Any]] = deque()
        random = self.world.adversary.random(f"rounds of {process.name}")
        login = SimulatedLogin(self.firecrest)
        stall = self.world.adversary.strikes(f"{process.name} stalls", 0.2, "stall", "triggerer")
        stall_at = self.world.now + stall.uniform(0, 60) if stall else None
        try:
            with use_network(self.network(process), login):
                while self._is_at_work or running:
                    if stall_at is not None and self.world.now >= stall_at:
                        stall_at = None
                        self.world.note(process.name, "stalls")
                        await asyncio.sleep(random.uniform(35, 90))
                    self._round(name, process, running, events)
                    await asyncio.sleep(random.uniform(0.5, 1.5))
        finally:
            if not process.is_alive:  # what it had to cancel is lost
                rows = [row for number, row in self._held[process].items() if number not in self._database.rows]
                self._lost_work |= {f"{row.task.name}-try-{row.ti.try_number}" for row in rows}
        await asyncio.sleep(max(0.0, self.calm_at - self.world.now) + GONE_BOUND)  # for those that cancel

    @property
    def _is_at_work(self) -> bool:
        return any(task.state in ("", "deferred", "cleared") for task in self._database.tasks.values())

    def _round(
        self, name: str, process: Process, running: dict[int, asyncio.Task[None]], events: deque[tuple[_Row, Any]]
    ) -> None:
        """One round of a triggerer's supervisor and its runner."""
        database, now = self._database, self.world.now
        while events:
            self._handle(process, *events.popleft())
        database.heartbeats[name] = now
        for row in database.rows.values():
            if not row.owner or now - database.heartbeats[row.owner] > LOST_AFTER:
                row.owner = name
        own = {number for number, row in database.rows.items() if row.owner == name}
        for number in [each for each, task in running.items() if task.done()]:
            if not running[number].cancelled():
                running[number].result()
            del running[number]
        for number in set(running) - own:
            if number in database.rows:  # another triggerer has it
                self._held[process].pop(number, None)
            running[number].cancel("user action")
        for number in sorted(own - set(running)):
            self._held[process][number] = database.rows[number]
            running[number] = asyncio.create_task(self._run(process, database.rows[number], events))
        for row in database.rows.values():
            jobs = [job for each in self.cluster.of_key(row.task.key).values() for job in each]
            if jobs and all(job.is_over for job in jobs):
                since = max(jobs[-1].moments[-1].time, self.calm_at, self._last_start)
                self.bounds.check(f"to know the end of {row.task.name}", process, since, END_BOUND)

    async def _run(self, process: Process, row: _Row, events: deque[tuple[_Row, Any]]) -> None:
        """`TriggerRunner.run_trigger`"""
        trigger = FirecRESTSubmitTrigger(**row.kwargs)
        trigger.firecrest_conn_id = process.name
        trigger.task_instance, trigger._log = row.ti, logging.getLogger(__name__)
        try:
            async for event in trigger.run():
                self.world.note(
                    process.name, f"{row.task.name}: {event.payload if hasattr(event, 'payload') else event}"
                )
                events.append((row, event))
        except asyncio.CancelledError as error:
            if error.args[:1] == ("user action",) and process.is_alive:
                self.world.note(process.name, f"{row.task.name}: on_kill")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(trigger.on_kill(), ON_KILL)

    def _handle(self, process: Process, row: _Row, event: Any) -> None:
        """`Trigger.submit_event`, and the worker that goes on with the task."""
        world, task = self.world, row.task
        if row.number not in self._database.rows:
            return
        if isinstance(event, TaskSuccessEvent):
            self._database.end(row, "success")
            number = event.xcoms["return_value"]["job_id"] if event.xcoms else ""
            keys = {job.key for job in self.cluster.find(number)}
            world.check(keys == {task.key}, f"{task.name} succeeded by job {number}, which does the work {keys}.")
            world.check(
                all(job.has_completed for job in self.cluster.find(number)),
                f"{task.name} succeeded, and its job {number} did not.",
            )
            return
        payload = event.payload
        world.check("error" not in payload, f"{task.name} failed: {payload.get('error')}")
        jobs = self.cluster.find(payload["job_id"])
        world.check(bool(jobs) and all(job.is_over for job in jobs), f"{task.name} failed, and its job goes on.")
        states = {job.moments[-1].state for job in jobs}
        world.check("COMPLETED" not in states, f"{task.name} failed, and its job completed.")
        world.check(
            "CANCELLED by 0" not in states, f"The job of {task.name} was cancelled, and no user asked for that."
        )
        attempts = Attempts.without_worker(row.ti)
        last = attempts.last()
        assert last is not None
        attempts.ended(last, payload["state"])
        self._database.end(row, "failed")


@contextlib.contextmanager
def _airflow(database: _Database) -> Iterator[None]:
    """Airflow's own places for its supervisor and for connections, of which each life of a triggerer has its own."""
    connections = {f"AIRFLOW_CONN_T{name}.{life}": _CONNECTION for name in "12" for life in range(1, 5)}
    with (
        mock.patch.dict(os.environ, connections),
        mock.patch.object(task_runner, "SUPERVISOR_COMMS", database, create=True),
    ):
        yield
