"""The interface of a facility API, in the types of `crestline.model`.

Monitor, submission, files and logs use a gateway only through this interface. One backend object serves one system for
one identity. It turns one call into one request, and neither waits for jobs nor watches them. Every method raises only
errors of `crestline.model`. The backend itself retries reads and other safe requests.
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
    """The caller's API keys, which are valid for all systems of a gateway."""

    async def create(self, name: str, scopes: Sequence[Scope] | None, expires_in: int | None) -> NewApiKey:
        """Create a key. The backend does not retry the request, because a lost answer loses the key's secret.

        Args:
            name: description of the key.
            scopes: scopes of the key. None: all that the caller has except `keys:read` and `keys:write`.
            expires_in: lifetime in seconds. None: the gateway's default.
        """

    async def list(self) -> list[ApiKeyInfo]:
        """List the caller's keys that were not revoked, the newest first."""

    async def revoke(self, key_id: str) -> None:
        """Revoke an API key by its id."""


class JobEndpoints(abc.ABC):
    """The jobs of one system."""

    @property
    def recognises_keys(self) -> bool:
        """True if a second `submit` with the same key finds the first job in most cases, though not in all."""
        return False

    @abc.abstractmethod
    async def submit(self, spec: JobSpec, key: str) -> str:
        """Submit a job in one attempt and return its id. The backend does not retry the request.

        Args:
            spec: the job.
            key: idempotency key, sent if the gateway accepts one.

        Raises:
            InvalidRequestError: the gateway or the scheduler refuses the job.
            GatewayUnavailableError: the outcome is unknown.
        """

    @abc.abstractmethod
    async def get(self, job_id: str, *, retry: bool = True) -> list[Job]:
        """Fetch a job by its id; the tasks of an array.

        Args:
            job_id: id of the job.
            retry: see `list`.

        Raises:
            JobNotFoundError: the scheduler does not know the job (404).
        """

    @abc.abstractmethod
    async def metadata(self, job_id: str) -> list[Job]:
        """Fetch the script and the paths of a job; several entries for an array.

        Only `job_id`, `script`, `stdin`, `stdout` and `stderr` are set.

        Raises:
            JobNotFoundError: the scheduler does not know the job (404).
        """

    @abc.abstractmethod
    async def cancel(self, job_id: str) -> None:
        """Cancel a job. For a job that has ended the call has no effect, even if the gateway answers 500.

        Raises:
            JobNotFoundError: the scheduler does not know the job (404).
        """

    async def usage(self, job_id: str) -> list[JobUsage]:
        """Fetch how much of its resources a job has used; one entry for each task of an array.

        Raises:
            UnsupportedError: the gateway does not offer `job-usage`, or its scheduler does not report it.
        """
        raise UnsupportedError("The API does not report what jobs use.", hint="See the site's own accounting.")

    async def hold(self, job_id: str) -> None:
        """Hold a waiting job.

        Raises:
            UnsupportedError: the gateway does not offer `job-hold`, or its scheduler cannot hold jobs.
        """
        raise UnsupportedError("The API cannot hold jobs.", hint="Submit the job with --hold, or cancel it.")

    async def release(self, job_id: str) -> None:
        """Release a held job. Raises the errors of `hold`."""
        raise UnsupportedError("The API cannot release jobs.", hint="Cancel it and submit it again without --hold.")

    def events(self, ids: Sequence[str] | None) -> AsyncIterator[JobNews]:
        """Iterate over the states of jobs, then over every change, until the connection ends.

        Args:
            ids: only these jobs. None: the caller's jobs.

        Raises:
            UnsupportedError: the gateway does not offer `job-events`.
            GatewayUnavailableError: the connection failed or was lost.
        """
        raise UnsupportedError("The API does not offer 'job-events'.", hint="Ask for the jobs instead.")

    async def submit_many(self, jobs: Sequence[tuple[JobSpec, str]]) -> list[str | CrestlineError]:
        """Submit jobs in one request. The backend does not retry it.

        Args:
            jobs: each job with its key.

        Returns:
            for each job, in the same order, its id or the error of its submission.

        Raises:
            UnsupportedError: the gateway does not offer `batch`.
            GatewayUnavailableError: the outcome is unknown for all of them.
        """
        raise UnsupportedError("The API does not offer 'batch'.", hint="Submit one after the other.")

    async def knows_key(self, key: str) -> bool:
        """Return True if a job was submitted with this key.

        Raises:
            UnsupportedError: the gateway does not offer `submission-lookup`.
        """
        raise UnsupportedError("The API does not offer 'submission-lookup'.", hint="Look for the job.")

    @abc.abstractmethod
    async def list(self, query: JobFilter, *, retry: bool = True) -> list[Job]:
        """List jobs.

        Args:
            query: the filter.
            retry: False for callers that repeat the call by themselves.

        Raises:
            TooLargeError: the list exceeds the gateway's limit (413).
            GatewayUnavailableError: the gateway did not answer, also for a 408.
        """


class FileEndpoints(abc.ABC):
    """The files of one system. An operation that needs a scheduler job starts it and returns it."""

    @abc.abstractmethod
    async def stat(self, path: str, *, follow: bool = True) -> dict[str, int]:
        """Fetch the numbers of stat(2): `mode`, `ino`, `dev`, `nlink`, `uid`, `gid`, `size` and the times.

        Args:
            path: absolute path.
            follow: True for the target of a link, False for the link itself, as lstat(2).

        Raises:
            FileMissingError: the path does not exist.
        """

    @abc.abstractmethod
    async def checksum(self, path: str) -> str:
        """Fetch the SHA-256 of a file, in hexadecimal digits."""

    @abc.abstractmethod
    async def mkdir(self, path: str, *, parents: bool = False) -> None:
        """Create a directory; with `parents` also those above it, and accept directories that exist."""

    @abc.abstractmethod
    async def remove(self, path: str) -> TransferMethod | None:
        """Delete a file, or a directory with its content. Returns the job that does so, or None if it is done."""

    @abc.abstractmethod
    async def symlink(self, target: str, link: str) -> None:
        """Create the symbolic link `link`, which points to `target`."""

    @abc.abstractmethod
    async def chmod(self, path: str, mode: str) -> File | None:
        """Set the permissions to octal digits. Returns the changed entry, or None if the gateway does not return it."""

    @abc.abstractmethod
    async def copy(self, source: str, target: str) -> TransferMethod | None:
        """Copy within the system. Returns the job that does so, or None if it is done."""

    @abc.abstractmethod
    async def move(self, source: str, target: str) -> TransferMethod | None:
        """Move or rename within the system. Returns the job that does so, or None if it is done."""

    @abc.abstractmethod
    async def upload_small(self, directory: str, name: str, content: bytes) -> None:
        """Write a file of at most `Backend.max_direct_upload` bytes in one request."""

    @abc.abstractmethod
    async def download_small(self, path: str) -> bytes:
        """Read a file of at most `Backend.max_direct_download` bytes in one request."""

    @abc.abstractmethod
    async def tail_lines(self, path: str, first: int) -> str:
        """Read text from line number `first` (from 1) to the end, with its line ends.

        Raises:
            TooLargeError: the text exceeds one answer (413).
        """

    @abc.abstractmethod
    async def view(self, path: str, offset: int, size: int) -> str:
        """Read `size` characters from byte `offset` on, or fewer at the end. `offset` must be a multiple of `size`.

        FirecREST reads `2 * size` bytes, decodes them as UTF-8 with replacement, and cuts characters, not bytes.
        """

    @abc.abstractmethod
    async def extract(self, archive: str, target: str) -> TransferMethod | None:
        """Unpack a gzip tar archive into a directory. Returns the job that does so, or None if it is done."""

    @abc.abstractmethod
    async def compress(self, source: str, archive: str, *, pattern: str | None = None) -> TransferMethod | None:
        """Pack a directory as a gzip tar archive. Names of members begin with the directory's own name.

        Args:
            source: the directory.
            archive: path of the archive.
            pattern: regular expression for the files to pack, as `-regex` of find(1) in the directory above. None:
                all files.

        Returns:
            the job that does so, or None if it is done.
        """

    # additions of a Crestline gateway

    def read(self, path: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Read bytes from `offset` on; none if the file ends at or before it.

        The backend does not retry the request once bytes have arrived.

        Raises:
            UnsupportedError: the gateway does not offer `content`.
        """
        raise UnsupportedError("The API does not offer 'content'.", hint="Move whole files instead.")

    async def upload_offset(self, path: str, upload_id: str) -> int:
        """Fetch the number of bytes that an unfinished upload has stored; 0 for an unknown upload."""
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
        """Append to an upload and return the number of stored bytes. The backend does not retry the request.

        Args:
            path: path of the file.
            upload_id: name of the upload.
            offset: position of `content` in the file, in bytes.
            content: the bytes to append.
            length: number of bytes of `content`.
            last: True for the last part, after which the file appears as `path`.
            checksum: CRC-32 of the whole file in hexadecimal digits, verified after the last part.

        Raises:
            ConflictError: the upload has another size than `offset`.
            TooLargeError: a proxy accepts fewer bytes in one request.
            TransferError: the file has another CRC-32 than `checksum`.
        """
        raise UnsupportedError("The API does not offer 'content'.", hint="Move whole files instead.")

    async def changed(self, path: str, checksums: dict[str, str]) -> Sequence[str]:
        """Return which of these files below `path` are absent or have another SHA-256."""
        raise UnsupportedError("The API does not offer 'tar'.", hint="Move whole files instead.")

    async def put_tar(self, path: str, content: AsyncIterator[bytes]) -> None:
        """Write the members of a tar stream below `path`, each atomically. The backend does not retry the request."""
        raise UnsupportedError("The API does not offer 'tar'.", hint="Move whole files instead.")

    def get_tar(self, path: str, files: Sequence[str] | None = None) -> AsyncIterator[bytes]:
        """Read a directory, or the named files and links in it, as a tar stream with names relative to it."""
        raise UnsupportedError("The API does not offer 'tar'.", hint="Move whole files instead.")

    def select_tar(self, path: str, selections: Sequence[BundleFilter]) -> AsyncIterator[bytes]:
        """Read the selected files of directories below `path` as a tar stream with names relative to `path`."""
        raise UnsupportedError("The API does not offer 'tar-select'.", hint="Move whole files instead.")

    @abc.abstractmethod
    async def list(self, path: str, *, hidden: bool = False, recursive: bool = False) -> list[File]:
        """List the entries of a directory, or a file itself.

        Raises:
            FileMissingError: the path does not exist.
        """


class TransferEndpoints(abc.ABC):
    """Transfers of files that are too large for direct operations. Each call starts a job and returns it."""

    async def check_size(self, path: str, size: int) -> None:
        """Check that the API can transfer a file of this size, before a byte is sent.

        Args:
            path: path of the file.
            size: size in bytes.

        Raises:
            TransferError: the file is too large. The hint names other services of the facility.
        """
        return

    @abc.abstractmethod
    async def upload(self, path: str, size: int) -> TransferMethod:
        """Start the upload of a large file of `size` bytes."""

    @abc.abstractmethod
    async def download(self, path: str) -> TransferMethod:
        """Start the download of a large file."""

    @abc.abstractmethod
    async def end(self, transfer: TransferMethod, job: Job) -> None:
        """Check the result of a transfer whose job has ended, and remove its temporary files.

        Args:
            transfer: the transfer.
            job: the transfer's job in its final state.

        Raises:
            TransferError: the transfer failed.
        """

    async def stage(self, path: str, name: str) -> TransferMethod:
        """Start a job that gives a file a second name without special characters, or a directory a link."""
        raise UnsupportedError("The API needs no other names for files.", hint="Use the path itself.")

    async def split(self, path: str, pieces: str, size: int) -> TransferMethod:
        """Start a job that splits a file into pieces of `size` bytes, in the new directory `pieces`."""
        raise UnsupportedError("The API moves files without pieces.", hint="Download the file itself.")

    async def join(self, pieces: str, path: str, checksum: str) -> TransferMethod:
        """Start a job that joins pieces as `path` if the result has this SHA-256, and then removes the pieces."""
        raise UnsupportedError("The API moves files without pieces.", hint="Upload the file itself.")


class SystemEndpoints(abc.ABC):
    """Description and resources of the system."""

    @abc.abstractmethod
    async def describe(self) -> dict[str, Any]:
        """Fetch the system's entry of `GET /status/systems`, decoded."""

    @abc.abstractmethod
    async def default_workdir(self) -> str:
        """Return the user's directory on the default file system, `<path of the file system>/<user>`."""

    @abc.abstractmethod
    async def nodes(self) -> list[Node]:
        """Fetch the compute nodes."""

    @abc.abstractmethod
    async def partitions(self) -> list[Partition]:
        """Fetch the partitions."""

    @abc.abstractmethod
    async def reservations(self) -> list[Reservation]:
        """Fetch the reservations."""

    async def accounts(self) -> list[Account]:
        """Fetch the accounts that the user may charge.

        Raises:
            UnsupportedError: the API does not report accounts.
        """
        raise UnsupportedError("The API does not report accounts.", hint="Ask the site which account to name.")

    async def allocations(self) -> list[Allocation]:
        """Fetch the budgets of the user's accounts and what they have used.

        Raises:
            UnsupportedError: the API or the scheduler does not report them.
        """
        raise UnsupportedError("The API does not report allocations.", hint="See the site's own accounting.")

    async def ask_slurm(self, query: SlurmQuery) -> SlurmOutput:
        """Run one of Slurm's own commands on the system and return its output.

        Raises:
            InvalidRequestError: the command does more than read this system.
            UnsupportedError: the API has no such call, or the scheduler is not Slurm.
        """
        raise UnsupportedError("The API cannot run commands of Slurm.", hint="Use its other calls.")


class Backend(abc.ABC):
    """One system behind one gateway for one identity.

    Args:
        url: base URL of the API.
        system: name of the system, in upper or lower case. None: the only system of the facility.
        authorizer: credentials of the requests.
        account: account for jobs without one.
        verify: certificates to trust, or False to skip verification.
        policy: retry settings.
        known: the description that an earlier process received, if it is recent.

    If the class accepts `options`, it receives the site's `options` unless they are empty. If it accepts `transport`,
    it receives the httpx transport that `connect` got.
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
    """base URL of the API, without a slash at its end"""
    system_name: str
    """name of the system as the API spells it; set by `open`"""
    identity: str
    """text that identifies the user without a secret; connections with the same text share a monitor"""
    capabilities: frozenset[Capability]
    """features that the API offers beyond the required calls; empty on plain FirecREST"""
    max_direct_upload: int
    """largest size in bytes of one direct upload"""
    max_direct_download: int
    """largest size in bytes of one direct download"""
    transfer_service: str | None = "s3"
    """service that moves large files of a plain FirecREST (`s3`, `streamer`, `wormhole`), or None"""
    description: Description
    """the gateway's description of itself; set by `open`"""
    scheduler_type: str
    """`slurm` or `pbs`; set by `open`"""
    traffic: Traffic
    """counters of all that this object has sent and received"""
    verify: ssl.SSLContext | bool = True
    """certificates to trust, also for the hosts of signed URLs, or False to skip verification"""

    @abc.abstractmethod
    async def open(self) -> None:
        """Fetch the description of the gateway and its limits.

        Raises:
            SystemNotFoundError: the facility has no system of this name.
        """

    @abc.abstractmethod
    async def close(self) -> None:
        """Close the connections."""

    # The following need no `open`.
    @abc.abstractmethod
    async def systems(self) -> list[dict[str, Any]]:
        """Fetch the entries of all systems of the facility, in the format of FirecREST's `GET /status/systems`."""

    @property
    def api_keys(self) -> ApiKeyEndpoints:
        """The endpoints for the caller's API keys.

        Raises:
            UnsupportedError: the API has no keys.
        """
        raise UnsupportedError(f"{self.gateway_url} has no API keys.", hint="Only a Crestline gateway has them.")
