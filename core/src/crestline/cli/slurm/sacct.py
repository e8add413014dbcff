"""`crestline-sacct`: print jobs from the accounting."""

from __future__ import annotations

import getpass
import os
import re
import time
from typing import TYPE_CHECKING

from crestline.cli.slurm import documents
from crestline.cli.slurm.accounting_fields import FIELDS
from crestline.cli.slurm.clusters import on_clusters
from crestline.cli.slurm.layout import WideColumn, print_wide, wide_format
from crestline.cli.slurm.program import CommandError, read_options, run, slurm_answer
from crestline.cli.slurm.queue_fields import job_name
from crestline.cli.slurm.states import read_states, state_of
from crestline.cli.slurm.times import read_moment
from crestline.model import Job, JobNotFoundError
from crestline.model.hostlist import expand
from crestline.model.job_ids import parent
from crestline.model.slurm_queries import QUERIES, SlurmOutput

if TYPE_CHECKING:
    from crestline.client import System

_PROGRAM = "sacct"
_LISTS = frozenset({"format", "accounts", "account", "jobs", "name", "nodelist", "partition", "state", "user"})
_UNSERVED = (
    "associations", "batch-script", "completion", "env-vars", "file", "flags", "gid", "group", "ncpus", "nnodes", "qos",
    "timelimit-max", "timelimit-min", "uid", "wckeys",
)  # fmt: skip
_DEFAULT = "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode"
_BRIEF = "JobID,State,ExitCode"


def main() -> None:
    """Console script `crestline-sacct`."""
    run(_PROGRAM, sacct)


def sacct(words: list[str]) -> int:
    """Print jobs from the accounting. Job steps are available only from Slurm's own command."""
    options, rest = read_options(_PROGRAM, words, QUERIES[_PROGRAM], lists=_LISTS)
    ids = [each.partition(".")[0] for each in options.get("jobs", "").split(",") if each]
    refusal: CommandError | None = None
    columns: list[WideColumn[Job]] = []
    begin = end = 0.0
    try:
        if rest:
            raise CommandError(f"{_PROGRAM}: error: Unrecognized argument: {rest[0]}")
        as_document = documents.is_document_requested(_PROGRAM, options)
        columns = _columns(options)
        begin, end = _span(options, ids)
        _check(ids, options)
        if begin > end:
            raise CommandError(f"{_PROGRAM}: error: The start time is after the end time.")
    except CommandError as error:
        as_document, refusal = False, error
    asks = refusal is not None or as_document or _needs_slurm(columns, options)
    if "helpformat" in options:
        asks, refusal = True, None

    async def read(there: System) -> list[Job] | SlurmOutput:
        if "helpformat" in options:
            return SlurmOutput(exit_code=0, output="\n".join([*(each.head for each in FIELDS.values()), ""]), errors="")
        jobs = [job for job in await _read(there, ids, begin, options) if _is_meant(job, ids, begin, end, options)]
        if (not jobs and _users(options)) or any(job.raw_state == "CANCELLED" for job in jobs):
            # Only Slurm knows whether these users exist, and which user cancelled a job.
            return await slurm_answer(there, _PROGRAM, words) or jobs
        return jobs

    def show(jobs: list[Job], first: bool) -> None:
        if as_document:
            documents.print_document(options, documents.accounted_jobs(jobs), jobs[0].cluster if jobs else "")
            return
        print_wide(columns, jobs, options, header=first and "noheader" not in options)

    named = "all" if "allclusters" in options else options.get("clusters")
    return on_clusters(_PROGRAM, named, read, show, words=words if asks else None, refusal=refusal)


def _check(ids: list[str], options: dict[str, str]) -> None:
    for unserved in _UNSERVED:
        if unserved in options:
            raise CommandError(f"{_PROGRAM}: error: --{unserved} cannot be served: the API does not report it.")
    for each in ids:
        if not re.fullmatch(r"\d+([_+]\S+)?", each):
            raise CommandError(f"{_PROGRAM}: fatal: Bad job/step specified: {each}")
    if "state" in options:
        read_states(_PROGRAM, options["state"])


def _needs_slurm(columns: list[WideColumn[Job]], options: dict[str, str]) -> bool:
    """Whether only Slurm's own command can answer: job steps, and columns and filters that the API does not support."""
    return (
        "allocations" not in options
        or any(not field.is_reported for field, _, _ in columns)
        or bool(options.keys() & {"brief", "long", "units", "noconvert", "duplicates", "truncate"})
        or ("state" in options and "endtime" not in options and "jobs" not in options)
        or "SLURM_TIME_FORMAT" in os.environ
    )


def _columns(options: dict[str, str]) -> list[WideColumn[Job]]:
    default = _BRIEF if "brief" in options else os.environ.get("SACCT_FORMAT") or _DEFAULT
    return wide_format(_PROGRAM, options.get("format", default), FIELDS)


def _span(options: dict[str, str], ids: list[str]) -> tuple[float, float]:
    """Return the begin and end of the time span.

    As in sacct, the default begin is midnight. Jobs selected by id are included regardless of their age.
    """
    end = read_moment(_PROGRAM, options["endtime"]) if "endtime" in options else time.time()
    if "starttime" in options:
        return read_moment(_PROGRAM, options["starttime"]), end
    if ids:
        return 0.0, end
    return (time.time() if "state" in options else read_moment(_PROGRAM, "today")), end


async def _read(system: System, ids: list[str], begin: float, options: dict[str, str]) -> list[Job]:
    if not ids:
        age = max(int(time.time() - begin), 60)
        return await system.jobs(all_users=_is_everybody(options), window=age)
    found: list[Job] = []
    for job_id in dict.fromkeys(map(parent, ids)):
        try:
            found += await system.backend.jobs.get(job_id)
        except JobNotFoundError:
            continue
    return found


def _users(options: dict[str, str]) -> list[str]:
    return [each for each in options.get("user", "").split(",") if each]


def _is_everybody(options: dict[str, str]) -> bool:
    return "allusers" in options or (bool(_users(options)) and getpass.getuser() not in _users(options))


def _is_meant(job: Job, ids: list[str], begin: float, end: float, options: dict[str, str]) -> bool:
    states = read_states(_PROGRAM, options["state"]) if "state" in options else None
    users = _users(options)
    nodes = set(expand(options.get("nodelist", "")))
    accounts = options.get("accounts", options.get("account"))
    return (
        (not ids or job.job_id in ids or parent(job.job_id) in ids)
        and (bool(ids) or not job.state.is_waiting or not _cannot_start_yet(job))
        and (states is None or state_of(job) in states)
        and (not users or getpass.getuser() in users or job.user in users)
        and (job.times.end is None or job.times.end >= begin)
        and (job.times.submit is None or job.times.submit <= end)
        and (not nodes or not nodes.isdisjoint(expand(job.nodes)))
        and (accounts is None or job.account in accounts.split(","))
        and ("name" not in options or job_name(job) in options["name"].split(","))
        and ("partition" not in options or job.partition in options["partition"].split(","))
    )


def _cannot_start_yet(job: Job) -> bool:
    """Whether sacct would not list the job without its id, because it is held or waits for a time or another job."""
    return job.priority == 0 or job.reason in ("BeginTime", "Dependency")
