"""What the run report says of the way to the system and back.

ReFrame has no hook for it: its report class is replaced by one that adds the fields, and that ends the runs, since a
report is made when the last test has ended.
"""

from __future__ import annotations

from typing import Any

from reframe.frontend import reporting

from crestline_reframe import sessions
from crestline_reframe.tracked_job import TrackedJob

KEY = "firecrest"


class RunReport(reporting.RunReport):  # type: ignore[misc]
    """ReFrame's report, with requests, bytes, and queue and run seconds under the key `firecrest`."""

    def update_run_stats(self, stats: Any) -> None:
        super().update_run_stats(stats)
        for (_, tasks), entry in zip(stats.runs(), self["runs"], strict=True):
            for task, case in zip(tasks, entry["testcases"], strict=True):
                jobs = {"build": task.check.build_job, "run": task.check.job}
                told = {
                    phase: _told(tracked)
                    for phase, job in jobs.items()
                    if (tracked := getattr(job, "_tracked", None)) is not None
                }
                if told:
                    case[KEY] = told
        runs = list(sessions.all_runs())
        sessions.close_all()
        totals = {run.name: run.traffic for run in runs}
        if totals:
            self["session_info"][KEY] = totals


def _told(tracked: TrackedJob) -> dict[str, Any]:
    return {
        "job_id": tracked.job.job_id if tracked.job else None,
        "requests": round(tracked.requests, 3),
        "bytes_sent": tracked.sent,
        "bytes_received": tracked.received,
        "queue_seconds": tracked.queue_seconds,
        "run_seconds": tracked.run_seconds,
    }


def install() -> None:
    """Make ReFrame write its reports with this class."""
    reporting.RunReport = RunReport
