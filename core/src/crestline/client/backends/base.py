"""The interface behind which a facility's API stands, in the model's words.

Monitor, submission, files and logs know nothing else of a gateway. One backend object serves one system for one
identity. It turns one call into one request and nothing more: it waits for no job and watches none. Every method raises
only errors of `crestline.model`; reads and other safe verbs are already retried inside.
"""

from __future__ import annotations

import abc
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from crestline.client.auth import Authorizer
from crestline.client.backends.capabilities import Capability
from crestline.client.backends.messages import BundleFilter, Description, JobFilter, JobNews, TransferMethod
from crestline.client.policy import Policy
from crestline.client.traffic import Traffic
from crestline.model import (
    Account,
    Allocation,
    CrestlineError,
    File,
    Job,
    JobSpec,
    JobUsage,
    Node,
    Partition,
    Reservation,
    UnsupportedError,
)
from crestline.model.slurm_queries import SlurmOutput, SlurmQuery
from crestline.wire.extensions import ApiKeyInfo, NewApiKey, Scope


class ApiKeyEndpoints(Protocol):
    """The caller's API keys, which hold for all systems of a gateway."""

    async def create(self, name: str, scopes: Sequence[Scope] | None, expires_in: int | None) -> NewApiKey:
        """Create a key; never repeated inside, because a lost answer loses the key's secret."""

    async def list(self) -> list[ApiKeyInfo]:
        """The caller's keys that were not revoked, the newest first."""

    async def revoke(self, key_id: str) -> None:
        """Revoke an API key by its id."""


class JobEndpoints(abc.ABC):
    """The jobs of one system."""

    @property
    def recognises_keys(self) -> bool:
        """Whether a second `submit` with the same key leads to the first job in most cases, though not in all."""
        return False

    @abc.abstractmethod
    async def submit(self, spec: JobSpec, key: str) -> str:
        """One attempt, never repeated inside; `key` goes along where the gateway takes one.

        Raises:
            GatewayUnavailableError: the outcome is unknown.
        """

    @abc.abstractmethod
    async def get(self, job_id: str, *, retry: bool = True) -> list[Job]:
        """By-id look-up; several for an array. `retry` as in `list`.

        Raises:
            JobNotFoundError: 404.
        """

    @abc.abstractmethod
    async def metadata(self, job_id: str) -> list[Job]:
        """Only `job_id`, `script`, `stdin`, `stdout` and `stderr` are set."""

    @abc.abstractmethod
    async def cancel(self, job_id: str) -> None:
        """Idempotent: a job that has ended is not an error, also where the gateway answers 500 for it."""

    async def usage(self, job_id: str) -> list[JobUsage]:
        """What a job has used; several for an array.

        Raises:
            UnsupportedError: the gateway does not offer `job-usage`, or its scheduler does not tell.
        """
        raise UnsupportedError("The API does not tell what jobs use.", hint="See the site's own accounting.")

    async def hold(self, job_id: str) -> None:
        """Keep a job that waits from starting.

        Raises:
            UnsupportedError: the gateway does not offer `job-hold`, or its scheduler holds no jobs.
        """
        raise UnsupportedError("The API cannot hold jobs.", hint="Submit the job with --hold, or cancel it.")

    async def release(self, job_id: str) -> None:
        """Let a held job start; errors as for `hold`."""
        raise UnsupportedError("The API cannot release jobs.", hint="Cancel it and submit it again without --hold.")

    def events(self, ids: Sequence[str] | None) -> AsyncIterator[JobNews]:
        """The state of these jobs (None: of the caller's), then every change, until the connection ends.

        Raises:
            UnsupportedError: the gateway does not offer `job-events`.
            GatewayUnavailableError: no connection, or it broke.
        """
        raise UnsupportedError("The API does not offer 'job-events'.", hint="Ask for the jobs instead.")

    async def submit_many(self, jobs: Sequence[tuple[JobSpec, str]]) -> list[str | CrestlineError]:
        """One request for all, never repeated inside; of each the id or what became of it. Keys as in `submit`.

        Raises:
            UnsupportedError: the gateway does not offer `batch`.
            GatewayUnavailableError: the outcome is unknown for all of them.
        """
        raise UnsupportedError("The API does not offer 'batch'.", hint="Submit one after the other.")

    async def knows_key(self, key: str) -> bool:
        """Whether a job was submitted with this key.

        Raises:
            UnsupportedError: the gateway does not offer `submission-lookup`.
        """
        raise UnsupportedError("The API does not offer 'submission-lookup'.", hint="Look for the job.")

    @abc.abstractmethod
    async def list(self, query: JobFilter, *, retry: bool = True) -> list[Job]:
        """A list request.

        Args:
            patient: repeat what may succeed later; False for callers that ask again by themselves.

        Raises:
            TooLargeError: the list does not fit (413); a 408 is a GatewayUnavailableError.
        """


class FileEndpoints(abc.ABC):
    """The files of one system; what needs a job of the scheduler begins it and returns it."""

    @abc.abstractmethod
    async def stat(self, path: str, *, follow: bool = True) -> dict[str, int]:
        """The numbers of stat(2): `mode`, `ino`, `dev`, `nlink`, `uid`, `gid`, `size` and the times.

        Args:
            follow: of what a link leads to; False: of the link itself, as lstat(2).
        """

    @abc.abstractmethod
    async def checksum(self, path: str) -> str:
        """Return the SHA-256 of a remote file, in hexadecimal digits."""

    @abc.abstractmethod
    async def mkdir(self, path: str, *, parents: bool = False) -> None: ...

    @abc.abstractmethod
    async def remove(self, path: str) -> TransferMethod | None:
        """Delete a file, or a directory with all that is in it; returns the job that does so, None once it is done."""

    @abc.abstractmethod
    async def symlink(self, target: str, link: str) -> None: ...

    @abc.abstractmethod
    async def chmod(self, path: str, mode: str) -> File | None:
        """The file or directory as it is afterwards, where the gateway says that."""

    @abc.abstractmethod
    async def copy(self, source: str, target: str) -> TransferMethod | None:
        """Copy within the system; returns the job that does so, None once it is done."""

    @abc.abstractmethod
    async def move(self, source: str, target: str) -> TransferMethod | None:
        """Rename or move within the system, as `copy`."""

    @abc.abstractmethod
    async def upload_small(self, directory: str, name: str, content: bytes) -> None: ...

    @abc.abstractmethod
    async def download_small(self, path: str) -> bytes: ...

    @abc.abstractmethod
    async def tail_lines(self, path: str, first: int) -> str:
        """Text from line number `first` (1 = the first) to the end, line ends untouched.

        Raises:
            TooLargeError: it does not fit into one answer (413).
        """

    @abc.abstractmethod
    async def view(self, path: str, offset: int, size: int) -> str:
        """`size` characters from byte `offset` on, or fewer at the end; `offset` must be a multiple of `size`.

        FirecREST reads `2 * size` bytes, decodes them as UTF-8 with replacement, and cuts characters, not bytes.
        """

    @abc.abstractmethod
    async def extract(self, archive: str, target: str) -> TransferMethod | None:
        """Unpack a gzip tar archive into a directory; returns the job that does so, None once it is done."""

    @abc.abstractmethod
    async def compress(self, source: str, archive: str, *, pattern: str | None = None) -> TransferMethod | None:
        """Pack a directory as gzip tar archive; its members are named from the directory's own name on.

        Args:
            pattern: what find(1) takes as `-regex` in the directory above, for the files to pack; None: all.

        Returns:
            the job that does so; None once it is done.
        """

    # additions of a Crestline gateway

    def read(self, path: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Bytes from `offset` on; nothing where the file ends at or before it. Not retried once bytes have come."""
        raise UnsupportedError("The API does not offer 'content'.", hint="Move whole files instead.")

    async def upload_offset(self, path: str, upload_id: str) -> int:
        """Bytes that the unfinished upload has stored, 0 if there is none."""
        raise UnsupportedError("The API does not offer 'content'.", hint="Move whole files instead.")

    async def upload_part(
        self,
        path: str,
        upload_id: str,
        offset: int,
        content: AsyncIterator[bytes],
        length: int,
        *,
        last: bool,
        checksum: str | None,
    ) -> int:
        """Append to an upload, never repeated inside; returns the bytes stored. `last` makes it visible as `path`.

        Args:
            length: bytes of `content`.

        Raises:
            ConflictError: the upload does not stand at `offset`.
            TooLargeError: a proxy takes fewer bytes in one request.
            TransferError: the whole has another CRC-32 than `checksum`.
        """
        raise UnsupportedError("The API does not offer 'content'.", hint="Move whole files instead.")

    async def changed(self, path: str, checksums: dict[str, str]) -> Sequence[str]:
        """Which of these files below `path` are absent or have another SHA-256."""
        raise UnsupportedError("The API does not offer 'tar'.", hint="Move whole files instead.")

    async def put_tar(self, path: str, content: AsyncIterator[bytes]) -> None:
        """Write a tar stream's members below `path`, each atomically; never repeated inside."""
        raise UnsupportedError("The API does not offer 'tar'.", hint="Move whole files instead.")

    def get_tar(self, path: str, files: Sequence[str] | None = None) -> AsyncIterator[bytes]:
        """A directory, or the named files and links below it, as one tar stream with names below the directory."""
        raise UnsupportedError("The API does not offer 'tar'.", hint="Move whole files instead.")

    def select_tar(self, path: str, selections: Sequence[BundleFilter]) -> AsyncIterator[bytes]:
        """What is selected in directories below `path`, as one tar stream with names below `path`."""
        raise UnsupportedError("The API does not offer 'tar-select'.", hint="Move whole files instead.")

    @abc.abstractmethod
    async def list(self, path: str, *, hidden: bool = False, recursive: bool = False) -> list[File]: ...


class TransferEndpoints(abc.ABC):
    """Files that are too large for direct operations: each call begins a job and returns it."""

    async def check_size(self, path: str, size: int) -> None:
        """Refuse a file that is too large for any way that the API has, before a byte of it moves.

        Raises:
            TransferError: it is; the hint names the facility's other ways.
        """
        return

    @abc.abstractmethod
    async def upload(self, path: str, size: int) -> TransferMethod:
        """Begin the upload of a large file."""

    @abc.abstractmethod
    async def download(self, path: str) -> TransferMethod:
        """Begin the download of a large file."""

    @abc.abstractmethod
    async def end(self, transfer: TransferMethod, job: Job) -> None:
        """Check how a transfer came out whose job has ended, and remove what it leaves.

        Args:
            job: the transfer's job as it ended.

        Raises:
            TransferError: it failed.
        """

    async def stage(self, path: str, name: str) -> TransferMethod:
        """Let a job give a file a second name that any job can be told, and a directory a link."""
        raise UnsupportedError("The API needs no other names for files.", hint="Use the path itself.")

    async def split(self, path: str, pieces: str, size: int) -> TransferMethod:
        """Let a job cut a file into pieces of `size` bytes in the directory `pieces`, which is made anew."""
        raise UnsupportedError("The API moves files without pieces.", hint="Download the file itself.")

    async def join(self, pieces: str, path: str, checksum: str) -> TransferMethod:
        """Let a job put pieces together as `path`, if the whole has this SHA-256, and then remove them."""
        raise UnsupportedError("The API moves files without pieces.", hint="Upload the file itself.")


class SystemEndpoints(abc.ABC):
    """What the system is and has."""

    @abc.abstractmethod
    async def describe(self) -> dict[str, Any]:
        """The system's entry of `/status/systems`, decoded."""

    @abc.abstractmethod
    async def default_workdir(self) -> str:
        """`<path of the default file system>/<user>`"""

    @abc.abstractmethod
    async def nodes(self) -> list[Node]: ...

    @abc.abstractmethod
    async def partitions(self) -> list[Partition]: ...

    @abc.abstractmethod
    async def reservations(self) -> list[Reservation]: ...

    async def accounts(self) -> list[Account]:
        """The accounts that the user may charge.

        Raises:
            UnsupportedError: the API does not tell.
        """
        raise UnsupportedError("The API does not tell accounts.", hint="Ask the site which account to name.")

    async def allocations(self) -> list[Allocation]:
        """What the user's accounts may use and have used.

        Raises:
            UnsupportedError: the API or the scheduler does not tell.
        """
        raise UnsupportedError("The API does not tell allocations.", hint="See the site's own accounting.")

    async def ask_slurm(self, query: SlurmQuery) -> SlurmOutput:
        """What one of Slurm's own commands prints on the system.

        Raises:
            InvalidRequestError: the command does more than read.
            UnsupportedError: the API has no such call, or the scheduler is not Slurm.
        """
        raise UnsupportedError("The API runs no commands of Slurm.", hint="Ask by its other calls.")


class Backend(abc.ABC):
    """One system behind one gateway for one identity.

    Args:
        url: base URL of the API.
        system: the system's name, in any case; None: the only one that the facility has.
        account: charged for jobs that name none.
        verify: how certificates are checked.
        known: the description that an earlier process received, if it is fresh.

    A backend that takes `options`, the mapping of that name of its site, is given it where it is not empty. One that
    takes `transport`, an httpx transport for tests in place of the network, is given it where `connect` is.
    """

    @abc.abstractmethod
    def __init__(
        self,
        url: str,
        system: str | None,
        authorizer: Authorizer,
        *,
        account: str | None = None,
        verify: ssl.SSLContext | bool = True,
        policy: Policy | None = None,
        known: Description | None = None,
    ) -> None: ...

    jobs: JobEndpoints
    files: FileEndpoints
    transfers: TransferEndpoints
    system: SystemEndpoints
    gateway_url: str
    """the API's base URL, without a slash at its end"""
    system_name: str
    """the system's name as the API spells it, known once it is open"""
    identity: str
    """names the identity without revealing a secret: part of the key under which a monitor is shared"""
    capabilities: frozenset[Capability]
    """what the API offers beyond the required calls; empty on plain FirecREST"""
    max_direct_upload: int
    """bytes that one direct upload really carries"""
    max_direct_download: int
    """bytes that one direct download really carries"""
    transfer_service: str | None = "s3"
    """what a plain FirecREST moves large files with: `s3`, `streamer`, `wormhole`, or None: with nothing"""
    description: Description
    """what the gateway said of itself, known once it is open"""
    scheduler_type: str
    """`slurm` or `pbs`, known once it is open"""
    traffic: Traffic
    """all that was sent and received since it was made"""
    verify: ssl.SSLContext | bool = True
    """how certificates are checked, also those of the hosts that signed URLs name"""

    @abc.abstractmethod
    async def open(self) -> None:
        """Read what the gateway is and which limits it has."""

    @abc.abstractmethod
    async def close(self) -> None: ...

    # these need no `open`
    @abc.abstractmethod
    async def systems(self) -> list[dict[str, Any]]:
        """The entries of all systems of the facility, in the words of FirecREST's `/status/systems`."""

    @property
    def api_keys(self) -> ApiKeyEndpoints:
        """The endpoints for the caller's API keys.

        Raises:
            UnsupportedError: the API has none.
        """
        raise UnsupportedError(f"{self.gateway_url} has no API keys.", hint="Only a Crestline gateway has.")
