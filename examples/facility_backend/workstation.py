"""A facility backend: the facility is this machine, jobs are processes, and the table of jobs is a directory."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import ssl
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from anyio.to_thread import run_sync

from crestline.client.backends import (
    Backend,
    Capability,
    Description,
    FileEndpoints,
    JobEndpoints,
    JobFilter,
    SystemEndpoints,
    TransferEndpoints,
    TransferMethod,
)
from crestline.client.policy import Policy
from crestline.client.traffic import Traffic
from crestline.model import (
    ConflictError,
    File,
    FileMissingError,
    FileType,
    InvalidRequestError,
    Job,
    JobNotFoundError,
    JobSpec,
    JobState,
    JobTimes,
    Node,
    Partition,
    PermissionDeniedError,
    Reservation,
    UnsupportedError,
    render_script,
)
from crestline.model.sbatch import parse_directives

NAME = "workstation"
TABLE = ".workstation"
"""directory with one directory for each job, below the users' directory"""
STAT_FIELDS = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "mtime", "ctime")
WRAPPER = """trap : TERM
/bin/bash "$1/script"
echo $? > "$1/part" && mv "$1/part" "$1/status"
"""


class Record(msgspec.Struct):
    """What is written down of a job, so that each process that uses this backend knows it."""

    spec: JobSpec
    pid: int
    stdout: str
    stderr: str
    begun: int


class Table:
    """The jobs of a directory."""

    def __init__(self, root: str) -> None:
        self._root = Path(root, TABLE)

    def submit(self, spec: JobSpec, key: str) -> str:
        """Begin a job, or find the one that has this key."""
        self._root.mkdir(exist_ok=True)
        with (self._root / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            by_key = self._by_key(key)
            if by_key.exists():
                if self.read(by_key.name).spec != spec:
                    raise ConflictError(f"The key {key} belongs to another job.", hint="Use a new key for a new job.")
                return by_key.resolve().name
            job_id = str(len(self.ids()) + 1)
            folder = self._root / job_id
            folder.mkdir()
            (folder / "record").write_bytes(msgspec.json.encode(start(spec, folder)))
            by_key.symlink_to(job_id)
        return job_id

    def ids(self) -> list[str]:
        return [path.name for path in self._root.glob("[0-9]*")]

    def knows(self, key: str) -> bool:
        return self._by_key(key).exists()

    def read(self, job_id: str) -> Record:
        try:
            return msgspec.json.decode((self._root / job_id / "record").read_bytes(), type=Record)
        except FileNotFoundError:
            raise JobNotFoundError(f"The workstation has no job {job_id}.", hint="Check the job id.") from None

    def job(self, job_id: str) -> Job:
        record, folder = self.read(job_id), self._root / job_id
        status = exit_status(folder, record.pid)
        state, ended = JobState.RUNNING, None
        if status is not None:
            state = JobState.COMPLETED if status == 0 else JobState.FAILED
            state = JobState.CANCELLED if (folder / "cancelled").exists() else state
            ended = int(folder.stat().st_mtime)
        return Job(
            job_id=job_id,
            state=state,
            raw_state=state.name,
            name=record.spec.name or "",
            system=NAME,
            workdir=record.spec.workdir,
            exit_code=status,
            times=JobTimes(submit=record.begun, start=record.begun, end=ended),
        )

    def cancel(self, job_id: str) -> None:
        record = self.read(job_id)
        if not self.job(job_id).is_finished:
            (self._root / job_id / "cancelled").touch()
            os.killpg(record.pid, signal.SIGTERM)

    def _by_key(self, key: str) -> Path:
        return self._root / f"key-{hashlib.sha256(key.encode()).hexdigest()}"


def exit_status(folder: Path, pid: int) -> int | None:
    """None while the job runs; that of SIGTERM if it was killed before it could write one."""
    if not (folder / "status").exists() and is_alive(pid):
        return None
    try:
        return int((folder / "status").read_text())
    except FileNotFoundError:
        return 128 + signal.SIGTERM


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):  # it is a child of another process
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def start(spec: JobSpec, folder: Path) -> Record:
    with file_errors(spec.script_path or ""):
        script = Path(spec.script_path).read_text() if spec.script_path else render_script(spec)
    (folder / "script").write_text(script)
    options = parse_directives(script).options  # what a spec has no field for stands in `#SBATCH` lines
    stdout = os.path.join(spec.workdir, spec.stdout or options.get("output") or f"{folder.name}.out")
    stderr = os.path.join(spec.workdir, spec.stderr or options.get("error") or stdout)
    # Of the program that submits, jobs get nothing but this: it may hold secrets.
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "USER", "LANG") if name in os.environ}
    environment |= spec.environment
    with file_errors(spec.workdir), open(stdout, "wb") as out, open(stderr, "ab") as err:
        process = subprocess.Popen(
            ["/bin/bash", "-c", WRAPPER, "wrapper", folder],
            cwd=spec.workdir,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err if stderr != stdout else subprocess.STDOUT,
            start_new_session=True,
        )
    return Record(spec, process.pid, stdout, stderr, int(time.time()))


class Jobs(JobEndpoints):
    """Jobs are processes."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def submit(self, spec: JobSpec, key: str) -> str:
        if spec.array is not None:
            raise UnsupportedError("A workstation has no arrays of jobs.", hint="Submit one job for each element.")
        return await run_sync(self._table.submit, spec, key)

    async def knows_key(self, key: str) -> bool:
        return self._table.knows(key)

    async def get(self, job_id: str, *, retry: bool = True) -> list[Job]:
        return [self._table.job(job_id)]

    async def metadata(self, job_id: str) -> list[Job]:
        record = self._table.read(job_id)
        paths = {"stdout": record.stdout, "stderr": record.stderr}
        return [Job(job_id=job_id, state=JobState.UNKNOWN, script=record.spec.script, **paths)]

    async def cancel(self, job_id: str) -> None:
        self._table.cancel(job_id)

    async def list(self, query: JobFilter, *, retry: bool = True) -> list[Job]:
        names = {*query.names, *([query.name] if query.name is not None else [])}
        ids = [job_id for job_id in self._table.ids() if query.ids is None or job_id in query.ids]
        return [job for job in map(self._table.job, ids) if not names or job.name in names]


class Files(FileEndpoints):
    """The file system of this machine; every operation is direct and ends with its answer."""

    async def stat(self, path: str, *, follow: bool = True) -> dict[str, int]:
        with file_errors(path):
            found = os.stat(path, follow_symlinks=follow)
        return {name: int(getattr(found, f"st_{name}")) for name in STAT_FIELDS}

    async def checksum(self, path: str) -> str:
        def work() -> str:
            with file_errors(path), open(path, "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        return await run_sync(work)

    async def mkdir(self, path: str, *, parents: bool = False) -> None:
        with file_errors(path):
            Path(path).mkdir(parents=parents, exist_ok=parents)

    async def remove(self, path: str) -> None:
        def work() -> None:
            with file_errors(path):
                if os.path.isdir(path) and not os.path.islink(path):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)

        await run_sync(work)

    async def symlink(self, target: str, link: str) -> None:
        with file_errors(link):
            os.symlink(target, link)

    async def chmod(self, path: str, mode: str) -> File:
        with file_errors(path):
            os.chmod(path, int(mode, 8))
            return describe_file(Path(path), os.path.basename(path))

    async def copy(self, source: str, target: str) -> None:
        def work() -> None:
            with file_errors(source):
                if os.path.isdir(source):
                    shutil.copytree(source, target, symlinks=True)
                else:
                    shutil.copy2(source, target)

        await run_sync(work)

    async def move(self, source: str, target: str) -> None:
        with file_errors(source):
            await run_sync(shutil.move, source, target)

    async def upload_small(self, directory: str, name: str, content: bytes) -> None:
        with file_errors(directory):
            Path(directory, name).write_bytes(content)

    async def download_small(self, path: str) -> bytes:
        with file_errors(path):
            return Path(path).read_bytes()

    async def tail_lines(self, path: str, first: int) -> str:
        lines = (await self.download_small(path)).split(b"\n")[first - 1 :]
        return b"\n".join(lines).decode(errors="replace")

    async def view(self, path: str, offset: int, size: int) -> str:
        content = await self.download_small(path)
        return content[offset : offset + 2 * size].decode(errors="replace")[:size]

    async def extract(self, archive: str, target: str) -> None:
        def work() -> None:
            with file_errors(archive), tarfile.open(archive) as tar:
                tar.extractall(target, filter="tar")

        await run_sync(work)

    async def compress(self, source: str, archive: str, *, pattern: str | None = None) -> None:
        directory, name = os.path.split(source)

        def work() -> None:
            with file_errors(source), tarfile.open(archive, "w:gz") as tar:
                if pattern is None:
                    tar.add(source, name)
                    return
                find = ["find", f"./{name}", "-type", "f", "-regex", pattern, "-print0"]
                found = subprocess.run(find, cwd=directory, check=True, capture_output=True).stdout.decode()
                for path in found.split("\0")[:-1]:
                    tar.add(os.path.join(directory, path), path)

        await run_sync(work)

    async def list(self, path: str, *, hidden: bool = False, recursive: bool = False) -> list[File]:
        def work() -> list[File]:
            with file_errors(path):
                place = Path(path)
                if not os.path.isdir(path) or (place.is_symlink() and not path.endswith("/")):
                    return [describe_file(place, path)]
                found = place.rglob("*") if recursive else place.iterdir()
                names = sorted(str(each.relative_to(place)) for each in found)
                return [describe_file(place / name, name) for name in names if hidden or not name.startswith(".")]

        return await run_sync(work)


class Transfers(TransferEndpoints):
    """Files of any size move directly here, so that nothing of this is ever called."""

    async def upload(self, path: str, size: int) -> TransferMethod:
        raise UnsupportedError("A workstation moves files directly.", hint="Upload the file itself.")

    async def download(self, path: str) -> TransferMethod:
        raise UnsupportedError("A workstation moves files directly.", hint="Download the file itself.")

    async def end(self, transfer: TransferMethod, job: Job) -> None:
        raise UnsupportedError("A workstation has no transfer jobs.", hint="Move the file itself.")


class System(SystemEndpoints):
    """One node without partitions."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    async def describe(self) -> dict[str, Any]:
        return {"name": NAME}

    async def default_workdir(self) -> str:
        return self._directory

    async def nodes(self) -> list[Node]:
        return [Node(name="localhost", states=frozenset({"IDLE"}), cpus=os.cpu_count() or 1)]

    async def partitions(self) -> list[Partition]:
        return []

    async def reservations(self) -> list[Reservation]:
        return []


class WorkstationBackend(Backend):
    """This machine; the site's `url` is `workstation:` with the path of the users' directory behind it."""

    def __init__(
        self,
        url: str,
        system: str | None,
        authorizer: Any,
        *,
        account: str | None = None,
        verify: ssl.SSLContext | bool = True,
        policy: Policy | None = None,
        known: Description | None = None,
    ) -> None:
        self.gateway_url = url
        self.system_name = NAME
        self.identity = authorizer.identity
        self.capabilities = frozenset({Capability.IDEMPOTENCY_KEY})
        self.max_direct_upload = self.max_direct_download = 2**62
        self.scheduler_type = "slurm"
        self.traffic = Traffic()
        self.jobs = Jobs(Table(url.partition(":")[2]))
        self.files = Files()
        self.transfers = Transfers()
        self.system = System(url.partition(":")[2])

    async def open(self) -> None:
        self.description = Description(features=[], system=await self.system.describe(), asked=time.time())

    async def close(self) -> None:
        """Jobs go on without connections."""

    async def systems(self) -> list[dict[str, Any]]:
        return [await self.system.describe()]


def describe_file(path: Path, name: str) -> File:
    found = path.lstat()
    mode = stat.filemode(found.st_mode)
    return File(
        name=name,
        type=FileType(mode[0]),
        size=found.st_size,
        permissions=mode[1:],
        modified=time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(found.st_mtime)),
        link_target=os.readlink(path) if path.is_symlink() else None,
    )


@contextlib.contextmanager
def file_errors(path: str) -> Iterator[None]:
    """Raise the errors of the model in place of Python's."""
    try:
        yield
    except FileNotFoundError:
        raise FileMissingError(f"{path} does not exist.", hint="Check the path.") from None
    except FileExistsError:
        raise ConflictError(f"{path} exists.", hint="Remove it first.") from None
    except PermissionError:
        raise PermissionDeniedError(f"{path} may not be used.", hint="Check its permissions.") from None
    except OSError as error:
        raise InvalidRequestError(f"{path}: {error.strerror}.", hint="Check the path.") from None
