"""`crestline job`: details of jobs, and how much of their resources they use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from crestline.cli.connecting import on_system
from crestline.cli.durations import clock, when
from crestline.cli.help import make_app
from crestline.cli.jobs import JobIds
from crestline.cli.options import Json, Site
from crestline.cli.output import note, one_line, print_json
from crestline.cli.several import Several
from crestline.model import Job, JobUsage, UnsupportedError

if TYPE_CHECKING:
    from crestline.client import System

app = make_app()


@app.command("job")
def show(jobs: JobIds, site: Site = None, json: Json = False) -> None:
    """Show jobs, and how much of their processor time, memory and GPUs they use."""

    async def action(system: System) -> None:
        several = Several(jobs, json=json)
        for each in jobs:
            with several.one(each):
                await _show(system, each, json=json)
        several.raise_any()

    on_system(site, action, retry=False)


async def _show(system: System, job_id: str, *, json: bool) -> None:
    found = await system.backend.jobs.get(job_id)
    try:
        usage = {each.job_id: each for each in await system.usage(job_id)}
    except UnsupportedError as error:
        usage = {}
        if not json:
            note(error.message)
    for job in found:
        used = usage.get(job.job_id)
        if json:
            print_json(msgspec.to_builtins(job) | {"usage": used and _numbers(used)})
        else:
            _print(job, used)


def _numbers(used: JobUsage) -> dict[str, object]:
    shares = ("cpu_efficiency", "memory_efficiency", "gpu_efficiency")
    return {**msgspec.to_builtins(used), **{name: getattr(used, name) for name in shares}}


def _print(job: Job, used: JobUsage | None) -> None:
    times = job.times
    facts = {
        "Job": job.job_id,
        "Name": job.name,
        "State": job.state,
        "Reason": "" if job.reason == "None" else job.reason,
        "Exit code": job.exit_code if job.is_finished else None,
        "Partition": job.partition,
        "Account": job.account,
        "Nodes": job.nodes or job.node_count,
        "Submitted": when(times.submit),
        "Started": when(times.start),
        "Ended": when(times.end) if job.is_finished else "",
        "Elapsed": clock(times.elapsed),
        "Time limit": clock(times.limit),
        "Directory": job.workdir,
        **(_use(used) if used else {}),
    }
    for name, value in facts.items():
        if value not in (None, ""):
            print(f"{name + ':':<13}{one_line(str(value))}")


def _use(used: JobUsage) -> dict[str, str]:
    rows = {}
    if (share := used.cpu_efficiency) is not None:
        rows["CPU use"] = f"{share:.0%} of {used.cpus} CPUs"
    if used.memory is not None:
        limit = f" of {_size(used.memory_limit)} ({used.memory_efficiency:.0%})" if used.memory_limit else ""
        rows["Peak memory"] = f"{_size(used.memory)}{limit}"
    if (share := used.gpu_efficiency) is not None:
        rows["GPU use"] = f"{share:.0%} of {used.gpus} GPUs"
    return rows


def _size(number: float) -> str:
    unit = 0
    while number >= 1024 and unit < 5:
        number, unit = number / 1024, unit + 1
    return f"{number:.1f} {'KMGTP'[unit - 1]}iB" if unit else f"{number} B"
