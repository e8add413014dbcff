"""Checks of a job at its submission."""

from __future__ import annotations

import os
from datetime import datetime

import msgspec

from crestline.gateway.schedulers.local.dependencies import Lookup, parse_dependency
from crestline.gateway.schedulers.local.options import PartitionConfig
from crestline.gateway.schedulers.local.queue import Cluster
from crestline.gateway.schedulers.local.request import Request, check_script, read_request
from crestline.gateway.schedulers.script_files import check_script_size, read_script
from crestline.model import InvalidRequestError
from crestline.model.directories import missing_directory
from crestline.wire.compute import JobDescription


def accept(
    job: JobDescription, user: str, cluster: Cluster, partitions: list[PartitionConfig]
) -> tuple[bytes, Request]:
    """Return the script and the request of a job that can run. Reads files, so call it in a thread.

    Raises:
        InvalidRequestError: the job could never run.
    """
    script = _load_script(job)
    text = script.decode(errors="replace")
    check_script(text)
    request = read_request(
        job,
        text,
        user=user,
        partitions={each.name: each.default_time or each.max_time for each in partitions},
        now=datetime.now(),
    )
    request = _limited(request, next(each for each in partitions if each.name == request.partition))
    cluster.check(request.partition, request.resources)
    if not os.path.exists(request.directory):
        message, hint = missing_directory(request.directory)
        raise InvalidRequestError(message, hint=hint)
    if not os.path.isdir(request.directory):
        raise InvalidRequestError(f"{request.directory} is not a directory.", hint="Name a directory.")
    return script, request


def check_dependency(text: str, lookup: Lookup) -> None:
    """Refuse a dependency that is malformed or names an unknown job.

    Raises:
        InvalidRequestError: the dependency is refused.
    """
    for clause in parse_dependency(text).clauses:
        if clause.kind != "singleton" and not lookup(clause.job_id, clause.task):
            name = clause.job_id if clause.task is None else f"{clause.job_id}_{clause.task}"
            raise InvalidRequestError(
                f"The job depends on job {name}, which does not exist.", hint="Name a job of this system."
            )


def _load_script(job: JobDescription) -> bytes:
    if (job.script is None) == (job.script_path is None):
        raise InvalidRequestError(
            "The job has both a script and a scriptPath." if job.script else "The job has no script.",
            hint="Give either `script`, the text, or `scriptPath`, an absolute path on the system.",
        )
    if job.script_path is None:
        script = (job.script or "").encode(errors="surrogateescape")
    else:
        if not job.script_path.startswith("/"):
            raise InvalidRequestError(
                f"The scriptPath {job.script_path!r} is not absolute.", hint="Give a path that begins with '/'."
            )
        script = read_script(job.script_path)
    check_script_size(len(script))
    return script


def _limited(request: Request, partition: PartitionConfig) -> Request:
    if partition.max_time is None:
        return request
    if request.time_limit is None:
        return msgspec.structs.replace(request, time_limit=partition.max_time)
    if request.time_limit > partition.max_time:
        raise InvalidRequestError(
            f"The time limit of {request.time_limit} s exceeds that of partition {partition.name}.",
            hint=f"Ask for at most {partition.max_time} s.",
        )
    return request
