"""`crestline-scancel`."""

from __future__ import annotations

import getpass
import re
import sys
from typing import TYPE_CHECKING

from crestline.cli.slurm.clusters import find_cluster
from crestline.cli.slurm.program import CommandError, on_system, read_environment, read_options, run
from crestline.cli.slurm.queue_fields import array_elements, job_name
from crestline.cli.slurm.states import read_states, state_of
from crestline.model import CrestlineError, Job, JobNotFoundError

if TYPE_CHECKING:
    from crestline.client import System

_PROGRAM = "scancel"
_OPTIONS = """
    A/account= b/batch ctld c/cron f/full H/hurry i/interactive M/clusters= me n/name= jobname= w/nodelist= p/partition=
    q/qos= Q/quiet R/reservation= s/signal= t/state= u/user= v/verbose wckey= sibling=
"""
_ID = re.compile(r"\d+(\+\d+|_\d+|_\[[\d,:-]+\])?")
_FILTERS = ("account", "name", "jobname", "me", "partition", "state", "user")

_VARIABLES = {f"SCANCEL_{each.upper()}": each for each in ("account", "name", "partition", "qos", "state", "user")}


def main() -> None:
    """The console script."""
    run(_PROGRAM, scancel)


def scancel(words: list[str]) -> int:
    """Cancel jobs."""
    options, rest = read_options(_PROGRAM, words, _OPTIONS, lists=_FILTERS)
    options = read_environment(_VARIABLES) | options
    for unserved in ("nodelist", "qos", "reservation", "wckey", "sibling", "interactive"):
        if unserved in options:
            raise CommandError(f"{_PROGRAM}: error: --{unserved} cannot be served: the API does not tell.")
    if options.get("signal", "KILL").upper().removeprefix("SIG") not in ("KILL", "9"):
        raise CommandError(
            f"{_PROGRAM}: error: The API cannot send signal {options['signal']}: it ends jobs, and nothing else. "
            "Leave --signal out to end the job."
        )
    if "batch" in options or "full" in options:
        raise CommandError(f"{_PROGRAM}: error: --batch and --full choose who gets a signal, and the API sends none.")
    ids = [each for word in rest for each in _split(word)]
    if not ids and not any(name in options for name in _FILTERS):
        raise CommandError(f"{_PROGRAM}: error: No job identification provided")
    target, system = find_cluster(_PROGRAM, options.get("clusters"))
    return on_system(target, system, lambda there: _cancel(there, ids, options))


def _split(word: str) -> list[str]:
    """`12,13_4` -> `12` and `13_4`; `12_[1-3,7]` -> its elements."""
    ids = re.split(r",(?![^\[]*\])", word)
    for each in ids:
        if not _ID.fullmatch(each):
            raise CommandError(f"{_PROGRAM}: error: Invalid job id {each}")
    return [element for each in ids for element in array_elements(each)]


def _cancelled_as(job_id: str, by_state: bool) -> list[str]:
    """What waits of an array: one by one where the elements that run shall go on, else the whole array."""
    if by_state and "..." not in job_id:
        return array_elements(job_id)
    return [job_id.partition("_[")[0]]


async def _cancel(system: System, ids: list[str], options: dict[str, str]) -> int:
    wanted = ids
    if any(name in options for name in _FILTERS):
        jobs = await system.jobs()
        wanted = [job.job_id for job in jobs if not job.is_finished and _is_meant(job, ids, options)]
        wanted = [each for job_id in wanted for each in _cancelled_as(job_id, "state" in options)]
    failed = False
    for job_id in dict.fromkeys(wanted):
        if "verbose" in options:
            print(f"{_PROGRAM}: Terminating job {job_id}", file=sys.stderr)
        try:
            await system.cancel(job_id)
        except CrestlineError as error:
            why = "Invalid job id specified" if isinstance(error, JobNotFoundError) else str(error)
            failed = True
            if "quiet" not in options:
                print(f"{_PROGRAM}: error: Kill job error on job id {job_id}: {why}", file=sys.stderr)
    return int(failed)


def _is_meant(job: Job, ids: list[str], options: dict[str, str]) -> bool:
    """The API lists, and cancels, jobs of the caller alone, whose local name may be another one there."""
    users = options.get("user", "").split(",") if "user" in options else []
    states = read_states(_PROGRAM, options["state"]) if "state" in options else None
    names = options.get("name", options.get("jobname"))
    return (
        (not ids or job.job_id in ids)
        and (not users or job.user in users or getpass.getuser() in users)
        and (states is None or state_of(job) in states)
        and (names is None or job_name(job) in names.split(","))
        and ("partition" not in options or job.partition in options["partition"].split(","))
        and ("account" not in options or job.account in options["account"].split(","))
    )
