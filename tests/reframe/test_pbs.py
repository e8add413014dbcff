"""Systems with PBS through the same core, against the stand-in of its commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.pbs_gateway import Mom, running
from harness.reframe_suite import Suite
from harness.sites import gateway_site

CHECKS = Path(__file__).parent / "checks"


@pytest.fixture(scope="module")
def site_and_mom(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[object, Mom]]:
    with running(tmp_path_factory.mktemp("pbs")) as (gateway, mom):
        yield gateway_site(gateway), mom


@pytest.fixture
def on_pbs(site_and_mom: tuple[object, Mom], tmp_path: Path) -> Suite:
    return Suite(tmp_path / "suite", site_and_mom[0], partition={"access": ["-q workq"]})


@pytest.fixture
def mom(site_and_mom: tuple[object, Mom]) -> Mom:
    return site_and_mom[1]


def test_tests_run_with_the_directives_of_pbs(on_pbs: Suite, mom: Mom) -> None:
    on_pbs.variables["RFM_TEST_COUNT"] = "3"
    done = on_pbs.run("-c", CHECKS / "many.py", "-c", CHECKS / "fails.py", "-c", CHECKS / "stopped_queue.py", "-r")
    assert done.results.pop("Fails") == "fail", done.output
    assert done.cases["Fails"]["job_exitcode"] == 3
    assert done.results["NeverStarts"] == "fail"
    small = {name: case for name, case in done.cases.items() if name.startswith("Small")}
    assert {case["result"] for case in small.values()} == {"pass"}, done.output
    jobs = mom.jobs()
    assert len(jobs) == 5
    assert all(job["job_state"] == "F" for job in jobs.values())
    told = done.jobs()
    assert {job["job_id"] for job in told.values()} == jobs.keys()
    waited = jobs[told["NeverStarts"]["job_id"]]
    assert (waited["queue"], waited["substate"]) == ("gpu", 91)  # ended by qdel, and had never begun
    assert "stime" not in waited
    assert {jobs[told[name]["job_id"]]["queue"] for name in small} == {"workq"}


@pytest.mark.parametrize("option", ["--flex-alloc-nodes=idle", "--distribute=idle"])
def test_nodes_are_chosen_with_slurm_alone_and_that_is_said(on_pbs: Suite, option: str) -> None:
    done = on_pbs.run("-c", CHECKS / "flexible.py", option, "-r")
    assert done.exit_status != 0
    assert "this one has PBS" in done.output


def test_packing_is_refused_in_words(on_pbs: Suite) -> None:
    on_pbs.firecrest["pack"] = "array"
    on_pbs.variables["RFM_TEST_COUNT"] = "1"
    done = on_pbs.run("-c", CHECKS / "many.py", "-r")
    assert done.exit_status != 0
    assert "'pack' works on systems with Slurm" in done.output
