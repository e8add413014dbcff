"""Which job belongs to which try of a task: one attempt is one job, whatever dies in between.

An attempt begins when the record is written, before anything is submitted, so that a try that follows a lost worker
submits with the same key or finds the job's id. The next attempt begins when the end of the job has been recorded, or
when the task was cleared. The record is kept in Airflow's task state store, which outlives both.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context

_STORED_AS = "firecrest_job"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a task."""

    key: str
    """names the attempt to the gateway; digested, since names of DAGs, runs and tasks may be long and not ASCII"""
    number: int
    clearing: int
    """the task's `max_tries`, which grows when the task is cleared and at no other time"""
    job_id: str | None = None
    """None until the gateway has accepted the job"""
    ended: bool = False


class Attempts:
    """The attempts of the task that runs; without a task state store (before Airflow 3.3) each try is one."""

    def __init__(self, context: Context) -> None:
        self._ti: Any = context["ti"]
        self._store: Any = context.get("task_state_store")

    def last(self) -> Attempt | None:
        """The attempt that this task recorded last."""
        found = self._store.get(_STORED_AS) if self._store is not None else None
        return msgspec.convert(found, Attempt) if found else None

    def was_cleared_since(self, attempt: Attempt) -> bool:
        """Whether somebody cleared the task after `attempt` began, and so wants it done anew."""
        return bool(attempt.clearing != self._ti.max_tries)

    def begin(self) -> Attempt:
        """Start, and record, the attempt that follows the last one."""
        ti = self._ti
        last = self.last()
        if self._store is None:
            number, place = ti.try_number, ""
        else:
            # The random part tells installations of Airflow apart that run the same DAG as the same user.
            number, place = (last.number + 1 if last else 0), secrets.token_hex(8)
        names = (ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index), str(number), place)
        key = "airflow-" + hashlib.sha256("\0".join(names).encode()).hexdigest()
        return self._record(Attempt(key=key, number=number, clearing=ti.max_tries))

    def submitted(self, attempt: Attempt, job_id: str) -> Attempt:
        """Record the id under which the job of `attempt` is known."""
        return self._record(msgspec.structs.replace(attempt, job_id=job_id))

    def ended(self, attempt: Attempt) -> Attempt:
        """Record that the job of `attempt` can never run again."""
        return self._record(msgspec.structs.replace(attempt, ended=True))

    def _record(self, attempt: Attempt) -> Attempt:
        if self._store is not None:
            self._store.set(_STORED_AS, msgspec.to_builtins(attempt))
        return attempt
