"""The same client without `await`, and from several threads."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import crestline
from crestline.client import BlockingSystem, System
from crestline.model import (
    ConfigError,
    FileMissingError,
    GatewayUnavailableError,
    InvalidRequestError,
    JobSpec,
    JobState,
    SystemNotFoundError,
)
from crestline.testing.firecrest import PlainFirecrest, running
from harness.sites import BRISK, plain_site

QUICK = "#!/bin/bash\necho done\n"


@pytest.fixture(scope="module")
def plain() -> Iterator[PlainFirecrest]:
    with running(cpus_per_node=16) as plain:
        yield plain


@pytest.fixture
def lab(plain: PlainFirecrest) -> Iterator[BlockingSystem]:
    with crestline.connect_blocking(plain_site(plain), policy=BRISK) as lab:
        yield lab


def test_a_job(lab: BlockingSystem, plain: PlainFirecrest) -> None:
    job = lab.submit(JobSpec(script="#!/bin/bash\nsleep 0.3; echo one; echo two\n"), key="blocking")
    states = [event.state for event in lab.watch(job)]
    assert states[0] is JobState.SUBMITTED
    assert states[-1] is JobState.COMPLETED
    assert lab.wait(job, check=True).exit_code == 0
    assert lab.job(job.job_id).state is JobState.COMPLETED
    assert [each.job_id for each in lab.jobs(ids=[job.job_id])] == [job.job_id]
    log = lab.follow(lab.metadata(job))
    assert "".join(log) == "one\ntwo\n"
    lab.cancel(job)


def test_relative_paths_are_below_the_users_directory(lab: BlockingSystem) -> None:
    home = lab.default_workdir()
    assert [lab.resolve_path(path) for path in ("/a/b", "a/b", "a b")] == ["/a/b", f"{home}/a/b", f"{home}/a b"]


def test_files(lab: BlockingSystem, plain: PlainFirecrest, tmp_path: Path) -> None:
    home = lab.default_workdir()
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/a").write_text("a")
    lab.upload(tmp_path / "tree", f"{home}/tree")
    assert [entry.name for entry in lab.ls(f"{home}/tree")] == ["sub"]
    assert lab.stat(f"{home}/tree/sub/a")["size"] == 1
    lab.download(f"{home}/tree", tmp_path / "back")
    assert (tmp_path / "back/sub/a").read_text() == "a"
    lab.write_text(f"{home}/text", "grüezi\n")
    assert lab.read_text(f"{home}/text") == "grüezi\n"
    lab.write_bytes(f"{home}/bytes", bytes(range(256)))
    assert lab.read_bytes(f"{home}/bytes") == bytes(range(256))
    lab.mkdir(f"{home}/new/dir", parents=True)
    lab.chmod(f"{home}/text", "600")
    lab.symlink(f"{home}/text", f"{home}/link")
    assert lab.checksum(f"{home}/link") == lab.checksum(f"{home}/text")
    lab.copy(f"{home}/text", f"{home}/text2")
    lab.move(f"{home}/text2", f"{home}/text3")
    lab.remove(f"{home}/tree")
    with pytest.raises(FileMissingError):
        lab.read_text(f"{home}/tree")


def test_a_large_file_as_bytes(lab: BlockingSystem, plain: PlainFirecrest) -> None:
    content = bytes(6 * 1024 * 1024)
    (plain.home / "large").write_bytes(content)
    assert lab.read_bytes(f"{plain.home}/large") == content


def test_every_method_is_there() -> None:
    """Each method of `System` has its blocking form."""
    for name, member in inspect.getmembers(System):
        if not name.startswith("_") and name not in ("backend", "connection", "monitor"):
            assert hasattr(BlockingSystem, name), name
            if inspect.isfunction(member):
                assert inspect.getdoc(getattr(BlockingSystem, name))
    assert inspect.signature(BlockingSystem.wait).parameters.keys() == inspect.signature(System.wait).parameters.keys()


def test_many_threads_share_one_connection(lab: BlockingSystem, plain: PlainFirecrest) -> None:
    plain.requests.clear()

    def run(number: int) -> JobState:
        with crestline.connect_blocking(plain_site(plain), policy=BRISK) as mine:
            return mine.wait(mine.submit(JobSpec(script=QUICK), key=f"thread/{number}")).state

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(run, range(16))) == {JobState.COMPLETED}
    assert plain.count("GET", "/systems") == 0
    assert plain.count("POST", "/token") == 0


def test_stopping_early(lab: BlockingSystem, plain: PlainFirecrest) -> None:
    job = lab.submit(JobSpec(script="#!/bin/bash\nsleep 60\n"))
    events = lab.watch(job)
    assert next(events).state is JobState.SUBMITTED
    events.close()
    assert list(events) == []
    lab.cancel(job)


def test_errors_come_through(plain: PlainFirecrest) -> None:
    with (
        pytest.raises(SystemNotFoundError),
        crestline.connect_blocking(plain_site(plain), system="daint", policy=BRISK),
    ):
        pass
    with pytest.raises(ConfigError):
        crestline.connect_blocking("nowhere")
    with (
        pytest.raises(GatewayUnavailableError),
        crestline.connect_blocking(plain_site(plain, url="http://127.0.0.1:9"), policy=BRISK),
    ):
        pass
    lab = crestline.connect_blocking(plain_site(plain), policy=BRISK)
    with pytest.raises(RuntimeError):
        lab.jobs()
    lab.open()
    lab.jobs()
    with pytest.raises(InvalidRequestError):
        lab.submit(JobSpec(script="no interpreter"))
    lab.close()
    lab.close()
    assert not [thread for thread in threading.enumerate() if "portal" in thread.name.casefold()]


def test_a_forked_child_connects_anew(lab: BlockingSystem, plain: PlainFirecrest) -> None:
    lab.jobs()
    child = os.fork()
    if child == 0:
        with crestline.connect_blocking(plain_site(plain), policy=BRISK) as mine:
            os._exit(0 if mine.ls(str(plain.home)) is not None else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    lab.jobs()


def test_ctrl_c(plain: PlainFirecrest) -> None:
    """A process that waits ends at once when it is interrupted."""
    script = (
        "import sys, crestline\n"
        "from crestline.model import JobSpec\n"
        "with crestline.connect_blocking() as lab:\n"
        "    job = lab.submit(JobSpec(script='#!/bin/sh\\nsleep 60\\n'))\n"
        "    print('waiting', flush=True)\n"
        "    lab.wait(job)\n"
    )
    variables = {
        "FIRECREST_URL": plain.url,
        "FIRECREST_SYSTEM": plain.system,
        "FIRECREST_TOKEN": plain.token(),
        "PATH": "/usr/bin:/bin",
    }
    with subprocess.Popen(
        [sys.executable, "-c", script], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in errors
    assert "never retrieved" not in errors
