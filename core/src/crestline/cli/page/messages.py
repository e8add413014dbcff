"""Convert the client's jobs and files to FirecREST messages, the format that the page reads."""

from __future__ import annotations

from typing import Any

from crestline.model import File, FileType, Job, JobSpec
from crestline.wire.compute import JobDescription, JobInfo, JobMetadata, JobStatus, JobTime
from crestline.wire.filesystem import FileEntry

_LETTERS = {FileType.DIRECTORY: "d", FileType.LINK: "l"}


def job_info(job: Job) -> JobInfo:
    """Return a job as FirecREST lists it, with the normalised state if the site reports no raw state."""
    times = job.times
    return JobInfo(
        job_id=job.job_id,
        name=job.name,
        status=JobStatus(
            state=job.raw_state or job.state.value.upper(),
            state_reason=job.reason or None,
            exit_code=job.exit_code,
            interrupt_signal=job.signal,
        ),
        time=JobTime(
            elapsed=times.elapsed,
            start=times.start,
            end=times.end,
            suspended=times.suspended,
            limit=times.limit,
            submit=times.submit,
            expected_start=times.expected_start,
        ),
        account=job.account or None,
        allocation_nodes=job.node_count or 0,
        cluster=job.cluster,
        group=job.group or None,
        nodes=job.nodes,
        partition=job.partition,
        user=job.user or None,
        working_directory=job.workdir,
        priority=job.priority,
        cpus=job.cpus,
    )


def job_metadata(job: Job) -> JobMetadata:
    """Return the script and the paths of a job's streams."""
    return JobMetadata(
        job_id=job.job_id,
        script=job.script,
        standard_input=job.stdin,
        standard_output=job.stdout,
        standard_error=job.stderr,
    )


def job_spec(job: JobDescription) -> JobSpec:
    """Return the job that the page's form describes. The script contains its resources."""
    return JobSpec(
        script=job.script, workdir=job.working_directory, name=job.name, account=job.account, partition=job.partition
    )


def file_entry(file: File) -> FileEntry:
    """Return a file as FirecREST lists it."""
    return FileEntry(
        name=file.name,
        type=_LETTERS.get(file.type, "-"),
        user=file.user,
        group=file.group,
        permissions=file.permissions,
        last_modified=file.modified,
        size=str(file.size),
        link_target=file.link_target,
    )


def system_entry(entry: dict[str, Any], workdir: str) -> dict[str, Any]:
    """Return a system's entry, with the user's directory as the file system that the page opens first."""
    trees = [
        {**tree, "defaultWorkDir": False} for tree in entry.get("fileSystems") or [] if tree.get("path") != workdir
    ]
    return {**entry, "fileSystems": [{"path": workdir, "dataType": "users", "defaultWorkDir": True}, *trees]}


def silent_site(name: str, api: str, message: str) -> dict[str, Any]:
    """Return an entry for a site that does not respond."""
    return {
        "name": name,
        "api": api,
        "scheduler": {"type": "", "version": ""},
        "fileSystems": [],
        "servicesHealth": [{"serviceType": "site", "healthy": False, "message": message}],
    }
