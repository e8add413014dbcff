"""`submit`, `ps`, `wait`, `logs` and `cancel` against a served gateway."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest
from rich.cells import cell_len

from harness.command import CRESTLINE, TIMEOUT, Command


def _script(command: Command, text: str) -> Path:
    file = command.place / "job.sh"
    file.write_text(f"#!/bin/bash\n{text}\n")
    return file


def _submit(command: Command, text: str, *options: str) -> str:
    return command("submit", _script(command, text), *options).stdout.decode().strip()


def test_submit_prints_the_id_and_wait_exits_with_the_jobs_code(crestline: Command) -> None:
    first, second = _submit(crestline, "exit 0"), _submit(crestline, "exit 3")
    assert first.isdigit()
    done = crestline("wait", first, second, code=3)
    assert done.stderr.decode().splitlines() == [
        f"Job {first} completed, exit code 0",
        f"Job {second} failed, exit code 3",
    ]
    ended = [json.loads(line) for line in crestline("wait", "--json", first, second, code=3).stdout.splitlines()]
    assert [(job["job_id"], job["state"], job["exit_code"]) for job in ended] == [
        (first, "completed", 0),
        (second, "failed", 3),
    ]


def test_submit_and_wait(crestline: Command) -> None:
    done = crestline("submit", "-", "--wait", code=7, stdin=b"#!/bin/bash\nexit 7\n")
    assert done.stdout.strip().isdigit()
    job = crestline.json("submit", "--wait", _script(crestline, "kill -9 $$"), code=128 + 9)
    assert job["signal"] == 9


def test_a_script_that_is_not_utf8_is_refused_with_the_way_out(crestline: Command) -> None:
    script = b"#!/bin/bash\r\n# gr\xfc\xdfe\r\n"
    (crestline.place / "latin.sh").write_bytes(script)
    for command in (("submit", "latin.sh"), ("submit", "-"), ("run", "--script", "latin.sh")):
        done = crestline(*command, code=65, stdin=script)
        assert b"not UTF-8 (byte 18)" in done.stderr
        assert b"iconv" in done.stderr
    windows = script.replace(b"\xfc\xdf", "üß".encode()) + b"echo done\r\n"
    assert crestline("run", "--script", "-", stdin=windows).stdout == b"done\n"


def test_resources_reach_the_scheduler(crestline: Command) -> None:
    options = "--name my-job --time 00:05:00 --cpus-per-task 1 --env A=1,2 --env B=x=y -o out-%j.txt -e err.txt"
    text = 'echo "$A|$B|$SLURM_CPUS_PER_TASK|$PWD"; echo oops >&2'
    workdir = crestline.json("ls")  # the default directory is there
    assert isinstance(workdir, list)
    job_id = _submit(crestline, text, *options.split())
    crestline("wait", job_id)
    [job] = [each for each in crestline.json("ps", "--name", "my-job") if each["job_id"] == job_id]
    assert job["times"]["limit"] == 300
    assert crestline("cat", f"out-{job_id}.txt").stdout.decode() == f"1,2|x=y|1|{job['workdir']}\n"
    assert crestline("logs", job_id).stdout.decode().startswith("1,2|")
    assert crestline("logs", "--stderr", job_id).stdout == b"oops\n"


def test_a_script_on_the_system(crestline: Command) -> None:
    crestline("cp", _script(crestline, "exit 5"), ":remote.sh")
    path = next(each for each in crestline.json("cat", "remote.sh").values() if each.startswith("/"))
    crestline("submit", "--remote", path, "--wait", code=5)


def test_a_key_submits_once(crestline: Command) -> None:
    ids = {crestline.json("submit", _script(crestline, "exit 0"), "--key", "dag/task/1")["job_id"] for _ in range(2)}
    assert len(ids) == 1
    other = _script(crestline, "exit 1")
    assert "--key" not in crestline.refused("submit", other, "--key", "dag/task/1", code=65)


def test_ps(crestline: Command) -> None:
    job_id = _submit(crestline, "exit 3", "--name", "listed")
    crestline("wait", job_id, code=3)
    lines = crestline("ps", "--name", "listed", "--window", "1h").stdout.decode().splitlines()
    assert lines[0].split() == ["JOB", "NAME", "STATE", "PARTITION", "SUBMITTED", "ELAPSED", "LIMIT", "NODES", "REASON"]
    assert lines[1].split()[:3] == [job_id, "listed", "failed"]
    assert len(lines) == 2
    assert "USER" in crestline("ps", "--all-users").stdout.decode().splitlines()[0]


def test_cancel_ends_jobs_and_is_idempotent(crestline: Command) -> None:
    job_id = _submit(crestline, "sleep 600")
    assert crestline("cancel", job_id).stdout == b""
    assert crestline.json("cancel", job_id) == {"cancelled": [job_id]}
    done = crestline("wait", job_id, code=143)
    assert b"cancelled" in done.stderr


def test_cancel_goes_on_past_an_id_that_does_not_exist(crestline: Command) -> None:
    job_id = _submit(crestline, "sleep 600")
    done = crestline("cancel", "424242", job_id, "434343", code=66)
    assert [line.split(": ")[1] for line in done.stderr.decode().splitlines()] == ["424242", "434343"]
    crestline("wait", job_id, code=143)


def test_a_time_limit_has_one_exit_code(crestline: Command) -> None:
    job_id = _submit(crestline, "#SBATCH --time=0:01\nsleep 600")
    crestline("wait", job_id, code=124)


def test_windows_of_any_length(crestline: Command) -> None:
    job_id = _submit(crestline, "true", "--name", "windowed")
    crestline("wait", job_id)
    (job,) = crestline.json("ps", "--name", "windowed", "--window", "1h")
    deadline = time.monotonic() + TIMEOUT
    while crestline.json("ps", "--name", "windowed", "--window", "1s"):
        assert time.monotonic() < deadline, f"{job} ended long ago"
    assert "gateways list the jobs of the last 7d at most" in crestline.refused("ps", "--window", "30d", code=2)


def test_wide_names_and_narrow_terminals(crestline: Command) -> None:
    for name in ("\u540d\u524d", "n" * 200):
        crestline("wait", _submit(crestline, "true", "--name", name))
    lines = [line for line in crestline("ps").stdout.decode().splitlines() if "\u540d\u524d" in line or "nnn" in line]
    assert len({cell_len(line[: line.index("completed")]) for line in lines}) == 1, "columns are aligned"
    assert any("n" * 200 in line for line in lines), "nothing is cut for programs"
    primary, secondary = pty.openpty()
    fcntl.ioctl(primary, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    environment = {name: value for name, value in crestline.environment.items() if name != "COLUMNS"}
    subprocess.run([CRESTLINE, "ps"], env=environment, stdout=secondary, check=True, timeout=TIMEOUT)
    os.close(secondary)
    shown = os.read(primary, 65536).decode()
    assert max(map(cell_len, shown.splitlines())) <= 100


def test_wait_with_a_limit(crestline: Command) -> None:
    job_id = _submit(crestline, "sleep 600")
    assert "job continues" in crestline.refused("wait", job_id, "--timeout", "1s", code=75)
    crestline("cancel", job_id)


@pytest.mark.parametrize("command", ["wait", "logs", "cancel"])
def test_a_job_that_is_not_there(crestline: Command, command: str) -> None:
    assert crestline.refused(command, "424242", code=66).startswith("crestline: Job not found")


def test_a_job_that_could_not_be_started(crestline: Command) -> None:
    done = crestline("submit", "-", "--output", "/tmp/no/such", "--wait", code=127, stdin=b"#!/bin/sh\n")
    why = f"Job {int(done.stdout)} could not be started: /tmp/no/such No such file or directory"
    assert done.stderr.decode() == f"{why}\n"
    assert f"{why}. It has no output." in crestline.refused("logs", str(int(done.stdout)), code=66)


def test_logs_follow_while_the_job_writes(crestline: Command) -> None:
    gate = crestline.place / "gate"
    job_id = _submit(crestline, f"echo 'früh'; until [ -e {gate} ]; do sleep 0.1; done; printf late")
    with crestline.start("logs", "-f", job_id) as process:
        assert process.stdout is not None
        assert process.stdout.readline().decode() == "früh\n", "shown before the job ends"
        gate.touch()
        rest, errors = process.communicate(timeout=TIMEOUT)
    assert (rest, errors, process.returncode) == (b"late", b"", 0)
    pieces = [json.loads(line) for line in crestline("logs", "-f", job_id, "--json").stdout.splitlines()]
    assert "".join(piece["text"] for piece in pieces) == "früh\nlate"


def test_logs_of_an_array(crestline: Command) -> None:
    job_id = _submit(crestline, "echo element $SLURM_ARRAY_TASK_ID", "--array", "1-2")
    crestline("wait", job_id)
    assert sorted(crestline("logs", job_id).stdout.splitlines()) == [b"element 1", b"element 2"]
    assert crestline("logs", f"{job_id}_2").stdout == b"element 2\n"
    assert f"{job_id}_0" in crestline.refused("logs", "-f", job_id, code=65)
