"""One allocation for several CI jobs: found again, released, and replaced when it is over."""

from __future__ import annotations

from crestline.client import connect_blocking
from crestline.model import Job
from crestline.testing.gitlab_runner import CiJob, GitLab
from gitlab_runner.site import DriverSite


def _allocations(site: DriverSite) -> list[Job]:
    with connect_blocking(site.client_site) as system:
        return [job for job in system.jobs() if job.name.startswith("alloc-")]


def test_several_jobs_in_one_allocation(site: DriverSite, gitlab: GitLab) -> None:
    before = {job.job_id for job in _allocations(site)}
    shared = {"CRESTLINE_ALLOC": "pipeline-77"}
    build = site.run(gitlab, CiJob(script=["echo one > f; echo in $SLURM_JOB_ID"], variables=shared))
    assert build.state == "success", build.text
    build = site.run(
        gitlab,
        CiJob(
            script=["test ! -e f || exit 9", "echo two in $SLURM_JOB_ID; exit 4"],
            variables=shared,
            after_script=["echo after"],
            artifacts=[{"paths": ["README.md"], "when": "always"}],
        ),
    )
    assert (build.exit_code, "after\n" in build.text) == (4, True), build.text
    (allocation,) = [job for job in _allocations(site) if job.job_id not in before]
    assert allocation.state == "running"
    assert f"two in {allocation.job_id}\n" in build.text
    cancelled = CiJob(script=["echo it runs", "sleep 600"], variables=shared)
    with site.start(gitlab, cancelled) as build:
        build.wait_for("it runs\n")
        build.abort()
        build.wait()
    with connect_blocking(site.client_site) as system:
        assert system.job(allocation.job_id).state == "running", "one job's end is not the others'"
    last = CiJob(script=["true"], variables=shared | {"CRESTLINE_ALLOC_RELEASE": "true"})
    assert site.run(gitlab, last).state == "success"
    with connect_blocking(site.client_site) as system:
        assert system.wait(allocation.job_id, timeout=60).state == "cancelled"
    assert site.left_behind() == []
    assert not list(site.state.glob("*/alloc-*"))
