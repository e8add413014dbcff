"""Airflow's real TriggerRunner in this process, without a database and without a supervisor."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any


class Supervisor:
    """Answers what triggers ask of Airflow: nothing is stored yet, and whatever is stored is taken.

    Attributes:
        state: that of every task instance.
        missed: keys of the XComs that were asked for and not there; Airflow logs an error for each.
    """

    def __init__(self) -> None:
        self.xcoms: dict[tuple[Any, ...], Any] = {}
        self.missed: list[str] = []
        self.state = "deferred"

    def send(self, message: Any) -> Any:
        """As the comms of a triggerer, from a thread."""
        from airflow.sdk.execution_time.comms import OKResponse, TaskStatesResult, XComResult

        place = tuple(getattr(message, name, None) for name in ("dag_id", "run_id", "task_id", "map_index", "key"))
        if type(message).__name__ == "SetXCom":
            self.xcoms[place] = message.value
        if type(message).__name__ == "GetXCom":
            if place not in self.xcoms:
                self.missed.append(message.key)
            return XComResult(key=message.key, value=self.xcoms.get(place))
        if type(message).__name__ == "GetTaskStates":
            return TaskStatesResult(task_states={message.run_ids[0]: {message.task_ids[0]: self.state}})
        return OKResponse(ok=True)

    async def asend(self, message: Any) -> Any:
        return self.send(message)


class Triggerer:
    """What a test sees of it.

    Attributes:
        events: the events that fired, by the number of the trigger.
        failed: the numbers of the triggers that failed, with their errors.
        longest_stall: seconds for which the event loop did nothing else, at most; also those that the machine took.
        longest_turn: the same in seconds of this thread's processor time, which a busy machine does not lengthen.
    """

    def __init__(self) -> None:
        from airflow.jobs.triggerer_job_runner import TriggerRunner, messages

        class Runner(TriggerRunner):
            async def init_comms(self) -> None:
                endless = asyncio.get_running_loop().create_future()
                self.comms_decoder = SimpleNamespace(_reader_task=asyncio.ensure_future(endless))  # type: ignore

            async def asend(runner, message: Any) -> Any:  # noqa: N805
                for entry in message.events or ():
                    self.events[entry.trigger_id] = entry.event
                for trigger_id, error in message.failures or ():
                    self.failed[trigger_id] = error
                return messages.TriggerStateSync(to_create=[], to_cancel=set())

        self.runner = Runner()
        self.supervisor = Supervisor()
        self.events: dict[int, Any] = {}
        self.failed: dict[int, Any] = {}
        self.longest_stall = 0.0
        self.longest_turn = 0.0
        self._next = 1

    def add(self, trigger: Any, task_id: str | None = None) -> int:
        """Begin a trigger as that of a task instance of its own; returns its number.

        Args:
            task_id: of the task; None: a task of its own, too.
        """
        from airflow.executors.workloads import RunTrigger
        from airflow.executors.workloads.task import TaskInstanceDTO
        from airflow.models.trigger import Trigger

        number, self._next = self._next, self._next + 1
        classpath, kwargs = trigger.serialize()
        ti = TaskInstanceDTO(
            id=uuid.uuid4(),
            dag_version_id=uuid.uuid4(),
            task_id=task_id or f"task_{number}",
            dag_id="scale",
            run_id="run",
            try_number=1,
            map_index=-1,
            pool_slots=1,
            queue="default",
            priority_weight=1,
        )
        encrypted = Trigger.encrypt_kwargs(kwargs)
        self.runner.to_create.append(RunTrigger(id=number, classpath=classpath, encrypted_kwargs=encrypted, ti=ti))
        return number

    def cancel(self, number: int) -> None:
        """What Airflow does when the task has ended otherwise, or when another triggerer has its trigger now."""
        self.runner.to_cancel.append(number)

    @property
    def waiting(self) -> int:
        """Triggers that run."""
        return len(self.runner.triggers)

    async def watch_the_loop(self) -> None:
        while True:
            begun, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(0.01)
            self.longest_stall = max(self.longest_stall, time.perf_counter() - begun - 0.01)
            self.longest_turn = max(self.longest_turn, time.thread_time() - used)


@asynccontextmanager
async def running() -> AsyncIterator[Triggerer]:
    """Run one in this event loop."""
    from airflow.sdk.execution_time import task_runner

    triggerer = Triggerer()
    before = getattr(task_runner, "SUPERVISOR_COMMS", None)
    task_runner.SUPERVISOR_COMMS = triggerer.supervisor  # type: ignore[assignment]
    tasks = [asyncio.create_task(triggerer.runner.arun()), asyncio.create_task(triggerer.watch_the_loop())]
    try:
        yield triggerer
    finally:
        triggerer.runner.stop = True
        for details in triggerer.runner.triggers.values():
            details["task"].cancel()
        await asyncio.gather(
            *(details["task"] for details in triggerer.runner.triggers.values()), return_exceptions=True
        )
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if before is not None:
            task_runner.SUPERVISOR_COMMS = before
        else:
            del task_runner.SUPERVISOR_COMMS
