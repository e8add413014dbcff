"""The scheduler backend `firecrest-scheduler`.

Directives, cancellation of blocked jobs and the choice of nodes are those of ReFrame's own Slurm backend. In place of
commands it uses a gateway, and never in ReFrame's thread: `submit()` passes a job on, `poll()` reads its known state.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import reframe.core.runtime as rt
from reframe.core.backends import getscheduler, register_scheduler
from reframe.core.exceptions import ConfigError, JobError, JobSchedulerError
from reframe.core.logging import getlogger
from reframe.core.schedulers.slurm import SlurmJobScheduler
from reframe.frontend.executors import ABORT_REASONS
from reframe.utility import nodelist_expand

from crestline.model import CrestlineError, JobState, describe_end, end_hint, end_reason
from crestline.model.endings import launch_failed
from crestline_reframe import sessions
from crestline_reframe.job import FirecrestJob
from crestline_reframe.nodes import MAINTENANCE, Nodes
from crestline_reframe.options import read
from crestline_reframe.packing import verdict
from crestline_reframe.runs import Run
from crestline_reframe.tracked_job import TrackedJob

NAME = "firecrest-scheduler"

_TICK = 0.2
"""Seconds between two checks of a blocking wait, so that Ctrl-C takes effect."""


@register_scheduler(NAME)
class FirecrestJobScheduler(SlurmJobScheduler):  # type: ignore[misc]
    """ReFrame's scheduler for partitions whose jobs run behind a gateway.

    ReFrame makes one for each partition; those of one gateway and system share a run. The gateway is asked nothing
    before it is needed.

    Example, a partition in a settings file that imports `crestline_reframe`::

        {
            "name": "gpu",
            "scheduler": "firecrest-scheduler",
            "launcher": "srun",
            "environs": ["builtin"],
            "sched_options": {"firecrest": {"site": "daint@cscs"}},
        }
    """

    def __init__(self) -> None:
        super().__init__()
        if self._multi_clusters:
            raise ConfigError(
                "slurm_multi_cluster_mode does not work through a gateway: name a system for each cluster"
            )
        self._sched_access_in_submit = False  # the scheduler has no command line; the options are in the script
        self._options = read(
            self.get_option("firecrest") or rt.runtime().get_option("systems/0/sched_options/firecrest")
        )
        self._paths = sessions.current_paths()  # ReFrame changes into stage directories later
        self._pbs: Any = None
        self._cached_nodes: Nodes | None = None

    @property
    def _run(self) -> Run:
        return sessions.run_of(self._options, self._paths)

    @property
    def _nodes(self) -> Nodes:
        if self._cached_nodes is None:
            self._cached_nodes = Nodes(self._run)
        return self._cached_nodes

    # Jobs

    def make_job(self, *args: Any, **kwargs: Any) -> FirecrestJob:
        check = getlogger().check
        if check is not None and not check.is_dry_run():
            self._run.connect()
        return FirecrestJob(*args, **kwargs)

    def emit_preamble(self, job: FirecrestJob) -> list[str]:
        if self._scheduler_type() != "pbs":
            return list(super().emit_preamble(job))
        if self._pbs is None:
            self._pbs = getscheduler("pbs")()
            self._pbs._config_prefix = self._config_prefix
        return list(self._pbs.emit_preamble(job))

    def _scheduler_type(self) -> str:
        check = getlogger().check
        if self._options.scheduler is None and check is not None and check.is_dry_run():
            return "slurm"  # a dry run sends no request
        return self._run.scheduler_type()

    def submit(self, job: FirecrestJob) -> None:
        run = self._run
        if self._options.pack is not None and run.scheduler_type() == "pbs":
            raise JobSchedulerError("'pack' works on systems with Slurm, but this one has PBS: leave it out")
        job._tracked = tracked = _tracked_job(job, run, self._options.fetch)
        job._jobid = f"firecrest-{sum(1 for _ in run.tracked_jobs) + 1}"  # until it has a real one
        job._submit_time = time.time()
        run.add(tracked)

    def poll(self, *jobs: FirecrestJob | None) -> None:
        followed = [job for job in jobs if job is not None and job._tracked is not None]
        for job in followed:
            self._update_job(job)
        submitted = [job for job in followed if job._tracked.job is not None]
        reasons = {job.jobid: [job._tracked.waits_for] for job in submitted if job._tracked.waits_for}
        if reasons:
            self._cancel_if_blocked(submitted, reasons)
        self._cancel_if_pending_too_long(submitted)

    def _cancel_if_pending_too_long(self, jobs: list[FirecrestJob]) -> None:
        """Log the reason, as ReFrame's other backends do and its Slurm backend does not."""
        waiting = [job for job in jobs if not job.is_cancelling]
        super()._cancel_if_pending_too_long(jobs)
        for job in waiting:
            if job.is_cancelling:
                job._exception = JobError("maximum pending time exceeded", job.jobid)

    def _update_job(self, job: FirecrestJob) -> None:
        """Copy the known state into ReFrame's fields."""
        tracked = job._tracked
        seen, has_ended = tracked.job, tracked.ended.is_set()
        job._remotedir = self._run.stage_dirs.absolute(tracked.stage_dir) if self._run.stage_dirs.root else None
        if seen is None:
            if has_ended:
                job._state = "CANCELLED" if tracked.is_cancelled and not tracked.error else "FAILED"
        else:
            job._jobid = seen.job_id
            job._submit_time = tracked.submitted_at
            job._state = _slurm_value(seen.state)
            if seen.nodes and seen.state.is_terminal:
                with suppress(ValueError):  # `None assigned`
                    job._nodelist = nodelist_expand(seen.nodes)
            if seen.state.is_terminal:
                job._exitcode = seen.exit_code
            if seen.times.end is not None:
                job._completion_time = float(seen.times.end)
        if has_ended and seen is not None and tracked.pack is not None and tracked.pack.kind == "allocation":
            found = verdict(tracked.stage_dir.local, tracked.script)
            if found is not None:
                job._exitcode, job._state = found
        error = tracked.error
        if seen is not None and launch_failed(seen):
            error = " ".join(filter(None, (describe_end(seen), end_reason(seen), end_hint(seen))))
        if has_ended and error and job._exception is None and not getattr(job, "_has_told", False):
            job._has_told = True
            job._exception = JobError(error, job.jobid)

    def finished(self, job: FirecrestJob) -> bool:
        return job._tracked is not None and (job._tracked.ended.is_set() or getattr(job, "_is_given_up", False))

    def wait(self, job: FirecrestJob) -> None:
        tracked = job._tracked
        if tracked is None:
            return
        is_interrupted = isinstance(sys.exc_info()[1], ABORT_REASONS)
        while not tracked.ended.is_set():
            if is_interrupted:  # ReFrame will cancel the others in turn
                self._run.cancel_all()
                if tracked.released.is_set() or sessions.is_out_of_time():
                    job._is_given_up = True
                    break
            (tracked.released if is_interrupted else tracked.ended).wait(_TICK)
            self.poll(job)
        self._update_job(job)
        if not tracked.ended.is_set() and tracked.released.is_set():
            job._state = "CANCELLED"
        if job.is_array and tracked.ended.is_set():
            self._merge_files(job)

    def cancel_many(self, jobs: Any) -> None:
        for job in jobs:
            job._is_cancelling = True
            if job._tracked is not None:
                self._run.cancel(job._tracked)

    # Nodes

    def allnodes(self) -> set[Any]:
        try:
            if self._run.scheduler_type() == "pbs":
                raise JobSchedulerError(
                    "nodes are chosen on systems with Slurm, and this one has PBS: name their number"
                )
            return self._nodes.all()
        except CrestlineError as error:
            raise JobSchedulerError(f"could not retrieve node information: {error}") from error

    def filternodes(self, job: FirecrestJob, nodes: Any) -> set[Any]:
        try:
            return set(super().filternodes(job, set(nodes)))
        except CrestlineError as error:
            raise JobSchedulerError(f"could not retrieve node information: {error}") from error

    def _get_default_partition(self) -> str | None:
        return self._nodes.default_partition()

    def _get_actual_partition(self, options: list[str]) -> None:
        """Do nothing, because no gateway reports where Slurm would place a job."""

    def _get_reservation_nodes(self, resv: str) -> set[Any]:
        nodes = self._nodes.reserved(resv)
        if any(MAINTENANCE in node.states for node in nodes):
            # Jobs of the maintenance run there, as in ReFrame for reservations with Slurm's flag MAINT, which no
            # gateway reports.
            self._available_states.add(MAINTENANCE)
        return nodes

    def _get_nodes_by_name(self, nodespec: str) -> set[Any]:
        return self._nodes.named(nodespec)


def _slurm_value(state: JobState) -> str:
    if state in (JobState.SUBMITTED, JobState.UNKNOWN):
        return "PENDING"
    return state.value.upper()


def _tracked_job(job: FirecrestJob, run: Run, fetch: tuple[str, ...]) -> TrackedJob:
    """Return the job with the file settings of its test."""
    check = getlogger().check
    local = Path(job.workdir).absolute()
    script = (local / job.script_filename).read_text()
    suffix = "_*" if job.is_array else ""
    outputs = [f"{Path(name).name}{suffix}" for name in (job.stdout, job.stderr)]
    phase, takes_all, own = "run", True, {job.script_filename, job.stdout, job.stderr}
    if check is not None:
        for other in (check.job, check.build_job):
            if other is not None:
                own |= {other.script_filename, other.stdout, other.stderr}
        keeps = [pattern for name in check.keep_files for pattern in (name, f"{name.rstrip('/')}/*")]
        if job is check.build_job:
            phase = "build"
            takes_all = (
                check.job is None
                or type(check.build_system).__name__ in ("EasyBuild", "Spack")
                or bool(rt.runtime().get_option("general/0/keep_stage_files"))  # a later session may need the program
            )
            outputs += keeps if check.job is None else []
        else:
            outputs += [*keeps, *fetch]
    stage_dir = run.stage_dirs.resolve(local)
    return TrackedJob(
        stage_dir=stage_dir,
        phase=phase,
        test=_name_of(local, run),
        script=script,
        own_files=frozenset(own),
        outputs=tuple(outputs),
        collect_new=takes_all,
        is_array=job.is_array,
        is_packable=phase == "run" and not job.is_array and check is not None,
    )


def _name_of(local: Path, run: Run) -> str:
    prefix = run.stage_dirs.prefix
    return local.relative_to(prefix).as_posix() if local.is_relative_to(prefix) else str(local)
