"""`--json` and `--yaml`: jobs, nodes and partitions in the schema of Slurm's data_parser.

Fields that the API does not report are omitted, so that programs do not mistake a default for a fact. The schema is
that of v0.0.40 to v0.0.42, where optional numbers are objects.
"""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from crestline.cli.slurm.node_fields import Group, count_cpus, count_nodes
from crestline.cli.slurm.program import SLURM_VERSION, CommandError
from crestline.cli.slurm.queue_fields import array_task, begin_of, job_name, reason
from crestline.cli.slurm.states import state_of
from crestline.model import Job, Node, Partition
from crestline.model.hostlist import compress
from crestline.model.job_ids import parent

_VERSIONS = ("v0.0.40", "v0.0.41", "v0.0.42")


def is_document_requested(program: str, options: Mapping[str, str]) -> bool:
    """Whether `--json` or `--yaml` is given.

    Raises:
        CommandError: unsupported version of the schema.
    """
    for name in ("json", "yaml"):
        if (asked := options.get(name)) and asked.removeprefix("data_parser/") not in _VERSIONS:
            raise CommandError(
                f"{program}: error: Unknown data_parser '{asked}'. Known are: {', '.join(_VERSIONS)}.",
            )
    return "json" in options or "yaml" in options


def print_document(options: Mapping[str, str], content: Mapping[str, Any], cluster: str) -> None:
    """Print the document. JSON is a subset of YAML, so the output is the same for both options."""
    version = options.get("json") or options.get("yaml") or _VERSIONS[-1]
    major, minor, micro = SLURM_VERSION.split(".")
    meta = {
        "plugin": {"type": "", "name": "", "data_parser": f"data_parser/{version.removeprefix('data_parser/')}"},
        "client": {"source": "", "user": getpass.getuser()},
        "command": [sys.argv[0].rpartition("/")[2].removeprefix("crestline-")],
        "slurm": {
            "version": {"major": major, "micro": micro, "minor": minor},
            "release": SLURM_VERSION,
            "cluster": cluster,
        },
    }
    print(json.dumps({**content, "meta": meta, "errors": [], "warnings": []}, indent=2))


def queued_jobs(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return jobs as `squeue` and `scontrol show job` print them."""
    return {"jobs": [_queued(job) for job in jobs]}


def accounted_jobs(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return jobs as `sacct` prints them, without steps."""
    return {"jobs": [_accounted(job) for job in jobs]}


def nodes_document(nodes: Sequence[Node]) -> dict[str, Any]:
    """Return nodes as `scontrol show node` prints them."""
    return {"nodes": [_node(node) for node in nodes]}


def partitions_document(partitions: Sequence[Partition], nodes: Sequence[Node]) -> dict[str, Any]:
    """Return partitions as `scontrol show partition` prints them."""
    return {"partitions": [_partition(each, nodes) for each in partitions]}


def groups_document(groups: Sequence[Group], nodes: Sequence[Node]) -> dict[str, Any]:
    """Return groups of equal nodes of a partition as `sinfo` prints them."""
    return {"sinfo": [_group(each, nodes) for each in groups if each.nodes]}


def _group(group: Group, nodes: Sequence[Node]) -> dict[str, Any]:
    counts, cpus = count_nodes(group.nodes), count_cpus(group.nodes)
    words = ("allocated", "idle", "other", "total")

    def span(field: str) -> dict[str, int]:
        values = [getattr(each, field) for each in group.nodes]
        return {"minimum": min(values), "maximum": max(values)}

    features = ",".join(sorted({each for node in group.nodes for each in node.features}))
    return {
        "node": {"state": _node(group.nodes[0])["state"]},
        "nodes": {**dict(zip(words, counts, strict=True)), "nodes": sorted(each.name for each in group.nodes)},
        "cpus": {**dict(zip(words, cpus, strict=True)), **span("cpus")},
        "sockets": span("sockets"),
        "cores": span("cores"),
        "threads": span("threads"),
        "features": {"total": features},
        "partition": _partition(group.partition, nodes),
    }


def _number(value: float | None, *, infinite: bool = False) -> dict[str, Any]:
    return {"set": value is not None, "infinite": infinite, "number": value or 0}


def _ids(job: Job) -> tuple[int, int | None, str]:
    """Return the id of the array (0 outside of arrays), the index of a single task, and the indices as a string."""
    task = array_task(job) if "_" in job.job_id else ""
    return (int(parent(job.job_id)) if task else 0, int(task) if task.isdigit() else None, task)


def _exit(job: Job) -> dict[str, Any]:
    status = "SIGNALED" if job.signal else "ERROR" if job.exit_code else "SUCCESS"
    return {
        "status": [status if job.is_finished or job.exit_code else "SUCCESS"],
        "return_code": _number(job.exit_code or 0),
        "signal": {"id": _number(job.signal or None)},
    }


def _limit(job: Job) -> dict[str, Any]:
    minutes = -(-job.times.limit // 60) if job.times.limit else None
    return _number(minutes, infinite=minutes is None)


def _queued(job: Job) -> dict[str, Any]:
    array, task, tasks = _ids(job)
    found: dict[str, Any] = {
        "account": job.account,
        "array_job_id": _number(array),
        "array_task_id": _number(task),
        "array_task_string": "" if task is not None else tasks,
        "cluster": job.cluster,
        "exit_code": _exit(job),
        "group_name": job.group,
        "job_id": int(parent(job.job_id)),
        "job_state": [state_of(job)],
        "name": job_name(job),
        "nodes": job.nodes,
        "partition": job.partition,
        "start_time": _number(begin_of(job) or 0),
        "state_reason": reason(job),
        "time_limit": _limit(job),
        "user_name": job.user,
        "current_working_directory": job.workdir,
    }
    if job.times.submit is not None:
        found["submit_time"] = _number(job.times.submit)
    if job.times.end is not None:
        found["end_time"] = _number(job.times.end)
    if job.cpus is not None:
        found["cpus"] = _number(job.cpus)
    if job.node_count is not None:
        found["node_count"] = _number(job.node_count or 1)
    if job.priority is not None:
        found["priority"] = _number(job.priority)
    for name, path in (
        () if array and task is None else (("error", job.stderr), ("input", job.stdin), ("output", job.stdout))
    ):
        if path is not None:
            found[f"standard_{name}"] = path
    return found


def _accounted(job: Job) -> dict[str, Any]:
    array, task, tasks = _ids(job)
    times = {
        "elapsed": 0 if job.state.is_waiting else job.times.elapsed or 0,
        "end": job.times.end or 0,
        "start": job.times.start or 0,
        "suspended": job.times.suspended or 0,
        "limit": _limit(job),
    }
    if job.times.submit is not None:
        times["submission"] = job.times.submit
    return {
        "account": job.account,
        "allocation_nodes": 0 if job.state.is_waiting else job.node_count or 0,
        "array": {"job_id": array, "task_id": _number(task), "task": "" if task is not None else tasks},
        "association": {"account": job.account, "cluster": job.cluster, "user": job.user},
        "cluster": job.cluster,
        "time": times,
        "exit_code": _exit(job),
        "group": job.group,
        "job_id": int(parent(job.job_id)),
        "name": job_name(job),
        "nodes": job.nodes or "None assigned",
        "partition": job.partition,
        **({"priority": _number(job.priority)} if job.priority is not None else {}),
        **({"required": {"CPUs": job.cpus}} if job.cpus is not None else {}),
        "state": {"current": [state_of(job)], **({} if job.is_finished else {"reason": reason(job)})},
        "steps": [],
        "user": job.user,
        "working_directory": job.workdir,
    }


def _node(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = {
        "cores": node.cores,
        "cpus": node.cpus,
        "features": sorted(node.features),
        "name": node.name,
        "state": sorted(node.states, key=lambda each: (each not in _BASES, each)),
        "partitions": sorted(node.partitions),
        "sockets": node.sockets,
        "threads": node.threads,
    }
    if node.memory_free is not None:
        found["free_mem"] = _number(node.memory_free)
    if node.cpus_allocated is not None:
        found["alloc_cpus"] = node.cpus_allocated
        found["alloc_idle_cpus"] = node.cpus - node.cpus_allocated
    return found


_BASES = frozenset({"ALLOCATED", "DOWN", "ERROR", "FUTURE", "IDLE", "MIXED", "UNKNOWN"})


def _partition(partition: Partition, nodes: Sequence[Node]) -> dict[str, Any]:
    told = partition.default is not None
    maximums: dict[str, Any] = {}
    if partition.max_nodes or told:
        maximums["nodes"] = _number(partition.max_nodes, infinite=not partition.max_nodes)
    if partition.max_time or told:
        minutes = partition.max_time // 60 if partition.max_time else None
        maximums["time"] = _number(minutes, infinite=minutes is None)
    return {
        "nodes": {
            "configured": compress(each.name for each in nodes if partition.name in each.partitions),
            "total": partition.nodes,
        },
        "cpus": {"total": partition.cpus},
        "maximums": maximums,
        "name": partition.name,
        "partition": {"state": [partition.state or "UP"]},
    }
