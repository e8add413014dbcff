"""A job's life under the `local` scheduler: real processes, from submission to the record of their end."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from crestline.gateway.schedulers.base import JobQuery
from crestline.gateway.schedulers.local.machine import build_cluster, list_nodes
from crestline.gateway.schedulers.local.options import LocalOptions, NodesConfig, PartitionConfig
from crestline.gateway.schedulers.local.scheduler import LocalScheduler
from crestline.model import (
    ConfigError,
    InvalidRequestError,
    JobNotFoundError,
    PermissionDeniedError,
)
from crestline.wire.compute import JobDescription
from harness.local_scheduler import USER, Bench, bench, nodes

pytestmark = pytest.mark.anyio


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(tmp_path) as running:
        yield running


async def test_a_job_runs_and_is_reported(local: Bench) -> None:
    info = await local.run("echo hello; echo oops >&2", name="greeting", account="proj", env={"A": "b"})
    assert info.status.state == "COMPLETED"
    assert info.status.state_reason == "None"
    assert (info.status.exit_code, info.status.interrupt_signal) == (0, 0)
    assert (info.name, info.account, info.user, info.partition) == ("greeting", "proj", USER, "normal")
    assert (info.cluster, info.nodes, info.allocation_nodes) == ("testing", "n1", 1)
    assert info.working_directory == str(local.work)
    assert info.time.start is not None
    assert info.time.end is not None
    assert info.time.submit is not None
    assert info.time.submit <= info.time.start <= info.time.end
    assert info.tasks is not None
    assert [(task.id, task.name, task.status.state) for task in info.tasks] == [
        (f"{info.job_id}.batch", "batch", "COMPLETED")
    ]
    assert local.output(info.job_id) == "hello\noops\n"


@pytest.mark.parametrize(
    ("script", "exit_code", "signal", "reason"),
    [
        ("exit 7", 7, 0, "NonZeroExitCode"),
        ("kill -KILL $$", 0, 9, "RaisedSignal:9(Killed)"),
        ("sh -c 'kill -TERM $$'", 143, 0, "NonZeroExitCode"),
    ],
)
async def test_how_a_job_fails(local: Bench, script: str, exit_code: int, signal: int, reason: str) -> None:
    status = (await local.run(script)).status
    assert (status.state, status.exit_code, status.interrupt_signal) == ("FAILED", exit_code, signal)
    assert status.state_reason == reason


async def test_an_interpreter_that_does_not_exist(local: Bench) -> None:
    info = await local.run("#!/no/such/program\n")
    assert (info.status.state, info.status.exit_code) == ("FAILED", 127)
    assert info.status.state_reason == "Cannot run /no/such/program: No such file or directory"
    assert "Cannot run /no/such/program" in local.output(info.job_id)


async def test_interpreters_and_their_argument(local: Bench) -> None:
    info = await local.run(f"#! {sys.executable} -I\nimport sys; print(sys.flags.isolated, sys.argv[1:])\n")
    assert local.output(info.job_id) == "1 []\n"


async def test_a_stream_that_cannot_be_opened(local: Bench) -> None:
    info = await local.run("echo hello", standard_output="no/such/folder/out")
    assert info.status.state == "FAILED"
    assert "no/such/folder/out No such file or directory" in (info.status.state_reason or "")


async def test_streams(local: Bench) -> None:
    local.file("in.txt").write_text("from a file\n")
    job_id = await local.submit(
        "cat; echo err >&2",
        name="na me",
        standard_input="in.txt",
        standard_output="%x-%u-%j-%5j-%A-%N-%%-%q.out",
        standard_error=str(local.work / "err.%J"),
    )
    await local.end(job_id)
    out = local.work / f"na me-{USER}-{job_id}-{job_id.zfill(5)}-{job_id}-n1-%-%q.out"
    assert out.read_text() == "from a file\n"
    assert local.file(f"err.{job_id}").read_text() == "err\n"
    (meta,) = await local.scheduler.metadata(USER, job_id)
    assert meta.job_id == job_id
    assert meta.script == "#!/bin/sh\ncat; echo err >&2\n"
    assert meta.standard_input == str(local.work / "in.txt")
    assert meta.standard_output == str(out)
    assert meta.standard_error == str(local.work / f"err.{job_id}")


async def test_a_backslash_switches_patterns_off(local: Bench) -> None:
    await local.run("echo x", standard_output="\\%j.out")
    assert local.file("%j.out").read_text() == "x\n"


@pytest.mark.parametrize(("mode", "content"), [("append", "old\nnew\n"), ("truncate", "new\n")])
async def test_open_mode(local: Bench, mode: str, content: str) -> None:
    local.file("out").write_text("old\n")
    await local.run(f"#!/bin/sh\n#SBATCH --open-mode={mode} -o out\necho new\n")
    assert local.file("out").read_text() == content


async def test_warnings_come_first_in_stderr(local: Bench) -> None:
    await local.run("#!/bin/sh\n#SBATCH --foo=1 --gres=gpu:1\n#SBATCH -e err\n#PBS -l nodes=1\necho mine >&2\n")
    assert local.file("err").read_text() == (
        "crestline: warning: #SBATCH option --foo=1 is unknown and was ignored\n"
        "crestline: warning: #SBATCH option --gres has no effect on this system\n"
        "mine\n"
    )


async def test_environment(local: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRESTLINE_TEST_SECRET", "s3cret")
    monkeypatch.setenv("TZ", "Europe/Zurich")
    values = {"COMMAS": "1,2,3", "LINES": "a\nb\n", "QUOTES": "'\"`$HOME\\", "ÜMLAUT": "ä", "EMPTY": ""}
    lines = "#SBATCH -n 2 -c 2 --mem=1G -t 5\nimport json, os; print(json.dumps(dict(os.environ)))\n"
    script = f"#!{sys.executable} -I\n{lines}"
    info = await local.run(script, name="the job", account="proj", env=values)
    found = json.loads(local.output(info.job_id))
    account = pwd.getpwuid(os.getuid())
    assert found | values == found
    assert "CRESTLINE_TEST_SECRET" not in found
    assert found["PATH"].split(":")[0] == str(local.home / "bin")
    expected = {
        "HOME": account.pw_dir,
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "SHELL": account.pw_shell,
        "PWD": str(local.work),
        "TZ": "Europe/Zurich",
        "SLURM_JOB_ID": info.job_id,
        "SLURM_JOBID": info.job_id,
        "SLURM_JOB_NAME": "the job",
        "SLURM_JOB_ACCOUNT": "proj",
        "SLURM_JOB_PARTITION": "normal",
        "SLURM_JOB_NODELIST": "n1",
        "SLURM_NODELIST": "n1",
        "SLURM_NNODES": "1",
        "SLURM_NTASKS": "2",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_CPUS_ON_NODE": "4",
        "SLURM_MEM_PER_NODE": "1024",
        "SLURM_TASKS_PER_NODE": "2",
        "SLURM_SUBMIT_DIR": str(local.work),
        "SLURM_CLUSTER_NAME": "testing",
        "SLURM_RESTART_COUNT": "0",
        "SLURMD_NODENAME": "n1",
    }
    assert found | expected == found
    known = {"PATH", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "CRESTLINE_JOB", "CRESTLINE_JOB_DIR", *expected, *values}
    known.add("BASH_FUNC_srun%%")  # finds `srun` in every bash of a job
    assert {name for name in found if not name.startswith("SLURM_")} <= known


async def test_nothing_of_a_job_is_readable_by_others(local: Bench) -> None:
    info = await local.run("true", env={"TOKEN": "secret"})
    assert stat.S_IMODE(local.home.stat().st_mode) == 0o700
    assert stat.S_IMODE((local.home / "jobs" / info.job_id).stat().st_mode) == 0o700


async def test_script_by_path(local: Bench) -> None:
    script = local.file("run.sh")
    script.write_bytes(b"#!/bin/sh\n#SBATCH -o out\nprintf 'gr\xfc\xdf\\n'\n")
    job_id = await local.scheduler.submit(USER, _description(local, script_path=str(script)))
    script.unlink()  # the scheduler has its own copy
    info = await local.end(job_id)
    assert info.name == "run.sh"
    assert local.file("out").read_bytes() == b"gr\xfc\xdf\n"


def _description(local: Bench, **fields: Any) -> JobDescription:
    return JobDescription(**{"working_directory": str(local.work)} | fields)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "has no script"),
        ({"script": "#!/bin/sh\n", "script_path": "/etc/profile"}, "both a script and a scriptPath"),
        ({"script": "echo"}, "does not name an interpreter"),
        ({"script": ""}, "does not name an interpreter"),
        ({"script_path": "run.sh"}, "not absolute"),
        ({"script_path": "/no/such/file"}, "cannot be read: No such file"),
        ({"script_path": "/etc"}, "cannot be read: Is a directory"),
        ({"script_path": "/a\0b"}, "cannot be read"),
        ({"script": "#!/bin/sh\n", "working_directory": "/no/such/folder"}, "does not exist"),
        ({"script": "#!/bin/sh\n", "working_directory": "/etc/passwd"}, "is not a directory"),
        ({"script": "#!/bin/sh\n", "partition": "gpu"}, "Choose one of: normal"),
        ({"script": "#!/bin/sh\n#SBATCH -n 5\n"}, "can never run"),
        ({"script": "#!/bin/sh\n#SBATCH --mem=1T\n"}, "can never run"),
        ({"script": "#!/bin/sh\n#SBATCH -d afterok:999\n"}, "job 999, which does not exist"),
        ({"script": "#!/bin/sh\n#SBATCH -d nonsense\n"}, "is not a condition"),
    ],
)
async def test_refusals_say_what_to_do(local: Bench, fields: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidRequestError, match=text) as caught:
        await local.scheduler.submit(USER, _description(local, **fields))
    assert caught.value.hint
    assert await local.scheduler.jobs(USER, JobQuery()) == []


async def test_time_limit(tmp_path: Path) -> None:
    async with bench(tmp_path, kill_wait=0.2) as local:
        info = await local.run("#!/bin/sh\n#SBATCH -t 0:01\ntrap '' TERM\nsleep 1000 & while :; do wait; done\n")
        assert info.status.state == "TIMEOUT"
        assert info.status.state_reason == "TimeLimit"
        assert info.status.interrupt_signal == 9
        assert info.time.limit == 1


async def test_partition_limits(tmp_path: Path) -> None:
    config = nodes(normal={"max_time": 120, "default_time": 60}, open={})
    async with bench(tmp_path, config) as local:
        hold = "#!/bin/sh\n#SBATCH --hold {}\n"
        for option, partition, limit in (
            ("", "normal", 60),
            ("-t 2", "normal", 120),
            ("-t 0", "normal", 120),
            ("-t 3", "open", 180),
            ("", "open", None),
        ):
            info = await local.info(await local.submit(hold.format(option), partition=partition))
            assert info.time.limit == limit
        with pytest.raises(InvalidRequestError, match="exceeds that of partition normal"):
            await local.submit(hold.format("-t 3"))


async def test_cancel_a_running_job(local: Bench) -> None:
    job_id = await local.submit("echo up > up; sleep 1000")
    await local.content("up")
    await local.scheduler.cancel(USER, job_id)
    info = await local.end(job_id)
    uid = os.getuid()
    assert info.status.state == f"CANCELLED by {uid}"
    assert info.kill_request_user == USER
    assert (info.status.exit_code, info.status.interrupt_signal) == (0, 15)
    await local.scheduler.cancel(USER, job_id)
    assert await local.info(job_id) == info


async def test_a_job_cancelled_while_it_waits_never_runs(local: Bench) -> None:
    first = await local.submit("#!/bin/sh\n#SBATCH -n 4\necho up > up; sleep 1000\n")
    second = await local.submit("touch ran")
    await local.reason(second, "Resources")
    await local.scheduler.cancel(USER, second)
    assert (await local.info(second)).status.state.startswith("CANCELLED")
    await local.scheduler.cancel(USER, first)
    await local.end(first)
    await local.run("true")
    assert not local.file("ran").exists()


async def test_suspend_and_resume(local: Bench) -> None:
    job_id = await local.submit("while :; do echo x >> ticks; done")
    await local.content("ticks")
    await local.state(job_id, "RUNNING")
    await local.scheduler.suspend(USER, job_id)
    assert (await local.info(job_id)).status.state == "SUSPENDED"
    size = local.file("ticks").stat().st_size
    await local.run("i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done")  # time passes
    assert local.file("ticks").stat().st_size == size
    await local.scheduler.suspend(USER, job_id)
    await local.scheduler.resume(USER, job_id)
    assert (await local.info(job_id)).status.state == "RUNNING"
    await local.until(job_id, lambda _: local.file("ticks").stat().st_size > size)
    await local.scheduler.suspend(USER, job_id)
    await local.scheduler.cancel(USER, job_id)
    assert (await local.end(job_id)).status.state.startswith("CANCELLED")


async def test_the_time_limit_waits_while_a_job_is_suspended(local: Bench) -> None:
    job_id = await local.submit("#!/bin/sh\n#SBATCH -t 0:02\necho up > up\nsleep 1000\n")
    await local.content("up")
    await local.state(job_id, "RUNNING")
    await local.scheduler.suspend(USER, job_id)
    await local.run("sleep 3")
    assert (await local.info(job_id)).status.state == "SUSPENDED"
    await local.scheduler.resume(USER, job_id)
    info = await local.end(job_id)
    assert info.status.state == "TIMEOUT"
    assert info.time.suspended is not None
    assert info.time.suspended >= 2
    assert info.time.elapsed is not None
    assert info.time.end is not None
    assert info.time.start is not None
    assert info.time.elapsed <= info.time.end - info.time.start - 2


async def test_attach(local: Bench) -> None:
    job_id = await local.submit("echo up > up; sleep 1000", env={"WHO": "me"})
    await local.content("up")
    await local.state(job_id, "RUNNING")
    group_of = "$(cut -d' ' -f5 /proc/$$/stat)"
    script = f'echo "$WHO $SLURM_JOB_ID $SLURM_STEP_ID $PWD {group_of}" > attached; exit 3'
    command = shlex.join(["sh", "-c", script, "; touch x"])
    await local.scheduler.attach(USER, job_id, command)
    who, job, step, folder, group = (await local.content("attached")).split()
    assert (who, job, step, folder) == ("me", job_id, "0", str(local.work))
    info = await local.until(job_id, lambda info: len(info.tasks or []) == 2 and info.tasks[1].status.state == "FAILED")  # type: ignore[index]
    assert info.tasks is not None
    assert (info.tasks[1].id, info.tasks[1].name, info.tasks[1].status.exit_code) == (f"{job_id}.0", "sh", 3)
    assert os.getpgid(int(group)) == int(group)
    assert local.output(job_id) == ""
    assert not local.file("x").exists()


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("no-such-program", "does not exist"),
        ("./nothing", "does not exist"),
        ("'open", "cannot be read"),
        (" ", "empty"),
    ],
)
async def test_attach_refuses_what_is_no_command(local: Bench, command: str, text: str) -> None:
    job_id = await local.submit("echo up > up; sleep 1000")
    await local.content("up")
    await local.state(job_id, "RUNNING")
    with pytest.raises(InvalidRequestError, match=text):
        await local.scheduler.attach(USER, job_id, command)


async def test_attach_needs_a_running_job(local: Bench) -> None:
    waiting = await local.submit("#!/bin/sh\n#SBATCH --hold\n")
    ended = (await local.run("true")).job_id
    for job_id in (waiting, ended):
        with pytest.raises(InvalidRequestError, match="not running"):
            await local.scheduler.attach(USER, job_id, "true")
    with pytest.raises(JobNotFoundError):
        await local.scheduler.attach(USER, "999", "true")


async def test_srun(local: Bench) -> None:
    info = await local.run(
        "#!/bin/sh\n#SBATCH -n 2\n"
        "srun sh -c 'echo $SLURM_PROCID/$SLURM_NTASKS/$SLURM_LOCALID/$SLURM_STEP_ID > rank.$SLURM_PROCID'\n"
        "srun -n3 --mpi=none -l -c 1 --cpu-bind none sh -c 'echo $SLURM_NTASKS > three.$SLURM_PROCID'\n"
        "srun -n 1 sh -c 'exit 5'; echo $?\n"
        "srun no-such-program; echo $?\n"
    )
    assert info.status.state == "COMPLETED"
    assert [local.file(f"rank.{rank}").read_text() for rank in (0, 1)] == ["0/2/0/0\n", "1/2/1/0\n"]
    assert {path.name for path in local.work.glob("three.*")} == {"three.0", "three.1", "three.2"}
    assert [line for line in local.output(info.job_id).splitlines() if line.isdigit()] == ["5", "127"]
    assert info.tasks is not None
    assert [(task.name, task.status.state, task.status.exit_code) for task in info.tasks] == [
        ("batch", "COMPLETED", 0),
        ("sh", "COMPLETED", 0),
        ("sh", "COMPLETED", 0),
        ("sh", "FAILED", 5),
        ("no-such-program", "FAILED", 127),
    ]


@pytest.mark.parametrize(
    "interpreter", ["/bin/bash -l", "/bin/bash --login", "/bin/bash -el", "/bin/sh -l", "/usr/bin/env -S bash -l"]
)
async def test_srun_is_found_by_login_shells(local: Bench, interpreter: str) -> None:
    script = f"#!{interpreter}\nsrun sh -c 'echo ran'\necho $0 $#\nif true; then exit 7; fi\necho never\n"
    info = await local.run(script)
    ran, about = local.output(info.job_id).splitlines()[-2:]
    assert (info.status.exit_code, ran) == (7, "ran")
    assert about.endswith("/script 0")


@pytest.mark.parametrize(
    "command", ["bash -lc 'srun false'", ". /etc/profile; srun false", "PATH=/usr/bin:/bin; srun false"]
)
async def test_srun_is_found_where_path_is_set_anew(local: Bench, command: str) -> None:
    info = await local.run(f"#!/bin/bash\n{command}\n")
    assert info.status.exit_code == 1
    assert info.tasks is not None
    assert [task.name for task in info.tasks] == ["batch", "false"]


async def test_steps_end_with_their_job(local: Bench) -> None:
    info = await local.run("srun sh -c 'echo up > up; sleep 1000' & while [ ! -e up ]; do sleep 0.01; done; exit 0")
    assert info.status.state == "COMPLETED"
    assert info.tasks is not None
    step = info.tasks[1]
    assert step.status.state in ("FAILED", "CANCELLED")
    assert step.time.end is not None


async def test_users_see_their_own(local: Bench) -> None:
    mine = (await local.run("true", name="mine", account="a")).job_id
    theirs = await local.submit("#!/bin/sh\n#SBATCH --hold\n", user="bob", name="theirs", account="b")

    async def listed(user: str, **query: Any) -> list[str]:
        return [info.job_id for info in await local.scheduler.jobs(user, JobQuery(**query))]

    assert await listed(USER) == [mine]
    assert await listed("bob") == [theirs]
    assert await listed("eve") == []
    assert await listed(USER, all_users=True) == [mine, theirs]
    assert await listed(USER, all_users=True, names=frozenset({"theirs"})) == [theirs]
    assert await listed(USER, all_users=True, accounts=frozenset({"a"})) == [mine]
    assert await listed(USER, ids=(mine, theirs, "999", "nonsense", f"{mine}_1")) == [mine]
    assert await listed(USER, ids=(mine, theirs), all_users=True) == [mine, theirs]
    for act in (local.scheduler.cancel, local.scheduler.metadata, local.scheduler.suspend, local.scheduler.release):
        with pytest.raises(PermissionDeniedError):
            await act(USER, theirs)
        with pytest.raises(JobNotFoundError):
            await act(USER, "999")
    with pytest.raises(PermissionDeniedError):
        await local.scheduler.attach(USER, theirs, "true")
    await local.scheduler.cancel("bob", theirs)


async def test_names_that_upset_parsers(local: Bench) -> None:
    for name in ("a|b", "line\nbreak", "\"quo'tes`", "名前", "n" * 300, "$(touch x)", "; touch x"):
        info = await local.run("true", name=name)
        assert info.name == name
        assert info.status.state == "COMPLETED"
        found = await local.scheduler.jobs(USER, JobQuery(names=frozenset({name})))
        assert [each.job_id for each in found] == [info.job_id]
    assert not local.file("x").exists()


async def test_a_key_names_one_submission(local: Bench) -> None:
    first = await local.submit("#!/bin/sh\n#SBATCH --hold\n", key="k")
    assert await local.submit("#!/bin/sh\n#SBATCH --hold\n", key="k") == first
    assert await local.scheduler.find(USER, "k") == first
    assert await local.scheduler.find("bob", "k") is None
    assert await local.scheduler.find(USER, "other") is None
    assert await local.submit("#!/bin/sh\n#SBATCH --hold\n", user="bob", key="k") != first


async def test_hold_and_release(local: Bench) -> None:
    job_id = await local.submit("#!/bin/sh\n#SBATCH --hold\ntouch ran\n")
    await local.reason(job_id, "JobHeldUser")
    await local.run("true")
    assert not local.file("ran").exists()
    await local.scheduler.release(USER, job_id)
    assert (await local.end(job_id)).status.state == "COMPLETED"
    assert local.file("ran").exists()


async def test_begin(local: Bench) -> None:
    job_id = await local.submit("#!/bin/sh\n#SBATCH --begin=now+2\ntrue\n")
    await local.reason(job_id, "BeginTime")
    info = await local.end(job_id)
    assert info.time.start is not None
    assert info.time.submit is not None
    assert info.time.start - info.time.submit >= 1


async def test_nodes_and_partitions(tmp_path: Path) -> None:
    config = LocalOptions(
        nodes=[NodesConfig(names=["n1", "n2"], cpus=4, memory=1000), NodesConfig(names=["big"], cpus=8, memory=2000)],
        partitions=[PartitionConfig(name="small", nodes=["n1", "n2"]), PartitionConfig(name="all")],
    )
    async with bench(tmp_path, config) as local:
        job_id = await local.submit("#!/bin/sh\n#SBATCH -N 2 -n 5 --mem=100\nsleep 1000\n")
        info = await local.state(job_id, "RUNNING")
        assert (info.nodes, info.allocation_nodes, info.partition) == ("n[1-2]", 2, "small")
        found = {node.name: node for node in await local.scheduler.nodes(USER)}
        assert [
            (node.name, node.state, node.alloc_cpus, node.idle_cpus, node.alloc_memory) for node in found.values()
        ] == [
            ("n1", ["ALLOCATED"], 4, 0, 100),
            ("n2", ["MIXED"], 1, 3, 100),
            ("big", ["IDLE"], 0, 8, 0),
        ]
        assert found["n1"].partitions == ["small", "all"]
        assert found["big"].partitions == ["all"]
        partitions = await local.scheduler.partitions(USER)
        assert [(each.name, each.cpus, each.total_nodes, each.partition) for each in partitions] == [
            ("small", 8, 2, "UP"),
            ("all", 16, 3, "UP"),
        ]
        assert await local.scheduler.ping() == "1 running, 0 pending"
        await local.scheduler.cancel(USER, job_id)
        await local.end(job_id)
        assert {node.alloc_cpus for node in await local.scheduler.nodes(USER)} == {0}
        assert await local.scheduler.reservations(USER) == []
        (account,) = await local.scheduler.accounts(USER)
        assert (account.name, account.default) == (USER, True)


def test_without_configuration_the_machine_is_the_node(tmp_path: Path) -> None:
    (node,) = list_nodes(build_cluster(LocalOptions()))
    assert node.name == os.uname().nodename.partition(".")[0]
    assert node.cpus == len(os.sched_getaffinity(0))
    assert node.partitions == ["normal"]


@pytest.mark.parametrize(
    "config",
    [
        nodes("a", "a"),
        nodes("a", cpus=0),
        LocalOptions(nodes=[]),
        LocalOptions(partitions=[]),
        LocalOptions(partitions=[PartitionConfig(name="p"), PartitionConfig(name="p")]),
        LocalOptions(partitions=[PartitionConfig(name="p", nodes=["nowhere"])]),
    ],
)
def test_configurations_that_cannot_be_used(tmp_path: Path, config: LocalOptions) -> None:
    with pytest.raises(ConfigError):
        LocalScheduler(tmp_path, "testing", config)
