"""Which command lines of Slurm's own reading commands the gateway runs, and which it refuses."""

from __future__ import annotations

import pytest

from crestline.gateway.schedulers.slurm.queries import checked, variables
from crestline.model import InvalidRequestError
from harness.gateway import RunningGateway


@pytest.mark.parametrize(
    ("program", "words", "run"),
    [
        ("squeue", ["-hu", "me,bob", "-o", "%i"], ["--noheader", "--user=alice,bob", "--format=%i"]),
        ("squeue", ["--form", "%i; reboot", "--me"], ["--format=%i; reboot", "--me"]),
        ("sacct", ["-j", "1", "--json=v0.0.41", "-X"], ["--jobs=1", "--json=v0.0.41", "--allocations"]),
        ("sacct", ["-S", ""], ["--starttime="]),
        ("sinfo", ["--json"], ["--json"]),
        ("scontrol", ["show", "job", "7", "-d"], ["--details", "show", "job", "7"]),
        ("scontrol", ["show", "part", "debug"], ["show", "part", "debug"]),
        ("sacctmgr", ["-nP", "list", "user", "me"], ["--noheader", "--parsable2", "list", "user", "alice"]),
        ("sacctmgr", ["show", "assoc", "user=me"], ["show", "assoc", "user=alice"]),
    ],
)
def test_command_lines_are_written_in_full(program: str, words: list[str], run: list[str]) -> None:
    assert checked(program, words, "alice", "me") == run


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("scancel", ["1"]),
        ("bash", ["-c", "id"]),
        ("/bin/squeue", []),
        ("squeue", ["--iterate=1"]),
        ("squeue", ["-i1"]),
        ("squeue", ["--iter", "1"]),
        ("squeue", ["-M", "all"]),
        ("squeue", ["--federation"]),
        ("sacct", ["-L"]),
        ("sacct", ["--file=/etc/shadow"]),
        ("sacct", ["-f", "/etc/shadow"]),
        ("sinfo", ["--", "-i1"]),
        ("scontrol", ["update", "jobid=1", "timelimit=9"]),
        ("scontrol", ["write", "batch_script", "1", "/home/alice/.bashrc"]),
        ("scontrol", ["show"]),
        ("scontrol", ["token"]),
        ("scontrol", ["show", "hostlist", "/home/alice/.ssh/id_ed25519"]),
        ("scontrol", ["show", "hostlistsorted", "/etc/passwd"]),
        ("scontrol", ["show", "hostlist=/etc/passwd"]),
        ("scontrol", []),
        ("sacctmgr", ["add", "user", "mallory"]),
        ("sacctmgr", ["-i", "modify", "user", "alice", "set", "maxjobs=9"]),
        ("sacctmgr", ["dump", "test"]),
        ("sacctmgr", []),
        ("squeue", ["-o", "%i" * 9000]),
        ("squeue", ["-o", "a\0b"]),
    ],
)
def test_what_does_more_than_read_this_system_is_refused(program: str, words: list[str]) -> None:
    with pytest.raises(InvalidRequestError):
        checked(program, words, "alice", "me")


def test_variables() -> None:
    assert variables(["TZ=Europe/Zurich", "SQUEUE_FORMAT=%i", "SLURM_TIME_FORMAT=%s"])["SQUEUE_FORMAT"] == "%i"
    for bad in ("LD_PRELOAD=/tmp/x.so", "SLURM_CONF=/tmp/slurm.conf", "PATH=/tmp", "SQUEUE_CLUSTERS=all", "TZ=/etc/x",
                "TZ=../../etc/x", "TZ=:/etc/x", "SQUEUE_FORMAT=a\0b", "BASH_ENV=x", "SQUEUE_X\nPATH=1"):  # fmt: skip
        with pytest.raises(InvalidRequestError):
            variables([bad])


def test_another_scheduler_answers_nothing(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        answer = http.get(f"/status/{gateway.system}/slurm", params={"program": "squeue"})
    assert (answer.status_code, answer.json()["exitCode"]) == (200, None)


def test_it_shows_jobs_too_and_needs_both_scopes(gateway: RunningGateway) -> None:
    with gateway.http() as http:
        key = http.post("/keys", json={"name": "looks", "scopes": ["status:read"]}).json()["secret"]
        answer = http.get(f"/status/{gateway.system}/slurm", params={"program": "squeue"}, headers={"X-API-Key": key})
    assert answer.status_code == 403
    assert "jobs:read" in answer.text
