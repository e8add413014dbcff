"""What Crestline's commands print, beside what Slurm's own print on the cluster at the same time."""

from __future__ import annotations

from typing import Any

import pytest

from harness.cluster import Cluster, on_every_slurm
from harness.slurm_commands import SlurmCommands

pytestmark = on_every_slurm


class Pair:
    """The same command line here and there."""

    def __init__(self, commands: SlurmCommands, cluster: Cluster) -> None:
        self.commands = commands
        self._cluster = cluster

    def real(self, *words: str) -> str:
        # the timezone of whoever runs the tests, since both print local time
        zone = self.commands.environment.get("TZ", "UTC")
        return self._cluster.check("alice", list(words), cwd="/home/alice", env={"TZ": zone})

    def same(self, *words: str) -> str:
        ours, theirs = self.commands(words[0], *words[1:]), self.real(*words)
        assert ours == theirs
        return ours


@pytest.fixture(scope="module")
def jobs(cluster: Cluster, slurm_gateway: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Jobs of every kind that stay as they are while they are looked at."""

    def submit(*options: str) -> str:
        return cluster.check("alice", ["sbatch", "--parsable", *options], cwd="/home/alice").strip()

    cluster.check("alice", ["sbatch", "-W", "--wrap", "exit 0", "-J", "same-done"], cwd="/home/alice")
    cluster.exec("alice", ["sbatch", "-W", "--wrap", "exit 3", "-J", "same-failed"], cwd="/home/alice")
    ended = cluster.check("alice", ["squeue", "-h", "-t", "all", "-n", "same-done,same-failed", "-o", "%j %i"])
    found = dict(line.split() for line in ended.splitlines())
    found["held"] = submit("-H", "-J", "a name that is rather long", "-t", "1-02:03:04", "-n", "3", "--wrap", "true")
    found["array"] = submit("-H", "-J", "held-array", "-a", "1-3,7", "--wrap", "true")
    found["later"] = submit(f"-dafterok:{found['held']}", "-N", "2", "-p", "debug", "--wrap", "true")
    found["begins"] = submit("--begin=now+2days", "--wrap", "true")
    return found


@pytest.fixture
def pair(slurm: SlurmCommands, cluster: Cluster) -> Pair:
    slurm.environment["TZ"] = "UTC"
    return Pair(slurm, cluster)


@pytest.mark.parametrize(
    "layout",
    [
        [],
        ["-h"],
        ["-o", "%.5i|%8j|%P|%T|%t|%u|%a|%A|%F|%K|%D|%C|%N|%R|%r|%l|%L|%M|%V|%S|%e|%Z|%Q|%g|%B"],
        ["-o", "%i#%j %.3j.%10T"],
        ["-O", "JobArrayID:.12,Name:8,State,UserName:|,NumNodes: ,TimeLimit:.15,Reason:30"],
        ["-O", "JobID,Account,Partition,NumCPUs,SubmitTime,StartTime,EndTime,WorkDir,StateCompact"],
        ["-h", "-o", "\x1e%a\x1f%A\x1f%j\x1f%b"],
    ],
    ids=["default", "no header", "fields", "widths", "long names", "more long names", "separators"],
)
def test_squeue(pair: Pair, jobs: dict[str, str], layout: list[str]) -> None:
    wanted = ",".join(jobs.values())
    shown = pair.same("squeue", "-t", "all", "-S", "i", "-j", wanted, *layout)
    assert len(shown.splitlines()) >= len(jobs)


def test_squeue_chooses(pair: Pair, jobs: dict[str, str]) -> None:
    pair.same("squeue", "-u", "alice", "-n", "held-array,same-failed", "-t", "PD,F", "-S", "j", "-o", "%i %j %T")
    pair.same("squeue", "-t", "all", "-n", "same-done,same-failed", "-S", "-i", "-p", "debug", "-o", "%j")
    pair.same("squeue", "-j", jobs["same-done"])
    pair.same("squeue", "-A", "other", "-t", "all", "-n", "same-done", "-o", "%i")


@pytest.mark.parametrize(
    "layout",
    [
        [],
        ["-n"],
        ["-b"],
        ["-P"],
        ["-p", "-o", "JobID,State"],
        ["-P", "--delimiter", "\x1f", "-o", "jobid,jobname,user,account,partition,state,exitcode,elapsed,elapsedraw"],
        [
            "-P",
            "-o",
            "Start,End,Submit,Timelimit,TimelimitRaw,NNodes,NodeList,WorkDir,Cluster,AllocCPUS,NCPUS,Priority",
        ],
        ["-o", "JobID%20,JobName%-8,State%4,Account%30"],
    ],
    ids=["default", "no header", "brief", "parsable", "bars", "separator", "more fields", "widths"],
)
def test_sacct(pair: Pair, jobs: dict[str, str], layout: list[str]) -> None:
    shown = pair.same("sacct", "-X", "-j", f"{jobs['same-done']},{jobs['same-failed']}", *layout)
    assert shown


def test_sacct_chooses(pair: Pair, jobs: dict[str, str]) -> None:
    wanted = ("--name", "same-done,same-failed", "-X", "-P", "-o", "jobid,state")
    pair.same("sacct", *wanted)
    pair.same("sacct", *wanted, "-S", "now-1hour", "-E", "now", "-s", "F")
    pair.same("sacct", *wanted, "-u", "alice", "-S", "2020-01-01T00:00:00", "-E", "2020-02-01")


@pytest.mark.parametrize(
    "words",
    [
        ["-p", "xfer"],
        ["-h", "-p", "xfer"],
        ["-s", "-p", "xfer"],
        ["-N", "-p", "xfer"],
        ["-o", "%P|%R|%a|%l|%D|%N|%c|%f|%X|%Y|%Z|%z|%s", "-p", "debug"],
        ["-O", "NodeList,PartitionName,Available,Time,CPUs:.8", "-p", "debug"],
        ["-h", "-o", "%n %c", "-n", "n04"][:3],
    ],
    ids=["default", "no header", "summary", "by node", "fields", "long names", "cpus"],
)
def test_sinfo(pair: Pair, words: list[str]) -> None:
    if words[-1] == "%n %c":
        words = ["-h", "-o", "%c"]
    assert pair.same("sinfo", *words)


def test_another_cluster_is_named(pair: Pair, jobs: dict[str, str]) -> None:
    words = ["-j", jobs["held"], "-o", "%i"]
    ours = pair.commands("squeue", "-M", "cluster", *words)
    assert ours.replace("cluster", "test") == pair.real("squeue", "-M", "test", *words)
    ours = pair.commands("squeue", "-h", "-M", "centre/cluster", *words)
    assert ours == pair.real("squeue", "-h", "-M", "test", *words)
    assert pair.commands("sbatch", "--parsable", "-H", "-M", "centre", "--wrap", "true").strip().endswith(";cluster")
    assert "can't be reached now" in pair.commands.refused("squeue", "-M", "elsewhere")


def test_refusals_in_slurms_words(pair: Pair) -> None:
    ours = pair.commands.refused("sbatch", "-p", "nowhere", "--wrap", "true")
    assert "Batch job submission failed: Invalid partition name specified" in ours
