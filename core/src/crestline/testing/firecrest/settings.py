"""Settings of a stand-in: its version, machine, users and limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

VERSIONS = ("2.5.6", "2.6.0", "2.x.x")


@dataclass(frozen=True)
class User:
    """A user of the identity provider and (if `has_ssh_key`) of the cluster.

    The OAuth client id is the POSIX user name. All users run as the same real uid of this machine; `uid` is the one
    that FirecREST reports.

    >>> User("ada", "s3cr3t", 1003).account
    'proj1'
    """

    name: str
    secret: str
    uid: int
    account: str = "proj1"
    has_ssh_key: bool = True


FIREUSER = User("fireuser", "s3cr3t", 1001)
SECOND_USER = User("hpcuser2", "s3cr3t2", 1002)
NO_KEY_USER = User("nokeyuser", "s3cr3t3", 1999, has_ssh_key=False)


@dataclass
class Settings:
    """Options of `crestline.testing.firecrest.running` and of the command line; sizes in bytes, times in seconds."""

    root: Path
    """Directory with all files: `home/` (the mount with one directory per user), `scratch/`, `spool/`, `s3/`."""
    version: str = "2.6.0"
    """Version of FirecREST, `2.5.6`, `2.6.0` or `2.x.x` (an unreleased build with the filters of 2.6 and the older
    userinfo)."""
    system: str = "lab"
    nodes: int = 2
    cpus_per_node: int = 2
    """Number of CPUs per node. A job of partition `debug` is PENDING while it requests more than are free."""
    transfer_slots: int = 4
    """Number of jobs that partition `xfer` runs at once (it shares its node, as in the recorded lab)."""
    start_delay: float = 0.0
    """Shortest time between submission and start (0.3 to 1.3 s in the recorded lab)."""
    kill_wait: float = 2.0
    """Time between SIGTERM and SIGKILL of a cancelled or timed-out job (Slurm's KillWait)."""
    default_time_limit: int = 86400
    token_lifetime: int = 300
    """`expires_in` of every access token."""
    upload_poll: float = 0.1
    """Time between two checks of the object by the S3 upload job; 60 s on a real server."""
    max_ops_file_size: int = 5 * 1024 * 1024
    """Limit of `ops/upload`, and of the output of every remote command."""
    max_part_size: int = 16 * 1024 * 1024
    """Size of the parts of an S3 upload."""
    data_transfer: Literal["s3", "streamer", "wormhole"] | None = "s3"
    """Service that moves large files; None if the site has none."""
    transfer_directives: tuple[str, ...] = (
        "#SBATCH --nodes=1",
        "#SBATCH --time=0-00:15:00",
        "#SBATCH --partition=xfer",
    )
    """Lines of the site's transfer jobs, as `/status/systems` reports them, with `{account}` filled in."""
    command_timeout: float = 5.0
    """Timeout of a remote command, after which the answer is 408."""
    job_environment: dict[str, str] = field(default_factory=dict)
    """Variables of the users' login environment, which every job has beside PATH, HOME, USER and SLURM_*."""
    users: tuple[User, ...] = (FIREUSER, SECOND_USER, NO_KEY_USER)

    def __post_init__(self) -> None:
        if self.version not in VERSIONS:
            raise ValueError(f"version must be one of {VERSIONS}, not {self.version!r}")
        for user in self.users:
            if user.has_ssh_key:
                self.home_of(user.name).mkdir(parents=True, exist_ok=True)
        for directory in (self.scratch, self.root / "spool", self.root / "s3"):
            directory.mkdir(parents=True, exist_ok=True)

    @property
    def home(self) -> Path:
        """The mount of the users' directories, and the system's default working directory."""
        return self.root / "home"

    @property
    def scratch(self) -> Path:
        """The scratch file system."""
        return self.root / "scratch"

    @property
    def mounts(self) -> tuple[Path, Path]:
        """The file systems that `ops` serves."""
        return self.home, self.scratch

    @property
    def has_filters(self) -> bool:
        """True if the job list accepts `name` and `time_window` (2.6)."""
        return self.version != "2.5.6"

    @property
    def userinfo_has_group(self) -> bool:
        """True if userinfo has a field for the primary group (before 2.6), False if a flag in the list marks it."""
        return self.version != "2.6.0"

    def home_of(self, name: str) -> Path:
        """Return the home directory of a user."""
        return self.home / name
