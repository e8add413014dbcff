"""`anywhere`: one Airflow connection to each of the three kinds of systems that all adapters must serve."""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from crestline.client import BlockingSystem, Site, connect_blocking
from crestline.testing.firecrest import running
from harness.gateway import RunningGateway


@dataclass
class Place:
    """A system behind the connection `firecrest_default`."""

    kind: str
    system: str
    python: str
    """an interpreter there"""
    workdir: str
    """a new directory there"""
    site: Site
    plain: Any = None
    """the stand-in, where it is one"""

    def open(self) -> BlockingSystem:
        """The system, for a `with`."""
        return connect_blocking(self.site, system=self.system)


@pytest.fixture(params=["local", "slurm", "plain"])
def anywhere(request: pytest.FixtureRequest, define: Any) -> Iterator[Place]:
    """A gateway of ours with `local` and in front of real Slurm, and a plain FirecREST."""
    name = re.sub(r"\W+", "-", request.node.name)
    kind = request.param
    if kind == "plain":
        with running(version="2.6.0") as plain:
            define(plain)
            yield _place(kind, plain, name, sys.executable, plain.client_id, plain.client_secret)
        return
    gateway: RunningGateway = request.getfixturevalue("gateway" if kind == "local" else "slurm_gateway")
    client_id, secret = gateway.client if kind == "local" else gateway.client_of("alice")  # type: ignore[attr-defined]
    define(gateway, login=client_id, password=secret)
    python = sys.executable if kind == "local" else "python3"
    yield _place(kind, gateway, name, python, client_id, secret)


def _place(kind: str, running: Any, name: str, python: str, client_id: str, secret: str) -> Place:
    site = Site(url=running.url, token_url=running.token_url, client_id=client_id, client_secret=secret)
    with connect_blocking(site, system=running.system) as system:
        workdir = posixpath.join(system.default_workdir(), name)
        system.mkdir(workdir, parents=True)
    return Place(kind, running.system, python, workdir, site, running if kind == "plain" else None)
