"""Snakemake's jobs as jobs of a system behind an API that shares no file system with the user's machine.

The system is that of `--default-storage-prefix firecrest://SYSTEM@SITE/DIRECTORY`, where the workflow's files are.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import snakemake_storage_plugin_crestline as storage
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import CommonSettings, ExecutorSettingsBase

from crestline import connect_blocking
from crestline.model import CrestlineError, Job, JobNotFoundError, JobSpec

common_settings = CommonSettings(
    non_local_exec=True,
    implies_no_shared_fs=True,
    job_deploy_sources=True,
    auto_deploy_default_storage_provider=False,  # each job carries it
)

JOB = """#!/bin/bash
set -e
export {variable}="$$" PYTHONPATH="{plugins}${{PYTHONPATH:+:$PYTHONPATH}}"
folder=$(mktemp -d)
trap 'cd /; rm -rf "$folder"' EXIT
cd "$folder"
export HOME="${{HOME:-$folder}}" XDG_CACHE_HOME="$folder/cache"
{setup}
{command}
"""


@dataclass
class ExecutorSettings(ExecutorSettingsBase):
    """What the user may say on the command line."""

    setup: str = field(
        default="",
        metadata={"help": "Shell lines that let a job find python with Snakemake and fsspec: 'module load snakemake'"},
    )


class Executor(RemoteExecutor):
    """Submits, polls and cancels over the API."""

    def __post_init__(self) -> None:
        prefix = self.workflow.storage_settings.default_storage_prefix or ""
        if not storage.StorageProvider.is_valid_query(f"{prefix}/x"):
            raise WorkflowError(
                "The jobs need a directory of the system for their files: pass --default-storage-provider crestline "
                "--default-storage-prefix firecrest://SYSTEM@SITE/DIRECTORY."
            )
        target, self._directory = storage.StorageProvider.path_parts(prefix.rstrip("/"))
        self._system = connect_blocking(target).open()
        self._run = uuid.uuid4().hex[:12]
        self._work = f"{self._directory}/.snakemake/{self._run}"
        plugin = Path(storage.__file__)
        self._system.mkdir(f"{self._work}/{plugin.parent.name}", parents=True)
        self._system.write_bytes(f"{self._work}/{plugin.parent.name}/{plugin.name}", plugin.read_bytes())

    def run_job(self, job: JobExecutorInterface) -> None:
        spec = self._spec(job)
        try:
            submitted = self._system.submit(spec, key=f"snakemake/{self._run}/{job.jobid}/{job.attempt}")
        except CrestlineError as error:
            self.report_job_error(SubmittedJobInfo(job), msg=f"The job was not submitted: {error}. ")
            return
        self.report_job_submission(SubmittedJobInfo(job, external_jobid=submitted.job_id))

    def _spec(self, job: JobExecutorInterface) -> JobSpec:
        wanted = job.resources
        command = self.format_job_exec(job)
        script = JOB.format(
            variable=storage.IN_JOB, plugins=self._work, setup=self.executor_settings.setup, command=command
        )
        memory = wanted.get("mem_mb")
        return JobSpec(
            script=script,
            workdir=self._work,
            name=f"snakemake-{job.name}",
            time_limit=f"{wanted['runtime']}:00" if wanted.get("runtime") else None,
            memory=f"{memory}M" if memory else None,
            cpus_per_task=job.threads,
            account=wanted.get("slurm_account"),
            partition=wanted.get("slurm_partition"),
            gpus=wanted.get("gpu"),
            stdout=f"{self._work}/{job.jobid}-{job.attempt}.log",
            stderr=f"{self._work}/{job.jobid}-{job.attempt}.log",
        )

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        try:
            found = await asyncio.to_thread(self._states, [each.external_jobid for each in active_jobs])
        except CrestlineError as error:
            self.logger.warning(f"The jobs cannot be looked at, they are asked for again: {error}")
            found = {}
        for each in active_jobs:
            job = found.get(each.external_jobid)
            if job is None or not job.is_finished:
                yield each
            elif job.state.is_success:
                self.report_job_success(each)
            else:
                log = await asyncio.to_thread(self._log, job)
                self.report_job_error(each, msg=f"Job {job.job_id} ended as {job.state}.\n{log}\n")

    def _states(self, ids: list[str]) -> dict[str, Job]:
        if not ids:
            return {}
        found = {job.job_id: job for job in self._system.jobs(ids=ids)}
        for missing in set(ids) - set(found):
            try:
                found[missing] = self._system.job(missing)
            except JobNotFoundError:
                self.logger.warning(f"The scheduler does not list job {missing}; it is asked for again")
        return found

    def _log(self, job: Job) -> str:
        """The end of what it has printed."""
        try:
            return self._system.read_text(job.stdout)[-4000:] if job.stdout else ""
        except CrestlineError as error:
            return f"Its output cannot be read: {error}"

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        for each in active_jobs:
            try:
                self._system.cancel(each.external_jobid)
            except CrestlineError as error:
                self.logger.error(f"Job {each.external_jobid} was not cancelled: {error}")

    def shutdown(self) -> None:
        super().shutdown()
        self._system.remove(self._work)
        self._system.close()
