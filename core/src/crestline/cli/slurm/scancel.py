"""`crestline-scancel`: cancel jobs."""

from __future__ import annotations

import getpass
import re
import signal
import sys
from typing import TYPE_CHECKING

from crestline.cli.output import one_line
from crestline.cli.slurm.clusters import find_cluster
from crestline.cli.slurm.program import CommandError, on_system, read_environment, read_options, run, slurm_answer
from crestline.cli.slurm.queue_fields import array_elements, job_name
from crestline.cli.slurm.states import read_states, state_of
from crestline.model import CrestlineError, Job, JobNotFoundError, PermissionDeniedError
from crestline.model.hostlist import expand
from crestline.model.job_ids import parent

if TYPE_CHECKING:
    from crestline.client import System

_PROGRAM = "scancel"
_OPTIONS = """
    A/account= b/batch ctld c/cron f/full H/hurry i/interactive M/clusters= me n/name= jobname= w/nodelist= p/partition=
    q/qos= Q/quiet R/reservation= s/signal= t/state= u/user= v/verbose wckey= sibling=
"""
_ID = re.compile(r"\d+(\+\d+|_\d+|_\[[\d,:-]+\])?")
_FILTERS = ("account", "name", "jobname", "me", "nodelist", "partition", "qos", "reservation", "state", "user")
_ASKED = ("qos", "reservation")
"""Filters that only Slurm's own squeue supports."""
_ACCESS_DENIED = 2002 % 256
"""Exit code of scancel for a job of another user: the low byte of Slurm's error number."""
_VARIABLES = {f"SCANCEL_{each.upper()}": each for each in ("account", "name", "partition", "qos", "state", "user")}


def main() -> None:
    """Console script `crestline-scancel`."""
    run(_PROGRAM, scancel)


def scancel(words: list[str]) -> int:
    """Cancel jobs."""
    options, rest = read_options(_PROGRAM, words, _OPTIONS)
    options = read_environment(_VARIABLES) | options
    for unserved in ("wckey", "sibling"):
        if unserved in options:
            raise CommandError(f"{_PROGRAM}: error: --{unserved} cannot be served: the API does not report it.")
    if "state" in options:
        _read_states(options["state"])
    sent = options.get("signal", "KILL").upper().removeprefix("SIG")
    if not sent.isdigit() and f"SIG{sent}" not in signal.Signals.__members__:
        raise CommandError(f"Unknown job signal: {options['signal']}")
    if sent not in ("KILL", "9"):
        raise CommandError(
            f"{_PROGRAM}: error: The API cannot send signal {options['signal']}: it ends jobs, and nothing else. "
            "Leave --signal out to end the job."
        )
    if "batch" in options:  # --full has no effect, since KILL always ends all steps
        raise CommandError(f"{_PROGRAM}: error: --batch sends the signal to the script alone, and the API sends none.")
    ids = [each for word in rest for each in _split(word)]
    if not ids and not any(name in options for name in _FILTERS):
        raise CommandError(f"{_PROGRAM}: error: No job identification provided")
    target, system = find_cluster(_PROGRAM, options.get("clusters"))
    return on_system(target, system, lambda there: _cancel(there, ids, options))


def _split(word: str) -> list[str]:
    """Split `12,13_4` into `12` and `13_4`, and expand `12_[1-3,7]` to its tasks."""
    ids = re.split(r",(?![^\[]*\])", word)
    for each in ids:
        if not _ID.fullmatch(each):
            raise CommandError(f"{_PROGRAM}: error: Invalid job id {each}")
    return [element for each in ids for element in array_elements(each)]


def _cancelled_as(job_id: str, ids: list[str], by_state: bool) -> list[str]:
    """Return the ids to cancel for a listed job, limited to `ids` if there are any.

    Pending tasks of an array are cancelled one by one if the running tasks must continue, otherwise the array is
    cancelled as a whole.
    """
    if ids and not {job_id, parent(job_id)} & set(ids):
        return [each for each in array_elements(job_id) if each in ids]
    if by_state and "..." not in job_id:
        return array_elements(job_id)
    return [job_id.partition("_[")[0]]


async def _cancel(system: System, ids: list[str], options: dict[str, str]) -> int:
    wanted = ids
    if any(name in options for name in _FILTERS):
        others = "user" in options and getpass.getuser() not in options["user"].split(",")
        jobs = await system.jobs(all_users=others)
        options = options | await _asked(system, options)
        meant = [job.job_id for job in jobs if not job.is_finished and _is_meant(job, options)]
        wanted = [each for job_id in meant for each in _cancelled_as(job_id, ids, "state" in options)]
    code = 0
    for job_id in dict.fromkeys(wanted):
        if "interactive" in options and not await _is_confirmed(system, job_id):
            continue
        if "verbose" in options:
            print(f"{_PROGRAM}: Terminating job {job_id}", file=sys.stderr)
        try:
            await system.cancel(job_id)
        except JobNotFoundError:  # not a failure in Slurm: the job is not running
            if "verbose" in options:
                _complain(job_id, "Invalid job id specified")
        except CrestlineError as error:
            denied = isinstance(error, PermissionDeniedError)
            code = code or (_ACCESS_DENIED if denied else 1)
            if "quiet" not in options:
                _complain(job_id, "Access/permission denied" if denied else str(error))
    return code


def _complain(job_id: str, why: str) -> None:
    print(f"{_PROGRAM}: error: Kill job error on job id {job_id}: {why}", file=sys.stderr)


async def _is_confirmed(system: System, job_id: str) -> bool:
    """Ask the user for confirmation, for `--interactive`."""
    try:
        job = (await system.array_tasks(job_id))[0]
    except JobNotFoundError:
        _complain(job_id, "Invalid job id specified")
        return False
    question = one_line(f"Cancel job_id={job_id} name={job_name(job)} partition={job.partition} [y/n]?")
    print(question, end=" ", flush=True)
    return sys.stdin.readline().strip().lower().startswith("y")


async def _asked(system: System, options: dict[str, str]) -> dict[str, str]:
    """Return the option `among` with the ids of the jobs that match the filters that only Slurm supports.

    Raises:
        CommandError: the gateway cannot run Slurm's own squeue.
    """
    conditions = [f"--{name}={options[name]}" for name in _ASKED if name in options]
    if not conditions:
        return {}
    answer = await slurm_answer(system, "squeue", ["--noheader", "--format=%i", "--states=all", *conditions])
    if answer is None or answer.exit_code:
        raise CommandError(
            f"{_PROGRAM}: error: {conditions[0].partition('=')[0]} cannot be served: the API does not report it."
        )
    return {"among": " ".join(answer.output.split())}


def _read_states(text: str) -> frozenset[str]:
    """Parse the states of jobs that can be cancelled, in any case and in either spelling.

    Raises:
        CommandError: any other state.
    """
    try:
        states = read_states(_PROGRAM, text)
    except CommandError:
        states = None
    if states is None or not states <= {"PENDING", "RUNNING", "SUSPENDED"}:
        raise CommandError(
            f"Invalid job state specified: {text}", "Valid job states are PENDING, RUNNING, and SUSPENDED"
        )
    return states


def _is_meant(job: Job, options: dict[str, str]) -> bool:
    """Whether a job matches the filters.

    The local user name matches every job: the API lists and cancels only the user's own jobs, and the user may have
    another name on the system.
    """
    users = options.get("user", "").split(",") if "user" in options else []
    states = _read_states(options["state"]) if "state" in options else None
    nodes = set(expand(options.get("nodelist", "")))
    names = options.get("name", options.get("jobname"))
    return (
        ("among" not in options or job.job_id in options["among"].split())
        and (not nodes or not nodes.isdisjoint(expand(job.nodes)))
        and (not users or job.user in users or getpass.getuser() in users)
        and (states is None or state_of(job) in states)
        and (names is None or job_name(job) in names.split(","))
        and ("partition" not in options or job.partition in options["partition"].split(","))
        and ("account" not in options or job.account in options["account"].split(","))
    )
