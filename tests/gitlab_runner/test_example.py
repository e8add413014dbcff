"""The example project: its pipeline as written, by the stand-in of the runner, on real Slurm."""

from __future__ import annotations

import io
import shutil
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from crestline.testing.gitlab_runner import CiJob, GitLab
from crestline_gitlab_runner.settings import load_settings
from gitlab_runner.conftest import MakeSite
from harness.parts import require
from harness.slurm_gateway import SlurmGateway

EXAMPLE = Path(__file__).parents[2] / "examples" / "ci" / "gitlab"


@pytest.fixture(scope="module")
def pipeline() -> dict:
    return yaml.safe_load((EXAMPLE / "project" / ".gitlab-ci.yml").read_text())


@pytest.fixture(scope="module")
def sha(gitlab: GitLab) -> str:
    project = EXAMPLE / "project"
    files = {str(path.relative_to(project)): path.read_bytes() for path in project.rglob("*") if path.is_file()}
    return gitlab.commit(dict(files))


def _job(pipeline: dict, name: str, *needs: CiJob, **variables: str) -> CiJob:
    entry = pipeline[name]
    return CiJob(
        name=name,
        stage=entry["stage"],
        script=entry["script"],
        after_script=entry.get("after_script", []),
        variables={**pipeline["variables"], **entry.get("variables", {}), **variables},
        artifacts=[entry["artifacts"]] if "artifacts" in entry else [],
        cache=[entry["cache"]] if "cache" in entry else [],
        dependencies=list(needs),
    )


def test_the_pipeline_on_slurm(
    make_site: MakeSite, slurm_gateway: SlurmGateway, gitlab: GitLab, pipeline: dict, sha: str
) -> None:
    site = make_site("slurm", gateway={"allow_job_credentials": True})
    build = _job(pipeline, "build-image")
    done = site.run(gitlab, build, sha=sha)
    assert done.state == "success", done.text
    with zipfile.ZipFile(io.BytesIO(gitlab.artifacts[build.id])) as archive:
        image = archive.read("image.tar")
    with tarfile.open(fileobj=io.BytesIO(image)) as layout:
        assert "index.json" in layout.getnames()
    two = _job(pipeline, "test-two-nodes", build)
    done = site.run(gitlab, two, sha=sha)
    assert done.state == "success", done.text
    assert {"rank 0 of 2", "rank 1 of 2", "it was a success"} <= set(done.text.splitlines())
    client_id, secret = slurm_gateway.client_of("bob")
    own = _job(pipeline, "test-credentials-of-the-project", F7T_CLIENT_ID=client_id, F7T_CLIENT_SECRET=secret)
    assert "runs as bob\n" in site.run(gitlab, own, sha=sha).text


def test_the_rest_of_the_pipeline(make_site: MakeSite, gitlab: GitLab, pipeline: dict, sha: str) -> None:
    site = make_site("gateway")
    reframe = Path(sys.executable).with_name("reframe")
    done = site.run(gitlab, _job(pipeline, "test-reframe", REFRAME=str(reframe)), sha=sha)
    assert done.state == "success", done.text
    done = site.run(gitlab, _job(pipeline, "test-known-to-fail"), sha=sha)
    assert done.exit_code in pipeline["test-known-to-fail"]["allow_failure"]["exit_codes"]
    done = site.run(gitlab, _job(pipeline, "test-long-running", MINUTE="1"), sha=sha)
    assert "minute 3\n" in done.text
    done = site.run(gitlab, _job(pipeline, "test-long-running", SLURM_TIMELIMIT="00:00:03"), sha=sha)
    assert done.exit_code in pipeline["default"]["retry"]["exit_codes"], done.text


def test_an_image_is_built_once_and_published(make_site: MakeSite, gitlab: GitLab, pipeline: dict, sha: str) -> None:
    require(shutil.which("curl") is not None, "there is no `curl`: install Debian's `curl`")
    site = make_site("gateway")
    build = _job(pipeline, "build-image")
    for said in ("", "layer from the cache\n"):
        done = site.run(gitlab, build, sha=sha)
        assert said in done.text, done.text
    done = site.run(gitlab, _job(pipeline, "publish", build), sha=sha)
    assert done.state == "success", done.text
    assert f"/api/v4/projects/7/packages/generic/app/{sha[:8]}/image.tar" in gitlab.cache


def test_the_configuration_files(tmp_path: Path) -> None:
    runner = tomllib.loads((EXAMPLE / "config.toml").read_text())["runners"][0]
    for stage in ("config", "prepare", "run", "cleanup"):
        assert runner["custom"][f"{stage}_args"][:3] == ["gitlab", stage, "-c"]
    file = tmp_path / "daint.toml"
    shutil.copy(EXAMPLE / "daint.toml", file)
    file.chmod(0o600)
    settings = load_settings(file)
    assert (settings.name, settings.heartbeat_ttl) == ("daint", 600)
