"""PSI/J: jobs from submission to completion, failure and cancellation."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from psij import Job, JobAttributes, JobExecutor, JobSpec, JobState, ResourceSpecV1
from psij.executors.batch.batch_scheduler_executor import BatchSchedulerExecutorConfig

config = BatchSchedulerExecutorConfig(
    queue_polling_interval=2, initial_queue_polling_delay=1, work_directory=Path.cwd() / "psij"
)
executor = JobExecutor.get_instance("slurm", config=config)


def submit(name: str, script: str) -> Job:
    """A job of five minutes that runs in this directory."""
    spec = JobSpec(
        "/bin/sh",
        ["-c", script],
        name=name,
        directory=Path.cwd(),
        stdout_path=Path.cwd() / f"{name}.txt",
        resources=ResourceSpecV1(node_count=1, processes_per_node=1, cpu_cores_per_process=1),
        attributes=JobAttributes(duration=timedelta(minutes=5)),
    )
    job = Job(spec)
    executor.submit(job)
    return job


good, bad, endless = submit("good", "echo hello"), submit("bad", "exit 3"), submit("endless", "sleep 600")
endless.wait(target_states=[JobState.ACTIVE])
endless.cancel()
for job in (good, bad, endless):
    status = job.wait()
    print(job.spec.name, status.state.name, status.exit_code)
print(Path("good.txt").read_text(), end="")
