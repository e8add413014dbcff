"""The gateway's IRI API: jobs from their fields to their end."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from crestline.gateway.schedulers.base import JobList, JobQuery
from crestline.gateway.schedulers.local.scheduler import LocalScheduler
from harness.gateway import RunningGateway
from harness.iri_api import Face

pytestmark = pytest.mark.anyio


def test_all_fields_of_a_job_reach_its_script(face: Face, workdir: Path) -> None:
    answer = face.submit(
        executable="printf", arguments=["%s|", "a b", "$HOME", "it's", "two\nlines"], launcher="env X=1",
        directory=str(workdir), name="fields", environment={"GREETING": "hello there"},
        pre_launch='#SBATCH --nodes=99999\necho "before $GREETING"', post_launch="echo after; exit 0",
        stdout_path="out", stderr_path="err",
        resources={"process_count": 1, "exclusive_node_use": False}, attributes={"duration": 600},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == {"state": "new"}
    job = face.wait(answer.json()["id"])
    assert job["status"]["state"] == "completed"
    assert (workdir / "out").read_text() == "before hello there\na b|$HOME|it's|two\nlines|after\n"
    spec = face.http.get(f"/compute/status/local/{job['id']}", params={"include_spec": "true"}).json()["job_spec"]
    assert spec["executable"] == "env"
    assert spec["arguments"] == ["X=1", "printf", "%s|", "a b", "$HOME", "it's", "two\nlines"]
    assert (spec["directory"], spec["attributes"]["duration"]) == (str(workdir), 600)


def test_a_job_ends_as_its_program_does(face: Face, workdir: Path) -> None:
    answer = face.submit(executable="/bin/sh", arguments=["-c", "exit 7"], directory=str(workdir), post_launch="true")
    status = face.wait(answer.json()["id"])["status"]
    assert (status["state"], status["exit_code"], status["meta_data"]["raw_state"]) == ("failed", 7, "FAILED")


def test_an_environment_that_is_not_inherited_and_a_script_as_executable(face: Face, workdir: Path) -> None:
    spec: dict[str, Any] = {"directory": str(workdir), "stdout_path": "own", "environment": {"MINE": "1 2"}}
    own = face.submit(executable="/bin/sh", arguments=["-c", 'echo "$MINE"'], inherit_environment=False, **spec)
    script = face.submit(executable="#!/bin/sh\necho script\n", directory=str(workdir), stdout_path="script")
    assert [face.wait(each.json()["id"])["status"]["state"] for each in (own, script)] == ["completed"] * 2
    assert (workdir / "own").read_text() == "1 2\n"
    assert (workdir / "script").read_text() == "script\n"


@pytest.mark.parametrize(
    ("spec", "status", "text"),
    [
        ({}, 422, "executable"),
        ({"executable": ""}, 400, "executable"),
        ({"executable": "true", "colour": "red"}, 400, "colour"),
        ({"executable": "true", "resources": {"node_count": 0}}, 400, "node_count"),
        ({"executable": "true", "arguments": "one"}, 400, "arguments"),
        ({"executable": "true", "attributes": {"custom_attributes": {"qos": "a\n#SBATCH --uid=0"}}}, 400, "qos"),
        ({"executable": "true", "attributes": {"custom_attributes": {"qos\nx": "1"}}}, 400, "custom attribute"),
        ({"executable": "true", "container": {"image": "x"}}, 422, "Containers"),
        ({"executable": "true", "attributes": {"queue_name": "nosuch"}}, 400, "nosuch"),
        ({"executable": "true", "directory": "relative"}, 400, "absolute"),
        ({"executable": "#!/bin/sh\n", "arguments": ["x"]}, 422, "arguments"),
        ({"executable": "true", "environment": {"A B": "x"}, "inherit_environment": False}, 400, "A B"),
        ({"executable": "a\0b"}, 400, "NUL"),
    ],
)
def test_what_a_job_cannot_have_is_refused(
    gateway: RunningGateway, spec: dict[str, Any], status: int, text: str
) -> None:
    answer = Face(gateway, 1, gateway.token()).submit(**spec)
    assert answer.status_code == status, answer.text
    assert text in answer.json()["detail"]


def test_a_submitted_job_cannot_be_changed(face: Face, workdir: Path) -> None:
    job_id = face.submit(executable="true", directory=str(workdir)).json()["id"]
    answer = face.http.put(f"/compute/job/local/{job_id}", json={"name": "other"})
    assert (answer.status_code, "cannot be changed" in answer.json()["detail"]) == (422, True)
    assert face.http.put("/compute/job/local/999999", json={}).status_code == 404


def test_a_key_submits_once(gateway: RunningGateway, workdir: Path) -> None:
    face = Face(gateway, 2, gateway.token())
    spec, key = {"executable": "true", "directory": str(workdir)}, {"Idempotency-Key": f"key-{time.time_ns()}"}
    first, second = (face.http.post("/compute/job/local", json=spec, headers=key) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert [each.headers["Idempotency-Key-Reply"] for each in (first, second)] == ["miss", "hit"]
    other = face.http.post("/compute/job/local", json=spec | {"name": "other"}, headers=key)
    assert (other.status_code, "Idempotency-Key" in other.json()["detail"]) == (422, True)


def test_lists_of_jobs(face: Face, workdir: Path) -> None:
    name = f"listed-{time.time_ns()}"
    ended = face.submit(executable="true", directory=str(workdir), name=name).json()["id"]
    face.wait(ended)
    runs = face.submit(executable="sleep", arguments=["300"], directory=str(workdir), name=name).json()["id"]

    def listed(**query: Any) -> list[str]:
        answer = face.http.post("/compute/status/local", params=query, json={"name": name})
        return [each["id"] for each in answer.json()]

    assert listed() == [runs]
    assert listed(historical="true") == [ended, runs]
    assert listed(historical="true", limit=1, offset=1) == [runs]
    assert face.http.get(f"/compute/status/local/{ended}", params={"historical": "false"}).status_code == 404
    assert face.http.delete(f"/compute/cancel/local/{runs}").status_code == 204
    assert face.wait(runs)["status"]["state"] == "canceled"
    assert face.http.delete(f"/compute/cancel/local/{runs}").status_code == 204
    assert face.http.delete("/compute/cancel/local/999999").status_code == 404
    assert face.http.get("/compute/status/local/no%20job").status_code == 404


def test_an_array_is_one_job(face: Face, workdir: Path) -> None:
    attributes = {"custom_attributes": {"array": "0-2"}}
    spec = {"arguments": ["-c", "exit $SLURM_ARRAY_TASK_ID"], "directory": str(workdir), "attributes": attributes}
    job_id = face.submit(executable="/bin/sh", **spec).json()["id"]
    job = face.wait(job_id)
    assert (job["id"], job["status"]["state"]) == (job_id, "failed")


def test_an_answer_tells_how_old_its_jobs_are(face: Face, workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the FirecREST API's do."""
    job_id = face.submit(executable="/bin/true", directory=str(workdir)).json()["id"]
    face.wait(job_id)
    ask = LocalScheduler.jobs

    async def old(self: LocalScheduler, username: str, query: JobQuery) -> JobList:
        found = JobList(await ask(self, username, query))
        found.age = 7.9
        return found

    paths = (f"/compute/status/local/{job_id}", "/compute/status/local")
    assert "Age" not in face.http.get(paths[0]).headers
    monkeypatch.setattr(LocalScheduler, "jobs", old)
    answers = (face.http.get(paths[0]), face.http.post(paths[1], params={"historical": "true"}))
    assert [(answer.status_code, answer.headers["Age"]) for answer in answers] == [(200, "7")] * 2
