"""`crestline-sinfo`: print partitions and nodes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from crestline.cli.slurm import documents
from crestline.cli.slurm.clusters import on_clusters
from crestline.cli.slurm.layout import Column, long_format, print_rows, short_format
from crestline.cli.slurm.node_fields import DISTINCT, LONG, OF_PARTITION, SHORT, SUMS, Group, long_state, short_state
from crestline.cli.slurm.program import CommandError, read_environment, read_options, run
from crestline.model import Node, Partition
from crestline.model.hostlist import expand
from crestline.model.slurm_queries import QUERIES

if TYPE_CHECKING:
    from crestline.client import System

_PROGRAM = "sinfo"
_DEFAULT = "%#9P %.5a %.10l %.6D %.6t %N"
_SUMMARY = "%#9P %.5a %.10l %.16F %N"
_BY_NODE = "%#10N %.5D %#.9P %6t"
_LONG_LIST = "%#9P %.5a %.10l %.10s %.6D %.11T %N"
_LONG_BY_NODE = "%#10N %.6D %#.9P %.11T %4c %.8z %.8e %f"


def main() -> None:
    """Console script `crestline-sinfo`."""
    run(_PROGRAM, sinfo)


def sinfo(words: list[str]) -> int:
    """Print partitions and nodes."""
    options, _ = read_options(_PROGRAM, words, QUERIES[_PROGRAM])
    options = read_environment({"SINFO_PARTITION": "partition"}) | options
    if "iterate" in options:
        raise CommandError(f"{_PROGRAM}: error: --iterate cannot be served: call the command again.")
    header = "noheader" not in options
    refusal: CommandError | None = None
    columns: list[Column[Group]] = []
    try:
        for unserved in ("list-reasons", "reservation"):
            if unserved in options:
                raise CommandError(f"{_PROGRAM}: error: --{unserved} cannot be served: the API does not report it.")
        as_document = documents.is_document_requested(_PROGRAM, options)
        columns = [Column(each) for each in DISTINCT] if as_document else _columns(options)
    except CommandError as error:
        as_document, refusal = False, error

    def show(found: tuple[list[Node], list[Partition], str], _: bool) -> None:
        nodes, partitions, name = found
        groups = _groups(columns, nodes, partitions, options)
        if as_document:
            documents.print_document(options, documents.groups_document(groups, nodes), name)
            return
        print_rows(columns, groups, header=header)

    return on_clusters(
        _PROGRAM,
        options.get("clusters"),
        _read,
        show,
        words=words,
        refusal=refusal,
        titled="clusters" in options and header and not as_document,
    )


def _columns(options: dict[str, str]) -> list[Column[Group]]:
    if "Format" in options:
        return long_format(_PROGRAM, options["Format"], LONG, "node")
    long = "long" in options
    if "summarize" in options:
        default = _SUMMARY
    elif "Node" in options:
        default = _LONG_BY_NODE if long else _BY_NODE
    else:
        default = _LONG_LIST if long else _DEFAULT
    return short_format(_PROGRAM, options.get("format") or os.environ.get("SINFO_FORMAT") or default, SHORT, "node")


async def _read(system: System) -> tuple[list[Node], list[Partition], str]:
    return await system.nodes(), await system.partitions(), system.name


def _groups(
    columns: list[Column[Group]], nodes: list[Node], partitions: list[Partition], options: dict[str, str]
) -> list[Group]:
    wanted = options["partition"].split(",") if "partition" in options else None
    names = set(expand(options["nodes"])) if "nodes" in options else None
    states = set(options["states"].lower().split(",")) if "states" in options else None
    shown = [column.field for column in columns if column.field is not None]
    split = [each for each in shown if id(each) not in SUMS]
    by_partition = "summarize" in options or any(id(each) in OF_PARTITION for each in shown)
    groups: dict[tuple[str, ...], Group] = {}
    for partition in partitions:
        if wanted is not None and partition.name not in wanted:
            continue
        for node in nodes:
            if partition.name not in node.partitions and node.partitions:
                continue
            if names is not None and node.name not in names:
                continue
            if states is not None and not states & {long_state(node).rstrip("*"), short_state(node).rstrip("*")}:
                continue
            alone = Group(partition, [node])
            key = tuple(each.text(alone) for each in split if "summarize" not in options)
            key += (partition.name,) if by_partition else ()
            key += (node.name,) if "Node" in options else ()
            group = groups.setdefault(key, Group(partition))
            if node not in group.nodes:
                group.nodes.append(node)
        if by_partition and "Node" not in options and not any(each.partition is partition for each in groups.values()):
            groups[(partition.name,)] = Group(partition)
    found = list(groups.values())
    return sorted(found, key=lambda group: group.nodes[0].name) if "Node" in options else _by_state(found, partitions)


def _by_state(groups: list[Group], partitions: list[Partition]) -> list[Group]:
    """Sort groups as sinfo does: by partition, with nodes in use before the others."""
    order = ["down", "draining", "drained", "completing", "mixed", "allocated", "maint", "reserved", "idle"]

    def rank(group: Group) -> tuple[int, int]:
        state = long_state(group.nodes[0]).rstrip("*") if group.nodes else ""
        return partitions.index(group.partition), order.index(state) if state in order else len(order)

    return sorted(groups, key=rank)
