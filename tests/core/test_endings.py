"""The sentence for each way in which a job ends."""

from __future__ import annotations

from typing import Any

import pytest

from crestline.model import Job, JobState, JobTimes, describe_end, end_hint, end_reason

LIMIT = JobTimes(limit=90_000)


@pytest.mark.parametrize(
    ("state", "fields", "sentence", "hint"),
    [
        ("completed", {"exit_code": 0}, "Job 7 completed.", ""),
        ("timeout", {"exit_code": 0, "signal": 15}, "Job 7 reached its time limit.", "more time"),
        ("timeout", {"times": LIMIT}, "Job 7 reached its time limit of 1-01:00:00.", "more time"),
        ("timeout", {"times": JobTimes(limit=90)}, "Job 7 reached its time limit of 00:01:30.", "more time"),
        ("timeout", {"exit_code": 137}, "Job 7 reached its time limit.", "more time"),
        ("cancelled", {"exit_code": 0, "signal": 9}, "Job 7 was cancelled.", ""),
        ("preempted", {"exit_code": 137}, "Job 7 was preempted by other jobs.", "run it again"),
        ("deadline", {}, "Job 7 was ended at its deadline.", "deadline"),
        ("cancelled", {"raw_state": "CANCELLED by 1001"}, "Job 7 was cancelled by user 1001.", ""),
        ("cancelled", {"raw_state": "CANCELLED+", "signal": 15}, "Job 7 was cancelled.", ""),
        ("out_of_memory", {"exit_code": 0, "signal": 125}, "Job 7 ran out of memory.", "more memory"),
        ("node_fail", {}, "A node of job 7 failed.", "run it again"),
        ("node_fail", {"nodes": "nid[1-2]"}, "A node of job 7 (nid[1-2]) failed.", "run it again"),
        ("boot_fail", {"nodes": "n1"}, "A node of job 7 (n1) did not boot.", "run it again"),
        ("preempted", {}, "Job 7 was preempted by other jobs.", "run it again"),
        ("failed", {"exit_code": 0, "signal": 53}, "Job 7 could not be started.", "working directory"),
        ("failed", {"raw_state": "F", "exit_code": -1}, "Job 7 could not be started.", "working directory"),
        ("failed", {"raw_state": "LAUNCH_FAILED"}, "Job 7 could not be started.", "working directory"),
        ("failed", {"reason": "Cannot start the job: /x denied"}, "Job 7 could not be started.", "working directory"),
        ("failed", {"exit_code": 0, "signal": 11}, "Job 7 was ended by signal 11 (SIGSEGV).", ""),
        ("failed", {"exit_code": 0, "signal": 9}, "Job 7 was ended by signal 9 (SIGKILL).", "memory"),
        ("failed", {"exit_code": 271}, "Job 7 was ended by signal 15 (SIGTERM).", ""),
        ("failed", {"exit_code": 3}, "Job 7 failed with exit code 3.", ""),
        ("failed", {"exit_code": 127}, "Job 7 failed with exit code 127: a command was not found.", "modules"),
        (
            "failed",
            {"exit_code": 137},
            "Job 7 failed with exit code 137: a command was ended by signal 9 (SIGKILL).",
            "mem",
        ),
        ("failed", {"exit_code": 250}, "Job 7 failed with exit code 250.", ""),
        ("failed", {"exit_code": 0}, "Job 7 failed.", ""),
        ("failed", {}, "Job 7 failed.", ""),
    ],
)
def test_an_ending(state: str, fields: dict[str, Any], sentence: str, hint: str) -> None:
    job = Job(job_id="7", state=JobState(state), **fields)
    assert describe_end(job) == sentence
    assert hint in end_hint(job) if hint else end_hint(job) == ""


@pytest.mark.parametrize("state", [state for state in JobState if state.is_terminal])
def test_every_ending_has_a_sentence_of_its_own(state: JobState) -> None:
    sentence = describe_end(Job(job_id="7", state=state, raw_state=state.upper()))
    assert "is in the state" not in sentence
    assert sentence.endswith(".")


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("None", ""),
        ("", ""),
        ("NonZeroExitCode", ""),
        ("TimeLimit", ""),
        ("RaisedSignal:9(Killed)", ""),
        ("Prolog", "Prolog"),
    ],
)
def test_a_reason_is_said_where_it_says_more_than_the_state(reason: str, said: str) -> None:
    assert end_reason(Job(job_id="7", state=JobState.FAILED, reason=reason)) == said
