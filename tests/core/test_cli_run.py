"""`crestline run` against a served gateway: upload, submit, follow, collect, exit as the job did."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.command import TIMEOUT, Command


def _events(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_run_is_like_running_here(crestline: Command) -> None:
    (crestline.place / "in.txt").write_text("input\n")
    (crestline.place / "more" / "below").mkdir(parents=True)
    (crestline.place / "more" / "below" / "x").write_text("x")
    work = "cat in.txt more/below/x; echo problem >&2; echo 42 > result.dat; exit 4"
    done = crestline(
        *("run", "--upload", "in.txt", "--upload", "more", "--collect", "*.dat", "--output-dir", "results"),
        *("--name", "calc", "--stderr", "err.txt", "bash", "-c", work),
        code=4,
    )
    assert done.stdout == b"input\nx"
    errors = done.stderr.decode().splitlines()
    assert "problem" in errors, "standard error goes to standard error"
    assert errors[-1].endswith("failed, exit code 4.")
    assert (crestline.place / "results" / "result.dat").read_text() == "42\n"
    assert crestline.json("ps", "--name", "calc")[0]["exit_code"] == 4


def test_run_a_script_in_json(crestline: Command) -> None:
    (crestline.place / "job.sh").write_text("#!/bin/bash\n#SBATCH --job-name=own\necho here; kill -TERM $$\n")
    done = crestline("run", "--json", "--script", "job.sh", "--workdir", "chosen/place", code=128 + 15)
    events = _events(done.stdout)
    assert done.stderr == b""
    assert [event["event"] for event in events if event["event"] not in ("state", "output")] == ["submitted", "ended"]
    assert events[0]["workdir"].endswith("/chosen/place")
    assert "".join(event["text"] for event in events if event["event"] == "output") == "here\n"
    assert (events[-1]["exit_code"], events[-1]["job"]["signal"]) == (143, 15)


def test_run_shows_output_while_the_job_runs(crestline: Command) -> None:
    gate = crestline.place / "gate"
    with crestline.start("run", "bash", "-c", f"echo first; until [ -e {gate} ]; do sleep 0.1; done") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        gate.touch()
        assert process.wait(TIMEOUT) == 0


def test_a_result_that_is_missing_fails_only_a_job_that_succeeded(crestline: Command) -> None:
    done = crestline("run", "--collect", "*.dat", "true", code=66)
    assert b"Not collected: Nothing matches" in done.stderr
    crestline("run", "--collect", "*.dat", "false", code=1)


def _first_output(process: subprocess.Popen[bytes]) -> str:
    """Read events up to the first output; the job's id."""
    assert process.stdout is not None
    job_id = ""
    for line in process.stdout:
        event = json.loads(line)
        job_id = event.get("job_id", job_id)
        if event["event"] == "output":
            return job_id
    raise AssertionError(process.communicate())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupting_run_cancels_the_job(crestline: Command, number: signal.Signals, code: int) -> None:
    with crestline.start("run", "--json", "bash", "-c", "echo up; sleep 600") as process:
        job_id = _first_output(process)
        process.send_signal(number)
        rest, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, errors) == (code, b"")
    assert _events(rest)[-1] == {"event": "cancelled", "job_id": job_id}
    crestline("wait", job_id, code=143)


def test_detach(crestline: Command) -> None:
    gate = crestline.place / "detached"
    started = crestline.json("run", "--detach", "bash", "-c", f"until [ -e {gate} ]; do sleep 0.1; done; exit 9")
    assert started["event"] == "submitted"
    gate.touch()
    crestline("wait", started["job_id"], code=9)


def test_what_cannot_be_uploaded_runs_nothing(crestline: Command, tmp_path: Path) -> None:
    before = len(crestline.json("ps"))
    crestline("run", "--upload", tmp_path / "absent", "true", code=66)
    assert len(crestline.json("ps")) == before
