"""`crestline-sacct`."""

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
from crestline.cli.slurm.program import CommandError, read_options, run
from crestline.cli.slurm.queue_fields import job_name
from crestline.cli.slurm.states import read_states, state_of
from crestline.cli.slurm.times import read_moment
from crestline.model import Job, JobNotFoundError
from crestline.model.hostlist import unfold
from crestline.model.job_ids import parent

if TYPE_CHECKING:
    from crestline.client import System

_PROGRAM = "sacct"
_OPTIONS = """
    a/allusers A/accounts= account= array b/brief D/duplicates delimiter= e/helpformat E/endtime= expand-patterns
    o/format= j/jobs= l/long L/allclusters M/clusters= n/noheader name= noconvert p/parsable P/parsable2 r/partition=
    s/state= S/starttime= T/truncate u/user= uid= units= v/verbose X/allocations W/wckeys= q/qos= N/nodelist=
    x/associations= g/gid= local
"""
_LISTS = frozenset({"accounts", "account", "jobs", "name", "nodelist", "partition", "state", "user"})
_DEFAULT = "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode"
_BRIEF = "JobID,State,ExitCode"


def main() -> None:
    """The console script."""
    run(_PROGRAM, sacct)


def sacct(words: list[str]) -> int:
    """Print jobs of the accounting, without their steps."""
    options, rest = read_options(_PROGRAM, words, f"{_OPTIONS} {documents.OPTIONS}", lists=_LISTS)
    if "helpformat" in options:
        print("\n".join(field.head for field in FIELDS.values()))
        return 0
    if rest:
        raise CommandError(f"{_PROGRAM}: error: Unrecognized argument: {rest[0]}")
    for unserved in ("wckeys", "qos", "associations", "gid", "uid"):
        if unserved in options:
            raise CommandError(f"{_PROGRAM}: error: --{unserved} cannot be served: the API does not tell.")
    ids = [each.partition(".")[0] for each in options.get("jobs", "").split(",") if each]
    for each in ids:
        if not re.fullmatch(r"\d+([_+]\S+)?", each):
            raise CommandError(f"{_PROGRAM}: fatal: Bad job/step specified: {each}")
    columns = _columns(options)
    begin, end = _span(options, ids)
    as_document = documents.wants_document(_PROGRAM, options)

    def show(jobs: list[Job], first: bool) -> None:
        wanted = [job for job in jobs if _is_meant(job, ids, begin, end, options)]
        if as_document:
            documents.print_document(options, documents.accounted_jobs(wanted), wanted[0].cluster if wanted else "")
            return
        print_wide(columns, wanted, options, header=first and "noheader" not in options)

    named = "all" if "allclusters" in options else options.get("clusters")
    return on_clusters(_PROGRAM, named, lambda there: _read(there, ids, begin, options), show)


def _columns(options: dict[str, str]) -> list[WideColumn[Job]]:
    default = _BRIEF if "brief" in options else os.environ.get("SACCT_FORMAT") or _DEFAULT
    return wide_format(_PROGRAM, options.get("format", default), FIELDS)


def _span(options: dict[str, str], ids: list[str]) -> tuple[float, float]:
    """As sacct: without a begin since midnight; of jobs that are named, or with a state, whatever their age."""
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
    nodes = set(unfold(options.get("nodelist", "")))
    accounts = options.get("accounts", options.get("account"))
    return (
        (not ids or job.job_id in ids or parent(job.job_id) in ids)
        and (states is None or state_of(job) in states)
        and (not users or getpass.getuser() in users or job.user in users)
        and (job.times.end is None or job.times.end >= begin)
        and (job.times.submit is None or job.times.submit <= end)
        and (not nodes or not nodes.isdisjoint(unfold(job.nodes)))
        and (accounts is None or job.account in accounts.split(","))
        and ("name" not in options or job_name(job) in options["name"].split(","))
        and ("partition" not in options or job.partition in options["partition"].split(","))
    )
