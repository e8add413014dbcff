"""Nodes, partitions, reservations and accounts: sinfo, scontrol, sacctmgr."""

from __future__ import annotations

import re

import msgspec

from crestline.gateway.schedulers.slurm.commands import LONGEST_OUTPUT, SlurmCommands
from crestline.gateway.schedulers.slurm.tables import decimal, number, read_rows, seconds, text
from crestline.wire.status import Account, Node, Partition, Reservation


class Site(msgspec.Struct, frozen=True):
    """The configuration of this Slurm (`scontrol show config`)."""

    version: str
    retention: float
    """MinJobAge: seconds for which squeue lists a job after its end."""
    private_jobs: bool
    """Whether users see only their own jobs (PrivateData)."""


async def read_site(commands: SlurmCommands, user: str) -> Site:
    """Read the configuration of this Slurm."""
    output = (await commands.read(user, "scontrol", "show", "config")).decode(errors="replace")
    values = dict(re.findall(r"^(\w+)\s*= (.*)$", output, re.MULTILINE))
    return Site(
        version=values.get("SLURM_VERSION", "unknown").strip(),
        retention=float(number(values.get("MinJobAge", "").split(" ")[0]) or 300),
        private_jobs=bool(re.search(r"\b(jobs|all)\b", values.get("PrivateData", ""), re.IGNORECASE)),
    )


_NODE_FIELDS = (
    "NodeList", "StateComplete", "PartitionName", "CPUs", "Sockets", "Cores", "Threads", "CPUsLoad", "FreeMem",
    "Features", "NodeAddr", "NodeHost", "Weight", "AllocMem", "CPUsState",
)  # fmt: skip


async def read_nodes(commands: SlurmCommands, user: str) -> list[Node]:
    """Return all nodes, including those of hidden partitions."""
    nodes: dict[str, Node] = {}
    for row in await read_rows(commands, user, "sinfo", _NODE_FIELDS, "--Node", "--all"):
        name, partition = row["NodeList"], text(row["PartitionName"])
        if name not in nodes:
            nodes[name] = _node(row)
        if partition is not None and partition not in nodes[name].partitions:
            nodes[name].partitions.append(partition)
    return list(nodes.values())


def _node(row: dict[str, str]) -> Node:
    allocated, _, rest = row["CPUsState"].partition("/")  # allocated/idle/other/total
    return Node(
        name=row["NodeList"],
        state=row["StateComplete"].upper().split("+"),
        partitions=[],
        cpus=number(row["CPUs"]) or 0,
        sockets=number(row["Sockets"]) or 0,
        cores=number(row["Cores"]) or 0,
        threads=number(row["Threads"]) or 0,
        cpu_load=decimal(row["CPUsLoad"]),
        free_memory=number(row["FreeMem"]),
        features=text(row["Features"]),
        address=text(row["NodeAddr"]),
        hostname=text(row["NodeHost"]),
        weight=number(row["Weight"]),
        alloc_memory=number(row["AllocMem"]),
        alloc_cpus=number(allocated),
        idle_cpus=number(rest.partition("/")[0]),
    )


async def read_partitions(commands: SlurmCommands, user: str, show_hidden: bool) -> list[Partition]:
    """Return the partitions; hidden ones, and those closed to the user, on request."""
    fields = ("PartitionName", "Partition", "Available", "Nodes", "CPUsState", "Time", "Size")
    rows = await read_rows(commands, user, "sinfo", fields, "--summarize", *(["--all"] if show_hidden else []))
    return [
        Partition(
            name=row["PartitionName"],
            cpus=number(row["CPUsState"].rpartition("/")[2]) or 0,
            total_nodes=number(row["Nodes"]) or 0,
            partition=row["Available"].upper(),
            max_time=seconds(row["Time"]),
            max_nodes=number(row["Size"].rpartition("-")[2]),
            default=row["Partition"].endswith("*"),
        )
        for row in rows
    ]


async def read_reservations(commands: SlurmCommands, user: str) -> list[Reservation]:
    """Return all reservations. `read` makes scontrol print times in seconds since the epoch."""
    words = ("--oneliner", "--all", "show", "reservation")
    output = (await commands.read(user, "scontrol", *words, max_output=LONGEST_OUTPUT)).decode(errors="replace")
    reservations = []
    for line in output.splitlines():
        match = re.match(r"ReservationName=(.*?) StartTime=(\d+) EndTime=(\d+) ", line)
        if match is None:  # "No reservations in the system"
            continue
        values = dict(re.findall(r"(\w+)=(\S*)", line[match.end() :]))
        reservations.append(
            Reservation(
                name=match[1],
                start_time=int(match[2]),
                end_time=int(match[3]),
                node_list=text(values.get("Nodes", "")) or "",
                features=text(values.get("Features", "")),
                state=values.get("State"),
            )
        )
    return reservations


async def read_accounts(commands: SlurmCommands, user: str) -> list[Account]:
    """Return the accounts that `user` can charge."""
    output = await commands.read(
        user,
        "sacctmgr",
        "--noheader",
        "--parsable2",
        "show",
        "user",
        user,
        "withassoc",
        "format=DefaultAccount,Account",
    )
    pairs = [line.split("|") for line in output.decode(errors="replace").splitlines() if line.count("|") == 1]
    return [Account(name=name, default=name == default) for default, name in sorted({(a, b) for a, b in pairs if b})]
