"""A gateway that serves one tree and a facility by its IRI API."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from crestline.client import connect
from crestline.client.system import System
from crestline.gateway.identity.clients import Clients
from crestline.gateway.store import Store
from harness.gateway import RunningGateway, in_thread
from harness.iri_api import QUICK, Face, site_of


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one tree that the gateway serves."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, served: Path) -> Iterator[RunningGateway]:
    systems = {"local": {"file_systems": [{"path": str(served), "data_type": "scratch", "default_work_dir": True}]}}
    facility = {"name": "Pearl", "organization": "The Lab"}
    with in_thread(tmp_path_factory.mktemp("iri") / "home", systems=systems, iri=facility) as running:
        yield running


@pytest.fixture
def workdir(gateway: RunningGateway, served: Path, request: pytest.FixtureRequest) -> Path:
    place = served / f"work-{time.time_ns()}"
    place.mkdir()
    return place


@pytest.fixture
async def other(gateway: RunningGateway) -> tuple[str, str]:
    """Id and secret of a client for another user."""
    store = await Store.open(gateway.home / "private" / "gateway.db")
    try:
        client = f"client-{time.time_ns()}"
        return client, await Clients(store).add(client, "somebody")
    finally:
        await store.close()


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
async def system(gateway: RunningGateway, workdir: Path, request: pytest.FixtureRequest) -> AsyncIterator[System]:
    async with connect(site_of(gateway, request.param, workdir), policy=QUICK) as system:
        yield system


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def face(gateway: RunningGateway, request: pytest.FixtureRequest) -> Face:
    return Face(gateway, request.param, gateway.token())
