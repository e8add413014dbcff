"""What the runner relies on: stages of old and new versions, exit codes, tries, the log's bytes, files both ways."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest

from crestline.client import connect_blocking
from crestline.testing.gitlab_runner import Build, CiJob, GitLab
from gitlab_runner.conftest import MakeSite
from gitlab_runner.site import DriverSite


def _names(gitlab: GitLab, job: CiJob) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(gitlab.artifacts[job.id])) as archive:
        return sorted(name for name in archive.namelist() if not name.endswith("/"))


def test_a_runner_of_version_14(site: DriverSite, gitlab: GitLab) -> None:
    job = CiJob(script=["exit 42"], after_script=["echo after"])
    build = site.run(gitlab, job, version="14.7.0")
    assert (build.reason, build.exit_code) == ("script_failure", 1), build.text
    assert build.stages[-2:] == ["after_script", "cleanup"]


def test_further_steps_and_a_code_of_an_earlier_stage(site: DriverSite, gitlab: GitLab) -> None:
    job = CiJob(script=["true"], more_steps={"step_release": ["echo releasing", "exit 7"]}, after_script=["exit 3"])
    build = site.run(gitlab, job)
    assert "releasing\n" in build.text, build.text
    assert (build.reason, build.exit_code) == ("script_failure", 7)


def test_what_a_job_gets_to_see(site: DriverSite, gitlab: GitLab) -> None:
    """Values that need quoting, large ones, files, a trace; and none of what is the driver's."""
    hostile = "line\nquote' double\" $(touch /tmp/never) `id` \\ $HOME \xe4"
    job = CiJob(
        script=[
            'printf "<%s>\\n" "$HOSTILE" "${#LARGE}" "$EMPTY" "$RAW"',
            'cat "$KEY_FILE"',
            'case $KEY_FILE in "$CI_PROJECT_DIR.tmp"/*) echo file beside the project;; esac',
        ],
        variables={
            "HOSTILE": hostile,
            "LARGE": "x" * 100_000,
            "EMPTY": "",
            "RAW": "$VARIABLE$WITH$DOLLARS$$",
            "CI_DEBUG_TRACE": "true",
        },
        file_variables={"KEY_FILE": "the content\n"},
    )
    build = site.run(gitlab, job)
    assert build.state == "success", build.text
    assert f"<{hostile}>\n<100000>\n<>\n<$VARIABLE$WITH$DOLLARS$$>\n" in build.text
    assert "the content\n" in build.text
    assert "file beside the project\n" in build.text


@pytest.mark.parametrize("backend", ["gateway", "plain"])
def test_the_log_is_exact(backend: str, make_site: MakeSite, gitlab: GitLab) -> None:
    """Megabytes of characters of all lengths, with ends of lines that are none, and bytes that are no text."""
    letters = random.Random(4)
    text = "".join(letters.choice("aé€😀\r\x1b[0m\n ") for _ in range(900_000)).encode() + b"\xff\xfe no text \x80"
    sha = gitlab.commit({"large.txt": text})
    build = make_site(backend).run(gitlab, CiJob(script=["cat large.txt"]), sha=sha)
    assert build.state == "success", build.text[-2000:]
    assert text in build.log


def test_files_both_ways(site: DriverSite, gitlab: GitLab) -> None:
    """Artifacts by pattern, exclusion and as untracked files; a dependency's artifacts; a cache over two jobs."""
    sha = gitlab.commit({"src/main.c": "int main;\n", "docs/Ü ber.txt": "x"})
    cache = {"key": "deps", "paths": [".cache"]}
    first = CiJob(
        name="first",
        script=[
            "ls .cache 2>/dev/null || echo no cache yet",
            "mkdir -p .cache build/deep/er 'with space'; echo cached > .cache/package",
            "echo a > build/deep/er/a.xml; echo b > build/b.xml; echo c > build/c.log; echo d > 'with space/d d.txt'",
            "ln -s b.xml build/link",
        ],
        artifacts=[{"paths": ["build/**/*.xml", "$CI_PROJECT_DIR/with space", "nothing*"], "exclude": ["build/b.xml"]}],
        cache=[cache],
    )
    build = site.run(gitlab, first, sha=sha)
    assert build.state == "success", build.text
    assert "no cache yet\n" in build.text
    assert _names(gitlab, first) == ["build/deep/er/a.xml", "with space/d d.txt"]
    second = CiJob(
        name="second",
        script=["cat .cache/package build/deep/er/a.xml src/main.c", "echo new > src/new.o; chmod +x src/new.o"],
        artifacts=[{"untracked": True}],
        cache=[cache | {"policy": "pull"}],
        dependencies=[first],
    )
    build = site.run(gitlab, second, sha=sha)
    assert build.state == "success", build.text
    assert "cached\na\nint main;\n" in build.text
    assert {"src/new.o", "build/deep/er/a.xml", ".cache/package"} <= set(_names(gitlab, second))
    assert "src/main.c" not in _names(gitlab, second)


def test_results_of_a_job_that_is_over(site: DriverSite, gitlab: GitLab) -> None:
    job = CiJob(
        script=["mkdir -p out/deep; echo partial > out/deep/p.txt; echo it runs", "sleep 600"],
        artifacts=[{"paths": ["out/**/*.txt"], "when": "always"}],
    )
    with site.start(gitlab, job) as build:
        build.wait_for("it runs\n")
        with connect_blocking(site.client_site) as system:
            system.cancel(next(each for each in system.jobs() if each.name.startswith(f"ci-{job.id}-")))
        build.wait()
    assert build.exit_code == 143, build.text
    assert job.id in gitlab.artifacts, build.text
    assert _names(gitlab, job) == ["out/deep/p.txt"]


def test_prepare_is_tried_again_after_our_own_failures(site: DriverSite, gitlab: GitLab) -> None:
    secret = site.file.with_name("secret")
    right = secret.read_text()
    secret.write_text("wrong")
    tries: list[str] = []

    def repair(stage: str) -> None:
        tries.append(stage)
        if tries.count("config") == 3:
            secret.write_text(right)

    with site.start(gitlab, CiJob(script=["echo at last"]), before_call=repair) as build:
        build.wait()
    assert build.state == "success", build.text
    assert tries.count("prepare") == 1, "config could not even say where"
    secret.write_text("wrong")
    next(site.state.glob("*/session_cache")).unlink()  # the token that the first job has left
    build = site.run(gitlab, CiJob(script=["true"]))
    secret.write_text(right)
    assert (build.reason, build.stages.count("prepare")) == ("runner_system_failure", 3), build.text
    assert len(site.left_behind()) == 1, "gc will look after it"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"SLURM_JOB_NUM_NODES": "two"}, "not a number of nodes"),
        ({"SLURM_TIMELIMIT": "1800"}, 'write "00:30:00"'),
        ({"CRESTLINE_PARTITION": "large"}, "not allowed here"),
    ],
)
def test_a_request_that_cannot_be_is_the_jobs_own_fault(
    variables: dict[str, str], said: str, make_site: MakeSite, gitlab: GitLab
) -> None:
    site = make_site("gateway", job={"allowed": ["partition:debug,normal", "time<=04:00:00"]})
    build = site.run(gitlab, CiJob(script=["true"], variables=variables))
    assert (build.reason, build.stages) == ("script_failure", ["config", "prepare", "cleanup"]), build.text
    assert said in build.text
    assert site.left_behind() == []


@pytest.mark.parametrize(
    ("backend", "variables", "said"),
    [
        ("gateway", {"CRESTLINE_PARTITION": "nowhere"}, "Unknown partition 'nowhere'"),
        ("gateway", {"CRESTLINE_NODES": "9999"}, "node"),
        ("plain", {"CRESTLINE_PARTITION": "nowhere"}, "nvalid partition"),
        ("slurm", {"CRESTLINE_ACCOUNT": "nowhere"}, "nvalid account"),
    ],
)
def test_what_the_scheduler_refuses_is_the_jobs_own_fault(
    backend: str, variables: dict[str, str], said: str, make_site: MakeSite, gitlab: GitLab
) -> None:
    site = make_site(backend)
    build = site.run(gitlab, CiJob(script=["true"], variables=variables))
    assert (build.reason, build.stages) == ("script_failure", ["config", "prepare", "cleanup"]), build.text
    assert said in build.text
    assert site.left_behind() == []


def test_only_the_configuration_of_the_runner_is_answered(site: DriverSite, tmp_path: Path) -> None:
    done = subprocess.run([*site.custom.config], capture_output=True, env=site.custom.environment, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"JOB_RESPONSE_FILE" in done.stderr


def test_a_driver_that_is_killed_is_never_the_jobs_fault(site: DriverSite, gitlab: GitLab) -> None:
    job = CiJob(script=["echo it runs", "sleep 600"])
    with Build(site.custom, gitlab, job, gitlab.commit({"x": "y"})) as build:
        build.wait_for("it runs\n")
        os.kill(build.wait_for_stage("build_script"), signal.SIGKILL)
        build.wait()
    assert build.reason == "runner_system_failure"
    with connect_blocking(site.client_site) as system:
        (only,) = [each for each in system.jobs() if each.name.startswith(f"ci-{job.id}-")]
        assert system.wait(only, timeout=60).state == "cancelled"
