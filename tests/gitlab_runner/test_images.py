"""`image:`: the command of each runtime, and a real container engine that runs a real image on the local scheduler."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile

import pytest

from crestline.testing.gitlab_runner import CiJob, GitLab
from crestline_gitlab_runner.failures import BuildFailureError
from crestline_gitlab_runner.images import launch
from crestline_gitlab_runner.settings import Images
from gitlab_runner.conftest import MakeSite
from harness.parts import require

IMAGE = "debian:bookworm-slim"  # what the test cluster is built on


@pytest.fixture(scope="module")
def docker() -> str:
    program = shutil.which("docker") or ""
    require(bool(program), "there is no `docker` command: install Docker, or as root run .ci/prepare")
    found = subprocess.run([program, "image", "inspect", IMAGE], capture_output=True, check=False)
    require(found.returncode == 0, f"there is no image {IMAGE}: tests/cluster/build pulls it")
    return program


def test_a_job_in_a_container(docker: str, make_site: MakeSite, gitlab: GitLab) -> None:
    """Script and after_script see the image's files, the sources and each other's; the exit code comes through."""
    command = [docker, "run", "--rm", "--network=none", "--volume={workspace}:{workspace}", "{image}"]
    site = make_site("gateway", images={"runtime": "custom", "command": command, "allowed": ["debian:*"]})
    job = CiJob(
        image=IMAGE,
        script=[
            "test -f /.dockerenv && . /etc/os-release && echo in a container of $VERSION_CODENAME",
            "cat in.txt",
            'echo "made for $GREETING" > out.txt',
            "exit 5",
        ],
        variables={"GREETING": 'wörld\'s "end"'},
        after_script=["test -f /.dockerenv && echo after: $(cat out.txt)"],
        artifacts=[{"paths": ["out.txt"], "when": "always"}],
    )
    build = site.run(gitlab, job, sha=gitlab.commit({"in.txt": "from the repository\n"}))
    assert build.exit_code == 5, build.text
    assert "in a container of bookworm\n" in build.text
    assert "from the repository\n" in build.text
    assert 'after: made for wörld\'s "end"\n' in build.text
    with zipfile.ZipFile(io.BytesIO(gitlab.artifacts[job.id])) as archive:
        assert archive.read("out.txt").decode() == 'made for wörld\'s "end"\n'


def test_an_image_that_is_not_allowed_or_not_there(docker: str, make_site: MakeSite, gitlab: GitLab) -> None:
    command = [docker, "run", "--rm", "--pull=never", "{image}"]
    site = make_site("gateway", images={"runtime": "custom", "command": command, "allowed": ["debian:*"]})
    refused, missing = site.run_together(
        gitlab,
        [CiJob(script=["true"], image="alpine:3"), CiJob(script=["true"], image="debian:no-such-release")],
        sha=gitlab.commit({"x": "y"}),
    )
    assert "image: alpine:3 is not allowed here." in refused.text
    assert (missing.reason, missing.exit_code) == ("script_failure", 125), missing.text
    assert "debian:no-such-release" in missing.text


@pytest.mark.parametrize(
    ("images", "image", "words"),
    [
        (Images(), "", "exec bash /w/s"),
        (Images(runtime="apptainer"), "gcc:14", "exec apptainer exec --bind /w docker://gcc:14 bash /w/s"),
        (Images(runtime="apptainer"), "/apps/x.sif", "exec apptainer exec --bind /w /apps/x.sif bash /w/s"),
        (
            Images(runtime="pyxis"),
            "registry.example.org/a/b:1",
            "exec srun --ntasks=1 '--container-image=registry.example.org#a/b:1' --container-mounts=/w:/w bash /w/s",
        ),
        (Images(runtime="uenv"), "prgenv-gnu/24.7:v3", "exec uenv run prgenv-gnu/24.7:v3 -- bash /w/s"),
        (Images(runtime="custom", command=["podman", "run", "{image}"]), "x", "exec podman run x bash /w/s"),
    ],
)
def test_the_command_of_each_runtime(images: Images, image: str, words: str) -> None:
    assert launch(images, image, "/w", "bash", "/w/s", per_rank=False)[-1] == words


def test_names_that_are_refused() -> None:
    with pytest.raises(BuildFailureError):
        launch(Images(), "gcc:14", "/w", "bash", "/w/s", per_rank=False)
    for name in ("--privileged", "a b", "$(id)", "x;y", "../up", "a\nb"):
        with pytest.raises(BuildFailureError):
            launch(Images(runtime="apptainer"), name, "/w", "bash", "/w/s", per_rank=False)
    with pytest.raises(BuildFailureError):
        launch(Images(runtime="apptainer", allowed=["library/*"]), "x/y", "/w", "bash", "/w/s", per_rank=False)
