"""A CI job by other APIs than FirecREST: IRI (stand-in, real Slurm) and the example of "Write a facility backend"."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from crestline.testing.gitlab_runner import CiJob, GitLab
from crestline.testing.iri import Deviations, running
from gitlab_runner.site import DriverSite, iri_site, iri_slurm_site, workstation_site


@pytest.fixture(params=["facility", "slurm", "workstation"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DriverSite]:
    driver, place = tmp_path / "driver", tmp_path / "facility"
    driver.mkdir()
    place.mkdir()
    if request.param == "slurm":
        yield iri_slurm_site(driver, request.getfixturevalue("slurm_gateway"))
        return
    if request.param == "workstation":
        yield workstation_site(driver, place)
        assert [path.name for path in place.glob(".workstation/[0-9]*")] == ["1"]
        return
    with running(place, Deviations(versions=(1,))) as facility:
        yield iri_site(driver, facility)
        assert len(facility.jobs) == 1


def test_sources_script_verdict_and_artifacts(site: DriverSite, gitlab: GitLab) -> None:
    job = CiJob(
        script=["cat README.md", "echo made > result.txt", "exit 42"],
        artifacts=[{"paths": ["result.txt"], "when": "always"}],
    )
    build = site.run(gitlab, job)
    assert (build.state, build.reason, build.exit_code) == ("failed", "script_failure", 42), build.text
    assert "hello\n" in build.text
    with zipfile.ZipFile(io.BytesIO(gitlab.artifacts[job.id])) as archive:
        assert archive.read("result.txt") == b"made\n"
    assert site.left_behind() == []
