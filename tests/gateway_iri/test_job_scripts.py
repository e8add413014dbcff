"""The batch script that a job of the IRI API becomes: its directives, and its words as they were."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from crestline.gateway.iri.job_scripts import describe, launched, spec_of
from crestline.gateway.iri.jobs import job_of
from crestline.gateway.schedulers.directives import sbatch_lines
from crestline.gateway.schedulers.pbs.submission import directives as pbs_lines
from crestline.model import InvalidRequestError
from crestline.model.sbatch import parse_directives
from crestline.wire.compute import JobInfo, JobMetadata, JobStatus, JobTime
from crestline.wire.iri import JobRequest
from harness.corpus import Canary


def request(**fields: Any) -> JobRequest:
    return msgspec.convert({"executable": "true"} | fields, JobRequest)


def script_of(directives: Callable[[JobRequest], list[str]] = sbatch_lines, **fields: Any) -> str:
    return describe(request(**fields), directives, "/home/alice").script or ""


RESOURCES = {
    "node_count": 2, "process_count": 8, "processes_per_node": 4, "cpu_cores_per_process": 3,
    "gpu_cores_per_process": 1, "memory": 5 * 1024**3 + 1,
}  # fmt: skip


def test_resources_become_options_of_sbatch() -> None:
    attributes = {"duration": 3661, "custom_attributes": {"constraint": "gpu&nvme", "requeue": ""}}
    found = parse_directives(script_of(resources=RESOURCES, attributes=attributes))
    assert found.unknown == ()
    assert found.options == {
        "nodes": "2", "ntasks": "8", "ntasks-per-node": "4", "cpus-per-task": "3", "gpus-per-task": "1",
        "mem": "5121M", "time": "61:01", "exclusive": "", "constraint": "gpu&nvme", "requeue": "",
    }  # fmt: skip


def test_a_job_that_asks_for_nothing_gets_no_option() -> None:
    assert parse_directives(script_of()).options == {}
    shared = parse_directives(script_of(resources={"exclusive_node_use": False}, inherit_environment=False))
    assert shared.options == {"export": "NONE"}


def test_resources_become_resources_of_pbs() -> None:
    attributes = {"duration": 3661, "custom_attributes": {"filesystems": "home:eagle"}}
    lines = script_of(pbs_lines, resources=RESOURCES, attributes=attributes).splitlines()
    assert [line for line in lines if line.startswith("#")][:5] == [
        "#!/bin/bash",
        "#PBS -l select=2:ncpus=12:mpiprocs=4:ngpus=4:mem=5121mb",
        "#PBS -l place=excl",
        "#PBS -l walltime=3661",
        "#PBS -l filesystems=home:eagle",
    ]


@pytest.mark.parametrize("directives", [sbatch_lines, pbs_lines])
@pytest.mark.parametrize("name", ["", "a b", "-x", "qos=1", "qos\n#SBATCH --uid", "Ünicode", "x" * 65])
def test_names_of_custom_attributes_have_a_form(directives: Callable[[JobRequest], list[str]], name: str) -> None:
    with pytest.raises(InvalidRequestError):
        script_of(directives, attributes={"custom_attributes": {name: "1"}})


def run(script: str, place: Path) -> subprocess.CompletedProcess[bytes]:
    file = place / "script"
    file.write_text(script)
    return subprocess.run(["bash", file], capture_output=True, cwd=place, timeout=60, check=False)


CANARY = Canary()


# Each process of the test run draws its own canary: the ids must not have its name.
@pytest.mark.parametrize("text", CANARY.everything(), ids=lambda text: ascii(text.replace(CANARY.name, "canary")))
def test_words_reach_the_program_as_they_are(text: str, tmp_path: Path) -> None:
    arguments = ["%s\\0", text, "", text * 2]
    script = script_of(
        executable="printf", arguments=arguments, environment={"SET": text}, inherit_environment=False,
        post_launch='printf %s "$SET"',
    )  # fmt: skip
    done = run(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode() == "\0".join([text, "", text * 2, text])
    assert parse_directives(script).options == {"export": "NONE"}
    assert launched(script) == ["printf", *arguments]
    assert run(script_of(executable=text), tmp_path).returncode != 0
    assert not (tmp_path / CANARY.name).exists()


def test_a_description_comes_back() -> None:
    info = JobInfo(
        job_id="1",
        name="n",
        status=JobStatus(state="RUNNING"),
        time=JobTime(limit=60),
        account="a",
        partition="p",
        working_directory="/w",
    )
    ours = spec_of(info, JobMetadata(job_id="1", script=script_of(arguments=["x y"]), standard_output="/w/out"))
    assert (ours.executable, ours.arguments, ours.stdout_path) == ("true", ["x y"], "/w/out")
    theirs = spec_of(info, JobMetadata(job_id="1", script="#!/bin/sh\ndate\n"))
    assert (theirs.executable, theirs.arguments) == ("/bin/bash", ["-c", "#!/bin/sh\ndate\n"])
    assert ours.attributes is not None
    assert (ours.attributes.duration, ours.attributes.queue_name, ours.attributes.account) == (60, "p", "a")


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["COMPLETED", "COMPLETED"], "completed"),
        (["COMPLETED", "FAILED"], "failed"),
        (["COMPLETED", "PENDING"], "active"),
        (["FAILED", "RUNNING", "PENDING"], "active"),
        (["PENDING", "PENDING"], "queued"),
        (["CANCELLED", "COMPLETED"], "canceled"),
        (["TIMEOUT"], "failed"),
        (["NOVEL"], "queued"),
    ],
)
def test_an_array_is_as_its_elements(states: list[str], state: str) -> None:
    infos = [
        JobInfo(job_id=f"1_{number}", name="n", status=JobStatus(state=each), time=JobTime())
        for number, each in enumerate(states)
    ]
    job = job_of(infos, "1")
    assert job.status is not None
    assert (job.id, job.status.state) == ("1", state)
