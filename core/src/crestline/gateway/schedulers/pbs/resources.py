"""Nodes, queues and reservations: pbsnodes, qstat -Q, pbs_rstat."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from crestline.gateway.hosts import MAX_ANSWER, MAX_OUTPUT, Completed
from crestline.gateway.schedulers.pbs.commands import PbsCommands, no_answer
from crestline.gateway.schedulers.pbs.jobs import epoch, resources, text
from crestline.gateway.schedulers.pbs.output import convert_objects, read_objects
from crestline.wire.status import Node, Partition, Reservation

_KIB = {"b": 1 / 1024, "kb": 1, "mb": 1024, "gb": 1024**2, "tb": 1024**3, "": 1 / 1024}


async def read_nodes(commands: PbsCommands, user: str) -> list[Node]:
    """Return all vnodes."""
    done = await _read(commands, user, "pbsnodes", "-a", "-F", "json", max_output=MAX_OUTPUT)
    return await convert_objects(
        done.stdout, "nodes", lambda nodes: [_node(name, values) for name, values in nodes.items()]
    )


async def read_partitions(commands: PbsCommands, user: str) -> list[Partition]:
    """Return the queues. A queue without nodes of its own can use the nodes that belong to no queue."""
    done = await _read(commands, user, "qstat", "-Q", "-f", "-F", "json")
    nodes = await read_nodes(commands, user)
    partitions = []
    for name, values in read_objects(done.stdout, "Queue").items():
        own = [node for node in nodes if name in node.partitions] or [node for node in nodes if not node.partitions]
        accepts, runs = text(values, "enabled") == "True", text(values, "started") == "True"
        state = {(True, True): "UP", (False, True): "DRAIN", (True, False): "DOWN"}.get((accepts, runs), "INACTIVE")
        partitions.append(
            Partition(name=name, cpus=sum(node.cpus for node in own), total_nodes=len(own), partition=state)
        )
    return partitions


async def read_reservations(commands: PbsCommands, user: str) -> list[Reservation]:
    """Return all reservations. `name` is the queue to submit to."""
    done = await _read(commands, user, "pbs_rstat", "-f")
    reservations = []
    lines = re.sub(r"\n\t", "", done.stdout.decode(errors="replace"))  # long values continue after a tab
    for block in re.split(r"^(?:Resv ID|Name): ", lines, flags=re.MULTILINE)[1:]:
        values = dict(re.findall(r"^\s*([\w.]+) = (.*)$", block, re.MULTILINE))
        start, end = epoch(values.get("reserve_start")), epoch(values.get("reserve_end"))
        if start is None or end is None:
            continue
        nodes = re.findall(r"\(([^:)]+)", values.get("resv_nodes", ""))
        reservations.append(
            Reservation(
                name=values.get("queue") or block.split("\n", 1)[0].partition(".")[0],
                node_list=",".join(dict.fromkeys(nodes)),
                start_time=start,
                end_time=end,
                state=values.get("reserve_state", "").removeprefix("RESV_") or None,
            )
        )
    return reservations


class Server(NamedTuple):
    """PBS's server."""

    version: str
    name: str
    """Suffix of job ids."""


async def read_server(commands: PbsCommands, user: str) -> Server:
    """Read version and name of the server."""
    done = await _read(commands, user, "qstat", "-B", "-f", "-F", "json")
    output = done.stdout.decode(errors="replace")
    version = re.search(r'"pbs_version"\s*:\s*"([^"\n]*)"', output)
    servers = list(read_objects(done.stdout, "Server"))
    named = re.search(r'"pbs_server"\s*:\s*"([^"\n]*)"', output)
    name = named[1] if named else servers[0] if servers else "pbs"
    return Server(version[1] if version else "unknown", name)


async def _read(
    commands: PbsCommands, user: str, program: str, *arguments: str, max_output: int = MAX_ANSWER
) -> Completed:
    done = await commands.read(user, program, *arguments, max_output=max_output)
    if done.exit_status != 0:
        raise no_answer(program, done)
    return done


def _node(name: str, values: Mapping[str, Any]) -> Node:
    there, taken = resources(values, "resources_available"), resources(values, "resources_assigned")
    cpus, used = _amount(text(there, "ncpus")), _amount(text(taken, "ncpus"))
    memory, held = _mebibytes(text(there, "mem")), _mebibytes(text(taken, "mem"))
    queue = text(values, "queue") or text(there, "Qlist")
    return Node(
        name=name,
        state=[word.upper() for word in (text(values, "state") or "unknown").split(",")],
        partitions=queue.split(",") if queue else [],
        cpus=cpus,
        free_memory=memory - held,
        address=text(values, "Mom"),
        hostname=text(there, "host"),
        alloc_memory=held,
        alloc_cpus=used,
        idle_cpus=max(cpus - used, 0),
    )


def _amount(words: str | None) -> int:
    return int(words) if words is not None and re.fullmatch(r"\d{1,18}", words, re.ASCII) else 0


def _mebibytes(words: str | None) -> int:
    """Convert `8000000kb` to MiB, 0 if the value is missing."""
    match = re.fullmatch(r"(\d{1,18})([kmgt]?b?)", words or "", re.IGNORECASE)
    return int(int(match[1]) * _KIB.get(match[2].lower(), 1) / 1024) if match else 0
