"""`/compute/{system}/jobs`: submit, list, look up, metadata, attach, cancel."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crestline.testing.firecrest import job_rows
from crestline.testing.firecrest.endpoint import Call, route
from crestline.testing.firecrest.job import NO_TASK, Job
from crestline.testing.firecrest.refusals import Refusal, buffer_exceeded, command_timeout, invalid, slurm_failure
from crestline.testing.firecrest.scheduler import Order
from crestline.testing.firecrest.state import FacilityState

_WINDOWS = {"1h": 3600, "8h": 8 * 3600, "24h": 86400, "3d": 3 * 86400, "7d": 7 * 86400}
_NAME_LIMIT = 235
_SCRIPT_LIMIT = 4 * 1024 * 1024
"""Maximum size of a batch script in bytes (`max_script_size` in slurm.conf's SchedulerParameters)."""
_WORKDIR_NAMES = ("workingDirectory", "working_directory", "currentWorkingDirectory", "current_working_directory")


def routes(facility: FacilityState) -> list[Route]:
    """Return the routes of these endpoints."""
    jobs = "/compute/{system}/jobs"
    return [
        route(facility, jobs, submit, "POST", needs="scheduler", body="json"),
        route(facility, jobs, list_jobs, needs="scheduler", commands=2),
        route(facility, jobs + "/{job_id}", get_job, needs="scheduler", commands=2),
        route(facility, jobs + "/{job_id}", cancel, "DELETE", needs="scheduler"),
        route(facility, jobs + "/{job_id}/metadata", get_metadata, needs="scheduler", commands=2),
        route(facility, jobs + "/{job_id}/attach", attach, "PUT", needs="scheduler", body="json"),
    ]


def submit(call: Call) -> Response:
    """Submit a job: 201 with its id. Without script and path, sbatch waits for input until the timeout: 408."""
    _need_ssh_key(call)
    description = call.body.get("job")
    if not isinstance(description, dict):
        raise invalid("body", "job", "Field required")
    asked = Call(call.facility, call.user, call.params, call.query, description)
    workdir = asked.text(*_WORKDIR_NAMES)
    if workdir is None:
        raise invalid("body", "job", "Field required", value=description)
    environment = _environment(asked)
    script, script_path = asked.text("script"), asked.text("scriptPath", "script_path")
    if script_path is not None:
        script = _script_at(script_path)
    elif not script:
        time.sleep(call.facility.settings.command_timeout)
        raise command_timeout()
    _check_text(script or "")
    order = Order(
        script=script or "",
        workdir=Path(workdir),
        name=asked.text("name") or None,
        default_name=Path(script_path).name if script_path else "sbatch",
        account=asked.text("account"),
        partition=asked.text("partition"),
        stdin=asked.text("standardInput", "standard_input"),
        stdout=asked.text("standardOutput", "standard_output"),
        stderr=asked.text("standardError", "standard_error"),
        environment=environment,
    )
    return JSONResponse({"jobId": call.facility.scheduler.submit(order, call.user)}, status_code=201)


def list_jobs(call: Call) -> Response:
    """List the user's jobs or those of all users, and ended ones of the time window. Ignores other parameters."""
    _need_ssh_key(call)
    facility, faults = call.facility, call.facility.faults
    window, names = _WINDOWS["7d"], None
    if facility.settings.has_filters:
        window, names = _window(call), _names(call)
    account, everybody, now = call.query.get("account"), call.flag("allusers"), time.time()
    jobs = [
        job
        for job in facility.scheduler.all()
        if (everybody or job.user == call.user)
        and (not account or job.account == account)
        and (job.ended is None or now - job.ended < window)
    ]
    job_rows.check_parsable(jobs, faults)
    rows = job_rows.listing(jobs, faults, facility.settings)
    if names is not None:
        rows = [row for row in rows if row["name"] in names]
    if faults.list_413_above is not None and len(rows) > faults.list_413_above:
        raise buffer_exceeded()
    if faults.list_408_above is not None and len(rows) > faults.list_408_above:
        raise command_timeout()
    return JSONResponse({"jobs": rows})


def get_job(call: Call) -> Response:
    """Return a list with one job of any user, or with all tasks of an array."""
    facility = call.facility
    jobs = _find(call)
    job_rows.check_parsable(jobs, facility.faults)
    rows = job_rows.rows(jobs, facility.faults, facility.settings)
    if not rows:
        raise Refusal(404, "Job not found.")
    return JSONResponse({"jobs": rows})


def get_metadata(call: Call) -> Response:
    """Return the script, and the paths of input, output and errors."""
    facility = call.facility
    if not _job_id(call).isdigit():
        raise Refusal(404, "Job not found.")
    visible = [job for job in _find(call) if job_rows.row(job, facility.faults, facility.settings)]
    if (kept := facility.faults.metadata_kept) is not None:
        visible = [job for job in visible if job.ended is None or time.time() - job.ended < kept]
    if not visible:
        raise Refusal(404, "Job not found.")
    if facility.faults.array_metadata_is_one:
        waits = any(job.started is None and not job.is_over for job in visible)
        visible = [job for job in visible if job.array_id in (None, job.number)] or visible[-1:]
        if waits and visible[0].array_id is not None:
            visible = [replace(visible[0], task=NO_TASK)]
    return JSONResponse({"jobs": [job_rows.metadata(job, facility.faults, call.user.name) for job in visible]})


def cancel(call: Call) -> Response:
    """Cancel a job: 204. For unknown or ended jobs, and those of other users, 500 with scancel's message."""
    job_id, faults = _job_id(call), call.facility.faults
    if not job_id.isdigit():
        raise slurm_failure(f"scancel: error: Invalid job id {job_id}")
    jobs = call.facility.scheduler.find(job_id)
    if not jobs and not faults.cancel_ended_is_500:
        raise Refusal(404, "Job not found.")
    if any(job.user != call.user for job in jobs):
        raise _scancel_failure(job_id, "Access/permission denied")
    if faults.cancel_ended_is_500:
        if not jobs:
            raise _scancel_failure(job_id, "Invalid job id specified")
        if all(job.is_over for job in jobs):
            raise _scancel_failure(job_id, "Job/step already completing or completed")
    call.facility.scheduler.cancel(jobs, call.user)
    return Response(status_code=204)


def attach(call: Call) -> Response:
    """Run a command in a running job and discard its output: 204 if it ends in time."""
    command = call.text("command")
    jobs = [job for job in _find(call) if job.process is not None and job.user == call.user]
    if not jobs:
        raise slurm_failure("srun: error: Unable to confirm allocation for job: Invalid job id specified")
    if command:
        _run_inside(jobs[0], command, call)
    return Response(status_code=204)


def _run_inside(job: Job, command: str, call: Call) -> None:
    home = call.facility.settings.home_of(job.user.name)
    environment = {**os.environ, **job.environment, **job.slurm_variables(home), "HOME": str(home)}
    limit = call.facility.settings.command_timeout
    try:
        done = subprocess.run(
            shlex.split(command), cwd=job.workdir, env=environment, capture_output=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        raise command_timeout() from None
    except (OSError, ValueError) as error:
        raise slurm_failure(f"slurmstepd: error: execve(): {error}") from None
    if done.returncode:
        raise slurm_failure(f"srun: error: {job.node}: task 0: Exited with exit code {done.returncode}")


def _find(call: Call) -> list[Job]:
    _need_ssh_key(call)
    job_id = _job_id(call)
    if not job_id.isdigit():
        words = f"sacct: fatal: Bad job/step specified: {job_id}\n"
        error = f"Unexpected Slurm command response. exit_status:1 std_err:{words}"
        raise Refusal(500, "Error executing Slurm command.", caused_by=[error])
    return call.facility.scheduler.find(job_id)


def _job_id(call: Call) -> str:
    job_id = call.params["job_id"]
    if not re.fullmatch(r"[a-zA-Z0-9]+", job_id):
        raise invalid("path", "job_id", "String should match pattern '^[a-zA-Z0-9]+$'", value=job_id)
    return job_id


def _environment(asked: Call) -> dict[str, str]:
    found: Any = asked.body.get("env", asked.body.get("environment", {"F7T_version": "v2.0.0"}))
    if isinstance(found, list):
        raise Refusal(500, "(\"'list' object has no attribute 'items'\",)")
    if not isinstance(found, dict):
        raise invalid("body", "job", "Input should be a valid dictionary", value=found)
    for value in found.values():
        if not isinstance(value, str):
            raise invalid("body", "job", "Input should be a valid string", value=value)
    truncate = asked.facility.faults.env_commas_truncate
    return {name: str(value).partition(",")[0] if truncate else str(value) for name, value in found.items()}


def _check_text(script: str) -> None:
    """Reject scripts that sbatch 22.05 cannot read."""
    if "\r\n" in script:
        words = (
            "Batch script contains DOS line breaks (\\r\\n)\nsbatch: error: instead of expected UNIX line breaks (\\n)."
        )
        raise slurm_failure(f"sbatch: error: {words}")
    if "\0" in script:
        words = "The Slurm controller does not allow scripts that\nsbatch: error: contain a NULL character '\\0'."
        raise slurm_failure(f"sbatch: error: {words}")
    if len(script.encode()) > _SCRIPT_LIMIT:
        words = "Pathname of a file, directory or other parameter too long"
        raise slurm_failure(f"sbatch: error: Batch job submission failed: {words}")


def _script_at(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        raise slurm_failure(f"sbatch: error: Unable to open file {path}") from None


def _window(call: Call) -> int:
    name = call.query.get("time_window", "24h")
    if name not in _WINDOWS:
        raise invalid("query", "time_window", "Input should be '1h', '8h', '24h', '3d' or '7d'", value=name)
    return _WINDOWS[name]


def _names(call: Call) -> list[str] | None:
    name = call.query.get("name")
    if not name:  # empty means no filter
        return None
    if len(name) > _NAME_LIMIT:
        raise invalid("query", "name", f"String should have at most {_NAME_LIMIT} characters", value=name)
    return name.split(",")  # squeue and sacct treat a comma as the end of a name


def _scancel_failure(job_id: str, words: str) -> Refusal:
    text = f"scancel: Terminating job {job_id}\nscancel: error: Kill job error on job id {job_id}: {words}"
    return slurm_failure(text, exit_status=0)


def _need_ssh_key(call: Call) -> None:
    if not call.user.has_ssh_key:
        reason = f"No SSH credentials found for user:{call.user.name}"
        raise Refusal(500, "Error executing Slurm command.", caused_by=[reason])
