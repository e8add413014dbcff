"""What a job asks for: the description's own fields beat the `#SBATCH` lines."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import pytest

from crestline.gateway.schedulers.local.queue import Resources
from crestline.gateway.schedulers.local.request import Request, check_script, interpreter, read_request
from crestline.model import InvalidRequestError, JobSpec, render_script
from crestline.wire.compute import JobDescription

NOW = datetime(2026, 11, 21, 15, 30)


def read(lines: str = "", **fields: Any) -> Request:
    job = JobDescription(**{"working_directory": "/work"} | fields)
    script = "#!/bin/sh\n" + "".join(f"#SBATCH {line}\n" for line in lines.split("\n") if line)
    return read_request(job, script, user="alice", partitions={"normal": 600, "long": None}, now=NOW)


@pytest.mark.parametrize(
    ("lines", "resources"),
    [
        ("", Resources(nodes=1)),
        ("-N 2", Resources(nodes=2, tasks=2)),
        ("-N 2-4", Resources(nodes=2, tasks=2)),
        ("-n 5", Resources(tasks=5)),
        ("-N 4 -n 2", Resources(nodes=2, tasks=2)),
        ("-N 2 --ntasks-per-node=3", Resources(nodes=2, tasks=6, tasks_per_node=3)),
        ("-n 5 --ntasks-per-node=2", Resources(tasks=5, tasks_per_node=2)),
        ("-c 4 --mem=2G", Resources(nodes=1, cpus_per_task=4, memory_per_node=2048)),
        ("--mem-per-cpu=100", Resources(nodes=1, memory_per_cpu=100)),
        ("--exclusive", Resources(nodes=1, exclusive=True)),
    ],
)
def test_resources(lines: str, resources: Resources) -> None:
    assert read(lines).resources == resources


def test_defaults() -> None:
    request = read()
    assert (request.name, request.account, request.partition, request.time_limit) == ("sbatch", "alice", "normal", 600)
    assert read(script_path="/some/where/run.sh").name == "run.sh"
    assert read(partition="long").time_limit is None


def test_fields_beat_directives() -> None:
    lines = "-J d -A d -p normal -D /d -o d -e d -i d\n--export=A=1,B=2"
    theirs = read(lines, working_directory="")
    assert (theirs.name, theirs.account, theirs.partition, theirs.directory) == ("d", "d", "normal", "/d")
    assert (theirs.stdin, theirs.stdout, theirs.stderr) == ("d", "d", "d")
    assert theirs.environment == {"A": "1", "B": "2"}
    ours = read(
        lines,
        name="f",
        account="f",
        partition="long",
        working_directory="/f/x/..",
        standard_input="f",
        standard_output="f",
        standard_error="f",
        env={"A": "f"},
    )
    assert (ours.name, ours.account, ours.partition, ours.directory) == ("f", "f", "long", "/f")
    assert (ours.stdin, ours.stdout, ours.stderr) == ("f", "f", "f")
    assert ours.environment == {"A": "f", "B": "2"}


def test_environment_as_a_list() -> None:
    assert read(env=["A=1,2", "B=x=y\nz"]).environment == {"A": "1,2", "B": "x=y\nz"}


def test_warnings() -> None:
    request = read("--gres=gpu:1 --foo=1\n--mail-type=END --requeue", constraints="fast")
    assert request.warnings == (
        "#SBATCH option --foo=1 is unknown and was ignored",
        "#SBATCH option --gres has no effect on this system",
        "constraints have no effect on this system",
    )


def test_array_and_begin() -> None:
    request = read("--array=1-3%2 --begin=now+60 --hold --open-mode=append --time=1:00")
    assert request.tasks is not None
    assert request.tasks.tasks == (1, 2, 3)
    assert request.tasks_at_once == 2
    assert request.begin == NOW.timestamp() + 60
    assert request.hold
    assert request.append
    assert request.time_limit == 60


@pytest.mark.parametrize(
    ("lines", "fields"),
    [
        ("", {"partition": "nowhere"}),
        ("-p nowhere", {}),
        ("", {"reservation": "r"}),
        ("--reservation=r", {}),
        ("", {"working_directory": "relative"}),
        ("", {"working_directory": ""}),
        ("--time=x", {}),
        ("--array=x", {}),
        ("-n 0", {}),
        ("--mem=1 --mem-per-cpu=1", {}),
        ("--open-mode=x", {}),
        ("", {"env": ["A"]}),
        ("", {"env": {"A=B": "1"}}),
        ("", {"env": {"": "1"}}),
        ("", {"env": {"A": "\0"}}),
        ("", {"env": {"A": "\ud800"}}),
        ("", {"name": "a\0b"}),
        ("", {"standard_output": "a\0b"}),
    ],
)
def test_refused_with_a_hint(lines: str, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read(lines, **fields)
    assert caught.value.hint


@pytest.mark.parametrize(
    "script", ["", "echo", "#!", "#!  \necho", "\n#!/bin/sh", "#!/bin/sh\r\necho\r\n", "#!/bin/sh\n\0"]
)
def test_no_script(script: str) -> None:
    with pytest.raises(InvalidRequestError):
        check_script(script)


def test_interpreter() -> None:
    assert interpreter("#!/bin/sh\n") == ["/bin/sh"]
    assert interpreter("#! /usr/bin/env  -S python3 -u \n") == ["/usr/bin/env", "-S python3 -u"]


def test_a_byte_order_mark_is_no_part_of_a_script() -> None:
    text = "\ufeff#!/bin/bash\ntrue\n"
    assert JobDescription(working_directory="/", script=text).script == text[1:]
    assert (
        msgspec.json.decode(msgspec.json.encode({"workingDirectory": "/", "script": text}), type=JobDescription).script
        == text[1:]
    )
    assert render_script(JobSpec(script=text, nodes=2)) == "#!/bin/bash\n#SBATCH --nodes=2\ntrue\n"
