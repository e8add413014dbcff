"""HyperQueue's server, through its Python client. The client's calls block, so they run in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

from crestline.gateway.schedulers.hyperqueue.options import HyperQueueOptions
from crestline.gateway.schedulers.hyperqueue.records import JobRecord, Records
from crestline.model import ConfigError, GatewayUnavailableError

T = TypeVar("T")


class Engine:
    """A running HyperQueue server (`hq server start`) with its workers."""

    def __init__(self, options: HyperQueueOptions, records: Records) -> None:
        self._options = options
        self._records = records

    def version(self) -> str:
        """Return HyperQueue's version.

        Raises:
            ConfigError: HyperQueue is not installed.
        """
        return str(_package().get_version()).removeprefix("v")

    async def ping(self) -> None:
        """Connect to the server.

        Raises:
            GatewayUnavailableError: the server does not respond.
        """
        await self._call(self._client)

    async def submit(self, job: JobRecord, runner: str) -> int:
        """Submit a job and return HyperQueue's number for it.

        Raises:
            GatewayUnavailableError: the server does not respond. It may or may not have the job.
        """
        return await self._call(lambda: self._submit(job, runner))

    def _submit(self, job: JobRecord, runner: str) -> int:
        request = import_module("hyperqueue.ffi.protocol").ResourceRequest
        tasks = _package().Job(name=job.name, max_fails=None)
        for task in job.tasks:
            where = self._records.task_directory(job.number, task)
            streams = [job.path(each, task) for each in (job.stdin, job.stdout, job.stderr)]
            script = str(self._records.directory(job.number) / "script")
            tasks.program(
                ["/bin/sh", runner, str(where), script, job.directory, *streams, str(job.time_limit or 0)],
                env=job.environment | _slurm_variables(job, task),
                cwd="/",
                stdout=None,
                stderr=None,
                resources=request(n_nodes=job.nodes) if job.nodes > 1 else request(cpus=job.cpus),
            )
        return int(self._client().submit(tasks).id)

    def _client(self) -> Any:
        return _package().Client(self._options.server_directory)

    async def _call(self, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(self._options.timeout):
                return await asyncio.to_thread(work)
        except TimeoutError:
            error = "it did not answer in time"
        except ConfigError:
            raise
        except Exception as failure:  # the client raises plain Exceptions
            error = str(failure).strip().splitlines()[-1] if str(failure).strip() else type(failure).__name__
        raise GatewayUnavailableError(
            f"HyperQueue's server cannot be used: {error}.", hint="Start it with `hq server start`.", retry_after=2
        )


def _slurm_variables(job: JobRecord, task: int | None) -> dict[str, str]:
    """Return the variables that scripts for Slurm expect."""
    found = {
        "SLURM_JOB_ID": job.task_id(task),
        "SLURM_JOB_NAME": job.name,
        "SLURM_SUBMIT_DIR": job.directory,
        "SLURM_CPUS_ON_NODE": str(job.cpus),
    }
    if task is not None:
        found |= {"SLURM_ARRAY_JOB_ID": str(job.number), "SLURM_ARRAY_TASK_ID": str(task)}
    return found


def _package() -> Any:
    try:
        return import_module("hyperqueue")
    except ImportError as error:
        raise ConfigError(
            "HyperQueue is not installed.", hint="Install crestline[hyperqueue] beside the gateway."
        ) from error
