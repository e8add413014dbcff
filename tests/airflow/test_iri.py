"""The talk's DAG by each API: the site is all that differs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crestline.client import register_site
from crestline.testing import firecrest
from crestline.testing.iri import TOKEN, Deviations, running
from harness.airflow_dags import run, the_talk
from harness.gateway import in_thread


@pytest.fixture(params=["FirecREST", "facility v1", "facility v2", "gateway v2", "slurm IRI", "slurm FirecREST"])
def system(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The system of the only site that the sites file has."""
    kind, _, version = request.param.partition(" ")
    sites, place = Path(os.environ["CRESTLINE_SITES"]), tmp_path / "place"
    place.mkdir()
    iri: dict[str, Any] = {"file": sites, "api": "iri", "options": {"workdir": str(place)}}
    if kind == "FirecREST":
        with firecrest.running() as plain:
            credentials = {"client_id": plain.client_id, "client_secret": plain.client_secret}
            register_site("site", file=sites, url=plain.url, token_url=plain.token_url, **credentials)
            yield plain.system
    elif kind == "facility":
        with running(place, Deviations(versions=(int(version[1:]),))) as facility:
            register_site("site", url=facility.url, token=TOKEN, **iri)
            yield "Pearl"
            assert len(facility.jobs) == 1
    elif kind == "slurm":
        gateway = request.getfixturevalue("slurm_gateway")
        client_id, secret = gateway.client_of("alice")
        by_iri = {"api": "iri", "url": f"{gateway.url}/iri"} if version == "IRI" else {"url": gateway.url}
        credentials = {"client_id": client_id, "client_secret": secret}
        register_site("site", file=sites, token_url=gateway.token_url, **by_iri, **credentials)
        yield "cluster"
    else:
        systems = {"local": {"file_systems": [{"path": str(place)}]}}
        with in_thread(tmp_path / "home", systems=systems) as gateway:
            register_site("site", url=f"{gateway.url}/iri/api/{version}", token=gateway.token(), **iri)
            yield "local"


def test_the_talk(system: str, tmp_path: Path, task_log: Any) -> None:
    done = run(the_talk(system, tmp_path))
    assert done.states == {"upload": "success", "submit": "success", "download": "success"}, task_log.errors
    assert done.xcom("submit")["exit_code"] == 0
    assert (tmp_path / "sum.txt").read_text() == "16\n"
    assert task_log.lines("submit").count("adding") == 1
