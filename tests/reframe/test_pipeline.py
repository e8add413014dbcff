"""The whole of ReFrame's pipeline against the three backends."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.parts import require
from harness.reframe_suite import Suite
from harness.waiting import until_blocking

CHECKS = Path(__file__).parent / "checks"
EXAMPLES = Path(__file__).parents[2] / "examples" / "reframe" / "checks"


def test_what_test_authors_do(suite: Suite) -> None:
    done = suite.run("-c", CHECKS / "pipeline.py", "-r")
    assert done.results == {
        "Sum": "pass",
        "Data ~remote": "pass",
        "LocalData ~remote": "pass",
        "Writes": "pass",
        "Reads": "pass",
        "Array": "pass",
        "Contained": "pass",
        "Fails": "fail",
    }, done.output
    assert done.exit_status == 1
    assert "yes" in done.cases["Fails"]["fail_reason"]
    kept = suite.place / "output" / "remote" / "normal" / "builtin" / "Writes"
    assert (kept / "results" / "deep" / "answer.txt").read_text() == "42\n"
    assert (kept / "run.log").read_text() == "log\n"
    assert (kept / "rfm_job.out").exists()
    assert done.jobs()["Writes"]["job_id"].isdigit()


@pytest.fixture
def with_mpi(suite: Suite, request: pytest.FixtureRequest) -> Suite:
    if "slurm" not in request.node.callspec.id:  # the cluster's image has both
        require(bool(shutil.which("gcc")), "there is no `gcc`: install Debian's `gcc` and `libc6-dev`")
        compiled = shutil.which("mpicc") and _compiles("#include <mpi.h>\n")
        require(bool(compiled), "mpicc does not work (libopenmpi-dev, openmpi-bin)")
    suite.partition["launcher"] = "mpirun"
    suite.partition["env_vars"] = [[f"OMPI_ALLOW_RUN_AS_ROOT{end}", "1"] for end in ("", "_CONFIRM")]
    if "plain" in request.node.callspec.id:  # the stand-in sets Slurm's variables and has no Slurm for mpirun to ask
        suite.partition["env_vars"] += [[f"OMPI_MCA_{part}", "^slurm"] for part in ("ras", "plm", "ess")]
    return suite


def _compiles(text: str) -> bool:
    command = ["mpicc", "-x", "c", "-fsyntax-only", "-"]
    return subprocess.run(command, input=text, text=True, capture_output=True, check=False).returncode == 0


def test_the_examples_are_compiled_and_run(with_mpi: Suite) -> None:
    done = with_mpi.run("-c", EXAMPLES, "-r", "--performance-report")
    assert set(done.results.values()) == {"pass"}, done.output
    assert {name.split(" ")[0] for name in done.results} == {"HelloWorld", "Stream", "StreamBuild", "PingPong"}
    values = done.cases["PingPong"]["perfvalues"]
    assert values["remote:normal:bandwidth"][0] > 0
    assert done.cases["Stream %thousands=100"]["perfvalues"]["remote:normal:copy"][1] == 1000


def test_a_restored_session_runs_only_what_it_is_asked_for(on_local: Suite) -> None:
    """What the first session made on the system is gone; its stage directory here goes there again."""
    check = CHECKS / "pipeline.py"
    done = on_local.run("-c", check, "-n", "Writes", "-n", "Reads", "--keep-stage-files", "-r")
    assert done.results == {"Writes": "pass", "Reads": "pass"}, done.output
    session = on_local.place / "first.json"
    (on_local.place / "report.json").rename(session)
    done = on_local.run("-n", "Reads", f"--restore-session={session}", "-r")
    assert done.exit_status == 0, done.output
    assert "Ran 1/1" in done.output
    assert done.jobs().keys() == {"Reads"}


def test_a_restored_session_finds_what_an_earlier_one_built_on_the_system(on_local: Suite) -> None:
    """As the jobs do that `--ci-generate` writes: each is a process of its own."""
    check, base = CHECKS / "built.py", on_local.place / "base"
    on_local.firecrest["basedir"] = str(base)
    done = on_local.run("-c", check, "-n", "Built", "--keep-stage-files", "-r")
    assert done.results == {"Built": "pass"}, done.output
    session = on_local.place / "first.json"
    (on_local.place / "report.json").rename(session)
    shutil.rmtree(base)
    done = on_local.run("-n", "Uses", f"--restore-session={session}", "-r")
    assert done.results == {"Uses": "pass"}, done.output


def test_links_of_jobs_and_of_their_inputs(on_local: Suite, tmp_path: Path) -> None:
    """The tests pass as with ReFrame's own backends; of what leads elsewhere the run tells."""
    system = tmp_path / "system"  # this machine does not have it when the link is looked at, and the system has
    on_local.variables["RFM_TEST_ON_SYSTEM"] = str(system)
    process = on_local.start("-c", CHECKS / "links.py", "--keep-stage-files", "-r")
    on_local.waited_for(".crestline-reframe/*.jsonl")
    until_blocking(lambda: any("Reads" in each.read_text() for each in _journals(on_local)))
    system.mkdir()
    (system / "name").write_text("there\n")
    done = on_local.finish(process)
    assert done.results == {"Makes": "pass", "Reads": "pass"}, done.output
    for name in ("out to /etc/passwd", "cwd to /proc/self/cwd"):
        assert done.output.count(f"left out: the link {name}") == 1, done.output
    assert not list(on_local.place.glob("stage/*/*/*/Makes/out"))


def _journals(suite: Suite) -> Iterator[Path]:
    return suite.place.glob(".crestline-reframe/*.jsonl")
