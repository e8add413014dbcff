"""Suites by each API, on the stand-ins and on real Slurm: the site alone differs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from msgspec.structs import asdict

from crestline.client import Site, register_site
from crestline.testing import firecrest
from crestline.testing.iri import TOKEN, Deviations, running
from harness.reframe_suite import Suite
from harness.sites import gateway_site, iri_site, plain_site
from harness.slurm_gateway import SlurmGateway

CHECKS = Path(__file__).parent / "checks"
UNUSED = ("url", "token_url", "client_id", "client_secret_file", "system")


@pytest.fixture
def on_facility(tmp_path: Path) -> Iterator[Suite]:
    place = tmp_path / "facility"
    place.mkdir()
    with running(place, Deviations(versions=(1,))) as facility:
        file, options = Path(os.environ["CRESTLINE_SITES"]), {"workdir": str(place)}
        register_site("doe", file=file, url=facility.url, api="iri", token=TOKEN, options=options)
        site = Site(url=facility.url, api="iri")
        yield Suite(tmp_path / "suite", site, firecrest=dict.fromkeys(UNUSED) | {"site": "doe"})


@pytest.fixture
def on_slurm(slurm_gateway: SlurmGateway, tmp_path: Path) -> Suite:
    client_id, secret = slurm_gateway.client_of("alice")
    site = iri_site(slurm_gateway, client_id=client_id, client_secret=secret)
    return Suite(
        tmp_path / "suite",
        site,
        partition={"access": ["--partition=debug"], "launcher": "srun"},
        firecrest={"api": "iri"},
    )


@pytest.mark.parametrize("where", ["facility", "slurm"])
def test_sources_dependencies_results_and_failures(request: pytest.FixtureRequest, where: str) -> None:
    suite: Suite = request.getfixturevalue(f"on_{where}")
    done = suite.run("-c", CHECKS / "pipeline.py", "-r", "-n", "Reads|Fails")
    assert done.results == {"Writes": "pass", "Reads": "pass", "Fails": "fail"}, done.output
    assert "yes" in done.cases["Fails"]["fail_reason"]


@pytest.mark.parametrize("name", ["firecrest", "facility", "slurm-iri", "slurm"])
def test_twenty_tests_need_another_sites_name_alone(request: pytest.FixtureRequest, tmp_path: Path, name: str) -> None:
    place = tmp_path / "facility"
    place.mkdir()
    file = Path(os.environ["CRESTLINE_SITES"])
    with ExitStack() as stack:
        if name == "firecrest":
            site = plain_site(stack.enter_context(firecrest.running()))
        elif name == "facility":
            facility = stack.enter_context(running(place))
            site = Site(url=facility.url, api="iri", token=TOKEN, system="Pearl", options={"workdir": str(place)})
        else:
            gateway: SlurmGateway = request.getfixturevalue("slurm_gateway")
            client_id, secret = gateway.client_of("alice")
            make = iri_site if name == "slurm-iri" else gateway_site
            site = make(gateway, client_id=client_id, client_secret=secret)
        register_site(name, file=file, **{field: value for field, value in asdict(site).items() if field != "name"})
        partition = {"access": ["--partition=debug"]}
        suite = Suite(tmp_path / "suite", site, partition, firecrest=dict.fromkeys(UNUSED) | {"site": name})
        suite.variables["RFM_TEST_COUNT"] = "20"
        done = suite.run("-c", CHECKS / "many.py", "-r")
    assert done.exit_status == 0, done.output
    assert [*done.results.values()] == ["pass"] * 20
