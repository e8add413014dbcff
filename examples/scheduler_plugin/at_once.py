"""A scheduler plug-in: each job starts at once, as a process on the system's machine."""

import time

import msgspec

from crestline.gateway.hosts import Commands
from crestline.gateway.schedulers.base import JobQuery, Scheduler
from crestline.gateway.schedulers.registry import SchedulerSetup
from crestline.model import InvalidRequestError, JobNotFoundError, UnsupportedError
from crestline.wire.compute import JobDescription, JobInfo, JobMetadata, JobStatus, JobTime
from crestline.wire.status import Account, Node, Partition, Reservation

SUBMIT = """
set -eu
umask 077
mkdir -p "$1"
cd "$1"
cat > script
chmod 700 script
printf %s "$2" > name
printf %s "$3" > key
printf %s "$4" > directory
date +%s > start
cd "$4"
setsid bash -c '
    for fd in /proc/self/fd/*; do  # what the job would keep open of the caller, who waits for its end
        fd=${fd##*/}
        if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi
    done
    echo $$ > "$0/pid.new" && mv "$0/pid.new" "$0/pid"
    "$0/script" > "$1" 2>&1
    echo $? > "$0/exit"
' "$1" "$5" </dev/null >/dev/null 2>&1 &
"""

LIST = """
cd "$1" 2>/dev/null || exit 0
for job in *; do
    [ -e "$job/start" ] || continue
    end=
    if [ -e "$job/cancelled" ]; then state=CANCELLED end=$(stat -c %Y "$job/cancelled")
    elif [ ! -e "$job/exit" ]; then state=RUNNING
    else
        end=$(stat -c %Y "$job/exit")
        if [ "$(cat "$job/exit")" = 0 ]; then state=COMPLETED; else state=FAILED; fi
    fi
    for field in "$job" "$state" "$end"; do printf '%s\\0' "$field"; done
    for file in name key directory start exit; do
        if [ -e "$job/$file" ]; then cat "$job/$file"; fi
        printf '\\0'
    done
done
"""

CANCEL = """
[ -e "$1/exit" ] || { touch "$1/cancelled"; kill -s TERM -- "-$(cat "$1/pid")"; }
"""


class Options(msgspec.Struct, forbid_unknown_fields=True):
    """The keys of the `scheduler` table, beside `type`."""

    directory: str
    """where the jobs are recorded on the system's machine"""
    timeout: float = 10.0
    """seconds for each command"""


def create_scheduler(setup: SchedulerSetup) -> Scheduler:
    """The function that the entry point names."""
    return AtOnceScheduler(setup.commands, setup.read_options(Options))


class AtOnceScheduler(Scheduler):
    """Jobs are directories below `<directory>/<user>`."""

    kind = "slurm"  # whose words for states it speaks
    version = "at-once 1"
    programs = ("bash", "setsid", "stat")  # what `crestline doctor` looks for

    def __init__(self, commands: Commands, options: Options) -> None:
        self._commands = commands
        self._options = options

    async def submit(self, user: str, job: JobDescription, key: str | None = None) -> str:
        if job.script is None:
            raise UnsupportedError("This scheduler takes no script by its path.", hint="Send the script itself.")
        job_id = str(time.time_ns())
        output = job.standard_output or f"{job.working_directory}/{job_id}.out"
        arguments = [f"{self._place(user)}/{job_id}", job.name or "job", key or "", job.working_directory, output]
        await self._run(user, SUBMIT, *arguments, input=job.script.encode(), env=_environment(job))
        return job_id

    async def find(self, user: str, key: str) -> str | None:
        return next((job_id for job_id, found, _ in await self._list(user) if found == key), None)

    async def jobs(self, user: str, query: JobQuery) -> list[JobInfo]:
        oldest = 0.0 if query.window is None else time.time() - query.window
        return [
            job
            for job_id, _, job in await self._list(user)
            if (query.ids is None or job_id in query.ids)
            and query.selects(job.name, job.account)
            and (job.time.end or time.time()) >= oldest
        ]

    async def metadata(self, user: str, job_id: str) -> list[JobMetadata]:
        await self._job(user, job_id)
        script = await self._run(user, 'cat "$1/script"', f"{self._place(user)}/{job_id}")
        return [JobMetadata(job_id=job_id, script=script)]

    async def cancel(self, user: str, job_id: str) -> None:
        await self._job(user, job_id)
        await self._run(user, CANCEL, f"{self._place(user)}/{job_id}")

    async def attach(self, user: str, job_id: str, command: str) -> None:
        raise UnsupportedError("This scheduler runs nothing inside of jobs.")

    async def nodes(self, user: str) -> list[Node]:
        return []

    async def partitions(self, user: str, show_hidden: bool = False) -> list[Partition]:
        return []

    async def reservations(self, user: str) -> list[Reservation]:
        return []

    async def accounts(self, user: str) -> list[Account]:
        return []

    async def ping(self) -> str:
        return "Jobs start at once."

    def _place(self, user: str) -> str:
        return f"{self._options.directory}/{user}"

    async def _job(self, user: str, job_id: str) -> JobInfo:
        for found, _, job in await self._list(user):
            if found == job_id:
                return job
        raise JobNotFoundError("Job not found.")

    async def _list(self, user: str) -> list[tuple[str, str, JobInfo]]:
        """Id and key of each job of a user, and how it is."""
        cells = (await self._run(user, LIST, self._place(user))).split("\0")[:-1]
        rows = [cells[at : at + 8] for at in range(0, len(cells), 8)]
        return [(row[0], row[4], _job_info(user, row)) for row in rows]

    async def _run(
        self, user: str, script: str, *arguments: str, input: bytes | None = None, env: dict[str, str] | None = None
    ) -> str:
        """What a shell script says; `commands` quotes its arguments where that is needed."""
        command = ["sh", "-c", script, "sh", *arguments]
        done = await self._commands.run(user, command, input=input, env=env, timeout=self._options.timeout)
        if done.exit_status:
            raise InvalidRequestError(done.stderr.decode(errors="replace").strip() or "The command failed.")
        return done.stdout.decode(errors="replace")


def _job_info(user: str, row: list[str]) -> JobInfo:
    job_id, state, end, name, _, directory, start, exit_code = row
    began, ended = int(start), int(end) if end else None
    return JobInfo(
        job_id=job_id,
        name=name,
        status=JobStatus(state=state, exit_code=int(exit_code) if exit_code else None),
        time=JobTime(start=began, end=ended, elapsed=(ended or int(time.time())) - began),
        user=user,
        working_directory=directory,
    )


def _environment(job: JobDescription) -> dict[str, str]:
    if isinstance(job.env, list):
        return dict(each.split("=", 1) for each in job.env)
    return job.env or {}
