"""The command against a plain FirecREST, reached by `FIRECREST_*` variables."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from crestline.testing.firecrest import VERSIONS, PlainFirecrest, running
from crestline.testing.firecrest.scheduler import Order
from harness.command import TIMEOUT, Command


@pytest.fixture(params=VERSIONS[:2])
def plain(request: pytest.FixtureRequest) -> Iterator[PlainFirecrest]:
    with running(version=request.param) as stand_in:
        yield stand_in


@pytest.fixture
def crestline(plain: PlainFirecrest, tmp_path: Path) -> Command:
    return Command(
        tmp_path,
        FIRECREST_URL=plain.url,
        AUTH_TOKEN_URL=plain.token_url,
        FIRECREST_CLIENT_ID=plain.client_id,
        FIRECREST_CLIENT_SECRET=plain.client_secret,
        FIRECREST_SYSTEM=plain.system,
    )


def test_run(plain: PlainFirecrest, crestline: Command) -> None:
    (crestline.place / "in.txt").write_text("input\n")
    work = "cat in.txt; echo data > r.res; echo last; exit 4"
    done = crestline("run", "--upload", "in.txt", "--collect", "*.res", "bash", "-c", work, code=4)
    assert done.stdout == b"input\nlast\n"
    assert (crestline.place / "r.res").read_text() == "data\n"
    assert len(plain.jobs()) == 1


def test_rm_and_mv_of_a_link_are_about_the_link(plain: PlainFirecrest, crestline: Command) -> None:
    kept = plain.home / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (plain.home / "link").symlink_to(kept)
    (plain.home / "to-home").symlink_to(plain.home)
    (plain.home / "dangling").symlink_to("nothing")
    assert "Remove it with -r." in crestline.refused("rm", "link/", code=65)
    crestline("rm", "link", "to-home", "dangling")
    assert [path.name for path in plain.home.iterdir() if not path.name.startswith(".")] == ["kept"]
    assert (kept / "file").exists()


def test_logs_follow(plain: PlainFirecrest, crestline: Command) -> None:
    gate = plain.scratch / "gate"
    script = f"#!/bin/bash\necho früh\nuntil [ -e {gate} ]; do sleep 0.1; done\nprintf spät\n"
    (crestline.place / "job.sh").write_text(script)
    job_id = crestline("submit", "job.sh").stdout.decode().strip()
    with crestline.start("logs", "-f", job_id) as process:
        assert process.stdout is not None
        assert process.stdout.readline().decode() == "früh\n"
        gate.touch()
        rest, errors = process.communicate(timeout=TIMEOUT)
    assert (rest.decode(), errors, process.returncode) == ("spät", b"", 0)


def test_interrupting_run_cancels_the_job(plain: PlainFirecrest, crestline: Command) -> None:
    with crestline.start("run", "bash", "-c", "echo up; sleep 600") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    [job] = plain.jobs()
    assert crestline("wait", str(job.number), code=1).stderr.startswith(f"Job {job.number} was cancelled".encode())


def test_files_and_doctor(crestline: Command) -> None:
    (crestline.place / "bytes").write_bytes(bytes(range(256)))
    crestline("cp", "bytes", ":")
    assert crestline("cat", "bytes").stdout == bytes(range(256))
    assert "bytes" in crestline("ls").stdout.decode().split()
    checks = [json.loads(line) for line in crestline("doctor", "--json").stdout.splitlines()]
    assert {check["verdict"] for check in checks} == {"ok"}


def test_one_sentence_where_the_users_directory_does_not_exist(plain: PlainFirecrest, crestline: Command) -> None:
    (crestline.place / "x").write_text("x")
    plain.home.rename(plain.home.with_name("elsewhere"))
    commands = (("ls",), ("ls", "sub"), ("cp", "x", ":a/b"), ("cp", ":x", "y"), ("cat", "x"))
    for command in commands:
        said = crestline.refused(*command, code=66)
        assert f"The directory {plain.home} does not exist on the system. Make it with `crestline mkdir -p" in said, (
            command
        )
    assert f"The directory {plain.home} does not exist" in crestline("doctor", code=1).stdout.decode()


def test_names_are_shown_and_one_bad_file_of_many_is_named(plain: PlainFirecrest, crestline: Command) -> None:
    (plain.home / "tree").mkdir()
    for name in ("für.txt", "b", "c"):
        (plain.home / "tree" / name).write_text(name)
    assert crestline("ls", "tree").stdout.decode().split() == ["b", "c", "für.txt"]
    plain.faults.fail(403, "/ops/download", query="%2Fb$", count=None)
    done = crestline("cp", "-r", ":tree", "here", code=74)
    assert "'b' of" in done.stderr.decode()
    assert sorted(path.name for path in (crestline.place / "here").iterdir()) == ["c", "für.txt"]


@pytest.mark.parametrize("offer", ["s3", "streamer", None])
def test_doctor_says_how_large_files_travel(plain: PlainFirecrest, crestline: Command, offer: str | None) -> None:
    plain.settings.data_transfer = offer  # type: ignore[assignment]
    found = {line["name"]: line for line in map(json.loads, crestline("doctor", "--json").stdout.splitlines())}
    check = found["large files"]
    assert (check["verdict"], (offer or "nothing") in check["message"].lower()) == (
        "ok" if offer == "s3" else "warn",
        True,
    )


def test_an_id_that_does_not_exist(plain: PlainFirecrest, crestline: Command) -> None:
    said = crestline("wait", "999999", code=66).stderr.decode()
    assert "does not know the job 999999" in said
    assert sum(seen.path.endswith("/jobs/999999") for seen in plain.requests) <= 2


def test_a_job_that_was_just_submitted_is_waited_for_although_it_is_not_there(
    plain: PlainFirecrest, crestline: Command
) -> None:
    plain.faults.fresh_job_404 = 4.0
    (crestline.place / "job.sh").write_text("#!/bin/bash\nexit 3\n")
    job_id = crestline("submit", "job.sh").stdout.decode().strip()
    assert crestline("wait", job_id, code=3).stderr == f"Job {job_id} failed, exit code 3\n".encode()


def test_a_list_that_a_name_has_broken(plain: PlainFirecrest, crestline: Command) -> None:
    (crestline.place / "job.sh").write_text("#!/bin/bash\nsleep 600\n")
    job_id = crestline("submit", "job.sh").stdout.decode().strip()
    plain.scheduler.submit(Order("#!/bin/bash\nsleep 600\n", plain.home, name="a|b"), plain.user)
    done = crestline("ps", code=69)
    assert [line.split()[0] for line in done.stdout.decode().splitlines()[1:]] == [job_id]
    assert "not all jobs" in done.stderr.decode()
    assert "'|' or a line break" in done.stderr.decode()
    assert [job["job_id"] for job in json.loads(crestline("ps", "--json", code=69).stdout)] == [job_id]


def test_a_proxy_that_answers_in_place_of_the_gateway(plain: PlainFirecrest, crestline: Command) -> None:
    plain.faults.garble("/status|/compute", status=502, count=None)
    assert b"A proxy answered 502 in place of the gateway" in crestline("ps", code=69).stderr
    plain.faults.garble("/token", status=502, count=None)
    assert b"No access token for http" in crestline("ps", code=69).stderr


def test_logs_of_a_job_whose_output_path_slurm_has_forgotten(plain: PlainFirecrest, crestline: Command) -> None:
    """Accounting remembers jobs for months, and the scheduler where they wrote for minutes."""
    (crestline.place / "job.sh").write_text("#!/bin/bash\necho said\n")
    job_id = crestline("submit", "--wait", "job.sh").stdout.decode().split()[0]
    plain.faults.metadata_kept = 0.0
    said = crestline.refused("logs", job_id, code=66)
    assert "has forgotten where job" in said
    assert f"{plain.home}/slurm-{job_id}.out" in said
    assert "Check the job id" in crestline.refused("logs", "999999", code=66)


def test_cat_and_tail_of_a_directory(plain: PlainFirecrest, crestline: Command) -> None:
    (plain.home / "folder").mkdir()
    (plain.home / "folder" / "large").write_bytes(b"x" * 1000)
    for command in ("cat", "tail"):
        said = crestline.refused(command, "folder", code=65)
        assert "is a directory." in said
        assert "Try again" not in said


def test_logs_of_an_array(plain: PlainFirecrest, crestline: Command) -> None:
    (crestline.place / "job.sh").write_text("#!/bin/bash\n#SBATCH --array=0-2\necho element $SLURM_ARRAY_TASK_ID\n")
    job_id = crestline("submit", "job.sh").stdout.decode().strip()
    crestline("wait", job_id)
    assert crestline("logs", f"{job_id}_1").stdout == b"element 1\n"
    assert crestline("logs", job_id).stdout == b"element 0\nelement 1\nelement 2\n"
