"""The HyperQueue scheduler: records jobs, submits them, and follows them by their records."""

from __future__ import annotations

import asyncio
import importlib.resources
import posixpath
import re
import time
import uuid
from pathlib import Path

from crestline.gateway.schedulers.base import JobList, JobQuery, Scheduler
from crestline.gateway.schedulers.cli_scheduler import key_tag
from crestline.gateway.schedulers.command_lines import directory_of, environment_of
from crestline.gateway.schedulers.directives import parse_array
from crestline.gateway.schedulers.hyperqueue.engine import Engine
from crestline.gateway.schedulers.hyperqueue.options import HyperQueueOptions
from crestline.gateway.schedulers.hyperqueue.records import JobRecord, Records, TaskRecord
from crestline.gateway.schedulers.script_files import check_script_size, read_script
from crestline.gateway.schedulers.single_flight_cache import SingleFlightCache
from crestline.model import (
    InvalidRequestError,
    JobNotFoundError,
    PermissionDeniedError,
    UnsupportedError,
    normalize_state,
)
from crestline.model.sbatch import parse_count, parse_directives, parse_nodes
from crestline.model.time_limits import parse_time_limit
from crestline.wire.compute import JobDescription, JobInfo, JobMetadata, JobStatus, JobTime
from crestline.wire.status import Account, Node, Partition, Reservation

_PARTITION = "hyperqueue"
_ID = re.compile(r"(\d{1,9})(?:_(\d{1,9}))?", re.ASCII)
_UNKNOWN = ("dependency", "begin", "hold")
"""Options that would change when a job runs, and that HyperQueue does not have."""


class HyperQueueScheduler(Scheduler):
    """HyperQueue. All jobs run as the user who runs the workers. The records name the owner of each job.

    Args:
        name: name of the system.
        directory: directory of the records, unless the options name one that the machines share.
        options: the site's options for HyperQueue.
    """

    kind = "slurm"

    def __init__(self, name: str, directory: Path, options: HyperQueueOptions) -> None:
        self.name = name
        self._root = Path(options.shared_directory) if options.shared_directory else directory
        self._records = Records(self._root)
        self._engine = Engine(options, self._records)
        self.version = self._engine.version()
        self._jobs: dict[int, JobRecord] = {}
        self._tasks: dict[tuple[int, int | None], TaskRecord] = {}
        self._read = SingleFlightCache(self._refresh, max_age=options.max_age)
        self._changed = 0.0

    async def start(self) -> None:
        await asyncio.to_thread(self._prepare)

    async def stop(self) -> None:
        await self._read.close()

    async def submit(self, user: str, job: JobDescription, key: str | None = None) -> str:
        record, script = await asyncio.to_thread(_record, job, user, key_tag(key or uuid.uuid4().hex))
        await asyncio.to_thread(self._records.add, record, script)
        self._changed = time.monotonic()
        await self._hand_over(record)
        return str(record.number)

    async def find(self, user: str, key: str) -> str | None:
        self._changed = time.monotonic()
        await self._query()
        tag = key_tag(key)
        for job in self._jobs.values():
            if job.tag == tag and job.user == user:
                if not self._records.is_handed_over(job.number):
                    await self._hand_over(job)  # perhaps a second time: `runner.sh` runs each task once
                return str(job.number)
        return None

    async def jobs(self, user: str, query: JobQuery) -> JobList:
        await self._query()
        start = time.time() - query.window if query.window is not None else 0.0
        chosen = self._chosen(query.ids) if query.ids is not None else list(self._tasks)
        jobs = JobList()
        for number, task in chosen:
            info = self._info(number, task)
            if (
                (query.all_users or info.user == user)
                and query.selects(info.name, info.account)
                and (info.time.end is None or info.time.end >= start)
            ):
                jobs.append(info)
        return jobs

    async def metadata(self, user: str, job_id: str) -> list[JobMetadata]:
        answer = []
        for number, task in await self._find_own(user, job_id):
            job = self._jobs[number]
            script = await asyncio.to_thread(self._records.script, number)
            stdin, stdout, stderr = (job.path(each, task) for each in (job.stdin, job.stdout, job.stderr))
            answer.append(
                JobMetadata(
                    job_id=job.task_id(task),
                    script=script,
                    standard_input=stdin,
                    standard_output=stdout,
                    standard_error=stderr,
                )
            )
        return answer

    async def cancel(self, user: str, job_id: str) -> None:
        for number, task in await self._find_own(user, job_id):
            if self._tasks[number, task].end is None:
                await asyncio.to_thread(self._records.cancel, number, task)
        self._changed = time.monotonic()

    async def attach(self, user: str, job_id: str, command: str) -> None:
        raise UnsupportedError("HyperQueue cannot run a command inside a job.", hint="Start it from the batch script.")

    async def nodes(self, user: str) -> list[Node]:
        return []  # the client does not list workers

    async def partitions(self, user: str, show_hidden: bool = False) -> list[Partition]:
        return [Partition(name=_PARTITION, cpus=0, total_nodes=0, partition="UP")]

    async def reservations(self, user: str) -> list[Reservation]:
        return []

    async def accounts(self, user: str) -> list[Account]:
        return []

    async def ping(self) -> str:
        await self._engine.ping()
        return f"HyperQueue {self.version} answers."

    def _prepare(self) -> None:
        self._records.prepare()
        text = importlib.resources.files(__package__).joinpath("runner.sh").read_text()
        (self._root / "runner.sh").write_text(text)

    async def _hand_over(self, job: JobRecord) -> None:
        engine_id = await self._engine.submit(job, str(self._root / "runner.sh"))
        await asyncio.to_thread(self._records.hand_over, job.number, engine_id)

    async def _query(self) -> None:
        await self._read.get(self._changed)

    async def _refresh(self) -> None:
        await asyncio.to_thread(self._read_records)

    def _read_records(self) -> None:
        for job in self._records.load(set(self._jobs)):
            self._jobs[job.number] = job
            self._tasks |= {(job.number, task): TaskRecord() for task in job.tasks}
        for (number, task), known in list(self._tasks.items()):
            if known.end is None:
                self._tasks[number, task] = self._records.task(number, task)

    def _chosen(self, ids: tuple[str, ...]) -> list[tuple[int, int | None]]:
        found: dict[tuple[int, int | None], None] = {}
        for text in ids:
            if (match := _ID.fullmatch(text)) is None or (job := self._jobs.get(int(match[1]))) is None:
                continue
            wanted = job.tasks if match[2] is None else [each for each in job.tasks if each == int(match[2])]
            found |= {(job.number, task): None for task in wanted}
        return list(found)

    async def _find_own(self, user: str, job_id: str) -> list[tuple[int, int | None]]:
        await self._query()
        chosen = self._chosen((job_id,))
        if not chosen:
            raise JobNotFoundError("Job not found.", hint="Check the id.")
        if self._jobs[chosen[0][0]].user != user:
            raise PermissionDeniedError(f"Job {job_id} belongs to another user.", hint="Ask its owner.")
        return chosen

    def _info(self, number: int, task: int | None) -> JobInfo:
        job, state = self._jobs[number], self._tasks[number, task]
        waits = normalize_state(state.state).is_waiting
        elapsed = max((state.end or int(time.time())) - state.start, 0) if state.start is not None else 0
        return JobInfo(
            job_id=job.task_id(task),
            name=job.name,
            status=JobStatus(
                state=state.state,
                state_reason="Resources" if waits else "None",
                exit_code=None if waits else state.exit_code or 0,
                interrupt_signal=None if waits else state.signal or 0,
            ),
            time=JobTime(elapsed=elapsed, start=state.start, end=state.end, limit=job.time_limit, submit=job.submit),
            account=job.account,
            allocation_nodes=max(job.nodes, 1),
            cluster=self.name,
            nodes=state.node,
            partition=_PARTITION,
            user=job.user,
            working_directory=job.directory,
        )


def _record(job: JobDescription, user: str, tag: str) -> tuple[JobRecord, str]:
    """Return the record and the script of a job. The job's own fields take precedence over its `#SBATCH` lines."""
    script = job.script or ""
    if job.script_path:
        try:
            script = read_script(posixpath.join(directory_of(job), job.script_path)).decode()
        except UnicodeDecodeError as error:
            raise InvalidRequestError(f"The script cannot be read: {error}.", hint="Name a text file.") from error
    check_script_size(len(script))
    if not script.startswith("#!"):
        raise InvalidRequestError("The script does not start with '#!'.", hint="Begin it with #!/bin/bash, say.")
    options = parse_directives(script).options
    for option in _UNKNOWN:
        if option in options:
            raise InvalidRequestError(f"HyperQueue has nothing like --{option}.", hint="Leave that line out.")
    array = parse_array(options["array"]) if "array" in options else None
    cpus = parse_count(options.get("cpus-per-task", "1"), "cpus-per-task")
    stdout = job.standard_output or options.get("output") or ("slurm-%A_%a.out" if array else "slurm-%j.out")
    return (
        JobRecord(
            number=0,
            user=user,
            name=job.name or options.get("job-name", "sbatch"),
            tag=tag,
            directory=directory_of(job),
            submit=int(time.time()),
            tasks=list(array.tasks) if array else [None],
            cpus=cpus * parse_count(options.get("ntasks", "1"), "ntasks"),
            nodes=parse_nodes(options["nodes"])[0] if "nodes" in options else 0,
            time_limit=parse_time_limit(options["time"]) if "time" in options else None,
            account=job.account or options.get("account"),
            stdin=job.standard_input or options.get("input", "/dev/null"),
            stdout=stdout,
            stderr=job.standard_error or options.get("error", stdout),
            environment=environment_of(job),
        ),
        script,
    )
