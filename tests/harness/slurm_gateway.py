"""A gateway in front of the test cluster: Slurm's commands and SFTP over SSH, as each user themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crestline.gateway.identity.clients import Clients
from crestline.gateway.state_directory import StateDirectory
from crestline.gateway.store import Store
from harness.cluster import Cluster
from harness.gateway import RunningGateway, in_thread
from harness.ssh import PATIENT


@dataclass
class SlurmGateway(RunningGateway):
    """With a client for each of some users."""

    system: str = "cluster"

    def client_of(self, user: str) -> tuple[str, str]:
        """Id and secret of a client that acts as `user`."""
        secret = json.loads((self.home / "clients.json").read_text())[user]
        return f"{user}-client", secret


def prepare(cluster: Cluster, home: Path, users: tuple[str, ...] = ("alice", "bob")) -> dict[str, Any]:
    """Make a state directory with a client for each of the users; returns the configuration of the system `cluster`."""
    StateDirectory(home).create()
    secrets = asyncio.run(_add_clients(home, users))
    (home / "clients.json").write_text(json.dumps(secrets))
    host = {
        "type": "ssh",
        "host": cluster.host,
        "port": cluster.port,
        "known_hosts": cluster.known_hosts,
        "timeout": msgspec.to_builtins(PATIENT),
        "observer": "observer",
        "credentials": {"type": "user_keys", "directory": str(cluster.keys)},
    }
    return {
        "host": host,
        "scheduler": {"type": "slurm"},
        "file_systems": [
            {"path": "/home", "data_type": "users", "default_work_dir": True},
            {"path": "/scratch", "data_type": "scratch"},
        ],
    }


@contextmanager
def running(cluster: Cluster, home: Path, users: tuple[str, ...] = ("alice", "bob")) -> Iterator[SlurmGateway]:
    """Serve the cluster as the system `cluster`."""
    with in_thread(home, systems={"cluster": prepare(cluster, home, users)}) as gateway:
        yield SlurmGateway(gateway.url, gateway.home)


async def _add_clients(home: Path, users: tuple[str, ...]) -> dict[str, str]:
    store = await Store.open(StateDirectory(home).database)
    clients = Clients(store)
    secrets = {user: await clients.add(f"{user}-client", user) for user in users}
    await store.close()
    return secrets


@pytest.fixture(scope="session")
def slurm_gateway(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmGateway]:
    """The gateway in front of real Slurm, for the whole session."""
    with running(cluster, tmp_path_factory.mktemp("slurm-gateway") / "home") as gateway:
        yield gateway
