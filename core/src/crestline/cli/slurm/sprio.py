"""`crestline-sprio`: priorities of pending jobs. The API does not report the factors of a priority."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crestline.cli.slurm.clusters import on_clusters
from crestline.cli.slurm.layout import Column, Field, print_rows, short_format
from crestline.cli.slurm.program import CommandError, read_options, run
from crestline.cli.slurm.queue_fields import SHORT
from crestline.cli.slurm.states import state_of
from crestline.model import Job
from crestline.model.job_ids import parent
from crestline.model.slurm_queries import QUERIES

if TYPE_CHECKING:
    from crestline.client import System

_PROGRAM = "sprio"
_FIELDS: dict[str, Field[Job]] = {
    "i": Field("JOBID", lambda job: parent(job.job_id)),
    "o": SHORT["a"],
    "r": SHORT["P"],
    "u": SHORT["u"],
    "Y": Field("PRIORITY", lambda job: str(job.priority or 0)),
}


def main() -> None:
    """Console script `crestline-sprio`."""
    run(_PROGRAM, sprio)


def sprio(words: list[str]) -> int:
    """Print the priorities of pending jobs."""
    options, rest = read_options(_PROGRAM, words, QUERIES[_PROGRAM])
    refusal: CommandError | None = None
    columns: list[Column[Job]] = []
    long = "%.15i %.9r %.8u %.10o %.10Y"
    try:
        if rest:
            raise CommandError(f"{_PROGRAM}: error: Unrecognized option: {rest[0]}")
        for unserved in ("norm", "weights", "sort"):
            if unserved in options:
                raise CommandError(f"{_PROGRAM}: error: --{unserved} cannot be served: the API does not report it.")
        columns = short_format(
            _PROGRAM, options.get("format") or (long if "long" in options else "%.15i %.9r %.10Y"), _FIELDS
        )
    except CommandError as error:
        refusal = error
    chosen = {name: options[name].split(",") for name in ("jobs", "user", "partition") if name in options}

    async def read(there: System) -> list[Job]:
        return await there.jobs(all_users=True, window=3600)

    def is_meant(job: Job) -> bool:
        return (
            state_of(job) == "PENDING"
            and bool(job.priority)  # the priority of held jobs is 0
            and parent(job.job_id) in chosen.get("jobs", [parent(job.job_id)])
            and job.user in chosen.get("user", [job.user])
            and job.partition in chosen.get("partition", [job.partition])
        )

    def show(jobs: list[Job], first: bool) -> None:
        print_rows(columns, list(filter(is_meant, jobs)), header=first and "noheader" not in options)

    return on_clusters(_PROGRAM, options.get("clusters"), read, show, words=words, refusal=refusal)
