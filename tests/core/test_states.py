"""Every raw state of both schedulers, and what arrays make of them."""

from __future__ import annotations

import pytest

from crestline.client.job_ids import find_job, is_element, parent
from crestline.model import Job, JobState, normalize_state

S = JobState

# The compact list of "JOB STATE CODES" in squeue(1), sacct(1) and scontrol(1), Slurm 22.05 to 25.05.
SLURM = {
    "BOOT_FAIL": S.BOOT_FAIL,
    "CANCELLED": S.CANCELLED,
    "COMPLETED": S.COMPLETED,
    "COMPLETING": S.COMPLETING,
    "CONFIGURING": S.CONFIGURING,
    "DEADLINE": S.DEADLINE,
    "FAILED": S.FAILED,
    "LAUNCH_FAILED": S.FAILED,
    "NODE_FAIL": S.NODE_FAIL,
    "OUT_OF_MEMORY": S.OUT_OF_MEMORY,
    "PENDING": S.PENDING,
    "POWER_UP_NODE": S.CONFIGURING,
    "PREEMPTED": S.PREEMPTED,
    "RECONFIG_FAIL": S.FAILED,
    "REQUEUED": S.PENDING,
    "REQUEUE_FED": S.PENDING,
    "REQUEUE_HOLD": S.PENDING,
    "RESIZING": S.RUNNING,
    "RESV_DEL_HOLD": S.PENDING,
    "REVOKED": S.CANCELLED,
    "RUNNING": S.RUNNING,
    "SIGNALING": S.RUNNING,
    "SPECIAL_EXIT": S.PENDING,
    "STAGE_OUT": S.COMPLETING,
    "STOPPED": S.SUSPENDED,
    "SUSPENDED": S.SUSPENDED,
    "TIMEOUT": S.TIMEOUT,
    "UPDATE_DB": S.RUNNING,
}
# qstat(1B) of OpenPBS.
PBS = {
    "B": S.RUNNING,
    "E": S.COMPLETING,
    "H": S.PENDING,
    "Q": S.PENDING,
    "R": S.RUNNING,
    "S": S.SUSPENDED,
    "T": S.PENDING,
    "U": S.SUSPENDED,
    "W": S.PENDING,
}
WITH_EXIT_CODE = [
    ("F", 0, S.COMPLETED),
    ("F", 1, S.FAILED),
    ("F", None, S.COMPLETED),
    ("X", 0, S.COMPLETED),
    ("X", 271, S.FAILED),
    ("M", 0, S.UNKNOWN),
]
ODD = [
    ("CANCELLED by 1001", S.CANCELLED),
    ("cancelled by 0", S.CANCELLED),
    ("CANCELLED+", S.CANCELLED),
    ("RUNNING+COMPLETING", S.COMPLETING),
    ("OUT_OF_MEMORY", S.OUT_OF_MEMORY),
    ("running", S.RUNNING),
    ("", S.UNKNOWN),
    (None, S.UNKNOWN),
    ("NO_SUCH_STATE", S.UNKNOWN),
]
LIVE = {S.SUBMITTED, S.PENDING, S.CONFIGURING, S.RUNNING, S.SUSPENDED, S.COMPLETING, S.UNKNOWN}


@pytest.mark.parametrize(("raw", "state"), [*SLURM.items(), *PBS.items(), *ODD])
def test_raw_states(raw: str | None, state: JobState) -> None:
    assert normalize_state(raw) is state


@pytest.mark.parametrize(("raw", "exit_code", "state"), WITH_EXIT_CODE)
def test_states_that_the_exit_code_decides(raw: str, exit_code: int | None, state: JobState) -> None:
    assert normalize_state(raw, exit_code) is state


@pytest.mark.parametrize("state", list(JobState))
def test_what_is_terminal(state: JobState) -> None:
    assert state.is_terminal is (state not in LIVE)
    assert state.is_success is (state is S.COMPLETED)


def job(job_id: str, state: JobState = S.RUNNING, **more: object) -> Job:
    return Job(job_id=job_id, state=state, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("job_id", "whole", "element"),
    [
        ("12", "12", False),
        ("12_3", "12", True),
        ("12_[4-9]", "12", False),
        ("12+1", "12", True),
        ("12[3].server", "12", True),
        ("12[].server", "12", False),
        ("12.server", "12", False),
        ("f7tabc9", "f7tabc9", False),
    ],
)
def test_ids(job_id: str, whole: str, element: bool) -> None:
    assert parent(job_id) == whole
    assert is_element(job_id) is element


@pytest.mark.parametrize(
    ("states", "whole"),
    [
        ([S.COMPLETED, S.COMPLETED], S.COMPLETED),
        ([S.COMPLETED, S.FAILED], S.FAILED),
        ([S.CANCELLED, S.COMPLETED], S.CANCELLED),
        ([S.PENDING, S.PENDING], S.PENDING),
        ([S.FAILED, S.RUNNING, S.PENDING], S.RUNNING),
        ([S.COMPLETED, S.PENDING], S.RUNNING),
        ([S.COMPLETED, S.UNKNOWN], S.UNKNOWN),
    ],
)
def test_an_array_as_a_whole(states: list[JobState], whole: JobState) -> None:
    found = find_job([job(f"7_{index}", state) for index, state in enumerate(states)], "7")
    assert found is not None
    assert (found.job_id, found.state) == ("7", whole)


def test_elements_that_wait_together() -> None:
    listed = [job("7_0"), job("7_[1-5:2,9%2]", S.PENDING), job("70_2")]
    for index in (1, 3, 5, 9):
        found = find_job(listed, f"7_{index}")
        assert found is not None
        assert (found.job_id, found.state) == (f"7_{index}", S.PENDING)
    assert find_job(listed, "7_2") is None
    assert find_job(listed, "8") is None
