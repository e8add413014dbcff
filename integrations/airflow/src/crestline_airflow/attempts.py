"""Records which job belongs to which try of a task. One attempt is one job, even if workers or triggerers are lost.

An attempt begins when its record is written, before the submission. A try that follows a lost worker therefore submits
with the same key, or finds the job's id. The next attempt begins when the end of the job has been recorded, or when the
task was cleared. A task on a worker stores the record in Airflow's task state store, which survives both. Tasks without
a worker have no access to that store, and Airflow before 3.3 does not have it. There the record is an XCom, which
survives deferrals and the loss of a triggerer, but is deleted by the next try on a worker.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

_STORED_AS = "firecrest_job"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """The record of one attempt of a task, which is one job."""

    key: str
    """Idempotency key of the attempt. A digest, since the names of DAGs, runs and tasks may be long or not ASCII."""
    number: int
    clearing: int
    """Number that increases when the task is cleared: its `max_tries`, or without a worker its `try_number`."""
    job_id: str | None = None
    """Id of the job. None until the gateway has accepted it."""
    ended: str | None = None
    """Final state of a job that did not complete. None while the job may still run."""
    ti_id: str | None = None
    """Airflow's id of the try. It also changes when a task instance is deleted and created again."""
    try_number: int = 0
    memory_factor: float = 1.0
    time_factor: float = 1.0
    """Factor that this attempt applies to the task's time limit."""


class Store(Protocol):
    """A store for the record of a task's last attempt, shared by its tries."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any) -> None: ...


class XComStore:
    """A store in the XComs of one task instance. Its methods block, also in a triggerer."""

    def __init__(self, ti: Any) -> None:
        self._place = {
            "dag_id": ti.dag_id,
            "run_id": ti.run_id,
            "task_id": ti.task_id,
            "map_index": -1 if ti.map_index is None else ti.map_index,
        }

    def get(self, key: str) -> Any:
        """Return the stored value, or None.

        For a missing value, Airflow's API client logs the error "XCom not found". Triggers cannot avoid this: their
        supervisor does not support the messages that count or slice XComs.
        """
        return XCom.get_one(key=key, **self._place)

    def set(self, key: str, value: Any) -> None:
        """Replace the stored value with one that XComs support."""
        XCom.set(key=key, value=value, **self._place)


class Attempts:
    """The attempts of the running task."""

    def __init__(self, ti: Any, store: Store, clearing: int) -> None:
        self._ti = ti
        self._store = store
        self._clearing = clearing

    @classmethod
    def on_worker(cls, context: Context) -> Attempts:
        """Return the attempts of a task that started on a worker."""
        ti: Any = context["ti"]
        store: Any = context.get("task_state_store")
        return cls(ti, store if store is not None else XComStore(ti), ti.max_tries)

    @classmethod
    def without_worker(cls, ti: Any) -> Attempts:
        """Return the attempts of a task that started in the triggerer.

        Each try begins a new attempt, unless it follows a lost triggerer.
        """
        return cls(ti, XComStore(ti), ti.try_number)

    def last(self) -> Attempt | None:
        """Return the last recorded attempt of this task."""
        found = self._store.get(_STORED_AS)
        return msgspec.convert(found, Attempt) if found else None

    def was_cleared_since(self, attempt: Attempt) -> bool:
        """Whether a user cleared or deleted the task instance after `attempt` began, so that the task must run again.

        Each try has its own id. Deleting a task instance restarts the count of its tries.
        """
        deleted = not self.is_of_this_task_instance(attempt) and self._try_number() <= attempt.try_number
        return deleted or attempt.clearing != self._clearing

    def is_of_this_task_instance(self, attempt: Attempt) -> bool:
        """Whether `attempt` was begun by this task instance, and not by another one with the same name."""
        return attempt.ti_id in (None, self._ti_id())

    def is_later(self, attempt: Attempt) -> bool:
        """Whether `attempt` was begun by a later try of this task."""
        return not self.is_of_this_task_instance(attempt) and attempt.try_number > self._try_number()

    def is_last(self, attempt: Attempt) -> bool:
        """Whether `attempt` is the last recorded attempt and the task instance has not been deleted."""
        last = self.last()
        return last is not None and last.key == attempt.key

    def begin(self, last: Attempt | None, memory_factor: float = 1.0, time_factor: float = 1.0) -> Attempt:
        """Begin and record the attempt that follows `last`, the previous record."""
        ti = self._ti
        number = last.number + 1 if last else 0
        # The random part distinguishes Airflow installations where the same user runs the same DAG.
        place = secrets.token_hex(8)
        names = (ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index), str(number), place)
        key = "airflow-" + hashlib.sha256("\0".join(names).encode()).hexdigest()
        return self._record(
            Attempt(
                key=key,
                number=number,
                clearing=self._clearing,
                ti_id=self._ti_id(),
                try_number=self._try_number(),
                memory_factor=memory_factor,
                time_factor=time_factor,
            )
        )

    def submitted(self, attempt: Attempt, job_id: str) -> Attempt:
        """Record the id of the job of `attempt`."""
        return self._record(msgspec.structs.replace(attempt, job_id=job_id))

    def ended(self, attempt: Attempt, state: str) -> Attempt:
        """Record that the job of `attempt` has ended for good."""
        return self._record(msgspec.structs.replace(attempt, ended=state))

    def _ti_id(self) -> str | None:
        found = getattr(self._ti, "id", None)
        return str(found) if found is not None else None

    def _try_number(self) -> int:
        return int(getattr(self._ti, "try_number", 0) or 0)

    def _record(self, attempt: Attempt) -> Attempt:
        self._store.set(_STORED_AS, msgspec.to_builtins(attempt))
        return attempt
