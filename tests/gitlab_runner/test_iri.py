"""A CI job on an IRI facility: the runner's `[gateway]` is all that differs."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from gitlab_runner.site import iri_site
from gitlab_runner.stand_in.ci_job import CiJob
from gitlab_runner.stand_in.gitlab import GitLab
from iri_facility import Deviations, serve


@pytest.mark.parametrize("version", [1, 2])
def test_sources_script_and_artifacts(tmp_path: Path, gitlab: GitLab, version: int) -> None:
    (tmp_path / "facility").mkdir()
    (tmp_path / "driver").mkdir()
    with serve(tmp_path / "facility", Deviations(versions=(version,))) as facility:
        site = iri_site(tmp_path / "driver", facility)
        job = CiJob(script=["cat README.md", "echo made > result.txt"], artifacts=[{"paths": ["result.txt"]}])
        build = site.run(gitlab, job)
        assert build.state == "success", build.text
        assert "hello\n" in build.text
        with zipfile.ZipFile(io.BytesIO(gitlab.artifacts[job.id])) as archive:
            assert archive.read("result.txt") == b"made\n"
        failing = site.run(gitlab, CiJob(script=["echo no; exit 42"]))
        assert (failing.reason, failing.exit_code) == ("script_failure", 42), failing.text
    assert len(facility.jobs) == 2
    assert site.left_behind() == []
