"""The state of a CI job on this machine between the driver's processes: one directory, removed after the clean-up."""

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
    """Content of `record.json`: the progress of the driver with one CI job."""

    ci_job: int
    name: str
    """Name of the scheduler's job."""
    workspace: str
    """Directory on the system."""
    nonce: str
    client_id: str = ""
    """Id of the project's own client, if it submitted the job."""
    submitting: bool = False
    """Whether a submission was started, so that a job may exist."""
    job_id: str | None = None
    shared: str | None = None
    """The shared allocation in which the job runs."""
    shipped: bool = False
    over: bool = False
    """Whether the job has ended, or will never start."""
    commands: int = 0
    failed: bool = False
    runner: str = ""
    """The process that called `config`, from `runner_process.identify`; empty if that was not the runner itself."""
    started: float = 0.0


class State:
    """A job's directory: `record.json`, and files on their way to or from the system."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.folder = folder
        self.record = record

    @classmethod
    def find(cls, folder: Path) -> State | None:
        """Load a state, or return None if it does not exist.

        Raises:
            CrestlineError: the state is damaged.
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
        """Create the state of a job.

        Args:
            runner: the calling process, from `runner_process.identify`.
            shared: the allocation in which the job runs, with its workspace; None: the job has its own.
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
        """Write the record to disk, so that a crash of the machine does not lose it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self.folder / "record.json", msgspec.json.encode(self.record))

    def touch(self) -> None:
        """Set the time from which `age` counts, so that `gc` does not remove the job."""
        (self.folder / "record.json").touch()

    @property
    def age(self) -> float:
        """Seconds since the record was last saved or touched."""
        return time.time() - (self.folder / "record.json").stat().st_mtime

    def subdir(self, name: str) -> Path:
        """Return a directory inside, created if missing, closed to other users."""
        path = self.folder / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def forget(self) -> None:
        """Remove the directory with its content."""
        shutil.rmtree(self.folder, ignore_errors=False, onerror=_make_removable)

    @property
    def builds_dir(self) -> str:
        """The directory of checkouts on the system, for the runner."""
        return f"{self.record.workspace}/b-{self.record.name}"

    @property
    def cache_dir(self) -> str:
        """The directory of caches, for the runner. In fact caches are on this machine or in the runner's storage."""
        return f"{self.record.workspace}/c-{self.record.name}"


def folder_of(settings: Settings, job: CiJob) -> Path:
    """Return the directory of a job's state on this machine."""
    return settings.state_dir / f"job-{job.label}"


def _make_removable(function: object, path: str, error: object) -> None:
    """Make a directory writable, because a checkout may contain read-only ones."""
    parent = Path(path).parent
    parent.chmod(0o700)
    target = Path(path)
    if target.is_dir() and not target.is_symlink():
        target.chmod(0o700)
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
