"""Limits, nodes and packing, as ReFrame's Slurm backend and the schedulers mean them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from crestline.testing.firecrest import PlainFirecrest
from harness.cluster import Cluster
from harness.gateway import RunningGateway
from harness.reframe_suite import Suite
from harness.waiting import until_blocking

CHECKS = Path(__file__).parent / "checks"


def test_limits_end_a_test_and_not_the_run(on_local: Suite) -> None:
    done = on_local.run("-c", CHECKS / "limits.py", "-r")
    assert done.results == {"TooLong": "fail", "NeverStarts": "fail", "Refused": "fail"}, done.output
    assert done.cases["TooLong"]["fail_phase"] == "sanity"
    assert "maximum pending time exceeded" in done.cases["NeverStarts"]["fail_reason"]
    assert "nowhere" in done.cases["Refused"]["fail_reason"]


def test_a_blocked_job_is_cancelled(on_slurm: Suite, cluster: Cluster) -> None:
    on_slurm.partition["sched_options"] = {
        "slurm_job_cancel_reasons": ["JobHeldUser"],
        "firecrest": on_slurm.options(),
    }
    done = on_slurm.run("-c", CHECKS / "blocked.py", "-r")
    assert done.results == {"Blocked": "fail"}, done.output
    assert "blocked due to reason: JobHeldUser" in done.cases["Blocked"]["fail_reason"]
    [job] = done.jobs().values()
    shown = cluster.check("alice", ["sacct", "-n", "-X", "-P", "-o", "state", "-j", job["job_id"]])
    assert shown.startswith("CANCELLED")


def test_nodes_are_chosen_as_slurm_shows_them(on_slurm: Suite) -> None:
    done = on_slurm.run("-c", CHECKS / "flexible.py", "--flex-alloc-nodes=all", "-r")
    assert done.results == {"AllNodes": "pass"}, done.output
    assert len(done.cases["AllNodes"]["job_nodelist"]) == 3
    done = on_slurm.run("-c", CHECKS / "many.py", "-n", "Small.*number=0", "--distribute=all", "-r")
    assert done.exit_status == 0, done.output
    assert sorted(node for case in done.cases.values() for node in case["job_nodelist"]) == ["n01", "n02", "n03"]


def test_a_reservation_has_the_nodes_that_slurm_shows(on_slurm: Suite, cluster: Cluster) -> None:
    about = ["reservationname=course", "starttime=now", "duration=60", "users=alice", "nodes=n02"]
    cluster.check("root", ["scontrol", "create", *about])
    try:
        done = on_slurm.run("-c", CHECKS / "flexible.py", "--flex-alloc-nodes=all", "-J", "reservation=course", "-r")
        unknown = on_slurm.run("-c", CHECKS / "flexible.py", "--flex-alloc-nodes=all", "-J", "reservation=none", "-r")
    finally:
        cluster.check("root", ["scontrol", "delete", "reservationname=course"])
    assert done.results == {"AllNodes": "pass"}, done.output
    assert done.cases["AllNodes"]["job_nodelist"] == ["n02"]
    assert "Unknown reservation 'none'. The gateway lists: course" in unknown.cases["AllNodes"]["fail_reason"]


def test_a_maintenance_reservation_and_the_default_partition(on_slurm: Suite, cluster: Cluster) -> None:
    on_slurm.partition["access"] = []
    about = ["reservationname=upkeep", "starttime=now", "duration=60", "users=alice", "nodes=n03"]
    cluster.check("root", ["scontrol", "create", *about, "flags=maint,ignore_jobs"])
    try:
        until_blocking(lambda: "MAINT" in cluster.check("root", ["scontrol", "show", "node", "n03"]))
        done = on_slurm.run("-c", CHECKS / "flexible.py", "--flex-alloc-nodes=avail", "-J", "reservation=upkeep", "-r")
    finally:
        cluster.check("root", ["scontrol", "delete", "reservationname=upkeep"])
    assert done.results == {"AllNodes": "pass"}, done.output
    assert done.cases["AllNodes"]["job_nodelist"] == ["n03"]


def test_without_a_partition_it_is_said_what_is_missing(on_plain: Suite) -> None:
    on_plain.partition["access"] = []
    done = on_plain.run("-c", CHECKS / "flexible.py", "--flex-alloc-nodes=idle", "-r")
    assert done.results == {"AllNodes": "fail"}, done.output
    assert "debug" in done.cases["AllNodes"]["fail_reason"]
    assert "access" in done.cases["AllNodes"]["fail_reason"]


def test_the_processor_is_detected_by_a_job(on_local: Suite) -> None:
    here = Path(sys.executable).parent
    on_local.general |= {"remote_detect": True, "remote_install": [f"PATH={here}:$PATH"]}
    done = on_local.run("-c", CHECKS / "many.py", "-n", "Small.*number=0", "-r")
    assert done.exit_status == 0, done.output
    assert "Detecting topology" in done.output
    topology = on_local.place / ".reframe" / "topology" / "remote-normal" / "processor.json"
    assert '"num_cpus"' in topology.read_text()


@pytest.mark.parametrize("kind", ["array", "allocation"])
def test_tests_that_are_one_job_keep_their_results(suite: Suite, kind: str) -> None:
    suite.firecrest["pack"] = kind
    suite.partition["time_limit"] = "2m"
    suite.variables["RFM_TEST_COUNT"] = "5"
    done = suite.run("-c", CHECKS / "many.py", "-c", CHECKS / "fails.py", "-r")
    assert done.results.pop("Fails") == "fail", done.output
    assert set(done.results.values()) == {"pass", "fail"} or set(done.results.values()) == {"pass"}
    passed = [name for name, result in done.results.items() if result == "pass"]
    assert len(passed) == 5, done.output
    jobs = done.jobs()
    ids = {job["job_id"].partition("_")[0] for job in jobs.values()}
    assert len(ids) < len(jobs)
    assert done.cases["Fails"]["job_exitcode"] == 3


def test_two_runs_at_once_do_not_meet(on_plain: Suite, plain: PlainFirecrest, tmp_path: Path) -> None:
    on_plain.variables["RFM_TEST_COUNT"] = "3"
    other = Suite(tmp_path / "other", on_plain.site, on_plain.partition, variables=on_plain.variables)
    first, second = (each.start("-c", CHECKS / "many.py", "-S", "seconds=2", "-r") for each in (on_plain, other))
    one, two = on_plain.finish(first), other.finish(second)
    assert one.exit_status == 0, one.output
    assert two.exit_status == 0, two.output
    assert len(plain.jobs()) == 6
    assert not list((plain.home / "reframe").iterdir())


def test_what_is_not_its_own_stays_and_what_is_old_goes(on_plain: Suite, plain: PlainFirecrest) -> None:
    base = plain.home / "reframe"
    for name in ("20200101T000000-00000000", "mine", "29990101T000000-00000000"):
        (base / name).mkdir(parents=True)
        (base / name / "file").touch()
    on_plain.variables["RFM_TEST_COUNT"] = "1"
    assert on_plain.run("-c", CHECKS / "many.py", "-r").exit_status == 0
    assert {each.name for each in base.iterdir()} == {"mine", "29990101T000000-00000000"}
    shutil.rmtree(base)


def test_files_of_a_run_can_be_kept(on_local: Suite, gateway: RunningGateway, tmp_path: Path) -> None:
    base = tmp_path / "base"
    on_local.firecrest["basedir"] = str(base)
    on_local.variables["RFM_TEST_COUNT"] = "1"
    done = on_local.run("-c", CHECKS / "many.py", "--keep-stage-files", "-r")
    assert done.exit_status == 0, done.output
    [run] = base.iterdir()
    assert list(run.glob("stage/remote/normal/builtin/Small*/rfm_job.out"))
