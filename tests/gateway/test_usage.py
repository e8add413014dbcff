"""What jobs use: what sacct and sstat say, what the local scheduler measures, and how it reaches client and command."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from crestline.client import Capability, connect, register_site
from crestline.gateway.hosts import Completed
from crestline.gateway.schedulers.slurm.commands import SlurmCommands
from crestline.gateway.schedulers.slurm.options import SlurmOptions
from crestline.gateway.schedulers.slurm.usage import read_usage, usage_of
from crestline.model import JobNotFoundError, JobSpec, JobUsage
from crestline.wire.compute import JobInfo, JobStatus, JobTime
from crestline.wire.extensions import JobUsageInfo
from harness.command import Command
from harness.gateway import RunningGateway, in_thread
from harness.scripted_commands import ScriptedCommands, succeeded
from harness.sites import gateway_site
from harness.slurm_gateway import SlurmGateway

pytestmark = pytest.mark.anyio

HELD = "billing=4,cpu=4,gres/gpu=2,mem=8G,node=1"
NAMES = ("JobID", "ElapsedRaw", "AllocCPUS", "TotalCPU", "AllocTRES", "TRESUsageInTot")


def rows(*lines: Sequence[str]) -> list[dict[str, str]]:
    return [dict(zip(NAMES, line, strict=True)) for line in lines]


def info(job_id: str, state: str = "COMPLETED", raw_id: str | None = None) -> JobInfo:
    return JobInfo(job_id=job_id, name="x", status=JobStatus(state=state), time=JobTime(), raw_id=raw_id)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(
            [
                ("7", "100", "4", "03:20.500", HELD, ""),
                ("7.batch", "100", "4", "00:20", "", "cpu=00:00:20,energy=0,mem=1G,gres/gpuutil=40"),
                ("7.0", "80", "4", "03:00", "", "cpu=00:03:00,mem=2048M,gres/gpuutil=150,gres/gpumem=70G"),
                ("70.0", "80", "4", "03:00", "", "cpu=00:03:00,mem=9T"),
            ],
            JobUsageInfo(
                job_id="7", elapsed=100, cpus=4, cpu_seconds=200, memory=2 << 30, memory_limit=8 << 30,
                gpus=2, gpu_use=1.5,
            ),
            id="all is gathered",
        ),
        pytest.param(
            [("7", "100", "4", "00:00:00", "cpu=4,mem=1.50G", ""), ("7.batch", "100", "4", "00:00:00", "", "")],
            JobUsageInfo(job_id="7", elapsed=100, cpus=4, memory_limit=3 << 29),
            id="nothing is gathered",
        ),
        pytest.param(
            [("7", "0", "0", "00:00:00", "", "")],
            JobUsageInfo(job_id="7", elapsed=0, cpus=0),
            id="it never ran",
        ),
        pytest.param([], JobUsageInfo(job_id="7"), id="it is not recorded"),
    ],
)  # fmt: skip
async def test_accounting_tells(lines: list[Sequence[str]], expected: JobUsageInfo) -> None:
    assert usage_of(info("7"), rows(*lines)) == expected


def answers(sstat: Completed) -> Callable[[list[str]], Completed]:
    """sacct and sstat of an array whose task 1 runs."""

    def answer(argv: list[str]) -> Completed:
        if "sstat" in argv:
            return sstat
        mark = next(word.partition("=")[2] for word in argv if word.startswith("--delimiter="))
        table = [
            ("12_0", "60", "1", "00:30", "cpu=1,mem=1G", ""),
            ("12_0.batch", "60", "1", "00:30", "", "cpu=00:00:30,mem=512M"),
            ("12_1", "40", "1", "00:00:00", "cpu=1,mem=1G", ""),
            ("12_1.batch", "40", "1", "00:00:00", "", ""),
        ]
        return succeeded("".join(mark.join((*line, "\n")) for line in table).encode())

    return answer


@pytest.mark.parametrize(
    ("sstat", "live"),
    [
        (Completed(0, b"14.batch|cpu=00:00:10,mem=256M\n", b""), (10, 256 << 20)),
        (Completed(1, b"", b"sstat: error: no steps running for job 14\n"), (None, None)),
        (Completed(127, b"", b"sstat: command not found\n"), (None, None)),
    ],
)
async def test_a_running_task_is_asked_for_beside(sstat: Completed, live: tuple[float | None, int | None]) -> None:
    commands = ScriptedCommands(answers(sstat))
    tasks = [info("12_0"), info("12_1", "RUNNING", "14")]
    ended, running = await read_usage(SlurmCommands(commands, SlurmOptions()), "alice", tasks)
    assert (ended.cpu_seconds, ended.memory) == (30, 512 << 20)
    assert (running.cpu_seconds, running.memory) == live
    asked = [word for argv in commands.argvs for word in argv if word.startswith("--jobs=")]
    assert asked == ["--jobs=12", "--jobs=14"]


def test_shares() -> None:
    used = JobUsage(job_id="1", elapsed=100, cpus=4, cpu_seconds=200, memory=1, memory_limit=4, gpus=2, gpu_use=1.5)
    assert (used.cpu_efficiency, used.memory_efficiency, used.gpu_efficiency) == (0.5, 0.25, 0.75)
    bare = JobUsage(job_id="1", cpus=0, elapsed=0, cpu_seconds=0, memory=0, gpus=0, gpu_use=0)
    assert (bare.cpu_efficiency, bare.memory_efficiency, bare.gpu_efficiency) == (None, None, None)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with in_thread(tmp_path_factory.mktemp("usage") / "home") as gateway:
        yield gateway


async def test_a_local_job_and_the_command(gateway: RunningGateway, tmp_path: Path) -> None:
    site = {
        "url": gateway.url, "token_url": gateway.token_url, "system": gateway.system,
        "client_id": gateway.client[0], "client_secret": gateway.client[1],
    }  # fmt: skip
    register_site("here", **site)
    command = Command(tmp_path)
    register_site("here", file=command.sites_file, **site)
    script = "#!/bin/bash\n#SBATCH --mem=4G\nfor i in {1..20000}; do :; done\n"
    async with connect("here") as system:
        assert Capability.JOB_USAGE in system.capabilities
        job = await system.wait(await system.submit(JobSpec(script=script, workdir=str(tmp_path), name="busy")))
        (used,) = await system.usage(job)
        with pytest.raises(JobNotFoundError):
            await system.usage("987654")
    assert used.job_id == job.job_id
    assert used.cpu_seconds is not None
    assert used.cpu_seconds > 0
    assert used.memory_limit == 4 << 30
    assert used.memory_efficiency is not None
    assert 0 < used.memory_efficiency < 1
    lines = command("job", job.job_id).stdout.decode().splitlines()
    told = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert told["Name"] == "busy"
    assert told["State"] == "completed"
    assert told["Peak memory"].split(" of ")[1].startswith("4.0 GiB (")
    assert json.loads(command("job", job.job_id, "--json").stdout)["usage"]["memory_limit"] == 4 << 30


async def test_real_slurm_is_asked(slurm_gateway: SlurmGateway) -> None:
    client_id, secret = slurm_gateway.client_of("alice")
    async with connect(gateway_site(slurm_gateway, client_id=client_id, client_secret=secret)) as system:
        workdir = await system.default_workdir()
        job = await system.submit(JobSpec(script="#!/bin/bash\ntrue\n", workdir=workdir))
        await system.wait(job)
        (used,) = await system.usage(job)
    assert (used.job_id, used.cpus) == (job.job_id, 1)
    assert used.memory is None  # this cluster gathers nothing
