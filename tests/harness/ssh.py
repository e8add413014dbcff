"""A host behind SSH on the test cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from crestline.gateway.hosts.ssh import SshHost, SshSettings
from crestline.gateway.hosts.ssh.credentials import Credentials, UserKeys
from crestline.gateway.paths import PathGuard
from crestline.wire.status import SshTimeouts
from crestline.wire.tar import ArchiveLimits
from harness.cluster import Cluster

PATIENT = SshTimeouts(connection=20, login=20, command_execution=60, keep_alive=30)
"""seconds; the machine that runs the tests may be busy"""


@asynccontextmanager
async def ssh_host(
    cluster: Cluster, credentials: Credentials | None = None, limits: ArchiveLimits | None = None, **settings: Any
) -> AsyncIterator[SshHost]:
    """The cluster as a host that serves `/scratch` and `/home`."""
    defaults = {"host": cluster.host, "port": cluster.port, "known_hosts": cluster.known_hosts, "timeout": PATIENT}
    host = SshHost(
        "cluster",
        PathGuard("cluster", ["/scratch", "/home"]),
        SshSettings(**(defaults | settings)),
        credentials or UserKeys(cluster.keys),
        limits,
    )
    await host.start()
    try:
        yield host
    finally:
        await host.stop()
