"""What Crestline's commands print, beside what Slurm's own print on the cluster at the same time."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from harness.cluster import Cluster, on_every_slurm
from harness.slurm_commands import SlurmCommands, SlurmCommandsHere
from harness.slurm_gateway import SlurmGateway
from harness.waiting import until_blocking

pytestmark = on_every_slurm


class Pair:
    """The same command line here and there."""

    def __init__(self, commands: SlurmCommands, cluster: Cluster) -> None:
        self.commands = commands
        self._cluster = cluster

    def real(self, *words: str) -> str:
        return self._cluster.check("alice", list(words), cwd="/home/alice", env={"TZ": "UTC"})

    def same(self, *words: str) -> str:
        ours, theirs = self.commands(words[0], *words[1:]), self.real(*words)
        assert ours == theirs
        return ours

    def expected(self, lines: Iterable[str]) -> list[str]:
        """Those that the cluster's Slurm answers as the newest one does."""
        is_old = self._cluster.slurm_version == "22.05"
        return [line for line in lines if not (is_old and line in OTHERWISE_IN_22_05)]

    def differences(self, lines: Sequence[str]) -> list[str]:
        """The command lines, variables before them, that leave something else here than there."""
        return [line for line in lines if not self._agrees(line)]

    def _agrees(self, line: str) -> bool:
        words = shlex.split(line)
        variables = {"TZ": "UTC"}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            variables[name] = value
        for _ in range(3):  # what is looked at may change between two looks
            theirs = self._cluster.exec("alice", words, cwd="/home/alice", env=variables)
            ours = self.commands.run(words[0], *words[1:], **variables)
            if (ours.returncode, ours.stdout, ours.stderr.strip()) == (
                theirs.exit_status,
                theirs.stdout,
                theirs.stderr.strip(),
            ):
                return True
            print(line, ours, theirs, sep="\n")
        return False


def _ended(cluster: Cluster) -> dict[str, str]:
    done = cluster.check("alice", ["sbatch", "-W", "--parsable", "--wrap", "exit 0", "-J", "same-done"], cwd="/tmp")
    failed = cluster.exec("alice", ["sbatch", "-W", "--parsable", "--wrap", "exit 3", "-J", "same-failed"], cwd="/tmp")
    return {"same-done": done.strip(), "same-failed": failed.stdout.strip(), "ended": str(time.monotonic())}


@pytest.fixture(autouse=True)
def _renewed(jobs: dict[str, str], cluster: Cluster) -> None:
    """Slurm forgets ended jobs after five minutes, which a busy machine may need for this file."""
    if time.monotonic() - float(jobs["ended"]) > 120:
        jobs.update(_ended(cluster))


@pytest.fixture(scope="module")
def jobs(cluster: Cluster, slurm_gateway: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Jobs of every kind that stay as they are while they are looked at."""

    def submit(*options: str) -> str:
        return cluster.check("alice", ["sbatch", "--parsable", *options], cwd="/home/alice").strip()

    found = _ended(cluster)
    found["held"] = submit("-H", "-J", "a name that is rather long", "-t", "1-02:03:04", "-n", "3", "--wrap", "true")
    found["array"] = submit("-H", "-J", "held-array", "-a", "1-3,7", "--wrap", "true")
    found["later"] = submit(f"-dafterok:{found['held']}", "-N", "2", "-p", "debug", "--wrap", "true")
    found["begins"] = submit("--begin=now+2days", "--wrap", "true")
    found["limited"] = submit("-H", "-J", "limited", "-a", "1-5%2", "--wrap", "true")
    rich = ["--comment", "a comment", "-A", "other", "-c", "2", "--mem", "100M", "-C", "cpu", "--nice=10", "-p", "xfer"]
    found["rich"] = submit("-H", "-J", "rich", *rich, "-N", "1-1", "-x", "n01", "--exclusive", "--wrap", "true")
    found["tasks"] = submit("-J", "some-tasks", "-a", "1-3", "--wrap", "exit $((SLURM_ARRAY_TASK_ID == 2))")
    found["cancelled"] = submit("-J", "cancelled", "-t", "9", "--wrap", "sleep 600")
    bobs = cluster.check("bob", ["sbatch", "--parsable", "-H", "-J", "bobs", "--wrap", "true"], cwd="/home/bob")
    found["bobs"] = bobs.strip()
    running = ["squeue", "-h", "-j", found["cancelled"], "-o", "%T"]
    until_blocking(lambda: "RUNNING" in cluster.check("alice", running))
    cluster.check("alice", ["scancel", found["cancelled"]])
    live = ["squeue", "-h", "-j", f"{found['tasks']},{found['cancelled']}"]
    until_blocking(lambda: not cluster.check("alice", live))
    return found


@pytest.fixture(scope="module")
def pair(cluster: Cluster, slurm_gateway: SlurmGateway, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    commands = SlurmCommandsHere(tmp_path_factory.mktemp("same") / "here", TZ="UTC")
    client = slurm_gateway.client_of("alice")
    commands.add_site("centre", slurm_gateway.url, slurm_gateway.token_url, client, slurm_gateway.system)
    return Pair(commands, cluster)


# {held} and the like are jobs of the fixture above; {all} are all of them.
TABLES = {
    "squeue": """
        squeue -l -j {all} -h -S i
        squeue --start -j {all} -S i
        squeue -j {all}
        squeue -h -r -S i -j {all} -o %i
        squeue -j {array}_2,{limited}_1 -h -o "%i %K %t"
        squeue -j {limited} -r -o "%i|%K"
        squeue -j {array}_[1-3]
        squeue -j {held}.0 -h -o %i
        squeue -j 999999,{held} -h
        squeue -j abc
        squeue -j 999999
        squeue -t Pending,running -n held-array -h -o %i
        squeue -t PD,r -n held-array -h -o %i
        squeue -t bogus
        squeue -t "CD F"
        squeue -u nosuch -h
        squeue -u bob -h -o %i
        squeue -A nosuch -h
        squeue -p nosuch -h
        squeue -w nosuch -h
        squeue -q normal -n held-array -h -o %i
        squeue -q nosuch -h
        squeue -R none -h
        squeue -L none -h
        squeue -h -S Q,i -o "%Q %i" -j {all}
        squeue -h -S -D,i -o "%D %i" -j {all}
        squeue -h -S l,i -o "%l %i" -j {all}
        squeue -j {all} -S i -o "%a|%A|%b|%B|%c|%C|%d|%D|%e|%E|%f|%F|%g|%G|%h|%H|%i|%I|%j|%J" -t all
        squeue -j {all} -S i -o "%k|%K|%l|%L|%m|%M|%n|%N|%o|%O|%p|%P|%q|%Q|%r|%R|%S|%t|%T|%u|%U" -t all
        squeue -j {all} -S i -o "%v|%V|%w|%W|%x|%X|%y|%Y|%z|%Z" -t all
        squeue -o "" -h -n held-array
        squeue -o "%3" -h -j {held}
        squeue -o "%99i" -h -j {held}
        squeue -o hello -h -j {held}
        squeue -O nosuch -j {held}
        squeue -O JobID,,Name -j {held}
        squeue -O JobID:5,Name:.5,State:5x -j {held}
        squeue -O "batchflag,burstbuffer,command,contiguous,corespec,dependency,eligibletime,feature" -j {rich}
        squeue -O "groupid,licenses,maxcpus,minmemory,mintmpdisk,mincpus,nice,numtasks,oversubscribe" -j {rich}
        squeue -O "qos,reqnodes,requeue,reservation,restartcnt,sct,stdout,tres-alloc,tres-per-node,userid" -j {rich}
        squeue -s -h -u nosuch
        squeue -h -n held-array -n nosuch
        squeue -h -A proj -A nosuch -p debug -p xfer
        squeue -Z
        squeue --frob
        squeue -ho%i -j{held}
        squeue --nohead --form=%i --jobs={held}
        SQUEUE_QOS=nosuch squeue -h
        SQUEUE_FORMAT=%i squeue -h -j {held} -O Name
    """,
    "sacct": """
        sacct -X -n -j {tasks} -o JobID,JobIDRaw,State
        sacct -X -nP -j {tasks}_2 -o JobID,JobIDRaw,State
        sacct -nP -j {same-done} -o JobID,State
        sacct -j {same-failed}
        sacct -b -j {same-failed}
        sacct -n -j {same-done}.batch -o JobID%20,State,ExitCode
        sacct -X -l -P -j {same-done}
        sacct -X -nP -j {same-done} -o JobID,QOS,ReqTRES,AllocTRES,ReqMem,Comment,UID,GID,Eligible,Planned,CPUTime
        sacct -X -nP -j {same-done} -o MaxRSS,NTasks,TotalCPU,DerivedExitCode,SubmitLine,AssocID,Flags
        sacct -X -nP -j {held} -o JobID,State,Start,End,Elapsed,Timelimit,NNodes,ReqCPUS,NodeList,Priority
        sacct -X -nP -j {array},{limited} -o JobID,JobIDRaw,State
        sacct -X -nP -j {cancelled} -o JobID,State
        sacct -X -nP -j {cancelled} -s CA -o JobID
        sacct -X -nP -j {same-done} --units=G -o JobID,ReqMem
        sacct -X -nP -j {same-done} --units=X -o JobID
        sacct -X -nP -j {same-done} --noconvert -o JobID,ReqMem
        sacct -X -nP -j {same-done} -o JobID -o State
        sacct -X -nP -j {same-done} -o ALL
        sacct -e
        sacct -X -nP -s bogus -o JobID
        sacct -X -nP -o bogus
        sacct -X -nP -o JobID -S bogus
        sacct -X -nP -o JobID -u nosuch
        sacct -X -nP -o JobID -q nosuch
        sacct -X -nP -o JobID -A nosuch
        sacct -X -nP -o JobID --name held-array,same-done
        sacct -X -nP -o JobID -s CD,F -S now-1hour -E now --name same-done,same-failed
        sacct -X -nP -o JobID -s completed -S now-1hour --name same-done
        sacct -X -nP -j abc
        sacct -Z
        sacct --frob
        SLURM_TIME_FORMAT=%s sacct -X -nP -j {same-done} -o JobID,Start
    """,
    "sinfo": """
        sinfo -N
        sinfo -a
        sinfo -R
        sinfo -T
        sinfo -d
        sinfo -h -o "%n %c %m %t" -p xfer
        sinfo -o "%a|%A|%b|%B|%c|%C|%d|%D|%f|%F|%g|%G|%h|%I|%l|%L|%m|%M|%n|%N|%o|%p|%P"
        sinfo -o "%r|%R|%s|%S|%t|%T|%w|%X|%Y|%z|%Z|%E|%H|%u|%U|%v|%V" -p xfer
        sinfo -O "allocmem,allocnodes,cluster,comment,cores,cpusstate,defaulttime,disk,features_act" -p xfer
        sinfo -O "nodeaddr,nodehost,oversubscribe,port,prioritytier,reason,root,statelong,weight" -p xfer
        sinfo -O nosuch
        sinfo -o %J
        sinfo -h -t idle,alloc -o "%D %t"
        sinfo -h -t bogus
        sinfo -n nosuch
        sinfo -h -S -P -o %P
        sinfo foo
        sinfo --frob
        SINFO_SORT=-P sinfo -h -o %P
    """,
    "scontrol": """
        scontrol show job {held}
        scontrol -o show job {rich}
        scontrol show job {array}_2
        scontrol show jobid={same-done}
        scontrol show job {held} -d
        scontrol show job abc
        scontrol show part xfer
        scontrol -o show partition debug
        scontrol show node nosuch
        scontrol show hostlist a1,b2,a3
        scontrol show hostnames
        scontrol show lic
        scontrol show topology
        scontrol show reservation nosuch
        scontrol show bogus
        scontrol show
        scontrol bogus
        scontrol ping
        scontrol hold 999999
        scontrol release 999999
        scontrol hold
        scontrol -Q show job 999999
        scontrol --frob
    """,
    "engines": r"""
        SLURM_TIME_FORMAT=standard squeue --noheader -o %i^^^%t^^^%r^^^%B^^^%u^^^%D^^^%C^^^%R^^^%P -j{held},{held}
        SLURM_TIME_FORMAT=standard squeue --noheader -o "%l^^^%M^^^%S^^^%j^^^%V" --jobs={rich},{rich}
        sacct --helpformat
        sacct --format=JobID,Account,AllocNodes,AveCPU,MaxVMSize,ReqTRES,UID,WorkDir, --parsable --jobs={same-done}
        sacct -X --parsable2 --clusters all --noheader --format=JobIdRaw,State --endtime now --name same-done
        squeue --format=%i|%T --states=all --noheader --name held-array,rich
        sacct -j {same-failed}.0 --format=Reason --noheader
        sacct -j {same-failed} -n -X -o nodelist%-256
        sacct --name=same-failed --parsable2 --noheader --format=JobID,JobName,Comment,TotalCPU,NCPUS,MaxRSS,ReqMem
        sacct -nu alice -o Account%256 --name same-done
        sacctmgr -n -s list user alice format=account%256
        sacctmgr -nP show assoc where user=alice format=account,partition,qos
        sacctmgr --noheader --parsable2 list associations user=alice format=account,maxsubmitjobs,grptres
        sshare -U --format Account%256 --noheader
        sinfo -o %P
        sinfo -N -l -h -o "%N %c %m %P"
        sinfo -N -o "%N|%T|%G" -p debug,xfer
        sinfo -a -h -o "%A %D %C"
        sinfo -e -o "%9P %5D %10c" -S +P
        scontrol show partition
        scontrol -a show -o partitions
        scontrol -a show -o reservations nosuch
        scontrol show hostname n[01-03],m1
        scontrol show hostnames n[01-02],x[1-3,9]
        scontrol -o show job={held},{rich}
        scontrol --oneliner show jobs {rich}
        scontrol -dd show job {array}_1
        scontrol show node=n02,n03 -o
        sacct -X --noheader --format=jobid,state%20 --job {same-done},{same-failed}
        squeue --noheader --format="%i %t" --job {held},{later}
        sacct -o JobID,State,NodeList --parsable2 -j {same-done} -j {same-failed}
        SLURM_TIME_FORMAT=%s sacct -S now-1hour -P -j {same-done},{same-failed} -o jobid,state,exitcode,end,nodelist
        squeue -h -j {held},{rich} -o %i|%T|%N|%r
        squeue --me --name held-array -o '"%i","%j","%t","%M","%L","%D","%C","%m","%b","%R"'
        squeue -O JobArrayID,StateCompact,Reason -t all --me -n limited
        squeue -O "JobID:.18 ,Partition:.9 ,Name:.8 ,UserName:.8" -j {held}
        squeue --Format=ArrayJobID:20,ArrayTaskID:12,TimeLeft:12,TimeUsed,PendingTime:1 -j {limited} --noheader
        squeue --Format JobID,tres:60,Account,Priority,PriorityLong,SubmitTime,WorkDir:40 -j {rich} --noheader
        squeue --all --states=all --noconvert -o "%a|%A|%B|%c|%C|%d|%D|%m|%M|%V|%Z" -j {rich}
        squeue --noheader -o "%i %t" -t all -p debug,xfer -u alice -n rich,limited
        squeue -u alice,bob -h -o "%u %i" -n bobs,rich -S u
        squeue --array --jobs={array} --noheader --format=%A_%a
        squeue --array-uniquely -j {array}
        squeue -h --only-job-state -j {held} -o "%i %T"
        squeue --start --json=list
        sinfo --json=list
        sacct --json=list
        squeue -j {held} --states=PENDING --long --noheader
        scancel --signal=KILL -n nosuch --me
        scancel --full nosuch
        scancel --hurry 999999
        scancel {array}_99
    """,
    "accounts": """
        sacctmgr show user
        sacctmgr show assoc user=alice
        sacctmgr -nP show assoc user=alice format=cluster,account,user,partition,qos,maxjobs,maxsubmit
        sacctmgr -nP list accounts format=account,descr,org
        sacctmgr -nP show cluster format=cluster
        sacctmgr -nP show user alice withassoc
        sacctmgr -nP show user alice cluster=test format=account
        sacctmgr -nP show qos format=name,priority,maxwall,maxsubmitjobsperuser
        sacctmgr -nP show tres
        sacctmgr show bogus
        sacctmgr bogus
        sacctmgr show user alice format=bogus
        sshare
        sshare -l -U
        sshare -A nosuch
        sshare -o account,user,rawshares,fairshare -U
        sshare -o bogus
        sprio
        sprio -l
        sprio -w
        sprio -n -j {begins}
        sprio -j 999999
        sprio -o "%i|%r|%u|%Y|%A|%F|%J|%P|%Q|%N|%T|%y|%o"
        sprio foo
    """,
    "submissions": """
        sbatch -D /home/alice -p nosuch --wrap true
        sbatch -D /home/alice -A nosuch --wrap true
        sbatch -D /home/alice -t bogus --wrap true
        sbatch -D /home/alice -n 0 --wrap true
        sbatch -D /home/alice -N 2-1 --wrap true
        sbatch -D /home/alice --mem=bogus --wrap true
        sbatch -D /home/alice -a 5-1 --wrap true
        sbatch -D /home/alice -d afterok:999999 --wrap true
        sbatch -D /home/alice --gres=gpu:1 --wrap true
        sbatch -D /home/alice --signal=bogus --wrap true
        sbatch -D /home/alice --hint=bogus --wrap true
        sbatch -D /home/alice --begin=bogus --wrap true
        sbatch -D /home/alice -p nosuch --test-only --wrap true
        sbatch -D /home/alice -N 99 --test-only --wrap true
        sbatch -D /home/alice -QW -a 1-3 --wrap "exit $((SLURM_ARRAY_TASK_ID % 3 * 4))"
        sbatch --wrap
        sbatch -Z --wrap true
        sbatch --frob --wrap true
        sbatch nosuch.sh
        SBATCH_TIMELIMIT=bogus sbatch -D /home/alice --wrap true
        srun -D /home/alice -p nosuch true
        srun -D /home/alice -t bogus true
        srun -D /home/alice -N 99 true
    """,
    "cancellations": """
        scancel
        scancel abc
        scancel 999999
        scancel {same-done}
        scancel {bobs}
        scancel -n nosuch
        scancel -t bogus
        scancel -s FOO 1
        scancel -t PENDING -n nosuch
        scancel -q nosuch
        scancel -w n04 -n nosuch
        scancel --frob
    """,
}
"""command lines whose exit code and both streams are compared"""
OTHERWISE_IN_22_05 = {
    "sbatch -D /home/alice -d afterok:999999 --wrap true",  # is accepted, and waits for ever
    "srun -D /home/alice -N 99 true",  # likewise
    "-t PENDING {}_[8-9]",  # with a filter, scancel ends the whole array
    "-n {name} {}_1",
    # newer options
    'squeue -h --only-job-state -j {held} -o "%i %T"',
    "squeue --start --json=list",
    "sinfo --json=list",
    "sacct --json=list",
}


@pytest.mark.parametrize("table", TABLES)
def test_the_same_is_printed(pair: Pair, jobs: dict[str, str], table: str) -> None:
    names = jobs | {
        "all": ",".join(each for name, each in jobs.items() if name not in ("bobs", "ended", "tasks", "cancelled"))
    }
    lines = pair.expected(line.strip() for line in TABLES[table].strip().splitlines())
    assert pair.differences([re.sub(r"\{(\S+?)\}", lambda match: names[match[1]], line) for line in lines]) == []


def test_ranges_and_filters_choose_what_is_cancelled(pair: Pair, jobs: dict[str, str]) -> None:
    """Twins, of which one is cancelled here and the other there by the same words."""

    def left(array: str) -> str:
        return pair.real("squeue", "-h", "-r", "-j", array, "-o", "%K").replace("\n", " ")

    def submit(name: str) -> str:
        return pair.real("sbatch", "--parsable", "-H", "-J", name, "-a", "1-9", "--wrap", "true").strip()

    lines = ("{}_[2-3,7]", "{}_5", "-t PENDING {}_[8-9]", "-n {name} {}_1", "-q normal -n {name}")
    for number, words in enumerate(pair.expected(lines)):
        ours, theirs = submit(f"twin-{number}"), submit(f"pair-{number}")
        pair.commands("scancel", *words.format(ours, name=f"twin-{number}").split())
        pair.real("scancel", *words.format(theirs, name=f"pair-{number}").split())
        assert left(ours) == left(theirs), words
        pair.commands("scancel", ours, theirs)
    asked = pair.commands.run("scancel", "-i", jobs["held"], stdin="n\n")
    assert asked.stdout == f"Cancel job_id={jobs['held']} name=a name that is rather long partition=debug [y/n]? "
    assert pair.same("squeue", "-h", "-j", jobs["held"], "-o", "%t") == "PD\n"


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
    wanted = [each for name, each in jobs.items() if name not in ("bobs", "ended", "tasks", "cancelled")]
    shown = pair.same("squeue", "-t", "all", "-S", "i", "-j", ",".join(wanted), *layout)
    assert len(shown.splitlines()) >= len(wanted)


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


def test_sbatch_tells_when_a_job_would_start(pair: Pair, cluster: Cluster) -> None:
    words = ["sbatch", "-D", "/home/alice", "--test-only", "-N", "2", "--wrap", "true"]
    ours, theirs = pair.commands.run(*words), cluster.exec("alice", words, env={"TZ": "UTC"})
    assert (ours.returncode, ours.stdout) == (theirs.exit_status, theirs.stdout) == (0, "")
    without = [re.sub(r"Job \d+|[\dT:-]{19}", "", text.stderr.strip()) for text in (ours, theirs)]
    assert without[0] == without[1]


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
    wanted = ["-j", ",".join(each for each in jobs.values() if each.isdigit())]
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
