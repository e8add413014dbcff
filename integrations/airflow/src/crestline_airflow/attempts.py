"""Which job belongs to which try of a task: one attempt is one job, whatever dies in between.

An attempt begins when the record is written, before anything is submitted, so that a try that follows a lost worker
submits with the same key or finds the job's id. The next attempt begins when the end of the job has been recorded, or
when the task was cleared. A task on a worker keeps the record in Airflow's task state store, which outlives both. A
task that has no worker cannot reach that, and before Airflow 3.3 there is none; then the record is in an XCom, which
outlives deferrals and triggerers, but which a worker's next try wipes.
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
    """names the attempt to the gateway; digested, since names of DAGs, runs and tasks may be long and not ASCII"""
    number: int
    clearing: int
    """what grows when the task is cleared: the task's `max_tries`, or without a worker its `try_number`"""
    job_id: str | None = None
    """None until the gateway has accepted the job"""
    ended: str | None = None
    """state in which the job ended, if it did not complete; None while it may run"""
    ti_id: str | None = None
    """Airflow's id of the try; that of a task instance which was deleted and made anew differs, too"""
    try_number: int = 0
    memory_factor: float = 1.0
    time_factor: float = 1.0
    """how many times more than the task says this attempt asks for"""


class Store(Protocol):
    """What keeps the record of a task's last attempt across tries."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any) -> None: ...


class XComStore:
    """The XComs of one task instance as a store; blocking, also in a triggerer."""

    def __init__(self, ti: Any) -> None:
        self._place = {
            "dag_id": ti.dag_id,
            "run_id": ti.run_id,
            "task_id": ti.task_id,
            "map_index": -1 if ti.map_index is None else ti.map_index,
        }

    def get(self, key: str) -> Any:
        """What is stored; None if nothing is.

        Then Airflow's API client logs "XCom not found" as an error. Triggers can ask for XComs in no other way: their
        supervisor takes no message that counts or slices them.
        """
        return XCom.get_one(key=key, **self._place)

    def set(self, key: str, value: Any) -> None:
        """Store a value that XComs can carry, in the place of the one before."""
        XCom.set(key=key, value=value, **self._place)


class Attempts:
    """The attempts of the task that runs."""

    def __init__(self, ti: Any, store: Store, clearing: int) -> None:
        self._ti = ti
        self._store = store
        self._clearing = clearing

    @classmethod
    def on_worker(cls, context: Context) -> Attempts:
        """Of a task that begins on a worker."""
        ti: Any = context["ti"]
        store: Any = context.get("task_state_store")
        return cls(ti, store if store is not None else XComStore(ti), ti.max_tries)

    @classmethod
    def without_worker(cls, ti: Any) -> Attempts:
        """Of a task that begins in the triggerer: each try is an attempt, unless its triggerer is lost."""
        return cls(ti, XComStore(ti), ti.try_number)

    def last(self) -> Attempt | None:
        """The attempt that this task recorded last."""
        found = self._store.get(_STORED_AS)
        return msgspec.convert(found, Attempt) if found else None

    def was_cleared_since(self, attempt: Attempt) -> bool:
        """Whether a user cleared or deleted the task instance after `attempt` began, and so wants it done anew.

        Each try has an id of its own. The tries of a deleted task instance are counted from the beginning.
        """
        deleted = not self.is_of_this_task_instance(attempt) and self._try_number() <= attempt.try_number
        return deleted or attempt.clearing != self._clearing

    def is_of_this_task_instance(self, attempt: Attempt) -> bool:
        """Whether this task instance, not another one of the same names, began `attempt`."""
        return attempt.ti_id in (None, self._ti_id())

    def is_later(self, attempt: Attempt) -> bool:
        """Whether a later try of this task has begun `attempt`."""
        return not self.is_of_this_task_instance(attempt) and attempt.try_number > self._try_number()

    def is_last(self, attempt: Attempt) -> bool:
        """Whether no other attempt was recorded since `attempt` began, and the task instance was not deleted."""
        last = self.last()
        return last is not None and last.key == attempt.key

    def begin(self, last: Attempt | None, memory_factor: float = 1.0, time_factor: float = 1.0) -> Attempt:
        """Start, and record, the attempt that follows `last`, the one recorded so far."""
        ti = self._ti
        number = last.number + 1 if last else 0
        # The random part tells installations of Airflow apart that run the same DAG as the same user.
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
        """Record the id under which the job of `attempt` is known."""
        return self._record(msgspec.structs.replace(attempt, job_id=job_id))

    def ended(self, attempt: Attempt, state: str) -> Attempt:
        """Record that the job of `attempt` can never run again."""
        return self._record(msgspec.structs.replace(attempt, ended=state))

    def _ti_id(self) -> str | None:
        found = getattr(self._ti, "id", None)
        return str(found) if found is not None else None

    def _try_number(self) -> int:
        return int(getattr(self._ti, "try_number", 0) or 0)

    def _record(self, attempt: Attempt) -> Attempt:
        self._store.set(_STORED_AS, msgspec.to_builtins(attempt))
        return attempt
