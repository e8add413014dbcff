"""`crestline-scontrol`: the commands show, hold, release, ping and version. The API does not support other changes."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec

from crestline.cli.output import one_line
from crestline.cli.slurm.clusters import find_cluster
from crestline.cli.slurm.documents import (
    is_document_requested,
    nodes_document,
    partitions_document,
    print_document,
    queued_jobs,
)
from crestline.cli.slurm.node_fields import long_state
from crestline.cli.slurm.program import (
    SLURM_VERSION,
    CommandError,
    on_system,
    print_answer,
    read_options,
    run,
    slurm_answer,
)
from crestline.cli.slurm.queue_fields import array_elements, array_task, begin_of, job_name, reason
from crestline.cli.slurm.states import state_of
from crestline.cli.slurm.times import long_duration, moment
from crestline.model import CrestlineError, Job, JobNotFoundError, Node, Partition, Reservation
from crestline.model.hostlist import compress, expand
from crestline.model.job_ids import parent
from crestline.model.slurm_queries import QUERIES, SlurmOutput

if TYPE_CHECKING:
    from crestline.client import System

_PROGRAM = "scontrol"
_UNSERVED = {
    "update": "cancel it and submit it again with the other options",
    "requeue": "submit it again",
    "requeuehold": "submit it again with --hold",
    "suspend": "cancel it",
    "resume": "cancel it",
    "top": "submit the others with --nice",
    "wait_job": "use sbatch --wait",
    "notify": "write into a file that the job reads",
}
_OF_OPERATORS = frozenset(
    "abort cancel_reboot create delete fsdampeningfactor power reboot reconfigure setdebug setdebugflags shutdown "
    "schedloglevel takeover token write".split()
)
Block = Sequence[Sequence[tuple[str, str]]]
"""The lines of one entry, each with its keys and values."""


def main() -> None:
    """Console script `crestline-scontrol`."""
    run(_PROGRAM, scontrol)


def scontrol(words: list[str]) -> int:
    """Run one command of scontrol."""
    options, rest = read_options(_PROGRAM, words, QUERIES[_PROGRAM])
    if not rest:
        raise CommandError(f"{_PROGRAM}: error: A command is required. The interactive mode is not supported.")
    command, *arguments = rest[0].lower(), *rest[1:]
    if command in _UNSERVED:
        raise CommandError(
            f"{_PROGRAM}: error: The API cannot {command} jobs: it submits and cancels them. "
            f"To change what becomes of a job, {_UNSERVED[command]}."
        )
    if command in _OF_OPERATORS:
        raise CommandError(f"{_PROGRAM}: error: The API has no '{command}'. Ask the operators of the system.")
    if command in ("hold", "uhold", "release"):
        return _hold_or_release(command, arguments, options)
    if command == "version":
        print(f"slurm {SLURM_VERSION}")
        return 0
    if command == "ping":
        return _ping(options, words)
    if command != "show":
        raise CommandError(f"invalid keyword: {rest[0]}")
    return _show(arguments, options, words)


def _hold_or_release(command: str, arguments: list[str], options: dict[str, str]) -> int:
    words = [each for word in arguments for each in re.split(r",(?![^\[]*\])", word.removeprefix("jobid="))]
    if not words:
        raise CommandError(f"too few arguments for keyword:{command}")
    target, system = find_cluster(_PROGRAM, options.get("clusters"))

    async def change(there: System) -> int:
        failed = False
        for job_id in (element for word in words for element in array_elements(word)):
            try:
                await (there.release(job_id) if command == "release" else there.hold(job_id))
            except CrestlineError as error:
                why = "Invalid job id specified" if isinstance(error, JobNotFoundError) else str(error)
                print(f"{why} for job {job_id}", file=sys.stderr)
                print(f"slurm_suspend error: {why}", file=sys.stderr)
                failed = True
        return int(failed)

    return on_system(target, system, change)


def _show(arguments: list[str], options: dict[str, str], words: list[str]) -> int:
    if not arguments:
        raise CommandError("too few arguments for keyword:show")
    entity, *names = arguments
    entity = entity.lower().partition("=")[0]
    if "=" in arguments[0]:
        names = [arguments[0].partition("=")[2], *names]
    if entity.startswith("hostname"):
        print("\n".join(expand(names[0] if names else _job_nodes())))
        return 0
    if entity.startswith("hostlist"):
        each = [name for word in names or [_job_nodes()] for name in expand(word)]
        runs = groupby(sorted(each) if entity == "hostlistsorted" else each, lambda name: name.rstrip("0123456789"))
        print(",".join(compress(run) for _, run in runs))  # only adjacent hosts share brackets
        return 0
    target, system = find_cluster(_PROGRAM, options.get("clusters"))
    answer = on_system(target, system, lambda there: slurm_answer(there, _PROGRAM, words))
    if answer is not None:
        return print_answer(answer)
    if entity == "config":
        return _config(options)
    name = ",".join(names)
    if entity in ("job", "jobs", "jobid"):
        return _jobs(name, options)
    if entity in ("node", "nodes", "nodename"):
        return _nodes(name, options)
    if entity in ("partition", "partitions", "partitionname"):
        return _partitions(name, options)
    if entity in ("reservation", "reservations", "reservationname"):
        return _reservations(name, options)
    known = ("assoc_mgr", "bbstat", "burstbuffer", "daemons", "dwstat", "federation", "frontend", "licenses", "step")
    if entity in (*known, "steps", "topology", "aliases", "slurmd"):
        raise CommandError(f"{_PROGRAM}: error: 'show {entity}' cannot be served: the API does not report it.")
    raise CommandError(f"invalid entity:{entity} for keyword:show ")


def _job_nodes() -> str:
    import os

    if not (nodes := os.environ.get("SLURM_JOB_NODELIST", "")):
        raise CommandError(f"{_PROGRAM}: error: host list is empty", code=0)
    return nodes


def _ping(options: dict[str, str], words: list[str]) -> int:
    target, system = find_cluster(_PROGRAM, options.get("clusters"))

    async def look(there: System) -> SlurmOutput:
        if (answer := await slurm_answer(there, _PROGRAM, words)) is not None:
            return answer
        await there.partitions()
        return SlurmOutput(exit_code=0, output=f"Slurmctld(primary) at {there.gateway_url} is UP\n", errors="")

    return print_answer(on_system(target, system, look))


def _config(options: dict[str, str]) -> int:
    target, system = find_cluster(_PROGRAM, options.get("clusters"))
    name, kind = on_system(target, system, _identity)
    print("Configuration data as the API tells it")
    for key, value in (
        ("ClusterName", name),
        ("MinJobAge", "300 sec"),
        ("SchedulerType", kind),
        ("SLURM_VERSION", SLURM_VERSION),
    ):
        print(f"{key:<23} = {value}")
    return 0


async def _identity(there: System) -> tuple[str, str]:
    return there.name, there.scheduler_type


def _jobs(name: str, options: dict[str, str]) -> int:
    target, system = find_cluster(_PROGRAM, options.get("clusters"))

    async def read(there: System) -> tuple[list[Job], str]:
        if not name:
            return await there.jobs(all_users=True, window=300), there.name
        found: list[Job] = []
        for each in name.split(","):
            if not parent(each).isdigit():
                raise CommandError("slurm_load_jobs error: Invalid job id specified")
            try:
                elements = await there.array_tasks(each)
            except JobNotFoundError:
                raise CommandError("slurm_load_jobs error: Invalid job id specified") from None
            found += [job for job in elements if each in (job.job_id, parent(job.job_id))]
        return found, there.name

    jobs, cluster = on_system(target, system, read)
    if is_document_requested(_PROGRAM, options):
        print_document(options, queued_jobs(jobs), jobs[0].cluster if jobs else cluster)
        return 0
    if not jobs and "quiet" not in options:
        print("No jobs in the system")
    _print([_job(each) for each in jobs], options, after="   ")
    return 0


def _job(job: Job) -> Block:
    waiting = job.state.is_waiting
    array = [("ArrayJobId", parent(job.job_id)), ("ArrayTaskId", array_task(job))] if "_" in job.job_id else []
    limit = long_duration(job.times.limit) if job.times.limit else "UNLIMITED"
    end = job.times.end
    if end is None and begin_of(job) and job.times.limit:
        end = (begin_of(job) or 0) + job.times.limit
    sizes = [("NumNodes", str(job.node_count or 1))]
    if job.cpus is not None:
        sizes.append(("NumCPUs", str(job.cpus)))
    begins = [("Priority", str(job.priority))] if job.priority is not None else []
    submitted = [("SubmitTime", moment(job.times.submit, "Unknown"))] if job.times.submit else []
    apart = "_" not in job.job_id or array_task(job).isdigit()
    files = (("StdErr", job.stderr), ("StdIn", job.stdin), ("StdOut", job.stdout))
    return [
        [("JobId", parent(job.job_id)), *array, ("JobName", job_name(job))],
        [*begins, ("Account", job.account)],
        [("JobState", state_of(job)), ("Reason", reason(job))],
        [("ExitCode", f"{job.exit_code or 0}:{job.signal or 0}")],
        [("RunTime", long_duration(0 if waiting else job.times.elapsed or 0)), ("TimeLimit", limit)],
        submitted,
        [("StartTime", moment(begin_of(job), "Unknown")), ("EndTime", moment(end, "Unknown"))],
        [("Partition", job.partition)],
        [("NodeList", job.nodes)],
        [("BatchHost", next(expand(job.nodes)))] if job.nodes else [],
        sizes,
        [("WorkDir", job.workdir)],
        *([(key, path)] for key, path in files if path and apart),
    ]


def _nodes(name: str, options: dict[str, str]) -> int:
    target, system = find_cluster(_PROGRAM, options.get("clusters"))

    async def read(there: System) -> tuple[list[Node], str]:
        nodes = await there.nodes()
        if "all" in options:
            return nodes, there.name
        visible = {each.name for each in await there.partitions()}
        return [msgspec.structs.replace(each, partitions=each.partitions & visible) for each in nodes], there.name

    nodes, cluster = on_system(target, system, read)
    if name:
        known = {each.name: each for each in nodes}
        for wanted in expand(name):
            if wanted not in known:
                raise CommandError(f"Node {wanted} not found")
        nodes = [known[wanted] for wanted in expand(name)]
    if is_document_requested(_PROGRAM, options):
        print_document(options, nodes_document(nodes), cluster)
        return 0
    _print([_node(each) for each in nodes], options, after="   ")
    return 0


def _node(node: Node) -> Block:
    allocated = [("CPUAlloc", str(node.cpus_allocated))] if node.cpus_allocated is not None else []
    memory = [("FreeMem", str(node.memory_free))] if node.memory_free is not None else []
    features = ",".join(sorted(node.features)) or "(null)"
    return [
        [("NodeName", node.name), ("CoresPerSocket", str(node.cores))],
        [*allocated, ("CPUTot", str(node.cpus))],
        [("AvailableFeatures", features)],
        [*memory, ("Sockets", str(node.sockets))],
        [("State", _state(node)), ("ThreadsPerCore", str(node.threads))],
        [("Partitions", ",".join(sorted(node.partitions)))] if node.partitions else [],
    ]


def _state(node: Node) -> str:
    """Return the state as scontrol writes it: `IDLE+DRAIN`."""
    base = long_state(node).rstrip("*").upper()
    if base in ("DRAINING", "DRAINED"):
        words = [word for word in ("ALLOCATED", "MIXED", "IDLE", "DOWN") if word in node.states]
        base = "+".join([*words[:1], "DRAIN"])
    return base


def _partitions(name: str, options: dict[str, str]) -> int:
    target, system = find_cluster(_PROGRAM, options.get("clusters"))

    async def read(there: System) -> tuple[list[Partition], list[Node], str]:
        return await there.partitions(), await there.nodes(), there.name

    partitions, nodes, cluster = on_system(target, system, read)
    if name:
        known = {each.name: each for each in partitions}
        for wanted in name.split(","):
            if wanted not in known:
                raise CommandError(f"Partition {wanted} not found")
        partitions = [known[wanted] for wanted in name.split(",")]
    if is_document_requested(_PROGRAM, options):
        print_document(options, partitions_document(partitions, nodes), cluster)
        return 0
    _print([_partition(each, nodes) for each in partitions], options)
    return 0


def _partition(partition: Partition, nodes: list[Node]) -> Block:
    told = partition.default is not None
    limits = []
    if partition.max_nodes or told:
        limits.append(("MaxNodes", str(partition.max_nodes or "UNLIMITED")))
    if partition.max_time or told:
        limits.append(("MaxTime", long_duration(partition.max_time) if partition.max_time else "UNLIMITED"))
    return [
        [("PartitionName", partition.name)],
        [("Default", "YES" if partition.default else "NO")] if told else [],
        limits,
        [("Nodes", compress(each.name for each in nodes if partition.name in each.partitions) or "(null)")],
        [
            ("State", partition.state or "UP"),
            ("TotalCPUs", str(partition.cpus)),
            ("TotalNodes", str(partition.nodes)),
        ],
    ]


def _reservations(name: str, options: dict[str, str]) -> int:
    target, system = find_cluster(_PROGRAM, options.get("clusters"))

    async def read(there: System) -> list[Reservation]:
        return await there.reservations()

    found = [each for each in on_system(target, system, read) if name in ("", each.name)]
    if name and not found:
        raise CommandError(f"Reservation {name} not found")
    if not found and "quiet" not in options:
        print("No reservations in the system")
    _print(
        [[[("ReservationName", each.name)], [("Nodes", each.nodes), ("State", each.state)]] for each in found], options
    )
    return 0


def _print(blocks: Sequence[Block], options: dict[str, str], *, after: str = "") -> None:
    """Print entries in scontrol's layout: lines of keys and values, indented after the first, then an empty line."""
    for block in blocks:
        lines = [" ".join(f"{key}={one_line(value)}" for key, value in line) for line in block if line]
        if "oneliner" in options:
            print(" ".join(lines), end=" \n")
        else:
            print("\n   ".join(lines))
            if after:
                print(after)
            print()
