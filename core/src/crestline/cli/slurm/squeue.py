"""`crestline-squeue`: print the queue."""

from __future__ import annotations

import getpass
import time
from typing import TYPE_CHECKING

import msgspec

from crestline.cli.slurm import documents
from crestline.cli.slurm.clusters import on_clusters
from crestline.cli.slurm.layout import Column, long_format, print_rows, short_format
from crestline.cli.slurm.program import CommandError, read_environment, read_options, run, slurm_answer
from crestline.cli.slurm.queue_fields import LONG, ORDER, SHORT, array_elements, job_name
from crestline.cli.slurm.states import ACTIVE, read_states, state_of
from crestline.model import Job, JobNotFoundError
from crestline.model.hostlist import expand
from crestline.model.job_ids import parent
from crestline.model.slurm_queries import QUERIES, SlurmOutput

if TYPE_CHECKING:
    from crestline.client import System

_PROGRAM = "squeue"
_CHECKED_NAMES = frozenset({"user", "users", "nodelist"})
_VARIABLES = {
    "SQUEUE_ACCOUNT": "account", "SQUEUE_ALL": "all!", "SQUEUE_ARRAY": "array!", "SQUEUE_FORMAT": "format",
    "SQUEUE_FORMAT2": "Format", "SQUEUE_LICENSES": "licenses", "SQUEUE_NAMES": "name", "SQUEUE_PARTITION": "partition",
    "SQUEUE_QOS": "qos", "SQUEUE_SORT": "sort", "SQUEUE_STATES": "states", "SQUEUE_USERS": "users",
}  # fmt: skip
_DEFAULT = "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
_LONG_LIST = "%.18i %.9P %.8j %.8u %.8T %.10M %.9l %.6D %R"
_START_LIST = "%.18i %.9P %.8j %.8u %.2t %.19S %.6D %20Y %R"
_REMEMBERED = 300
"""Seconds that squeue lists a job after its end (Slurm's MinJobAge)."""


def main() -> None:
    """Console script `crestline-squeue`."""
    run(_PROGRAM, squeue)


def squeue(words: list[str]) -> int:
    """Print the queue."""
    if words[-1:] in (["-j"], ["--jobs"]):  # without ids it selects all jobs
        words = words[:-1]
    options, rest = read_options(_PROGRAM, words, QUERIES[_PROGRAM])
    variables = read_environment(_VARIABLES)
    if options.keys() & {"format", "Format"}:
        variables = {name: value for name, value in variables.items() if name.lower() != "format"}
    options = variables | options
    if rest:
        raise CommandError(
            f"{_PROGRAM}: error: Unrecognized option: {rest[0]}", 'Try "squeue --help" for more information'
        )
    if "iterate" in options:
        raise CommandError(f"{_PROGRAM}: error: --iterate cannot be served: call the command again.")
    ids = [each.partition(".")[0] for each in options.get("jobs", "").split(",") if each]
    header = "noheader" not in options
    refusal: CommandError | None = None
    columns: list[Column[Job]] = []
    try:
        as_document = documents.is_document_requested(_PROGRAM, options)
        columns = _columns(options)
        _check(ids, options)
    except CommandError as error:
        as_document, refusal = False, error
    asks = refusal is not None or as_document or any(each.field and not each.field.is_reported for each in columns)

    async def read(there: System) -> tuple[list[Job], str] | SlurmOutput:
        jobs = _ordered(_chosen(await _read(there, ids, options), ids, options), options.get("sort"))
        jobs = _in_elements(jobs, ids, options)
        if not jobs and (options.keys() & _CHECKED_NAMES):
            # Only Slurm knows whether these users and nodes exist.
            return await slurm_answer(there, _PROGRAM, words) or (jobs, there.name)
        return jobs, there.name

    def show(found: tuple[list[Job], str], _: bool) -> None:
        jobs, name = found
        if as_document:
            documents.print_document(options, documents.queued_jobs(jobs), jobs[0].cluster if jobs else name)
            return
        if "long" in options and header:
            print(time.strftime("%a %b %d %H:%M:%S %Y"))
        print_rows(columns, jobs, header=header)

    return on_clusters(
        _PROGRAM,
        options.get("clusters"),
        read,
        show,
        words=words if asks else None,
        refusal=refusal,
        titled="clusters" in options and header and not as_document,
    )


def _check(ids: list[str], options: dict[str, str]) -> None:
    for unserved in ("licenses", "qos", "reservation", "steps"):
        if unserved in options:
            raise CommandError(f"{_PROGRAM}: error: --{unserved} cannot be served: the API does not report it.")
    if any(not parent(each).isdigit() for each in ids):
        raise CommandError(f"{_PROGRAM}: error: Invalid job id: {options['jobs']}")
    if "states" in options:
        read_states(_PROGRAM, options["states"])
    _ordered([], options.get("sort"))


def _columns(options: dict[str, str]) -> list[Column[Job]]:
    if "Format" in options:
        return long_format(_PROGRAM, options["Format"], LONG)
    default = _LONG_LIST if "long" in options else _START_LIST if "start" in options else _DEFAULT
    return short_format(_PROGRAM, options.get("format", default), SHORT)


async def _read(system: System, ids: list[str], options: dict[str, str]) -> list[Job]:
    if not ids:
        everybody = "me" not in options and not _names_me(options)
        return await system.jobs(all_users=everybody, window=_window(options))
    found: list[Job] = []
    for job_id in dict.fromkeys(map(parent, ids)):
        found += await _lookup(system, job_id)
    if not found and len(ids) == 1:
        raise CommandError("slurm_load_jobs error: Invalid job id specified")
    return found


async def _lookup(system: System, job_id: str) -> list[Job]:
    """Return the job, or all tasks of the array. Searches the list if plain FirecREST does not find a recent job."""
    try:
        return await system.backend.jobs.get(job_id)
    except JobNotFoundError:
        from crestline.client import Capability

        if Capability.JOB_IDS in system.capabilities:
            return []
    found = await system.find(lambda job: parent(job.job_id) == job_id)
    return [found] if found else []


def _window(options: dict[str, str]) -> int | None:
    """Return the window of the list in seconds. An hour suffices for active jobs, which are in every window."""
    return None if "states" in options else 3600


def _named_users(options: dict[str, str]) -> list[str]:
    users = ",".join(options[name] for name in ("user", "users") if name in options)
    return [each for each in users.split(",") if each]


def _names_me(options: dict[str, str]) -> bool:
    """Whether the options name the local user, who may have another name on the system."""
    return getpass.getuser() in _named_users(options)


def _chosen(jobs: list[Job], ids: list[str], options: dict[str, str]) -> list[Job]:
    states = read_states(_PROGRAM, options["states"]) if "states" in options else ACTIVE
    users = None if "me" in options or _names_me(options) else _named_users(options)
    nodes = set(expand(options.get("nodelist", "")))
    oldest = time.time() - _REMEMBERED

    def wanted(job: Job) -> bool:
        return (
            (states is None or state_of(job) in states)
            and (bool(ids) or not job.is_finished or job.times.end is None or job.times.end >= oldest)
            and (not users or job.user in users)
            and _listed(job_name(job), options.get("name"))
            and _listed(job.partition, options.get("partition"))
            and _listed(job.account, options.get("account"))
            and (not nodes or not nodes.isdisjoint(expand(job.nodes)))
            and (state_of(job) == "PENDING" or "start" not in options)
        )

    return [job for job in jobs if wanted(job)]


def _in_elements(jobs: list[Job], ids: list[str], options: dict[str, str]) -> list[Job]:
    """Return the rows to print: one for each task with `--array`, otherwise pending tasks share a row."""
    found: list[Job] = []
    for job in jobs:
        if (not ids or job.job_id in ids or parent(job.job_id) in ids) and "array" not in options:
            found.append(job)
            continue
        elements = [each for each in array_elements(job.job_id) if not ids or {each, parent(each)} & set(ids)]
        found += [msgspec.structs.replace(job, job_id=each) for each in elements]
    return found


def _listed(value: str, names: str | None) -> bool:
    return names is None or value in names.split(",")


def _ordered(jobs: list[Job], sort: str | None) -> list[Job]:
    """Sort by `--sort`, by default as squeue does: by partition, state and priority.

    Among equal jobs, the newest is first.
    """
    jobs = jobs[::-1]
    for key in reversed((sort or "P,t,-p").split(",")):
        field = key.lstrip("+-")
        if field not in ORDER:
            raise CommandError(f"{_PROGRAM}: error: Invalid sort specification: {key}")
        jobs = sorted(jobs, key=ORDER[field], reverse=key.startswith("-"))  # type: ignore[arg-type]
    return jobs
