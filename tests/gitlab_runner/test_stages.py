"""A CI job from config to cleanup on each of the three backends."""

from __future__ import annotations

import io
import zipfile

import pytest

from crestline.testing.gitlab_runner import CiJob, GitLab
from gitlab_runner.conftest import MakeSite

BACKENDS = ["gateway", "slurm", "plain"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_job_that_succeeds(backend: str, make_site: MakeSite, gitlab: GitLab) -> None:
    site = make_site(backend)
    sha = gitlab.commit({"data/in.txt": "input\n", "run.sh": "echo from the repository\n"})
    job = CiJob(
        script=[
            "cat data/in.txt",
            "sh run.sh",
            "mkdir -p out && echo result > out/a.txt",
            "printf 'grüße\\xf0\\x9f\\x98\\x80'",
        ],
        after_script=['echo "after: $CI_JOB_STATUS"', "ls out"],
        artifacts=[{"paths": ["out"]}],
        variables={"CRESTLINE_TIME": "00:05:00"},
    )
    build = site.run(gitlab, job, sha=sha)
    assert (build.state, build.reason) == ("success", ""), build.text
    assert build.stages == [
        *("config", "prepare", "prepare_script", "get_sources", "build_script", "after_script"),
        *("upload_artifacts_on_success", "cleanup_file_variables", "cleanup"),
    ]
    assert "input\n" in build.text
    assert "from the repository\n" in build.text
    assert "grüße😀" in build.text
    assert "after: success\n" in build.text
    with zipfile.ZipFile(io.BytesIO(gitlab.artifacts[job.id])) as archive:
        assert archive.read("out/a.txt") == b"result\n"
    assert site.left_behind() == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_script_that_fails(backend: str, make_site: MakeSite, gitlab: GitLab) -> None:
    job = CiJob(
        script=["echo log > report.txt", "exit 42"],
        after_script=['echo "after: $CI_JOB_STATUS"'],
        artifacts=[{"paths": ["report.txt"], "when": "always"}],
    )
    build = make_site(backend).run(gitlab, job)
    assert (build.state, build.reason, build.exit_code) == ("failed", "script_failure", 42), build.text
    assert "after: failed\n" in build.text
    assert job.id in gitlab.artifacts
