"""What Crestline's commands print, beside what Slurm's own print on the cluster at the same time."""

from __future__ import annotations

import json
import re
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
        # the timezone of the user who runs the tests, since both print local time
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


def _contained(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Return the values that differ from Slurm's; values that are left out do not count."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        missing = [f"{path}.{key}" for key in ours if key not in theirs]
        return missing + [
            each for key in ours if key in theirs for each in _contained(ours[key], theirs[key], f"{path}.{key}")
        ]
    return [] if ours == theirs else [f"{path}: {ours!r}, not {theirs!r}"]


def _pairs(text: str) -> list[dict[str, str]]:
    """The blocks of scontrol."""
    return [dict(re.findall(r"(\S+?)=(\S*)", block)) for block in re.split(r"\n\s*\n", text) if block.strip()]


@pytest.mark.parametrize(
    "words",
    [
        ["show", "job", "{}"],
        ["-o", "show", "job", "{}"],
        ["show", "node"],
        ["show", "node", "n[01-02]"],
        ["show", "partition"],
        ["show", "partition", "xfer"],
    ],
    ids=" ".join,
)
def test_scontrol_shows(pair: Pair, jobs: dict[str, str], words: list[str]) -> None:
    for name in ("same-done", "held", "array", "later") if "{}" in words else ("",):
        given = ["scontrol", *(word.format(jobs.get(name)) for word in words)]
        ours, theirs = _pairs(pair.commands(*given)), _pairs(pair.real(*given))
        assert len(ours) == len(theirs)
        for told, real in zip(ours, theirs, strict=True):
            assert len(told) >= 10 - 3 * ("partition" in words)
            told.pop("FreeMem", None)  # changes meanwhile
            if "NumNodes" in real:
                real["NumNodes"] = real["NumNodes"].partition("-")[0]  # 2-2 while it waits, in some versions
            assert _contained(told, real) == []


@pytest.mark.parametrize(
    "words",
    [
        ["show", "hostnames", "n[01-03,07],login"],
        ["show", "hostlist", "n01,n02,n04"],
        ["show", "hostlistsorted", "n02,n01"],
        ["show", "reservation"],
    ],
    ids=" ".join,
)
def test_scontrol_prints_the_same(pair: Pair, words: list[str]) -> None:
    assert pair.same("scontrol", *words)


@pytest.mark.parametrize(
    "words",
    [
        ["show", "job", "999999"],
        ["show", "node", "nowhere"],
        ["show", "partition", "nowhere"],
        ["show", "colours"],
        ["frobnicate"],
    ],
    ids=" ".join,
)
def test_scontrol_refuses_in_slurms_words(pair: Pair, cluster: Cluster, words: list[str]) -> None:
    theirs = cluster.exec("alice", ["scontrol", *words])
    assert pair.commands.refused("scontrol", *words).strip() in (theirs.stderr + theirs.stdout)
    assert theirs.exit_status == 1


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["squeue", "-t", "all", "-S", "i", "-j", "{}", "--json"], "jobs"),
        (["scontrol", "show", "job", "{}", "--json"], "jobs"),
        (["sacct", "-X", "-j", "{}", "--json"], "jobs"),
        (["sinfo", "-p", "xfer", "--json"], "sinfo"),
        (["scontrol", "show", "node", "n02", "--json"], "nodes"),
        (["scontrol", "show", "partition", "debug", "--json"], "partitions"),
    ],
    ids=["squeue", "scontrol job", "sacct", "sinfo", "scontrol node", "scontrol partition"],
)
def test_documents_tell_what_slurms_tell(
    pair: Pair, cluster: Cluster, jobs: dict[str, str], words: list[str], key: str
) -> None:
    """In the shape of Slurm 24.11; an older one has another shape, which no command of ours prints."""
    for name in ("same-done", "same-failed", "held", "array") if "{}" in words else ("",):
        if name in ("held", "array") and words[0] == "sacct":
            continue  # accounting and queue differ on jobs that wait
        given = [word.format(jobs.get(name)) for word in words]
        ours = json.loads(pair.commands(*given))
        assert set(ours) >= {key, "meta", "errors", "warnings"}
        if pair.commands("scontrol", "version") and "24.11" not in pair.real("scontrol", "version"):
            continue
        theirs = json.loads(pair.real(*given))
        assert len(ours[key]) == len(theirs[key])
        for told, real in zip(ours[key], theirs[key], strict=True):
            told.pop("free_mem", None)
            if words[0] == "sacct":
                told.pop("steps")  # none are told
            assert _contained(told, real) == []


def test_srun_prints_what_the_real_one_prints(pair: Pair, cluster: Cluster) -> None:
    assert pair.same("srun", "-n", "2", "echo", "a task").splitlines() == ["a task"] * 2
    ours = pair.commands.run("srun", "-J", "seven", "sh", "-c", "echo out; echo err >&2; exit 7")
    theirs = cluster.exec("alice", ["srun", "sh", "-c", "echo out; exit 7"], cwd="/home/alice")
    assert (ours.returncode, ours.stdout) == (theirs.exit_status, theirs.stdout) == (7, "out\n")
    assert "err\n" in ours.stderr
    assert ".srun-" not in cluster.check("alice", ["ls", "-A", "/home/alice"])


def test_a_large_array(pair: Pair, cluster: Cluster) -> None:
    array = pair.commands("sbatch", "--parsable", "-H", "-J", "large", "-a", "0-1999%7", "--wrap", "true").strip()
    try:
        shown = pair.same("squeue", "-h", "-r", "-j", array, "-o", "%i %K %t")
        assert len(shown.splitlines()) == 2000
        pair.same("squeue", "-h", "-j", array, "-o", "%i %t")
        pair.commands("scancel", f"{array}_[3-5]")
        assert len(pair.same("squeue", "-h", "-r", "-j", array, "-o", "%i").splitlines()) == 1997
    finally:
        pair.commands("scancel", array)


@pytest.mark.parametrize(
    "variables",
    [
        {"SQUEUE_FORMAT": "%i|%j"},
        {"SQUEUE_FORMAT2": "JobID:12,Name:20"},
        {"SQUEUE_STATES": "PD", "SQUEUE_SORT": "-i", "SQUEUE_NAMES": "held-array"},
        {"SQUEUE_USERS": "bob"},
        {"SQUEUE_ACCOUNT": "other"},
        {"SQUEUE_PARTITION": "xfer"},
        {"SQUEUE_ARRAY": "1", "SQUEUE_FORMAT": "%i"},
    ],
    ids=lambda given: " ".join(given),
)
def test_variables_of_squeue(pair: Pair, cluster: Cluster, jobs: dict[str, str], variables: dict[str, str]) -> None:
    variables = {"SQUEUE_SORT": "i"} | variables
    wanted = ["-j", ",".join(jobs.values())]
    ours = pair.commands("squeue", *wanted, **variables)
    environment = {"TZ": "UTC", **variables}  # and an order, since equal priorities leave it open
    assert ours == cluster.check("alice", ["squeue", *wanted], cwd="/home/alice", env=environment)


@pytest.mark.parametrize(
    "words",
    [
        ["sacctmgr", "-n", "-s", "list", "user", "alice", "format=account%256"],
        ["sacctmgr", "-P", "show", "association", "user=alice", "format=account,user"],
        ["sacctmgr", "show", "user", "alice", "format=user,defaultaccount%20"],
        ["sacctmgr", "-nP", "show", "user", "alice", "withassoc", "format=Account"],
        ["sshare", "-U", "--format", "Account%256", "--noheader"],
        ["sshare", "-U", "-P", "-o", "Account,User"],
    ],
    ids=" ".join,
)
def test_accounts(pair: Pair, words: list[str]) -> None:
    ours, theirs = pair.commands(*words), pair.real(*words)
    assert sorted(ours.splitlines()) == sorted(theirs.splitlines())  # versions differ in the order
    assert ours


def test_sprio(pair: Pair, jobs: dict[str, str]) -> None:
    assert pair.commands("sprio", "-h", "-j", jobs["held"]) == ""  # held jobs have none
    line = pair.commands("sprio", "-h", "-o", "%i %Y", "-j", jobs["begins"])
    assert line == pair.real("squeue", "-h", "-j", jobs["begins"], "-o", "%i %Q")


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
