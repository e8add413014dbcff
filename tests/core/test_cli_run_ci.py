"""`crestline run` under a CI engine: keys, a controller that restarts, cancelling in time, what the engine is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from crestline.cli.run_keys import digest_request
from crestline.client.files import IgnoreRules
from crestline.model import JobSpec
from harness.command import CRESTLINE, TIMEOUT, Command

EXAMPLES = Path(__file__).parents[2] / "examples" / "ci"
REPORT = '<testsuites><testsuite tests="5" failures="1" errors="1" skipped="2"/><testsuite tests="1"/></testsuites>'


def _events(output: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_the_same_key_is_the_same_run(crestline: Command) -> None:
    work = ("run", "--json", "--key", "pipeline/7", "bash", "-c", "echo once; exit 3")
    first, second = (_events(crestline(*work, code=3).stdout) for _ in range(2))
    assert [each["event"] for each in (first[0], second[0])] == ["submitted", "attached"]
    assert first[0]["job_id"] == second[0]["job_id"]
    assert first[0]["workdir"] == second[0]["workdir"]
    assert "".join(each["text"] for each in second if each["event"] == "output") == "once\n"
    attached = _events(crestline("run", "--json", "--key", "pipeline/7", "--attach", code=3).stdout)
    assert attached[-1]["job"]["job_id"] == first[0]["job_id"]
    assert "has no job" in crestline.refused("run", "--key", "another", "--attach", code=66)


def test_an_empty_key_is_refused(crestline: Command) -> None:
    assert "--key is empty" in crestline.refused("run", "--key", "", "true", code=2)
    (crestline.place / "job.sh").write_text("#!/bin/sh\n")
    assert "key is empty" in crestline.refused("submit", "--key", "", "job.sh", code=65)


def test_a_key_does_not_stand_for_another_run(crestline: Command) -> None:
    """As the gateway refuses a key that comes back with other content: a run that did not happen is no success."""
    file = crestline.place / "data.txt"
    file.write_text("one")
    options = ("--key", "matrix", "--time", "00:05:00", "--upload", "data.txt")
    crestline("run", *options, "cat", "data.txt")
    crestline("run", *options, "cat", "data.txt")
    for other in (
        (*options, "false"),
        ("--key", "matrix", "--time", "00:06:00", "--upload", "data.txt", "cat", "data.txt"),
        ("--key", "matrix", "--time", "00:05:00", "cat", "data.txt"),
    ):
        assert "already names a run with another" in crestline.refused("run", *other, code=65)
    file.write_text("two")
    assert "already names a run with another" in crestline.refused("run", *options, "cat", "data.txt", code=65)
    assert crestline("run", "--key", "matrix", "--attach").stdout == b"one"


def test_a_controller_that_dies_and_attaches_again(crestline: Command) -> None:
    gate = crestline.place / "restart-gate"
    work = ("run", "--json", "--key", "restart", "--collect", "r.txt", "--output-dir", "restarted", "bash", "-c")
    script = f"echo begun; until [ -e {gate} ]; do sleep 0.1; done; echo done | tee r.txt"
    with crestline.start(*work, script) as process:
        assert process.stdout is not None
        job_id = json.loads(process.stdout.readline())["job_id"]
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT)
    gate.touch()
    events = _events(crestline(*work, script).stdout)
    assert (events[0]["event"], events[0]["job_id"]) == ("attached", job_id)
    assert "".join(each["text"] for each in events if each["event"] == "output") == "begun\ndone\n"
    assert (crestline.place / "restarted" / "r.txt").read_text() == "done\n"


def test_github_sends_sigint_and_soon_sigterm(crestline: Command) -> None:
    with crestline.start("run", "--json", "--key", "cancelled", "bash", "-c", "echo up; sleep 600") as process:
        assert process.stdout is not None
        events = []
        while not events or events[-1]["event"] != "output":
            events.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT)
    crestline("wait", events[0]["job_id"], code=143)
    assert crestline.json("cancel", "--key", "cancelled") == {"cancelled": [events[0]["job_id"]]}


def test_the_backup_that_cancels_by_key(crestline: Command) -> None:
    job_id = crestline.json("run", "--detach", "--key", "backup", "sleep", "600")["job_id"]
    crestline("cancel", "--key", "backup")
    crestline("wait", job_id, code=143)
    crestline("cancel", "--quiet", "--key", "never was")
    assert "has no job" in crestline.refused("cancel", "--key", "never was", code=66)
    crestline.refused("cancel", code=2)


def test_outputs_summary_and_reports(crestline: Command) -> None:
    outputs, summary = crestline.place / "outputs", crestline.place / "summary"
    crestline.environment |= {
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(outputs),
        "GITHUB_STEP_SUMMARY": str(summary),
    }
    work = f"echo '{REPORT}' > a.xml; echo '<broken' > b.xml"
    done = crestline("run", "--name", "x|y", "--junit", "*.xml", "--output-dir", "reports", "bash", "-c", work)
    assert b"::notice title=Crestline::Job " in done.stderr
    assert b"b.xml is not a JUnit report" in done.stderr
    values = dict(zip(*[iter(line for line in outputs.read_text().splitlines() if not line.startswith("end-"))] * 2))  # noqa: B905
    values = {name.partition("<<")[0]: value for name, value in values.items()}
    assert (values["state"], values["exit-code"]) == ("completed", "0")
    assert values["job-id"].isdigit()
    assert int(values["queue-seconds"]) >= 0
    assert "| Tests | 6, 2 failed, 2 skipped |" in summary.read_text()
    assert "(x\\|y)" in summary.read_text()


def test_upload_of_the_place_itself(crestline: Command, tmp_path: Path) -> None:
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci" / "in.txt").write_text("input\n")
    done = subprocess.run(
        [CRESTLINE, "run", "--upload", ".", "cat", "ci/in.txt"],
        env=crestline.environment,
        cwd=tmp_path,
        capture_output=True,
        check=True,
        timeout=TIMEOUT,
    )
    assert done.stdout == b"input\n"


def test_upload_sends_no_repository_and_nothing_ignored(crestline: Command, tmp_path: Path) -> None:
    """`.git/config` may hold the token that the CI engine cloned with."""
    for name, text in {
        ".git/config": "url = https://user:token@example.org/",
        "sub/.git": "gitdir: /elsewhere",
        ".hg/hgrc": "default = https://user:token@example.org/",
        ".gitignore": "*.log\n!keep.log\n/build/\n",
        ".crestlineignore": "*.big\n",
        "sub/.gitignore": "local.txt\n!seen.log\n",
        "sub/local.txt": "",
        "sub/seen.log": "",
        "sub/code.py": "",
        "a.log": "",
        "keep.log": "",
        "x.big": "",
        "build/lib.so": "",
        "build/lib.o": "",
        "skip.dat": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def run(*options: str, directory: Path = tmp_path) -> tuple[set[str], str]:
        done = subprocess.run(
            [CRESTLINE, "run", "--upload", ".", *options, "find", ".", "-type", "f"],
            env=crestline.environment,
            cwd=directory,
            capture_output=True,
            check=True,
            timeout=TIMEOUT,
            text=True,
        )
        return {name.removeprefix("./") for name in done.stdout.split() if "slurm-" not in name}, done.stderr

    sent = {".gitignore", ".crestlineignore", "sub/.gitignore", "sub/seen.log", "sub/code.py", "keep.log"}
    found, said = run()
    assert found == sent | {"skip.dat"}
    assert "Left out: " in said
    assert ".git" in said
    found, _ = run("--exclude", "*.dat", "--include", "build/*.so")
    assert found == sent | {"build/lib.so"}
    found, _ = run(directory=tmp_path / "sub")
    assert found == {".gitignore", "seen.log", "code.py"}, "the rules of the repository above count"


def test_ignore_files_are_read_as_git_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a work tree `.git` is a file; what its repository excludes counts, and a byte order mark does not."""
    main, tree = tmp_path / "main/.git", tmp_path / "tree"
    for file, text in {
        main / "info/exclude": "private.txt\n*.tmp\n",
        main / "HEAD": "ref: refs/heads/main\n",
        main / "objects/info/packs": "",
        main / "refs/heads/.keep": "",
        main / "worktrees/tree/HEAD": "ref: refs/heads/main\n",
        main / "worktrees/tree/commondir": "../..\n",
        tree / ".git": f"gitdir: {main}/worktrees/tree\n",
        tree / ".gitignore": "\ufeffsecret.env\r\n*.key\r\n!kept.tmp\r\n",
    }.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, newline="")
    for root, way in ((tree, ""), (tree / "sub", "sub/")):
        root.mkdir(exist_ok=True)
        rules = IgnoreRules(root)
        names = ("secret.env", "a.key", "private.txt", "a.tmp", "kept.tmp", "code.py")
        assert [name for name in names if not rules.excludes(name, is_directory=False)] == ["kept.tmp", "code.py"], way
    (tmp_path / "of-the-user").write_text("code.py\n*.tmp\n")
    (tmp_path / "config").write_text(f"[core]\n\texcludesFile = {tmp_path}/of-the-user\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    rules = IgnoreRules(tree)
    assert rules.excludes("code.py", is_directory=False)
    assert not rules.excludes("kept.tmp", is_directory=False)
    (main / "info/exclude").rename(main.parent / "gone")
    assert not IgnoreRules(tree).excludes("private.txt", is_directory=False)


def test_results_of_a_run_are_not_what_its_key_stands_for(tmp_path: Path) -> None:
    """The same command again follows the same run, also where `--upload .` now finds what `--collect` brought."""
    spec = JobSpec(script="#!/bin/sh\n")
    (tmp_path / "in.txt").write_text("in")

    def digest(output_dir: Path) -> str:
        uploads = [(tmp_path, IgnoreRules(tmp_path))]
        return digest_request(spec, uploads, output_dir, ["*.xml", "results"])

    for output_dir in (tmp_path, tmp_path / "a" / "out", tmp_path.parent / "elsewhere"):
        before = digest(output_dir)
        output_dir.mkdir(parents=True, exist_ok=True)
        (output_dir / "results").mkdir()
        (output_dir / "results" / "one.txt").write_text("1")
        (output_dir / "junit.xml").write_text("<x/>")
        assert digest(output_dir) == before
        shutil.rmtree(output_dir / "results")
        (output_dir / "junit.xml").unlink()
    before = digest(tmp_path / "a" / "out")
    (tmp_path / "a" / "out" / "in.csv").write_text("2")
    assert digest(tmp_path / "a" / "out") != before


def test_the_script_of_the_talk_and_its_three_lines(crestline: Command) -> None:
    """The same job in pyfirecrest's own calls and by `crestline run`, against the same gateway."""
    (site,) = tomllib.loads(crestline.sites_file.read_text())["sites"].values()
    environment = crestline.environment | {
        "FIRECREST_URL": site["url"],
        "AUTH_TOKEN_URL": site["token_url"],
        "FIRECREST_SYSTEM": site.get("system", "local"),
        "FIRECREST_CLIENT_ID": site["client_id"],
        "FIRECREST_CLIENT_SECRET": site["client_secret"],
        "PATH": f"{CRESTLINE.parent}:{os.environ['PATH']}",
    }
    for command in ([sys.executable, str(EXAMPLES / "ci_script.py")], [str(EXAMPLES / "ci_script.sh")]):
        done = subprocess.run(
            [*command, str(EXAMPLES / "job.sbatch")], env=environment, capture_output=True, timeout=TIMEOUT, check=False
        )
        assert done.returncode == 0, done.stderr
        assert b"tested on " in done.stdout


def test_the_composite_action(crestline: Command, tmp_path: Path) -> None:
    """Its one step, as GitHub would run it, in a checkout with a file name that a shell would trip over."""
    (tmp_path / "ci dir").mkdir()
    script = tmp_path / "ci dir" / "t.sbatch"
    script.write_text(f"#!/bin/bash\nls; echo '{REPORT}' > r.xml\n")
    shutil.copy(EXAMPLES / "job.sbatch", tmp_path / "a file; touch never")
    inputs = {
        **{"SCRIPT": str(script), "UPLOAD": ".", "COLLECT": "", "JUNIT": "*.xml", "OUTPUT_DIR": "results"},
        **{"NODES": "1", "TIME": "00:05:00", "ACCOUNT": "", "PARTITION": "", "KEY": "1-1-hpc"},
        "GITHUB_OUTPUT": str(tmp_path / "outputs"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "PATH": f"{CRESTLINE.parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        [str(EXAMPLES / "github" / "run.sh")],
        env=crestline.environment | inputs,
        cwd=tmp_path,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"a file; touch never" in done.stdout
    assert "| Tests | 6, 2 failed, 2 skipped |" in (tmp_path / "summary").read_text()
