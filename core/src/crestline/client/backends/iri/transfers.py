"""Files of more than the API carries: in pieces, with one job at the facility that joins or splits them."""

from __future__ import annotations

import contextlib
import posixpath
import secrets
from collections.abc import Sequence

import msgspec

from crestline.client.backends import file_scripts
from crestline.client.backends.base import FileEndpoints, JobEndpoints, SystemEndpoints, TransferEndpoints
from crestline.client.backends.iri.system import System
from crestline.client.backends.messages import TransferMethod
from crestline.client.remote_names import temporary_name
from crestline.model import CrestlineError, InvalidRequestError, Job, JobSpec, TransferError, UnsupportedError

LARGEST = 256 * 1024**2
"""bytes of a file that still moves in pieces; each piece is a task of some seconds"""
_DIRECTIVES = ("#SBATCH --nodes=1", "#SBATCH --time=30:00")
"""of transfer jobs, unless the site's options say others; some facilities demand a time limit"""


class Transfers(TransferEndpoints):
    """The transfer jobs of one system.

    Args:
        directives: `#SBATCH` lines of these jobs, for example with their partition.
    """

    def __init__(self, jobs: JobEndpoints, files: FileEndpoints, system: System, directives: Sequence[str]) -> None:
        self._jobs = jobs
        self._directives = (*_DIRECTIVES, *directives)
        self._files = files
        self._system: SystemEndpoints = system
        self._ways = system.other_transfer_services

    async def check_size(self, path: str, size: int) -> None:
        if size > LARGEST:
            raise TransferError(
                f"{path} has {size} bytes, and the IRI API moves files of at most {LARGEST} bytes.",
                hint=f"Use {await self._ways()} for it.",
            )

    async def upload(self, path: str, size: int) -> TransferMethod:
        raise UnsupportedError("The IRI API has no store for large files.", hint=f"Use {await self._ways()}.")

    async def download(self, path: str) -> TransferMethod:
        raise UnsupportedError("The IRI API has no store for large files.", hint=f"Use {await self._ways()}.")

    async def split(self, path: str, pieces: str, size: int) -> TransferMethod:
        job = await self._begin(file_scripts.split(path, pieces, size))
        return msgspec.structs.replace(job, pieces=pieces, part_size=size)

    async def join(self, pieces: str, path: str, checksum: str) -> TransferMethod:
        part = posixpath.join(posixpath.dirname(path), temporary_name(".part"))
        return await self._begin(file_scripts.join(pieces, path, part, checksum))

    async def end(self, transfer: TransferMethod, job: Job) -> None:
        try:
            said = (await self._files.download_small(transfer.log)).decode(errors="replace")
        except CrestlineError as error:
            said = error.message
        if not (job.state.is_success and file_scripts.DONE in said):
            last = said.strip().splitlines()[-1:] or ["its log is empty"]
            raise TransferError(
                f"The transfer job {transfer.job_id} failed ({job.raw_state}): {last[0][:200]}",
                hint=f"See {transfer.log} on the system.",
            )
        with contextlib.suppress(CrestlineError):  # it is in the way, but harmless
            await self._files.remove(transfer.log)

    async def _begin(self, commands: str) -> TransferMethod:
        workdir = await self._system.default_workdir()
        output = posixpath.join(workdir, temporary_name(".log"))
        spec = JobSpec(
            script=file_scripts.render(self._directives, commands),
            workdir=workdir,
            name="crestline-files",
            stdout=output,
            stderr=output,
        )
        try:
            job_id = await self._jobs.submit(spec, secrets.token_hex())
        except (InvalidRequestError, UnsupportedError) as error:
            raise TransferError(
                f"The facility refused the job that moves the file: {error.message}",
                hint="Name its queue and time limit in `transfer_directives` of the site's `options`.",
            ) from error
        return TransferMethod(job_id=job_id, log=output)
