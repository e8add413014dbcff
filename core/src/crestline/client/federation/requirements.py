"""What a job asks for, as far as a partition's limits decide about it."""

from __future__ import annotations

from dataclasses import dataclass

from crestline.model import JobSpec
from crestline.model.sbatch import parse_directives, parse_nodes
from crestline.model.time_limits import seconds_of


@dataclass(frozen=True)
class Requirements:
    """Nodes and cores at least, time in seconds; None: the system's default."""

    partition: str | None
    nodes: int
    cores: int
    time: int | None
    account: str | None = None


def requirements_of(spec: JobSpec) -> Requirements:
    """Read the requirements of a job from the fields of `spec`, else from the `#SBATCH` lines of its script.

    Raises:
        InvalidRequestError: invalid number or time limit.
    """
    written = parse_directives(spec.script or "").options
    written |= parse_directives("\n".join(f"#SBATCH {each}" for each in spec.directives)).options
    limit = spec.time_limit if spec.time_limit is not None else written.get("time")
    nodes = spec.nodes if spec.nodes is not None else parse_nodes(written.get("nodes", "1"))[0]
    tasks = spec.tasks if spec.tasks is not None else _count(written.get("ntasks"))
    per_node = spec.tasks_per_node if spec.tasks_per_node is not None else _count(written.get("ntasks-per-node"))
    per_task = spec.cpus_per_task if spec.cpus_per_task is not None else _count(written.get("cpus-per-task"))
    return Requirements(
        partition=spec.partition or written.get("partition"),
        nodes=nodes,
        cores=max(tasks or 1, nodes * (per_node or 1)) * (per_task or 1),
        time=seconds_of(limit),
        account=spec.account or written.get("account"),
    )


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None
