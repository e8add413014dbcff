"""The XCom of a job for later tasks."""

from __future__ import annotations

from typing import Any

from crestline.model import Job


def outcome(job: Job, system: str, elements: list[Job] | None = None) -> dict[str, Any]:
    """Return the result of a job as plain values, for any XCom backend.

    Args:
        job: the job.
        system: the system's name.
        elements: tasks of an array.
    """
    left = {
        "job_id": job.job_id,
        "system": system,
        "state": str(job.state),
        "exit_code": job.exit_code,
        "working_dir": job.workdir,
        "stdout": job.stdout,
        "stderr": job.stderr,
        "times": {"submit": job.times.submit, "start": job.times.start, "end": job.times.end},
        "node_hours": _rounded(job.node_hours),
    }
    if elements is not None:
        hours = [element.node_hours for element in elements if element.node_hours is not None]
        left["node_hours"] = _rounded(sum(hours)) if hours else None
        left["elements"] = [
            {
                "job_id": element.job_id,
                "state": str(element.state),
                "exit_code": element.exit_code,
                "stdout": element.stdout,
                "stderr": element.stderr,
                "node_hours": _rounded(element.node_hours),
            }
            for element in elements
        ]
    return left


def _rounded(hours: float | None) -> float | None:
    return None if hours is None else round(hours, 6)
