"""Dependencies between jobs: `--dependency` of sbatch(1)."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from crestline.model import InvalidRequestError

_KINDS = ("after", "afterok", "afternotok", "afterany", "aftercorr")


class Verdict(enum.Enum):
    """Whether a dependency lets the job start."""

    SATISFIED = enum.auto()
    WAITING = enum.auto()
    NEVER = enum.auto()


@dataclass(frozen=True)
class Clause:
    """One condition on a job or on a task of a job array."""

    kind: str
    job_id: int = 0
    task: int | None = None
    delay: int = 0
    """Seconds after the start of the other job, for `after` only."""


@dataclass(frozen=True)
class Dependency:
    """Conditions, all or any of which must hold."""

    clauses: tuple[Clause, ...]
    any_of: bool = False


@dataclass(frozen=True)
class Predecessor:
    """The job, or task of an array, that a condition concerns. `start` is in seconds since the epoch."""

    start: float | None
    ended: bool
    succeeded: bool


Lookup = Callable[[int, int | None], Sequence[Predecessor]]
"""(job id, task or None for all) -> matching jobs; empty if the scheduler no longer has them."""


@lru_cache(maxsize=1024)
def parse_dependency(text: str) -> Dependency:
    """Parse `afterok:12:13,afterany:14_3`, `singleton` or `after:12+5?afterok:13`.

    Raises:
        InvalidRequestError: invalid format.
    """
    any_of = "?" in text
    if any_of and "," in text:
        raise _refusal(text, "',' and '?' exclude each other")
    clauses: list[Clause] = []
    for part in text.split("?" if any_of else ","):
        kind, *targets = part.split(":")
        if kind == "singleton" and not targets:
            clauses.append(Clause(kind))
            continue
        if kind not in _KINDS or not targets:
            raise _refusal(text, f"{part[:40]!r} is not a condition")
        for target in targets:
            match = re.fullmatch(r"(\d{1,18})(?:_(\d{1,9}|\*))?(?:\+(\d{1,9}))?", target, re.ASCII)
            if match is None or (match[3] and kind != "after"):
                raise _refusal(text, f"{target[:40]!r} is not a job id")
            task = int(match[2]) if match[2] and match[2] != "*" else None
            clauses.append(Clause(kind, int(match[1]), task, 60 * int(match[3] or 0)))
    return Dependency(tuple(clauses), any_of)


def judge(dependency: Dependency, lookup: Lookup, *, task: int | None, has_twin: bool, now: float) -> Verdict:
    """Return whether a job can start.

    Args:
        dependency: conditions of the job.
        lookup: finds the jobs of a condition.
        task: the job's own array index, for `aftercorr`.
        has_twin: whether an earlier job with the same name and user has not ended, for `singleton`.
        now: seconds since the epoch.
    """
    verdicts = [_judge(clause, lookup, task, has_twin, now) for clause in dependency.clauses]
    decisive, other = (Verdict.SATISFIED, Verdict.NEVER) if dependency.any_of else (Verdict.NEVER, Verdict.SATISFIED)
    if decisive in verdicts:
        return decisive
    return other if all(verdict is other for verdict in verdicts) else Verdict.WAITING


def _judge(clause: Clause, lookup: Lookup, task: int | None, has_twin: bool, now: float) -> Verdict:
    if clause.kind == "singleton":
        return Verdict.WAITING if has_twin else Verdict.SATISFIED
    wanted = task if clause.kind == "aftercorr" else clause.task
    jobs = lookup(clause.job_id, wanted)
    if clause.kind == "after":
        begun = all(job.ended or (job.start is not None and job.start + clause.delay <= now) for job in jobs)
        return Verdict.SATISFIED if begun else Verdict.WAITING
    if clause.kind in ("afterok", "aftercorr") and any(job.ended and not job.succeeded for job in jobs):
        return Verdict.NEVER
    if not all(job.ended for job in jobs):
        return Verdict.WAITING
    if clause.kind == "afternotok" and jobs and all(job.succeeded for job in jobs):
        return Verdict.NEVER
    return Verdict.SATISFIED


def _refusal(text: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"The dependency {text[:80]!r} cannot be used: {why}.",
        hint="Write for example afterok:12:13,afterany:14_3 or singleton; '?' instead of ',' means any of them.",
    )
