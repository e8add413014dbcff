"""`ls`, `cat` and `cp` against a served gateway."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
from pathlib import Path

from harness.command import CRESTLINE, Command

BYTES = bytes(range(256)) * 5


def _tree(place: Path) -> Path:
    (place / "sub").mkdir(parents=True)
    (place / "a").write_bytes(BYTES)
    (place / "sub" / "b").write_text("b")
    (place / "run.sh").write_text("#!/bin/sh\n")
    (place / "run.sh").chmod(0o755)
    return place


def test_cat_is_byte_for_byte(crestline: Command) -> None:
    (crestline.place / "bytes").write_bytes(BYTES)
    crestline("cp", "bytes", ":")
    assert crestline("cat", "bytes").stdout == BYTES
    assert crestline("cat", ":bytes", "local@local:bytes").stdout == BYTES * 2
    assert crestline.json("cat", "bytes")["text"] == BYTES.decode(errors="replace")
    assert "does not exist on the system" in crestline.refused("cat", "absent", code=66)


def test_cp_there_and_back(crestline: Command) -> None:
    tree = _tree(crestline.place / "tree")
    assert "Copy it with -r." in crestline.refused("cp", tree, ":", code=65)
    assert crestline.json("cp", "-r", tree, ":made")["files"] == 3
    again = crestline.json("cp", "-r", tree, ":made")
    assert (again["files"], again["unchanged"]) == (0, 3), "the same command again completes the same copy"
    assert {file["name"] for file in crestline.json("ls", "made")} == {"a", "sub", "run.sh"}
    for target in (":made/", ":made/."):
        crestline("cp", "-r", tree, target)
    assert {file["name"] for file in crestline.json("ls", "made")} == {"a", "sub", "run.sh", "tree"}
    for _ in range(2):
        crestline("cp", "-r", ":made/tree", "back")
    back = crestline.place / "back"
    assert {path.name for path in back.iterdir()} == {"a", "sub", "run.sh"}
    crestline("cp", "-r", ":made/tree", "back/")
    assert (back / "tree" / "sub" / "b").read_text() == "b"
    assert (back / "a").read_bytes() == BYTES
    assert (back / "sub" / "b").read_text() == "b"
    assert os.access(back / "run.sh", os.X_OK)
    assert "Copy it with -r." in crestline.refused("cp", ":made", "x", code=65)


def test_cp_several_and_patterns(crestline: Command) -> None:
    for name in ("1.in", "2.in"):
        (crestline.place / name).write_text(name)
    crestline("cp", "1.in", "2.in", ":inputs/")
    crestline("cp", ":inputs/*.in", "fetched/")
    assert sorted(path.name for path in (crestline.place / "fetched").iterdir()) == ["1.in", "2.in"]
    assert "matches" in crestline.refused("cp", ":inputs/*.out", "fetched/", code=66)


def test_one_that_fails_keeps_no_others_back(crestline: Command) -> None:
    (crestline.place / "good").write_text("good")
    done = crestline("cp", "absent", "good", "gone", ":several/", code=66)
    assert [line.split()[1] for line in done.stderr.decode().splitlines()] == ["absent", "gone"]
    done = crestline("cat", ":several/none", ":several/good", code=66)
    assert (done.stdout, b"several/none" in done.stderr) == (b"good", True)
    crestline("cp", ":several/none", ":several/good", "back/", code=66)
    assert (crestline.place / "back" / "good").read_text() == "good"
    crestline("mkdir", "several/no/way", "several/below", code=66)
    crestline("mv", "several/none", "several/good", "several/below", code=66)
    assert [file["name"] for file in crestline.json("ls", "several/below")] == ["good"]
    crestline("rm", "several/none", "several/below/good", code=66)
    assert crestline.json("ls", "several/below") == []


def test_cp_within_the_system(crestline: Command) -> None:
    (crestline.place / "original").write_text("text")
    crestline("cp", "original", ":original")
    crestline("cp", ":original", ":copy")
    assert crestline("cat", "copy").stdout == b"text"


def test_cp_what_is_not_there(crestline: Command) -> None:
    crestline.refused("cp", "absent", ":", code=66)
    crestline.refused("cp", ":absent", ".", code=66)


def test_names_that_look_remote_are_local_behind_a_dot(crestline: Command) -> None:
    (crestline.place / ":odd").write_text("odd")
    crestline("cp", "./:odd", ":odd")
    assert crestline("cat", ":odd").stdout == b"odd"


def test_ls(crestline: Command) -> None:
    (crestline.place / "file").write_bytes(b"x" * 1234)
    (crestline.place / ".dot").write_text("")
    crestline("cp", "file", ".dot", ":listed/")
    assert crestline("ls", "listed").stdout == b"file\n"
    assert set(crestline("ls", "-a", "listed").stdout.decode().split()) >= {"file", ".dot"}
    head, line = crestline("ls", "-l", "listed").stdout.decode().splitlines()
    assert head.split() == ["MODE", "USER", "GROUP", "SIZE", "MODIFIED", "NAME"]
    assert line.startswith("-rw")
    assert line.split()[3] == "1234"
    assert [file["size"] for file in crestline.json("ls", "listed")] == [1234]
    crestline("cp", "file", ":listed/below/")
    assert "below/file" in crestline("ls", "-R", "listed").stdout.decode()


def test_hostile_names_cannot_drive_the_terminal(crestline: Command) -> None:
    name = "a\x1b]0;title\x07\nb"
    (crestline.place / name).write_text("")
    crestline("cp", name, ":hostile/")
    assert crestline("ls", "hostile").stdout == b"a\\x1b]0;title\\x07\\nb\n"
    assert [file["name"] for file in crestline.json("ls", "hostile")] == [name]


def test_progress_is_for_terminals_alone(crestline: Command) -> None:
    (crestline.place / "large").write_bytes(os.urandom(3_000_000))
    assert crestline("cp", "large", ":large").stderr == b""
    seen, terminal = pty.openpty()
    with subprocess.Popen(
        [CRESTLINE, "cp", ":large", "large.back"], env=crestline.environment, cwd=crestline.place, stderr=terminal
    ) as process:
        os.close(terminal)
        shown = b""
        while select.select([seen], [], [], 60)[0]:
            try:
                shown += os.read(seen, 65536)
            except OSError:  # Linux's word for the end of a terminal
                break
    os.close(seen)
    assert process.returncode == 0
    assert b"large" in shown
    assert b"MB" in shown


def test_cp_goes_on_after_an_interruption(crestline: Command) -> None:
    """A download that was killed is taken up from its `.part` file, which only holds what is right."""
    content = os.urandom(30_000_000)
    (crestline.place / "huge").write_bytes(content)
    crestline("cp", "huge", ":huge")
    with crestline.start("cp", ":huge", "huge.back") as process:
        while process.poll() is None and not list(crestline.place.glob("huge.back.*.part")):
            pass
        process.kill()
    report = json.loads(crestline("cp", "--json", ":huge", "huge.back").stdout)
    assert report["files"] + report["unchanged"] == 1
    assert (crestline.place / "huge.back").read_bytes() == content
    assert not list(crestline.place.glob("*.part"))


def test_rm_mkdir_mv_and_tail(crestline: Command) -> None:
    crestline("mkdir", "-p", "more/a/b", ":more/c")
    assert "more/c exists already." in crestline.refused("mkdir", "more/c", code=65)
    (crestline.place / "text").write_text("".join(f"{number}\n" for number in range(2000)) + "end")
    crestline("cp", "text", ":more/a/")
    assert crestline("tail", "-n", "2", "more/a/text").stdout == b"1999\nend"
    assert len(crestline("tail", "more/a/text").stdout.splitlines()) == 10
    crestline("mv", "more/a/text", ":more/c")
    crestline("mv", "more/c/text", "more/renamed")
    assert {file["name"] for file in crestline.json("ls", "more")} == {"a", "c", "renamed"}
    assert "Remove it with -r." in crestline.refused("rm", "more/a", code=65)
    more = next(path for path in crestline.place.rglob("more") if (path / "renamed").exists())
    (more / "link").symlink_to("a")
    (more / "dangling").symlink_to("nothing")
    crestline("rm", "more/link", "more/dangling", "more/renamed")
    assert {file["name"] for file in crestline.json("ls", "more")} == {"a", "c"}
    assert "more/renamed does not exist on the system." in crestline.refused("rm", "more/renamed", code=66)
    crestline("rm", "-f", "more/renamed")
    crestline("rm", "-r", "more")
    for path in ("", ":"):  # such as an unset variable's
        assert "holds all files of" in crestline.refused("rm", "-rf", path, code=77), path
    assert "holds all files of" in crestline.refused("mv", "", "elsewhere", code=77)
    assert "more does not exist" in crestline.refused("ls", "more", code=66)


def test_tail_follows_what_is_added(crestline: Command) -> None:
    (crestline.place / "growing").write_text("one\ntwo\n")
    crestline("cp", "growing", ":growing")
    with crestline.start("tail", "-f", "-n", "1", "growing") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"two\n"
        crestline("run", "--workdir", ".", "sh", "-c", "echo three >> growing")
        assert process.stdout.readline() == b"three\n"


def test_completion_knows_jobs_and_remote_paths(crestline: Command) -> None:
    from crestline.cli.completion import complete_jobs, complete_paths, complete_remote_paths

    job_id = crestline("submit", "-", stdin=b"#!/bin/sh\ntrue\n").stdout.decode().strip()
    crestline("mkdir", "-p", "tabbed/below")
    environment = {name: os.environ.get(name) for name in ("CRESTLINE_SITES",)}
    os.environ["CRESTLINE_SITES"] = crestline.environment["CRESTLINE_SITES"]
    try:
        assert job_id in dict(complete_jobs(job_id[:1]))
        assert complete_paths(":tabb") == [":tabbed/"]
        assert complete_paths("local@local:tabbed/") == ["local@local:tabbed/below/"]
        assert complete_remote_paths("tabbed/b") == ["tabbed/below/"]
        assert complete_paths("tabb") == []
    finally:
        os.environ["CRESTLINE_SITES"] = environment["CRESTLINE_SITES"] or ""


def test_one_sentence_for_a_directory_that_does_not_exist(crestline: Command) -> None:
    (crestline.place / "x").write_text("x")
    (crestline.place / "job.sh").write_text("#!/bin/sh\necho\n")
    crestline("mkdir", "-p", "some")
    default = Path(crestline.refused("cat", "absent", code=66).split()[1]).parent
    absent = default / "some" / "absent"
    said = (
        f"crestline: The directory {absent} does not exist on the system. Make it with `crestline mkdir -p {absent}`, "
    )
    said += "or name another directory."
    assert crestline.refused("submit", "job.sh", "--workdir", absent, code=65) == said
    for command in (
        ("ls", absent),
        ("cp", "x", f":{absent}/x"),
        ("cp", f":{absent}/x", "."),
        ("cat", absent / "x"),
        ("tail", absent / "x"),
        ("rm", absent / "x"),
        ("mkdir", absent / "x"),
    ):
        assert crestline.refused(*command, code=66) == said
    assert "some/absent does not exist on the system." in crestline.refused("cat", "some/absent", code=66)
    here = crestline.place / "no"
    crestline("cp", "x", ":some/x")
    said = f"The directory {here} does not exist on this machine. Make it with `mkdir -p {here}`"
    assert said in crestline.refused("cp", ":some/x", "no/x", code=66)
    assert "y does not exist on this machine" in crestline.refused("cp", "y", f":{absent}/x", code=66)


def test_a_user_without_the_default_directory(tmp_path: Path) -> None:
    crestline = Command(tmp_path)
    (tmp_path / "x").write_text("x")
    with crestline.serving("--state-dir", tmp_path / "home"):
        default = Path(crestline.refused("cat", "absent", code=66).split()[1]).parent
        (tmp_path / "job.sh").write_text(f"#!/bin/sh\nrm -r {default}\n")
        job = crestline("submit", "job.sh", "--wait").stdout.decode().split()[0]
        said = f"The directory {default} does not exist on the system. Make it with `crestline mkdir -p {default}`"
        commands = (("ls",), ("ls", "sub/sub"), ("cp", "x", ":a/b"), ("cp", ":x", "y"), ("logs", job))
        for command in commands:
            assert said in crestline.refused(*command, code=66), command
        assert said in crestline.refused("submit", "job.sh", code=65)
        assert said in crestline("doctor", code=1).stdout.decode()
        crestline("mkdir", "-p", default)
        assert crestline("ls").stdout == b""
