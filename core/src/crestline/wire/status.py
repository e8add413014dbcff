"""Messages of `/status`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from crestline.wire.codec import Message


class SshTimeouts(Message):
    """Time limits in seconds."""

    connection: int = 5
    login: int = 5
    command_execution: int = 5
    idle_timeout: int = 60
    keep_alive: int = 5


class SshPool(Message):
    """How the gateway connects to the system."""

    host: str
    port: int
    max_clients: int = 100
    proxy_host: str | None = None
    proxy_port: int | None = None
    timeout: SshTimeouts = msgspec.field(default_factory=SshTimeouts)


class SchedulerInfo(Message):
    """The scheduler. `type` is `slurm` for every scheduler that uses Slurm's terms, including the local one."""

    type: str
    version: str
    connection_mode: Literal["ssh", "rest", "hybrid"] = "ssh"
    api_url: str | None = None
    api_version: str | None = None
    timeout: int | None = 10


class ServiceHealth(Message, omit_defaults=False):
    """The last probe of one service of a system; `latency` in seconds."""

    service_type: Literal["scheduler", "ssh", "filesystem", "s3", "exception"]
    last_checked: datetime
    healthy: bool
    latency: float | None = None
    message: str | None = None
    path: str | msgspec.UnsetType | None = msgspec.UNSET
    """Only for `filesystem`."""


class FileSystem(Message):
    """A directory tree that the file endpoints serve."""

    path: str
    data_type: Literal["users", "store", "archive", "apps", "scratch", "project"] = "users"
    default_work_dir: bool = False


class DataOperation(msgspec.Struct, kw_only=True):
    """Limits and method of file operations. FirecREST writes these keys in snake_case."""

    max_ops_file_size: int = 5 * 1024 * 1024
    """Maximum size in bytes of a direct operation."""
    datatransfer_jobs_directives: list[str] = []
    data_transfer: dict[str, Any] | None = None


class Probing(Message):
    """How often services are probed; `interval_check` in seconds."""

    services: dict[str, Any] | None = None
    interval_check: int = 120


class System(Message):
    """A system behind the gateway (`HPCCluster` in FirecREST's schema)."""

    name: str
    ssh: SshPool
    scheduler: SchedulerInfo
    services_health: list[ServiceHealth] | None = None
    probing: Probing | None = None
    last_health_check: datetime | None = None
    file_systems: list[FileSystem] | None = None
    data_operation: DataOperation | None = None


class SystemsAnswer(Message):
    """`GET /status/systems`"""

    systems: list[System]


class Node(Message):
    """A compute node; memory in MiB."""

    name: str
    state: list[str]
    partitions: list[str]
    cpus: int = 0
    sockets: int = 0
    cores: int = 0
    threads: int = 0
    cpu_load: float | None = None
    free_memory: int | None = None
    features: str | None = None
    address: str | None = None
    hostname: str | None = None
    weight: int | None = None
    alloc_memory: int | None = None
    alloc_cpus: int | None = None
    idle_cpus: int | None = None


class NodesAnswer(Message):
    """`GET /status/{system}/nodes`"""

    nodes: list[Node]


class Partition(Message):
    """A partition (queue). FirecREST puts its state into the field named `partition`."""

    name: str
    cpus: int
    total_nodes: int
    partition: str | list[str]
    max_time: int | None = None
    """Crestline only: maximum time limit in seconds; None: unlimited or unknown."""
    max_nodes: int | None = None
    """Crestline only: maximum number of nodes of a job, as `max_time`."""
    default: bool | None = None
    """Crestline only: whether it is the default partition."""


class PartitionsAnswer(Message):
    """`GET /status/{system}/partitions`"""

    partitions: list[Partition]


class Reservation(Message):
    """An advance reservation; times in seconds since the epoch."""

    name: str
    node_list: str
    end_time: int
    start_time: int
    features: str | None = None
    state: str | None = None


class ReservationsAnswer(Message):
    """`GET /status/{system}/reservations`"""

    reservations: list[Reservation]


class PosixId(Message):
    """A user or a group."""

    id: str
    name: str


class PosixGroup(PosixId):
    """A group of the user; `default` exists since FirecREST 2.6."""

    default: bool = False


class Account(Message):
    """An account that the user can charge."""

    name: str
    default: bool = False


class UserInfo(Message):
    """`GET /status/{system}/userinfo`; `group` was removed in FirecREST 2.6, and older clients still read it."""

    user: PosixId
    groups: list[PosixGroup]
    group: PosixId | None = None
    accounts: list[Account] | None = None


class Liveness(Message):
    """`GET /status/liveness/`, public; `last_update` in seconds."""

    healthcheck_runs: dict[str, datetime]
    last_update: int
