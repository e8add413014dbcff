"""Interprets a failed job for its task: whether a retry makes sense, and the text for the user."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from crestline.model import (
    AuthenticationError,
    ConfigError,
    CrestlineError,
    InvalidRequestError,
    Job,
    JobFailedError,
    JobState,
    PermissionDeniedError,
    SubmitLimitError,
    SystemNotFoundError,
    UnsupportedError,
    describe_end,
    end_hint,
    end_reason,
)
from crestline.model.text import printable, printable_output
from crestline_airflow.attempts import Attempt
from crestline_airflow.compat import HAS_POLICIES, AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["FirecRESTRetryPolicy"]

NON_RETRYABLE = (
    AuthenticationError,
    PermissionDeniedError,
    ConfigError,
    InvalidRequestError,
    SystemNotFoundError,
    UnsupportedError,
)
"""Errors that a retry cannot resolve."""

SITE_FAILURES = frozenset({JobState.NODE_FAIL, JobState.BOOT_FAIL, JobState.PREEMPTED})
"""ends that the job did not cause"""

_SOON = timedelta(seconds=10)

_HINTS = {
    JobState.OUT_OF_MEMORY: "Ask for more memory with memory=, or let retries do it with "
    "retry_policy=FirecRESTRetryPolicy(more_memory=2).",
    JobState.TIMEOUT: "Ask for more time with time_limit=, or let retries do it with "
    "retry_policy=FirecRESTRetryPolicy(more_time=2).",
    JobState.NODE_FAIL: "The job is not the cause: with retries= it is tried again.",
    JobState.BOOT_FAIL: "The job is not the cause: with retries= it is tried again.",
    JobState.PREEMPTED: "The job is not the cause: with retries= it is tried again.",
}
"""Hints for operators with a matching argument. Otherwise the hint is the core's."""


class short_failures:  # noqa: N801 - a context manager; one of contextlib would put the frames back
    """Raise an error of Crestline without its traceback, because its text says what happened and what to do."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, CrestlineError):
            raise error.with_traceback(None) from None


def failure(job: Job) -> JobFailedError:
    """Return the error of a task whose job failed: one sentence, because the log has the details."""
    return JobFailedError(describe_end(job), job)


def explanation(job: Job, path: str | None = None, last_lines: Sequence[str] = ()) -> list[str]:
    """Return the explanation of a failed job as lines for the task log.

    Args:
        job: the job.
        path: path of the file with the job's last output.
        last_lines: the end of that file.
    """
    lines = [describe_end(job)]
    if reason := end_reason(job):
        lines.append(f"Reason: {reason}")
    if hint := _HINTS.get(job.state) or end_hint(job):
        lines.append(f"Hint: {hint}")
    if last_lines:
        lines += [f"The last lines of {printable(path or '')}:"]
        lines += [f"    {printable_output(line)}" for line in last_lines]
    return lines


class RetryVerdict(enum.Enum):
    """The decision of the policy on a failed try."""

    RETRY = enum.auto()
    FAIL = enum.auto()
    DEFAULT = enum.auto()
    """Airflow's own decision."""


class _Policy:
    """The policy without Airflow's classes, for versions that lack them."""

    def __init__(
        self,
        *,
        more_memory: float | None = None,
        more_time: float | None = None,
        delay_after_node_failure: timedelta = _SOON,
    ) -> None:
        for name, factor in (("more_memory", more_memory), ("more_time", more_time)):
            if factor is not None and factor <= 1:
                raise ValueError(f"{name}={factor} would not ask for more; give a factor above 1")
        self.more_memory = more_memory
        self.more_time = more_time
        self.delay_after_node_failure = delay_after_node_failure

    def factors(self, last: Attempt | None) -> tuple[float, float]:
        """Return the factors by which the attempt after `last` multiplies the task's memory and time."""
        if last is None or last.ended is None:
            return 1.0, 1.0
        memory, time = last.memory_factor, last.time_factor
        if last.ended == JobState.OUT_OF_MEMORY:
            memory *= self.more_memory or 1.0
        if last.ended == JobState.TIMEOUT:
            time *= self.more_time or 1.0
        return memory, time

    def verdict(self, error: BaseException, task: Any) -> tuple[RetryVerdict, str]:
        """Return whether to retry after `error`, and why."""
        if isinstance(error, NON_RETRYABLE) and not isinstance(error, SubmitLimitError):
            return RetryVerdict.FAIL, "A retry cannot succeed."
        if not isinstance(error, JobFailedError):
            return RetryVerdict.DEFAULT, ""
        state = error.job.state
        if state in SITE_FAILURES:
            return RetryVerdict.RETRY, f"{describe_end(error.job)} The job is not the cause."
        if state is JobState.OUT_OF_MEMORY:
            if self.more_memory and getattr(task, "memory", None):
                return RetryVerdict.RETRY, "Out of memory; the next try requests more."
            return RetryVerdict.FAIL, "Out of memory; a retry would be, too."
        if state is JobState.TIMEOUT:
            if self.more_time and getattr(task, "time_limit", None):
                return RetryVerdict.RETRY, "Out of time; the next try requests more."
            return RetryVerdict.FAIL, "Out of time; a retry would be, too."
        if state is JobState.DEADLINE:
            return RetryVerdict.FAIL, "The job's deadline has passed."
        return RetryVerdict.DEFAULT, ""


if HAS_POLICIES:
    from airflow.sdk.definitions.retry_policy import RetryAction, RetryDecision, RetryPolicy

    class FirecRESTRetryPolicy(_Policy, RetryPolicy):
        """Decides which failures are retried within the task's `retries`; the default of FirecRESTSubmitOperator.

        A job that its site ended (node failure, boot failure, preemption) is retried soon. A job that ran out of memory
        or time is retried only if the next attempt can request more. A refused identity, request or configuration fails
        the task immediately. Everything else is retried as Airflow does it.

        Example::

            FirecRESTSubmitOperator(
                task_id="scf",
                command="srun pw.x",
                memory="8G",
                retries=3,
                retry_policy=FirecRESTRetryPolicy(more_memory=2),
            )

        Args:
            more_memory: factor by which each retry raises `memory` after the job ran out of it.
            more_time: factor by which each retry raises `time_limit` after the job ran out of it.
            delay_after_node_failure: delay of the retry after the site ended the job.
        """

        def evaluate(
            self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
        ) -> RetryDecision:
            verdict, reason = self.verdict(exception, (context or {}).get("task"))
            if verdict is RetryVerdict.DEFAULT:
                return RetryDecision(action=RetryAction.DEFAULT)
            if verdict is RetryVerdict.FAIL:
                return RetryDecision.fail(reason)
            of_site = isinstance(exception, JobFailedError) and exception.job.state in SITE_FAILURES
            return RetryDecision.retry(self.delay_after_node_failure if of_site else None, reason)

        def serialize(self) -> dict[str, Any]:
            return {
                "more_memory": self.more_memory,
                "more_time": self.more_time,
                "delay_after_node_failure": self.delay_after_node_failure.total_seconds(),
            }

        @classmethod
        def deserialize(cls, data: dict[str, Any]) -> FirecRESTRetryPolicy:
            delay = timedelta(seconds=data["delay_after_node_failure"])
            return cls(more_memory=data["more_memory"], more_time=data["more_time"], delay_after_node_failure=delay)

else:

    class FirecRESTRetryPolicy(_Policy):  # type: ignore[no-redef]
        """Before Airflow 3.3: a failure without a retry fails the task immediately, and no retry requests more
        resources."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.more_memory = self.more_time = None


def to_airflow_error(error: BaseException, policy: Any, task: Any) -> BaseException:
    """Return the error to raise. Before Airflow 3.3, which has no policies, it prevents a retry that makes no sense."""
    if HAS_POLICIES or not isinstance(policy, _Policy) or policy.verdict(error, task)[0] is not RetryVerdict.FAIL:
        return error
    return AirflowFailException(str(error))
