"""Slurm's tables and command lines: no text that a user chooses can break them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crestline.gateway.hosts import Completed
from crestline.gateway.schedulers.command_lines import CommandLine
from crestline.gateway.schedulers.pbs import submission as pbs_submission
from crestline.gateway.schedulers.slurm import accounting, ids, submission, tables
from crestline.gateway.schedulers.slurm.commands import SlurmCommands
from crestline.gateway.schedulers.slurm.queue import SlurmQueue
from crestline.gateway.schedulers.slurm.streams import Streams, asked_for, job_metadata, options_of
from crestline.gateway.schedulers.time_limit import TimeLimit
from crestline.model import (
    GatewayUnavailableError,
    InvalidRequestError,
    PermissionDeniedError,
)
from crestline.model.directories import missing_directory
from crestline.wire.compute import JobDescription, JobInfo, JobStatus, JobTime

MARK = "@0123456789abcdef@"
TABLE = tables.Layout("sacct", ("JobID", "JobName", "State"))
ROW = st.tuples(st.integers(1, 10**9).map(str), st.text(), st.text())


@given(st.lists(ROW), st.text().filter(lambda text: MARK not in text))
def test_cells_come_back_whatever_they_hold(rows: list[tuple[str, str, str]], banner: str) -> None:
    greeting = f"{banner}\n" if banner else ""
    output = greeting + "".join("".join(cell + MARK for cell in row) + "\n" for row in rows)
    if not rows:
        output = ""
    found = TABLE.rows(TABLE.cut(output.encode(errors="surrogatepass"), MARK))
    printed = [tuple(cell.encode(errors="surrogatepass").decode(errors="replace") for cell in row) for row in rows]
    assert [tuple(row.values()) for row in found] == printed


QUEUE = tables.Layout("squeue", ("JobArrayID", "JobID", "State", "Name", "WorkDir"))
PLAIN = st.text(st.characters(blacklist_characters="|@"))


@given(st.lists(st.tuples(st.integers(1, 10**9).map(str), PLAIN, PLAIN, st.text(), st.text())), st.text())
def test_only_what_a_user_cannot_choose_ends_in_one_character(rows: list[tuple[str, ...]], banner: str) -> None:
    assert QUEUE.arguments(MARK) == [f"--Format=JobArrayID:{MARK},JobID:|,State:|,Name:{MARK},WorkDir:{MARK}"]
    ends = (MARK, "|", "|", MARK, MARK)
    lines = ["".join(map("".join, zip(row, ends, strict=True))) for row in rows]
    output = "\n".join([banner, *lines, ""]) if rows else ""
    printed = [tuple(cell.encode(errors="surrogatepass").decode(errors="replace") for cell in row) for row in rows]
    table = QUEUE.cut(output.encode(errors="surrogatepass"), MARK)
    assert [tuple(QUEUE.cells(pieces)) for pieces in table] == printed


def test_a_long_table_is_cut_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("1", "2", "R", "n|\n" * n, "/ä") for n in range(60)]
    text = "".join(f"{a}{MARK}{b}|{c}|{d}{MARK}{e}{MARK}\n" for a, b, c, d, e in rows)
    for block in (1, 7, 64, 1000):
        monkeypatch.setattr(tables, "_BLOCK", block)
        assert [tuple(QUEUE.cells(pieces)) for pieces in QUEUE.cut(text.encode(), MARK)] == rows


@pytest.mark.anyio
async def test_unchanged_rows_of_the_queue_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def squeue(names: dict[str, str]) -> bytes:
        plain = "RUNNING|0:0|u|g|p|c|1|1|n1|5|1|2|N/A|1:00|2:00|"
        rows = (f"{n}{mark}{n}|{plain}None{mark}{name}{mark}a{mark}/w{mark}\n" for n, name in names.items())
        return "".join(rows).encode()

    mark = "@mark"
    monkeypatch.setattr(tables.secrets, "token_urlsafe", lambda _: mark[1:])
    answers = [squeue({"1": "one", "2": "two"}), squeue({"1": "one", "2": "other"}), b"1@mark1|"]

    class Commands:
        async def read(self, *_: object, **__: object) -> bytes:
            return answers.pop(0)

    queue = SlurmQueue(cast("SlurmCommands", Commands()), 5.0)
    first, second = await queue.read("u"), await queue.read("u")
    assert first[0] is second[0]
    assert [entry.job.name for entry in (*first, *second)] == ["one", "two", "one", "other"]
    with pytest.raises(GatewayUnavailableError):
        await queue.read("u")


def test_the_time_limit_of_a_look_follows_what_looks_take(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("crestline.gateway.schedulers.time_limit.time.monotonic", lambda: now[0])
    limit = TimeLimit(5.0)

    def look(seconds: float) -> float:
        late = seconds >= limit.seconds
        with contextlib.suppress(GatewayUnavailableError), limit.observe():
            now[0] += min(seconds, limit.seconds)
            if late:
                raise GatewayUnavailableError("late")
        return limit.seconds

    limits = [look(seconds) for seconds in (0.1, 12.0, 12.0, 12.0, 2.0, 0.1)]
    assert limits == pytest.approx([5, 10, 20, 48, 8, 5])
    assert [look(1000.0) for _ in range(5)] == [10, 20, 40, 60, 60]
    with contextlib.suppress(GatewayUnavailableError), limit.observe():
        raise GatewayUnavailableError("refused at once")
    assert limit.seconds == 60


@given(st.binary())
def test_any_bytes_are_a_table_or_are_refused(output: bytes) -> None:
    for layout in (TABLE, QUEUE):
        with contextlib.suppress(GatewayUnavailableError):
            layout.rows(layout.cut(output, MARK))


def test_a_table_that_was_cut_off_is_refused() -> None:
    whole = f"1{MARK}name{MARK}RUNNING{MARK}\n2{MARK}na"
    with pytest.raises(GatewayUnavailableError):
        TABLE.rows(TABLE.cut(whole.encode(), MARK))


@given(st.text())
def test_values_never_fail(cell: str) -> None:
    assert tables.number(cell) is None or isinstance(tables.number(cell), int)
    assert tables.seconds(cell) is None or isinstance(tables.seconds(cell), int)
    assert tables.decimal(cell) is None or isinstance(tables.decimal(cell), float)
    ids.holds(cell, cell)
    ids.order(cell)
    ids.family(cell)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("0:00", 0), ("1:05", 65), ("01:00:00", 3600), ("1-00:00:00", 86400), ("2-03:04:05", 183845),
        ("00:00.123", 0), ("UNLIMITED", None), ("INVALID", None), ("Partition_Limit", None), ("", None),
    ],
)  # fmt: skip
def test_durations(cell: str, expected: int | None) -> None:
    assert tables.seconds(cell) == expected


@pytest.mark.parametrize(
    ("listed", "job_id", "expected"),
    [
        ("12_[3-7]", "12_5", True), ("12_[3-7]", "12_8", False), ("12_[1,4,9%2]", "12_9", True),
        ("12_[0-8:4]", "12_4", True), ("12_[0-8:4]", "12_5", False), ("12_[3-7]", "13_5", False),
        ("12_5", "12_5", False),
        ("12_[3-7]", "12", False), ("12+1", "12+1", False),
    ],
)  # fmt: skip
def test_pending_tasks_that_are_listed_as_one(listed: str, job_id: str, expected: bool) -> None:
    assert ids.holds(listed, job_id) is expected


@pytest.mark.parametrize(
    "text", ["", "-u", "--me", "12.batch", "12_", "a", "1;2", "12_[", "1,2", "12+", "\uff11\uff12"]
)
def test_invalid_job_id(text: str) -> None:
    assert not ids.is_job_id(text)


ENVIRONMENT = st.dictionaries(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True).filter(
        lambda name: name not in ("_", "PWD", "OLDPWD", "SHLVL", "PPID", "OPTIND", "IFS", "PATH")
    ),
    st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=60),
    max_size=6,
)


@pytest.fixture(scope="module")
def fake_sbatch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sbatch that tells what it was given."""
    path = tmp_path_factory.mktemp("bin") / "sbatch"
    path.write_text(
        "#!/usr/bin/python3 -I\nimport json, os, sys\n"
        "print(json.dumps([sys.argv[1:], dict(os.environ), sys.stdin.buffer.read().decode()]))\n"
    )
    path.chmod(0o755)
    return path


@settings(max_examples=60, deadline=None)
@given(
    environment=ENVIRONMENT,
    name=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=40),
    body=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=80),
)
def test_environment_and_script_reach_sbatch_as_they_are(
    fake_sbatch: Path, environment: dict[str, str], name: str, body: str
) -> None:
    script = f"#!/bin/sh\n# {body}"
    job = JobDescription(working_directory="/tmp", name=name, env=environment, script=script)
    try:
        ready = submission.prepare(job, "crestline:tag", sbatch=str(fake_sbatch), timeout=60)
    except InvalidRequestError:  # an #SBATCH line with an open quotation
        assert "#SBATCH" in body
        return
    done = subprocess.run(ready.argv, input=ready.input, capture_output=True, check=True, env=os.environ | {"b": "1"})
    arguments, seen, stdin = json.loads(done.stdout)
    assert f"--job-name={name}" in arguments
    assert stdin == script
    assert {key: seen[key] for key in environment} == environment
    assert seen.get("b") == environment.get("b", "1")
    for value in environment.values():
        assert len(value) < 8 or not any(value in word for word in ready.argv)


def test_path_of_the_job_does_not_choose_sbatch(fake_sbatch: Path) -> None:
    job = JobDescription(working_directory="/tmp", env={"PATH": "/nowhere"}, script="#!/bin/sh\n")
    ready = submission.prepare(job, "t", sbatch="sbatch", timeout=60)
    paths = f"{fake_sbatch.parent}:{os.environ['PATH']}"
    done = subprocess.run(ready.argv, input=ready.input, capture_output=True, check=True, env={"PATH": paths})
    assert json.loads(done.stdout)[1]["PATH"] == "/nowhere"


def prepare(**values: object) -> CommandLine:
    job = JobDescription(**({"working_directory": "/w", "script": "#!/bin/sh\n"} | values))  # type: ignore[arg-type]
    return submission.prepare(job, "crestline:tag", sbatch="sbatch", timeout=1)


def test_every_field_becomes_an_option() -> None:
    argv = prepare(
        name="n", account="a", reservation="r", partition="p", standard_input="i", standard_output="o",
        standard_error="e", constraints="c",
    ).argv  # fmt: skip
    assert argv[3:] == [
        "env", "--chdir=/w",
        "sbatch", "--parsable", "--comment=crestline:tag", "--chdir=/w", "--job-name=n", "--account=a",
        "--reservation=r", "--partition=p", "--input=i", "--output=o", "--error=e", "--constraint=c",
    ]  # fmt: skip


def test_a_remote_script_is_named_and_nothing_is_read() -> None:
    ready = prepare(script=None, script_path="run/job.sh")
    assert ready.argv[-1] == "/w/run/job.sh"
    assert ready.input == b""


def test_the_comment_of_the_script_stays() -> None:
    assert "--comment=crestline:tag my own" in prepare(script='#!/bin/sh\n#SBATCH --comment "my own"\n').argv


@pytest.mark.parametrize(
    "values",
    [
        {"script": None},
        {"script": ""},
        {"working_directory": "relative"},
        {"name": "a\0b"},
        {"script": "#!/bin/sh\n\0"},
        {"env": ["NAME"]},
        {"env": {"a b": "1"}},
        {"env": {"": "1"}},
        {"env": {"A;rm": "1"}},
        {"env": {"A": "\0"}},
        {"script": "#!/bin/sh\n#SBATCH --wait\n"},
        {"script": "#!/bin/sh\n#SBATCH -W\n"},
    ],
)
def test_what_cannot_be_submitted(values: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        prepare(**values)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("status", "stdout", "stderr", "kind"),
    [
        (1, "", "sbatch: error: Batch job submission failed: Invalid qos specification\n", InvalidRequestError),
        (1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n",
         GatewayUnavailableError),
        (1, "", "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)\n",
         GatewayUnavailableError),
        (1, "", "sbatch: error: Batch job submission failed: Access/permission denied\n", PermissionDeniedError),
        (127, "", "sh: sbatch: not found\n", GatewayUnavailableError),
        (0, "", "sbatch: Job 40 to start at 2026-11-22T18:50:01 using 1 processors\n", InvalidRequestError),
        (0, "not a number\n", "", InvalidRequestError),
    ],
)  # fmt: skip
def test_refusals(status: int, stdout: str, stderr: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        submission.job_id_of(Completed(status, stdout.encode(), stderr.encode()))
    assert getattr(caught.value, "hint", "")


@pytest.mark.parametrize("job_id_of", [submission.job_id_of, pbs_submission.job_id_of])
def test_a_working_directory_that_cannot_be_used(job_id_of: Callable[[Completed], str]) -> None:
    complaint = b"env: cannot change directory to '/scratch/it's new': No such file or directory\n"
    with pytest.raises(InvalidRequestError) as caught:
        job_id_of(Completed(125, b"", complaint))
    assert (caught.value.message, caught.value.hint) == missing_directory("/scratch/it's new")
    with pytest.raises(InvalidRequestError, match="The working directory /root cannot be used: Permission denied"):
        job_id_of(Completed(125, b"", b"env: cannot change directory to '/root': Permission denied\n"))


@pytest.mark.parametrize("stdout", ["12\n", "12;cluster\n", "Welcome to the site\n12\n"])
def test_the_id_is_found(stdout: str) -> None:
    assert submission.job_id_of(Completed(0, stdout.encode(), b"")) == "12"


def recorded(**cells: str) -> dict[str, str]:
    return dict.fromkeys(accounting._FIELDS, "") | {"JobID": "5", "State": "COMPLETED", "ExitCode": "0:0"} | cells


def test_quotes_that_slurmdbd_changes_come_back() -> None:
    (entry,) = accounting.jobs_of(
        [recorded(JobName="a`b`c", SubmitLine='sbatch --parsable --job-name=a"b`c --output=x', WorkDir="/w")]
    )
    assert entry.job.name == 'a"b`c'


def test_a_job_of_which_only_a_step_was_recorded_is_not_yet_there() -> None:
    assert accounting.jobs_of([recorded(JobName="allocation"), recorded(JobID="5.batch", JobName="batch")]) == []
    (chosen,) = accounting.jobs_of([recorded(JobName="allocation", WorkDir="/w")])
    assert chosen.job.name == "allocation"


def test_steps_belong_to_their_job() -> None:
    rows = [
        recorded(JobID="5_2"), recorded(JobID="5_2.batch", JobName="batch"), recorded(JobID="7+0"),
        recorded(JobID="7+1"), recorded(JobID="7.0"), recorded(JobID="7+1.0"), recorded(JobID="99.batch"),
        recorded(JobID="garbage"),
    ]  # fmt: skip
    steps = {entry.job.job_id: [step.id for step in entry.job.tasks or []] for entry in accounting.jobs_of(rows)}
    assert steps == {"5_2": ["5_2.batch"], "7+0": ["7.0"], "7+1": ["7+1.0"]}


def shown(job_id: str = "12_3", nodes: str = "nid[003-4,7],x") -> JobInfo:
    return JobInfo(
        job_id=job_id, name="na me", user="alice", nodes=nodes, working_directory="/w",
        status=JobStatus(state="RUNNING"), time=JobTime(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("out", "/w/out"), ("/a/%j", "/a/99"), ("%A_%a", "/w/12_3"), ("%5j-%04a", "/w/00099-0003"),
        ("%x.%u.%N", "/w/na me.alice.nid003"), ("100%%", "/w/100%"), (r"\%j", "/w/%j"), ("%q", "/w/%q"),
    ],
)  # fmt: skip
def test_file_name_patterns(pattern: str, path: str) -> None:
    seen = job_metadata(shown(), "#!", Streams("99", None, pattern, None))
    assert seen.standard_output == seen.standard_error == path
    assert seen.standard_input == "/dev/null"


def test_default_file_names() -> None:
    assert job_metadata(shown(), None, Streams("99", None, None, None)).standard_output == "/w/slurm-12_3.out"
    assert job_metadata(shown("12"), None, Streams("12", None, None, None)).standard_output == "/w/slurm-12.out"


def test_streams_as_they_were_asked_for() -> None:
    script = "#!/bin/sh\n#SBATCH -o from-script -e err\n"
    line = "sbatch --parsable --comment=x --chdir=/w --output=from option --constraint=c"
    assert dict(asked_for(options_of(script), line)) == {"output": "from option", "error": "err"}
    assert asked_for(options_of(script), "")["output"] == "from-script"


@pytest.mark.parametrize(
    ("cell", "exit_code", "signal"),
    [("768", 3, 0), ("9", 0, 9), ("3:0", 3, 0), ("0:9", 0, 9), ("0", 0, 0), ("", None, None), ("n/a", None, None)],
)
def test_exit_codes_of_old_and_new_slurm(cell: str, exit_code: int | None, signal: int | None) -> None:
    assert tables.parse_exit(cell) == (exit_code, signal)
