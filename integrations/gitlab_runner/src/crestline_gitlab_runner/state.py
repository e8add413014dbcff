"""What this machine remembers of a CI job between the driver's processes: one folder, gone when all is tidied up."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

import msgspec

from crestline.model import CrestlineError
from crestline.private_files import write_private
from crestline_gitlab_runner.ci_job import CiJob
from crestline_gitlab_runner.settings import Settings


class Record(msgspec.Struct, kw_only=True):
    """What `record.json` holds: how far the driver is with one CI job."""

    ci_job: int
    name: str
    """name of the scheduler's job"""
    workspace: str
    """directory on the system"""
    nonce: str
    client_id: str = ""
    """whose jobs these are, where the project's own client submitted them"""
    submitting: bool = False
    """a submission was begun, so a job may exist"""
    job_id: str | None = None
    shared: str | None = None
    """the shared allocation that the job runs in"""
    shipped: bool = False
    over: bool = False
    """the job has ended, or never will begin"""
    commands: int = 0
    failed: bool = False
    runner: str = ""
    """the process that called `config`, by `runner_process.identify`; empty where that was not the runner itself"""
    started: float = 0.0


class State:
    """A job's folder: `record.json`, and what is on its way to or from the system."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.folder = folder
        self.record = record

    @classmethod
    def find(cls, folder: Path) -> State | None:
        """What is remembered, if anything.

        Raises:
            CrestlineError: it is damaged.
        """
        try:
            return cls(folder, msgspec.json.decode((folder / "record.json").read_bytes(), type=Record))
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise CrestlineError(f"{folder / 'record.json'} is damaged: {error}.", hint="Remove the folder.") from None

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        ci_job: int,
        root: str,
        client_id: str = "",
        kind: str = "ci",
        shared: State | None = None,
        runner: str = "",
    ) -> State:
        """Begin to remember.

        Args:
            runner: the process that does so for the job, by `runner_process.identify`.
            shared: the allocation that the job runs in, with its workspace; else both are its own.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        nonce = secrets.token_hex(3)
        name = f"{kind}-{ci_job}-{nonce}"
        record = Record(
            ci_job=ci_job,
            name=name,
            workspace=shared.record.workspace if shared else f"{root}/{name}",
            shared=shared.folder.name if shared else None,
            nonce=nonce,
            client_id=client_id,
            runner=runner,
            started=time.time(),
        )
        state = cls(folder, record)
        state.save()
        return state

    def save(self) -> None:
        """Write it down, so that a crash of the machine does not lose it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.folder / "record.json", msgspec.json.encode(self.record))

    def touch(self) -> None:
        """Set the time from which `age` counts, so that `gc` leaves the job alone."""
        (self.folder / "record.json").touch()

    @property
    def age(self) -> float:
        """Seconds since the record was last saved or touched."""
        return time.time() - (self.folder / "record.json").stat().st_mtime

    def subdir(self, name: str) -> Path:
        """Return a folder inside, made where it is missing, closed to other users."""
        path = self.folder / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def forget(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=False, onerror=_make_removable)

    @property
    def builds_dir(self) -> str:
        """The directory of checkouts on the system, as the runner is told."""
        return f"{self.record.workspace}/b-{self.record.name}"

    @property
    def cache_dir(self) -> str:
        """On the system, as the runner believes: caches are on this machine or in the runner's storage."""
        return f"{self.record.workspace}/c-{self.record.name}"


def folder_of(settings: Settings, job: CiJob) -> Path:
    """Where this machine remembers a job."""
    return settings.state_dir / f"job-{job.label}"


def _make_removable(function: object, path: str, error: object) -> None:
    """A checkout may hold folders without write permission."""
    parent = Path(path).parent
    parent.chmod(0o700)
    target = Path(path)
    if target.is_dir() and not target.is_symlink():
        target.chmod(0o700)
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
